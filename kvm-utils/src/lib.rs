//! Library behind the `kvm-utils` command: one way from the kernel to the eye,
//! hook -> drill-down -> map -> snapshot -> report -> view.

pub mod decode;
pub mod host;
pub mod model;
pub mod view;
