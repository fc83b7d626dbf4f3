//! `kvm-utils bench` on this machine: it measures wherever there is /dev/kvm, and says what is missing for the rest.

use kvm_utils::decode::Isa;
use kvm_utils::selftest::Host;
use serde_json::Value;

use super::{
    harness::{Outcome, Skip, Test},
    needs,
    tool::tool,
};

pub const TESTS: &[Test] = &[
    ("bench::measures_on_this_machine", measures),
    ("bench::all_vcpus_are_pinned_and_counted", vcpus),
    ("bench::attribute_says_when_kvm_exit_never_fires", never_fires),
    ("bench::without_the_device_says_so", no_device),
    ("bench::unknown_operations_are_a_mistake", mistakes),
];

const SAMPLES: u64 = 201;

fn document(call: &str) -> Value {
    let ran = tool(call).run().exits_with(0);
    assert_eq!(ran.stderr, "");
    let document: Value = serde_json::from_str(&ran.stdout).expect("one document");
    assert_eq!(document["schema"], "kvm-bench/v1");
    document
}

fn measures() -> Outcome {
    needs::device()?;
    let ops = ["cpuid", "pio:kernel-in", "pio:user-in"];
    let document =
        document(&format!("bench -o json --rounds 3 -t 60s --samples {SAMPLES} --ops {}", ops.join(",")));
    let results = document["results"].as_array().expect("results");
    assert_eq!(results.len(), ops.len());
    for (one, op) in results.iter().zip(ops) {
        assert_eq!((&one["op"], &one["status"]), (&op.into(), &"ok".into()), "{one}");
        assert_eq!(one["all"]["n"], SAMPLES, "{one}");
        assert!(one["p50"].as_f64() > Some(0.0) && one["hdr"].as_str().is_some(), "{one}");
        assert_eq!(one["budget"], Value::Null);
    }
    let environment = &document["environment"];
    assert_eq!((&environment["vmm"], &environment["boot"]), (&"kvm-utils".into(), &"pvh".into()));
    assert!(environment["host"]["kernel"].is_string() && environment["tsc"]["hz"].as_u64() > Some(0));
    Ok(())
}

fn vcpus() -> Outcome {
    needs::device()?;
    let document = document("bench -o json --vcpus 2 --pin 0,0 --rounds 1 --samples 10 --ops cpuid");
    let environment = &document["environment"];
    assert_eq!((&environment["vcpus"], &environment["cpus"]), (&2.into(), &2.into()), "{environment}");
    tool("bench --pin 4095 --ops cpuid").run().exits_with(3).says("choose CPUs that are online");
    Ok(())
}

fn never_fires() -> Outcome {
    needs::tracing()?;
    needs::device()?;
    if !matches!(Host::detect().isa, Isa::Other(_)) {
        return Err(Skip("needs a KVM that never fires kvm_exit".to_owned()));
    }
    let ran = tool("bench --attribute --ops cpuid").with_tracefs().run().exits_with(3);
    assert_eq!(ran.stdout, "");
    ran.says("never fires kvm_exit").says("without it the operations are measured all the same");
    Ok(())
}

fn no_device() -> Outcome {
    needs::mounts()?;
    let ran = tool("bench").without("/dev").run().exits_with(3);
    assert_eq!(ran.stdout, "");
    ran.says("there is no /dev/kvm").says("--device /dev/kvm");
    Ok(())
}

fn mistakes() -> Outcome {
    tool("bench --ops cpuid,syscall")
        .run()
        .exits_with(2)
        .says("there is no operation syscall; there are null, cpuid");
    tool("bench --qemu --attribute").run().exits_with(2).says("cannot be used with");
    tool("bench --source raw").run().exits_with(2).says("--attribute");
    tool("bench --vcpus 0").run().exits_with(2);
    tool("bench --qemu=/nonexistent --ops cpuid").run().exits_with(3);
    Ok(())
}
