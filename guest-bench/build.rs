//! Tells which commit this is, and builds the two freestanding guests with the same rustc: the one of `kvm-utils selftest`, which becomes a flat image, and the
//! one that measures, which stays an ELF file.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    version();
    println!("cargo::rerun-if-changed=payload");
    println!("cargo::rerun-if-changed=bench-payload");
    println!("cargo::rerun-if-changed=src/protocol.rs");
    println!("cargo::rerun-if-changed=src/shared");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let elf = out.join("payload.elf");
    compile("payload", &elf)?;
    compile("bench-payload", &out.join("bench-payload.elf"))?;
    let image = Image::from_elf(&fs::read(&elf)?)?;
    fs::write(out.join("payload.bin"), &image.bytes)?;
    fs::write(
        out.join("payload.rs"),
        format!(
            "pub const LOAD_ADDRESS: u64 = {:#x};\npub const ENTRY: u64 = {:#x};\npub const MEMORY_SIZE: u64 = {:#x};\n",
            image.address, image.entry, image.memory_size
        ),
    )?;
    Ok(())
}

/// What `--version` tells, where nobody has said it (`KVM_UTILS_VERSION`): with the commit in a release build from a
/// checkout, such as `cargo install` makes. Other builds would be done anew after each commit for nothing.
fn version() {
    println!("cargo::rerun-if-env-changed=KVM_UTILS_VERSION");
    if env::var_os("KVM_UTILS_VERSION").is_some()
        || env::var("PROFILE").is_ok_and(|profile| profile != "release")
    {
        return;
    }
    let Some(workspace) = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from) else { return };
    let Some(workspace) = workspace.parent() else { return };
    let git = |words: &[&str]| {
        let output = Command::new("git").arg("-C").arg(workspace).args(words).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    // A copy of the sources within somebody else's checkout has no commit.
    let top = git(&["rev-parse", "--show-toplevel"]).and_then(|top| fs::canonicalize(top).ok());
    if top.is_none() || top != fs::canonicalize(workspace).ok() {
        return;
    }
    // What HEAD was, once for each time it changed.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={}", workspace.join(log).display());
    }
    if let Some(revision) = git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]) {
        println!("cargo::rustc-env=KVM_UTILS_VERSION={} ({revision})", env!("CARGO_PKG_VERSION"));
    }
}

/// Compiles main.rs in a directory, with the link.ld there. Cargo's own flags stay out: they are for a hosted program (`crt-static`), this is none.
fn compile(directory: &str, elf: &Path) -> Result<(), Box<dyn Error>> {
    let target = env::var("TARGET")?;
    if !target.starts_with("x86_64-") {
        return Err(
            format!("the guest is x86-64 machine code; build for an x86_64 target, not {target}").into()
        );
    }
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let source = root.join(directory);
    let name = directory.replace('-', "_");
    let mut rustc = Command::new(env::var("RUSTC")?);
    rustc
        .args(["--crate-name", &name, "--crate-type", "bin", "--edition", "2024", "--target", &target])
        .args(["-C", "panic=abort", "-C", "opt-level=2", "-C", "codegen-units=1", "-C", "target-cpu=x86-64"])
        .args(["-C", "relocation-model=static", "-C", "no-redzone=yes", "-C", "overflow-checks=no"])
        // No SSE that is not asked for: some hypervisors run ring 0 in an instruction emulator that does not know it.
        .args(["-C", "no-vectorize-slp", "-C", "no-vectorize-loops", "-C", "strip=debuginfo"])
        .args([
            "-C",
            "link-args=-nostartfiles -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack",
        ])
        .arg("-C")
        .arg(format!("link-arg=-Wl,-T,{}", source.join("link.ld").display()))
        .arg(format!("--remap-path-prefix={}=.", root.display()))
        .arg("-o")
        .arg(elf)
        .arg(source.join("main.rs"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    let status = rustc.status().map_err(|error| format!("cannot run {rustc:?}: {error}"))?;
    if !status.success() {
        return Err(format!("the guest did not build ({status}); the command was {rustc:?}").into());
    }
    Ok(())
}

/// What the loadable segments of an ELF file put into memory.
struct Image {
    address: u64,
    entry: u64,
    bytes: Vec<u8>,
    memory_size: u64,
}

impl Image {
    fn from_elf(elf: &[u8]) -> Result<Self, Box<dyn Error>> {
        if !elf.starts_with(b"\x7fELF\x02\x01") {
            return Err("the linker did not write a little-endian 64-bit ELF file".into());
        }
        let table = number(elf, 0x20, 8)?;
        let (size, count) = (number(elf, 0x36, 2)?, number(elf, 0x38, 2)?);
        let mut segments = Vec::new();
        for at in (0..count).map(|index| table + index * size) {
            const PT_LOAD: u64 = 1;
            if number(elf, at, 4)? == PT_LOAD {
                let (offset, file_size) = (number(elf, at + 8, 8)?, number(elf, at + 32, 8)?);
                let bytes = slice(elf, offset, file_size)?;
                segments.push((number(elf, at + 24, 8)?, bytes, number(elf, at + 40, 8)?));
            }
        }
        let address =
            segments.iter().map(|segment| segment.0).min().ok_or("the guest has no loadable segment")?;
        let end = segments.iter().map(|segment| segment.0 + segment.2).max().unwrap_or(address);
        let mut image = Vec::new();
        for (start, bytes, _) in segments {
            let start = usize::try_from(start - address)?;
            image.resize(image.len().max(start + bytes.len()), 0);
            image[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Ok(Self { address, entry: number(elf, 0x18, 8)?, bytes: image, memory_size: end - address })
    }
}

fn slice(bytes: &[u8], offset: u64, size: u64) -> Result<&[u8], Box<dyn Error>> {
    let (start, size) = (usize::try_from(offset)?, usize::try_from(size)?);
    let end = start.checked_add(size).ok_or("an offset in the ELF file overflows")?;
    bytes.get(start..end).ok_or_else(|| "the ELF file is cut short".into())
}

fn number(bytes: &[u8], offset: u64, size: u64) -> Result<u64, Box<dyn Error>> {
    let mut value = [0; 8];
    let field = slice(bytes, offset, size)?;
    value[..field.len()].copy_from_slice(field);
    Ok(u64::from_le_bytes(value))
}
