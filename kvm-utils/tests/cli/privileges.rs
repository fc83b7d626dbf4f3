//! Without privileges it is said at once which are needed, whatever else is the matter.

use super::{
    harness::{Outcome, Skip, Test},
    needs,
    tool::{Tool, tool},
};

pub const TESTS: &[Test] = &[
    ("privileges::nobody_is_told_what_is_needed", nobody),
    ("privileges::nobody_sees_it_in_caps", caps),
    ("privileges::a_mistake_comes_before_them", mistake),
    ("privileges::root_of_a_container_is_told_why", container),
];

/// As nobody; one who is not root already is.
fn unprivileged(call: &str) -> Tool {
    if needs::root().is_ok() { tool(call).by_nobody() } else { tool(call) }
}

fn nobody() -> Outcome {
    for call in [
        "exits",
        "exits -d 1s -o json",
        "exits --vm web-1",
        "exits -p 1",
        "exits --source raw",
        "selftest",
        "export",
    ] {
        let ran =
            unprivileged(call).run().exits_with(3).says("BPF programs need privileges; run as root (sudo)");
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.picture());
        assert_eq!(ran.stdout, "");
    }
    Ok(())
}

fn caps() -> Outcome {
    let ran = unprivileged("caps").run().exits_with(3);
    assert!(ran.stdout.contains("kvm-utils exits can run here: no\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("-> run as root (sudo)"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "");
    Ok(())
}

fn mistake() -> Outcome {
    unprivileged("exits -i 0s").run().exits_with(2).says("too short; the shortest is 1ms");
    Ok(())
}

fn container() -> Outcome {
    needs::tracing()?;
    let tool = tool("exits").by_root_of_a_namespace();
    let output = tool.command().output().map_err(|error| Skip(format!("needs user namespaces: {error}")))?;
    tool.ran(&output).exits_with(3).says("root only within a user namespace");
    Ok(())
}
