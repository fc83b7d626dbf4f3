//! `format` files: every layout that `kvm_exit` and `kvm_entry` have had, and damaged ones.

use kvm_utils::bpf::layout::{
    EntryFormat, EventFormat, ExitFormat, FormatError, Slot,
    format::{Elements, Field},
};
use proptest::prelude::*;

use crate::{fixture, format, kernels};

const fn slot(offset: u32, size: u32) -> Slot {
    Slot { offset, size }
}

/// Common to all kernels.
const EXIT: ExitFormat = ExitFormat {
    exit_reason: slot(8, 4),
    isa: slot(24, 4),
    vcpu_id: None,
    guest_rip: Some(slot(16, 8)),
    info1: Some(slot(32, 8)),
    info2: Some(slot(40, 8)),
    intr_info: None,
    error_code: None,
    requests: None,
};

const ENTRY: EntryFormat =
    EntryFormat { vcpu_id: slot(8, 4), rip: None, immediate_exit: None, intr_info: None, error_code: None };

#[test]
fn every_layout_of_kvm_exit() {
    let linux_5_4 = ExitFormat { vcpu_id: Some(slot(48, 4)), ..EXIT };
    let linux_5_10 = ExitFormat {
        vcpu_id: Some(slot(56, 4)),
        intr_info: Some(slot(48, 4)),
        error_code: Some(slot(52, 4)),
        ..EXIT
    };
    let linux_6_17 = ExitFormat { requests: Some(slot(64, 8)), ..linux_5_10 };
    let rows = [
        ("4.18-reconstructed", EXIT),
        ("5.4-reconstructed", linux_5_4),
        ("5.10", linux_5_10),
        ("5.15-reconstructed", linux_5_10),
        ("5.19-reconstructed", linux_5_10),
        ("6.1", linux_5_10),
        ("6.12", linux_5_10),
        ("6.17-reconstructed", linux_6_17),
        ("6.18", linux_6_17),
        ("7.2", linux_6_17),
    ];
    for (kernel, expected) in rows {
        assert_eq!(ExitFormat::parse(&format(kernel, "kvm_exit")), Ok(expected), "{kernel}");
    }
    let mut tested: Vec<_> = rows.iter().map(|(kernel, _)| *kernel).collect();
    tested.sort_unstable();
    assert_eq!(kernels(), tested, "a fixture without a test");
}

#[test]
fn every_layout_of_kvm_entry() {
    let linux_5_10 = EntryFormat { rip: Some(slot(16, 8)), ..ENTRY };
    let linux_6_1 = EntryFormat { immediate_exit: Some(slot(24, 1)), ..linux_5_10 };
    let linux_6_17 = EntryFormat { intr_info: Some(slot(28, 4)), error_code: Some(slot(32, 4)), ..linux_6_1 };
    for (kernel, expected) in [
        ("4.18-reconstructed", ENTRY),
        ("5.4-reconstructed", ENTRY),
        ("5.10", linux_5_10),
        ("5.15-reconstructed", linux_5_10),
        ("5.19-reconstructed", linux_5_10),
        ("6.1", linux_6_1),
        ("6.12", linux_6_1),
        ("6.17-reconstructed", linux_6_17),
        ("6.18", linux_6_17),
        ("7.2", linux_6_17),
    ] {
        assert_eq!(EntryFormat::parse(&format(kernel, "kvm_entry")), Ok(expected), "{kernel}");
    }
}

/// The kernel lays fields out without overlap, each aligned to its size.
#[test]
fn fields_of_real_kernels_neither_overlap_nor_straddle() {
    for kernel in kernels() {
        for event in ["kvm_exit", "kvm_entry"] {
            let format = EventFormat::parse(&format(&kernel, event)).unwrap();
            assert_eq!(format.name, event);
            assert!(format.id > 0 && format.print_fmt.starts_with('"'), "{kernel} {event}");
            assert_eq!(format.field("common_pid").map(|field| (field.offset, field.signed)), Some((4, true)));
            let mut end = 0;
            for field in &format.fields {
                assert!(field.offset >= end && field.offset % field.size == 0, "{kernel} {event} {field:?}");
                end = field.offset + field.size;
            }
        }
    }
}

#[test]
fn arrays_and_pointers() {
    let text = "name: x\nID: 7\nformat:\n\
                \tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
                \tfield:unsigned long args[MAX];\toffset:24;\tsize:48;\tsigned:0;\n\
                \tfield:__data_loc char[] name;\toffset:72;\tsize:4;\tsigned:1;\n\
                \tfield:const struct foo *ptr;\toffset:80;\tsize:8;\n\
                something new\n\nprint fmt: \"x\"\n";
    let format = EventFormat::parse(text).unwrap();
    let field = |name: &str, ty: &str, offset, size, signed, elements| Field {
        name: name.into(),
        ty: ty.into(),
        offset,
        size,
        signed,
        elements,
    };
    assert_eq!(
        format.fields,
        [
            field("comm", "char", 8, 16, false, Elements::Fixed(16)),
            field("args", "unsigned long", 24, 48, false, Elements::Dynamic),
            field("name", "__data_loc char[]", 72, 4, true, Elements::Dynamic),
            field("ptr", "const struct foo *", 80, 8, false, Elements::One),
        ]
    );
    assert_eq!(format.id, 7);
    assert_eq!(format.print_fmt, "\"x\"");
}

