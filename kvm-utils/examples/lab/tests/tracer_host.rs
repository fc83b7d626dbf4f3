//! The host around the tracer: KVM's modules come and go, pid namespaces.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, Result, bail, ensure};
use kvm_utils::decode::Isa;
use kvm_utils::selftest::{Config, Phase, Plan, expect};

use crate::check;
use crate::program::{self, Guest};
use crate::reference::{Counter, Scope};
use crate::registry::{Context, Test};
use crate::report::ensure_expected;
use crate::tracer::{self, Source, Tracer};

tracer_tests! {
    "tracer-pid-namespace", 90, pid_namespace;
}

macro_rules! with_idle_kvm {
    ($constant:ident, $name:literal, $source:expr) => {
        pub const $constant: &[Test] = &[Test {
            name: $name,
            needs_idle_kvm: true,
            timeout_s: 180,
            run: |context| tracer::test(context, $source, module_reloaded),
        }];
    };
}
with_idle_kvm!(RELOAD_RAW, "tracer-module-reloaded-raw", Source::Raw);
with_idle_kvm!(RELOAD_CLASSIC, "tracer-module-reloaded-tracepoint", Source::Classic);

/// KVM's modules as this lab can load them.
struct Modules {
    vendor: &'static str,
}

impl Modules {
    fn of(isa: Isa) -> Self {
        Self { vendor: if isa == Isa::Vmx { "kvm_intel" } else { "kvm_amd" } }
    }

    fn unload(module: &str) -> Result<ExitStatus> {
        Command::new("rmmod").arg(module).status().context("cannot start rmmod")
    }

    fn load(module: &str) -> Result<()> {
        // Where a lab carries no module tree it keeps the files that it has loaded.
        let file = format!("/mod/{}.ko", module.replace('_', "-"));
        let status = if Path::new(&file).exists() {
            Command::new("insmod").arg(file).status()
        } else {
            Command::new("modprobe").arg(module).status()
        };
        ensure!(status.context("cannot start insmod or modprobe")?.success(), "cannot load {module}");
        Ok(())
    }

    fn reload_vendor(&self) -> Result<()> {
        ensure!(Self::unload(self.vendor)?.success(), "cannot unload {}", self.vendor);
        Self::load(self.vendor)
    }
}

fn module_reloaded(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let modules = Modules::of(host.isa);

    // Before a run: without KVM there is a clear message, after its return everything works.
    ensure!(Modules::unload(modules.vendor)?.success(), "cannot unload {}", modules.vendor);
    ensure!(Modules::unload("kvm")?.success(), "cannot unload kvm");
    let mut command = tracer::command(context)?;
    let output = command.args(["exits", "-n", "1", "--source", source.option()]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let loaded = Modules::load("kvm").and_then(|()| Modules::load(modules.vendor));
    ensure!(output.status.code() == Some(3), "without KVM: {}: {said}", output.status);
    ensure!(said.contains("modprobe"), "without KVM, no remedy: {said}");
    loaded?;
    selftest(context, source)?;

    // During a run: what the tracer is attached to is in kvm, which it holds; the vendor's module may come and go.
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let tracer = Tracer::start(context, source, &[])?;
    let plan = Plan { phases: vec![Phase::parse("cpuid=1009")?], skipped: Vec::new() };
    for _ in 0..2 {
        let mut session = check::start(&plan, Config::default(), check::options())?;
        session.run_phase()?;
        drop(session);
        modules.reload_vendor()?;
    }
    ensure!(!Modules::unload("kvm")?.success(), "kvm was unloaded although {} needs it", modules.vendor);
    let summary = tracer.stop()?;
    summary.ensure_equals(&counter.read()?)?;
    summary.ensure_undoubted()?;
    drop(counter);
    selftest(context, source)
}

fn selftest(context: &Context, source: Source) -> Result<()> {
    let mut command = tracer::command(context)?;
    let output = command.args(["selftest", "--source", source.option()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "selftest: {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Set in the process that is the first of a new pid namespace.
const INSIDE: &str = "LAB_IN_PID_NAMESPACE";

/// A tracer in a pid namespace knows its neighbours by their numbers there.
fn pid_namespace(context: &Context, source: Source) -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return inside(context, source);
    }
    let mut outside = Guest::start(&["--op", "spin"])?;
    outside.go()?;
    // Asked for first: in the new namespace of mounts the kernel may name the file differently.
    let program = std::env::current_exe()?;
    // SAFETY: takes no pointers; only children of this process are affected, and what it mounts.
    if unsafe { libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) } < 0 {
        return Err(std::io::Error::last_os_error()).context("cannot make a pid namespace");
    }
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(INSIDE, "1");
    program::dies_with_us(&mut command);
    // SAFETY: mount may be called between fork and exec; the strings are static.
    unsafe {
        command.pre_exec(|| {
            let mount = |what: &std::ffi::CStr, place: &std::ffi::CStr, kind: &std::ffi::CStr, flags| {
                match libc::mount(what.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            };
            mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE)?;
            mount(c"proc", c"/proc", c"proc", 0)
        });
    }
    let output = command.output().context("cannot start a process in the namespace")?;
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("inside: {}", String::from_utf8_lossy(&output.stdout).trim());
    }
    outside.kill()
}

/// The first process of the namespace runs a VM; outside another one runs all the time.
fn inside(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let pid = std::process::id();
    ensure!(pid == 1, "not the first process of a namespace, but {pid}");
    let phases = ["cpuid=1009", "cpuid=1013"].map(Phase::parse).into_iter().collect::<Result<_, _>>()?;
    let plan = Plan { phases, skipped: Vec::new() };
    let mut session = check::start(&plan, Config { vcpus: 2, ..Config::default() }, check::options())?;

    let tracer = Tracer::start(context, source, &["--pid", "1"])?;
    let report = session.run_phase()?.context("nothing to do")?;
    let summary = tracer.stop()?;
    summary.ensure_undoubted()?;
    ensure!(summary.vms.len() == 1, "{:?}", summary.names());
    let vm = summary.vm_of(1)?;
    ensure_expected("--pid 1", &host, &expect::expected(&host, &report), &vm.totals)?;
    ensure!((0..2).all(|id| session.thread_of(id).is_some_and(|tid| vm.on_thread(tid).is_some())), "{vm:?}");

    // Without a filter the other one is seen too, under a number of the outside.
    let tracer = Tracer::start(context, source, &[])?;
    let report = session.run_phase()?.context("nothing to do")?;
    let summary = tracer.stop()?;
    summary.ensure_undoubted()?;
    ensure!(summary.vms.len() == 2, "{:?}", summary.names());
    ensure_expected("pid 1", &host, &expect::expected(&host, &report), &summary.vm_of(1)?.totals)
}
