//! Taking a program of this machine along, with the shared libraries it is linked with.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use crate::process::find;

/// Puts a program and its shared libraries into the archive, at the paths they have here; for a script, also
/// what runs it.
pub(crate) fn program(archive: &mut Archive, program: &Path) -> Result<()> {
    archive.copy(program)?;
    if let Some(interpreter) = interpreter(program)? {
        return self::program(archive, &interpreter);
    }
    for library in libraries(program)? {
        archive.copy(&library)?;
    }
    Ok(())
}

/// The program in the first line of a script, if this is one.
fn interpreter(file: &Path) -> Result<Option<PathBuf>> {
    let context = || format!("cannot read {}", file.display());
    let mut start = [0; 256];
    let length = File::open(file).and_then(|mut file| file.read(&mut start)).with_context(context)?;
    let line = start[..length].strip_prefix(b"#!").and_then(|rest| rest.split(|byte| *byte == b'\n').next());
    let mut words = line.map(|line| String::from_utf8_lossy(line).into_owned()).unwrap_or_default();
    if let Some(name) = words.trim().strip_prefix("/usr/bin/env ") {
        let found =
            find(name.trim()).with_context(|| format!("{} wants {name}, not found here", file.display()))?;
        return Ok(Some(found));
    }
    words.truncate(words.trim_end().len());
    Ok(words.split_whitespace().next().map(PathBuf::from))
}

/// The shared libraries and the loader a program needs; none for a static program or a script.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("cannot start ldd (package libc-bin)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !format!("{text}{errors}").contains("not a dynamic executable") {
        bail!("ldd cannot tell the libraries of {}: {}", program.display(), errors.trim());
    }
    parse(&text).with_context(|| format!("cannot carry {} into the lab", program.display()))
}

/// Reads ldd's lines: `name => /path (address)`, `/path (address)`, `name (address)` for the vDSO.
fn parse(text: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in text.lines().map(str::trim) {
        let place = line.split_once("=> ").map_or(line, |(_, place)| place);
        if place.starts_with("not found") {
            bail!("its library is missing on this machine: {line}");
        }
        if let Some((path, _)) = place.split_once(" (0x")
            && path.starts_with('/')
        {
            libraries.push(path.into());
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines_name_the_libraries() {
        let text = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f1)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n";
        let expected = ["/lib/x86_64-linux-gnu/libz.so.1", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
        assert!(parse("\tlibz.so.1 => not found\n").is_err());
    }

    #[test]
    fn the_shell_brings_its_loader() {
        let mut archive = Archive::default();
        program(&mut archive, Path::new("/bin/sh")).unwrap();
        let bytes = archive.to_vec().unwrap();
        assert!(bytes.windows(20).any(|window| window == b"ld-linux-x86-64.so.2"));
    }
}
