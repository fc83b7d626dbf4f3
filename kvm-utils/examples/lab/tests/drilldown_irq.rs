//! irq tells every interrupt event of KVM, and where it came.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Apic, Config, Operation, Phase, Plan, Session, Step, Work, expect};
use serde_json::{Value, json};

use super::tracer_linux::boot;
use crate::aio::Reader;
use crate::check;
use crate::drilldown::{Summary, sum};
use crate::reference::EventCounter;
use crate::registry::{Context, Test, Verdict};
use crate::tracer::{Source, Tracer};

tracer_tests! {
    "irq-known-numbers", 90, known_numbers;
    "irq-off-the-vcpus", 90, off_the_vcpus;
    "irq-linux-guest", 300, linux_guest;
}

/// Whether the lab has the modules of these devices: Intel's small one has not.
pub fn has_devices() -> bool {
    ["null_blk", "vhost_net", "tun"].iter().all(|module| load(&["-n", module]))
}

/// Tests that need devices of the host.
pub const DEVICES_RAW: &[Test] = &[
    Test {
        name: "irq-in-interrupts-raw",
        needs_idle_kvm: false,
        timeout_s: 90,
        run: |context| in_interrupts(context, Source::Raw),
    },
    Test {
        name: "irq-vhost-raw",
        needs_idle_kvm: false,
        timeout_s: 300,
        run: |context| vhost(context, Source::Raw),
    },
];
/// The same with classic tracepoints.
pub const DEVICES_CLASSIC: &[Test] = &[
    Test {
        name: "irq-in-interrupts-tracepoint",
        needs_idle_kvm: false,
        timeout_s: 90,
        run: |context| in_interrupts(context, Source::Classic),
    },
    Test {
        name: "irq-vhost-tracepoint",
        needs_idle_kvm: false,
        timeout_s: 300,
        run: |context| vhost(context, Source::Classic),
    },
];

/// What a row is called, and the tracepoints that it is made of; not every kernel has all.
const EVENTS: [(&str, &[&str]); 15] = [
    ("injected", &["kvm_inj_virq"]),
    ("exception", &["kvm_inj_exception"]),
    ("eoi", &["kvm_eoi"]),
    ("pv-eoi", &["kvm_pv_eoi"]),
    ("ipi", &["kvm_apic_ipi"]),
    ("accepted", &["kvm_apic_accept_irq"]),
    ("posted", &["kvm_apicv_accept_irq"]),
    ("msi", &["kvm_msi_set_irq"]),
    ("ioapic", &["kvm_ioapic_set_irq"]),
    ("ioapic-late", &["kvm_ioapic_delayed_eoi_inj"]),
    ("pic", &["kvm_pic_set_irq"]),
    ("gsi", &["kvm_set_irq"]),
    ("ack", &["kvm_ack_irq"]),
    ("smm", &["kvm_smm_transition", "kvm_enter_smm"]),
    ("route", &["kvm_pi_irte_update"]),
];

