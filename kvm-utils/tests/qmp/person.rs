//! Somebody else at a monitor.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use crate::machine::wait_for_input;

/// A client of its own.
pub struct Person(UnixStream);

impl Person {
    /// Connects, and says nothing yet.
    pub fn connect(path: &Path) -> Self {
        Self(UnixStream::connect(path).expect("connected"))
    }

    /// Connects and waits until QEMU has spoken.
    pub fn served(path: &Path) -> Self {
        let mut person = Self::connect(path);
        person.hear("\n");
        person
    }

    /// Reads until this text has come.
    pub fn hear(&mut self, text: &str) {
        let mut heard = String::new();
        let mut chunk = [0; 4096];
        while !heard.contains(text) {
            wait_for_input(&self.0);
            let length = self.0.read(&mut chunk).expect("readable");
            assert_ne!(length, 0, "closed after {heard:?}");
            heard.push_str(&String::from_utf8_lossy(&chunk[..length]));
        }
    }

    /// Says it and waits for this text.
    pub fn ask(&mut self, line: &str, answer: &str) {
        self.0.write_all(line.as_bytes()).expect("writable");
        self.0.write_all(b"\n").expect("writable");
        self.hear(answer);
    }

    /// Does with a QMP monitor what everybody does first.
    pub fn use_qmp(&mut self) {
        self.ask("{\"execute\": \"qmp_capabilities\"}", "\"return\"");
        self.ask("{\"execute\": \"query-status\"}", "prelaunch");
    }
}
