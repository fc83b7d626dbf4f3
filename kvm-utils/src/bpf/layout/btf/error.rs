//! What can be wrong with BTF.

use thiserror::Error;

use super::TypeId;

/// Why a BTF blob could not be read, or does not hold what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BtfError {
    /// The magic number is missing.
    #[error("this is not BTF: it does not start with the magic bytes 9f eb")]
    NotBtf,
    /// BTF of the other byte order.
    #[error("this is big-endian BTF, KVM on x86 is little-endian: it was made for another machine")]
    BigEndian,
    /// A version other than 1.
    #[error("BTF version {0} is unknown, this program reads version 1")]
    Version(u8),
    /// Something lies outside the data.
    #[error("BTF is cut short or damaged: {what} at byte {at} reaches beyond its end")]
    Truncated {
        /// What should be there.
        what: &'static str,
        /// Byte position in its section.
        at: usize,
    },
    /// A kind of type newer than this program. Its size is unknown, so nothing after it can be read.
    #[error("type {id} is of the unknown BTF kind {kind}: this kernel is newer than this program")]
    UnknownKind {
        /// Its id.
        id: TypeId,
        /// The kind's number.
        kind: u32,
    },
    /// A type id that this BTF and its base do not have.
    #[error("there is no type {0}: the BTF is damaged, or belongs to another vmlinux")]
    NoType(TypeId),
    /// A name outside the strings.
    #[error("there is no name at {0}: the BTF is damaged, or belongs to another vmlinux")]
    NoString(u32),
    /// No such type by name.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// `struct`, `typedef`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A struct without that member.
    #[error("{ty} has no member {member:?}")]
    NoMember {
        /// The struct's or union's name.
        ty: String,
        /// The member.
        member: String,
    },
    /// A member whose members were asked for has none.
    #[error("type {id}, to which {member:?} should belong, is no struct or union")]
    NotAggregate {
        /// The type.
        id: TypeId,
        /// The member that was looked for.
        member: String,
    },
    /// The member does not start and end on bytes.
    #[error("{member:?} is a bit field: it has no byte offset")]
    Bitfield {
        /// The member.
        member: String,
    },
    /// Several types of that name disagree.
    #[error("there are {count} different types {name:?} and they place {member:?} differently")]
    Ambiguous {
        /// The type.
        name: String,
        /// The member.
        member: String,
        /// How many types have the name.
        count: usize,
    },
    /// Types that refer to each other without end.
    #[error("types refer to each other without end at type {0}: the BTF is damaged")]
    Endless(TypeId),
    /// A type without a size, or with an absurd one.
    #[error("type {0} has no size")]
    NoSize(TypeId),
    /// Not a pointer to a function, as tracepoint typedefs are.
    #[error("typedef {0:?} is not a pointer to a function")]
    NotFunction(String),
}
