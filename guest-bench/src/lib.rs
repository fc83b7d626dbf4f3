//! kvm-bench: measures inside a KVM guest what each VM exit costs.
//!
//! So far the crate holds the freestanding guest, [`payload`], and the language it speaks with its VMM, [`protocol`].

pub mod payload;
pub mod protocol;
