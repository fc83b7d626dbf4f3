//! `kvm-utils selftest`: a guest of our own makes a known number of each exit, and the tracer must count exactly those.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, path::Path, process::ExitCode};

use clap::{Args as ClapArgs, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::trace::{Plan, base_settings, blocked, start};
use crate::{
    bpf::{
        caps::{fired_during, obstacle},
        source::SourceChoice,
    },
    decode::ExitReason,
    drilldown::{exits, report::Order},
    error::{CHECK_FAILED, Failure, HOST},
    host::SysRoot,
    model::{Report, Verdict},
    selftest::{Config, Host, Options, PhaseReport, Session as Guest, Vm, expect, plan},
    session::{Select, Session},
};

/// Formats of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// One document
    Json,
}

/// Check on a guest of known exits that each one is counted
///
/// Runs a small guest that makes a known number of each exit, and compares with what the tracer counts. Takes a second
/// or two, and needs /dev/kvm but no disk, network or device. Run this first on a new kernel.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  kvm-utils selftest                      expected and counted, side by side
  kvm-utils selftest --source tracepoint  with classic tracepoints
  kvm-utils selftest -o json              for a program

Exit codes: 0 every count is exact, 1 one is not, 2 usage, 3 this host cannot do
it (no root, no /dev/kvm, or a KVM that never fires kvm_exit).")]
pub struct Args {
    /// How to learn of exits
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto")]
    source: SourceChoice,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table")]
    output: Output,
}

/// One expectation of one phase.
struct Line {
    phase: String,
    class: &'static str,
    reasons: String,
    expected: u64,
    at_most: u64,
    counted: u64,
    agrees: bool,
}

/// Everything the check found.
struct Findings {
    lines: Vec<Line>,
    /// Phases with exits that nothing explains: phase, reason, count.
    unexplained: Vec<(String, String, u64)>,
    /// What the host added, by reason.
    background: BTreeMap<String, u64>,
    skipped: Vec<(String, String)>,
    summary: Report,
}

/// Runs the selftest.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(blocker) = obstacle(&SysRoot::default()) {
        return Err(blocked(blocker).0.into());
    }
    if !Path::new("/dev/kvm").exists() {
        return Err(Failure::host(
            "there is no /dev/kvm, without which no guest can be run: in a container, have the device passed in \
             (--device /dev/kvm); else look into the kernel log (dmesg) for what KVM says",
        )
        .into());
    }
    let mut settings = match base_settings(&exits::NOUN, args.source) {
        Err(_) if never_fires()? => {
            return Err(Failure::host(SILENT).into());
        }
        settings => settings?,
    };
    settings.tgids = vec![std::process::id()];
    let plan = Plan { noun: &exits::NOUN, sort: exits::NOUN.sort, source: args.source };
    let mut trace = start(&plan, &mut settings, &Select::default(), None)?;
    let findings = check(&mut trace)?;
    let silent = findings.summary.proof.counted == 0;
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Table => out.write_all(table(&findings, silent).as_bytes())?,
        Output::Json => writeln!(out, "{}", document(&findings, silent))?,
    }
    out.flush()?;
    Ok(if silent {
        ExitCode::from(HOST)
    } else if passed(&findings) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(CHECK_FAILED)
    })
}

/// Whether a guest of ours runs and kvm_exit does not fire, found out without knowing where anything lies in KVM.
fn never_fires() -> Result<bool, Failure> {
    let host = Host::detect();
    let plan = plan::standard(&host);
    let run = || -> Result<(), crate::selftest::Error> {
        let config = Config { fresh_pages: plan.fresh_pages(1), ..Config::default() };
        let mut guest = Guest::start(Vm::new(&config)?, &plan, Options::default())?;
        while guest.run_phase()?.is_some() {}
        Ok(())
    };
    match fired_during(run) {
        Ok((fired, ran)) => ran.map(|()| fired == 0).map_err(Failure::host),
        // Whatever is the matter, it is not this.
        Err(_) => Ok(false),
    }
}

fn passed(findings: &Findings) -> bool {
    findings.lines.iter().all(|line| line.agrees)
        && findings.unexplained.is_empty()
        && !matches!(findings.summary.proof.verdict(), Verdict::Doubtful(_))
}

/// Runs the guest phase by phase under `trace`.
fn check(trace: &mut Session) -> anyhow::Result<Findings> {
    let host = Host::detect();
    let plan = plan::standard(&host);
    let vm =
        Vm::new(&Config { fresh_pages: plan.fresh_pages(1), ..Config::default() }).map_err(Failure::host)?;
    let classes: BTreeMap<String, &'static str> =
        plan.phases.iter().map(|phase| (phase.name.clone(), phase.class.id())).collect();
    let mut guest = Guest::start(vm, &plan, Options::default()).map_err(Failure::host)?;
    let (mut lines, mut unexplained, mut background) = (Vec::new(), Vec::new(), BTreeMap::new());
    // What the vCPU did before its first phase.
    trace.interval_counts().map_err(Failure::host)?;
    while let Some(report) = guest.run_phase().map_err(Failure::host)? {
        let comparison = compare(trace, &host, &report)?;
        let name = |code: u32| ExitReason::new(host.isa, code).to_string();
        for row in comparison.rows {
            let agrees = row.agrees();
            lines.push(Line {
                phase: report.name.clone(),
                class: classes.get(&report.name).copied().unwrap_or("other"),
                // Which of the possible reasons it was, or all of them if there was none.
                reasons: row.expected.codes.iter().map(|code| name(*code)).collect::<Vec<_>>().join("|"),
                expected: row.expected.count,
                at_most: row.at_most,
                counted: row.counted,
                agrees,
            });
        }
        unexplained
            .extend(comparison.unexplained.iter().map(|(code, n)| (report.name.clone(), name(*code), *n)));
        for (code, n) in comparison.background {
            *background.entry(name(code)).or_default() += n;
        }
    }
    drop(guest);
    let order = Order { sort: "count".to_owned(), top: None };
    let summary = trace.summary(&order).map_err(Failure::host)?;
    Ok(Findings { lines, unexplained, background, skipped: plan.skipped, summary })
}