/// perf's counts of the same tracepoints.
struct Reference(Vec<(&'static str, EventCounter)>);

impl Reference {
    fn new() -> Result<Self> {
        let mut counters = Vec::new();
        for (event, names) in EVENTS {
            let exists = |name: &&str| {
                let tracefs = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
                tracefs.iter().any(|root| Path::new(&format!("{root}/events/kvm/{name}")).exists())
            };
            for name in names.iter().filter(|name| exists(name)) {
                counters.push((event, EventCounter::new(name, &[])?));
            }
        }
        ensure!(counters.len() >= 10, "this kernel has {} of the events only", counters.len());
        Ok(Self(counters))
    }

    fn read(&self) -> Result<BTreeMap<&'static str, u64>> {
        let mut counts = BTreeMap::new();
        for (event, counter) in &self.0 {
            *counts.entry(*event).or_default() += counter.read()?[0];
        }
        Ok(counts)
    }

    /// Every event since `before` is in the summary, no more, and by its kind.
    fn ensure_equals(&self, before: &BTreeMap<&'static str, u64>, summary: &Summary) -> Result<()> {
        let mut counts = self.read()?;
        for (event, count) in &mut counts {
            *count -= before.get(event).unwrap_or(&0);
        }
        let ours: BTreeMap<&str, u64> =
            counts.keys().map(|event| (*event, summary.sum("count", &[("event", json!(event))]))).collect();
        eprintln!("  counted {} = {ours:?}", summary.count());
        ensure!(ours == counts, "counted {ours:?}, perf {counts:?}");
        ensure!(ours.values().sum::<u64>() == summary.count(), "{} {ours:?}", summary.count());
        Ok(())
    }
}

/// The guest's vectors.
const TIMER: &str = "0x40";
const MESSAGE: &str = "0x41";

fn phase(name: &str, steps: &[&[Step]]) -> Phase {
    let work = Work::Each(steps.iter().map(|steps| steps.to_vec()).collect());
    Phase { name: name.to_owned(), class: Class::Other, work }
}

fn start(phases: Vec<Phase>) -> Result<Session> {
    let config = Config { vcpus: 2, apic: Apic::X2Apic, ..Config::default() };
    check::start(&Plan { phases, skipped: Vec::new() }, config, check::options())
}

/// The guest halts `count` times on vCPU 1 until it gets a message, which `send` sends once it sleeps.
fn messages(session: &mut Session, count: u64, mut send: impl FnMut(&Session) -> Result<()>) -> Result<()> {
    session.begin_phase()?;
    for nth in 1..=count {
        session.wait_asleep(1, nth)?;
        send(session)?;
    }
    session.finish_phase()?;
    Ok(())
}

fn halts(count: u64) -> Phase {
    phase("messages", &[&[], &[Step::new(Operation::HaltMessage, count)]])
}

/// Rows of a vCPU of this process's VM, or of its other threads.
fn rows(summary: &Summary, vcpu: Option<u32>) -> Result<Vec<Value>> {
    let vm = summary.vm_of(std::process::id())?;
    let of = vm["vcpus"].as_array().into_iter().flatten().find(|entry| entry["vcpu"] == json!(vcpu));
    let rows = of.and_then(|entry| entry["irq"].as_array());
    rows.cloned().with_context(|| format!("nothing of vCPU {vcpu:?}: {vm}"))
}

fn count(rows: &[Value], column: &str, event: &str, vector: &str) -> u64 {
    sum(rows, column, &[("event", json!(event)), ("vector", json!(vector))])
}

fn known_numbers(context: &Context, source: Source) -> Result<()> {
    const TO_SELF: u64 = 157;
    const TO_OTHER: u64 = 211;
    const TIMERS: [u64; 2] = [53, 59];
    const MESSAGES: u64 = 61;
    const FAULTS: u64 = 73;
    let host = check::host()?;
    let ipi = |to, count| Step::new(Operation::SendIpi { to }, count);
    let timer =
        |count| Step::new(Operation::HaltTimer { delay: std::time::Duration::from_micros(200) }, count);
    let ipis = expect::support(&host, Operation::SendIpi { to: 0 }).is_ok();
    let mut phases = vec![
        halts(MESSAGES),
        phase("timers", &[&[timer(TIMERS[0])], &[timer(TIMERS[1])]]),
        phase("faults", &[&[Step::new(Operation::Ud2, FAULTS)]]),
    ];
    if ipis {
        phases.push(phase("ipi-self", &[&[ipi(0, TO_SELF)]]));
        let receive = Step::new(Operation::HaltMessage, TO_OTHER);
        phases.push(phase("ipi-halted", &[&[ipi(1, TO_OTHER)], &[receive]]));
    }
    let mut session = start(phases)?;
    let reference = Reference::new()?;
    let tracer = Tracer::start_noun(context, "irq", source, &["-i", "300ms"])?;
    let before = reference.read()?;
    messages(&mut session, MESSAGES, |session| Ok(session.send_message(1)?))?;
    while session.run_phase()?.is_some() {}
    let summary = tracer.stop_noun_of(source)?;
    reference.ensure_equals(&before, &summary)?;

    let (first, second) = (rows(&summary, Some(0))?, rows(&summary, Some(1))?);
    let others = rows(&summary, None)?;
    let (to_self, to_other) = if ipis { (TO_SELF, TO_OTHER) } else { (0, 0) };
    // Sent and taken on the sender's thread.
    ensure!(count(&first, "count", "ipi", MESSAGE) == to_self + to_other, "{first:?}");
    ensure!(
        sum(&first, "count", &[("event", json!("ipi")), ("destination", json!(1))]) == to_other,
        "{first:?}"
    );
    ensure!(count(&first, "count", "accepted", MESSAGE) == to_self + to_other, "{first:?}");
    ensure!(count(&first, "elsewhere", "accepted", MESSAGE) == 0, "{first:?}");
    ensure!(count(&others, "count", "msi", MESSAGE) == MESSAGES, "{others:?}");
    ensure!(count(&others, "elsewhere", "msi", MESSAGE) == MESSAGES, "{others:?}");
    ensure!(
        sum(&others, "count", &[("event", json!("msi")), ("destination", json!(1))]) == MESSAGES,
        "{others:?}"
    );
    ensure!(
        sum(&first, "count", &[("event", json!("exception")), ("what", json!("#UD"))]) == FAULTS,
        "{first:?}"
    );
    if !host.virtual_apic {
        for (rows, timers, messages) in
            [(&first, TIMERS[0], to_self), (&second, TIMERS[1], to_other + MESSAGES)]
        {
            ensure!(count(rows, "count", "accepted", TIMER) == timers, "{timers}: {rows:?}");
            ensure!(count(rows, "count", "eoi", TIMER) == timers, "{timers}: {rows:?}");
            ensure!(count(rows, "count", "eoi", MESSAGE) == messages, "{messages}: {rows:?}");
            for (vector, taken) in [(TIMER, timers), (MESSAGE, messages)] {
                // An interrupt that the guest could not take at once is put in again; older kernels do not say so.
                let keys = [("event", json!("injected")), ("vector", json!(vector)), ("flags", json!([]))];
                let injected = sum(rows, "count", &keys);
                let tells = !crate::reference::format("kvm_inj_virq")?.contains("reinjected");
                ensure!(injected == taken || tells && injected > taken, "{vector} {taken}: {rows:?}");
            }
        }
    }
    Ok(())
}

/// Messages that the VMM's main thread sends through an eventfd, and lines that a thread of the kernel raises.
fn off_the_vcpus(context: &Context, source: Source) -> Result<()> {
    const MESSAGES: u64 = 127;
    const LINES: u64 = 31;
    const GSI: u32 = 5;
    let mut session = start(vec![halts(MESSAGES), halts(0)])?;
    let reference = Reference::new()?;
    let lines = EventCounter::new("kvm_set_irq", &[])?;
    let tracer = Tracer::start_noun(context, "irq", source, &["-i", "300ms"])?;
    let own = Tracer::start_noun(context, "irq", source, &["--pid", &std::process::id().to_string()])?;
    let before = reference.read()?;
    let lines_before = lines.read()?[0];

    let line = session.line_eventfd(GSI)?;
    for nth in 1..=LINES {
        rustix::io::write(&line, &1_u64.to_ne_bytes())?;
        // Up and down: another signal before would be taken for the same.
        while lines.read()?[0] - lines_before < 2 * nth {
            std::thread::yield_now();
        }
    }
    let eventfds = session.message_eventfds()?;
    messages(&mut session, MESSAGES, |_| {
        rustix::io::write(&eventfds[1], &1_u64.to_ne_bytes())?;
        Ok(())
    })?;
    let (summary, own) = (tracer.stop_noun_of(source)?, own.stop_noun_of(source)?);
    reference.ensure_equals(&before, &summary)?;

    for summary in [&summary, &own] {
        let others = rows(summary, None)?;
        ensure!(count(&others, "elsewhere", "msi", MESSAGE) == MESSAGES, "{others:?}");
        ensure!(count(&others, "elsewhere", "accepted", MESSAGE) == MESSAGES, "{others:?}");
        let taken = rows(summary, Some(1))?;
        ensure!(count(&taken, "count", "msi", MESSAGE) == 0, "{taken:?}");
    }
    // Nothing tells which VM a worker of the kernel works for.
    let workers = |summary: &Summary| {
        let vms = summary.value()["vms"].as_array().cloned().unwrap_or_default();
        let worker = |vm: &Value| vm["name"].as_str().is_some_and(|name| name.starts_with("kworker/"));
        let rows: Vec<Value> = vms
            .into_iter()
            .filter(worker)
            .filter_map(|vm| vm["totals"].as_array().cloned())
            .flatten()
            .collect();
        sum(&rows, "count", &[("event", json!("gsi")), ("line", json!(GSI))])
    };
    ensure!(workers(&summary) == 2 * LINES, "{}", summary.value());
    ensure!(workers(&own) == 0 && own.sum("count", &[("event", json!("gsi"))]) == 0, "{}", own.value());
    let told = own.value()["notes"].to_string();
    ensure!(told.contains("more came in interrupts of the host or on threads of the kernel"), "{told}");
    Ok(())
}

/// Messages that are sent while the host deals with an interrupt of a disk: nobody's, whatever thread it came upon.
fn in_interrupts(context: &Context, source: Source) -> Result<Verdict> {
    const MESSAGES: u64 = 101;
    const DISK: &str = "/dev/nullb0";
    if context.kvm_utils.is_none() {
        return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
    }
    // A disk whose reads end in the interrupt of a timer, so late that whoever began them has done its part.
    const OPTIONS: [&str; 5] = ["null_blk", "irqmode=2", "completion_nsec=10000000", "nr_devices=1", "gb=1"];
    if !Path::new(DISK).exists() && !load(&OPTIONS) {
        return Ok(Verdict::Skipped("no module null_blk".to_owned()));
    }
    let mut session = start(vec![halts(MESSAGES)])?;
    let reader = Reader::open(Path::new(DISK))?;
    let eventfds = session.message_eventfds()?;
    let reference = Reference::new()?;
    let tracer = Tracer::start_noun(context, "irq", source, &[])?;
    let before = reference.read()?;
    messages(&mut session, MESSAGES, |_| reader.read(&eventfds[1]))?;
    let summary = tracer.stop_noun_of(source)?;
    reference.ensure_equals(&before, &summary)?;
    let vm = summary.vm_of(0)?;
    ensure!(vm["name"] == "(host interrupts)", "{vm}");
    let rows = vm["totals"].as_array().cloned().unwrap_or_default();
    ensure!(count(&rows, "elsewhere", "msi", MESSAGE) == MESSAGES, "{}", summary.value());
    ensure!(count(&rows, "count", "accepted", MESSAGE) == MESSAGES, "{}", summary.value());
    let taken = self::rows(&summary, Some(1))?;
    ensure!(count(&taken, "count", "eoi", MESSAGE) == MESSAGES, "{taken:?}");
    Ok(Verdict::Ok)
}

/// A Linux guest with devices that send messages, one of them from a thread of its own.
fn linux_guest(context: &Context, source: Source) -> Result<()> {
    let disk = tempfile::NamedTempFile::new()?;
    disk.as_file().set_len(1 << 20)?;
    let drive = format!("if=none,id=disk,format=raw,file={}", disk.path().display());
    let reference = Reference::new()?;
    let tracer = Tracer::start_noun(context, "irq", source, &[])?;
    let before = reference.read()?;
    let options = [
        "-object",
        "iothread,id=io",
        "-drive",
        &drive,
        "-device",
        "virtio-blk-pci,drive=disk,iothread=io",
        "-device",
        "virtio-rng-pci",
    ];
    let pid = boot(context, "lab-irq", &options, "work=2")?;
    let summary = tracer.stop_noun_of(source)?;
    reference.ensure_equals(&before, &summary)?;

    let vm = summary.vm_of(pid)?;
    ensure!(vm["name"] == "lab-irq" && vm["ended"] == true, "{vm}");
    let others = others(vm)?;
    let off = |event: &str| sum(&others, "elsewhere", &[("event", json!(event))]);
    let all = |event: &str| summary.sum("count", &[("event", json!(event))]);
    ensure!(off("msi") > 0 && off("gsi") > 0, "no devices: {others:?}");
    ensure!(all("ipi") > 0 && all("pv-eoi") + all("eoi") > 0 && all("injected") > 0, "{}", summary.value());
    // The timer chip's thread is the kernel's, and works for this VM.
    let pit = sum(&others, "count", &[("event", json!("gsi")), ("what", json!("GSI 0 up (PIT)"))]);
    ensure!(pit > 0, "{others:?}");
    ensure!(!summary.value()["vms"].to_string().contains("kvm-pit"), "{}", summary.value());
    Ok(())
}

/// Rows of a VM's other threads.
fn others(vm: &Value) -> Result<Vec<Value>> {
    let of = vm["vcpus"].as_array().into_iter().flatten().find(|entry| entry["vcpu"].is_null());
    let rows = of.and_then(|entry| entry["irq"].as_array());
    rows.cloned().with_context(|| format!("nothing on other threads: {vm}"))
}

/// A network card that a thread of the kernel works for: its messages are the VM's.
fn vhost(context: &Context, source: Source) -> Result<Verdict> {
    const TAP: &str = "labtap0";
    if context.kvm_utils.is_none() {
        return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
    }
    for module in ["tun", "vhost_net"] {
        load(&[module]);
    }
    if !Path::new("/dev/vhost-net").exists() || !Path::new("/dev/net/tun").exists() {
        return Ok(Verdict::Skipped("no modules tun and vhost_net".to_owned()));
    }
    // Whoever is asked for is asked for by broadcast, which interrupts the guest.
    run("ip", &["tuntap", "add", TAP, "mode", "tap"])?;
    run("ip", &["addr", "add", "192.0.2.1/24", "dev", TAP])?;
    run("ip", &["link", "set", TAP, "up"])?;
    let network = format!("tap,id=net,ifname={TAP},script=no,downscript=no,vhost=on");
    let options = ["-netdev", &network, "-device", "virtio-net-pci,netdev=net,romfile="];
    let reference = Reference::new()?;
    let tracer = Tracer::start_noun(context, "irq", source, &[])?;
    let before = reference.read()?;
    let pid = std::thread::scope(|scope| {
        let guest = scope.spawn(|| boot(context, "lab-vhost", &options, "work=4"));
        let socket = std::net::UdpSocket::bind("192.0.2.1:0")?;
        let mut next = 2_u8;
        while !guest.is_finished() {
            // Nobody answers: what is sent is of no interest.
            let _ = socket.send_to(b"?", ("192.0.2.".to_owned() + &next.to_string(), 9));
            next = if next == 254 { 2 } else { next + 1 };
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        guest.join().unwrap_or_else(|_| bail!("the thread that runs QEMU crashed"))
    })?;
    let summary = tracer.stop_noun_of(source)?;
    run("ip", &["link", "del", TAP])?;
    reference.ensure_equals(&before, &summary)?;
    let vm = summary.vm_of(pid)?;
    let others = others(vm)?;
    let messages = sum(&others, "elsewhere", &[("event", json!("msi"))]);
    ensure!(messages > 10, "{messages} messages: {others:?}");
    ensure!(!summary.value()["vms"].to_string().contains("vhost-"), "{}", summary.value());
    Ok(Verdict::Ok)
}

fn load(module: &[&str]) -> bool {
    let mut modprobe = Command::new("modprobe");
    let output = modprobe.args(module).output();
    output.is_ok_and(|output| output.status.success())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program).args(arguments).status();
    let status = status.with_context(|| format!("cannot run {program}"))?;
    ensure!(status.success(), "{program} {arguments:?}: {status}");
    Ok(())
}
