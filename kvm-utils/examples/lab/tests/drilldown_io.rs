//! io says which ports and registers guests access, how often, who answers, and how long that takes.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Config, Operation, Phase, Plan};
use serde_json::Value;

use super::tracer_linux::boot;
use crate::check;
use crate::drilldown::Summary;
use crate::reference::EventCounter;
use crate::registry::Context;
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "io-known-numbers", 60, known_numbers;
    "io-untimed-pages", 60, untimed_pages;
    "io-doorbell", 60, doorbell;
    "io-linux-guest", 300, linux_guest;
    "io-acpi-pm-timer", 300, acpi_pm_timer;
    "io-names-of-qemu", 300, names_of_qemu;
    "io-monitor-in-use", 300, monitor_in_use;
}

/// The interrupt mask of the first 8259, which KVM emulates.
const PIC_MASK: u16 = 0x21;
/// Edge/level control of the first 8259, which KVM emulates.
const ELCR: u16 = 0x4d0;
/// Where no device of KVM answers.
const USER_PORT: u16 = 0x1234;
const USER_ADDRESS: u32 = 0xd000_0000;
/// The LAPIC timer's current count, and its divider.
const LAPIC_READ: u32 = 0xfee0_0390;
const LAPIC_WRITE: u32 = 0xfee0_03e0;
/// Bytes of a string instruction.
const STRING: u64 = 64;

/// Operation, how often, and where it is shown: address, direction, and the share that the VMM answers.
type Known = (Operation, u64, u32, &'static str, f64);

fn known() -> Vec<Known> {
    let input = |port| Operation::PortIn { port };
    let output = |port| Operation::PortOut { port, value: 0 };
    let read = |address| Operation::MmioRead { address };
    let write = |address| Operation::MmioWrite { address, value: 0 };
    vec![
        (input(PIC_MASK), 211, PIC_MASK.into(), "in", 0.0),
        (output(ELCR), 223, ELCR.into(), "out", 0.0),
        (input(USER_PORT), 227, USER_PORT.into(), "in", 1.0),
        (output(USER_PORT), 229, USER_PORT.into(), "out", 1.0),
        (read(USER_ADDRESS), 127, USER_ADDRESS, "read", 1.0),
        (write(USER_ADDRESS), 131, USER_ADDRESS, "write", 1.0),
        (read(LAPIC_READ), 137, LAPIC_READ, "read", 0.0),
        (write(LAPIC_WRITE), 139, LAPIC_WRITE, "write", 0.0),
    ]
}

/// String instructions: port, how often, direction, and events of each. The kernel reads ahead; it writes bytes one by one,
/// in one exit as long as it takes them itself.
const STRINGS: [(u16, u64, &str, u64); 4] = [
    (USER_PORT + 1, 13, "in", 1),
    (PIC_MASK + 0x80, 11, "in", 1),
    (USER_PORT + 2, 7, "out", STRING),
    (ELCR + 1, 5, "out", STRING),
];

fn plan() -> Plan {
    let phase = |operation, count| Phase::new(format!("{operation:?}"), Class::Io, operation, count);
    let mut phases: Vec<Phase> =
        known().into_iter().map(|(operation, count, ..)| phase(operation, count)).collect();
    let bytes = STRING as u16;
    phases.extend(STRINGS.map(|(port, count, dir, _)| match dir {
        "in" => phase(Operation::PortInString { port, bytes }, count),
        _ => phase(Operation::PortOutString { port, bytes }, count),
    }));
    Plan { phases, skipped: Vec::new() }
}

/// Counts of perf: ports, memory and doorbells, all events; of memory also reads that were not answered.
struct Perf([EventCounter; 3]);

impl Perf {
    fn new() -> Result<Self> {
        Ok(Self([
            EventCounter::new("kvm_pio", &[])?,
            EventCounter::new("kvm_mmio", &["type == 0"])?,
            EventCounter::new("kvm_fast_mmio", &[])?,
        ]))
    }

    /// All events, and the unanswered reads among them.
    fn read(&self) -> Result<(u64, u64)> {
        let [ports, memory, doorbells] = &self.0;
        let memory = memory.read()?;
        Ok((ports.read()?[0] + memory[0] + doorbells.read()?[0], memory[1]))
    }
}

/// The sums are those of perf: each event, and each access, of which an unanswered read is none.
fn ensure_equals(summary: &Summary, (all, unanswered): (u64, u64)) -> Result<()> {
    let ours = (summary.sum("events", &[]), summary.count());
    eprintln!("  events and accesses {ours:?}, perf {:?}", (all, all - unanswered));
    ensure!(ours == (all, all - unanswered), "{ours:?}, perf {all} with {unanswered} unanswered reads");
    Ok(())
}

fn row<'a>(summary: &'a Summary, address: &str, dir: &str) -> Result<&'a Value> {
    let found: Vec<&Value> =
        summary.totals().into_iter().filter(|row| row["address"] == address && row["dir"] == dir).collect();
    ensure!(found.len() == 1, "{} rows for {dir} {address}: {}", found.len(), summary.value());
    Ok(found[0])
}

