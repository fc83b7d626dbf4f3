//! The object file: what is kept of what the linker makes, and how two of them differ.

use std::path::Path;

use anyhow::{Context, Result, bail};
use object::build::elf::{Builder, SectionData};

/// Makes of the linker's output what is committed.
///
/// The DWARF sections go: BTF has been made from them and is all that a loader reads; they would make the file five
/// times as large. Mangled names lose the hash of their crate, which depends on where Rust's library lies on the
/// machine that builds.
pub(super) fn strip(linked: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(linked).context("the linker's output cannot be read as ELF")?;
    for section in builder.sections.iter_mut() {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug") || name.starts_with(".rel.debug");
        if name == ".BTF"
            && let SectionData::Data(data) = &mut section.data
        {
            blank_hashes(data.to_mut());
        }
    }
    for symbol in builder.symbols.iter_mut() {
        blank_hashes(symbol.name.to_mut());
    }
    // LLVM keeps the sections' names with those of the symbols; the writer keeps them apart.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = b".shstrtab".as_slice().into();
        names.sh_type = object::elf::SHT_STRTAB;
        names.data = SectionData::SectionString;
    }
    // Symbols of removed sections, and relocations that name them.
    builder.delete_orphans();
    if !builder.sections.iter().any(|section| section.name.to_string() == ".BTF") {
        bail!("the object has no BTF");
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes).context("cannot write the stripped object")?;
    Ok(bytes)
}

/// Replaces the disambiguator of every crate in v0-mangled names, `Cs<base 62>_<length><name>`, by zeros. The length
/// stays: offsets into the name, and of what comes after it, hold.
fn blank_hashes(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(2).position(|window| window == b"Cs") {
        let start = at + found + 2;
        let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let end = start + length;
        // 2^64 has eleven digits in base 62; the name's length follows the underscore.
        let is_hash = (1..=11).contains(&length)
            && bytes.get(end) == Some(&b'_')
            && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if is_hash {
            bytes[start..end].fill(b'0');
        }
        at = start;
    }
}

/// Refuses an object that names a directory of the machine it was built on: it would not repeat elsewhere.
pub(super) fn refuse_paths(object: &[u8], paths: &[&Path]) -> Result<()> {
    for path in paths {
        let needle = path.as_os_str().as_encoded_bytes();
        if !needle.is_empty() && object.windows(needle.len()).any(|window| window == needle) {
            bail!("the object contains the path {}; a --remap-path-prefix is missing", path.display());
        }
    }
    Ok(())
}

/// Where two objects start to differ.
pub(super) fn difference(committed: &[u8], built: &[u8]) -> String {
    let sizes =
        format!("the committed object has {} bytes, the rebuilt one {}", committed.len(), built.len());
    let same = committed.iter().zip(built).take_while(|(a, b)| a == b).count();
    let section = section_at(committed, same).unwrap_or_else(|| "no section".into());
    format!("{sizes}; they differ first at byte {same} (in {section})")
}

fn section_at(bytes: &[u8], offset: usize) -> Option<String> {
    use object::{Object, ObjectSection};
    let file = object::File::parse(bytes).ok()?;
    let offset = u64::try_from(offset).ok()?;
    let section = file.sections().find(|section| {
        section.file_range().is_some_and(|(start, size)| (start..start + size).contains(&offset))
    })?;
    section.name().ok().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(strip(b"not an ELF file").is_err());
    }

    #[test]
    fn an_object_without_btf_is_refused() {
        use object::write::Object;
        let object =
            Object::new(object::BinaryFormat::Elf, object::Architecture::Bpf, object::Endianness::Little);
        assert!(strip(&object.write().unwrap()).unwrap_err().to_string().contains("BTF"));
    }

    #[test]
    fn the_hashes_of_crates_are_blanked() {
        let mut names = *b"\0_RNvNtCsjT9nJHWSXDy_14kvm_utils_ebpf4vcpu5CACHE\0Cs\0u8Csx_y\0_RNvCs1_4core";
        blank_hashes(&mut names);
        let expected = b"\0_RNvNtCs00000000000_14kvm_utils_ebpf4vcpu5CACHE\0Cs\0u8Csx_y\0_RNvCs0_4core";
        assert_eq!(names.as_slice(), expected);
    }

    #[test]
    fn a_path_of_this_machine_is_found() {
        let object = b"..\0/home/me/project/src/main.rs\0";
        assert!(refuse_paths(object, &[Path::new("/home/me/project")]).is_err());
        assert!(refuse_paths(object, &[Path::new("/home/you"), Path::new("")]).is_ok());
    }

    #[test]
    fn the_first_difference_is_named() {
        assert!(difference(b"abc", b"abd").contains("byte 2"));
        assert!(difference(b"abc", b"abcd").contains("byte 3"));
    }
}
