//! Discovery of VMs: on trees that look like /proc of hosts with each VMM, and on VMs of this machine's own KVM.

// clippy.toml allows these in tests, but does not see that the helpers of an integration test are one.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod discovery;
mod identity;
mod kvm_stat;
mod live;
mod selectors;
mod tree;
