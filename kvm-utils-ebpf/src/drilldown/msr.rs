//! msr: accesses to model-specific registers by index; what an IPI's command says; how far ahead timers are armed.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use kvm_utils_common::{
    config::{
        NONE,
        mode::{IPIS_ONLY, WRITES_ONLY},
    },
    msr::{
        DETAIL_FAULT, DETAIL_HOST, DETAIL_WRITE, IA32_TSC_DEADLINE, ICR_BUSY, KIND_ACCESS, KIND_ICR,
        X2APIC_ICR, is_unscaled,
    },
    numbers::deadline::{
        AHEAD, ARMED, CANCELLED, PAST, REARMED, STATE_ARMED, STATE_OFFSET, STATE_OFFSET_KNOWN, UNKNOWN,
    },
    rows::{RowKey, RowNoun},
    vcpu::VcpuRecord,
};

use crate::{globals, hook::event::Fields, numbers, rows, vcpu};

/// The tracepoint kvm_msr: (write, ecx, data, exception).
#[inline(always)]
pub fn record([write, index, data, exception]: Fields) {
    let mode = globals::MODE.load();
    if mode & IPIS_ONLY != 0 {
        if write != 0 && exception == 0 && index == X2APIC_ICR {
            record_ipi(data);
        }
        return;
    }
    if write == 0 && mode & WRITES_ONLY != 0 {
        return;
    }
    let mut current = vcpu::current();
    let detail = if write != 0 { DETAIL_WRITE } else { 0 } | if exception != 0 { DETAIL_FAULT } else { 0 };
    rows::count(&mut current, RowKey::new(RowNoun::Msr, KIND_ACCESS, detail, index), 0);
    if write == 0 || exception != 0 {
        return;
    }
    if index == IA32_TSC_DEADLINE
        && let Some(record) = &current.record
    {
        arm(record, data);
    }
}

/// The guest writes a command to its x2APIC.
#[inline(always)]
fn record_ipi(command: u64) {
    let mut current = vcpu::current();
    let sender = match &current.record {
        Some(record) => u64::from(record.vcpu_id.wrapping_add(1)),
        None => 0,
    };
    rows::count(&mut current, RowKey::new(RowNoun::Msr, KIND_ICR, sender, command & !ICR_BUSY), 0);
}

/// A function that writes registers of the `struct kvm_vcpu` at `vcpu` was called, for the guest or for the VMM.
#[inline(always)]
pub fn record_set(vcpu: u64, kind: u8, index: u64, host: bool) {
    let mut current = vcpu::of(vcpu);
    let detail = DETAIL_WRITE | if host { DETAIL_HOST } else { 0 };
    rows::count(&mut current, RowKey::new(RowNoun::Msr, kind, detail, index), 0);
}

/// The guest writes its deadline.
#[inline(always)]
fn arm(record: &VcpuRecord, deadline: u64) {
    let Some(numbers) = numbers::of(record.slot) else { return };
    let armed = numbers.state[STATE_ARMED];
    numbers.state[STATE_ARMED] = deadline;
    if deadline != 0 {
        numbers.counters[ARMED] += 1;
    } else if armed == 0 {
        // Nothing was armed: nothing to tell.
        return;
    }
    let offset = match tsc_offset(record.key) {
        None if numbers.state[STATE_OFFSET_KNOWN] != 0 => Some(numbers.state[STATE_OFFSET]),
        offset => offset,
    };
    // SAFETY: a helper without preconditions.
    let now = numbers::tsc(unsafe { bpf_ktime_get_ns() });
    let (Some(offset), Some((tsc, clock))) = (offset, now) else {
        numbers.counters[UNKNOWN] += u64::from(deadline != 0);
        return;
    };
    let guest = tsc.wrapping_add(offset);
    let pending = armed > guest;
    if deadline == 0 {
        numbers.counters[CANCELLED] += u64::from(pending);
        return;
    }
    numbers.counters[REARMED] += u64::from(pending);
    if deadline > guest {
        numbers::bin(numbers, AHEAD, numbers::cycles_to_ns(clock, deadline - guest));
    } else {
        numbers.counters[PAST] += 1;
    }
}

/// What a vCPU known by its address adds to the host's TSC; `None` where that cannot be read, and for a scaled TSC.
#[inline(always)]
fn tsc_offset(vcpu: u64) -> Option<u64> {
    let (offset, ratio) = (globals::VCPU_TSC_OFFSET.load(), globals::VCPU_TSC_RATIO.load());
    if offset == NONE {
        return None;
    }
    // SAFETY: probe reads check the address themselves.
    unsafe {
        if ratio != NONE {
            let ratio = bpf_probe_read_kernel((vcpu + u64::from(ratio)) as *const u64).ok()?;
            if !is_unscaled(ratio) {
                return None;
            }
        }
        bpf_probe_read_kernel((vcpu + u64::from(offset)) as *const u64).ok()
    }
}
