//! `kvm-utils report`: shows a recording in all ways that a live run can be shown.

mod page;
mod perfetto;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{
    Args as ClapArgs,
    builder::{NonEmptyStringValueParser, PossibleValuesParser},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    options::{HOW, Look, Output, TRUST, WHAT, duration},
    printer::Printer,
    rip,
    trace::verdict,
};
use crate::{
    drilldown::{
        noun::{Aids, Noun},
        registry::names,
        report::Order,
        sample::Sample,
    },
    error::{Failure, say},
    model::Verdict,
    recording::{Recording, Series},
    view::{json::rfc3339, units},
};

/// Show a recording: tables, JSON, CSV, a page; all of it or a part
///
/// Shows the sums over what `kvm-utils record` wrote, or over a part of that time, for each of its drill-downs, or those
/// that are named. With --intervals it shows the intervals one after the other, as a live run would have.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  kvm-utils report day.kvmrec                        all that was recorded
  kvm-utils report day.kvmrec exits --by vcpu        one drill-down, per vCPU
  kvm-utils report day.kvmrec --from 2h --to 3h      the third hour
  kvm-utils report day.kvmrec --from 2026-11-26T08:00:00Z
  kvm-utils report day.kvmrec --intervals -i 10m -o json
  kvm-utils report day.kvmrec --html                 a page to look at: day.html
  kvm-utils report day.kvmrec --list                 what is in it
  kvm-utils report web.kvmrec --perfetto web.pftrace for ui.perfetto.dev

Exit codes: 0 ok, 1 --strict and the counts are in doubt, 2 usage, 3 the file
cannot be read.")]
pub struct Args {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only these drill-downs (default: all that were recorded)
    #[arg(value_name = "NOUN", value_parser = PossibleValuesParser::new(names()), hide_possible_values = true)]
    nouns: Vec<String>,
    /// Write a page to look at, for any browser: rates over time, durations, where time went, tables; to this file
    /// (default: beside the recording), `-` is standard output
    #[arg(long, value_name = "PAGE", num_args = 0..=1, conflicts_with_all = ["list", "intervals", "output", "by"],
          help_heading = HOW)]
    html: Option<Option<PathBuf>>,
    /// Say what was recorded, and no more
    #[arg(long)]
    list: bool,
    /// Only the VMs of this name, UUID, pod, container or unit (* and ? are wildcards); may be given several times
    #[arg(long = "vm", value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = WHAT)]
    vms: Vec<String>,
    /// Only this vCPU id; may be given several times
    #[arg(long = "vcpu", value_name = "N", help_heading = WHAT)]
    vcpus: Vec<u32>,
    /// From this time on: 90s, 2h after the beginning, or 2026-11-26T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = When::parse, help_heading = WHEN)]
    from: Option<When>,
    /// Up to this time
    #[arg(long, value_name = "TIME", value_parser = When::parse, help_heading = WHEN)]
    to: Option<When>,
    /// Show the intervals, one after the other
    #[arg(long, help_heading = WHEN)]
    intervals: bool,
    /// Put successive intervals together, to at least this time each
    #[arg(short, long, value_name = "T", value_parser = duration, requires = "intervals", help_heading = WHEN)]
    interval: Option<Duration>,
    /// Write the exits that were kept one by one (record --events) to this file, as a trace for ui.perfetto.dev
    ///
    /// A process for each VM, a thread for each vCPU, a slice for each exit; where there is none, the vCPU is in the guest. Exits
    /// that there was no room for are counted on a track of their own. With - as the file it goes to standard output.
    #[arg(long, value_name = "TRACE", conflicts_with_all = ["nouns", "list", "intervals", "output", "by", "top", "sort", "strict"],
          help_heading = HOW)]
    perfetto: Option<PathBuf>,
    #[command(flatten)]
    look: Look,
    /// Sort rows by this column (default: each drill-down's own)
    #[arg(long, value_name = "COLUMN", help_heading = HOW)]
    sort: Option<String>,
    #[command(flatten)]
    reading: rip::Reading,
    /// Exit with 1 unless the counts are beyond doubt
    #[arg(long, help_heading = TRUST)]
    strict: bool,
}

const WHEN: &str = "Which time";

/// A moment of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// So long after its beginning.
    After(Duration),
    /// By the clock.
    At(SystemTime),
}

