//! BTF, the kernel's compact type information, straight from its bytes.
//!
//! Enough of it to ask where a member of a struct lies and what arguments a tracepoint has, in `vmlinux` (the base) or
//! in a module (split BTF, which continues the ids and strings of the base). One pass finds where each type starts;
//! everything else is read when asked for, so that the 5 MB of a kernel take milliseconds. Every access is checked:
//! damaged data gives an error, never a panic.
//!
//! Format: Documentation/bpf/btf.rst and include/uapi/linux/btf.h of the kernel.

use std::fmt;

mod error;
mod lookup;

pub use error::BtfError;
pub use lookup::{Member, Param, Value};

type Result<T, E = BtfError> = std::result::Result<T, E>;

/// Number of a type. 0 is `void`; a split BTF counts on where its base ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `BTF_KIND_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
#[allow(missing_docs, reason = "named as in the kernel")]
pub enum Kind {
    Int = 1,
    Ptr = 2,
    Array = 3,
    Struct = 4,
    Union = 5,
    Enum = 6,
    Fwd = 7,
    Typedef = 8,
    Volatile = 9,
    Const = 10,
    Restrict = 11,
    Func = 12,
    FuncProto = 13,
    Var = 14,
    Datasec = 15,
    Float = 16,
    DeclTag = 17,
    TypeTag = 18,
    Enum64 = 19,
}

impl Kind {
    /// Every kind, by number.
    pub const ALL: [Self; 19] = [
        Self::Int,
        Self::Ptr,
        Self::Array,
        Self::Struct,
        Self::Union,
        Self::Enum,
        Self::Fwd,
        Self::Typedef,
        Self::Volatile,
        Self::Const,
        Self::Restrict,
        Self::Func,
        Self::FuncProto,
        Self::Var,
        Self::Datasec,
        Self::Float,
        Self::DeclTag,
        Self::TypeTag,
        Self::Enum64,
    ];

    fn from_raw(raw: u32) -> Option<Self> {
        let index = usize::try_from(raw.checked_sub(1)?).ok()?;
        Self::ALL.get(index).copied()
    }

    /// Bytes that follow the common header of a type with `vlen` elements.
    fn extra_len(self, vlen: u32) -> usize {
        let vlen = vlen as usize;
        match self {
            Self::Int | Self::Var | Self::DeclTag => 4,
            Self::Array => 12,
            Self::Struct | Self::Union | Self::Datasec | Self::Enum64 => 12 * vlen,
            Self::Enum | Self::FuncProto => 8 * vlen,
            Self::Ptr
            | Self::Fwd
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Func
            | Self::Float
            | Self::TypeTag => 0,
        }
    }
}

/// Bytes of `struct btf_type`.
const TYPE_HEADER: usize = 12;

/// The kernel uses bits 0-15 for the number of elements and 24-28 for the kind, and demands that the bits above each
/// are zero; they are left for these numbers to grow into, so they are read as part of them.
const fn vlen_of(info: u32) -> u32 {
    info & 0x00ff_ffff
}

const fn kind_of(info: u32) -> u32 {
    (info >> 24) & 0x7f
}

/// One type as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type<'a> {
    /// Its number.
    pub id: TypeId,
    /// Its kind.
    pub kind: Kind,
    /// `kind_flag`: for a struct, that member offsets carry the size of bit fields.
    pub flag: bool,
    /// Number of elements; for a function its linkage.
    pub vlen: u32,
    /// Position of its name among the strings; 0 if it has none.
    pub name: u32,
    /// Its size in bytes or the type it refers to, depending on the kind.
    pub size_or_type: u32,
    /// What follows the header: members, parameters, ...
    pub extra: &'a [u8],
}

impl<'a> Type<'a> {
    /// The words of `extra`, `N` at a time: 3 for members and section entries, 2 for parameters and enumerators.
    pub fn records<const N: usize>(&self) -> impl Iterator<Item = [u32; N]> + use<'a, N> {
        self.extra
            .chunks_exact(4 * N)
            .map(|chunk| std::array::from_fn(|word| read_u32(chunk, 4 * word).unwrap_or_default()))
    }
}

/// The BTF of a kernel, or of a module over that of its kernel. Borrows the bytes.
#[derive(Clone, Debug)]
pub struct Btf<'a> {
    base: Option<&'a Btf<'a>>,
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type starts within `types`.
    starts: Vec<u32>,
    /// Id of the first of them.
    first_id: u32,
    /// Position of the first of `strings` in the numbering that names use.
    first_string: u32,
}

