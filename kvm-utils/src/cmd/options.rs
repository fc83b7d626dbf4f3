//! Options that all drill-downs share.

use std::time::Duration;

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};

use super::baseline::Against;
use crate::{
    drilldown::{noun::Noun, report::Order},
    view::By,
};

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// A document per interval, each on a line
    Json,
    /// A line per VM, vCPU and reason, in each interval
    Csv,
}

/// Which VMs to trace.
#[derive(Args, Clone, Debug, Default)]
pub struct Which {
    /// Trace the VMs of this process; may be given several times
    #[arg(short, long = "pid", value_name = "PID", value_parser = pid, allow_negative_numbers = true, help_heading = WHAT)]
    pub pids: Vec<u32>,
    /// Trace the VMs of this name, UUID, pod, container or unit (* and ? are wildcards); may be given several times
    ///
    /// Besides its name, a VM answers to the UUID that its guest sees, and to what its manager calls it: the id of
    /// Firecracker, the number of Proxmox, the sandbox of Kata Containers. A pod (by its uid), a container (by its id, of
    /// which 12 digits suffice, or LXC's name), a machine (as machinectl lists it) or a unit (like web.service) stands
    /// for all VMs that run in it.
    #[arg(long = "vm", value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = WHAT)]
    pub vms: Vec<String>,
    /// Trace only this vCPU id; may be given several times
    #[arg(long = "vcpu", value_name = "N", value_parser = vcpu_id, allow_negative_numbers = true, help_heading = WHAT)]
    pub vcpus: Vec<u32>,
    /// Wait for the VMs named by --vm to start, instead of failing when there are none
    #[arg(long, requires = "vms", help_heading = WHAT)]
    pub wait: bool,
    /// Room for this many vCPUs at a time (default: four times what there are, at least 64)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536), help_heading = WHAT)]
    pub max_vcpus: Option<u32>,
}

/// How to show a report.
#[derive(Args, Clone, Debug)]
pub struct Look {
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table", help_heading = HOW)]
    pub output: Output,
    /// What a table is about
    #[arg(long, value_enum, value_name = "WHAT", default_value = "vm", help_heading = HOW)]
    pub by: By,
    /// Show only the first N rows of each table (default: all; 30 in the table of a drill-down)
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true, help_heading = HOW)]
    pub top: Option<u32>,
}

impl Look {
    /// Which rows of a drill-down to show, sorted by `sort`.
    #[must_use]
    pub fn order(&self, noun: &Noun, sort: &str) -> Order {
        let many = noun.build.is_some() && self.output == Output::Table;
        let top = self.top.or(many.then_some(TABLE_ROWS));
        Order { sort: sort.to_owned(), top: top.map(|n| n as usize) }
    }
}

/// Drill-downs may have thousands of rows; a table shows so many of them unless `--top` says otherwise.
const TABLE_ROWS: u32 = 30;

/// What to trace, for how long, and how to show it.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Which VMs.
    #[command(flatten)]
    pub which: Which,
    /// Time between reports: 500ms, 2s, 1m
    #[arg(short, long, value_name = "T", default_value = "1s", value_parser = duration, help_heading = WHEN)]
    pub interval: Duration,
    /// Stop after this time: 500ms, 10s, 1m (default: at Ctrl-C)
    #[arg(short, long, value_name = "T", value_parser = duration, help_heading = WHEN)]
    pub duration: Option<Duration>,
    /// Stop after this number of reports
    #[arg(short = 'n', long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true, conflicts_with = "duration",
          help_heading = WHEN)]
    pub count: Option<u32>,
    /// Report only the whole run, when it ends (with json: as well)
    #[arg(long, help_heading = WHEN)]
    pub summary: bool,
    /// How to show it.
    #[command(flatten)]
    pub look: Look,
    /// Exit with 1 unless the counts are beyond doubt
    #[arg(long, help_heading = TRUST)]
    pub strict: bool,
    /// What to hold it against.
    #[command(flatten)]
    pub against: Against,
}

/// What to trace.
pub const WHAT: &str = "What to trace";
/// When to report.
pub const WHEN: &str = "When to report";
/// How to show it.
pub const HOW: &str = "How to show it";
/// How to trace.
pub const TRUST: &str = "How to trace";

fn pid(text: &str) -> Result<u32, String> {
    match text.parse() {
        // pid_t is signed.
        Ok(pid) if (1..=i32::MAX as u32).contains(&pid) => Ok(pid),
        _ => Err("this is no process id; give the number that ps shows, or --vm NAME".to_owned()),
    }
}

fn vcpu_id(text: &str) -> Result<u32, String> {
    let most = kvm_utils_common::vcpu::MAX_VCPU_IDS - 1;
    text.parse()
        .ok()
        .filter(|id| *id <= most)
        .ok_or_else(|| format!("this is no vCPU id; give a number from 0 to {most}"))
}

fn at_least_one(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("give a whole number from 1 to {}", u32::MAX))
}

/// Parses `500ms`, `2s`, `1m`, `1.5s`; at least a millisecond, at most 366 days.
///
/// # Errors
///
/// A sentence that says what is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected =
        || "this is no duration; write a number and ms, s, m or h, like 500ms, 2s or 1m".to_owned();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(|| {
        if text.parse::<f64>().is_ok() {
            format!("the unit is missing; write {text}s or {text}ms")
        } else {
            expected()
        }
    })?;
    let (number, unit) = text.split_at(split);
    let seconds_per_unit = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(expected());
    }
    let seconds = number.parse::<f64>().map_err(|_| expected())? * seconds_per_unit;
    if seconds < 0.001 {
        return Err("too short; the shortest is 1ms".to_owned());
    }
    if seconds > 366.0 * 86400.0 {
        return Err("too long; the longest is 366 days (8784h)".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
    }

    #[test]
    fn bad_durations_say_what_to_write() {
        for bad in ["", "s", "5", "-1s", "1d", "1e3s", "nan", "1..2s", "inf s", "0s", "0.0001ms", "99999999h"]
        {
            let error = duration(bad).unwrap_err();
            assert!(
                error.contains("write") || error.contains("shortest") || error.contains("longest"),
                "{error}"
            );
        }
        assert!(duration("5").unwrap_err().contains("5s"));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_duration_or_a_sentence(text in "\\PC*") {
            let _ = duration(&text);
        }
    }
}
