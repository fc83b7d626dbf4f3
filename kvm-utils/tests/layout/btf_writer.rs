//! Writes BTF: for tests that need types no kernel here has, and for the minimiser of the fixtures.

use std::collections::HashMap;

use kvm_utils::bpf::layout::btf::{Kind, TypeId};

/// A BTF being written.
#[derive(Clone, Default)]
pub struct BtfWriter {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Names written so far, those of the base included.
    names: HashMap<String, u32>,
    end_string: u32,
    end_id: u32,
}

impl BtfWriter {
    /// An empty BTF of a kernel.
    pub fn new() -> Self {
        let mut writer = Self { end_id: 1, ..Self::default() };
        writer.name("");
        writer
    }

    /// An empty split BTF over a finished base.
    #[allow(dead_code, reason = "the tests and the minimiser use different parts")]
    pub fn over(base: &Self) -> Self {
        Self { types: Vec::new(), strings: Vec::new(), ..base.clone() }
    }

    /// The id that the next type gets.
    #[allow(dead_code, reason = "the tests and the minimiser use different parts")]
    pub fn next_id(&self) -> TypeId {
        TypeId(self.end_id)
    }

    /// Position of a name, written once.
    pub fn name(&mut self, name: &str) -> u32 {
        if let Some(at) = self.names.get(name) {
            return *at;
        }
        let at = self.end_string;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        self.end_string += name.len() as u32 + 1;
        self.names.insert(name.to_owned(), at);
        at
    }

    /// Adds a type as it is stored: `struct btf_type` and the words behind it.
    pub fn add(
        &mut self,
        name: &str,
        kind: Kind,
        flag: bool,
        vlen: u32,
        value: u32,
        extra: &[u32],
    ) -> TypeId {
        let name = self.name(name);
        let info = u32::from(flag) << 31 | (kind as u32) << 24 | vlen;
        for word in [name, info, value].iter().chain(extra) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.end_id += 1;
        TypeId(self.end_id - 1)
    }

    /// The whole blob.
    pub fn finish(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, strings] {
            blob.extend_from_slice(&u32::to_le_bytes(word));
        }
        blob.extend_from_slice(&self.types);
        blob.extend_from_slice(&self.strings);
        blob
    }
}

/// Shorthands for the kinds that tests write by hand.
#[allow(dead_code, reason = "the tests and the minimiser use different parts")]
impl BtfWriter {
    pub fn int(&mut self, name: &str, size: u32) -> TypeId {
        self.add(name, Kind::Int, false, 0, size, &[size * 8])
    }

    pub fn refer(&mut self, kind: Kind, name: &str, to: TypeId) -> TypeId {
        self.add(name, kind, false, 0, to.0, &[])
    }

    pub fn pointer(&mut self, to: TypeId) -> TypeId {
        self.refer(Kind::Ptr, "", to)
    }

    pub fn array(&mut self, of: TypeId, index: TypeId, count: u32) -> TypeId {
        self.add("", Kind::Array, false, 0, 0, &[of.0, index.0, count])
    }

    /// A struct or union; members are name, type, offset in bytes.
    pub fn aggregate(
        &mut self,
        kind: Kind,
        name: &str,
        size: u32,
        members: &[(&str, TypeId, u32)],
    ) -> TypeId {
        let words: Vec<u32> =
            members.iter().flat_map(|(name, ty, offset)| [self.name(name), ty.0, offset * 8]).collect();
        self.add(name, kind, false, members.len() as u32, size, &words)
    }

    /// `typedef void (*NAME)(PARAMS)`.
    pub fn tracepoint(&mut self, name: &str, params: &[(&str, TypeId)]) -> TypeId {
        let words: Vec<u32> = params.iter().flat_map(|(name, ty)| [self.name(name), ty.0]).collect();
        let proto = self.add("", Kind::FuncProto, false, params.len() as u32, 0, &words);
        let pointer = self.pointer(proto);
        self.refer(Kind::Typedef, name, pointer)
    }
}
