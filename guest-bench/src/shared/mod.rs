//! What the Linux program and the freestanding payload share: the operations, and how one is timed.
//!
//! These files are compiled twice, into this crate and, with `#[path]`, into the payload: they use `core` only.

pub mod bracket;
pub mod buckets;
pub mod marks;
pub mod ops;
