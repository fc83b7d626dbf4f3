//! The BTF reader on types written by hand, on real kernels' types, and on damaged data.

use std::fs;

use kvm_utils::bpf::layout::btf::{Btf, BtfError, Kind, Member, Param, TypeId, Value};
use proptest::prelude::*;

use crate::{btf_writer::BtfWriter, fixture};

const VOID: TypeId = TypeId(0);

/// A header with the given lengths in front of the sections.
fn blob(types: &[u32], strings: &[u8]) -> Vec<u8> {
    let len = types.len() as u32 * 4;
    let mut blob = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, len, len, strings.len() as u32].iter().chain(types) {
        blob.extend_from_slice(&word.to_le_bytes());
    }
    blob.extend_from_slice(strings);
    blob
}

fn fixture_btf(path: &str) -> Vec<u8> {
    fs::read(fixture("btf").join(path)).unwrap()
}

#[test]
fn members_through_typedefs_anonymous_and_nested_structs() {
    let mut writer = BtfWriter::new();
    let int = writer.int("int", 4);
    let long = writer.int("unsigned long long", 8);
    let u64_ = writer.refer(Kind::Typedef, "u64", long);
    let u64_ = writer.refer(Kind::Const, "", u64_);
    let u64_ = writer.refer(Kind::TypeTag, "user", u64_);
    let inner = writer.aggregate(Kind::Struct, "inner", 16, &[("a", int, 0), ("b", u64_, 8)]);
    let inner_t = writer.refer(Kind::Typedef, "inner_t", inner);
    let anonymous = writer.aggregate(Kind::Struct, "", 24, &[("c", int, 4), ("d", inner_t, 8)]);
    let either = writer.aggregate(Kind::Union, "", 24, &[("whole", u64_, 0), ("", anonymous, 0)]);
    let list = writer.array(inner_t, int, 3);
    let pointer = writer.pointer(inner);
    writer.aggregate(
        Kind::Struct,
        "outer",
        128,
        &[("first", int, 0), ("", either, 32), ("list", list, 56), ("next", pointer, 104)],
    );
    let bytes = writer.finish();
    let btf = Btf::parse(&bytes).unwrap();

    let member = |path| btf.member_offset("outer", path).map(|member| (member.offset, member.size));
    assert_eq!(member("first"), Ok((0, 4)));
    assert_eq!(member("whole"), Ok((32, 8)));
    assert_eq!(member("c"), Ok((36, 4)));
    assert_eq!(member("d"), Ok((40, 16)));
    assert_eq!(member("d.b"), Ok((48, 8)));
    assert_eq!(member("list"), Ok((56, 48)));
    assert_eq!(member("next"), Ok((104, 8)));
    assert_eq!(btf.member(inner_t, "a"), Ok(Member { offset: 0, size: 4, ty: int }));
    assert_eq!(btf.find_struct("inner"), Ok(inner));

    let outer = || "outer".to_owned();
    assert_eq!(member("b"), Err(BtfError::NoMember { ty: outer(), member: "b".into() }));
    assert_eq!(member("d.c"), Err(BtfError::NoMember { ty: "inner".into(), member: "c".into() }));
    assert_eq!(member("firs"), Err(BtfError::NoMember { ty: outer(), member: "firs".into() }), "no prefixes");
    assert_eq!(member(""), Err(BtfError::NoMember { ty: outer(), member: String::new() }));
    // A pointer is not followed, an array has no members.
    assert_eq!(member("next.a"), Err(BtfError::NotAggregate { id: pointer, member: "a".into() }));
    assert_eq!(member("list.a"), Err(BtfError::NotAggregate { id: list, member: "a".into() }));
    assert_eq!(btf.find_struct("u64"), Err(BtfError::NotFound { what: "struct", name: "u64".into() }));
    assert_eq!(
        btf.member_offset("none", "a"),
        Err(BtfError::NotFound { what: "struct", name: "none".into() })
    );
}

#[test]
fn bit_fields_have_no_byte_offset() {
    let mut writer = BtfWriter::new();
    let int = writer.int("int", 4);
    let (flag, plain, high) = (writer.name("flag"), writer.name("plain"), writer.name("high"));
    // kind_flag: size and offset of a bit field share the word.
    let members = [flag, int.0, 1 << 24 | 26, plain, int.0, 32, high, int.0, 0x00ff_fff8];
    writer.add("new", Kind::Struct, true, 3, 8, &members);
    // Without: an int of 3 bits, and one that starts inside a byte.
    let bits = writer.add("int", Kind::Int, false, 0, 4, &[3]);
    let members = [flag, bits.0, 0, plain, int.0, 64, high, int.0, 65];
    writer.add("old", Kind::Struct, false, 3, 16, &members);
    let bytes = writer.finish();
    let btf = Btf::parse(&bytes).unwrap();
    for (name, plain_at) in [("new", 4), ("old", 8)] {
        let error = btf.member_offset(name, "flag").unwrap_err();
        assert_eq!(error, BtfError::Bitfield { member: "flag".into() }, "{name}");
        assert_eq!(btf.member_offset(name, "plain").unwrap().offset, plain_at, "{name}");
    }
    assert_eq!(btf.member_offset("new", "high").unwrap().offset, 0x1f_ffff);
    assert_eq!(btf.member_offset("old", "high"), Err(BtfError::Bitfield { member: "high".into() }));
}

