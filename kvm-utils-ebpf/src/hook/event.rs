//! What hooks have in common whose tracepoints say nothing of the vCPU: up to four integers, by position among the raw
//! tracepoint's arguments or by descriptor in the classic one's record.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use kvm_utils_common::{
    config::Trouble,
    event::{FIELDS, RECORD_BYTES, field},
};

use crate::trouble;

/// The fields of an event, in the order in which the hook names them; 0 where this kernel has no such field.
pub type Fields = [u64; FIELDS];

/// Fields of a classic record, or `None` if it cannot be read.
#[inline(always)]
pub fn classic(ctx: *mut c_void, descriptors: u64) -> Option<Fields> {
    // SAFETY: probe reads check the address themselves; records are padded to this size in perf's buffer.
    let Ok(record) = (unsafe { bpf_probe_read_kernel(ctx.cast::<[u32; RECORD_BYTES / 4]>()) }) else {
        trouble::count(Trouble::UnreadableReason);
        return None;
    };
    let mut fields = [0; FIELDS];
    for (i, value) in fields.iter_mut().enumerate() {
        *value = field(&record, descriptors, i);
    }
    Some(fields)
}

/// Two programs for a tracepoint of KVM: raw, with the positions of the fields among its arguments, and classic. Both hand
/// over to the function named.
macro_rules! event {
    ($raw:ident, $classic:ident, $name:literal, $fields:ident, [$($argument:tt as $ty:ty),*] => $record:path) => {
        #[aya_ebpf::macros::raw_tracepoint(tracepoint = $name)]
        fn $raw(ctx: aya_ebpf::programs::RawTracePointContext) -> i32 {
            let mut fields: $crate::hook::event::Fields = [0; kvm_utils_common::event::FIELDS];
            let mut at = 0;
            $(
                // Arguments are passed as 64 bits, the upper ones of narrower types being undefined.
                fields[at] = ctx.arg::<u64>($argument) as $ty as u64;
                at += 1;
            )*
            let _ = at;
            $record(fields);
            0
        }

        #[unsafe(no_mangle)]
        #[unsafe(link_section = concat!("tracepoint/kvm/", $name))]
        fn $classic(ctx: *mut core::ffi::c_void) -> u32 {
            if let Some(fields) = $crate::hook::event::classic(ctx, $crate::globals::$fields.load()) {
                $record(fields);
            }
            $crate::hook::PASS_ON
        }
    };
}
pub(crate) use event;