impl<'a> Btf<'a> {
    /// Reads the BTF of a whole kernel, as `/sys/kernel/btf/vmlinux` has it.
    ///
    /// # Errors
    /// [`BtfError`] if it is not BTF, damaged, or uses kinds of types that are unknown here.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        Self::read(None, bytes)
    }

    /// Reads the BTF of a module, as `/sys/kernel/btf/kvm` has it, over that of the same kernel's vmlinux.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn split(base: &'a Btf<'a>, bytes: &'a [u8]) -> Result<Self> {
        Self::read(Some(base), bytes)
    }

    fn read(base: Option<&'a Btf<'a>>, bytes: &'a [u8]) -> Result<Self> {
        match bytes {
            [0x9f, 0xeb, 1, ..] => {}
            [0x9f, 0xeb, version, ..] => return Err(BtfError::Version(*version)),
            [0xeb, 0x9f, ..] => return Err(BtfError::BigEndian),
            _ => return Err(BtfError::NotBtf),
        }
        let field = |at| read_u32(bytes, at).ok_or(BtfError::Truncated { what: "the header", at });
        // Newer headers are longer; their length says where the sections begin.
        let header = field(4)? as usize;
        let body = (header >= 24).then(|| bytes.get(header..)).flatten();
        let body = body.ok_or(BtfError::Truncated { what: "the header", at: header })?;
        let section = |what, offset: u32, len: u32| {
            let at = offset as usize;
            at.checked_add(len as usize)
                .and_then(|end| body.get(at..end))
                .ok_or(BtfError::Truncated { what, at })
        };
        let types = section("the type section", field(8)?, field(12)?)?;
        let strings = section("the string section", field(16)?, field(20)?)?;

        let mut btf = Self {
            base,
            types,
            strings,
            starts: Vec::with_capacity(types.len() / 24),
            first_id: base.map_or(1, |base| base.end_id()),
            first_string: base.map_or(0, |base| base.end_string()),
        };
        let mut at = 0;
        while at < types.len() {
            let id = TypeId(btf.end_id());
            let (Some(info), Ok(start)) = (read_u32(types, at + 4), u32::try_from(at)) else {
                return Err(BtfError::Truncated { what: "a type", at });
            };
            let kind =
                Kind::from_raw(kind_of(info)).ok_or(BtfError::UnknownKind { id, kind: kind_of(info) })?;
            btf.starts.push(start);
            at += TYPE_HEADER + kind.extra_len(vlen_of(info));
            if at > types.len() {
                return Err(BtfError::Truncated { what: "a type", at: start as usize });
            }
        }
        Ok(btf)
    }

    /// One more than the last id. Types take at least 12 bytes each of a section below 4 GiB, so this cannot overflow
    /// for a base and a module.
    fn end_id(&self) -> u32 {
        self.first_id.saturating_add(self.starts.len() as u32)
    }

    fn end_string(&self) -> u32 {
        self.first_string.saturating_add(self.strings.len() as u32)
    }

    /// The ids of the types of this BTF, without those of its base.
    pub fn own_ids(&self) -> impl Iterator<Item = TypeId> + use<> {
        (self.first_id..self.end_id()).map(TypeId)
    }

    /// A type of this BTF or its base.
    ///
    /// # Errors
    /// [`BtfError::NoType`] for 0 (void) and ids that do not exist.
    pub fn get(&self, id: TypeId) -> Result<Type<'a>> {
        match (id.0.checked_sub(self.first_id), self.base) {
            (Some(index), _) => self.own(index).ok_or(BtfError::NoType(id)),
            (None, Some(base)) => base.get(id),
            (None, None) => Err(BtfError::NoType(id)),
        }
    }

    /// The `index`th own type.
    fn own(&self, index: u32) -> Option<Type<'a>> {
        let start = *self.starts.get(usize::try_from(index).ok()?)? as usize;
        let info = read_u32(self.types, start + 4)?;
        let kind = Kind::from_raw(kind_of(info))?;
        let extra = start + TYPE_HEADER;
        Some(Type {
            id: TypeId(self.first_id.checked_add(index)?),
            kind,
            flag: info >> 31 == 1,
            vlen: vlen_of(info),
            name: read_u32(self.types, start)?,
            size_or_type: read_u32(self.types, start + 8)?,
            extra: self.types.get(extra..extra + kind.extra_len(vlen_of(info)))?,
        })
    }

    /// Own types of these kinds and that name. Reads no more of each type than it must: this is most of the time
    /// that a lookup takes.
    fn own_named(&self, kinds: &[Kind], name: &str) -> Vec<TypeId> {
        let wanted = kinds.iter().fold(0_u32, |set, kind| set | 1 << *kind as u32);
        let matches = |start: u32| {
            let header = self.types.get(start as usize..).and_then(|rest| rest.first_chunk::<8>());
            header.is_some_and(|[n0, n1, n2, n3, i0, i1, i2, i3]| {
                let kind = kind_of(u32::from_le_bytes([*i0, *i1, *i2, *i3]));
                wanted.checked_shr(kind).is_some_and(|bits| bits & 1 == 1)
                    && self.is_named(u32::from_le_bytes([*n0, *n1, *n2, *n3]), name)
            })
        };
        self.own_ids().zip(&self.starts).filter(|(_, start)| matches(**start)).map(|(id, _)| id).collect()
    }

    /// The name at a position among the strings, empty at 0. Bytes that are no UTF-8 (the kernel has none) are an error.
    ///
    /// # Errors
    /// [`BtfError::NoString`].
    pub fn string(&self, at: u32) -> Result<&'a str> {
        let bytes = self.string_bytes(at).ok_or(BtfError::NoString(at))?;
        let end = bytes.iter().position(|byte| *byte == 0).ok_or(BtfError::NoString(at))?;
        bytes.get(..end).and_then(|name| std::str::from_utf8(name).ok()).ok_or(BtfError::NoString(at))
    }

    /// The strings from a position on.
    fn string_bytes(&self, at: u32) -> Option<&'a [u8]> {
        match (at.checked_sub(self.first_string), self.base) {
            (Some(own), _) => self.strings.get(own as usize..),
            (None, Some(base)) => base.string_bytes(at),
            (None, None) => None,
        }
    }

    /// Whether the name at a position is this one; cheaper than to read it.
    fn is_named(&self, at: u32, name: &str) -> bool {
        self.string_bytes(at)
            .and_then(|bytes| bytes.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    bytes.get(at..end)?.try_into().ok().map(u32::from_le_bytes)
}
