//! Boots the payload that measures in QEMU's emulator, which needs no virtualization, and looks at what it reports: every operation
//! of the list, as many samples as asked for, interrupts handled as often as sent. No time is asserted.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kvm_bench::measure::supervisor::{Measured, Status};
use kvm_bench::payload::BENCH_ELF;
use kvm_bench::payload_report::{self, Error, Heard};
use kvm_bench::report::{json, table};
use kvm_bench::shared::ops::{Care, OPS};

const QEMU: &str = "qemu-system-x86_64";
const LIMIT: Duration = Duration::from_secs(120);

/// How the payload is entered.
#[derive(Clone, Copy, PartialEq)]
enum Entry {
    Multiboot,
    Pvh,
}

/// The payload as a file for QEMU, which prefers multiboot if it finds the header's magic.
fn file(entry: Entry) -> tempfile::NamedTempFile {
    let mut elf = BENCH_ELF.to_vec();
    if entry == Entry::Pvh {
        let magic = 0x1bad_b002_u32.to_le_bytes();
        let at = elf.windows(4).position(|bytes| bytes == magic).expect("there is a multiboot header");
        elf[at] ^= 0xff;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), elf).unwrap();
    file
}

/// What the payload printed; None where there is no QEMU.
fn boot(entry: Entry, machine: &[&str], options: &str) -> Option<String> {
    let file = file(entry);
    let mut command = Command::new(QEMU);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    let accelerator: &[&str] = if machine.contains(&"-accel") { &[] } else { &["-accel", "tcg"] };
    command.args(["-m", "64"]).args(accelerator).args(machine);
    command.arg("-kernel").arg(file.path()).args(["-append", options]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("not tested: {QEMU} is not installed (apt install qemu-system-x86)");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let mut output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        output.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    let deadline = Instant::now() + LIMIT;
    let in_time = loop {
        if child.try_wait().unwrap().is_some() {
            break true;
        }
        if Instant::now() > deadline {
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let _ = child.kill();
    let _ = child.wait();
    let text = reader.join().unwrap();
    assert!(in_time, "the machine was not turned off; it said {text}");
    Some(text)
}

fn read(text: &str) -> Heard {
    let heard = payload_report::read(text.lines()).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(heard.done, "{text}");
    heard
}

/// By title: `ok` with the number of samples, or why not.
fn statuses(heard: &Heard) -> BTreeMap<String, Result<u64, String>> {
    let of = |one: &Measured| match &one.status {
        Status::Ok => Ok(one.rounds.iter().map(kvm_bench::measure::Round::samples).sum()),
        Status::Skipped(reason, _) => Err(format!("skipped: {reason}")),
        other => Err(format!("{other:?}")),
    };
    heard.results.iter().map(|one| (one.spec.title(), of(one))).collect()
}

/// Of all rounds, by name.
fn evidence(one: &Measured) -> BTreeMap<String, u64> {
    kvm_bench::stats::evidence(&one.rounds)
}

#[test]
fn one_vcpu_measures_every_operation_of_the_list_or_says_why_not() {
    let Some(text) = boot(Entry::Multiboot, &[], "rounds=3 samples=31 time_ms=60000") else { return };
    let heard = read(&text);
    assert_eq!((&heard.environment["boot"], &heard.environment["cpus"]), (&"multiboot".into(), &1.into()));
    assert_eq!(heard.environment["kind"], "emulated");
    let statuses = statuses(&heard);
    for op in OPS.iter().filter(|op| op.in_payload) {
        let of_it: Vec<_> = heard.results.iter().filter(|one| one.spec.op == op.name).collect();
        assert_eq!(of_it.is_empty(), op.care == Care::Destructive, "{}", op.name);
    }
    for (title, status) in &statuses {
        let op = title.split(' ').next().unwrap();
        match op {
            "hypercall" => assert_eq!(*status, Err("skipped: the instruction is not there (#UD)".into())),
            "timer:fire" => assert!(matches!(status, Err(why) if why.contains("no TSC-deadline mode"))),
            "ipi:send" | "ipi:single" | "ipi:halted" | "ipi:broadcast" => {
                assert_eq!(*status, Err("skipped: there is no second vCPU".into()));
            }
            "pio:notify" | "mmio:notify" => {
                assert!(matches!(status, Err(why) if why.contains("is an eventfd")), "{status:?}");
            }
            // Gaps are what they are.
            "jitter" => assert!(status.is_ok(), "{status:?}"),
            // 31 in 3 rounds, rounded up.
            _ => assert_eq!(*status, Ok(33), "{title}"),
        }
    }
    for one in heard.results.iter().filter(|one| ["ipi:self", "eoi", "hlt"].contains(&&*one.spec.op)) {
        let evidence = evidence(one);
        assert_eq!((evidence["sent"], evidence["handled"]), (33, 33), "{}", one.spec.op);
        if one.spec.op == "hlt" {
            assert_eq!(evidence["halted"], 33);
        }
    }
    for one in &heard.results {
        // All samples lie within their round. Histograms keep three digits.
        for round in &one.rounds {
            let samples: u64 = round.all.iter().map(|(cycles, count)| cycles * count).sum();
            let span = round.span.unwrap();
            assert!(samples as f64 <= span.cycles as f64 * 1.002, "{}: {samples} {span:?}", one.spec.op);
            let op = one.spec.op.as_str();
            assert_eq!(span.enclosed, !["eoi", "hlt"].contains(&op), "{op}");
            assert_eq!(span.interrupts, ["ipi:self", "eoi", "hlt", "jitter"].contains(&op), "{op}");
            assert_eq!(span.targets, 0, "{op}");
        }
    }
    let jitter = heard.results.iter().find(|one| one.spec.op == "jitter").unwrap();
    let totals = kvm_bench::stats::totals(&jitter.rounds);
    assert!(totals["watched_ns"] > totals["lost_ns"], "{totals:?}");
    // The same form as a Linux guest's.
    let report = heard.report(None).unwrap();
    let document = json::document(&report).unwrap();
    assert_eq!(document["schema"], "kvm-bench/v1");
    let text = table::text(&report);
    assert!(text.contains("this machine is emulated") && text.contains("gaps    jitter: "), "{text}");
}

#[test]
fn two_vcpus_entered_by_pvh_send_each_other_interrupts_that_are_all_handled() {
    let options = "ops=ipi,cpuid@0x1,cpuid@0x40000000 rounds=2 samples=58 time_ms=60000 cpus=2 console=ttyS0";
    let Some(text) = boot(Entry::Pvh, &["-smp", "2", "-cpu", "max"], options) else { return };
    let heard = read(&text);
    assert_eq!((&heard.environment["boot"], &heard.environment["cpus"]), (&"pvh".into(), &2.into()));
    let titles: Vec<_> = heard.results.iter().map(|one| one.spec.title()).collect();
    let ipis = ["ipi:self", "ipi:send", "ipi:single", "ipi:halted", "ipi:broadcast"];
    let wanted: Vec<_> = ["cpuid leaf=0x1", "cpuid leaf=0x40000000"].into_iter().chain(ipis).collect();
    assert_eq!(titles, wanted);
    for one in &heard.results {
        assert_eq!(one.status, Status::Ok, "{}", one.spec.title());
        let evidence = evidence(one);
        if one.spec.op.starts_with("ipi:") {
            assert_eq!((evidence["sent"], evidence["handled"]), (58, 58), "{}", one.spec.op);
        }
        if one.spec.op == "ipi:halted" {
            assert_eq!(evidence["halted"], 58);
        }
    }
}

#[test]
fn a_loop_without_brackets_can_be_done_beside_the_samples() {
    let options = "ops=cpuid,ipi:self,timer:arm,cr:cr0-wp rounds=2 samples=4 reference=17";
    let Some(text) = boot(Entry::Multiboot, &[], options) else { return };
    for one in &read(&text).results {
        let evidence = evidence(one);
        assert_eq!((&one.status, evidence["reference_n"]), (&Status::Ok, 34), "{}", one.spec.op);
        assert!(evidence["reference_cycles"] > 34, "{}", one.spec.op);
        // Its interrupts are none of the samples'.
        assert_eq!(evidence.get("sent"), evidence.get("handled"));
    }
}

#[test]
fn broadcasts_reach_every_vcpu() {
    let options = "ops=ipi:broadcast rounds=1 samples=7 time_ms=60000 cpus=4";
    let Some(text) = boot(Entry::Multiboot, &["-smp", "4"], options) else { return };
    let heard = read(&text);
    assert_eq!(heard.environment["cpus"], 4);
    let evidence = evidence(&heard.results[0]);
    assert_eq!((evidence["sent"], evidence["handled"]), (21, 21));
    assert_eq!(heard.results[0].rounds[0].span.unwrap().targets, 3);
}

#[test]
fn what_is_destructive_is_done_when_it_is_named_and_unknown_names_are_said() {
    let Some(text) = boot(Entry::Multiboot, &[], "ops=wbinvd,invd,teleport rounds=1 samples=5") else {
        return;
    };
    let statuses = statuses(&read(&text));
    assert_eq!((&statuses["wbinvd"], &statuses["invd"]), (&Ok(5), &Ok(5)));
    assert!(matches!(&statuses["teleport"], Err(why) if why.contains("no such operation")));
}

/// No ACPI, 8254, 8259, HPET, 8042 or IOAPIC's interrupts, a processor without RDTSCP, and no way to turn it off but a reset.
#[test]
fn a_poor_machine_skips_what_it_lacks_and_ends() {
    let machine = ["-M", "microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=on", "-cpu", "qemu64"];
    let Some(text) = boot(Entry::Pvh, &machine, "rounds=1 samples=3") else { return };
    let heard = read(&text);
    let statuses = statuses(&heard);
    for (op, why) in [
        ("pio:pit", "no 8254 answers"),
        ("pio:pmtimer", "ACPI names no PM timer"),
        ("mmio:hpet", "no HPET answers"),
    ] {
        assert!(matches!(&statuses[op], Err(said) if said.contains(why)), "{op}: {:?}", statuses[op]);
    }
    assert_eq!((&statuses["cpuid leaf=0x0"], &statuses["ipi:self"]), (&Ok(3), &Ok(3)));
    // Nothing there tells how fast the counter runs, but whoever starts the machine may.
    assert_eq!(heard.report(None).unwrap_err(), Error::Frequency);
    let text = boot(Entry::Pvh, &machine, "ops=cpuid rounds=1 samples=3 tsc_khz=1234567").unwrap();
    let report = read(&text).report(None).unwrap();
    assert_eq!((report.tsc.hz, report.tsc.source), (1_234_567_000, "command line"));
}

#[test]
fn without_a_local_apic_nothing_waits_for_interrupts() {
    let options = "ops=ipi,eoi,hlt,timer,mmio:lapic,cpuid rounds=1 samples=3";
    let Some(text) = boot(Entry::Multiboot, &["-cpu", "qemu64,-apic"], options) else { return };
    for (title, status) in statuses(&read(&text)) {
        match title.split(' ').next().unwrap() {
            "cpuid" => assert_eq!(status, Ok(3)),
            op => assert!(
                matches!(&status, Err(why) if why.starts_with("skipped: there is no")),
                "{op}: {status:?}"
            ),
        }
    }
}

/// KVM flavours that run CPL 0 in their instruction emulator know SSE's moves and nothing else of it. The core library's own code is there
/// for panics only.
#[test]
fn the_payload_computes_nothing_in_vector_registers() {
    let file = file(Entry::Multiboot);
    let output = Command::new("objdump")
        .args(["--disassemble", "--disassembler-options=intel", "--no-show-raw-insn", "--wide"])
        .arg(file.path())
        .output()
        .expect("objdump is needed for this test: install binutils");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut function = "";
    let mut seen = 0;
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(">:").and_then(|line| line.split_once('<')) {
            function = name.1;
        } else if let Some((_, instruction)) = line.split_once(":\t") {
            seen += usize::from(instruction.contains("rdtsc"));
            let is_move = ["movaps ", "movups "].iter().any(|name| instruction.starts_with(name));
            let is_core_s = function.starts_with("_RN") && function.contains("4core");
            assert!(!instruction.contains("xmm") || is_move || is_core_s, "{function}: {instruction}");
        }
    }
    assert!(seen > 40, "this is no disassembly of the payload: {seen} readings of the counter");
}

#[test]
fn the_program_saves_the_payload_and_reads_what_it_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let program = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_kvm-bench")).arg("payload").args(arguments).output();
        let output = output.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(program(&["--save", &path("elf")]).0, Some(0));
    assert_eq!(std::fs::read(path("elf")).unwrap(), BENCH_ELF);
    let Some(text) = boot(Entry::Multiboot, &[], "ops=cpuid,hypercall rounds=3 samples=30") else { return };
    std::fs::write(path("log"), &text).unwrap();
    let (status, report, errors) = program(&["--read", &path("log"), "-o", "json"]);
    assert_eq!(status, Some(0), "{errors}");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["results"][0]["op"], &report["results"][0]["n"]), (&"cpuid".into(), &30.into()));
    assert_eq!(report["results"][1]["status"], "skipped");
    // Cut off in the middle: what there is, and that it is not all.
    let lines: Vec<_> = text.lines().filter(|line| !line.contains("done")).collect();
    std::fs::write(path("log"), lines.join("\n")).unwrap();
    let (status, report, errors) = program(&["--read", &path("log")]);
    assert_eq!(status, Some(1));
    assert!(
        errors.contains("did not come to its end") && report.contains("cpuid leaf=0x0"),
        "{errors}{report}"
    );
    let (status, _, errors) = program(&["--read", "/dev/null"]);
    assert_eq!(status, Some(2));
    assert!(errors.contains("the payload said nothing"), "{errors}");
}