#[test]
fn a_module_continues_its_kernel() {
    let mut kernel = BtfWriter::new();
    let int = kernel.int("int", 4);
    let shared = kernel.aggregate(Kind::Struct, "shared", 8, &[("a", int, 4)]);
    let both = kernel.aggregate(Kind::Struct, "both", 8, &[("x", int, 0)]);
    let mut module = BtfWriter::over(&kernel);
    module.refer(Kind::Fwd, "shared", VOID);
    let mine = module.aggregate(Kind::Struct, "both", 16, &[("x", int, 8)]);
    module.aggregate(Kind::Struct, "container", 16, &[("a", shared, 8)]);
    let (kernel, module) = (kernel.finish(), module.finish());
    let base = Btf::parse(&kernel).unwrap();
    let btf = Btf::split(&base, &module).unwrap();

    assert_eq!(btf.own_ids().collect::<Vec<_>>(), [TypeId(4), TypeId(5), TypeId(6)]);
    assert_eq!(btf.member_offset("container", "a.a").unwrap().offset, 12, "a struct of the kernel's");
    assert_eq!(btf.member_offset("shared", "a").unwrap().offset, 4, "a forward declaration is no struct");
    assert_eq!(btf.member_offset("both", "x").unwrap().offset, 8, "the module's own");
    assert_eq!((base.find_struct("both"), btf.find_struct("both")), (Ok(both), Ok(mine)));
    assert!(base.find_struct("container").is_err());
    assert_eq!(btf.get(VOID), Err(BtfError::NoType(VOID)));
    assert_eq!(btf.get(TypeId(7)), Err(BtfError::NoType(TypeId(7))));
    assert_eq!(base.get(TypeId(4)), Err(BtfError::NoType(TypeId(4))), "a kernel does not see its modules");
    assert_eq!(btf.string(0), Ok(""));
    assert_eq!(btf.string(100_000), Err(BtfError::NoString(100_000)));
}

#[test]
fn duplicates_must_agree() {
    let mut writer = BtfWriter::new();
    let int = writer.int("int", 4);
    for offset in [4, 8] {
        writer.aggregate(Kind::Struct, "twice", 16, &[("same", int, 0), ("moved", int, offset)]);
    }
    writer.aggregate(Kind::Struct, "half", 16, &[("gone", int, 0)]);
    writer.aggregate(Kind::Struct, "half", 16, &[]);
    let bytes = writer.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.member_offset("twice", "same").unwrap().offset, 0);
    let ambiguous =
        |name: &str, member: &str| BtfError::Ambiguous { name: name.into(), member: member.into(), count: 2 };
    assert_eq!(btf.member_offset("twice", "moved"), Err(ambiguous("twice", "moved")));
    assert_eq!(btf.member_offset("half", "gone"), Err(ambiguous("half", "gone")));
}

#[test]
fn parameters_of_function_typedefs() {
    let mut writer = BtfWriter::new();
    let int = writer.int("unsigned int", 4);
    let u32_ = writer.refer(Kind::Typedef, "u32", int);
    let boolean = writer.int("_Bool", 1);
    let vcpu = writer.aggregate(Kind::Struct, "kvm_vcpu", 8, &[]);
    let constant = writer.refer(Kind::Const, "", vcpu);
    let pointer = writer.pointer(constant);
    let void = writer.pointer(VOID);
    let const_void = writer.refer(Kind::Const, "", VOID);
    let const_void = writer.pointer(const_void);
    let by_value = writer.refer(Kind::Typedef, "vcpu_t", vcpu);
    let params = [("", void), ("vcpu", pointer), ("", u32_), ("", boolean), ("", const_void), ("", by_value)];
    writer.tracepoint("trace_t", &params);
    writer.refer(Kind::Typedef, "number_t", int);
    writer.refer(Kind::Typedef, "void_t", VOID);
    writer.refer(Kind::Typedef, "data_t", pointer);
    let bytes = writer.finish();
    let btf = Btf::parse(&bytes).unwrap();

    let found = btf.func_proto_of_typedef("trace_t").unwrap();
    assert_eq!(found, params.map(|(name, ty)| Param { name, ty }));
    let values: Vec<_> = found.iter().map(|param| btf.value(param.ty).unwrap()).collect();
    assert_eq!(
        values,
        [
            Value::Pointer { to: "void", id: VOID },
            Value::Pointer { to: "kvm_vcpu", id: vcpu },
            Value::Integer { size: 4 },
            Value::Integer { size: 1 },
            Value::Pointer { to: "void", id: VOID },
            Value::Other,
        ]
    );
    for name in ["number_t", "void_t", "data_t"] {
        assert_eq!(btf.func_proto_of_typedef(name), Err(BtfError::NotFunction(name.into())));
    }
    let none = BtfError::NotFound { what: "typedef", name: "kvm_vcpu".into() };
    assert_eq!(btf.func_proto_of_typedef("kvm_vcpu"), Err(none));
}

