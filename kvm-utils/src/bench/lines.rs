//! What the payload printed, as the same measurements that `kvm-bench` makes in a Linux guest.

use kvm_bench::measure::supervisor::{Measured, Status};
use kvm_bench::measure::worker::Ready;
use kvm_bench::measure::{Round, round::Pairs};
use kvm_bench::ops::{Refusal, Spec};
use serde::Deserialize;
use serde_json::Value;

/// All lines of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// The guest as it sees itself.
    pub environment: Value,
    /// Each operation, in the order of the list of all operations.
    pub results: Vec<Measured>,
    /// The payload came to its end.
    pub done: bool,
    /// What it said of an exception that ended it.
    pub fatal: Option<Value>,
    /// What it said last that was about an operation.
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

/// Reads them; what is no line of the payload is left out.
#[must_use]
pub fn read(lines: &[String]) -> Heard {
    let mut heard = Heard::default();
    for line in lines {
        let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
        if let Some(environment) = value.get("environment") {
            heard.environment.clone_from(environment);
        } else if let Some(fatal) = value.get("fatal") {
            heard.fatal = Some(fatal.clone());
        } else if value.get("done").is_some() {
            heard.done = true;
        } else if let Some(title) = take(&mut heard.results, value) {
            heard.last = Some(title);
        }
    }
    let place = |one: &Measured| kvm_bench::shared::ops::OPS.iter().position(|op| op.name == one.spec.op);
    heard.results.sort_by_key(|one| place(one).unwrap_or(usize::MAX));
    heard
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_an_operation_come_together_and_the_rest_says_why_not() {
        let lines = [
            r#"{"kvm_bench":"payload/v1","environment":{"boot":"pvh","cpus":2}}"#,
            "garbage",
            r#"{"op":"msr:read","args":{"index":"0x3b"},"skipped":{"reason":"no","hint":"none","vector":13}}"#,
            r#"{"op":"cpuid","args":{"leaf":"0x0"},"ready":{"overhead":52,"quantum":26,"repeat":1},"all":[[100,7]],"rejected":{},"evidence":{}}"#,
            r#"{"op":"cpuid","args":{"leaf":"0x0"},"ready":{"overhead":52,"quantum":26,"repeat":1},"all":[[100,7],[9000,1]],"clean":[[100,7]],"rejected":{"steal":1},"evidence":{},"doubt":"odd"}"#,
            r#"{"op":"eoi","args":{},"failed":"it ended in exception 13"}"#,
            r#"{"done":true}"#,
        ];
        let heard = read(&lines.map(str::to_owned));
        assert!(heard.done && heard.fatal.is_none());
        assert_eq!(heard.environment["cpus"], 2);
        let [cpuid, msr, eoi] = &heard.results[..] else { panic!("{:?}", heard.results) };
        assert_eq!((cpuid.rounds.len(), cpuid.rounds[0].clean.len(), cpuid.ready.overhead), (2, 1, 52));
        assert_eq!(cpuid.status, Status::Suspect("odd".to_owned()));
        assert_eq!(msr.status, Status::Skipped("no".to_owned(), "none".to_owned()));
        assert!(matches!(&eoi.status, Status::Failed(why) if why.contains("exception 13")));
        assert_eq!(heard.last.as_deref(), Some("eoi"));
    }
}
