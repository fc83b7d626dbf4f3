//! Hosts that lack something: exit code 3, the cause, and what to type.

use super::{
    harness::{Outcome, Test},
    needs,
    tool::tool,
};

pub const TESTS: &[Test] = &[
    ("host::without_tracefs", no_tracefs),
    ("host::without_btf", no_btf),
    ("host::without_btf_classic_tracepoints_are_used", classic),
    ("host::without_kvm", no_kvm),
    ("host::without_its_device", no_device),
    ("host::selftest_says_what_it_found", selftest),
];

fn no_tracefs() -> Outcome {
    needs::tracing()?;
    needs::mounts()?;
    needs::kvm()?;
    let ran = tool("exits --source tracepoint")
        .without("/sys/kernel/tracing")
        .without("/sys/kernel/debug")
        .run()
        .exits_with(3);
    insta::assert_snapshot!("without_tracefs", ran.picture());
    Ok(())
}

fn no_btf() -> Outcome {
    needs::tracing()?;
    needs::mounts()?;
    needs::kvm()?;
    let ran = tool("exits --source raw").without("/sys/kernel/btf").run().exits_with(3);
    insta::assert_snapshot!("without_btf", ran.picture());
    Ok(())
}

fn classic() -> Outcome {
    needs::runs()?;
    let ran = tool("exits -n 1 -i 20ms").without("/sys/kernel/btf").with_tracefs().run().exits_with(0);
    let said: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(said.len(), 2, "{}", ran.picture());
    assert_eq!(
        said[0],
        "kvm-utils: using classic tracepoints, raw ones cannot be used: there is no /sys/kernel/btf/vmlinux: this \
         kernel was built without BTF (CONFIG_DEBUG_INFO_BTF)"
    );
    assert!(said[1].starts_with("kvm-utils: attached (tracepoint), room for "), "{}", said[1]);
    Ok(())
}

fn no_kvm() -> Outcome {
    needs::tracing()?;
    needs::mounts()?;
    for call in ["exits", "exits --source tracepoint", "selftest"] {
        let ran = tool(call)
            .without("/sys/module")
            .run()
            .exits_with(3)
            .says("kvm-utils: there is no KVM to trace: ");
        // Which module to load, or what to enable, depends on the CPU.
        assert!(ran.stderr.contains("modprobe") || ran.stderr.contains("enable it"), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
    // A process that does not exist is a mistake all the same.
    tool("exits -p 2147483647").without("/sys/module").run().exits_with(2).says("no such process");
    Ok(())
}

fn no_device() -> Outcome {
    needs::tracing()?;
    needs::mounts()?;
    needs::kvm()?;
    let ran = tool("selftest").without("/dev").run().exits_with(3);
    insta::assert_snapshot!("without_dev_kvm", ran.picture());
    Ok(())
}

fn selftest() -> Outcome {
    needs::runs()?;
    needs::device()?;
    for tracefs in [true, false] {
        let tool = tool("selftest");
        let ran = if tracefs { tool.with_tracefs() } else { tool }.run();
        let all = format!("{}{}", ran.stdout, ran.stderr);
        match ran.code {
            0 => assert!(ran.stdout.contains("\nok: "), "{all}"),
            // A KVM that traces nothing is known as such with and without tracefs.
            3 => assert!(all.contains("this KVM never fires kvm_exit") || !tracefs, "{all}"),
            code => assert!(code == 0, "exit code {code}: {all}"),
        }
    }
    Ok(())
}
