//! Exits one by one from the kernel through a recording to a trace, as a user has them.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use kvm_utils::{
    drilldown::sample::Sample,
    model::EventBatch,
    recording::Recording,
    selftest::{Config, Phase, Plan, plan},
};
use prost::Message as _;

use super::exit_events::{Sums, ensure_same, lost, over, sums, told};
use super::tracer_linux::boot;
use crate::check;
use crate::registry::Context;
use crate::tracer::{self, Source, Tracer};

/// Perfetto's messages as the unit tests read them.
#[path = "../../../src/view/perfetto/tests/messages.rs"]
#[allow(dead_code)]
mod messages;

tracer_tests! {
    "events-recorded", 120, recorded;
    "events-recorded-with-gaps", 120, recorded_with_gaps;
    "events-linux-guest", 300, linux_guest;
}

/// A recording with exits one by one.
struct Recorded {
    batches: Vec<EventBatch>,
    /// The whole run as counted.
    sample: Sample,
    /// What `record` said.
    said: String,
    path: PathBuf,
}

impl Recorded {
    /// Runs `record --events` with these options while `guest` does what it does.
    fn of(
        context: &Context,
        source: Source,
        options: &[&str],
        guest: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("lab-events-{}.kvmrec", std::process::id()));
        let file = path.to_str().context("an odd name for a directory")?;
        let words = ["record", "--events", "-i", "300ms", "-o", file, "--source", source.option()];
        let mut recorder = Tracer::spawn_words(context, &[&words, options].concat())?;
        recorder.await_line("attached (")?;
        guest()?;
        let said = recorder.stop_saying()?;
        let recording = Recording::open(&path)?;
        ensure!(recording.notes.is_empty() && recording.series.len() == 1, "{:?}", recording.notes);
        let batches = recording.batches().collect::<Result<_, _>>()?;
        let series = &recording.series[0];
        let sample = series.over(&series.samples).context("nothing was recorded")?;
        Ok(Self { batches, sample, said, path })
    }

    /// The slices of the trace that `report --perfetto` makes of it, by name, what it says was lost, and what was said.
    fn trace(&self, context: &Context, options: &[&str]) -> Result<(BTreeMap<String, u64>, i64, String)> {
        let trace = self.path.with_extension("pftrace");
        let mut command = tracer::command(context)?;
        command.arg("report").arg(&self.path).arg("--perfetto").arg(&trace).args(options);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && output.stdout.is_empty(), "{}: {said}", output.status);
        let trace = messages::TraceProto::decode(std::fs::read(&trace)?.as_slice())?;
        let (mut slices, mut lost) = (BTreeMap::new(), None);
        let mut names = BTreeMap::<(u32, u64), String>::new();
        for packet in trace.packet {
            let sequence = packet.trusted_packet_sequence_id.context("a packet of no sequence")?;
            for name in packet.interned_data.into_iter().flat_map(|data| data.event_names) {
                let iid = name.iid.context("a name without number")?;
                names.insert((sequence, iid), name.name.context("a name without text")?);
            }
            if let Some(iid) = packet.track_event.and_then(|event| event.name_iid) {
                let name = names.get(&(sequence, iid)).context("a slice without name")?;
                *slices.entry(name.clone()).or_default() += 1;
            }
            for one in packet.trace_attributes.into_iter().flat_map(|all| all.attribute) {
                if one.key.as_deref() == Some("exits_lost") {
                    lost = one.long_value;
                }
            }
        }
        Ok((slices, lost.context("nothing is said of losses")?, said))
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // The lab's files are gone with it anyway.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(self.path.with_extension("pftrace"));
    }
}

/// Exits by the name that their slices have.
fn by_name(sums: &Sums) -> BTreeMap<String, u64> {
    let mut names = BTreeMap::new();
    for ((_, code), (count, _)) in sums {
        let waiting = if code.is_waiting() { " (waiting)" } else { "" };
        *names.entry(format!("{}{waiting}", code.name())).or_default() += count;
    }
    names
}

