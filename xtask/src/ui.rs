//! What the tasks say while they work: on stderr, so that a pipe gets only the guest's or the report's own lines.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

/// Says what is being done. Failing to say it is no reason to fail: stderr may be closed.
pub(crate) fn step(what: impl Display) {
    say(format_args!("xtask: {what}"));
}

/// Says something the reader should know although the work goes on.
pub(crate) fn warn(what: impl Display) {
    say(format_args!("xtask: warning: {what}"));
}

/// Prints an error with its causes, outermost first.
pub(crate) fn error(error: &anyhow::Error) {
    say(format_args!("xtask: error: {error:#}"));
}

fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A duration as a person reads it: `4.2 s`, `3 min 05 s`.
pub(crate) fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_naturally() {
        assert_eq!(elapsed(Duration::from_millis(4230)), "4.2 s");
        assert_eq!(elapsed(Duration::from_secs(185)), "3 min 05 s");
    }
}
