//! Layouts of real kernels: `format` files and BTF from `tests/fixtures`, and what may be wrong with them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod btf;
mod btf_writer;
mod exit_layout;
mod formats;
mod print_fmt;

use std::{fs, path::PathBuf};

fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

/// Text of a `format` file.
fn format(kernel: &str, event: &str) -> String {
    let path = fixture("format").join(kernel).join(event).with_extension("format");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every kernel with `format` files.
fn kernels() -> Vec<String> {
    let entries = fs::read_dir(fixture("format")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