/// On a machine with KVM (of whatever kind: nested, PVM) exits are real, and a hypercall is answered, refused or ended by the watchdog.
#[test]
fn under_kvm_interrupts_are_handled_too_and_nothing_hangs() {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        eprintln!("not tested: /dev/kvm cannot be opened");
        return;
    }
    let options = "ops=cpuid,hypercall,pio:kernel-in,ipi,eoi,hlt rounds=2 samples=6 time_ms=60000";
    let machine = ["-accel", "kvm", "-smp", "2"];
    let Some(text) = boot(Entry::Pvh, &machine, options) else { return };
    let heard = read(&text);
    assert_eq!(
        (&heard.environment["hypervisor"], &heard.environment["cpus"]),
        (&"KVMKVMKVM".into(), &2.into())
    );
    for one in &heard.results {
        let evidence = evidence(one);
        assert_eq!(evidence.get("sent"), evidence.get("handled"), "{text}");
        match &one.status {
            Status::Skipped(reason, _) => {
                assert!(one.spec.op == "hypercall" && reason.contains("hung"), "{}: {reason}", one.spec.op);
            }
            // On a busy host every sample may be disturbed, which is said.
            Status::Suspect(why) => assert!(why.contains("every sample was disturbed"), "{why}: {text}"),
            status => assert_eq!(*status, Status::Ok, "{text}"),
        }
    }
}
