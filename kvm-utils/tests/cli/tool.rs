//! Runs the binary, here or in a world that lacks something.

use std::{
    ffi::CString,
    fs, io,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Command, Output, Stdio},
    ptr,
    sync::OnceLock,
};

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_kvm-utils");

/// A call of the binary.
#[derive(Clone, Debug, Default)]
pub struct Tool {
    arguments: Vec<String>,
    hidden: Vec<&'static str>,
    tracefs: bool,
    nobody: bool,
    user_namespace: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Ran {
    call: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// `kvm-utils` with these arguments, given as one line of words.
pub fn tool(arguments: &str) -> Tool {
    Tool { arguments: arguments.split_whitespace().map(str::to_owned).collect(), ..Tool::default() }
}

impl Tool {
    /// An empty file system lies over this directory.
    pub fn without(mut self, directory: &'static str) -> Self {
        self.hidden.push(directory);
        self
    }

    /// tracefs is where it belongs, whether or not it is mounted on this machine.
    pub fn with_tracefs(mut self) -> Self {
        self.tracefs = true;
        self
    }

    /// Runs as nobody, without any capability.
    pub fn by_nobody(mut self) -> Self {
        self.nobody = true;
        self
    }

    /// Runs as the root of a user namespace, as in a rootless container.
    pub fn by_root_of_a_namespace(mut self) -> Self {
        self.user_namespace = true;
        self
    }

    /// A command that does it; both outputs are pipes. The environment holds what changes texts, and nothing else.
    pub fn command(&self) -> Command {
        let mut command = if self.nobody { Command::new(public_copy()) } else { Command::new(BINARY) };
        command.args(&self.arguments).env_clear().envs([("COLUMNS", "80"), ("LC_ALL", "C")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        let (mut hidden, tracefs, nobody, user_namespace) =
            (Vec::new(), self.tracefs, self.nobody, self.user_namespace);
        for directory in &self.hidden {
            hidden.push(CString::new(*directory).expect("no NUL"));
        }
        let map = format!("0 {} 1", rustix::process::geteuid().as_raw());
        let prepare = move || {
            if !hidden.is_empty() || tracefs {
                own_mounts()?;
            }
            for directory in &hidden {
                mount(c"tmpfs", directory)?;
            }
            if tracefs {
                mount(c"tracefs", c"/sys/kernel/tracing")?;
            }
            if nobody {
                become_nobody()?;
            }
            if user_namespace {
                // SAFETY: takes no pointers.
                check(unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
                fs::write("/proc/self/uid_map", &map)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec it makes system calls only; the C strings were made before, `fs::write` of a
        // short path allocates nothing.
        unsafe { command.pre_exec(prepare) };
        command
    }

    /// Runs to the end.
    pub fn run(&self) -> Ran {
        let output = self.command().output().expect("the binary starts");
        self.ran(&output)
    }

    /// What a finished command wrote.
    pub fn ran(&self, output: &Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Ran {
            call: self.arguments.join(" "),
            code: output.status.code().expect("an exit code, not a signal"),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Ran {
    /// For a picture: the call, the exit code, and what was written.
    pub fn picture(&self) -> String {
        let lines =
            |text: &str| text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>();
        format!("$ kvm-utils {}\n{}{}=> {}\n", self.call, lines(&self.stdout), lines(&self.stderr), self.code)
    }

    /// Checks the exit code.
    #[track_caller]
    pub fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.picture());
        self
    }

    /// Checks that standard error holds one message, without anything that only a developer understands.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "{words:?} is not in\n{}", self.picture());
        for noise in ["panicked", "Error {", "Some(", "Os {", "kvm-utils: kvm-utils:"] {
            assert!(!self.stderr.contains(noise), "{noise:?} is in\n{}", self.picture());
        }
        self
    }
}

/// Pictures of several calls, one below the other.
pub fn pictures(runs: &[Ran]) -> String {
    runs.iter().map(Ran::picture).collect::<Vec<_>>().join("\n")
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From here on mounts are this process's own business.
fn own_mounts() -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let (flags, none) = (libc::MS_REC | libc::MS_PRIVATE, ptr::null());
    // SAFETY: C strings and null pointers where mount(2) allows them.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, flags, ptr::null()) })
}

fn mount(kind: &std::ffi::CStr, at: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: C strings, and a null pointer where mount(2) allows it.
    check(unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, ptr::null()) })
}

fn become_nobody() -> io::Result<()> {
    /// The uid and gid that own nothing, Documentation/admin-guide/sysctl/fs.rst (overflowuid).
    const NOBODY: libc::uid_t = 65534;
    // SAFETY: no groups, so no pointer is followed.
    check(unsafe { libc::setgroups(0, ptr::null()) })?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) })?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) })
}

/// A copy of the binary where everybody can reach it; the build directory may be in somebody's home.
fn public_copy() -> PathBuf {
    static COPY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = COPY.get_or_init(|| {
        let public = fs::Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(public.clone()).tempdir().expect("a directory");
        let path = directory.path().join("kvm-utils");
        fs::copy(BINARY, &path).expect("a copy");
        fs::set_permissions(&path, public).expect("permissions");
        (directory, path)
    });
    path.clone()
}
