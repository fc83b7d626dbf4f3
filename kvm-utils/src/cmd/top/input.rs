//! Reads keys in a thread of its own, which ends with what it was made for.

use std::{
    io::{self, PipeReader, PipeWriter},
    os::fd::OwnedFd,
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::view::tui::{Decoder, Key};

/// A key's bytes come together; if nothing follows an ESC for so long it was the key. Slow lines need more than a few
/// milliseconds, and fingers notice more than a hundred.
const ESCAPE: Duration = Duration::from_millis(50);

/// What came from the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key.
    Key(Key),
    /// The terminal is gone.
    Lost,
}

/// Keys from a terminal.
pub struct Input {
    events: UnboundedReceiver<Event>,
    /// Closing it ends the thread.
    _end: PipeWriter,
}

impl Input {
    /// Reads from `tty` from now on.
    ///
    /// # Errors
    ///
    /// When there is no pipe or thread to be had.
    pub fn start(tty: Arc<OwnedFd>) -> io::Result<Self> {
        let (ended, end) = io::pipe()?;
        let (sender, events) = unbounded_channel();
        thread::Builder::new().name("keys".to_owned()).spawn(move || read_keys(&tty, &ended, &sender))?;
        Ok(Self { events, _end: end })
    }

    /// Waits for the next.
    pub async fn next(&mut self) -> Event {
        self.events.recv().await.unwrap_or(Event::Lost)
    }

    /// The next, if there is one already.
    pub fn ready(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

fn read_keys(tty: &OwnedFd, ended: &PipeReader, events: &UnboundedSender<Event>) {
    let mut decoder = Decoder::default();
    let mut bytes = [0; 256];
    let escape = Timespec { tv_sec: 0, tv_nsec: ESCAPE.as_nanos() as i64 };
    loop {
        let mut fds = [PollFd::new(tty, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        let polled = poll(&mut fds, decoder.is_waiting().then_some(&escape));
        let [of_tty, of_end] = fds.map(|fd| fd.revents());
        let keys = match polled {
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(_) => break,
            Ok(_) if !of_end.is_empty() => return,
            Ok(0) => decoder.flush().into_iter().collect(),
            Ok(_) if of_tty.is_empty() => continue,
            Ok(_) => match read(tty, &mut bytes) {
                Err(Errno::INTR | Errno::AGAIN) => continue,
                // Hung up: asking again would only spin.
                Ok(0) | Err(_) => break,
                Ok(length) => decoder.feed(&bytes[..length]),
            },
        };
        for key in keys {
            if events.send(Event::Key(key)).is_err() {
                return;
            }
        }
    }
    // Nobody may be left to be told.
    let _ = events.send(Event::Lost);
}
