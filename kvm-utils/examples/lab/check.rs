//! Running a plan and comparing each phase with a counter.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Result, bail};
use kvm_utils::decode::{ExitReason, Isa};
use kvm_utils::selftest::expect::{self, Comparison, Expected};
use kvm_utils::selftest::{Config, Host, Options, PhaseReport, Plan, Session, Vm};

use crate::reference::{Counter, Counts, Scope};

/// The host, if it has exits that can be predicted.
pub fn host() -> Result<Host> {
    let host = Host::detect();
    if let Isa::Other(_) = host.isa {
        bail!("this kernel's KVM is neither kvm_intel nor kvm_amd: load one of them");
    }
    Ok(host)
}

/// Ends a phase that hangs before the test's own time is over, so that the report says where.
pub fn options() -> Options {
    Options { limit: Duration::from_secs(20), ..Options::default() }
}

/// Creates a virtual machine for a plan and warms it up.
pub fn start(plan: &Plan, config: Config, options: Options) -> Result<Session> {
    let config = Config { fresh_pages: plan.fresh_pages(config.vcpus), ..config };
    Ok(Session::start(Vm::new(&config)?, plan, options)?)
}

/// Compares expectations with what the reference counted, and shows both on standard error.
pub fn compare(name: &str, isa: Isa, expected: &[Expected], counts: &Counts) -> bool {
    let comparison = Comparison::new(isa, expected, &counts.reasons);
    let agrees = comparison.agrees() && counts.other() == 0;
    eprintln!("{}", line(name, isa, &comparison, counts.other(), agrees));
    agrees
}

fn line(name: &str, isa: Isa, comparison: &Comparison, other: u64, agrees: bool) -> String {
    let reason = |code: &u32| ExitReason::new(isa, *code).name();
    let mut text = format!("  {name:16} {}", if agrees { "equal " } else { "DIFFER" });
    for row in &comparison.rows {
        let mut names: Vec<_> = row.by_code.keys().map(reason).collect();
        if names.is_empty() {
            names = row.expected.codes.iter().map(reason).collect();
        }
        let more =
            if row.at_most > row.expected.count { format!("..={}", row.at_most) } else { String::new() };
        let _ = write!(text, "  {} {}{more} = {}", names.join("+"), row.expected.count, row.counted);
    }
    for (title, counts) in [("background", &comparison.background), ("UNEXPLAINED", &comparison.unexplained)]
    {
        for (code, count) in counts {
            let _ = write!(text, "  {title} {} {count}", reason(code));
        }
    }
    if other > 0 {
        let _ = write!(text, "  UNEXPLAINED without a name {other}");
    }
    text
}

/// Runs every phase between two readings of a counter of the whole system; fails if any phase differs.
pub fn every_phase(host: &Host, session: &mut Session) -> Result<Vec<PhaseReport>> {
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let mut before = counter.read()?;
    let (mut reports, mut different) = (Vec::new(), Vec::new());
    while let Some(report) = session.run_phase()? {
        let now = counter.read()?;
        if !compare(&report.name, host.isa, &expect::expected(host, &report), &now.since(&before)) {
            different.push(report.name.clone());
        }
        before = now;
        reports.push(report);
    }
    if different.is_empty() {
        return Ok(reports);
    }
    bail!("expected and counted exits differ in {}", different.join(", "));
}
