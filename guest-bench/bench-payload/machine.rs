//! Everything that is known of the machine: the first line of the output.

use crate::apic::Apic;
use crate::boot::Boot;
use crate::clock::Clock;
use crate::cpu::{self, Features};
use crate::options::Notify;
use crate::serial::Serial;
use crate::steal::Steal;

/// The machine.
pub struct Machine {
    pub boot: Boot,
    pub features: Features,
    pub clock: Clock,
    pub apic: Apic,
    /// The timer was seen to fire.
    pub timer_fires: bool,
    /// vCPUs that take part.
    pub cpus: usize,
    /// Port of the ACPI PM timer.
    pub pm_timer: Option<u16>,
    pub steal: Steal,
    pub notify: Notify,
}

impl Machine {
    /// `environment` and `tsc` of the first line.
    pub fn write(&self, serial: &mut Serial) {
        let Self { boot, features, clock, apic, .. } = self;
        serial.raw("{\"kvm_bench\":\"payload/v1\",\"environment\":{\"boot\":");
        serial.string(if boot.pvh { b"pvh" } else { b"multiboot" });
        serial.raw(",\"vendor\":");
        name(serial, features.vendor_name);
        serial.raw(",\"cpu\":");
        cpu::with_brand(|brand| serial.string(brand));
        serial.raw(",\"microcode\":");
        match cpu::microcode() {
            Some(revision) => serial.hex(revision),
            None => serial.raw("null"),
        }
        serial.raw(",\"signature\":");
        serial.hex(features.signature.into());
        serial.raw(",\"hypervisor\":");
        match features.hypervisor {
            Some(signature) => name(serial, signature),
            None => serial.raw("null"),
        }
        serial.raw(",\"kvm_features\":");
        serial.hex(features.kvm.into());
        serial.raw(",\"kvm_hints\":");
        serial.hex(features.kvm_hints.into());
        serial.raw(",\"cpus\":");
        serial.number(self.cpus as u64);
        serial.raw(",\"apic\":");
        serial.string(apic.mode.name().as_bytes());
        serial.raw(",\"apic_timer\":");
        serial.string(if self.timer_fires { apic.timer.name() } else { "none" }.as_bytes());
        serial.raw(",\"steal_time\":");
        serial.raw(if self.steal.is_told() { "true" } else { "false" });
        serial.raw(",\"pm_timer\":");
        match self.pm_timer {
            Some(port) => serial.hex(port.into()),
            None => serial.raw("null"),
        }
        serial.raw(",\"options\":");
        serial.string(boot.command_line);
        serial.raw("},\"tsc\":{\"hz\":");
        match clock.hz() {
            Some(hz) => serial.number(hz),
            None => serial.raw("null"),
        }
        serial.raw(",\"source\":");
        match clock.source {
            Some(source) => serial.string(source.as_bytes()),
            None => serial.raw("null"),
        }
        serial.raw(",\"error_ppm\":");
        serial.number(clock.error_ppm);
        serial.raw(",\"invariant\":");
        serial.raw(if features.invariant_tsc { "true" } else { "false" });
        serial.raw("}}\n");
    }
}

/// Twelve characters from three registers.
fn name(serial: &mut Serial, registers: [u32; 3]) {
    let mut text = [b' '; 12];
    let mut len = 0;
    for register in registers {
        for byte in register.to_le_bytes() {
            if byte != 0 {
                text[len] = byte;
                len += 1;
            }
        }
    }
    serial.string(&text[..len]);
}

/// Whether the timer fires, which nothing may wait for that has not been seen to happen.
pub fn timer_fires(apic: Apic, clock: &Clock) -> bool {
    use core::sync::atomic::Ordering::Acquire;
    if apic.timer == crate::apic::Timer::None {
        return false;
    }
    let before = cpu::CPUS[0].ended.load(Acquire);
    if cpu::guarded(|| apic.fire_now()).is_err() {
        return false;
    }
    cpu::interrupts(true);
    let fired = cpu::wait(clock.ms(500), || cpu::CPUS[0].ended.load(Acquire) != before);
    cpu::interrupts(false);
    apic.disarm();
    fired
}