impl When {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
            return Ok(Self::At(time.into()));
        }
        if text == "0" {
            return Ok(Self::After(Duration::ZERO));
        }
        duration(text)
            .map(Self::After)
            .map_err(|why| format!("{why}; or a time of day as JSON has it, like 2026-11-26T08:00:00Z"))
    }

    fn after(self, began: SystemTime) -> SystemTime {
        match self {
            Self::After(time) => began + time,
            Self::At(time) => time,
        }
    }
}

/// Shows it.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut recording = Recording::open(&args.file).map_err(Failure::host)?;
    for note in &recording.notes {
        say(note);
    }
    if args.list {
        return list(&recording);
    }
    if let Some(path) = &args.perfetto {
        return perfetto::write(args, &recording, path);
    }
    let wanted = wanted(args, &recording)?;
    cut(args, &mut recording)?;
    let aids = args.reading.aids()?;
    if let Some(named) = &args.html {
        return html(args, &recording, &wanted, &aids, named.as_deref());
    }
    let mut printer = Printer::in_a_row(&args.look);
    let mut code = ExitCode::SUCCESS;
    for (series, order) in recording.series.iter().filter_map(|series| {
        let (_, order) = wanted.iter().find(|(noun, _)| std::ptr::eq(*noun, series.noun))?;
        Some((series, order))
    }) {
        let Some(whole) = series.whole() else { continue };
        if args.intervals {
            for sample in together(series, args.interval.unwrap_or_default()) {
                printer.show(&recording.report(&sample, order, &aids))?;
            }
        }
        let summary = recording.report(&whole, order, &aids);
        if !args.intervals || args.look.output == Output::Table {
            printer.show(&summary)?;
        }
        if args.strict && matches!(summary.proof.verdict(), Verdict::Doubtful(_)) {
            code = verdict(true, &summary);
        }
    }
    Ok(code)
}

/// Writes the page.
fn html(
    args: &Args,
    recording: &Recording,
    wanted: &[(&'static Noun, Order)],
    aids: &Aids,
    named: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let to = page::target(&args.file, named)?;
    // The page knows how many rows it has room for.
    let top = args.look.top.map(|n| n as usize);
    let wanted: Vec<(&'static Noun, Order)> =
        wanted.iter().map(|(noun, order)| (*noun, Order { top, ..order.clone() })).collect();
    let series: Vec<(&Series, &Order)> = recording
        .series
        .iter()
        .filter_map(|series| {
            let (_, order) = wanted.iter().find(|(noun, _)| std::ptr::eq(*noun, series.noun))?;
            Some((series, order))
        })
        .collect();
    let mut code = ExitCode::SUCCESS;
    for whole in page::write(recording, &series, aids, &to)? {
        if args.strict && matches!(whole.proof.verdict(), Verdict::Doubtful(_)) {
            code = verdict(true, &whole);
        }
    }
    Ok(code)
}

/// Which drill-downs to show, and in which order their rows.
fn wanted(args: &Args, recording: &Recording) -> Result<Vec<(&'static Noun, Order)>, Failure> {
    let there: Vec<&str> = recording.series.iter().map(|series| series.noun.name).collect();
    if let Some(missing) = args.nouns.iter().find(|name| !there.contains(&name.as_str())) {
        return Err(Failure::usage(format!(
            "`{missing}` was not recorded, only {}; record it with --with {missing}",
            there.join(", ")
        )));
    }
    let nouns: Vec<&'static Noun> = recording
        .series
        .iter()
        .map(|series| series.noun)
        .filter(|noun| args.nouns.is_empty() || args.nouns.iter().any(|name| name == noun.name))
        .collect();
    if args.look.output == Output::Csv && nouns.len() > 1 {
        return Err(Failure::usage(format!(
            "CSV is one table, and there are several drill-downs here: name one of {}",
            there.join(", ")
        )));
    }
    if let Some(sort) = &args.sort
        && !nouns.iter().any(|noun| noun.columns.iter().any(|column| column.id == sort))
    {
        let ids: Vec<&str> = nouns.iter().flat_map(|noun| noun.columns).map(|column| column.id).collect();
        let near = crate::host::names::near(sort, ids);
        let hint =
            if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) };
        return Err(Failure::usage(format!("no drill-down shown has a column `{sort}`{hint}")));
    }
    let order = |noun: &'static Noun| {
        let own = args.sort.as_deref().filter(|sort| noun.columns.iter().any(|column| column.id == *sort));
        (noun, args.look.order(noun, own.unwrap_or(noun.sort)))
    };
    Ok(nouns.into_iter().map(order).collect())
}