#[test]
fn what_is_not_btf_is_said() {
    let good = BtfWriter::new().finish();
    assert!(Btf::parse(&good).is_ok(), "no types at all");
    let error = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Btf::parse(&bytes).unwrap_err()
    };
    assert_eq!(Btf::parse(b"").unwrap_err(), BtfError::NotBtf);
    assert_eq!(Btf::parse(b"\x7fELF....").unwrap_err(), BtfError::NotBtf);
    assert_eq!(error(&|bytes| bytes.swap(0, 1)), BtfError::BigEndian);
    assert_eq!(error(&|bytes| bytes[2] = 2), BtfError::Version(2));
    assert_eq!(error(&|bytes| bytes.truncate(20)), BtfError::Truncated { what: "the header", at: 24 });
    assert_eq!(error(&|bytes| bytes[4] = 23), BtfError::Truncated { what: "the header", at: 23 });
    assert_eq!(error(&|bytes| bytes[7] = 255), BtfError::Truncated { what: "the header", at: 0xff00_0018 });
    assert_eq!(error(&|bytes| bytes[12] = 9), BtfError::Truncated { what: "the type section", at: 0 });
    assert_eq!(
        error(&|bytes| bytes[19] = 255),
        BtfError::Truncated { what: "the string section", at: 0xff00_0000 }
    );

    let unknown = Btf::parse(&blob(&[0, 20 << 24, 0], b"\0")).unwrap_err();
    assert_eq!(unknown, BtfError::UnknownKind { id: TypeId(1), kind: 20 });
    assert!(unknown.to_string().contains("newer than this program"));
    let zero = Btf::parse(&blob(&[0, 2 << 24, 0, 0, 0, 0], b"\0")).unwrap_err();
    assert_eq!(zero, BtfError::UnknownKind { id: TypeId(2), kind: 0 });
    // A struct of two members with room for one, and half a header.
    let short = Btf::parse(&blob(&[0, 4 << 24 | 2, 8, 0, 0, 0], b"\0")).unwrap_err();
    assert_eq!(short, BtfError::Truncated { what: "a type", at: 0 });
    let half = Btf::parse(&blob(&[0, 2 << 24, 0, 0], b"\0")).unwrap_err();
    assert_eq!(half, BtfError::Truncated { what: "a type", at: 12 });
}

/// Later kernels may append to the header; its length says so.
#[test]
fn a_longer_header_is_skipped() {
    let mut bytes = fixture_btf("7.2/vmlinux");
    bytes[4] = 32;
    bytes.splice(24..24, [0; 8]);
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.member_offset("kvm_vcpu", "vcpu_id").unwrap().offset, 36);
}

#[test]
fn every_kind_is_passed_over() {
    let mut seen = [0; 20];
    for kernel in ["5.10", "6.1", "6.12", "6.18", "7.2"] {
        let vmlinux = fixture_btf(&format!("{kernel}/vmlinux"));
        let base = Btf::parse(&vmlinux).unwrap();
        let mut count = |btf: &Btf<'_>| {
            for id in btf.own_ids() {
                seen[btf.get(id).unwrap().kind as usize] += 1;
            }
        };
        count(&base);
        if let Ok(module) = fs::read(fixture("btf").join(kernel).join("kvm_amd")) {
            count(&Btf::split(&base, &module).unwrap());
        }
    }
    for kind in Kind::ALL {
        assert!(seen[kind as usize] > 0, "{kind:?} is in no fixture");
    }
}

