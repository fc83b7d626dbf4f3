//! Guests under a real QEMU, with Linux and with nothing but its firmware.

use std::fs::{DirEntry, read_dir, read_to_string};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kvm_utils::selftest::{Config, Phase, Plan};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::check;
use crate::program::{self, Guest};
use crate::reference::{Counter, Scope};
use crate::registry::{Context, Test, Verdict};
use crate::tracer::{self, Source, Tracer};

tracer_tests! {
    "tracer-linux-guest", 300, linux_guest;
    "tracer-linux-guest-in-a-pod", 300, linux_guest_in_a_pod;
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

const UUID: &str = "5c6fa8f7-c3f6-4b3f-b596-d16ea3912302";

/// Boots Linux on two vCPUs under QEMU with more `options` and words on the kernel's command line, and waits until it has
/// powered off. Gives QEMU's pid.
pub fn boot(context: &Context, name: &str, options: &[&str], words: &str) -> Result<u32> {
    Ok(boot_with(context, context.l2_initramfs.as_ref(), name, options, words)?.0)
}

/// The same with another initramfs. Also gives what the guest printed.
pub fn boot_with(
    context: &Context,
    initramfs: Option<&PathBuf>,
    name: &str,
    options: &[&str],
    words: &str,
) -> Result<(u32, String)> {
    let guest = start(context, initramfs, name, options, words)?;
    let pid = guest.id();
    let console = console(guest)?;
    Ok((pid, console))
}

/// Starts it, with its serial port on standard output.
pub fn start(
    context: &Context,
    initramfs: Option<&PathBuf>,
    name: &str,
    options: &[&str],
    words: &str,
) -> Result<Child> {
    let (Some(kernel), Some(initramfs)) = (&context.l2_kernel, initramfs) else {
        bail!("--l2-kernel, --l2-initramfs and --l2-bench are needed");
    };
    let mut command = qemu(name, &["-smp", "2", "-m", "256"]);
    command.args(options).args(["-append", &format!("console=ttyS0 quiet {words}")]);
    let guest = command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs).spawn();
    guest.context("cannot start qemu-system-x86_64")
}

/// Gives each of its two vCPUs a CPU of its own. A KVM whose counter is not steady, as in an emulated machine, sets a vCPU's
/// anew when it moves.
pub fn pin_vcpus(guest: &mut Child) -> Result<()> {
    let tasks = format!("/proc/{}/task", guest.id());
    for vcpu in 0..2 {
        let name = format!("CPU {vcpu}/KVM");
        let thread = loop {
            let is_it = |task: &DirEntry| {
                read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
            };
            if let Some(task) = read_dir(&tasks)?.flatten().find(is_it) {
                break task.file_name().to_string_lossy().parse()?;
            }
            ensure!(guest.try_wait()?.is_none(), "QEMU ended before it had a thread {name}");
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut cpus = CpuSet::new();
        cpus.set(vcpu);
        sched_setaffinity(Pid::from_raw(thread), &cpus).context("cannot pin a vCPU")?;
    }
    Ok(())
}

/// Waits until it has powered off. Gives what it printed.
pub fn console(guest: Child) -> Result<String> {
    let output = guest.wait_with_output()?;
    let console = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && console.contains("L2-DONE"), "{}: {console}", output.status);
    Ok(console.into_owned())
}

