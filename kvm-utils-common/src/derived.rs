//! Keys of the noun derived, beside those of the nouns whose events it shows.

/// Kind: returns of KVM_RUN to the VMM. [`crate::rows::RowKey::a`] is the reason (`KVM_EXIT_*`, include/uapi/linux/kvm.h), or
/// with [`DETAIL_ERROR`] the error.
pub const KIND_RETURN: u8 = 0;

/// Detail: the ioctl failed, mostly because of a signal.
pub const DETAIL_ERROR: u64 = 1 << 0;
