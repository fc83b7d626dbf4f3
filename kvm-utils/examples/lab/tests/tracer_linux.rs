//! Guests under a real QEMU, with Linux and with nothing but its firmware.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use kvm_utils::selftest::{Config, Phase, Plan};
use rustix::process::{Pid, Signal, kill_process};

use crate::check;
use crate::program;
use crate::reference::{Counter, Scope};
use crate::registry::{Context, Test, Verdict};
use crate::tracer::{self, Source, Tracer};

tracer_tests! {
    "tracer-linux-guest", 300, linux_guest;
    "tracer-waits-for-a-name", 120, waits_for_a_name;
}

/// QEMU with KVM and `options`, its serial port on standard output.
pub fn qemu(name: &str, options: &[&str]) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-accel", "kvm", "-cpu", "host", "-nodefaults", "-no-user-config", "-display", "none"]);
    command.args(["-no-reboot", "-serial", "stdio", "-name"]).arg(format!("guest={name},debug-threads=on"));
    command.args(options).stdin(Stdio::null()).stdout(Stdio::piped());
    program::dies_with_us(&mut command);
    command
}

/// Boots Linux on two vCPUs under QEMU with more `options` and words on the kernel's command line, and waits until it has
/// powered off. Gives QEMU's pid.
pub fn boot(context: &Context, name: &str, options: &[&str], words: &str) -> Result<u32> {
    let (Some(kernel), Some(initramfs)) = (&context.l2_kernel, &context.l2_initramfs) else {
        bail!("--l2-kernel and --l2-initramfs are needed");
    };
    let mut command = qemu(name, &["-smp", "2", "-m", "256"]);
    command.args(options).args(["-append", &format!("console=ttyS0 quiet {words}")]);
    let guest = command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs).spawn();
    let guest = guest.context("cannot start qemu-system-x86_64")?;
    let pid = guest.id();
    let output = guest.wait_with_output()?;
    let console = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && console.contains("L2-DONE"), "{}: {console}", output.status);
    Ok(pid)
}

/// Linux boots on two vCPUs and powers off: our count per reason is the kernel's, and every vCPU is there.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let tracer = Tracer::start(context, source, &[])?;
    let pid = boot(context, "lab-linux", &[], "work=boot")?;
    let summary = tracer.stop()?;
    summary.ensure_equals(&counter.read()?)?;
    match source {
        Source::Raw => summary.ensure_proven()?,
        // Nothing tells of a vCPU's end, so that KVM's statistic is gone with the VM.
        Source::Classic => summary.ensure_undoubted()?,
    }
    let vm = summary.vm_of(pid)?;
    ensure!((vm.name.as_str(), vm.vmm.as_str()) == ("lab-linux", "qemu"), "{} {}", vm.name, vm.vmm);
    ensure!(vm.ended && summary.vms.len() == 1, "{:?}", summary.names());
    let ids: Vec<_> = vm.vcpus.iter().map(|vcpu| vcpu.vcpu).collect();
    ensure!(ids == [Some(0), Some(1)], "vCPUs {ids:?}");
    ensure!(vm.vcpus.iter().all(|vcpu| vcpu.count > 0), "an idle vCPU: {:?}", vm.vcpus);
    ensure!(vm.totals.iter().any(|row| row.waiting), "no HLT: {:?}", vm.totals);
    Ok(())
}

/// `--vm NAME --wait` finds a VM that starts later, and leaves out another.
fn waits_for_a_name(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let plan = Plan { phases: vec![Phase::parse("cpuid=1009")?], skipped: Vec::new() };
    let mut tracer = Tracer::spawn(context, source, &["--vm", "lab-late", "--wait"])?;
    tracer.await_line("attached (")?;
    let mut other = check::start(&plan, Config::default(), check::options())?;
    other.run_phase()?;

    let before = counter.read()?;
    let mut guest = qemu("lab-late", &["-m", "64"]).spawn().context("cannot start qemu-system-x86_64")?;
    let pid = guest.id();
    while counter.read()?.since(&before).total < 500 {
        ensure!(guest.try_wait()?.is_none(), "QEMU ended early");
        std::thread::yield_now();
    }
    // Long enough for its name to be looked up: the tracer does that several times a second.
    std::thread::sleep(std::time::Duration::from_secs(1));
    end(&mut guest)?;
    let summary = tracer.stop()?;
    summary.ensure_equals(&counter.read()?.since(&before))?;
    summary.ensure_undoubted()?;
    let vm = summary.vm_of(pid)?;
    ensure!(vm.name == "lab-late" && summary.vms.len() == 1, "{:?}", summary.names());
    Ok(())
}

/// Ends QEMU as its user would.
pub fn end(guest: &mut Child) -> Result<()> {
    kill_process(Pid::from_child(guest), Signal::TERM)?;
    guest.wait()?;
    Ok(())
}

/// A name that nobody has is a mistake of whoever typed it.
pub const NAMES: &[Test] =
    &[Test { name: "tracer-unknown-name", needs_idle_kvm: false, timeout_s: 60, run: unknown_name }];

fn unknown_name(context: &Context) -> Result<Verdict> {
    let mut command = tracer::command(context)?;
    let output = command.args(["exits", "--vm", "nobody"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{}: {said}", output.status);
    ensure!(said.contains("nobody") && said.contains("--wait"), "no cause and remedy: {said}");
    Ok(Verdict::Ok)
}
