//! The AMD lab: QEMU's software emulation with SVM, in which a stock kernel loads kvm_amd.
//!
//! The guest sees this machine's files over 9p, read-only under a tmpfs. ttyS0 is its console and goes to
//! a file, ttyS1 is what the command prints.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cache::{Cache, RunDir};
use super::cpio::Archive;
use super::emulator::{self, End};
use super::kernel::{self, Flavour, Kernel};
use super::packages;
use super::qemu::{self, Qemu};
use super::{Lab, Outcome, Output, Request, initramfs, script};
use crate::cleanup::TtyGuard;

/// Memory of the lab when the request does not say, MiB.
const MEMORY: u32 = 3072;

/// How much of the console an error shows, in lines.
const TAIL: usize = 60;

/// Installs, downloads and builds what a run needs.
pub(crate) fn prepare(cache: &Cache, request: &Request) -> Result<(Qemu, Kernel)> {
    packages::ensure(&packages::BOOT)?;
    Ok((qemu::prepare(cache)?, kernel::prepare(cache, request.suite, Flavour::Generic)?))
}

/// Boots the lab, runs the request's command in it and gives its exit status.
///
/// # Errors
/// When the lab cannot be set up, when the guest dies or hangs (with the end of its console), and when
/// nobody takes the output.
pub(crate) fn run(lab: &Lab, request: &Request, output: &mut Output<'_>) -> Result<Outcome> {
    let (qemu, kernel) = prepare(&lab.cache, request)?;
    let run = lab.cache.run_dir()?;
    let image = run.path().join("initramfs.cpio");
    initramfs::join(&initramfs::base(&lab.cache, &kernel)?, &files(lab, request, &kernel, output), &image)?;
    let mut qemu = command(&qemu, request, &kernel, &run, &image);
    let errors = run.path().join("qemu.log");
    qemu.stderr(fs::File::create(&errors)?);
    let end = if request.interactive {
        let _tty = TtyGuard::save();
        emulator::interact(qemu)?
    } else {
        emulator::run(qemu, request.limits, output)?
    };
    let console = fs::read(run.path().join("console")).unwrap_or_default();
    let verdict = script::verdict(&console);
    if let (End::Exited(_), Some(Ok(status))) = (&end, &verdict) {
        return Ok(Outcome { status: *status, kernel: kernel.version });
    }
    let what = match (end, verdict) {
        (End::Killed(why), _) => why,
        (End::Exited(_), Some(Err(why))) => why,
        (End::Exited(status), _) if status.success() => "died before the command ended".into(),
        (End::Exited(status), _) => {
            let said = fs::read_to_string(&errors).context("cannot read QEMU's log")?;
            bail!("QEMU failed ({status}): {}", said.trim());
        }
    };
    bail!(
        "the lab ({}, {}) {what}; its console ends with\n{}",
        request.vendor,
        kernel.version,
        emulator::tail(&console, TAIL)
    )
}

/// The run's own files: the command and how to run it.
fn files(lab: &Lab, request: &Request, kernel: &Kernel, output: &Output<'_>) -> Archive {
    let (terminal, size) = match output {
        Output::Terminal(size) => (1, *size),
        Output::Lines(_) | Output::Stdout => (0, super::Size::default()),
    };
    let mut config = format!(
        "lab_terminal={terminal}\nlab_rows={}\nlab_columns={}\nlab_modules=",
        size.rows, size.columns
    )
    .into_bytes();
    config.extend(script::quote(kernel.dir.join("lib/modules").as_os_str()));
    config.push(b'\n');
    let mut archive = Archive::default();
    archive.file("/lab/config", 0o644, config);
    archive.file("/lab/command", 0o755, script::command(request, &lab.project.root));
    archive
}

fn command(qemu: &Qemu, request: &Request, kernel: &Kernel, run: &RunDir, image: &Path) -> Command {
    let mut append = String::from("console=ttyS0 panic=-1 oops=panic quiet mitigations=off nokaslr");
    // A machine whose CPU is stuck for a minute (twice the threshold) stays so: it ends, and tells where all CPUs are.
    append.push_str(" watchdog_thresh=30 softlockup_panic=1 softlockup_all_cpu_backtrace=1");
    for word in &request.kernel_args {
        append.push(' ');
        append.push_str(word);
    }
    let mut qemu = qemu.command();
    // The name is the process's too; else it would be called after its loader.
    qemu.args([
        "-name",
        "lab,process=qemu-lab",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ]);
    qemu.args(["-cpu", "max,+svm"]);
    if request.icount {
        // One instruction is 2 ns of guest time and 2 TSC ticks: costs are instruction counts and repeat.
        qemu.args(["-accel", "tcg,thread=single", "-icount", "shift=1,sleep=on"]);
    } else {
        qemu.args(["-accel", "tcg,thread=multi"]);
    }
    qemu.args(["-smp", &request.smp.to_string(), "-m", &request.mem_mib.unwrap_or(MEMORY).to_string()]);
    qemu.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(image).args(["-append", &append]);
    qemu.args(["-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"]);
    qemu.args(["-device", "virtio-9p-pci,fsdev=root,mount_tag=hostroot"]);
    // QEMU reads a doubled comma as one.
    let console = run.path().join("console").to_string_lossy().replace(',', ",,");
    qemu.args(["-chardev", &format!("file,id=console,path={console}"), "-serial", "chardev:console"]);
    // The multiplexer brings Ctrl-A X.
    let mux = if request.interactive { "on" } else { "off" };
    qemu.args(["-chardev", &format!("stdio,id=command,signal=off,mux={mux}"), "-serial", "chardev:command"]);
    qemu
}
