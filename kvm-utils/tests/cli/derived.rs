//! A KVM without kvm_intel and kvm_amd, which may never fire kvm_exit (out-of-tree PVM): `exits` shows what other events tell,
//! and drill-downs count there as anywhere. Runs where such a KVM is found, on its own guests.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
};

use kvm_utils::{
    decode::Class,
    host::{SysRoot, info::vendor_isa},
    selftest::{Config, Operation, Options, Phase, Plan, Session, Vm},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{
    harness::{Outcome, Skip, Test},
    needs,
    tool::tool,
};

pub const TESTS: &[Test] =
    &[("derived::exits_shows_known_numbers", exits), ("derived::drilldowns_show_known_numbers", drilldowns)];

const PORT: u16 = 0x1234;
/// Written by guests that want to know their microcode revision.
const BIOS_SIGN_ID: u32 = 0x8b;

/// What the guest does, and how often. No HLT: its timer's interrupts would be more of the same.
fn operations() -> [(Operation, u64); 5] {
    [
        (Operation::Cpuid { leaf: 0 }, 1009),
        (Operation::PortIn { port: PORT }, 227),
        (Operation::PortOut { port: PORT, value: 1 }, 229),
        (Operation::ReadMsr { index: 0x1b }, 307),
        (Operation::WriteMsr { index: BIOS_SIGN_ID, value: 0 }, 311),
    ]
}

/// Summaries of these subcommands, all run beside the same guest.
fn beside_a_guest(nouns: &[&str]) -> Result<Vec<Value>, Skip> {
    needs::runs()?;
    needs::device()?;
    if vendor_isa(&SysRoot::default()).is_some() {
        return Err(Skip("needs a KVM without kvm_intel and kvm_amd".to_owned()));
    }
    let phases = operations()
        .map(|(operation, count)| Phase::new(format!("{operation:?}"), Class::Other, operation, count));
    let plan = Plan { phases: phases.to_vec(), skipped: Vec::new() };
    let guest = Vm::new(&Config::default()).and_then(|vm| Session::start(vm, &plan, Options::default()));
    let mut guest = guest.map_err(|error| Skip(format!("needs a KVM that runs our guest: {error}")))?;
    let running: Vec<Child> = nouns.iter().map(|noun| attached(noun)).collect();
    while guest.run_phase().expect("the guest runs").is_some() {}
    Ok(running.into_iter().map(summary).collect())
}

fn attached(noun: &str) -> Child {
    let pid = std::process::id();
    let call = format!("{noun} -o json --summary -i 1h -p {pid}");
    let mut child = tool(&call).with_tracefs().command().spawn().expect("the binary starts");
    let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
    let (mut line, mut all) = (String::new(), String::new());
    while !line.contains("attached (") {
        line.clear();
        assert!(said.read_line(&mut line).expect("a line") > 0, "{noun}: {all}");
        all.push_str(&line);
    }
    // Whatever else it says must not end it.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    child
}

fn summary(child: Child) -> Value {
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    serde_json::from_str(text.lines().last().expect("a report")).expect("JSON")
}

/// Sum of the counts in rows where each of these keys has this value.
fn count(report: &Value, keys: &[(&str, Value)]) -> u64 {
    let rows = report["totals"].as_array().expect("rows").iter();
    let wanted = rows.filter(|row| keys.iter().all(|(key, value)| row[*key] == *value));
    wanted.filter_map(|row| row["count"].as_u64()).sum()
}

fn exits() -> Outcome {
    let [report] = <[Value; 1]>::try_from(beside_a_guest(&["exits"])?).expect("one report");
    if report["schema"] == "kvm-utils/exits/v1" && report["count"] != 0 {
        return Err(Skip("needs a KVM that never fires kvm_exit".to_owned()));
    }
    assert_eq!(report["schema"], "kvm-utils/derived/v1", "{report}");
    let of = |class: &str| count(&report, &[("class", json!(class))]);
    assert_eq!((of("cpuid"), of("msr-read"), of("msr-write")), (1009, 307, 311), "{report}");
    // Each phase ends with a port write of its own.
    let phases = operations().len() as u64;
    assert_eq!(of("io"), 227 + 229 + phases, "{report}");
    assert_eq!(of("to the VMM: io"), 227 + 229 + phases, "{report}");
    let notes = report["notes"].to_string();
    assert!(notes.contains("derived: this KVM fires no kvm_exit"), "{notes}");
    Ok(())
}

fn drilldowns() -> Outcome {
    let reports = beside_a_guest(&["cpuid", "io --no-time", "msr", "wrmsr"])?;
    let [cpuid, io, msr, wrmsr] = <[Value; 4]>::try_from(reports).expect("four reports");
    assert_eq!(count(&cpuid, &[]), 1009, "{cpuid}");
    let port = |way: &str| count(&io, &[("address", json!("0x1234")), ("dir", json!(way))]);
    assert_eq!((port("in"), port("out")), (227, 229), "{io}");
    let register = |report: &Value, index: &str| count(report, &[("index", json!(index))]);
    assert_eq!((register(&msr, "0x1b"), register(&msr, "0x8b")), (307, 311), "{msr}");
    assert_eq!((register(&wrmsr, "0x8b"), count(&wrmsr, &[])), (311, 311), "{wrmsr}");
    // The vCPU is known, not only the process.
    for report in [&cpuid, &msr, &wrmsr] {
        assert_eq!(report["vms"][0]["vcpus"][0]["vcpu"], 0, "{report}");
    }
    Ok(())
}