fn known_numbers(context: &Context, source: Source) -> Result<()> {
    let mut session = check::start(&plan(), Config::default(), check::options())?;
    let perf = Perf::new()?;
    let tracer = Tracer::start_noun(context, "io", source, &["-i", "300ms"])?;
    let before = perf.read()?;
    while session.run_phase()?.is_some() {}
    let summary = tracer.stop_noun()?;
    let now = perf.read()?;
    ensure_equals(&summary, (now.0 - before.0, now.1 - before.1))?;
    for (operation, count, address, dir, vmm) in known() {
        let row = row(&summary, &format!("{address:#x}"), dir)?;
        ensure!(row["count"] == count && row["units"] == count, "{operation}: {row}");
        ensure!(row["address_value"] == address, "{row}");
        ensure!(row["vmm_share"].as_f64() == Some(vmm), "{operation}: {row}");
        let answered_late = dir == "read" && vmm > 0.0;
        ensure!(row["events"] == if answered_late { 2 * count } else { count }, "{operation}: {row}");
        // Each is one exit; a string instruction or an entry without exit could only make it fewer.
        ensure!(row["timed"] == count, "{operation}: {row}");
        let (mean, max) = (row["mean_ns"].as_u64().unwrap_or(0), row["max_ns"].as_u64().unwrap_or(0));
        ensure!(mean > 0 && mean <= max && row["total_ns"].as_u64() >= Some(max), "{operation}: {row}");
    }
    for (port, count, dir, events) in STRINGS {
        let row = row(&summary, &format!("{port:#x}"), dir)?;
        ensure!(row["count"] == count * events && row["units"] == count * STRING, "{dir} {port:#x}: {row}");
    }
    // The kernel's own device takes all bytes of an instruction in one exit.
    ensure!(row(&summary, &format!("{:#x}", ELCR + 1), "out")?["timed"] == 5, "{}", summary.value());
    let vm = summary.vm_of(std::process::id())?;
    ensure!(vm["vcpus"][0]["vcpu"] == 0 && vm["count"] == summary.count(), "{vm}");
    Ok(())
}