/// Linux boots on two vCPUs and powers off: our count per reason is the kernel's, and every vCPU is there.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let tracer = Tracer::start(context, source, &[])?;
    let pid = boot(context, "lab-linux", &["-uuid", &UUID.to_uppercase()], "work=boot")?;
    let summary = tracer.stop()?;
    summary.ensure_equals(&counter.read()?)?;
    match source {
        Source::Raw => summary.ensure_proven()?,
        // Nothing tells of a vCPU's end, so that KVM's statistic is gone with the VM.
        Source::Classic => summary.ensure_undoubted()?,
    }
    let vm = summary.vm_of(pid)?;
    ensure!((vm.name.as_str(), vm.vmm.as_str()) == ("lab-linux", "qemu"), "{} {}", vm.name, vm.vmm);
    ensure!(vm.uuid.as_deref() == Some(UUID) && vm.id.is_none(), "{:?} {:?}", vm.uuid, vm.id);
    ensure!(vm.within.is_empty(), "all programs of the lab are in the root cgroup, not in {:?}", vm.within);
    ensure!(vm.ended && summary.vms.len() == 1, "{:?}", summary.names());
    let ids: Vec<_> = vm.vcpus.iter().map(|vcpu| vcpu.vcpu).collect();
    ensure!(ids == [Some(0), Some(1)], "vCPUs {ids:?}");
    ensure!(vm.vcpus.iter().all(|vcpu| vcpu.count > 0), "an idle vCPU: {:?}", vm.vcpus);
    ensure!(vm.totals.iter().any(|row| row.waiting), "no HLT: {:?}", vm.totals);
    Ok(())
}

/// A cgroup like that of a container in a Kubernetes pod.
struct Pod {
    root: PathBuf,
    container: PathBuf,
}

const POD: &str = "08ff2263-5cf1-49f7-b3e7-80b6e0840fd5";
const CONTAINER: &str = "1a5b9a1eb29e863bf504561344f7ffc67cfc469150418b7727c8959e0c5f8982";

impl Pod {
    fn new() -> Result<Self> {
        let root = std::env::temp_dir().join(format!("lab-cgroup-{}", std::process::id()));
        std::fs::create_dir(&root)?;
        let mount = Command::new("mount").args(["-t", "cgroup2", "none"]).arg(&root).status();
        let mount = mount.context("cannot start mount")?;
        ensure!(mount.success(), "cannot mount cgroup2: {mount}");
        // What the kubelet makes with the driver systemd.
        let slice = format!("kubepods-burstable-pod{}.slice", POD.replace('-', "_"));
        let slice = ["kubepods.slice", "kubepods-burstable.slice", &slice].iter().collect::<PathBuf>();
        let container = root.join(slice).join(format!("cri-containerd-{CONTAINER}.scope"));
        std::fs::create_dir_all(&container)?;
        Ok(Self { root, container })
    }

    /// Does something in it.
    fn run<T>(&self, something: impl FnOnce() -> Result<T>) -> Result<T> {
        // Children begin where their parent is.
        std::fs::write(self.container.join("cgroup.procs"), "0")?;
        let result = something();
        std::fs::write(self.root.join("cgroup.procs"), "0")?;
        result
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // The lab ends soon.
        let _ = Command::new("umount").arg("--lazy").arg(&self.root).status();
        let _ = std::fs::remove_dir(&self.root);
    }
}

/// `--vm POD --wait` finds the VM in the pod, by its cgroup as the kernel shows it, and leaves out another.
fn linux_guest_in_a_pod(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let mut other = Guest::start(&["--op", "cpuid=1009"])?;
    let pod = Pod::new()?;
    let mut tracer = Tracer::spawn(context, source, &["--vm", POD, "--wait"])?;
    tracer.await_line("attached (")?;
    other.go()?;
    other.phases()?;
    other.end()?;

    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let pid = pod.run(|| boot(context, "default_lab-pod", &["-uuid", UUID], "work=boot"))?;
    let summary = tracer.stop()?;
    summary.ensure_equals(&counter.read()?)?;
    summary.ensure_undoubted()?;
    let vm = summary.vm_of(pid)?;
    ensure!(summary.vms.len() == 1, "{:?}", summary.names());
    ensure!(vm.name == "default_lab-pod" && vm.uuid.as_deref() == Some(UUID), "{} {:?}", vm.name, vm.uuid);
    let within: Vec<_> = vm.within.iter().map(|place| (place.kind.as_str(), place.name.as_str())).collect();
    ensure!(within == [("pod", POD), ("container", CONTAINER)], "{within:?}");
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
    std::thread::sleep(Duration::from_secs(1));
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
