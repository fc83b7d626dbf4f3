//! An open connection to a monitor, in whichever of its two languages it speaks.

use super::{TalkError, client::Client, human::Human, wire::Wire};

#[derive(Debug)]
pub(super) enum Session {
    Qmp(Client),
    Human(Human),
}

impl Session {
    /// Waits for the first words, which tell the language. Nothing is said before: where another client is served, none
    /// come.
    pub(super) fn new(mut wire: Wire) -> Result<Self, TalkError> {
        loop {
            match wire.unread.trim_ascii_start().first() {
                Some(b'{') => return Client::new(wire).map(Self::Qmp),
                Some(_) => return Human::new(wire).map(Self::Human),
                None => wire.read()?,
            }
        }
    }

    /// What a command of the human monitor prints.
    pub(super) fn run(&mut self, command: &str) -> Result<String, TalkError> {
        match self {
            Self::Qmp(client) => client.human(command),
            Self::Human(human) => human.run(command),
        }
    }

    /// The guest's name, if it was given one.
    pub(super) fn name(&mut self) -> Result<Option<String>, TalkError> {
        let name = match self {
            Self::Qmp(client) => client.name()?.unwrap_or_default(),
            Self::Human(human) => human.run("info name")?.trim().to_owned(),
        };
        Ok(Some(name).filter(|name| !name.is_empty()))
    }

    /// The guest's UUID, if it was given one.
    pub(super) fn uuid(&mut self) -> Result<Option<String>, TalkError> {
        let uuid = match self {
            Self::Qmp(client) => client.uuid()?,
            Self::Human(human) => human.run("info uuid")?.trim().to_owned(),
        };
        // QEMU without -uuid says zeros.
        Ok(Some(uuid).filter(|uuid| uuid.contains(|c| c != '0' && c != '-')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        os::unix::net::UnixStream,
        thread,
        time::{Duration, Instant},
    };

    const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}"#;
    const EVENT: &str =
        r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME", "data": {"return": 1}}"#;
    const WELCOME: &str = "QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ";

    fn wire(stream: UnixStream, limit: Duration) -> Wire {
        Wire::new(stream, Instant::now() + limit, limit)
    }

    /// A server that says `first`, then `answers[n]` to the n-th line, then closes.
    fn served<T>(
        first: &str,
        answers: &[&str],
        talk: impl FnOnce(Result<Session, TalkError>) -> Result<T, TalkError>,
    ) -> Result<T, TalkError> {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        thread::scope(|scope| {
            scope.spawn(move || {
                theirs.write_all(first.as_bytes()).expect("room");
                let mut lines = BufReader::new(theirs.try_clone().expect("a twin")).lines();
                for answer in answers {
                    if lines.next().is_none_or(|line| line.is_err())
                        || theirs.write_all(answer.as_bytes()).is_err()
                    {
                        break;
                    }
                }
            });
            talk(Session::new(wire(ours, Duration::from_secs(10))))
        })
    }

    fn ask(session: Result<Session, TalkError>) -> Result<String, TalkError> {
        session?.run("info mtree -f")
    }

    #[test]
    fn events_come_at_any_time() {
        let negotiated = format!("{EVENT}\r\n{{\"return\": {{}}, \"id\": 1}}\r\n{EVENT}\r\n");
        let answer = format!("{EVENT}\r\n{{\"return\": \"a\\r\\nb\", \"id\": 2}}\r\n");
        let first = format!("{EVENT}\r\n{GREETING}\r\n");
        assert_eq!(served(&first, &[&negotiated, &answer], ask).expect("an answer"), "a\r\nb");
    }

    #[test]
    fn an_answer_on_several_lines_and_the_answer_to_something_else() {
        let answer = "{\n  \"return\": \"old\",\n  \"id\": 1\n}\n{\n  \"return\": \"new\",\n  \"id\": 2\n}\n";
        let found = served(GREETING, &["{\"return\": {}, \"id\": 1}", answer], ask);
        assert_eq!(found.expect("an answer"), "new");
    }

    #[test]
    fn qemu_s_own_words_tell_what_it_refuses() {
        let refusal = r#"{"error": {"class": "CommandNotFound", "desc": "no such command"}, "id": 2}"#;
        let error = served(GREETING, &["{\"return\": {}, \"id\": 1}", refusal], ask).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "QEMU refuses human-monitor-command: no such command; use a QEMU that knows it"
        );
    }