#[test]
fn damage_that_loops_ends() {
    let mut writer = BtfWriter::new();
    let typedef = writer.next_id();
    writer.refer(Kind::Typedef, "loop_t", typedef);
    let array = writer.next_id();
    writer.array(array, typedef, 1);
    let int = writer.int("int", 4);
    let huge = writer.array(int, int, u32::MAX);
    // A struct whose hundred anonymous members are itself.
    let itself = writer.next_id();
    writer.aggregate(Kind::Struct, "itself", 8, &[("", itself, 0); 100]);
    writer.aggregate(
        Kind::Struct,
        "holder",
        8,
        &[("typedef", typedef, 0), ("array", array, 0), ("huge", huge, 0), ("far", int, 0x1fff_ffff)],
    );
    let bytes = writer.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.resolve(typedef), Err(BtfError::Endless(typedef)));
    assert_eq!(btf.size_of(array), Err(BtfError::Endless(array)));
    assert_eq!(btf.size_of(huge), Err(BtfError::NoSize(huge)));
    assert_eq!(btf.member_offset("itself", "x"), Err(BtfError::Endless(itself)));
    assert_eq!(btf.member_offset("holder", "typedef"), Err(BtfError::Endless(typedef)));
    assert_eq!(btf.member_offset("holder", "array"), Err(BtfError::Endless(array)));
    assert_eq!(btf.member_offset("holder", "huge"), Err(BtfError::NoSize(huge)));
    assert_eq!(btf.member_offset("holder", "far").unwrap().offset, 0x1fff_ffff);
}

/// This machine's own BTF, if it has any, in full size.
#[test]
fn the_running_kernels_btf_is_read() {
    let Ok(bytes) = fs::read("/sys/kernel/btf/vmlinux") else {
        return;
    };
    let btf = Btf::parse(&bytes).unwrap();
    let pid = btf.member_offset("task_struct", "pid").unwrap();
    assert!(pid.offset > 0 && pid.size == 4);
    assert!(btf.own_ids().count() > 10_000);
}

/// Asks everything of a BTF that may be damaged. Nothing may panic or run on.
fn ask_everything(btf: &Btf<'_>) {
    for id in btf.own_ids().chain([VOID, TypeId(u32::MAX)]) {
        let Ok(ty) = btf.get(id) else { continue };
        let name = btf.string(ty.name).unwrap_or("kvm_vcpu");
        let _ = (btf.size_of(id), btf.value(id), btf.member(id, "vcpu_id"));
        let _ = (btf.member_offset(name, "control.exit_code"), btf.func_proto_of_typedef(name));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Btf::parse(&bytes);
        let _ = Btf::parse(&[&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0][..], &bytes].concat());
    }

    /// Types made of plausible words: every kind, small ids and counts.
    #[test]
    fn arbitrary_types_never_panic(
        types in prop::collection::vec((0_u32..20, 0_u32..4, any::<bool>(), 0_u32..24), 0..40),
        fill in prop::collection::vec(0_u32..24, 480),
        strings in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let mut words = Vec::new();
        let mut fill = fill.into_iter().cycle();
        for (kind, vlen, flag, value) in types {
            words.extend([fill.next().unwrap(), u32::from(flag) << 31 | (kind.max(1)) << 24 | vlen, value]);
            let len = match kind {
                1 | 14 | 17 => 1,
                3 => 3,
                4 | 5 | 15 | 19 => 3 * vlen,
                6 | 13 => 2 * vlen,
                _ => 0,
            };
            words.extend(fill.by_ref().take(len as usize));
        }
        let bytes = blob(&words, &strings);
        if let Ok(btf) = Btf::parse(&bytes) {
            ask_everything(&btf);
            if let Ok(module) = Btf::split(&btf, &bytes) {
                ask_everything(&module);
            }
        }
    }

    #[test]
    fn damaged_real_btf_never_panics(at in 0_usize..3000, byte: u8, word in 0_usize..800, value: u32) {
        let mut vmlinux = fixture_btf("7.2/vmlinux");
        let mut module = fixture_btf("7.2/kvm_intel");
        for bytes in [&mut vmlinux, &mut module] {
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
            if let Some(old) = bytes.get_mut(4 * word..4 * word + 4) {
                old.copy_from_slice(&value.to_le_bytes());
            }
        }
        if let Ok(base) = Btf::parse(&vmlinux) {
            ask_everything(&base);
            if let Ok(btf) = Btf::split(&base, &module) {
                ask_everything(&btf);
            }
        }
    }
}

#[test]
fn truncated_real_btf_never_panics() {
    let (vmlinux, module) = (fixture_btf("6.12/vmlinux"), fixture_btf("6.12/kvm_amd"));
    let base = Btf::parse(&vmlinux).unwrap();
    for len in 0..vmlinux.len() {
        assert!(Btf::parse(&vmlinux[..len]).is_err(), "{len}");
    }
    for len in 0..module.len() {
        assert!(Btf::split(&base, &module[..len]).is_err(), "{len}");
    }
    assert!(Btf::split(&base, &module).is_ok());
    // A module over another kernel's vmlinux: ids and names lead elsewhere or nowhere.
    let other = fixture_btf("5.10/vmlinux");
    let other = Btf::parse(&other).unwrap();
    ask_everything(&Btf::split(&other, &module).unwrap());
}
