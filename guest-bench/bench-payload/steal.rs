//! Time in which the hypervisor let something else run, as KVM tells it: to the nanosecond, in the guest's own memory.

use core::cell::UnsafeCell;
use core::ptr;

use crate::cpu::{self, Features};

/// `MSR_KVM_STEAL_TIME` and its enable bit, `KVM_FEATURE_STEAL_TIME`: arch/x86/include/uapi/asm/kvm_para.h.
const MSR: u32 = 0x4b56_4d03;
const ENABLE: u64 = 1;
const FEATURE: u32 = 1 << 5;

/// `struct kvm_steal_time`, aligned as the MSR wants it. KVM writes it.
#[repr(C, align(64))]
struct Area(UnsafeCell<[u64; 8]>);

// SAFETY: only read here, volatile.
unsafe impl Sync for Area {}

static AREA: Area = Area(UnsafeCell::new([0; 8]));

/// The counter of stolen time of the first vCPU.
#[derive(Clone, Copy)]
pub struct Steal {
    told: bool,
}

impl Steal {
    /// Asks KVM for it.
    pub fn open(features: &Features) -> Self {
        let address = AREA.0.get().addr() as u64;
        let told = features.kvm & FEATURE != 0 && cpu::guarded(|| cpu::wrmsr(MSR, address | ENABLE)).is_ok();
        Self { told }
    }

    pub fn is_told(self) -> bool {
        self.told
    }

    /// Nanoseconds up to now; 0 when nobody tells.
    #[inline(always)]
    pub fn now(self) -> u64 {
        // SAFETY: valid for reads; KVM writes it between two instructions of this vCPU.
        unsafe { ptr::read_volatile(AREA.0.get().cast::<u64>()) }
    }
}
