//! The command as the guest gets it, and the verdict as the guest gives it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Request;

/// A shell script that runs the request's command in `root` with its environment. A script and not the
/// kernel command line: spaces, quotes and any length survive.
pub(crate) fn command(request: &Request, root: &Path) -> Vec<u8> {
    let mut script = b"cd ".to_vec();
    script.extend(quote(root.as_os_str()));
    script.extend(b" 2>/dev/null || cd /\n");
    for (name, value) in &request.env {
        script.extend(b"export ");
        script.extend(name.as_bytes());
        script.push(b'=');
        script.extend(quote(value.as_ref()));
        script.push(b'\n');
    }
    if request.command.is_empty() {
        script.extend(b"exec /bin/bash -i");
    } else {
        script.extend(b"exec");
        for word in &request.command {
            script.push(b' ');
            script.extend(quote(word));
        }
    }
    script.push(b'\n');
    script
}

/// Quotes a word for a POSIX shell.
pub(crate) fn quote(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// What the guest's init said of the command on the console: `LAB-EXIT=status`, or `LAB-FAIL=why` when it
/// could not even start it. None when it said nothing.
pub(crate) fn verdict(console: &[u8]) -> Option<Result<i32, String>> {
    let text = String::from_utf8_lossy(console);
    text.lines().rev().find_map(|line| {
        let (_, said) = line.split_once("LAB-")?;
        if let Some(status) = said.strip_prefix("EXIT=") {
            return status.trim().parse().ok().map(Ok);
        }
        said.strip_prefix("FAIL=").map(|why| Err(why.trim().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_word_survives_the_shell() {
        let words = ["plain", "two words", "it's", "", "$HOME `x` \"q\" \\", "line\nline", "*"];
        let request = Request {
            command: ["printf".into(), "%s\\0".into()].into_iter().chain(words.map(Into::into)).collect(),
            env: vec![("A_B".into(), "x 'y'".into())],
            ..Request::default()
        };
        let script = command(&request, Path::new("/"));
        let output =
            std::process::Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap();
        assert!(output.status.success());
        let expected: String = words.iter().map(|word| format!("{word}\0")).collect();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[test]
    fn the_last_verdict_counts() {
        assert_eq!(verdict(b"[    2.1] LAB-EXIT=7\r\n[    2.2] reboot: Power down\r\n"), Some(Ok(7)));
        assert_eq!(verdict(b"[    2.1] LAB-FAIL=cannot load kvm\r\n"), Some(Err("cannot load kvm".into())));
        assert_eq!(verdict(b"[    2.1] Kernel panic\r\n"), None);
    }
}
