//! `kvm-bench compare`: what changed between reports, and how sure that is.
//!
//! - [`statistics`] compares numbers and knows nothing of reports.
//! - [`document`] reads reports, of this and of other versions.
//! - [`comparable`] decides whether two machines are the same.
//! - [`verdicts`] judges each operation, [`view`] shows the result.
//! - [`files`] does all of that with files.

pub mod comparable;
pub mod document;
pub mod files;
pub mod statistics;
pub mod verdicts;
pub mod view;
