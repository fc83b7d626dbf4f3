//! What the freestanding payload printed on its serial port, as the same report that `kvm-bench` makes in a Linux guest.
//!
//! One JSON document per line. The first has `kvm_bench`, `environment` and `tsc`; then comes one line per operation and round, or one that says
//! why there is none; the last is `{"done":true}`. Anything else (a firmware's words, a loader's) is left out.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::measure::round::{Pairs, Round};
use crate::measure::supervisor::{Measured, Status};
use crate::measure::tsc::Tsc;
use crate::measure::worker::Ready;
use crate::nature::{self, Signs};
use crate::ops::{Refusal, Spec};
use crate::report::Report;
use crate::shared::ops::OPS;
use crate::stats::{Scale, Summary};

/// Name and version of the form, `kvm_bench` of the first line.
pub const SCHEMA: &str = "payload/v1";

/// Why there is no report.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// There is no first line.
    #[error(
        "the payload said nothing: it did not start, or its serial port (COM1, 0x3f8) is not what was read"
    )]
    Silent,
    /// Another version of the payload wrote it.
    #[error("the payload speaks {0:?}, not {SCHEMA:?}; use the payload and the program of one version")]
    Version(String),
    /// It did not find out how fast its counter runs, and nobody else said.
    #[error(
        "the payload could not tell how fast the time-stamp counter runs: no CPUID leaf says so, and neither an 8254 nor an ACPI PM timer \
        answered; start it with tsc_khz= on its command line"
    )]
    Frequency,
}

/// All lines of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// The guest as it sees itself.
    pub environment: Value,
    /// Its time-stamp counter; None when it could not find its frequency.
    pub tsc: Option<Tsc>,
    /// Each operation, in the order of the list of all operations.
    pub results: Vec<Measured>,
    /// The payload came to its end.
    pub done: bool,
    /// What it said of an exception that ended it.
    pub fatal: Option<Value>,
    /// The operation that it spoke of last.
    pub last: Option<String>,
}

/// A line about an operation: a round, or why there is none.
#[derive(Deserialize)]
struct Line {
    #[serde(flatten)]
    spec: Spec,
    ready: Option<Ready>,
    /// The same as `all` where it is not there.
    clean: Option<Pairs>,
    skipped: Option<Refusal>,
    failed: Option<String>,
}

/// What the first line says of the counter.
#[derive(Deserialize)]
struct Counter {
    hz: Option<u64>,
    source: Option<String>,
    error_ppm: u64,
    invariant: bool,
}

/// Who may have told the payload how fast its counter runs.
const SOURCES: [&str; 5] = ["CPUID 0x40000010", "CPUID 0x15", "8254", "ACPI PM timer", "command line"];

/// Reads all lines.
///
/// # Errors
/// When there is no first line, or one of another version. What is cut off behind it is what `done` and `fatal` are for.
pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Heard, Error> {
    let mut heard = None;
    for line in lines {
        let Ok(value) = serde_json::from_str::<Value>(line.trim()) else { continue };
        if let Some(schema) = value["kvm_bench"].as_str() {
            if schema != SCHEMA {
                return Err(Error::Version(schema.to_owned()));
            }
            let mut environment = value["environment"].clone();
            environment["kernel"] = json!("none: the freestanding payload");
            let tsc = Counter::deserialize(&value["tsc"]).ok().and_then(Counter::known);
            // It may have been started anew, by a VMM that does not take a reset for the end: what came last counts.
            heard = Some(Heard { environment, tsc, ..Heard::default() });
            continue;
        }
        let Some(heard) = &mut heard else { continue };
        if let Some(fatal) = value.get("fatal") {
            heard.fatal = Some(fatal.clone());
        } else if value.get("done").is_some() {
            heard.done = true;
        } else if let Some(title) = take(&mut heard.results, value) {
            heard.last = Some(title);
        }
    }
    let mut heard = heard.ok_or(Error::Silent)?;
    let place = |one: &Measured| OPS.iter().position(|op| op.name == one.spec.op).unwrap_or(usize::MAX);
    heard.results = heard.results.into_iter().map(Measured::conclude).collect();
    heard.results.sort_by_key(|one| (place(one), one.spec.title()));
    heard.describe();
    Ok(heard)
}

