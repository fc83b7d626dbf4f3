//! A guest kernel's functions, from its `/proc/kallsyms` or its `System.map`.
//!
//! Both have a line for each symbol: address, type as nm(1) has it, name; kallsyms has a module's name in brackets behind
//! that (kernel, Documentation/filesystems/proc.rst; kernel/kallsyms.c).

use std::collections::BTreeMap;

/// Where x86-64 kernels begin unless they are moved: `__START_KERNEL` with the default CONFIG_PHYSICAL_START
/// (arch/x86/include/asm/page_types.h).
const LINK_ADDRESS: u64 = 0xffff_ffff_8100_0000;
/// Symbols of the kernel's first byte.
const FIRST: [&str; 3] = ["_text", "_stext", "startup_64"];
/// No function is longer: an address further from the symbol before it lies in no function that is known.
const LONGEST: u64 = 1 << 18;

/// Functions by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbols {
    /// Sorted, addresses distinct; none: something that is no function begins there.
    all: Vec<(u64, Option<Box<str>>)>,
    /// The kernel lies where it was linked to.
    unmoved: bool,
}

/// Why a text gives no symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SymbolsError {
    /// It is something else.
    #[error(
        "no line reads like `ffffffff81000000 T _text`; give a copy of the guest's /proc/kallsyms, or the System.map of its \
         kernel"
    )]
    NoSymbols,
    /// The guest hid the addresses.
    #[error(
        "all addresses are 0: read /proc/kallsyms as root in the guest (sysctl kernel.kptr_restrict hides them)"
    )]
    Hidden,
    /// No symbol is a function.
    #[error(
        "none of its symbols is a function; the System.map in Debian's /boot is empty, for one: give a copy of the guest's \
         /proc/kallsyms"
    )]
    NoFunctions,
}

impl Symbols {
    /// Reads the text of a kallsyms or System.map file. Lines that are none of a symbol are skipped.
    ///
    /// # Errors
    ///
    /// [`SymbolsError`] if nothing is left.
    pub fn parse(text: &str) -> Result<Self, SymbolsError> {
        let mut all: BTreeMap<u64, Symbol<'_>> = BTreeMap::new();
        let (mut lines, mut hidden) = (0_u64, 0_u64);
        for symbol in text.lines().filter_map(Symbol::parse) {
            lines += 1;
            hidden += u64::from(symbol.address == 0);
            let best = all.entry(symbol.address).or_insert(symbol);
            if symbol.rank() < best.rank() {
                *best = symbol;
            }
        }
        match lines {
            0 => return Err(SymbolsError::NoSymbols),
            _ if lines == hidden => return Err(SymbolsError::Hidden),
            _ => {}
        }
        let unmoved = text
            .lines()
            .filter_map(Symbol::parse)
            .any(|symbol| symbol.address == LINK_ADDRESS && FIRST.contains(&symbol.name));
        let all: Vec<_> = all.values().map(|symbol| (symbol.address, symbol.function())).collect();
        if all.iter().all(|(_, function)| function.is_none()) {
            return Err(SymbolsError::NoFunctions);
        }
        Ok(Self { all, unmoved })
    }

    /// The same functions, `offset` bytes further up (modulo 2^64).
    #[must_use]
    pub fn moved(mut self, offset: u64) -> Self {
        for (address, _) in &mut self.all {
            *address = address.wrapping_add(offset);
        }
        self.all.sort_by_key(|(address, _)| *address);
        self.unmoved &= offset == 0;
        self
    }

    /// Whether they are those of a kernel that lies where it was linked to: not so where the guest moves it (KASLR).
    #[must_use]
    pub fn are_unmoved(&self) -> bool {
        self.unmoved
    }

    /// The function at an address, and how far into it that is.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<(&str, u64)> {
        let behind = self.all.partition_point(|(begin, _)| *begin <= address);
        let (begin, name) = self.all.get(behind.checked_sub(1)?)?;
        let into = address - begin;
        (into < LONGEST).then_some((name.as_deref()?, into))
    }
}

/// A line.
#[derive(Clone, Copy, Debug)]
struct Symbol<'a> {
    address: u64,
    kind: u8,
    name: &'a str,
    module: Option<&'a str>,
}

