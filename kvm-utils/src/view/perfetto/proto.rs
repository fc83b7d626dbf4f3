//! As much of Protocol Buffers' encoding as a trace needs: fields of whole numbers, of bytes, and of messages
//! (https://protobuf.dev/programming-guides/encoding/).

/// A message in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// Wire types.
const VARINT: u32 = 0;
const BYTES: u32 = 2;

impl Message {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A field of type uint32, uint64, bool or enum, or a signed one that is not negative.
    pub(super) fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field << 3 | VARINT));
        self.varint(value);
        self
    }

    /// A field of type bytes, or a string.
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.varint(u64::from(field << 3 | BYTES));
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A string.
    pub(super) fn text(&mut self, field: u32, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    /// A message within this one.
    pub(super) fn message(&mut self, field: u32, value: &Self) -> &mut Self {
        self.bytes(field, &value.0)
    }

    /// The same, made on the spot.
    pub(super) fn with(&mut self, field: u32, make: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        make(&mut inner);
        self.message(field, &inner)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
