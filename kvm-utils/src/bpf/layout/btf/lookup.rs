//! Questions to BTF: where a member lies, what arguments a function takes.

use super::{Btf, BtfError, Kind, Result, Type, TypeId};

/// Typedefs, qualifiers and array dimensions on top of one another; the kernel stays below 10.
const MAX_CHAIN: usize = 64;
/// Members looked at to find one through anonymous structs; the kernel's largest structs have some hundreds.
const MAX_MEMBERS: usize = 100_000;
/// Bytes of a pointer: KVM's hosts are x86-64.
const POINTER: u32 = 8;

/// Where a member lies in its struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the outermost struct.
    pub offset: u32,
    /// Its size in bytes.
    pub size: u32,
    /// Its type as declared.
    pub ty: TypeId,
}

/// A parameter of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Its name; empty for most function pointers, tracepoints among them.
    pub name: &'a str,
    /// Its type.
    pub ty: TypeId,
}

/// What a scalar type is, beneath typedefs and qualifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A pointer.
    Pointer {
        /// What it points to, qualifiers removed: the name of a struct or of another type, `void`, or empty.
        to: &'a str,
        /// The same as a type.
        id: TypeId,
    },
    /// An integer or enumeration of that many bytes.
    Integer {
        /// Bytes.
        size: u32,
    },
    /// A struct or something else that is not passed as one value.
    Other,
}

impl<'a> Btf<'a> {
    /// The struct or union of that name: this BTF's own, else its base's. Forward declarations do not count.
    ///
    /// # Errors
    /// [`BtfError::NotFound`].
    pub fn find_struct(&self, name: &str) -> Result<TypeId> {
        self.named(&[Kind::Struct, Kind::Union], "struct", name)?
            .first()
            .copied()
            .ok_or_else(|| not_found("struct", name))
    }

    /// Where a member lies in the struct of that name. `path` leads through nested structs (`control.exit_code`);
    /// members of anonymous structs and unions are found as in C.
    ///
    /// # Errors
    /// [`BtfError`] if there is no such struct or member, if it is a bit field, or if several structs share the name and
    /// disagree.
    pub fn member_offset(&self, name: &str, path: &str) -> Result<Member> {
        let ids = self.named(&[Kind::Struct, Kind::Union], "struct", name)?;
        let mut found: Option<Result<Member>> = None;
        for id in &ids {
            let this = self.member(*id, path);
            let agrees = match (&found, &this) {
                (None, _) => true,
                (Some(Ok(a)), Ok(b)) => (a.offset, a.size) == (b.offset, b.size),
                (Some(Err(_)), Err(_)) => true,
                (Some(_), _) => false,
            };
            if !agrees {
                return Err(BtfError::Ambiguous { name: name.into(), member: path.into(), count: ids.len() });
            }
            found.get_or_insert(this);
        }
        found.unwrap_or_else(|| Err(not_found("struct", name)))
    }

    /// As [`Self::member_offset`], for a type that is known already (through typedefs and qualifiers).
    ///
    /// # Errors
    /// As [`Self::member_offset`].
    pub fn member(&self, id: TypeId, path: &str) -> Result<Member> {
        let (mut bits, mut ty) = (0_u64, id);
        for name in path.split('.') {
            let aggregate = self.resolve(ty)?;
            if !is_aggregate(&aggregate) {
                return Err(BtfError::NotAggregate { id: aggregate.id, member: name.into() });
            }
            let mut budget = MAX_MEMBERS;
            let (offset, inner) = self.locate(&aggregate, name, &mut budget)?.ok_or_else(|| {
                let ty = self.string(aggregate.name).unwrap_or_default();
                BtfError::NoMember { ty: ty.into(), member: name.into() }
            })?;
            bits += offset;
            ty = inner;
        }
        let too_far = |_| BtfError::NoSize(id);
        let offset = u32::try_from(bits / 8).map_err(too_far)?;
        Ok(Member { offset, size: self.size_of(ty)?, ty })
    }