/// Takes one line over; the operation's title.
fn take(results: &mut Vec<Measured>, mut value: Value) -> Option<String> {
    let line = Line::deserialize(&value).ok()?;
    let index = results.iter().position(|one| one.spec == line.spec).unwrap_or_else(|| {
        let (spec, status) = (line.spec.clone(), Status::Ok);
        results.push(Measured { spec, status, ready: Ready::default(), rounds: Vec::new() });
        results.len() - 1
    });
    let one = results.get_mut(index)?;
    if let Some(refusal) = line.skipped {
        one.status = Status::Skipped(refusal.reason, refusal.hint);
    } else if let Some(why) = line.failed {
        one.status = Status::Failed(why);
    } else if let Some(ready) = line.ready {
        if line.clean.is_none() {
            value["clean"] = value["all"].clone();
        }
        let round = Round::deserialize(&value).ok()?;
        if let (Some(doubt), Status::Ok) = (&round.doubt, &one.status) {
            one.status = Status::Suspect(doubt.clone());
        }
        one.ready = ready;
        one.rounds.push(round);
    }
    Some(one.spec.title())
}

impl Counter {
    fn known(self) -> Option<Tsc> {
        let mut untrusted = Vec::new();
        if !self.invariant {
            untrusted
                .push("CPUID does not say that it runs at one speed in all states (invariant TSC)".into());
        }
        let source = self.source?;
        let source = SOURCES.into_iter().find(|known| *known == source).unwrap_or("the payload");
        Some(Tsc { hz: self.hz?, source, error_ppm: self.error_ppm, invariant: self.invariant, untrusted })
    }
}

impl Heard {
    /// Says of the machine what a Linux guest says of it.
    fn describe(&mut self) {
        let text = |name: &str| self.environment[name].as_str().map(str::to_owned);
        let cpuid = self.results.iter().find(|one| one.spec.op == "cpuid").and_then(|one| {
            let rounds: Vec<_> = one.rounds.iter().map(|round| &round.all).collect();
            Summary::of(&rounds, Scale::Net(one.ready))
        });
        let nature = nature::find(&Signs {
            hypervisor: text("hypervisor"),
            cmdline: "",
            cpu: &text("cpu").unwrap_or_default(),
            log: None,
            cpuid_cycles: cpuid.map(|summary| summary.min as u64),
        });
        self.environment["kind"] = json!(nature.kind);
        self.environment["guess"] = json!(nature.guess);
        self.environment["exit_costs"] = json!(nature.exit_costs);
    }