impl<'a> Symbol<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
        // from_str_radix takes a sign as well.
        if !address.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let address = u64::from_str_radix(address, 16).ok()?;
        let &[kind] = kind.as_bytes() else { return None };
        kind.is_ascii_alphabetic().then_some(Self { address, kind, name, module: words.next() })
    }

    /// Its name, if it is a function: in a text section, and no mark of where one begins or ends.
    fn function(&self) -> Option<Box<str>> {
        if !self.is_function() {
            return None;
        }
        Some(match self.module {
            Some(module) => format!("{}{module}", self.name).into(),
            None => self.name.into(),
        })
    }

    fn is_function(&self) -> bool {
        let mark = FIRST[..2].contains(&self.name)
            || ["_etext", "_sinittext", "_einittext"].contains(&self.name)
            || self.name.ends_with("_text_start")
            || self.name.ends_with("_text_end");
        matches!(self.kind, b't' | b'T' | b'w' | b'W') && !mark
    }

    /// Of several symbols at an address the one with the least is shown.
    fn rank(&self) -> u8 {
        match (self.is_function(), self.kind) {
            (true, b'T') => 0,
            (true, _) => 1,
            (false, _) => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KALLSYMS: &str = "\
0000000000000000 A fixed_percpu_data
ffffffff9c600000 T startup_64
ffffffff9c600000 T _stext
ffffffff9c600000 T _text
ffffffff9c600060 t secondary_startup_64
ffffffff9c600060 T secondary_startup
ffffffff9c600200 T __irqentry_text_start
ffffffff9c600200 t native_write_msr
ffffffff9c600230 T _etext
ffffffff9c601000 D data
ffffffffc0400000 t virtqueue_kick\t[virtio_ring]
";

    #[test]
    fn an_address_is_so_far_into_the_function_before_it() {
        let symbols = Symbols::parse(KALLSYMS).unwrap();
        assert_eq!(symbols.find(0xffff_ffff_9c60_0206), Some(("native_write_msr", 6)));
        assert_eq!(symbols.find(0xffff_ffff_9c60_0060), Some(("secondary_startup", 0)));
        assert_eq!(symbols.find(0xffff_ffff_9c60_0001), Some(("startup_64", 1)));
        assert_eq!(symbols.find(0xffff_ffff_c040_0010), Some(("virtqueue_kick[virtio_ring]", 16)));
        for nowhere in [0, 0x1000, 0xffff_ffff_9c5f_ffff, 0xffff_ffff_9c60_0230, 0xffff_ffff_9c60_1004] {
            assert_eq!(symbols.find(nowhere), None, "{nowhere:#x}");
        }
        assert_eq!(symbols.find(0xffff_ffff_c040_0000 + LONGEST), None);
        assert!(!symbols.are_unmoved());
    }

    #[test]
    fn a_kernel_at_its_link_address_may_have_been_moved() {
        let map = "ffffffff81000000 T _stext\nffffffff81000000 T _text\nffffffff81000010 T start_kernel\r\n";
        let symbols = Symbols::parse(map).unwrap();
        assert!(symbols.are_unmoved());
        let moved = symbols.moved(0x1b60_0000);
        assert!(!moved.are_unmoved());
        assert_eq!(moved.find(0xffff_ffff_9c60_0011), Some(("start_kernel", 1)));
    }

    #[test]
    fn files_without_functions_say_why() {
        assert_eq!(Symbols::parse(""), Err(SymbolsError::NoSymbols));
        assert_eq!(Symbols::parse("\u{7f}ELF\0\0 x y"), Err(SymbolsError::NoSymbols));
        let hidden = "0000000000000000 T _text\n0000000000000000 t native_write_msr\n";
        assert_eq!(Symbols::parse(hidden), Err(SymbolsError::Hidden));
        // The whole of /boot/System.map-6.1.0-50-amd64.
        let stub = "ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n";
        assert_eq!(Symbols::parse(stub), Err(SymbolsError::NoFunctions));
    }

    proptest! {
        #[test]
        fn any_text_gives_symbols_or_a_reason(text in "\\PC*|([0-9a-f]{0,17} [a-zA-Z] ?[_a-z.]{0,9}( \\[x\\])?\r?\n){0,20}", at in any::<u64>()) {
            if let Ok(symbols) = Symbols::parse(&text) {
                let _ = symbols.find(at);
                let _ = symbols.moved(at).find(at);
            }
        }

        #[test]
        fn each_function_is_found_from_its_first_byte_to_its_last(
            begins in prop::collection::btree_set(1u64..1 << 40, 1..50), offset in any::<u64>(),
        ) {
            let begins: Vec<u64> = begins.into_iter().collect();
            let line = |(i, begin): (usize, &u64)| format!("{begin:016x} {} f{i}\n", if i % 2 == 0 { 't' } else { 'T' });
            let symbols = Symbols::parse(&begins.iter().enumerate().map(line).collect::<String>()).unwrap();
            let symbols = symbols.moved(offset);
            for (i, begin) in begins.iter().enumerate() {
                let length = begins.get(i + 1).map_or(LONGEST, |next| (next - begin).min(LONGEST));
                for into in [0, length / 2, length - 1] {
                    let at = begin.wrapping_add(offset).checked_add(into);
                    // A function that runs around the end of the address space is none.
                    let Some(at) = at else { continue };
                    let found = symbols.find(at).map(|(name, into)| (name.to_owned(), into));
                    prop_assert_eq!(found, Some((format!("f{i}"), into)));
                }
            }
        }
    }
}