    #[test]
    fn the_human_monitor_s_echo_is_no_answer() {
        let echo = "i\u{1b}[K\u{1b}[Din\u{1b}[K\u{1b}[D\u{1b}[Dinfo\u{1b}[K\r\n";
        let found = served(WELCOME, &[&format!("{echo}FlatView #0\r\n\r\n(qemu) ")], ask);
        assert_eq!(found.expect("an answer"), "FlatView #0\r\n\r\n");
        let found = served(WELCOME, &[&format!("{echo}(qemu) ")], |session| session?.name());
        assert_eq!(found.expect("an answer"), None);
    }

    #[test]
    fn other_services_are_no_monitors() {
        for first in ["SSH-2.0-x\r\n", "QEMX", "(qemu) ", "[1]", "{}x", "{\"a\": tru}"] {
            let error = served(first, &[], ask).expect_err(first);
            assert!(matches!(error, TalkError::NotQemu), "{first}: {error:?}");
        }
    }

    #[test]
    fn a_server_that_leaves_is_closed() {
        for (first, answers) in
            [("", &[][..]), ("{\"QM", &[]), (GREETING, &[]), ("QEM", &[]), (WELCOME, &["i"])]
        {
            let error = served(first, answers, ask).expect_err(first);
            assert!(matches!(error, TalkError::Closed), "{first}: {error:?}");
        }
    }

    #[test]
    fn the_limit_holds_however_slowly_a_server_speaks() {
        let limit = Duration::from_millis(100);
        for (each, what) in [("", "silence"), (" ", "blanks"), (EVENT, "events"), ("{\"a\":", "one object")] {
            let (ours, mut theirs) = UnixStream::pair().expect("a pair");
            let began = Instant::now();
            let error = thread::scope(|scope| {
                scope.spawn(move || {
                    while theirs.write_all(each.as_bytes()).is_ok() && began.elapsed() < 3 * limit {
                        thread::sleep(Duration::from_millis(1));
                    }
                });
                ask(Session::new(wire(ours, limit))).expect_err(what)
            });
            assert!(matches!(error, TalkError::TimedOut { .. }), "{what}: {error:?}");
            assert!(began.elapsed() >= limit, "{what}");
        }
        assert_eq!(
            TalkError::TimedOut { limit: Duration::from_secs(1) }.to_string(),
            "no answer within 1s; QEMU is stopped or busy, try again"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let error = thread::scope(|scope| {
            scope.spawn(move || {
                let mut written = theirs.write_all(b"{\"return\": \"");
                while written.is_ok() {
                    written = theirs.write_all(&[b'x'; 1 << 16]);
                }
            });
            ask(Session::new(wire(ours, Duration::from_secs(60)))).expect_err("too long")
        });
        assert!(matches!(error, TalkError::TooLong { .. }), "{error:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            bytes in any::<Vec<u8>>(), start in 0_usize..4, text in r#"[{}\[\]":,\\a-zQMP0-9\n ]{0,80}"#
        ) {
            let starts = ["", GREETING, "QEMU ", WELCOME];
            let (ours, mut theirs) = UnixStream::pair().expect("a pair");
            theirs.write_all(starts[start].as_bytes()).expect("room");
            theirs.write_all(text.as_bytes()).expect("room");
            theirs.write_all(&bytes).expect("room");
            theirs.shutdown(std::net::Shutdown::Write).expect("shut down");
            let _ = ask(Session::new(wire(ours, Duration::from_secs(10))));
        }
    }
}
