//! The eBPF programs of kvm-utils.
//!
//! One file per kernel hook in [`hook`], one file per noun in [`drilldown`]; a hook finds out who and why, and hands
//! that to the drill-downs that are switched on. Everything that differs between kernels arrives through the
//! frozen globals in [`globals`], and the verifier removes what they switch off.
#![no_std]
#![no_main]
// Inline assembly keeps the bounds checks that the verifier wants and LLVM does not, and makes the one atomic instruction
// that all kernels have.
#![feature(asm_experimental_arch)]

mod atomic;
mod drilldown;
mod globals;
mod hook;
mod log2;
mod mask;
mod numbers;
mod rows;
mod tasks;
mod trouble;
mod vcpu;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lends its GPL-only helpers (probe reads) only to compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
