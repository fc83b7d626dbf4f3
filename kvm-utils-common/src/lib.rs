//! What the eBPF programs and the host tool of kvm-utils share: the layout of the kernel maps and the histogram
//! maths. Everything here is `no_std`, free of pointers and identical on both sides.
#![cfg_attr(not(test), no_std)]

pub mod config;
pub mod cpuid;
pub mod derived;
pub mod event;
pub mod exits;
pub mod fault;
pub mod halt;
pub mod hist;
pub mod hypercall;
pub mod io;
pub mod irq;
pub mod ledger;
pub mod msr;
pub mod numbers;
pub mod rip;
pub mod rows;
pub mod stream;
pub mod vcpu;
