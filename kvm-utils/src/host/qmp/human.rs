//! A client of QEMU's human monitor: a prompt that is meant for terminals (monitor/hmp.c, util/readline.c of QEMU).
//!
//! It says a line of welcome and the prompt. What is typed comes back with control sequences around each character,
//! as one line; then comes what the command prints, then the prompt again.

use super::{TalkError, wire::Wire};

/// What the line of welcome begins with (monitor_event, monitor/hmp.c).
const WELCOME: &[u8] = b"QEMU ";
/// The prompt, at the beginning of a line (monitor_read_command, monitor/hmp.c).
const PROMPT: &[u8] = b"\n(qemu) ";

/// A session in which commands may be given.
#[derive(Debug)]
pub(super) struct Human {
    wire: Wire,
}

impl Human {
    /// Waits for the first prompt.
    pub(super) fn new(wire: Wire) -> Result<Self, TalkError> {
        let mut human = Self { wire };
        while !human.wire.unread.starts_with(WELCOME) || !human.wire.unread.ends_with(PROMPT) {
            let said = &human.wire.unread;
            let begins = said.len().min(WELCOME.len());
            if said.get(..begins) != WELCOME.get(..begins) {
                return Err(TalkError::NotQemu);
            }
            human.wire.read()?;
        }
        human.wire.unread.clear();
        Ok(human)
    }

    /// What `command`, one line without its end, prints.
    pub(super) fn run(&mut self, command: &str) -> Result<String, TalkError> {
        self.wire.send(format!("{command}\n").as_bytes())?;
        // The echo holds no line end but its own: no prompt can be seen before the command has run.
        while !self.wire.unread.ends_with(PROMPT) {
            self.wire.read()?;
        }
        let said = String::from_utf8_lossy(&self.wire.unread).into_owned();
        self.wire.unread.clear();
        let printed = said.split_once('\n').map_or("", |(_echo, printed)| printed);
        Ok(printed.strip_suffix("(qemu) ").unwrap_or(printed).to_owned())
    }
}
