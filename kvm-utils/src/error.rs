//! Which exit code an error means, and how it reaches a person.

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// 1: a check that was asked for failed (selftest, `--strict`).
pub const CHECK_FAILED: u8 = 1;
/// 2: what was typed cannot be done as typed.
pub const USAGE: u8 = 2;
/// 3: this host cannot do it: privileges, no KVM, no tracefs.
pub const HOST: u8 = 3;

/// 3, of `compare`: what was recorded is not of the same machine and guests, or has nothing in common.
pub const NOT_COMPARABLE: u8 = 3;

/// An error together with its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Process exit code.
    pub code: u8,
    /// Cause and remedy.
    pub message: String,
}

/// What a person reads: a sentence, or an error's.
pub struct Message(String);

impl<T: Display> From<T> for Message {
    fn from(text: T) -> Self {
        Self(text.to_string())
    }
}

impl Failure {
    /// What was typed cannot be done.
    pub fn usage(message: impl Into<Message>) -> Self {
        Self { code: USAGE, message: message.into().0 }
    }

    /// This host cannot do it.
    pub fn host(message: impl Into<Message>) -> Self {
        Self { code: HOST, message: message.into().0 }
    }

    /// A check failed.
    pub fn check(message: impl Into<Message>) -> Self {
        Self { code: CHECK_FAILED, message: message.into().0 }
    }
}

/// Messages that wait for the screen to be free; `None` = it is.
static HELD: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Writes a line to standard error, if anybody listens there: that nobody does is no reason to end.
pub fn say(text: impl Display) {
    if let Some(held) = &mut *waiting() {
        held.push(text.to_string());
        return;
    }
    let _ = writeln!(io::stderr(), "kvm-utils: {text}");
}

/// Messages wait from now on: something is drawn that they would spoil.
pub fn hold() {
    waiting().get_or_insert_default();
}

/// The messages that wait; they go on waiting.
#[must_use]
pub fn held() -> Vec<String> {
    waiting().clone().unwrap_or_default()
}

/// The messages that waited are written, and those to come at once.
pub fn release() {
    let held = waiting().take();
    held.unwrap_or_default().into_iter().for_each(say);
}

fn waiting() -> MutexGuard<'static, Option<Vec<String>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether messages shall have everything in them that a developer may want to see (`KVM_UTILS_DEBUG=1`).
#[must_use]
pub fn debugging() -> bool {
    std::env::var_os("KVM_UTILS_DEBUG").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Whether an error is a closed pipe, which is no error: the reader has seen enough.
#[must_use]
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// The exit code for an error that reached the edge.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    ExitCode::from(error.downcast_ref::<Failure>().map_or(HOST, |failure| failure.code))
}
