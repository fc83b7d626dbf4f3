//! Exits one by one: what is told and what is lost are together what is counted, to the exit and to the nanosecond.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use kvm_utils::{
    bpf::{
        events::ring_bytes,
        source::{self, SourceChoice},
        tracer::Settings,
    },
    drilldown::{
        exits::{self, rows::Code},
        sample::Sample,
    },
    model::{EventBatch, VcpuId},
    recording::events::{decode, encode},
    selftest::{Config, Operation, Phase, Plan, Step, Until, Vm, plan},
    session::{Select, Session},
};

use crate::check;
use crate::program::Guest;
use crate::registry::Context;
use crate::tracer::Source;

tracer_tests! {
    "events-every-operation", 120, every_operation;
    "events-lost-are-counted", 120, lost_are_counted;
    "events-records-used-again", 120, records_used_again;
    "events-of-wanted-vms-only", 60, of_wanted_vms_only;
    "events-off", 60, off;
}

/// More than any of these guests fills.
const PLENTY: u32 = 8 << 20;
/// The smallest ring buffer that there is: room for 102 exits.
const LITTLE: u32 = 4096;

/// A session that counts exits and tells them, and what it told.
struct Told {
    session: Session,
    batches: Vec<EventBatch>,
}

/// How many exits of one vCPU were told for one reason, and how long they took together, ns.
pub type Sums = BTreeMap<(VcpuId, Code), (u64, u64)>;

impl Told {
    fn start(source: Source, ring: Option<u32>, max_vcpus: u32, select: Select) -> Result<Self> {
        let choice = match source {
            Source::Raw => SourceChoice::Raw,
            Source::Classic => SourceChoice::Tracepoint,
        };
        let resolved = source::resolve(choice, exits::NOUN.hooks)?;
        let settings = Settings {
            source: resolved.source,
            mode: resolved.mode,
            layout: resolved.globals,
            exits: true,
            events: resolved.events,
            preempt_count: None,
            destroy_hook: true,
            functions: Vec::new(),
            row_bits: 0,
            counters: 0,
            runs: false,
            max_vcpus,
            tgids: Vec::new(),
            vcpu_ids: Vec::new(),
            pid_namespace: None,
            events_ring: ring,
        };
        let session = Session::start(&exits::NOUN, &settings, select, None)?;
        Ok(Self { session, batches: Vec::new() })
    }

    fn take(&mut self) -> Result<()> {
        let batch = self.session.take_events()?.context("no events although they were asked for")?;
        ensure!(decode(&encode(&batch))? == batch, "a batch is not what was encoded");
        let first = self.batches.last().map_or(batch.began_ns, |before| before.ended_ns);
        ensure!(batch.began_ns == first && batch.ended_ns > first, "batches do not follow each other");
        self.batches.push(batch);
        Ok(())
    }
}

/// Exits that were told.
pub fn told(batches: &[EventBatch]) -> u64 {
    batches.iter().map(EventBatch::told).sum()
}

/// Exits that were lost.
pub fn lost(batches: &[EventBatch]) -> u64 {
    batches.iter().map(EventBatch::lost).sum()
}

/// Sums up what was told, and checks that no vCPU is outside the guest twice at a time.
pub fn sums(batches: &[EventBatch]) -> Result<Sums> {
    let (mut sums, mut entered) = (Sums::new(), BTreeMap::<VcpuId, u64>::new());
    for batch in batches {
        for vcpu in &batch.vcpus {
            for event in &vcpu.events {
                let before = entered.entry(vcpu.id).or_insert(vcpu.id.since_ns);
                ensure!(event.began_ns >= *before, "{event:?} begins before {before}");
                *before = event.began_ns + event.took_ns;
                ensure!(*before <= batch.ended_ns, "{event:?} ends after its batch");
                let reason = &batch.reasons[event.reason as usize];
                let code = Code { isa: reason.isa, code: reason.code };
                let sum = sums.entry((vcpu.id, code)).or_default();
                *sum = (sum.0 + 1, sum.1 + event.took_ns);
            }
        }
    }
    Ok(sums)
}

/// The same sums as counted.
pub fn counted(sample: &Sample) -> Sums {
    let vcpus = sample.vms.iter().flat_map(|vm| &vm.vcpus);
    let exits = vcpus.flat_map(|vcpu| {
        let (slot, since_ns) = vcpu.key;
        let id = VcpuId { slot, since_ns };
        vcpu.exits.iter().map(move |(code, stats)| ((id, *code), (stats.timed, stats.total_ns)))
    });
    exits.filter(|(_, (timed, _))| *timed > 0).collect()
}

