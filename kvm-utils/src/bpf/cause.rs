//! What went wrong below, in one line.
//!
//! aya says what it tried and keeps what the kernel answered to itself, or the other way round, and a verifier's log of
//! hundreds of lines may come with it.

use std::error::Error;

use aya::programs::ProgramError;

use crate::error::debugging;

/// What to do about perf events that are refused: kernels of Debian and Ubuntu want more than CAP_PERFMON of those who use
/// them, unless this setting says otherwise (`security,perf: Allow further restriction of perf_event_open`).
pub(super) const PERF_REFUSED: &str =
    "run as root, or with CAP_SYS_ADMIN, or: sysctl kernel.perf_event_paranoid=2";

/// The chain of causes from `error` down to what the kernel answered, each said once. The verifier's log is left out
/// unless [`debugging`].
#[must_use]
pub fn cause(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut log = None;
    let mut next = Some(error);
    while let Some(error) = next {
        let said = match error.downcast_ref::<ProgramError>() {
            Some(ProgramError::LoadError { io_error, verifier_log }) => {
                log = Some(verifier_log.to_string()).filter(|log| !log.trim().is_empty());
                io_error.to_string()
            }
            _ => error.to_string(),
        };
        // Many repeat their source.
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        next = error.source();
    }
    match log {
        Some(log) if debugging() => format!("{text}\n{}\n", log.trim_end()),
        Some(_) => format!("{text} (KVM_UTILS_DEBUG=1 shows the verifier's log)"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::{EbpfError, maps::MapError};
    use std::io;

    #[test]
    fn the_kernels_answer_is_told_once() {
        let refused = || io::Error::from_raw_os_error(libc::EPERM);
        let map =
            EbpfError::MapError(MapError::CreateError { name: "VCPUS".to_owned(), io_error: refused() });
        assert_eq!(
            cause(&map),
            "map error: failed to create map `VCPUS`: Operation not permitted (os error 1)"
        );
        assert_eq!(cause(&ProgramError::IOError(refused())), "Operation not permitted (os error 1)");
    }

    #[test]
    fn a_verifiers_log_stays_out() {
        let log = |text: &str| ProgramError::LoadError {
            io_error: io::Error::from_raw_os_error(libc::EACCES),
            verifier_log: aya_obj::VerifierLog::new(text.to_owned()),
        };
        assert_eq!(
            cause(&log("0: (b7) r0 = 0\nR1 invalid mem access")),
            "Permission denied (os error 13) (KVM_UTILS_DEBUG=1 shows the verifier's log)"
        );
        assert_eq!(cause(&log("")), "Permission denied (os error 13)");
    }
}