    /// Offset in bits and type of a member, looked for in anonymous members too.
    fn locate(&self, of: &Type<'a>, name: &str, budget: &mut usize) -> Result<Option<(u64, TypeId)>> {
        for [member_name, ty, offset] in of.records::<3>() {
            *budget = budget.checked_sub(1).ok_or(BtfError::Endless(of.id))?;
            let (bits, bitfield) = if of.flag { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            let bits = u64::from(bits);
            if !name.is_empty() && self.is_named(member_name, name) {
                if bitfield != 0 || bits % 8 != 0 || self.is_old_bitfield(TypeId(ty))? {
                    return Err(BtfError::Bitfield { member: name.into() });
                }
                return Ok(Some((bits, TypeId(ty))));
            }
            if self.string(member_name)?.is_empty() && bitfield == 0 {
                let inner = self.resolve(TypeId(ty))?;
                if is_aggregate(&inner) {
                    // Damaged data may nest without end. Each level costs one of a budget that is much smaller
                    // than the stack allows for.
                    *budget = budget.checked_sub(MAX_MEMBERS / MAX_CHAIN).ok_or(BtfError::Endless(of.id))?;
                    if let Some((inner_bits, ty)) = self.locate(&inner, name, budget)? {
                        return Ok(Some((bits + inner_bits, ty)));
                    }
                    *budget += MAX_MEMBERS / MAX_CHAIN;
                }
            }
        }
        Ok(None)
    }

    /// Before `kind_flag`, bit fields were integers with fewer bits than their bytes hold.
    fn is_old_bitfield(&self, ty: TypeId) -> Result<bool> {
        let Ok(ty) = self.resolve(ty) else { return Ok(false) };
        if ty.kind != Kind::Int {
            return Ok(false);
        }
        let [encoding] = ty.records::<1>().next().ok_or(BtfError::NoType(ty.id))?;
        let (offset, bits) = ((encoding >> 16) & 0xff, encoding & 0xff);
        Ok(offset != 0 || bits != ty.size_or_type.saturating_mul(8) & 0xff)
    }

    /// Bytes that a value of this type takes.
    ///
    /// # Errors
    /// [`BtfError::NoSize`] for functions, forward declarations and void.
    pub fn size_of(&self, id: TypeId) -> Result<u32> {
        let (mut elements, mut ty) = (1_u32, id);
        for _ in 0..MAX_CHAIN {
            let this = self.resolve(ty)?;
            let size = match this.kind {
                Kind::Ptr => POINTER,
                Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Float | Kind::Struct | Kind::Union => {
                    this.size_or_type
                }
                Kind::Array => {
                    let [element, _, count] = this.records::<3>().next().ok_or(BtfError::NoSize(id))?;
                    elements = elements.checked_mul(count).ok_or(BtfError::NoSize(id))?;
                    ty = TypeId(element);
                    continue;
                }
                _ => return Err(BtfError::NoSize(id)),
            };
            return size.checked_mul(elements).ok_or(BtfError::NoSize(id));
        }
        Err(BtfError::Endless(id))
    }

    /// The type beneath typedefs, qualifiers and type tags.
    ///
    /// # Errors
    /// [`BtfError`] if that is void or the chain does not end.
    pub fn resolve(&self, id: TypeId) -> Result<Type<'a>> {
        let mut next = id;
        for _ in 0..MAX_CHAIN {
            let ty = self.get(next)?;
            match ty.kind {
                Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag => {
                    next = TypeId(ty.size_or_type);
                }
                _ => return Ok(ty),
            }
        }
        Err(BtfError::Endless(id))
    }

    /// What a parameter of this type is.
    ///
    /// # Errors
    /// [`BtfError`] if the types it refers to are damaged.
    pub fn value(&self, id: TypeId) -> Result<Value<'a>> {
        let ty = self.resolve(id)?;
        Ok(match ty.kind {
            Kind::Int | Kind::Enum | Kind::Enum64 => Value::Integer { size: ty.size_or_type },
            Kind::Ptr if ty.size_or_type == 0 => Value::Pointer { to: "void", id: TypeId(0) },
            Kind::Ptr => {
                let to = TypeId(ty.size_or_type);
                match self.resolve(to) {
                    Ok(target) => Value::Pointer { to: self.string(target.name)?, id: target.id },
                    // `const void *` ends in void behind a qualifier.
                    Err(BtfError::NoType(TypeId(0))) => Value::Pointer { to: "void", id: TypeId(0) },
                    Err(other) => return Err(other),
                }
            }
            _ => Value::Other,
        })
    }

    /// The parameters of the function type that the typedef of that name points to. The typedefs `btf_trace_*` of
    /// tracepoints have `void *__data` in front of the tracepoint's own arguments.
    ///
    /// # Errors
    /// [`BtfError`] if there is no such typedef or it is something else.
    pub fn func_proto_of_typedef(&self, name: &str) -> Result<Vec<Param<'a>>> {
        let id = self
            .named(&[Kind::Typedef], "typedef", name)?
            .first()
            .copied()
            .ok_or_else(|| not_found("typedef", name))?;
        let not_function = || BtfError::NotFunction(name.into());
        let pointer = self.resolve(id).map_err(|_| not_function())?;
        if pointer.kind != Kind::Ptr {
            return Err(not_function());
        }
        let proto = self.resolve(TypeId(pointer.size_or_type)).map_err(|_| not_function())?;
        if proto.kind != Kind::FuncProto {
            return Err(not_function());
        }
        proto
            .records::<2>()
            .map(|[name, ty]| Ok(Param { name: self.string(name)?, ty: TypeId(ty) }))
            .collect()
    }

    /// Types of these kinds and that name: this BTF's own, or if it has none its base's.
    fn named(&self, kinds: &[Kind], what: &'static str, name: &str) -> Result<Vec<TypeId>> {
        let found = self.own_named(kinds, name);
        match self.base {
            _ if !found.is_empty() => Ok(found),
            Some(base) => base.named(kinds, what, name),
            None => Err(not_found(what, name)),
        }
    }
}

fn is_aggregate(ty: &Type<'_>) -> bool {
    matches!(ty.kind, Kind::Struct | Kind::Union)
}

fn not_found(what: &'static str, name: &str) -> BtfError {
    BtfError::NotFound { what, name: name.into() }
}
