//! `cargo xtask bench`: the figures that the documents quote. Nothing here passes or fails.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::lab::packages::{self, Need};
use crate::lab::{Lab, Limits, Output, Request, Suite};
use crate::project::Project;
use crate::release::{self, Release};
use crate::{process, ui};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Instructions added to one exit and entry, by kvm-utils and by others
    Overhead,
    /// Instructions added by each drill-down, to an exit that it counts and to another
    Drilldowns,
    /// Medians of `kvm-utils bench` beside plain loops of the same operations, as kvm-unit-tests time them
    Reference,
    /// Reading the counters of 4,096 vCPUs
    Snapshot,
    /// Time to attach, memory, size of the program
    Start,
    /// A scrape of 100 VMs with 8 vCPUs each, and memory over 10,000 scrapes
    Export,
}

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Options {
    /// What to measure; everything if not given
    #[arg(value_enum)]
    what: Vec<What>,
    /// The Debian suite whose kernel to measure on
    #[arg(long, value_enum, default_value_t)]
    suite: Suite,
}

/// In the lab with instruction counting an instruction takes so long.
const NS_PER_INSTRUCTION: f64 = 2.0;

/// Rows of the overhead table: the name that overhead.sh prints, and what it is.
const TRACERS: [(&str, &str); 5] = [
    ("empty", "two empty raw tracepoint programs"),
    ("raw", "kvm-utils exits, raw tracepoints"),
    ("tracepoint", "kvm-utils exits, classic tracepoints"),
    ("perf-stat", "perf stat -e kvm:kvm_exit -e kvm:kvm_entry"),
    ("perf-kvm-record", "perf kvm stat record"),
];

/// Drill-downs with their options after a `+`, each with an operation that it counts (`lab cost --operation`).
const DRILLDOWNS: [(&str, &str); 11] = [
    ("wrmsr", "wrmsr"),
    ("msr", "rdmsr"),
    ("io", "io-out-kernel"),
    ("io+--no-time", "io-out-kernel"),
    ("cpuid", "cpuid"),
    ("hypercall", "hypercall"),
    ("fault", "lapic-read"),
    ("rip", "wrmsr"),
    ("irq", "hlt"),
    ("halt", "hlt"),
    ("time", "wrmsr"),
];

/// The tracer that kvm-utils is held against.
const PERF: Need = Need::new("perf", "linux-perf");

/// `cargo xtask bench`.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    let all = [What::Overhead, What::Drilldowns, What::Reference, What::Snapshot, What::Start, What::Export];
    let what = if options.what.is_empty() { &all[..] } else { &options.what };
    let release = release::build(&Project::locate()?)?;
    let lab = Lab::open()?;
    for what in what {
        match what {
            What::Overhead => overhead(&lab, &release, options.suite)?,
            What::Drilldowns => drilldowns(&lab, &release, options.suite)?,
            What::Reference => reference(&lab, &release, options.suite)?,
            What::Snapshot => example(&release, "snapshot")?,
            What::Export => example(&release, "export")?,
            What::Start => start(&lab, &release, options.suite)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a script in the lab and gives the lines that it means for us: a word and a number.
fn script(
    lab: &Lab,
    release: &Release,
    text: &str,
    request: Request,
) -> Result<(String, Vec<(String, f64)>)> {
    let env = [("KVM_UTILS", &release.kvm_utils), ("LAB", &release.lab)];
    let env = env.map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned()));
    let env = env.into_iter().chain(request.env.iter().cloned()).collect();
    let command = ["/bin/bash", "-c", text].map(OsString::from).to_vec();
    let mut lines = Vec::new();
    let mut output = Output::Lines(&mut |line| {
        match line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.trim().parse::<f64>())) {
            Some((name, Ok(value))) => {
                ui::step(line);
                lines.push((name, value));
            }
            _ => println!("{line}"),
        }
        Ok(())
    });
    let outcome = lab.run(&Request { command, env, ..request }, &mut output)?;
    if outcome.status != 0 {
        bail!("the measurement failed (exit status {})", outcome.status);
    }
    Ok((outcome.kernel, lines))
}

fn overhead(lab: &Lab, release: &Release, suite: Suite) -> Result<()> {
    ui::step("counting the instructions that tracers add to one WRMSR exit; a few minutes");
    packages::ensure(&[PERF])?;
    let request = Request {
        suite,
        icount: true,
        smp: 1,
        limits: Limits::whole(Duration::from_secs(30 * 60)),
        ..Request::default()
    };
    let (kernel, lines) = script(lab, release, include_str!("overhead.sh"), request)?;
    let costs: BTreeMap<String, f64> = lines
        .into_iter()
        .filter_map(|(name, ns)| Some((name.strip_prefix("cost ")?.to_owned(), ns)))
        .collect();
    let none = costs.get("none").context("the cost without a tracer is missing")?;
    println!("\nInstructions per WRMSR exit and entry, Linux {kernel}, kvm_amd, one instruction per 2 ns");
    println!("{:52} {:>8.0}", "the exit itself", none / NS_PER_INSTRUCTION);
    for (name, what) in TRACERS {
        let with = costs.get(name).with_context(|| format!("the cost with {name} is missing"))?;
        println!("{what:52} {:>+8.0}", (with - none) / NS_PER_INSTRUCTION);
    }
    Ok(())
}

