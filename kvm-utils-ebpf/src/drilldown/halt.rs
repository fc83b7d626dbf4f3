//! halt: how vCPUs halt, and how long KVM polls before it blocks their threads.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use kvm_utils_common::{
    config::{NONE, mode::BY_THREAD},
    halt::{DETAIL_VALID, DETAIL_WAITED, KIND_HALT, KIND_RESIZE},
    numbers::{
        STATE_GAUGE, VcpuNumbers,
        halt::{
            BLOCKED, BLOCKED_NS, FAIL_NS, POLLS, POLLS_SUCCESSFUL, STATE_ATTEMPTED, STATE_BEFORE,
            STATE_FAIL_NS, STATE_KNOWN, STATE_SUCCESS_NS, STATE_SUCCESSFUL, SUCCESS_NS, UNKNOWN,
        },
    },
    rows::{RowKey, RowNoun},
};

use crate::{globals, hook::event::Fields, numbers, rows, vcpu};

/// The tracepoint kvm_vcpu_wakeup: (ns, waited, valid).
#[inline(always)]
pub fn ended([ns, waited, valid, _]: Fields) {
    let mut current = vcpu::current();
    let waited = waited != 0;
    let detail = if waited { DETAIL_WAITED } else { 0 } | if valid != 0 { DETAIL_VALID } else { 0 };
    rows::count(&mut current, RowKey::new(RowNoun::Halt, KIND_HALT, detail, 0), ns);
    let Some(record) = &current.record else { return };
    let Some(numbers) = numbers::of(record.slot) else { return };
    let polled = polled(numbers, record.key, ns, waited);
    if waited {
        let blocked = ns.saturating_sub(polled);
        numbers.counters[BLOCKED_NS] += blocked;
        numbers::bin(numbers, BLOCKED, blocked);
    }
}

/// Counts what KVM polled in a halt that ends, and says how long that was, ns.
#[inline(always)]
fn polled(numbers: &mut VcpuNumbers, vcpu: u64, ns: u64, waited: bool) -> u64 {
    let changed = numbers.state[STATE_BEFORE];
    numbers.state[STATE_BEFORE] = 0;
    let known = numbers.state[STATE_KNOWN] != 0;
    if globals::MODE.load() & BY_THREAD == 0 {
        if globals::VCPU_POLL_WINDOW.load() != NONE {
            let window = u64::from(read_u32(vcpu, globals::VCPU_POLL_WINDOW.load()));
            numbers.state[STATE_GAUGE] = window + 1;
        }
        if globals::VCPU_POLL_ATTEMPTED.load() != NONE {
            let sums = [
                read(vcpu, globals::VCPU_POLL_ATTEMPTED.load()),
                read(vcpu, globals::VCPU_POLL_SUCCESSFUL.load()),
                read(vcpu, globals::VCPU_POLL_SUCCESS.load()),
                read(vcpu, globals::VCPU_POLL_FAIL.load()),
            ];
            let before = [
                numbers.state[STATE_ATTEMPTED],
                numbers.state[STATE_SUCCESSFUL],
                numbers.state[STATE_SUCCESS_NS],
                numbers.state[STATE_FAIL_NS],
            ];
            numbers.state[STATE_KNOWN] = 1;
            numbers.state[STATE_ATTEMPTED] = sums[0];
            numbers.state[STATE_SUCCESSFUL] = sums[1];
            numbers.state[STATE_SUCCESS_NS] = sums[2];
            numbers.state[STATE_FAIL_NS] = sums[3];
            // The first halt's part is not known from sums.
            if known {
                let (success, fail) = (sums[2].wrapping_sub(before[2]), sums[3].wrapping_sub(before[3]));
                numbers.counters[POLLS] += sums[0].wrapping_sub(before[0]);
                numbers.counters[POLLS_SUCCESSFUL] += sums[1].wrapping_sub(before[1]);
                numbers.counters[SUCCESS_NS] += success;
                numbers.counters[FAIL_NS] += fail;
                return success + fail;
            }
        }
    }
    // KVM polls until the time that it has set is over, unless the halt is over before.
    let window = if changed != 0 { changed } else { numbers.state[STATE_GAUGE] };
    if window == 0 {
        numbers.counters[UNKNOWN] += 1;
        return 0;
    }
    if window == 1 {
        return 0;
    }
    numbers.counters[POLLS] += 1;
    if waited {
        numbers.counters[FAIL_NS] += window - 1;
        window - 1
    } else {
        numbers.counters[POLLS_SUCCESSFUL] += 1;
        numbers.counters[SUCCESS_NS] += ns;
        ns
    }
}

/// The tracepoint kvm_halt_poll_ns: (grow, new, old).
#[inline(always)]
pub fn resized([grow, new, old, _]: Fields) {
    let mut current = vcpu::current();
    rows::count(&mut current, RowKey::new(RowNoun::Halt, KIND_RESIZE, u64::from(grow != 0), 0), 0);
    let Some(record) = &current.record else { return };
    let Some(numbers) = numbers::of(record.slot) else { return };
    numbers.state[STATE_BEFORE] = old + 1;
    numbers.state[STATE_GAUGE] = new + 1;
}

#[inline(always)]
fn read(vcpu: u64, at: u32) -> u64 {
    // SAFETY: probe reads check the address themselves.
    unsafe { bpf_probe_read_kernel((vcpu + u64::from(at)) as *const u64) }.unwrap_or(0)
}

#[inline(always)]
fn read_u32(vcpu: u64, at: u32) -> u32 {
    // SAFETY: as above.
    unsafe { bpf_probe_read_kernel((vcpu + u64::from(at)) as *const u32) }.unwrap_or(0)
}