/// What was told is what was counted, per vCPU and reason, to the nanosecond.
pub fn ensure_same(batches: &[EventBatch], sample: &Sample) -> Result<Sums> {
    let (sums, counted) = (sums(batches)?, counted(sample));
    ensure!(sums == counted, "told {sums:?}, counted {counted:?}");
    ensure!(lost(batches) == 0, "{} of {} lost", lost(batches), told(batches));
    Ok(sums)
}

/// Exits that are over, and had a beginning.
pub fn over(sample: &Sample) -> u64 {
    counted(sample).values().map(|(timed, _)| timed).sum()
}

fn one_phase(text: &str) -> Result<Plan> {
    Ok(Plan { phases: vec![Phase::parse(text)?], skipped: Vec::new() })
}

/// Everything that a guest can do, from its first exit on: per vCPU and reason the same number and the same time.
fn every_operation(_: &Context, source: Source) -> Result<()> {
    let host = check::host()?;
    let plan = plan::standard(&host);
    let mut told = Told::start(source, Some(PLENTY), 64, Select::default())?;
    let mut guest = check::start(&plan, Config { vcpus: 2, ..Config::default() }, check::options())?;
    while guest.run_phase()?.is_some() {
        told.take()?;
    }
    // Both vCPUs stand outside the guest now, so nothing changes between the two.
    told.take()?;
    let sample = told.session.interval_sample()?;
    ensure_same(&told.batches, &sample)?;
    let all: u64 = sample
        .vms
        .iter()
        .flat_map(|vm| &vm.vcpus)
        .flat_map(|vcpu| vcpu.exits.values())
        .map(|s| s.count)
        .sum();
    let running =
        sample.vms.iter().flat_map(|vm| &vm.vcpus).filter(|vcpu| vcpu.running.is_some()).count() as u64;
    let unpaired: u64 = sample.vms.iter().flat_map(|vm| &vm.vcpus).map(|vcpu| vcpu.unpaired.0).sum();
    eprintln!(
        "  told {}, in progress {running}, unpaired {unpaired}, counted {all}",
        self::told(&told.batches)
    );
    ensure!(
        running == 2 && self::told(&told.batches) + running + unpaired == all,
        "{} and {running} of {all}",
        self::told(&told.batches)
    );

    let vms: Vec<_> = told.batches.iter().flat_map(|batch| &batch.vms).map(|vm| vm.pid).collect();
    ensure!(!vms.is_empty() && vms.iter().all(|pid| *pid == std::process::id()), "{vms:?}");
    for batch in &told.batches {
        for vcpu in &batch.vcpus {
            let id = vcpu.vcpu.context("a vCPU without id")?;
            let tid = guest.thread_of(id).context("a vCPU without thread")?;
            ensure!(u32::try_from(tid) == Ok(vcpu.tid), "vCPU {id} ran on {tid}, not {}", vcpu.tid);
        }
    }
    Ok(())
}

/// Many exits, little room, and nobody who empties it: what was told is true, and the rest is counted.
fn lost_are_counted(_: &Context, source: Source) -> Result<()> {
    const EXITS: u64 = 10_007;
    let mut told = Told::start(source, Some(LITTLE), 64, Select::default())?;
    let plan = one_phase(&format!("cpuid={EXITS}"))?;
    let mut guest = check::start(&plan, Config { vcpus: 2, ..Config::default() }, check::options())?;
    told.take()?;
    while guest.run_phase()?.is_some() {}
    told.take()?;
    // There is room again, and it is used.
    let room = u64::from(ring_bytes(LITTLE)) / 40;
    let told_then = told.batches.last().map_or(0, EventBatch::told);
    ensure!((room / 2..=room).contains(&told_then), "{told_then} exits in a ring that has room for {room}");
    let sample = told.session.interval_sample()?;
    let (told_all, lost, over) = (self::told(&told.batches), lost(&told.batches), over(&sample));
    eprintln!("  told {told_all}, lost {lost}, counted {over}");
    ensure!(lost > 2 * EXITS - 2 * room && told_all + lost == over, "{told_all} and {lost} of {over}");
    let counted = counted(&sample);
    for (key, (count, took)) in sums(&told.batches)? {
        let (all, total) = counted.get(&key).copied().unwrap_or_default();
        ensure!(
            count <= all && took <= total,
            "{key:?}: told {count} in {took} ns, counted {all} in {total}"
        );
    }
    // Each vCPU's losses are its own.
    for vcpu in sample.vms.iter().flat_map(|vm| &vm.vcpus) {
        let timed: u64 = vcpu.exits.values().map(|stats| stats.timed).sum();
        let batches = told.batches.iter().flat_map(|batch| &batch.vcpus);
        let mine = batches.filter(|of| (of.id.slot, of.id.since_ns) == vcpu.key);
        let sum: u64 = mine.map(|of| of.events.len() as u64 + of.lost).sum();
        ensure!(sum == timed, "vCPU {:?}: told and lost {sum} of {timed}", vcpu.id);
    }
    Ok(())
}

