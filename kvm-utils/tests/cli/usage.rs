//! What cannot be meant: exit code 2, whoever asks and whatever the host.

use super::{
    harness::{Outcome, Test},
    tool::{pictures, tool},
};

pub const TESTS: &[Test] = &[
    ("usage::bad_values", values),
    ("usage::contradictions", contradictions),
    ("usage::unknown_words", unknown),
    ("usage::a_screen_without_a_terminal", no_terminal),
];

fn all_are_mistakes(name: &str, calls: &[&str]) -> Outcome {
    let runs: Vec<_> = calls.iter().map(|call| tool(call).run().exits_with(2)).collect();
    for ran in &runs {
        assert_eq!(ran.stdout, "", "{}", ran.picture());
        // The same for one who may do nothing is tested where that can be arranged.
        assert!(ran.stderr.starts_with("error: "), "{}", ran.picture());
    }
    insta::assert_snapshot!(name, pictures(&runs));
    Ok(())
}

fn values() -> Outcome {
    all_are_mistakes(
        "bad_values",
        &[
            "exits -i 0s",
            "exits -i 5",
            "exits -i 1d",
            "exits -i -1s",
            "exits -d soon",
            "exits -d 9999h",
            "exits -n 0",
            "exits --top 0",
            "exits --top many",
            "exits -p 0",
            "exits -p -1",
            "exits -p web-1",
            "exits -p 99999999999",
            "exits --vm=",
            "exits --vcpu -1",
            "exits --vcpu 99999999",
            "exits --max-vcpus 0",
            "exits --sort latency",
            "exits --sort p99",
            "exits -o xml",
            "exits --by host",
            "exits --source kprobe",
            "caps --watch 5",
            "selftest -o csv",
        ],
    )
}

fn contradictions() -> Outcome {
    all_are_mistakes(
        "contradictions",
        &["exits -n 3 -d 2s", "exits --wait", "exits --wait -p 1", "exits -i 1s -i 2s"],
    )
}

fn unknown() -> Outcome {
    all_are_mistakes("unknown_words", &["exit", "exits --every 1s", "exits web-1", "caps --json"])
}

fn no_terminal() -> Outcome {
    let ran = tool("top --interval 1s").run().exits_with(2).says("`kvm-utils exits` also writes to pipes");
    assert_eq!(ran.stdout, "");
    Ok(())
}
