//! A client of the QEMU Machine Protocol (docs/interop/qmp-spec.rst of QEMU).
//!
//! The server greets, the client says `qmp_capabilities`, from then on each command gets one answer; events come in
//! between at any time.

use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::json;

use super::{
    TalkError,
    json_frame::{Framer, NotJson},
    wire::Wire,
};

/// A session in which commands may be given.
#[derive(Debug)]
pub(super) struct Client {
    wire: Wire,
    framer: Framer,
    /// Number of the last command.
    last: u64,
}

/// Anything that a server says; an event has none of these. `T` is what a command returns.
#[derive(Deserialize)]
struct Message<T> {
    #[serde(rename = "QMP")]
    greeting: Option<IgnoredAny>,
    id: Option<u64>,
    #[serde(rename = "return")]
    returned: Option<T>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

#[derive(Deserialize)]
struct Name {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Uuid {
    #[serde(rename = "UUID")]
    uuid: String,
}

impl Client {
    /// Waits for the greeting and negotiates: no capability is wanted.
    pub(super) fn new(wire: Wire) -> Result<Self, TalkError> {
        let mut client = Self { wire, framer: Framer::default(), last: 0 };
        while client.next::<IgnoredAny>()?.greeting.is_none() {}
        client.run::<IgnoredAny>("qmp_capabilities", &json!({}))?;
        Ok(client)
    }

    /// What the human monitor would print.
    pub(super) fn human(&mut self, command: &str) -> Result<String, TalkError> {
        self.run("human-monitor-command", &json!({ "command-line": command }))
    }

    /// The guest's name, if it was given one.
    pub(super) fn name(&mut self) -> Result<Option<String>, TalkError> {
        Ok(self.run::<Name>("query-name", &json!({}))?.name)
    }

    /// The guest's UUID.
    pub(super) fn uuid(&mut self) -> Result<String, TalkError> {
        Ok(self.run::<Uuid>("query-uuid", &json!({}))?.uuid)
    }

    fn run<T: DeserializeOwned>(
        &mut self,
        command: &'static str,
        arguments: &serde_json::Value,
    ) -> Result<T, TalkError> {
        self.last += 1;
        let mut line = json!({ "execute": command, "arguments": arguments, "id": self.last }).to_string();
        line.push('\n');
        self.wire.send(line.as_bytes())?;
        loop {
            let message = self.next::<T>()?;
            // What the server could not even read has no id.
            let is_ours = message.id.is_none_or(|id| id == self.last);
            match message {
                Message { error: Some(refusal), .. } if is_ours => {
                    return Err(TalkError::Refused { command, reason: refusal.desc });
                }
                Message { returned: Some(returned), id: Some(_), .. } if is_ours => return Ok(returned),
                // An event.
                _ => {}
            }
        }
    }

    /// The next thing that the server says.
    fn next<T: DeserializeOwned>(&mut self) -> Result<Message<T>, TalkError> {
        loop {
            if let Some(length) =
                self.framer.first(&self.wire.unread).map_err(|NotJson| TalkError::NotQemu)?
            {
                let frame = self.wire.unread.drain(..length).collect::<Vec<u8>>();
                return serde_json::from_slice(&frame).map_err(|_| TalkError::NotQemu);
            }
            self.wire.read()?;
        }
    }
}
