//! A shell as a user has it who has installed the tools: what docs tell them to type, run in a directory of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::program;
use crate::registry::Context;

/// How long a guest may take to boot.
const BOOT: Duration = Duration::from_secs(120);

/// The directory, gone with it.
pub struct Shell {
    directory: PathBuf,
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Shell {
    /// With `kvm-utils`, and `kvm-bench` if there is one, and `sudo`.
    pub fn new(context: &Context) -> Result<Self> {
        let (Some(kernel), Some(initramfs)) = (context.l2_kernel.clone(), context.l2_initramfs.clone())
        else {
            bail!("--l2-kernel and --l2-initramfs are needed");
        };
        let directory = std::env::temp_dir().join(format!("lab-shell-{}", std::process::id()));
        let shell = Self { directory, kernel, initramfs };
        fs::create_dir_all(shell.path("bin"))?;
        let tool = context.kvm_utils.as_ref().context("--kvm-utils is not given")?;
        symlink(fs::canonicalize(tool)?, shell.path("bin/kvm-utils"))?;
        if let Some(tool) = &context.kvm_bench {
            symlink(fs::canonicalize(tool)?, shell.path("bin/kvm-bench"))?;
        }
        // All is root's here.
        shell.script("bin/sudo", "exec \"$@\"")?;
        Ok(shell)
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a program.
    pub fn script(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// What starts a Linux guest of this name on two vCPUs, with `words` on its kernel's command line, as a shell has it.
    pub fn guest(&self, name: &str, words: &str) -> String {
        format!(
            "qemu-system-x86_64 -accel kvm -cpu host -smp 2 -m 256 -nodefaults -no-user-config -display none -no-reboot \
             -name {name} -serial file:{name}.console -kernel {} -initrd {} -append \"console=ttyS0 quiet {words}\"",
            self.kernel.display(),
            self.initramfs.display()
        )
    }

    /// From now on `boot-guest.sh` boots a guest, with these words for its kernel, and ends when it has powered off.
    pub fn boots(&self, words: &str) -> Result<()> {
        self.script("boot-guest.sh", &format!("exec {}", self.guest("web-1", &format!("work=boot {words}"))))
    }

    /// Starts a guest, which works as `words` tell it, and waits until it does.
    pub fn started(&self, name: &str, words: &str) -> Result<Background> {
        let mut guest = self.in_background(&self.guest(name, words))?;
        let deadline = Instant::now() + BOOT;
        loop {
            let console = fs::read_to_string(self.path(&format!("{name}.console"))).unwrap_or_default();
            if console.contains("L2-READY") {
                return Ok(guest);
            }
            let ended = guest.0.try_wait()?;
            ensure!(ended.is_none() && Instant::now() < deadline, "{name} did not come up: {console}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn command(&self, text: &str) -> Command {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-e", "-c", text]).current_dir(&self.directory).env("PATH", path).stdin(Stdio::null());
        command.env("GITHUB_STEP_SUMMARY", self.path("summary.md"));
        program::dies_with_us(&mut command);
        command
    }

    /// Runs what was typed to its end.
    pub fn run(&self, text: &str) -> Result<Output> {
        self.command(text).output().context("cannot start sh")
    }

    /// Starts a program as it was typed, in the shell's place, so that it can be ended.
    pub fn in_background(&self, typed: &str) -> Result<Background> {
        let child = self
            .command(&format!("exec {typed}"))
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start sh")?;
        Ok(Background(child))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The lab ends soon.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A program that runs until it is dropped.
pub struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
