//! The kernel proper, taken out of a bzImage and laid out as it lies in memory.
//!
//! An emulator that interprets every instruction needs 10 s to decompress a Debian kernel and a second to
//! relocate it; the host does it once in one. The formats: Documentation/arch/x86/boot.rst and elf(5).

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process::tool;

/// A kernel that can be put into memory as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vmlinux {
    /// Physical address of the first instruction (64-bit mode).
    pub(crate) entry: u64,
    /// Physical address of the first byte of the flat image.
    pub(crate) load: u64,
    /// Physical address behind everything the kernel occupies at the start, its zeroed data included.
    pub(crate) end: u64,
    /// The setup header, which goes to offset 0x1f1 of the zero page.
    pub(crate) setup_header: Vec<u8>,
}

// Fields of the bzImage (boot.rst, "The Real-Mode Kernel Header").
const SETUP_SECTS: usize = 0x1f1;
const HEADER_JUMP: usize = 0x201;
const HEADER_MAGIC: usize = 0x202;
const PROTOCOL_VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The first protocol version that has `init_size` and with it all that is read here (kernel 2.6.35).
const OLDEST_PROTOCOL: u16 = 0x20a;
const SECTOR: usize = 512;

/// Compressed formats that kernels use: magic bytes, program, whether the build appends the unpacked size in
/// 4 bytes (arch/x86/boot/compressed/Makefile: `size_append`; gzip has it in its own trailer).
const COMPRESSORS: [(&[u8], &str, bool); 6] = [
    (b"\xfd7zXZ\0", "xz", true),
    (b"\x28\xb5\x2f\xfd", "zstd", true),
    (b"\x1f\x8b", "gzip", false),
    (b"\x02\x21\x4c\x18", "lz4", true),
    (b"BZh", "bzip2", true),
    (b"\x5d\0\0", "lzma", true),
];

