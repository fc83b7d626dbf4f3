//! The tests by name, each run in a process of its own, so that one that crashes or hangs costs only itself.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kvm_ioctls::{Kvm, VmFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Outcome, tests};

/// How a test ended that did not fail.
pub enum Verdict {
    /// What was to be shown was shown.
    Ok,
    /// It cannot be shown on this kernel or machine.
    Skipped(String),
}

/// A test.
pub struct Test {
    /// Unique, in the style `two-vms-one-process`.
    pub name: &'static str,
    /// The test needs a KVM that nobody uses, e.g. to unload its modules.
    pub needs_idle_kvm: bool,
    /// The test is killed after so many seconds.
    pub timeout_s: u64,
    /// The test itself; an error is a failure.
    pub run: fn(&Context) -> Result<Verdict>,
}

/// What tests may need from outside.
#[derive(Clone, Debug, Default, Args)]
pub struct Context {
    /// The tracer under test; tests that need it are skipped without
    #[arg(long, value_name = "PATH")]
    pub kvm_utils: Option<PathBuf>,
    /// kvm-bench, to be run in this kernel itself
    #[arg(long, value_name = "PATH")]
    pub kvm_bench: Option<PathBuf>,
    /// Kernel for guests under a real QEMU
    #[arg(long, value_name = "PATH")]
    pub l2_kernel: Option<PathBuf>,
    /// Initramfs for them
    #[arg(long, value_name = "PATH")]
    pub l2_initramfs: Option<PathBuf>,
    /// Initramfs for them with kvm-bench
    #[arg(long, value_name = "PATH")]
    pub l2_bench: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RunOptions {
    /// The test
    name: String,
    /// Do it in this process, without a time limit
    #[arg(long)]
    here: bool,
    #[command(flatten)]
    context: Context,
}

#[derive(Debug, Args)]
pub struct RunAllOptions {
    /// Only these tests
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Without names: how many of them
    #[arg(long, value_enum, default_value_t = tests::Extent::All)]
    extent: tests::Extent,
    #[command(flatten)]
    context: Context,
}

/// Exit status of a test's process.
const OK: u8 = 0;
const FAILED: u8 = 1;
const SKIPPED: u8 = 77;

pub fn list() -> Outcome {
    for test in tests::all() {
        println!("{}", test.name);
    }
    Ok(ExitCode::SUCCESS)
}

pub fn run(options: &RunOptions) -> Outcome {
    let Some(test) = tests::all().find(|test| test.name == options.name) else {
        bail!("there is no test {:?}; `lab list` names them", options.name);
    };
    if options.here {
        return Ok(run_here(test, &options.context));
    }
    let ok = supervise(test, &options.context)?;
    println!("lab-done");
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn run_all(options: &RunAllOptions) -> Outcome {
    let wanted = |test: &&Test| {
        let named = options.names.is_empty() || options.names.iter().any(|name| name == test.name);
        named && options.only.as_ref().is_none_or(|text| test.name.contains(text))
    };
    let extent = if options.names.is_empty() { options.extent } else { tests::Extent::All };
    let selected: Vec<_> = tests::within(extent).filter(wanted).collect();
    if let Some(name) = options.names.iter().find(|name| !selected.iter().any(|test| test.name == **name)) {
        bail!("there is no test {name:?} to run; `lab list` names them");
    }
    if selected.is_empty() {
        bail!(
            "no test has {:?} in its name; `lab list` names them",
            options.only.as_deref().unwrap_or_default()
        );
    }
    let names: Vec<_> = selected.iter().map(|test| test.name).collect();
    println!("lab-plan {}", names.join(" "));
    let mut ok = true;
    for test in selected {
        ok &= supervise(test, &options.context)?;
    }
    println!("lab-done");
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The test itself; its reason goes to standard output, its details to standard error.
fn run_here(test: &Test, context: &Context) -> ExitCode {
    match (test.run)(context) {
        Ok(Verdict::Ok) => ExitCode::from(OK),
        Ok(Verdict::Skipped(why)) => {
            println!("{why}");
            ExitCode::from(SKIPPED)
        }
        Err(error) => {
            println!("{error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// Runs a test in a child process and prints its line. Returns false if it failed.
fn supervise(test: &Test, context: &Context) -> Result<bool> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program's file")?);
    command.args(["run", "--here", test.name]);
    for (option, path) in [
        ("--kvm-utils", &context.kvm_utils),
        ("--l2-kernel", &context.l2_kernel),
        ("--l2-initramfs", &context.l2_initramfs),
        ("--l2-bench", &context.l2_bench),
        ("--kvm-bench", &context.kvm_bench),
    ] {
        if let Some(path) = path {
            command.arg(option).arg(path);
        }
    }
    let _idle_vm = if test.needs_idle_kvm { None } else { hold_vm() };
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start the test {}", test.name))?;
    let output = read_until_end(&mut child, started + Duration::from_secs(test.timeout_s))?;
    let verdict = match output {
        None => {
            where_it_hangs(child.id());
            child.kill().context("cannot end a test that takes too long")?;
            child.wait()?;
            format!("FAILED: not done within {} s", test.timeout_s)
        }
        Some(text) => {
            let why = text.trim().replace('\n', "; ");
            match child.wait()?.code().map(u8::try_from) {
                Some(Ok(OK)) => "ok".to_owned(),
                Some(Ok(SKIPPED)) => format!("skipped: {why}"),
                Some(Ok(FAILED)) => format!("FAILED: {why}"),
                Some(code) => format!("FAILED: exit status {code:?}; {why}"),
                None => format!("FAILED: the test crashed; {why}"),
            }
        }
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "lab-test {} {verdict} ({:.1} s)", test.name, started.elapsed().as_secs_f64())?;
    out.flush()?;
    Ok(!verdict.starts_with("FAILED"))
}

/// Prints where in the kernel the threads of a process and of its children wait.
fn where_it_hangs(pid: u32) {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let task = task.path();
        eprintln!("  {} {}", task.display(), read(task.join("comm")).trim());
        read(task.join("stack")).lines().for_each(|line| eprintln!("    {line}"));
        for child in read(task.join("children")).split_whitespace().filter_map(|child| child.parse().ok()) {
            where_it_hangs(child);
        }
    }
}

/// A virtual machine that does nothing. While there is one, KVM need not patch the scheduler's code for the first and
/// unpatch it for the last one (`preempt_notifier_key`, virt/kvm/kvm_main.c), at which kernels under the software
/// emulation of QEMU 7.2 sometimes crash: it may execute a breakpoint that the kernel has removed already.
fn hold_vm() -> Option<VmFd> {
    Kvm::new().and_then(|kvm| kvm.create_vm()).ok()
}

/// The child's output, or `None` at the deadline.
fn read_until_end(child: &mut Child, deadline: Instant) -> Result<Option<String>> {
    let mut output = child.stdout.take().context("the child has no output pipe")?;
    let mut bytes = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs().try_into()?, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(&output, PollFlags::IN)];
        match poll(&mut fds, Some(&limit)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("cannot wait for a test"),
        }
        let mut part = [0; 4096];
        match output.read(&mut part).context("cannot read a test's output")? {
            0 => return Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            count => bytes.extend_from_slice(&part[..count]),
        }
    }
}
