//! kvm_pio: the guest accesses a port (arch/x86/kvm/trace.h).
//!
//! `TP_PROTO(unsigned int rw, unsigned int port, unsigned int size, unsigned int count, const void *data)`. Fired once for
//! each access, or for each batch of a string instruction: writes before a device sees them, reads once they are answered,
//! by the kernel or by the VMM.

use super::event::event;
use crate::drilldown::io;

event!(kvm_pio_raw, kvm_pio_tp, "kvm_pio", PIO_FIELDS, [0 as u32, 1 as u32, 2 as u32, 3 as u32] => io::port);
