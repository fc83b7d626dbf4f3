//! Bytes to and from a monitor, within a limit of time and one of memory.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use super::TalkError;

/// Most that is kept of what QEMU says at a time, bytes. The map of a guest with a few hundred devices takes a tenth
/// of a megabyte.
pub(super) const MOST: usize = 16 << 20;

/// A connection. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    end: Instant,
    limit: Duration,
    /// What was read and not yet taken.
    pub(super) unread: Vec<u8>,
}

impl Wire {
    /// Uses `stream`, which blocks, until `end`; `limit` is what that was at first.
    pub(super) fn new(stream: UnixStream, end: Instant, limit: Duration) -> Self {
        Self { stream, end, limit, unread: Vec::new() }
    }

    /// Sends all of it.
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> Result<(), TalkError> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match self.stream.write(bytes) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) => self.again(error)?,
            }
        }
        Ok(())
    }

    /// Waits for more and adds it to `unread`.
    pub(super) fn read(&mut self) -> Result<(), TalkError> {
        if self.unread.len() >= MOST {
            return Err(TalkError::TooLong { most: MOST });
        }
        let mut chunk = [0; 16 << 10];
        loop {
            self.stream.set_read_timeout(Some(self.left()?))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(TalkError::Closed),
                Ok(length) => {
                    self.unread.extend_from_slice(chunk.get(..length).unwrap_or_default());
                    return Ok(());
                }
                Err(error) => self.again(error)?,
            }
        }
    }

    /// Time left; more than none.
    fn left(&self) -> Result<Duration, TalkError> {
        match self.end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(TalkError::TimedOut { limit: self.limit }),
            left => Ok(left),
        }
    }

    /// Whether to try again after `error`; the time left tells how long.
    fn again(&self, error: io::Error) -> Result<(), TalkError> {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(TalkError::Closed),
            _ => Err(error.into()),
        }
    }
}