/// There is room for two vCPUs, and many come one after the other, each with another number of exits.
fn records_used_again(_: &Context, source: Source) -> Result<()> {
    const COUNTS: [u64; 12] = [11, 53, 13, 47, 17, 43, 19, 41, 23, 37, 29, 31];
    let cpuid = |code: &Code| code.reason().is_some_and(|reason| reason.class().id() == "cpuid");
    let mut told = Told::start(source, Some(PLENTY), 2, Select::default())?;
    for (nth, count) in COUNTS.into_iter().enumerate() {
        let step = Step::new(Operation::Cpuid { leaf: 0 }, count);
        // Where nobody tells of a vCPU's end, its thread has to end.
        let run = move || -> Result<()> {
            for mut vcpu in Vm::new(&Config::default())?.into_vcpus() {
                vcpu.load(&[step])?;
                vcpu.run(Until::BatchEnd)?;
            }
            Ok(())
        };
        std::thread::spawn(run).join().map_err(|_| anyhow::anyhow!("a thread with a VM crashed"))??;
        // Its record is free for the next: sometimes before anybody has asked for its exits.
        told.session.housekeep()?;
        if nth % 3 == 0 {
            told.take()?;
        }
    }
    told.take()?;
    let mut by_vcpu = BTreeMap::<u64, u64>::new();
    for ((id, code), (count, _)) in sums(&told.batches)? {
        if cpuid(&code) {
            *by_vcpu.entry(id.since_ns).or_default() += count;
        }
    }
    // In the order in which they were first seen.
    let counts: Vec<u64> = by_vcpu.into_values().collect();
    ensure!(lost(&told.batches) == 0 && counts == COUNTS, "{counts:?}, {} lost", lost(&told.batches));
    Ok(())
}

/// One of two processes: the other's exits go through the ring buffer as well until it is known whose they are.
fn of_wanted_vms_only(_: &Context, source: Source) -> Result<()> {
    let mut guests = [
        Guest::start(&["--vcpus", "2", "--op", "cpuid=2003"])?,
        Guest::start(&["--vcpus", "2", "--op", "cpuid=1999"])?,
    ];
    let wanted = guests[0].pid();
    let select =
        Select { pids: vec![wanted], names: vec!["none-is-called-so-*".to_owned()], ..Select::default() };
    let mut told = Told::start(source, Some(PLENTY), 64, select)?;
    for guest in &mut guests {
        guest.go()?;
        guest.phases()?;
    }
    told.session.housekeep()?;
    told.session.housekeep()?;
    told.take()?;
    let sample = told.session.interval_sample()?;
    ensure!(
        sums(&told.batches)? == counted(&sample) && self::told(&told.batches) >= 2 * 2003,
        "{:?}",
        sums(&told.batches)?
    );
    let pids: Vec<u32> = told.batches.iter().flat_map(|batch| &batch.vms).map(|vm| vm.pid).collect();
    ensure!(pids == [wanted], "{pids:?}, wanted {wanted}");
    guests.into_iter().try_for_each(|guest| guest.end().map(|_| ()))
}

/// Who does not ask is told nothing.
fn off(_: &Context, source: Source) -> Result<()> {
    let mut told = Told::start(source, None, 64, Select::default())?;
    let mut guest = check::start(&one_phase("cpuid=1009")?, Config::default(), check::options())?;
    while guest.run_phase()?.is_some() {}
    ensure!(told.session.take_events()?.is_none() && told.session.events_pace().is_none());
    let sample = told.session.interval_sample()?;
    ensure!(over(&sample) > 1009, "{sample:?}");
    Ok(())
}
