//! `kvm-utils report --perfetto`: exits one by one as a trace.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufWriter, IsTerminal as _, Write, stdout},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;

use super::Args;
use crate::{
    error::{Failure, say},
    model::{EventBatch, EventVcpu, EventVm, Vm},
    recording::{Recording, events::EventsError, wire::time},
    view::{
        json::rfc3339,
        perfetto::{Perfetto, Written},
        units,
    },
};

/// Writes it, and says what is in it.
pub(super) fn write(args: &Args, recording: &Recording, to: &Path) -> anyhow::Result<ExitCode> {
    if recording.events.is_empty() {
        return Err(Failure::usage(
            "the exits of this recording are only counted, not kept one by one: record with --events",
        )
        .into());
    }
    let wanted = Wanted::new(args, recording);
    let batches = || recording.batches().map(|batch| wanted.of(batch));
    // As far as the first that has something.
    let mut some = false;
    for batch in batches() {
        some = !batch.map_err(Failure::host)?.is_empty();
        if some {
            break;
        }
    }
    if !some && wanted.some {
        return Err(Failure::usage(
            "no exit of this recording is of that time, VM and vCPU; --list shows what is in it",
        )
        .into());
    }
    let about = about(recording);
    let standard = to == Path::new("-");
    let written = if standard {
        if stdout().is_terminal() {
            return Err(Failure::usage(
                "a trace is nothing to read: name a file, or give standard output another reader",
            )
            .into());
        }
        put(BufWriter::new(stdout().lock()), about, batches())?
    } else {
        let file = File::create(to)
            .map_err(|error| Failure::host(format!("cannot write {}: {error}", to.display())))?;
        put(BufWriter::new(file), about, batches())
            .with_context(|| format!("cannot write {}", to.display()))?
    };
    if !standard {
        let exits = units::counted(written.told, "exit", "exits");
        say(format_args!("{exits} in {}: open it at ui.perfetto.dev", to.display()));
    }
    if written.lost > 0 {
        let (lost, all) = (units::count(written.lost), units::count(written.told + written.lost));
        say(format_args!(
            "{lost} of {all} exits are missing in it, the tracks `exits lost` show where: record with more --events-buffer"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn put<W: Write>(
    out: W,
    about: BTreeMap<String, String>,
    batches: impl Iterator<Item = Result<EventBatch, EventsError>>,
) -> anyhow::Result<Written> {
    let mut trace = Perfetto::new(out, about);
    for batch in batches {
        trace.batch(&batch.map_err(Failure::host)?)?;
    }
    Ok(trace.finish()?)
}

/// What the trace says of the run.
fn about(recording: &Recording) -> BTreeMap<String, String> {
    let mut about = recording.fingerprint().facts;
    about.insert("tool".to_owned(), format!("kvm-utils {}", recording.header.tool));
    if !recording.header.command.is_empty() {
        about.insert("command".to_owned(), recording.header.command.join(" "));
    }
    if let Some(began) = rfc3339(time(recording.header.began)) {
        about.insert("began".to_owned(), began);
    }
    about
}

/// Which exits are wanted.
struct Wanted<'a> {
    args: &'a Args,
    /// Whether only some are.
    some: bool,
    vms: HashMap<u64, &'a Vm>,
    recording: &'a Recording,
}

impl<'a> Wanted<'a> {
    fn new(args: &'a Args, recording: &'a Recording) -> Self {
        // Exits are told by the drill-down `exits` only, whose VMs have the same numbers.
        let exits = recording.series.iter().filter(|series| series.noun.build.is_none());
        let vms = exits.flat_map(|series| &series.samples).flat_map(|sample| &sample.vms);
        let some = args.from.is_some() || args.to.is_some() || !args.vms.is_empty() || !args.vcpus.is_empty();
        Self { args, some, vms: vms.map(|vm| (vm.serial, &vm.who)).collect(), recording }
    }

    fn of(&self, batch: Result<EventBatch, EventsError>) -> Result<EventBatch, EventsError> {
        let mut batch = batch?;
        if self.some {
            let began = time(self.recording.header.began);
            let at = |when: super::When| batch.monotonic(when.after(began));
            let (from, to) = (self.args.from.map_or(0, at), self.args.to.map_or(u64::MAX, at));
            batch.keep_only(&|vm, vcpu| self.fits(vm, vcpu), from, to);
        }
        Ok(batch)
    }

    fn fits(&self, vm: &EventVm, vcpu: &EventVcpu) -> bool {
        let (vms, vcpus) = (&self.args.vms, &self.args.vcpus);
        let answers = |name: &String| match self.vms.get(&vm.serial) {
            Some(known) => known.answers(name),
            // It was not there yet when the recording was cut off: there is no more than its name.
            None => *name == vm.name,
        };
        (vms.is_empty() || vms.iter().any(answers))
            && (vcpus.is_empty() || vcpu.vcpu.is_some_and(|id| vcpus.contains(&id)))
    }
}
