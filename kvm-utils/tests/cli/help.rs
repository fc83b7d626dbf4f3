//! Help: complete, within 80 columns, and with examples that work.

use std::{fs, path::Path};

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
    ("help::of_the_documents_is_what_is_printed", documents),
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

/// Columns of the terminal that the documents were made with.
const DOCUMENTS_WIDTH: &str = "100";

/// The calls for help in a document's console blocks, each with the text that it shows as their output.
fn shown(text: &str) -> Vec<(String, String)> {
    let mut shown = Vec::new();
    // Between each two fences is a block, after its language.
    for block in text.split("```").skip(1).step_by(2) {
        let (_, block) = block.split_once('\n').unwrap_or_default();
        for session in format!("\n{block}").split("\n$ ").skip(1) {
            let (call, output) = session.split_once('\n').unwrap_or((session, ""));
            let mut words = call.split_whitespace().skip_while(|word| *word == "sudo");
            let program = words.next().unwrap_or_default();
            let is_help = words.clone().any(|word| ["-h", "--help", "help"].contains(&word));
            if is_help && program.starts_with("kvm-") {
                assert_eq!(program, "kvm-utils", "no test compares what this prints: {call}");
                shown.push((words.collect::<Vec<_>>().join(" "), output.trim_end().to_owned()));
            }
        }
    }
    shown
}

fn documents() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let mut files = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    let docs = fs::read_dir(root.join("docs")).expect("documents");
    files.extend(docs.map(|entry| entry.expect("a document").path()));
    let mut compared = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|is| is == "md")) {
        for (call, text) in shown(&fs::read_to_string(file).expect("a document")) {
            let tool = tool(&call);
            let output = tool.command().env("COLUMNS", DOCUMENTS_WIDTH).output().expect("the binary starts");
            let ran = tool.ran(&output).exits_with(0);
            let place = file.display();
            assert_eq!(
                ran.stdout.trim_end(),
                text,
                "{place} shows another help of {call}: left is what is printed"
            );
            compared += 1;
        }
    }
    assert!(compared > 0, "no document shows any help");
    Ok(())
}
