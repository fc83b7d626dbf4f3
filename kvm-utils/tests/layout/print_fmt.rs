//! Names of exit reasons: ours against those in the print format of every kernel.

use std::collections::BTreeSet;

use kvm_utils::{
    bpf::layout::{
        EventFormat, PrintFmtError, ReasonNames,
        print_fmt::{SymbolTable, symbol_tables},
    },
    decode::{ExitReason, Isa},
};
use proptest::prelude::*;

use crate::{format, kernels};

fn names(kernel: &str) -> ReasonNames {
    ReasonNames::new(&EventFormat::parse(&format(kernel, "kvm_exit")).unwrap()).unwrap()
}

#[test]
fn names_are_those_of_every_kernel() {
    for kernel in kernels() {
        let names = names(&kernel);
        let differences: Vec<_> = names.differences().collect();
        match kernel.as_str() {
            // Renamed later.
            "4.18-reconstructed" | "5.4-reconstructed" => {
                assert_eq!(differences, [(ExitReason::new(Isa::Vmx, 7), "PENDING_INTERRUPT")], "{kernel}");
            }
            _ => assert_eq!(differences, [], "{kernel}"),
        }
    }
}

#[test]
fn numbers_of_names_are_those_of_the_kernel_headers() {
    for (kernel, vmx, svm) in [
        ("4.18-reconstructed", 56, 92),
        ("5.4-reconstructed", 59, 92),
        ("5.10", 59, 93),
        ("5.15-reconstructed", 61, 103),
        ("5.19-reconstructed", 61, 108),
        ("6.1", 62, 108),
        ("6.12", 62, 108),
        ("6.17-reconstructed", 63, 110),
        ("6.18", 65, 110),
        ("7.2", 65, 110),
    ] {
        let names = names(kernel).names;
        let count = |isa| names.iter().filter(|(reason, _)| reason.isa == isa).count();
        assert_eq!((count(Isa::Vmx), count(Isa::Svm)), (vmx, svm), "{kernel}");
    }
}

/// We have no name that no kernel has.
#[test]
fn every_name_of_ours_is_some_kernels() {
    let theirs: BTreeSet<_> =
        kernels().iter().flat_map(|kernel| names(kernel).names).map(|(reason, _)| reason).collect();
    let ours: BTreeSet<_> = [Isa::Vmx, Isa::Svm].into_iter().flat_map(ExitReason::all).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn minus_one_is_svms_invalid_state() {
    for kernel in kernels() {
        let invalid = ExitReason::new(Isa::Svm, 0xffff_ffff);
        let found = names(&kernel).names.into_iter().find(|(reason, _)| *reason == invalid);
        assert_eq!(found.map(|(_, name)| name).as_deref(), Some("invalid_guest_state"), "{kernel}");
    }
}

fn table(text: &str) -> Result<Vec<(u64, String)>, PrintFmtError> {
    let text = format!("\"%s\", __print_symbolic(REC->f(1, 2), {text})");
    symbol_tables(&text).map(|mut tables| tables.remove(0).entries)
}

#[test]
fn constant_expressions() {
    let entries = |text: &str| table(text).unwrap().into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(
        entries(r#"{ 0x040 + 14, "a" }, { -1ull, "b" }, {0X8000fffdULL,"c"}"#),
        [78, u64::MAX, 0x8000_fffd]
    );
    assert_eq!(entries(r#"{ (1 << 4) | 3, "a" }, { 1 << 2 + 1, "b" }, { ~0, "c" }"#), [19, 8, u64::MAX]);
    assert_eq!(entries(r#"{ 7 - 2 - 1, "a" }, { 1 << 64, "b" }, { - - 3, "c" }"#), [4, 0, 3]);
    assert_eq!(table(r#"{ 1, "say \"x\", { 2 }" }"#), Ok(vec![(1, r#"say "x", { 2 }"#.into())]));
}

#[test]
fn several_tables_and_words_in_strings() {
    let text = concat!(
        r#""__print_symbolic(%s", my__print_symbolic(x), "#,
        r#"__print_symbolic(a & 1, { 1, "one" }), __print_symbolic64(b, { 2, "two" }, { 3, "three" })"#
    );
    let table = |value: &str, entries: &[(u64, &str)]| SymbolTable {
        at: text.rfind(&format!("({value},")).map(|at| text[..at].rfind(' ').unwrap() + 1).unwrap(),
        value: value.into(),
        entries: entries.iter().map(|(number, name)| (*number, (*name).into())).collect(),
    };
    let expected = vec![table("a & 1", &[(1, "one")]), table("b", &[(2, "two"), (3, "three")])];
    assert_eq!(symbol_tables(text), Ok(expected));
}

#[test]
fn malformed_tables_are_errors() {
    for bad in [
        r#"{ NAMED, "a" }"#,
        r#"{ 1 "a" }"#,
        r#"{ 1, a }"#,
        r#"{ 1, "a" "#,
        r#"{ 1, "a }"#,
        r#"{ 1 + , "a" }"#,
        r#"{ 99999999999999999999, "a" }"#,
        "",
    ] {
        assert!(matches!(table(bad), Err(PrintFmtError::Syntax { .. })), "{bad}");
    }
    let deep = format!("{{ {}1{}, \"a\" }}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(matches!(table(&deep), Err(PrintFmtError::Syntax { .. })));
}

#[test]
fn another_form_of_print_format_is_not_taken_for_reasons() {
    for event in ["kvm_entry", "kvm_exit"] {
        let mut format = EventFormat::parse(&format("7.2", event)).unwrap();
        format.print_fmt = format.print_fmt.replace("isa == 1", "isa == 2");
        let error = ReasonNames::new(&format).unwrap_err();
        assert_eq!(error, PrintFmtError::NoReasons { event: event.into() });
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(text in r#"(?s)(__print_symbolic\(|[-{}(),"\\ 0x1u+|<~é]|.){0,60}"#) {
        let _ = symbol_tables(&text);
    }

    /// A real print format that ends early, or has a byte replaced.
    #[test]
    fn damaged_real_ones_never_panic(cut in 0_usize..5000, at in 0_usize..5000, byte in 0x20_u8..0x7f) {
        let mut format = EventFormat::parse(&format("7.2", "kvm_exit")).unwrap();
        let mut bytes = format.print_fmt.clone().into_bytes();
        if let Some(old) = bytes.get_mut(at) {
            *old = byte;
        }
        bytes.truncate(cut);
        format.print_fmt = String::from_utf8(bytes).unwrap();
        let _ = ReasonNames::new(&format);
    }
}