fn compare(trace: &mut Session, host: &Host, report: &PhaseReport) -> Result<expect::Comparison, Failure> {
    let mut counted = BTreeMap::new();
    for (code, count) in trace.interval_counts().map_err(Failure::host)? {
        // A pseudo code (unreadable, other) must not be taken for a real one.
        let number = code.reason().map_or(u32::MAX - 1, |reason| reason.basic());
        *counted.entry(number).or_default() += count;
    }
    Ok(expect::Comparison::new(host.isa, &expect::expected(host, report), &counted))
}

/// Why a host that counted nothing is no host for `exits`.
const SILENT: &str = "this KVM never fires kvm_exit: the guest ran and did its work, and not one event came. It is a KVM \
that traces no exits (out-of-tree PVM, for one), so `kvm-utils exits` cannot show anything here; run a KVM that is part \
of Linux";

fn verdict(findings: &Findings, silent: bool) -> String {
    if silent {
        return SILENT.to_owned();
    }
    let wrong = findings.lines.iter().filter(|line| !line.agrees).count() + findings.unexplained.len();
    if wrong > 0 {
        return format!(
            "FAILED: {wrong} counts differ. Do not trust `kvm-utils exits` on this kernel; please report this output."
        );
    }
    if let Verdict::Doubtful(doubts) = findings.summary.proof.verdict() {
        return format!("FAILED: {}", doubts.join("; "));
    }
    format!("ok: {} counts, all exact", findings.lines.len())
}

fn table(findings: &Findings, silent: bool) -> String {
    if silent {
        // Nothing was counted: there is one thing to say, not one for each operation.
        return format!("{}\n{}\n", origin(findings), verdict(findings, silent));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["OPERATION", "EXITS AS", "EXPECTED", "COUNTED", ""]);
    // Each phase ends with one port write of its own.
    let (ends, lines): (Vec<&Line>, Vec<&Line>) =
        findings.lines.iter().partition(|line| line.expected == 1 && line.agrees && line.at_most == 1);
    for line in lines {
        let expected = if line.at_most > line.expected {
            format!("{} to {}", line.expected, line.at_most)
        } else {
            line.expected.to_string()
        };
        let mark = if line.agrees { "ok" } else { "DIFFERS" };
        table.add_row([&line.phase, &line.reasons, &expected, &line.counted.to_string(), mark]);
    }
    for index in [2, 3] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text: String = table
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(&line).trim_end()))
        .collect();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "and {} single exits that end the phases, each counted", ends.len());
    for (phase, reason, count) in &findings.unexplained {
        let _ = writeln!(text, "unexplained during {phase}: {count} x {reason}");
    }
    let mut skipped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, why) in &findings.skipped {
        skipped.entry(why).or_default().push(name);
    }
    for (why, names) in skipped {
        let _ = writeln!(text, "skipped {}: {why}", names.join(", "));
    }
    if !findings.background.is_empty() {
        let list: Vec<String> = findings.background.iter().map(|(r, n)| format!("{n} x {r}")).collect();
        let _ = writeln!(text, "besides, from the host: {}", list.join(", "));
    }
    let _ = writeln!(text, "{}\n{}", origin(findings), verdict(findings, silent));
    text
}

fn origin(findings: &Findings) -> String {
    let Report { proof, host, .. } = &findings.summary;
    format!("source {}, kernel {}", proof.source, host.kernel)
}

fn document(findings: &Findings, silent: bool) -> Value {
    let lines: Vec<Value> = findings
        .lines
        .iter()
        .map(|line| {
            json!({"operation": line.phase, "class": line.class, "reasons": line.reasons, "expected": line.expected,
                   "at_most": line.at_most, "counted": line.counted, "ok": line.agrees})
        })
        .collect();
    let unexplained: Vec<Value> = findings
        .unexplained
        .iter()
        .map(|(phase, reason, count)| json!({"operation": phase, "reason": reason, "count": count}))
        .collect();
    let skipped: Vec<Value> =
        findings.skipped.iter().map(|(name, why)| json!({"operation": name, "why": why})).collect();
    json!({
        "schema": "kvm-utils/selftest/v1",
        "kernel": findings.summary.host.kernel,
        "isa": findings.summary.host.isa,
        "source": findings.summary.proof.source,
        "ok": !silent && passed(findings),
        "kvm_exit_fires": !silent,
        "verdict": verdict(findings, silent),
        "results": lines,
        "unexplained": unexplained,
        "background": findings.background,
        "skipped": skipped,
    })
}
