//! Cuts BTF down to what the fixtures in `tests/fixtures/btf` need; see the README there.
//!
//!     cargo run -p kvm-utils --example minimize-btf -- FROM TO
//!
//! FROM and TO are directories like /sys/kernel/btf. Of FROM's vmlinux, kvm, kvm_intel and kvm_amd, the types that the
//! layout of exits rests on are kept as they are: same names, offsets, sizes, and each in the file where it was. What
//! they refer to becomes opaque (a struct of the same name and size without members). A few types of every other kind
//! are kept too, so that a reader has to get past them.

#[path = "../tests/layout/btf_writer.rs"]
mod btf_writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use kvm_utils::bpf::layout::btf::{Btf, BtfError, Kind, TypeId};

use btf_writer::BtfWriter;

const MODULES: [&str; 3] = ["kvm", "kvm_intel", "kvm_amd"];
/// Structs that keep their members.
const STRUCTS: [&str; 9] = [
    "kvm_vcpu",
    "kvm_vcpu_stat",
    "vcpu_vmx",
    "vcpu_vt",
    "vcpu_tdx",
    "vmx_exit_reason",
    "vcpu_svm",
    "vmcb",
    "vmcb_control_area",
];
/// Typedefs whose function type keeps its parameters.
const TYPEDEFS: [&str; 2] = ["btf_trace_kvm_exit", "btf_trace_kvm_entry"];
/// Types kept of every kind, whatever they are.
const SAMPLES: usize = 2;
/// The largest sample of a kind with elements.
const SAMPLE_ELEMENTS: usize = 8;

/// What is kept of a type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Keep {
    /// Without members, enumerators or parameters.
    Opaque,
    /// As it is.
    Whole,
}

/// What is kept of each level (vmlinux, a module), by old ids.
type Kept = BTreeMap<TypeId, Keep>;

fn main() -> Result<()> {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let [from, to] = args.as_slice() else { bail!("usage: minimize-btf FROM TO") };
    let (from, to) = (Path::new(from), Path::new(to));
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let load = |name: &str| fs::read(from.join(name)).with_context(|| format!("cannot read {name}"));

    let vmlinux = load("vmlinux")?;
    let base = Btf::parse(&vmlinux)?;
    let mut kept = Kept::new();
    choose(&base, &mut kept)?;
    let blobs: Vec<_> = MODULES.into_iter().filter_map(|name| Some((name, load(name).ok()?))).collect();
    let mut modules = Vec::new();
    for (name, blob) in &blobs {
        let btf = Btf::split(&base, blob)?;
        // The ids of several modules overlap, those of the base are shared.
        let mut mine = kept.clone();
        choose(&btf, &mut mine)?;
        let own: BTreeSet<_> = btf.own_ids().collect();
        let (own, shared): (Kept, Kept) = mine.into_iter().partition(|(id, _)| own.contains(id));
        kept = shared;
        modules.push((name, btf, own));
    }

    let ids = renumber(&kept, TypeId(1));
    let mut writer = BtfWriter::new();
    write(&mut writer, &base, &kept, &ids)?;
    store(to, "vmlinux", &writer)?;
    for (name, btf, own) in modules {
        let mut writer = BtfWriter::over(&writer);
        let mut ids = ids.clone();
        ids.append(&mut renumber(&own, writer.next_id()));
        write(&mut writer, &btf, &own, &ids)?;
        store(to, name, &writer)?;
    }
    Ok(())
}

fn store(to: &Path, name: &str, writer: &BtfWriter) -> Result<()> {
    let path = to.join(name);
    fs::write(&path, writer.finish()).with_context(|| format!("cannot write {}", path.display()))
}

/// New ids in the order of the old ones.
fn renumber(kept: &Kept, first: TypeId) -> BTreeMap<TypeId, TypeId> {
    kept.keys().zip(first.0..).map(|(old, new)| (*old, TypeId(new))).collect()
}

