//! Keys of the noun halt.

/// Kind: halts. The detail is made of the `DETAIL_*` bits, [`crate::rows::RowKey::a`] is 0; the row's second number is
/// their sum, ns.
pub const KIND_HALT: u8 = 0;

/// The thread was blocked: the halt did not end before that, for instance while KVM polled.
pub const DETAIL_WAITED: u64 = 1 << 0;
/// There was something for the guest to do.
pub const DETAIL_VALID: u64 = 1 << 1;

/// Kind: changes of how long KVM is to poll. The detail is 1 where that grows.
pub const KIND_RESIZE: u8 = 1;