fn drilldowns(lab: &Lab, release: &Release, suite: Suite) -> Result<()> {
    ui::step("counting the instructions that drill-downs add to one exit; a few minutes");
    packages::ensure(&[PERF])?;
    let nouns: Vec<String> = DRILLDOWNS.iter().map(|(noun, own)| format!("{noun}:{own}")).collect();
    let env = vec![("NOUNS".to_owned(), nouns.join(" "))];
    let limits = Limits::whole(Duration::from_secs(30 * 60));
    let request = Request { suite, icount: true, smp: 1, limits, env, ..Request::default() };
    let (kernel, lines) = script(lab, release, include_str!("drilldowns.sh"), request)?;
    let costs: BTreeMap<String, f64> = lines.into_iter().collect();
    println!("\nInstructions that a drill-down adds to an exit and its entry, Linux {kernel}, kvm_amd");
    println!("{:12} {:>22} {:>22}", "", "to one that it counts", "to one that it does not");
    for (noun, own) in DRILLDOWNS {
        let added = |operation: &str| {
            let of = |with: &str| {
                let key = format!("{with}/{noun}/{operation}");
                costs.get(&key).copied().with_context(|| format!("{key} is missing"))
            };
            anyhow::Ok((of("with")? - of("none")?) / NS_PER_INSTRUCTION)
        };
        let other = if noun == "cpuid" { "wrmsr" } else { "cpuid" };
        println!(
            "{noun:12} {:>22} {:>22}",
            format!("{own} {:+.0}", added(own)?),
            format!("{other} {:+.0}", added(other)?)
        );
    }
    let pipe = |name: &str| costs.get(name).copied().with_context(|| format!("{name} is missing"));
    let none = pipe("pipe/none")?;
    println!("\nInstructions that time adds to two wake-ups and two changes of thread of others");
    for (source, what) in [("pipe/raw", "raw tracepoints"), ("pipe/tracepoint", "classic tracepoints")] {
        println!("{what:35} {:>+8.0}", (pipe(source)? - none) * 1e3 / NS_PER_INSTRUCTION);
    }
    Ok(())
}

/// Operations that both can do, and how often a loop does them: long loops would hold up the host's own interrupts.
const REFERENCE: (&str, u32) = ("cpuid,hypercall,pio:kernel-in,pio:user-in,timer:arm,ipi:self", 25);

fn reference(lab: &Lab, release: &Release, suite: Suite) -> Result<()> {
    ui::step("timing operations in fenced brackets and in plain loops; a minute");
    let limits = Limits::whole(Duration::from_secs(30 * 60));
    let (ops, times) = REFERENCE;
    let command = format!(
        "{} bench --vcpus 1 --ops {ops} --reference {times} --samples 1000 -t 1m -o json",
        release.kvm_utils.display()
    );
    let command = command.split(' ').map(OsString::from).collect();
    let request = Request { suite, icount: true, smp: 1, limits, command, ..Request::default() };
    let mut report = None;
    let mut output = Output::Lines(&mut |line| {
        report = report.take().or_else(|| serde_json::from_str::<serde_json::Value>(line).ok());
        Ok(())
    });
    let outcome = lab.run(&request, &mut output)?;
    let report = report.with_context(|| format!("no report (exit status {})", outcome.status))?;
    println!("\nCycles per operation on Linux {}, kvm_amd, one instruction per 2 cycles", outcome.kernel);
    println!("{:28} {:>10} {:>10} {:>8}", "", "median", "loop", "ratio");
    for result in report["results"].as_array().into_iter().flatten() {
        let name = result["op"].as_str().unwrap_or_default();
        let number = |value: &serde_json::Value| {
            value.as_f64().with_context(|| format!("{name} has no figures: {}", result["reason"]))
        };
        let evidence = &result["evidence"];
        let each = number(&evidence["reference_cycles"])? / number(&evidence["reference_n"])?;
        let median = number(&result["p50"])?;
        println!("{name:28} {median:>10.0} {each:>10.0} {:>8.3}", median / each);
    }
    Ok(())
}

/// Runs an example that prints what it measures.
fn example(release: &Release, name: &str) -> Result<()> {
    let program = release.lab.with_file_name(name);
    print!("\n{}", process::capture(&mut Command::new(&program))?);
    Ok(())
}

fn start(lab: &Lab, release: &Release, suite: Suite) -> Result<()> {
    let request = Request { suite, ..Request::default() };
    let (kernel, lines) = script(lab, release, include_str!("start.sh"), request)?;
    let least = |name: &str| {
        let values = lines.iter().filter(|(n, _)| n == name).map(|(_, value)| *value);
        values.min_by(f64::total_cmp).with_context(|| format!("{name} is missing"))
    };
    let size = std::fs::metadata(&release.kvm_utils)?.len();
    println!(
        "\nStart to attached, fastest of five, Linux {kernel} under emulation: {:.0} ms",
        least("start")? / 1e3
    );
    println!("Memory of the process (VmHWM): {:.1} MiB", least("rss")? / 1024.0);
    println!("Size of the static program: {:.1} MiB", size as f64 / f64::from(1 << 20));
    Ok(())
}