/// By page, and without exits and entries: the same counts, no times.
fn untimed_pages(context: &Context, source: Source) -> Result<()> {
    let mut session = check::start(&plan(), Config::default(), check::options())?;
    let perf = Perf::new()?;
    let tracer = Tracer::start_noun(context, "io", source, &["--no-time", "--pages"])?;
    let before = perf.read()?;
    while session.run_phase()?.is_some() {}
    let summary = tracer.stop_noun()?;
    let now = perf.read()?;
    ensure_equals(&summary, (now.0 - before.0, now.1 - before.1))?;
    for (address, dir, count) in [
        ("0x21", "in", 211),
        ("0x1234", "out", 229),
        ("0xd0000xxx", "read", 127),
        ("0xd0000xxx", "write", 131),
        ("0xfee00xxx", "read", 137),
        ("0xfee00xxx", "write", 139),
    ] {
        let row = row(&summary, address, dir)?;
        ensure!(row["count"] == count, "{row}");
        ensure!(row["mean_ns"].is_null() && row["timed"] == 0 && row["time_share"].is_null(), "{row}");
    }
    // Of reads the events themselves tell who answered.
    ensure!(row(&summary, "0xd0000xxx", "read")?["vmm_share"] == 1.0, "{}", summary.value());
    ensure!(row(&summary, "0xd0000xxx", "write")?["vmm_share"].is_null(), "{}", summary.value());
    Ok(())
}

/// Writes that only ring an eventfd, as the kicks of virtio devices: KVM does them itself, on Intel without looking at them,
/// which fires an event of another name.
fn doorbell(context: &Context, source: Source) -> Result<()> {
    const ADDRESS: u32 = USER_ADDRESS + 0x2000;
    let write = Operation::MmioWrite { address: ADDRESS, value: 7 };
    let plan = Plan { phases: vec![Phase::new("doorbell", Class::Mmio, write, 173)], skipped: Vec::new() };
    let mut session = check::start(&plan, Config::default(), check::options())?;
    let eventfd = session.doorbell_eventfd(ADDRESS.into())?;
    let fast = EventCounter::new("kvm_fast_mmio", &[])?;
    let perf = Perf::new()?;
    let tracer = Tracer::start_noun(context, "io", source, &[])?;
    let (before, fast_before) = (perf.read()?, fast.read()?[0]);
    while session.run_phase()?.is_some() {}
    let summary = tracer.stop_noun()?;
    let (now, fast) = (perf.read()?, fast.read()?[0] - fast_before);
    ensure_equals(&summary, (now.0 - before.0, now.1 - before.1))?;
    let row = row(&summary, &format!("{ADDRESS:#x}"), "write")?;
    ensure!(row["count"] == 173 && row["events"] == 173 && row["timed"] == 173, "{row}");
    ensure!(row["vmm_share"] == 0.0, "the VMM got it: {row}");
    eprintln!("  {fast} fast");
    ensure!(if fast > 0 { fast == 173 && row["size"].is_null() } else { row["size"] == 4 }, "{fast}: {row}");
    let mut rung = [0; 8];
    rustix::io::read(&eventfd, &mut rung)?;
    ensure!(u64::from_ne_bytes(rung) == 173, "rung {} times", u64::from_ne_bytes(rung));
    Ok(())
}

/// A Linux guest: what perf counts.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    let perf = Perf::new()?;
    let tracer = Tracer::start_noun(context, "io", source, &[])?;
    let before = perf.read()?;
    let pid = boot(context, "lab-io", &[], "work=boot")?;
    let summary = tracer.stop_noun()?;
    let now = perf.read()?;
    ensure_equals(&summary, (now.0 - before.0, now.1 - before.1))?;
    let vm = summary.vm_of(pid)?;
    ensure!(vm["name"] == "lab-io" && vm["ended"] == true, "{vm}");
    // The firmware reads QEMU's configuration by string instructions.
    let strings = row(&summary, "0x511", "in")?;
    ensure!(strings["units"].as_u64() > strings["count"].as_u64(), "{strings}");
    Ok(())
}

/// Seconds for which the guest asks for the time.
const ASKS_FOR_S: u64 = 4;
/// Times a second that it does so at least, with two vCPUs and in an emulator: it would be far more elsewhere.
const AT_LEAST_PER_S: u64 = 250;