/// Marks what to keep of a level, and what that refers to in its base.
fn choose(btf: &Btf<'_>, kept: &mut Kept) -> Result<()> {
    let mut samples = BTreeMap::<Kind, usize>::new();
    for id in btf.own_ids() {
        let ty = btf.get(id)?;
        let name = btf.string(ty.name)?;
        let aggregate = matches!(ty.kind, Kind::Struct | Kind::Union);
        let elements = ty.extra.len() / 8;
        let seen = samples.entry(ty.kind).or_default();
        if aggregate && STRUCTS.contains(&name) {
            keep(btf, id, Keep::Whole, kept)?;
        } else if ty.kind == Kind::Typedef && TYPEDEFS.contains(&name) {
            keep(btf, id, Keep::Whole, kept)?;
            let pointer = btf.resolve(id)?;
            keep(btf, TypeId(pointer.size_or_type), Keep::Whole, kept)?;
        } else if *seen < SAMPLES && elements <= SAMPLE_ELEMENTS {
            *seen += 1;
            keep(btf, id, Keep::Whole, kept)?;
        }
    }
    Ok(())
}

fn keep(btf: &Btf<'_>, id: TypeId, how: Keep, kept: &mut Kept) -> Result<(), BtfError> {
    if id == TypeId(0) || kept.get(&id).is_some_and(|before| *before >= how) {
        return Ok(());
    }
    kept.insert(id, how);
    let ty = btf.get(id)?;
    let (value, words) = references(ty.kind);
    if has_elements(ty.kind) && how == Keep::Opaque {
        return Ok(());
    }
    if value {
        keep(btf, TypeId(ty.size_or_type), Keep::Opaque, kept)?;
    }
    let aggregate = matches!(ty.kind, Kind::Struct | Kind::Union);
    for (at, word) in ty.records::<1>().enumerate() {
        if !words.at(at) {
            continue;
        }
        let to = TypeId(word[0]);
        let anonymous = aggregate && at > 0 && ty.records::<1>().nth(at - 1) == Some([0]);
        keep(btf, to, if anonymous { Keep::Whole } else { Keep::Opaque }, kept)?;
    }
    Ok(())
}

fn write(writer: &mut BtfWriter, btf: &Btf<'_>, kept: &Kept, ids: &BTreeMap<TypeId, TypeId>) -> Result<()> {
    let new_id = |old: u32| match old {
        0 => Ok(0),
        old => ids.get(&TypeId(old)).map(|id| id.0).context("a type was referred to but not kept"),
    };
    for (id, how) in kept {
        let ty = btf.get(*id)?;
        let (value, words) = references(ty.kind);
        let opaque = *how == Keep::Opaque && has_elements(ty.kind);
        let value = match (opaque && ty.kind == Kind::FuncProto, value) {
            (true, _) => 0,
            (false, true) => new_id(ty.size_or_type)?,
            (false, false) => ty.size_or_type,
        };
        let mut extra = Vec::new();
        for (at, [word]) in ty.records::<1>().enumerate() {
            extra.push(if opaque {
                continue;
            } else if words.at(at) {
                new_id(word)?
            } else if words.is_name(at) {
                writer.name(btf.string(word)?)
            } else {
                word
            });
        }
        let vlen = if opaque { 0 } else { ty.vlen };
        writer.add(btf.string(ty.name)?, ty.kind, ty.flag, vlen, value, &extra);
    }
    Ok(())
}

fn has_elements(kind: Kind) -> bool {
    matches!(kind, Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum | Kind::Enum64 | Kind::FuncProto)
}

/// Which of the words behind a type are types or names, by their place in each record.
struct Words {
    record: usize,
    types: &'static [usize],
    names: &'static [usize],
}

impl Words {
    fn at(&self, word: usize) -> bool {
        self.types.contains(&(word % self.record))
    }

    fn is_name(&self, word: usize) -> bool {
        self.names.contains(&(word % self.record))
    }
}

/// Whether the header's last word is a type, and where further types and names are (include/uapi/linux/btf.h).
fn references(kind: Kind) -> (bool, Words) {
    let words = |record, types, names| Words { record, types, names };
    match kind {
        Kind::Int | Kind::Float | Kind::Fwd => (false, words(1, &[], &[])),
        Kind::Ptr
        | Kind::Typedef
        | Kind::Volatile
        | Kind::Const
        | Kind::Restrict
        | Kind::Func
        | Kind::Var
        | Kind::DeclTag
        | Kind::TypeTag => (true, words(1, &[], &[])),
        Kind::Array => (false, words(3, &[0, 1], &[])),
        Kind::Struct | Kind::Union => (false, words(3, &[1], &[0])),
        Kind::Enum => (false, words(2, &[], &[0])),
        Kind::Enum64 => (false, words(3, &[], &[0])),
        Kind::FuncProto => (true, words(2, &[1], &[0])),
        Kind::Datasec => (false, words(3, &[0], &[])),
    }
}
