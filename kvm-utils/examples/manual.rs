//! Writes the manual pages and the shells' completions of both programs into a directory: `man/` and `completions/`.
//! They come from the same definitions as the command lines themselves.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _, ValueEnum as _};
use clap_complete::Shell;
use kvm_utils::cmd::Cli;

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).context("usage: manual DIRECTORY")?;
    for command in [Cli::command().name("kvm-utils"), kvm_bench::cli::command()] {
        write(&command, Path::new(&directory))?;
    }
    Ok(())
}

fn write(command: &Command, directory: &Path) -> Result<()> {
    let (pages, completions) = (directory.join("man"), directory.join("completions"));
    for directory in [&pages, &completions] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    // A page per subcommand: kvm-utils-exits.1 and so on.
    clap_mangen::generate_to(command.clone(), &pages).context("cannot write the manual pages")?;
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let written = clap_complete::generate_to(shell, &mut command.clone(), &name, &completions);
        let shell = shell.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        written.with_context(|| format!("cannot write the completions for {shell}"))?;
    }
    Ok(())
}