impl Vmlinux {
    /// Takes the kernel out of `bzimage`: its facts, and the flat image to put at `load`.
    ///
    /// # Errors
    /// The file is no 64-bit x86 bzImage, or the program for its compression is missing or refuses the payload.
    pub(crate) fn unpack(bzimage: &[u8]) -> Result<(Self, Vec<u8>)> {
        ensure!(bytes(bzimage, HEADER_MAGIC, 4)? == b"HdrS", "not an x86 bzImage: no HdrS at 0x202");
        let version = u16::try_from(le(bzimage, PROTOCOL_VERSION, 2)?)?;
        ensure!(version >= OLDEST_PROTOCOL, "boot protocol {version:#x} is older than {OLDEST_PROTOCOL:#x}");
        // boot.rst: the header ends at 0x202 + the byte at 0x201 (the offset of the jump over it).
        let header_end = HEADER_MAGIC + usize::from(bytes(bzimage, HEADER_JUMP, 1)?[0]);
        let setup_header = bytes(bzimage, SETUP_SECTS, header_end - SETUP_SECTS)?.to_vec();

        let setup_sectors = match bytes(bzimage, SETUP_SECTS, 1)?[0] {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let offset = (setup_sectors + 1) * SECTOR + usize::try_from(le(bzimage, PAYLOAD_OFFSET, 4)?)?;
        let length = usize::try_from(le(bzimage, PAYLOAD_LENGTH, 4)?)?;
        let elf = decompress(bytes(bzimage, offset, length)?)?;
        let (kernel, flat) = flatten(&elf).context("in the kernel's payload")?;
        Ok((Self { setup_header, ..kernel }, flat))
    }

    /// Writes what [`Self::load_facts`] reads.
    pub(crate) fn save_facts(&self, file: &Path) -> Result<()> {
        let facts =
            json!({"entry": self.entry, "load": self.load, "end": self.end, "setup_header": self.setup_header});
        std::fs::write(file, facts.to_string()).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Reads back the facts of a kernel that was unpacked before.
    pub(crate) fn load_facts(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)?;
        let facts: Value = serde_json::from_str(&text)?;
        let number = |key: &str| facts[key].as_u64().with_context(|| format!("no {key}"));
        let header = facts["setup_header"].as_array().context("no setup_header")?;
        let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
        Ok(Self {
            entry: number("entry")?,
            load: number("load")?,
            end: number("end")?,
            setup_header: header.iter().map(byte).collect::<Option<_>>().context("setup_header is no bytes")?,
        })
    }
}

/// Lays the segments of a kernel's ELF file out at their physical addresses.
fn flatten(elf: &[u8]) -> Result<(Vmlinux, Vec<u8>)> {
    const ELFCLASS64: u8 = 2;
    const PT_LOAD: u64 = 1;
    ensure!(bytes(elf, 0, 5)? == [0x7f, b'E', b'L', b'F', ELFCLASS64], "not a 64-bit ELF file");
    let entry = le(elf, 0x18, 8)?;
    let (table, entry_size, entries) = (le(elf, 0x20, 8)?, le(elf, 0x36, 2)?, le(elf, 0x38, 2)?);
    let mut segments = Vec::new();
    for index in 0..entries {
        let header = usize::try_from(table + index * entry_size)?;
        if le(elf, header, 4)? == PT_LOAD {
            let field = |offset| le(elf, header + offset, 8);
            // p_paddr, p_memsz and the bytes in the file (p_offset, p_filesz)
            let data = bytes(elf, usize::try_from(field(8)?)?, usize::try_from(field(0x20)?)?)?;
            segments.push((field(0x18)?, field(0x28)?, data));
        }
    }
    let load = segments.iter().map(|segment| segment.0).min().context("the ELF file has no segments")?;
    let end = segments.iter().map(|segment| segment.0 + segment.1).max().unwrap_or(load);
    let mut flat = Vec::new();
    for (address, _, data) in segments {
        let start = usize::try_from(address - load)?;
        let end = start + data.len();
        if flat.len() < end {
            flat.resize(end, 0);
        }
        flat[start..end].copy_from_slice(data);
    }
    ensure!((load..end).contains(&entry), "the entry point {entry:#x} is outside of {load:#x}..{end:#x}");
    Ok((Vmlinux { entry, load, end, setup_header: Vec::new() }, flat))
}

fn decompress(payload: &[u8]) -> Result<Vec<u8>> {
    if payload.starts_with(b"\x7fELF") {
        return Ok(payload.to_vec());
    }
    let known = COMPRESSORS.iter().find(|(magic, ..)| payload.starts_with(magic));
    let Some((_, program, size_appended)) = known else {
        bail!("unknown compression of the kernel: it begins with {:02x?}", bytes(payload, 0, 6)?);
    };
    let (stream, size) = match payload.split_last_chunk::<4>() {
        Some((stream, size)) if *size_appended => (stream, Some(u32::from_le_bytes(*size))),
        _ => (payload, None),
    };
    let unpacked = filter(tool(program).arg("-dc"), stream)?;
    if let Some(size) = size {
        ensure!(
            unpacked.len() == size as usize,
            "{program} unpacked {} bytes of kernel, {size} were promised",
            unpacked.len()
        );
    }
    Ok(unpacked)
}

/// What `command` prints when it reads `input`.
pub(crate) fn filter(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let name = crate::process::name(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}: install the package that has it"))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut output = Vec::new();
    std::thread::scope(|scope| {
        // A failed write means that the program ended early; its status tells.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        stdout.map(|mut stdout| stdout.read_to_end(&mut output)).transpose()
    })
    .with_context(|| format!("cannot read what {name} prints"))?;
    let status = child.wait()?;
    ensure!(status.success(), "{name} failed ({status})");
    Ok(output)
}

fn bytes(data: &[u8], offset: usize, length: usize) -> Result<&[u8]> {
    let end = offset.checked_add(length).filter(|end| *end <= data.len());
    end.map(|end| &data[offset..end])
        .with_context(|| format!("truncated: {length} bytes at {offset:#x} are not in {} bytes", data.len()))
}

/// A little-endian number of up to 8 bytes.
fn le(data: &[u8], offset: usize, length: usize) -> Result<u64> {
    Ok(bytes(data, offset, length)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
