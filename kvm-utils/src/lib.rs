//! Library behind the `kvm-utils` command: one way from the kernel to the eye,
//! hook -> drill-down -> map -> snapshot -> report -> view.

pub mod bench;
pub mod bpf;
pub mod cmd;
pub mod compare;
pub mod decode;
pub mod drilldown;
pub mod error;
pub mod export;
pub mod host;
pub mod model;
pub mod recording;
pub mod replace;
pub mod selftest;
pub mod session;
pub mod view;