    /// The report. `tsc` is what the host knows of the guest's counter; it goes before what the guest found.
    ///
    /// # Errors
    /// When nobody knows how fast the counter runs.
    pub fn report(self, tsc: Option<Tsc>) -> Result<Report, Error> {
        let tsc = tsc.or(self.tsc).ok_or(Error::Frequency)?;
        let mut environment = self.environment;
        if let Some(fatal) = &self.fatal {
            environment["fatal"] = fatal.clone();
        }
        let mut report = Report { environment, tsc, results: self.results, interrupted: !self.done };
        report.judge_tsc();
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"{"kvm_bench":"payload/v1","environment":{"hypervisor":"KVMKVMKVM","cpu":"x","cpus":2},"tsc":{"hz":2000000000,"source":"8254","error_ppm":7,"invariant":true}}"#;
    const ROUND: &str = r#"{"op":"cpuid","args":{"leaf":"0x0"},"ready":{"overhead":52,"quantum":26,"repeat":1},"all":[[1000,7],[9000,1]],"clean":[[1000,7]],"rejected":{"steal":1},"evidence":{},"doubt":"odd"}"#;

    #[test]
    fn rounds_of_an_operation_come_together_and_the_rest_says_why_not() {
        let lines = [
            "SeaBIOS",
            FIRST,
            r#"{"op":"msr:read","args":{"index":"0x3b"},"skipped":{"reason":"no","vector":13,"hint":"none"}}"#,
            r#"{"op":"cpuid","args":{"leaf":"0x0"},"ready":{"overhead":52,"quantum":26,"repeat":1},"all":[[1000,7]],"rejected":{},"evidence":{}}"#,
            ROUND,
            r#"{"op":"eoi","args":{},"failed":"it ended in exception 13"}"#,
            r#"{"op":"hlt","args":{},"ready":{"overhe"#,
            r#"{"done":true}"#,
        ];
        let heard = read(lines).unwrap();
        assert!(heard.done && heard.fatal.is_none());
        assert_eq!(heard.last.as_deref(), Some("eoi"));
        let report = heard.report(None).unwrap();
        assert_eq!((report.tsc.hz, report.tsc.source, report.interrupted), (2_000_000_000, "8254", false));
        assert_eq!(
            (&report.environment["kind"], &report.environment["exit_costs"]),
            (&json!("guest"), &json!(true))
        );
        let [cpuid, msr, eoi] = &report.results[..] else { panic!("{:?}", report.results) };
        assert_eq!((cpuid.rounds.len(), cpuid.rounds[0].clean.len(), cpuid.rounds[1].samples()), (2, 1, 8));
        assert_eq!(cpuid.status, Status::Suspect("odd".to_owned()));
        assert_eq!(msr.status, Status::Skipped("no".to_owned(), "none".to_owned()));
        assert!(matches!(&eoi.status, Status::Failed(why) if why.contains("exception 13")));
    }

    #[test]
    fn where_every_sample_was_disturbed_figures_are_of_all_and_suspect() {
        let round = r#"{"op":"eoi","args":{},"ready":{"overhead":52,"quantum":26,"repeat":1},"all":[[1052,3]],"clean":[],"rejected":{"steal":3},"evidence":{}}"#;
        let report = read([FIRST, round, r#"{"done":true}"#]).unwrap().report(None).unwrap();
        let Status::Suspect(why) = &report.results[0].status else { panic!() };
        assert!(why.contains("(stolen time)"), "{why}");
        let document = crate::report::json::document(&report).unwrap();
        assert_eq!(
            (&document["results"][0]["p50"], &document["results"][0]["n"]),
            (&json!(1000.0), &json!(3))
        );
        let table = crate::report::table::text(&report);
        assert!(table.contains("SUSPECT eoi") && table.contains(" 0.0%"), "{table}");
    }

    #[test]
    fn a_run_that_was_cut_off_says_so_and_one_that_began_anew_counts_once() {
        let heard = read([FIRST, ROUND, FIRST, ROUND, r#"{"fatal":{"reason":"exception"}}"#]).unwrap();
        assert_eq!((heard.results.len(), heard.results[0].rounds.len()), (1, 1));
        let report = heard.report(None).unwrap();
        assert!(report.interrupted);
        assert_eq!(report.environment["fatal"]["reason"], "exception");
    }

    #[test]
    fn what_is_no_report_is_an_error_with_a_remedy() {
        assert_eq!(read(["", "SeaBIOS"]), Err(Error::Silent));
        assert_eq!(read([r#"{"kvm_bench":"payload/v9"}"#]), Err(Error::Version("payload/v9".to_owned())));
        let unknown = r#"{"kvm_bench":"payload/v1","environment":{},"tsc":{"hz":null,"source":null,"error_ppm":0,"invariant":false}}"#;
        let Err(Error::Frequency) = read([unknown]).unwrap().report(None) else { panic!() };
    }
}