/// A guest whose clock is the ACPI PM timer: the time that a program asks for is a port of QEMU's.
fn acpi_pm_timer(context: &Context, source: Source) -> Result<()> {
    let tracer = Tracer::start_noun(context, "io", source, &["--sort", "total_ns"])?;
    let words = format!("clocksource=acpi_pm work=clock work_seconds={ASKS_FOR_S}");
    boot(context, "lab-clock", &[], &words)?;
    let summary = tracer.stop_noun()?;
    let timer = row(&summary, "0x608", "in")?;
    eprintln!("  {timer}");
    ensure!(timer["count"].as_u64() >= Some(AT_LEAST_PER_S * ASKS_FOR_S), "{timer}");
    ensure!(timer["share"].as_f64() > Some(0.5) && timer["vmm_share"] == 1.0, "{timer}");
    ensure!(timer["size"] == 4 && timer["mean_ns"].as_u64() > Some(0), "{timer}");
    ensure!(summary.totals().first().is_some_and(|row| row["address"] == "0x608"), "{}", summary.value());
    Ok(())
}

/// QEMU's options for a monitor at this path.
fn monitor(path: &std::path::Path) -> [String; 2] {
    ["-qmp".to_owned(), format!("unix:{},server=on,wait=off", path.display())]
}

/// The sentence in the notes that says where names come from.
fn note_of<'a>(summary: &'a Summary, part: &str) -> Result<&'a str> {
    let notes = summary.value()["notes"].as_array().into_iter().flatten();
    let found = notes.filter_map(Value::as_str).find(|note| note.contains(part));
    found.ok_or_else(|| anyhow::anyhow!("no note with {part:?}: {}", summary.value()["notes"]))
}

/// QEMU's monitor is free: devices are called what QEMU calls them.
fn names_of_qemu(context: &Context, source: Source) -> Result<()> {
    let path = socket("free");
    let tracer = Tracer::start_noun(context, "io", source, &[])?;
    let [option, value] = monitor(&path);
    boot(context, "lab-names", &[&option, &value], "work=12")?;
    let summary = tracer.stop_noun()?;
    ensure!(!path.exists() || std::fs::remove_file(&path).is_ok(), "{} stays", path.display());
    note_of(&summary, "devices of lab-names are named by QEMU itself")?;
    // Linux reads the PM timer when it starts, and the RTC in each turn of its work.
    ensure!(row(&summary, "0x608", "in")?["device"] == "acpi-tmr", "{}", summary.value());
    ensure!(row(&summary, "0x71", "in")?["device"] == "rtc", "{}", summary.value());
    // Registers that are the same everywhere say more.
    ensure!(row(&summary, "0xfec00010", "read")?["device"] == "IOAPIC window", "{}", summary.value());
    Ok(())
}

/// Somebody else uses the monitor: it is left alone, and that is said.
fn monitor_in_use(context: &Context, source: Source) -> Result<()> {
    let path = socket("busy");
    let over = Arc::new(AtomicBool::new(false));
    let client = thread::spawn({
        let (path, over) = (path.clone(), Arc::clone(&over));
        move || {
            let mut client = None;
            while !over.load(Ordering::Relaxed) {
                client = client.or_else(|| UnixStream::connect(&path).ok());
                thread::sleep(Duration::from_millis(1));
            }
            client.is_some()
        }
    });
    let tracer = Tracer::start_noun(context, "io", source, &[])?;
    let [option, value] = monitor(&path);
    let booted = boot(context, "lab-busy", &[&option, &value], "work=2");
    over.store(true, Ordering::Relaxed);
    let connected = client.join().unwrap_or(false);
    let summary = tracer.stop_noun()?;
    booted?;
    ensure!(connected, "nobody could connect to {}", path.display());
    let note = note_of(&summary, "well-known device names only, lab-busy")?;
    ensure!(note.contains("another client has QEMU's monitor"), "{note}");
    ensure!(row(&summary, "0x608", "in")?["device"] == "ACPI PM timer", "{}", summary.value());
    Ok(())
}

fn socket(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("lab-{name}-{}", std::process::id()))
}
