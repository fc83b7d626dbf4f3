//! Help: complete, within 80 columns, and with examples that work.

use clap::Parser as _;
use kvm_utils::cmd::Cli;

use super::{
    harness::{Outcome, Test},
    tool::tool,
};

pub const TESTS: &[Test] = &[
    ("help::of_every_command_fits_80_columns", fits),
    ("help::examples_are_right", examples),
    ("help::no_arguments_show_help_and_are_a_mistake", no_arguments),
    ("help::version", version),
    ("help::of_the_readme_is_what_is_printed", readme),
];

const COMMANDS: [(&str, &str); 9] = [
    ("help", "--help"),
    ("exits", "exits --help"),
    ("top", "top --help"),
    ("irq", "irq --help"),
    ("caps", "caps --help"),
    ("bench", "bench --help"),
    ("compare", "compare --help"),
    ("export", "export --help"),
    ("selftest", "selftest --help"),
];

fn fits() -> Outcome {
    for (name, call) in COMMANDS {
        let ran = tool(call).run().exits_with(0);
        assert_eq!(ran.stderr, "");
        assert!(ran.stdout.contains("Exit codes:"), "{}", ran.stdout);
        for line in ran.stdout.lines() {
            assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
        }
        insta::assert_snapshot!(format!("help_{name}"), ran.picture());
    }
    Ok(())
}

fn examples() -> Outcome {
    for (_, call) in COMMANDS {
        let ran = tool(call).run();
        let (_, text) = ran.stdout.split_once("Examples:\n").expect("examples");
        let lines: Vec<&str> = text.lines().take_while(|line| line.starts_with("  kvm-utils ")).collect();
        assert!(lines.len() >= 3, "few examples in {call}");
        for line in lines {
            let (example, what) = line.trim().split_once("  ").expect("an explanation");
            assert!(!what.trim().is_empty());
            let words =
                example.split(' ').filter(|word| !word.starts_with('>')).map(|word| word.trim_matches('\''));
            assert!(Cli::try_parse_from(words).is_ok(), "{example}");
        }
    }
    Ok(())
}

fn no_arguments() -> Outcome {
    let ran = tool("").run().exits_with(2);
    assert_eq!(ran.stdout, "");
    assert!(ran.says("Usage: kvm-utils <COMMAND>").stderr.contains("Examples:"));
    Ok(())
}

fn version() -> Outcome {
    let ran = tool("--version").run().exits_with(0);
    assert_eq!(ran.stdout, format!("kvm-utils {}\n", env!("CARGO_PKG_VERSION")));
    Ok(())
}

const README: &str = include_str!("../../../README.md");

/// Its lines are up to 100 columns wide.
fn readme() -> Outcome {
    let blocks: Vec<&str> = README.split("```").skip(1).step_by(2).collect();
    let mut compared = 0;
    for block in blocks {
        let Some((command, shown)) = block.split_once("\n$ kvm-utils ").and_then(|(_, b)| b.split_once('\n'))
        else {
            continue;
        };
        if command.ends_with(" -h") {
            let tool = tool(command);
            let output = tool.command().env("COLUMNS", "100").output().unwrap();
            assert_eq!(tool.ran(&output).exits_with(0).stdout, shown, "README.md shows another {command}");
            compared += 1;
        }
    }
    assert!(compared > 0);
    Ok(())
}