/// Every exit is a slice.
fn recorded(context: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let recorded = Recorded::of(context, source, &[], || {
        let config = Config { vcpus: 2, ..Config::default() };
        let mut guest = check::start(&plan::standard(&host), config, check::options())?;
        while guest.run_phase()?.is_some() {}
        Ok(())
    })?;
    let sums = ensure_same(&recorded.batches, &recorded.sample)?;
    let said = &recorded.said;
    ensure!(said.contains("exits are in it one by one") && !said.contains("no room"), "{said}");
    let (slices, lost, said) = recorded.trace(context, &[])?;
    ensure!(slices == by_name(&sums) && lost == 0, "{slices:?}, {lost} lost, of {sums:?}");
    ensure!(said.contains("ui.perfetto.dev") && !said.contains("missing"), "{said}");
    let waiting = slices.iter().filter(|(name, _)| name.contains("(waiting)")).count();
    ensure!(waiting == 1 && slices.values().sum::<u64>() == told(&recorded.batches), "{slices:?}");

    // One vCPU only.
    let of_one: Vec<_> = recorded.batches.iter().flat_map(|batch| &batch.vcpus).collect();
    let of_one: u64 = of_one.iter().filter(|of| of.vcpu == Some(1)).map(|of| of.events.len() as u64).sum();
    let (slices, ..) = recorded.trace(context, &["--vcpu", "1"])?;
    ensure!(of_one > 0 && slices.values().sum::<u64>() == of_one, "{slices:?}, not {of_one}");
    // A time of which there is nothing.
    let mut command = tracer::command(context)?;
    command.arg("report").arg(&recorded.path).args(["--perfetto", "-", "--to", "2000-01-01T00:00:00Z"]);
    let output = command.output()?;
    ensure!(output.status.code() == Some(2) && output.stdout.is_empty(), "{output:?}");
    Ok(())
}

/// With too little room the rest is counted, in the file and in the trace.
fn recorded_with_gaps(context: &Context, source: Source) -> Result<()> {
    const EXITS: u64 = 20_011;
    let recorded = Recorded::of(context, source, &["--events-buffer", "4K"], || {
        let plan = Plan { phases: vec![Phase::parse(&format!("cpuid={EXITS}"))?], skipped: Vec::new() };
        let mut guest = check::start(&plan, Config { vcpus: 2, ..Config::default() }, check::options())?;
        while guest.run_phase()?.is_some() {}
        Ok(())
    })?;
    let (told, missing) = (told(&recorded.batches), lost(&recorded.batches));
    let over = over(&recorded.sample);
    eprintln!("  told {told}, lost {missing}, counted {over}");
    ensure!(over > 2 * EXITS && told + missing == over && missing > 0, "{told} and {missing} of {over}");
    let said = &recorded.said;
    ensure!(said.contains("there was no room for them") && said.contains("--events-buffer"), "{said}");
    let (slices, lost, said) = recorded.trace(context, &[])?;
    ensure!(slices == by_name(&sums(&recorded.batches)?), "{slices:?}");
    ensure!(lost.cast_unsigned() == missing && said.contains("are missing in it"), "{lost}: {said}");
    Ok(())
}

/// Linux under QEMU, from its first exit to its end.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    let recorded = Recorded::of(context, source, &[], || {
        boot(context, "lab-events", &[], "work=boot")?;
        Ok(())
    })?;
    let sums = ensure_same(&recorded.batches, &recorded.sample)?;
    let vms: Vec<_> =
        recorded.batches.iter().flat_map(|batch| &batch.vms).map(|vm| vm.name.as_str()).collect();
    ensure!(vms.iter().all(|name| *name == "lab-events"), "{vms:?}");
    let (slices, ..) = recorded.trace(context, &["--vm", "lab-events"])?;
    ensure!(slices == by_name(&sums) && slices.len() > 5, "{slices:?} of {sums:?}");
    let bytes = std::fs::metadata(&recorded.path)?.len();
    eprintln!("  {} exits in a recording of {bytes} bytes", told(&recorded.batches));
    Ok(())
}
