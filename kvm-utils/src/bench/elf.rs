//! The part of an ELF file that a PVH loader needs: what lies where in memory, and the 32-bit entry point that a note names
//! (Xen, docs/misc/pvh.pandoc and xen/include/public/elfnote.h).

use super::Error;

/// `XEN_ELFNOTE_PHYS32_ENTRY`, xen/include/public/elfnote.h.
const PHYS32_ENTRY: u64 = 18;
/// Its name, with the zero that ends it.
const XEN: &[u8] = b"Xen\0";
/// ELF-64 Object File Format, "Program Header".
const PT_LOAD: u64 = 1;
/// As above.
const PT_NOTE: u64 = 4;

/// A program to be loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image<'a> {
    /// Guest-physical address of the first instruction, 32-bit protected mode.
    pub(super) entry: u64,
    /// What lies where.
    pub(super) segments: Vec<Segment<'a>>,
}

/// A range of memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    /// Guest-physical address.
    pub(super) address: u64,
    /// What it begins with; zeros follow.
    pub(super) bytes: &'a [u8],
    /// Its length in bytes.
    pub(super) size: u64,
}

impl<'a> Image<'a> {
    /// Reads a 64-bit ELF file.
    pub(super) fn parse(elf: &'a [u8]) -> Result<Self, Error> {
        if !elf.starts_with(b"\x7fELF\x02\x01") {
            return Err(Error::Elf("it is no little-endian 64-bit ELF file"));
        }
        let table = number(elf, 0x20, 8)?;
        let (size, count) = (number(elf, 0x36, 2)?, number(elf, 0x38, 2)?);
        let (mut segments, mut entry) = (Vec::new(), None);
        for index in 0..count {
            let at = table.checked_add(index * size).ok_or(CUT)?;
            let bytes = slice(elf, number(elf, at + 8, 8)?, number(elf, at + 32, 8)?)?;
            match number(elf, at, 4)? {
                PT_LOAD => {
                    let (address, size) = (number(elf, at + 24, 8)?, number(elf, at + 40, 8)?);
                    segments.push(Segment { address, bytes, size });
                }
                PT_NOTE => entry = entry.or(entry_in(bytes)),
                _ => {}
            }
        }
        let entry = entry.ok_or(Error::Elf("it has no PVH entry point (no Xen note of type 18)"))?;
        Ok(Self { entry, segments })
    }
}

/// What is said of a file that ends too early.
const CUT: Error = Error::Elf("it is cut short");

/// The entry point that a note in these bytes names.
fn entry_in(notes: &[u8]) -> Option<u64> {
    let mut at = 0;
    // Each: size of the name, size of the description, type, name, description; both parts padded to 4 bytes.
    while let Ok(kind) = number(notes, at + 8, 4) {
        let (name, description) = (number(notes, at, 4).ok()?, number(notes, at + 4, 4).ok()?);
        let content = at + 12 + name.next_multiple_of(4);
        if kind == PHYS32_ENTRY && slice(notes, at + 12, name).ok()? == XEN {
            return number(notes, content, description.min(8)).ok();
        }
        at = content + description.next_multiple_of(4);
    }
    None
}

fn slice(bytes: &[u8], offset: u64, size: u64) -> Result<&[u8], Error> {
    let (start, size) = (usize::try_from(offset).ok(), usize::try_from(size).ok());
    let end = start.and_then(|start| start.checked_add(size?));
    start.zip(end).and_then(|(start, end)| bytes.get(start..end)).ok_or(CUT)
}

fn number(bytes: &[u8], offset: u64, size: u64) -> Result<u64, Error> {
    let mut value = [0; 8];
    let field = slice(bytes, offset, size)?;
    value.get_mut(..field.len()).ok_or(CUT)?.copy_from_slice(field);
    Ok(u64::from_le_bytes(value))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file with one segment at 1 MiB and, before it, a note that names the entry.
    pub(crate) fn file(code: &[u8], memory: u64, note_type: u32) -> Vec<u8> {
        const ADDRESS: u64 = 0x10_0000;
        let mut note = Vec::new();
        // Another vendor's note first: its name is no multiple of 4 bytes long.
        for (name, kind, value) in [(&b"Other\0"[..], 18_u32, 0_u32), (XEN, note_type, ADDRESS as u32)] {
            note.extend((name.len() as u32).to_le_bytes());
            note.extend(4_u32.to_le_bytes());
            note.extend(kind.to_le_bytes());
            note.extend(name);
            note.resize(note.len().next_multiple_of(4), 0);
            note.extend(value.to_le_bytes());
        }
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(0x20, 0);
        elf.extend(0x40_u64.to_le_bytes());
        elf.resize(0x36, 0);
        elf.extend(56_u16.to_le_bytes());
        elf.extend(2_u16.to_le_bytes());
        elf.resize(0x40, 0);
        let data = 0x40 + 2 * 56;
        for (kind, offset, address, size, memory) in [
            (4_u32, data, 0, note.len() as u64, note.len() as u64),
            (1, data + note.len() as u64, ADDRESS, code.len() as u64, memory),
        ] {
            elf.extend(kind.to_le_bytes());
            elf.extend(7_u32.to_le_bytes());
            for field in [offset, address, address, size, memory, 4] {
                elf.extend(field.to_le_bytes());
            }
        }
        elf.extend(note);
        elf.extend(code);
        elf
    }

    #[test]
    fn segments_and_the_entry_are_found() {
        let elf = file(b"code", 0x2000, 18);
        let image = Image::parse(&elf).unwrap();
        assert_eq!(image.entry, 0x10_0000);
        assert_eq!(image.segments, [Segment { address: 0x10_0000, bytes: b"code", size: 0x2000 }]);
    }

    #[test]
    fn files_that_cannot_be_loaded_are_refused_with_the_cause() {
        let elf = file(b"code", 4, 18);
        let why = |elf: &[u8]| Image::parse(elf).unwrap_err().to_string();
        assert!(why(b"\x7fELF\x01\x01").contains("64-bit"));
        assert!(why(&file(b"code", 4, 17)).contains("PVH"));
        for end in 0..elf.len() {
            assert!(Image::parse(&elf[..end]).is_err(), "{end} bytes");
        }
    }
}
