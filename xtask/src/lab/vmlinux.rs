//! The kernel proper, taken out of a bzImage and laid out as it lies in memory.
//!
//! An emulator that interprets every instruction needs 10 s to decompress a Debian kernel and a second to
//! relocate it; the host does it once in one. The formats: Documentation/arch/x86/boot.rst and elf(5).

use std::io::{Read, Write};
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

    /// The facts as text, for [`Self::from_json`].
    pub(crate) fn to_json(&self) -> String {
        let Self { entry, load, end, setup_header } = self;
        json!({"entry": entry, "load": load, "end": end, "setup_header": setup_header}).to_string()
    }

    /// Reads back the facts of a kernel that was unpacked before.
    pub(crate) fn from_json(text: &str) -> Result<Self> {
        let facts: Value = serde_json::from_str(text)?;
        let number = |key: &str| facts[key].as_u64().with_context(|| format!("no {key}"));
        let header = facts["setup_header"].as_array().context("no setup_header")?;
        let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
        Ok(Self {
            entry: number("entry")?,
            load: number("load")?,
            end: number("end")?,
            setup_header: header
                .iter()
                .map(byte)
                .collect::<Option<_>>()
                .context("setup_header is no bytes")?,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with the program headers (type, file offset, physical address, file size, memory size).
    fn elf(entry: u64, segments: &[(u32, u64, u64, u64, u64)], data: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[0x18..0x20].copy_from_slice(&entry.to_le_bytes());
        file[0x20..0x28].copy_from_slice(&64_u64.to_le_bytes());
        file[0x36..0x38].copy_from_slice(&56_u16.to_le_bytes());
        file[0x38..0x3a].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        for (kind, offset, address, file_size, memory_size) in segments {
            file.extend(u64::from(*kind).to_le_bytes());
            for number in [*offset, 0xffff_ffff_8000_0000 + address, *address, *file_size, *memory_size, 4096]
            {
                file.extend(number.to_le_bytes());
            }
        }
        file.extend(data);
        file
    }

    fn two_segments() -> Vec<u8> {
        let segments = [(1, 232, 0x10_2000, 3, 0x1000), (4, 0, 0, 99, 99), (1, 235, 0x10_0000, 4, 4)];
        elf(0x10_0001, &segments, b"abcABCD")
    }

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR];
        image[SETUP_SECTS] = 1;
        image[HEADER_JUMP] = 0x6a;
        image[HEADER_MAGIC..HEADER_MAGIC + 4].copy_from_slice(b"HdrS");
        image[PROTOCOL_VERSION..PROTOCOL_VERSION + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        image.extend([0x90; 16]);
        image.extend(payload);
        image
    }

    #[test]
    fn segments_lie_at_their_physical_addresses() {
        let (kernel, flat) = flatten(&two_segments()).unwrap();
        assert_eq!((kernel.entry, kernel.load, kernel.end), (0x10_0001, 0x10_0000, 0x10_3000));
        assert_eq!((&flat[..5], &flat[0x2000..]), (&b"ABCD\0"[..], &b"abc"[..]));
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        let reason = |elf: &[u8]| flatten(elf).unwrap_err().to_string();
        assert!(reason(b"\x7fELF\x01").contains("64-bit"));
        assert!(reason(b"\x7fELF\x02\x01\x01").contains("truncated"));
        assert!(reason(&elf(1, &[(1, 300, 0, 4, 4)], b"")).contains("truncated"));
        assert!(reason(&elf(9, &[(1, 120, 0, 4, 4)], b"abcd")).contains("entry point"));
        assert!(reason(&elf(1, &[], b"")).contains("no segments"));
        assert!(Vmlinux::unpack(&[0; 4096]).unwrap_err().to_string().contains("HdrS"));
        assert!(
            Vmlinux::unpack(&bzimage(b"?compressed"))
                .unwrap_err()
                .to_string()
                .contains("unknown compression")
        );
    }

    #[test]
    fn the_setup_header_comes_along_and_facts_survive() {
        let (kernel, _) = Vmlinux::unpack(&bzimage(&two_segments())).unwrap();
        assert_eq!(kernel.setup_header.len(), HEADER_MAGIC + 0x6a - SETUP_SECTS);
        assert_eq!(kernel.setup_header[HEADER_MAGIC - SETUP_SECTS..][..4], *b"HdrS");
        assert_eq!(Vmlinux::from_json(&kernel.to_json()).unwrap(), kernel);
        assert!(Vmlinux::from_json("").is_err());
    }

    #[test]
    fn an_xz_payload_is_unpacked_and_its_size_checked() {
        if crate::process::find("xz").is_none() {
            return;
        }
        let elf = two_segments();
        let packed = filter(tool("xz").arg("-c"), &elf).unwrap();
        let sized = |size: usize| [&packed[..], &u32::try_from(size).unwrap().to_le_bytes()].concat();
        assert_eq!(Vmlinux::unpack(&bzimage(&sized(elf.len()))).unwrap().0.load, 0x10_0000);
        let error = Vmlinux::unpack(&bzimage(&sized(elf.len() + 1))).unwrap_err().to_string();
        assert!(error.contains("were promised"), "{error}");
    }
}
