//! What maps hold, as aya wants it.

use kvm_utils_common::{
    rows::{MoreKey, MoreRow},
    vcpu::Slot,
};

/// [`MoreKey`] as aya wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PodMoreKey(pub(super) MoreKey);

// SAFETY: two u32 and two u64 without padding; any bytes are valid.
unsafe impl aya::Pod for PodMoreKey {}

/// [`MoreRow`] as aya wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PodMoreRow(pub(super) MoreRow);

// SAFETY: two u64; any bytes are valid.
unsafe impl aya::Pod for PodMoreRow {}

/// [`Slot`] as aya wants it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PodSlot(pub(super) Slot);

// SAFETY: two u32 without padding; any bytes are valid.
unsafe impl aya::Pod for PodSlot {}
