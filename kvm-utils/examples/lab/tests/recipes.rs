//! The README's recipes, typed as they stand there beside guests that have the trouble.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::registry::{Context, Test, Verdict};
use crate::shell::{Background, Shell};

pub const TESTS: &[Test] =
    &[Test { name: "recipes-of-the-readme", needs_idle_kvm: false, timeout_s: 900, run: recipes }];

const README: &str = include_str!("../../../../README.md");
/// How long what was started in the background may take until others can ask it.
const START: Duration = Duration::from_secs(60);

/// What to type, and the lines shown below it.
struct Step {
    typed: &'static str,
    shown: Vec<&'static str>,
}

/// The steps of each recipe, with its title.
fn book() -> Vec<(&'static str, Vec<Step>)> {
    let mut book: Vec<(&str, Vec<Step>)> = Vec::new();
    let mut within = false;
    let recipes = README.split("\n## ").find_map(|part| part.strip_prefix("Recipes\n")).unwrap_or_default();
    for line in recipes.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            book.push((title, Vec::new()));
        } else if line.starts_with("```") {
            within = line == "```console";
        } else if let (true, Some((_, steps))) = (within, book.last_mut()) {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(typed), _) => steps.push(Step { typed, shown: Vec::new() }),
                (None, Some(step)) => step.shown.push(line),
                (None, None) => {}
            }
        }
    }
    book
}

/// Whether what README shows is there: for each line, one that begins with the same word, in the same order. Numbers differ, and
/// labels, which have a pid.
fn is_like(output: &str, shown: &[&str]) -> Result<()> {
    let first =
        |line: &str| line.split([' ', '{']).find(|word| !word.is_empty()).unwrap_or_default().to_owned();
    let mut lines = output.lines().map(first);
    for line in shown.iter().filter(|line| **line != "...") {
        ensure!(lines.any(|word| word == first(line)), "no {line:?} in its place in\n{output}");
    }
    Ok(())
}

fn run(shell: &Shell, step: &Step) -> Result<()> {
    let output = shell.run(step.typed)?;
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprintln!("$ {}\n{text}{said}", step.typed);
    // A limit that a recipe is there to exceed.
    let expected = if step.typed.contains("--fail-above") { 1 } else { 0 };
    ensure!(output.status.code() == Some(expected), "{}: {}: {said}", step.typed, output.status);
    is_like(&text, &step.shown)
}

/// Steps that end in `&` go on until the recipe's end; those after them are tried until they can be asked.
fn follow(shell: &Shell, steps: &[Step]) -> Result<()> {
    let mut background: Vec<Background> = Vec::new();
    for step in steps {
        if let Some(typed) = step.typed.strip_suffix(" &") {
            background.push(shell.in_background(typed)?);
            continue;
        }
        let deadline = Instant::now() + START;
        loop {
            match run(shell, step) {
                Err(_) if !background.is_empty() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                result => {
                    result?;
                    break;
                }
            }
        }
    }
    Ok(())
}

fn recipes(context: &Context) -> Result<Verdict> {
    if context.kvm_utils.is_none() || context.kvm_bench.is_none() {
        return Ok(Verdict::Skipped("--kvm-utils and --kvm-bench are not given".to_owned()));
    }
    let shell = Shell::new(context)?;
    // The change that adds exits comes after the first recording.
    let (before, after) = ("work=boot", "work=boot clocksource=acpi_pm");
    shell.script(
        "boot-guest.sh",
        &format!(
            "if [ -e after-1.kvmrec ]; then {}; else {}; fi",
            shell.guest("web-1", after),
            shell.guest("web-1", before)
        ),
    )?;
    let book = book();
    ensure!(book.len() == 5, "{} recipes", book.len());
    let mut guests =
        vec![shell.started("web-1", "work=timers work_seconds=600")?, shell.started("db-1", "work=600")?];
    for (number, (title, steps)) in book.iter().enumerate() {
        eprintln!("# {title}");
        ensure!(!steps.is_empty(), "{title}: nothing to type");
        // The first three are about guests that run; the others start their own.
        if number == 3 {
            guests.clear();
        }
        follow(&shell, steps)?;
    }
    Ok(Verdict::Ok)
}