fn exit_error(change: impl Fn(String) -> String) -> FormatError {
    ExitFormat::parse(&change(format("6.12", "kvm_exit"))).unwrap_err()
}

#[test]
fn what_is_wrong_is_said() {
    let not_format = FormatError::NotFormat { line: "name:" };
    assert_eq!(ExitFormat::parse("").unwrap_err(), not_format);
    assert!(not_format.to_string().contains("tracefs"));
    assert_eq!(exit_error(|text| text.replace("ID: ", "ID: x")), FormatError::NotFormat { line: "ID:" });

    let wrong = EntryFormat::parse(&format("6.12", "kvm_exit")).unwrap_err();
    assert_eq!(wrong, FormatError::WrongEvent { wanted: "kvm_entry", found: "kvm_exit".into() });

    let gone = exit_error(|text| text.replace(" isa;", " esa;"));
    assert_eq!(gone, FormatError::MissingField { event: "kvm_exit", field: "isa" });
    let gone = exit_error(|text| text.replace(" exit_reason;", " why;"));
    assert_eq!(gone, FormatError::MissingField { event: "kvm_exit", field: "exit_reason" });

    let wide =
        exit_error(|text| text.replace("vcpu_id;\toffset:56;\tsize:4", "vcpu_id;\toffset:56;\tsize:8"));
    assert_eq!(wide, FormatError::WrongSize { event: "kvm_exit", field: "vcpu_id", size: 8 });
    let array = exit_error(|text| text.replace("exit_reason;", "exit_reason[1];"));
    assert_eq!(array, FormatError::WrongSize { event: "kvm_exit", field: "exit_reason", size: 4 });

    for bad in ["offset:8;", "isa; offset:-1; size:4;", "u32 isa; offset:4294967295; size:4;", "u32 é;x:1;"]
    {
        let error = EventFormat::parse(&format!("name: a\nID: 1\n\tfield:{bad}\n")).unwrap_err();
        assert!(matches!(error, FormatError::BadField { number: 3, .. }), "{bad}: {error}");
    }
}

/// A reason of 64 bits, should it come, is still found: its low half comes first.
#[test]
fn a_wider_reason_is_accepted() {
    let text = format("7.2", "kvm_exit")
        .replace("exit_reason;\toffset:8;\tsize:4", "exit_reason;\toffset:8;\tsize:8");
    assert_eq!(ExitFormat::parse(&text).unwrap().exit_reason, slot(8, 8));
}

#[test]
fn fixtures_stay_small() {
    fn bytes(path: &std::path::Path) -> u64 {
        let meta = std::fs::metadata(path).unwrap();
        if !meta.is_dir() {
            return meta.len();
        }
        std::fs::read_dir(path).unwrap().map(|entry| bytes(&entry.unwrap().path())).sum()
    }
    let size = bytes(&fixture("format")) + bytes(&fixture("btf"));
    assert!(size < 200_000, "{size}");
}

fn any_field() -> impl Strategy<Value = Field> {
    (
        "[a-z_][a-z0-9_]{0,12}",
        "(unsigned |const )?(u32|long|struct foo \\*|char)",
        0_u32..4096,
        0_u32..256,
        any::<bool>(),
        prop_oneof![Just(Elements::One), any::<u32>().prop_map(Elements::Fixed)],
    )
        .prop_map(|(name, ty, offset, size, signed, elements)| Field {
            name,
            ty,
            offset,
            size,
            signed,
            elements,
        })
}

proptest! {
    #[test]
    fn garbage_never_panics(text in "(?s).{0,400}", line in "\tfield:[ -~é\t]{0,80}") {
        let _ = ExitFormat::parse(&text);
        let _ = EventFormat::parse(&format!("name: x\nID: 1\n{line}\n"));
    }

    /// What the kernel would print for these fields reads back as the same fields.
    #[test]
    fn fields_read_back(fields in prop::collection::vec(any_field(), 0..8), id: u32) {
        let mut text = format!("name: x\nID: {id}\nformat:\n");
        for field in &fields {
            let bounds = match field.elements {
                Elements::Fixed(count) => format!("[{count}]"),
                _ => String::new(),
            };
            text += &format!(
                "\tfield:{} {}{bounds};\toffset:{};\tsize:{};\tsigned:{};\n",
                field.ty, field.name, field.offset, field.size, u8::from(field.signed)
            );
        }
        let parsed = EventFormat::parse(&text).unwrap();
        prop_assert_eq!(parsed.fields, fields);
        prop_assert_eq!(parsed.id, id);
    }
}
