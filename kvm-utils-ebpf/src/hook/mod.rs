//! One file per kernel hook. Where a hook can be reached in two ways there are two entry points, which differ only in
//! how they learn who and why.

// aya's macros hand a program its context by value.
#![allow(clippy::needless_pass_by_value)]
// `event!` casts arguments of several widths, and `u64::from` of a u64 is no better.
#![allow(clippy::cast_lossless)]

pub mod event;
mod fault_mmio;
mod irq;
mod kvm_cpuid;
mod kvm_entry;
mod kvm_exit;
mod kvm_exit_rip;
mod kvm_fast_mmio;
mod kvm_halt_poll;
mod kvm_hv_hypercall;
mod kvm_hypercall;
mod kvm_mmio;
mod kvm_msr;
mod kvm_page_fault;
mod kvm_pio;
mod kvm_userspace_exit;
mod kvm_vcpu_wakeup;
mod kvm_xen_hypercall;
mod sched_switch;
mod sched_wakeup;
mod set_msr;
mod vcpu_destroy;
mod vcpu_run;

/// What the program of a classic tracepoint returns: with 0 the kernel would keep the event from everybody else who
/// counts or samples it with perf (`perf_trace_run_bpf_submit`, kernel/events/core.c). These programs are declared
/// without aya's `#[tracepoint]`, which returns 0 whatever the function says.
const PASS_ON: u32 = 1;