/// Leaves out what is not of the time, the VMs and the vCPUs that are wanted.
fn cut(args: &Args, recording: &mut Recording) -> Result<(), Failure> {
    let (began, ended) = recording.span();
    let from = args.from.map_or(began, |when| when.after(began));
    let to = args.to.map_or(ended, |when| when.after(began));
    for series in &mut recording.series {
        series.samples = series.between(from, to).to_vec();
    }
    if recording.series.iter().all(|series| series.samples.is_empty()) {
        let time = |time| rfc3339(time).unwrap_or_else(|| "?".to_owned());
        return Err(Failure::usage(format!(
            "there is no interval between {} and {}: the recording is of {} to {}",
            time(from),
            time(to),
            time(began),
            time(ended)
        )));
    }
    if !args.vms.is_empty() || !args.vcpus.is_empty() {
        let mut found = false;
        for sample in recording.series.iter_mut().flat_map(|series| &mut series.samples) {
            found |= sample.keep_only(
                &|vm| args.vms.is_empty() || args.vms.iter().any(|name| vm.answers(name)),
                &|id| args.vcpus.is_empty() || id.is_some_and(|id| args.vcpus.contains(&id)),
            );
        }
        if !found {
            let vms = recording.fingerprint().facts.remove("vms").unwrap_or_default();
            return Err(Failure::usage(format!("none of the VMs or vCPUs that were recorded fits: {vms}")));
        }
    }
    Ok(())
}

/// Intervals of at least this length.
fn together(series: &Series, least: Duration) -> Vec<Sample> {
    let mut all: Vec<Sample> = Vec::new();
    for sample in &series.samples {
        match all.last_mut() {
            Some(last) if last.interval < least => last.follow(sample),
            _ => all.push(sample.clone()),
        }
    }
    for sample in &mut all {
        sample.scope = crate::drilldown::sample::Scope::Interval;
    }
    all
}

/// Says what was recorded.
fn list(recording: &Recording) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let (began, ended) = recording.span();
    let time = |time| rfc3339(time).unwrap_or_else(|| "?".to_owned());
    let length = ended.duration_since(began).unwrap_or_default();
    writeln!(out, "from {} to {}, {}", time(began), time(ended), units::interval(length.as_secs_f64()))?;
    if !recording.header.command.is_empty() {
        let words: Vec<String> =
            recording.header.command.iter().map(|word| crate::view::text::safe(word, true)).collect();
        writeln!(out, "command {}", words.join(" "))?;
    }
    for series in &recording.series {
        let events = series.whole().map_or(0, |whole| {
            recording.report(&whole, &Order::of(series.noun), &crate::drilldown::noun::NO_AIDS).events
        });
        let (one, many) = series.noun.counting;
        let intervals = units::counted(series.samples.len() as u64, "interval", "intervals");
        writeln!(out, "{:10} {intervals}, {}", series.noun.name, units::counted(events, one, many))?;
    }
    for (name, value) in recording.fingerprint().facts {
        writeln!(
            out,
            "{} = {}",
            crate::view::text::safe(&name, true),
            crate::view::text::safe(&value, true)
        )?;
    }
    if !recording.events.is_empty() {
        let (mut told, mut lost) = (0, 0);
        for batch in recording.batches() {
            let batch = batch.map_err(Failure::host)?;
            (told, lost) = (told + batch.told(), lost + batch.lost());
        }
        let lost = if lost > 0 { format!(", {} lost", units::count(lost)) } else { String::new() };
        writeln!(out, "{:10} {}{lost}", "one by one", units::counted(told, "exit", "exits"))?;
    }
    writeln!(out, "tool = {}", crate::view::text::safe(&recording.header.tool, true))?;
    let asked = Duration::from_nanos(recording.header.interval);
    writeln!(out, "interval = {}", units::interval(asked.as_secs_f64()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::wire;

    #[test]
    fn a_moment_is_a_time_after_the_beginning_or_by_the_clock() {
        let began = wire::time(1_795_170_896_000_000_000);
        assert_eq!(When::parse("90s").unwrap().after(began), began + Duration::from_secs(90));
        assert_eq!(When::parse("0").unwrap().after(began), began);
        let at = When::parse("2026-11-20T11:34:56+01:00").unwrap();
        assert_eq!(at.after(began), wire::time(1_795_170_896_000_000_000));
        let error = When::parse("noon").unwrap_err();
        assert!(error.contains("2s") && error.contains("08:00:00Z"), "{error}");
    }
}
