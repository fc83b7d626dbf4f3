//! Operations that are interrupts: each sample waits until its interrupt has been handled, so that the event happens inside of it.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::cpu::{self, CPUS};
use crate::idt;
use crate::machine::Machine;
use crate::ops::Action;
use crate::smp;

/// Why a sample could not be taken.
pub type Lost = &'static str;

const NOT_HANDLED: Lost = "an interrupt was not handled within 2 seconds";
const NO_ANSWER: Lost = "a vCPU did not do what it was told within 2 seconds";

impl Action {
    /// Whether other vCPUs take part, and what they do meanwhile.
    fn others(self) -> Option<u32> {
        match self {
            Self::Send { spinning: true, .. } | Self::Broadcast => Some(smp::SPIN),
            Self::Send { .. } | Self::Halted { .. } => Some(smp::HALT),
            _ => None,
        }
    }

    /// How many other vCPUs get each interrupt: the second, the third, ...
    pub fn targets(self, machine: &Machine) -> usize {
        match self {
            Self::Broadcast => machine.cpus - 1,
            Self::Send { .. } | Self::Halted { .. } => 1,
            _ => 0,
        }
    }

    /// Before a round.
    pub fn begin(self, machine: &Machine) -> Result<(), Lost> {
        if let Some(doing) = self.others() {
            for index in 1..=self.targets(machine) {
                if !smp::set(machine.apic, &machine.clock, index, doing) {
                    return Err(NO_ANSWER);
                }
            }
        }
        Ok(())
    }

    /// After a round: everybody rests.
    pub fn rest(self, machine: &Machine) -> Result<(), Lost> {
        for index in 1..=self.targets(machine) {
            if !smp::set(machine.apic, &machine.clock, index, smp::HALT) {
                return Err(NO_ANSWER);
            }
        }
        Ok(())
    }

    /// Whether samples are of interrupts.
    pub fn is_event(self) -> bool {
        matches!(
            self,
            Self::Fire { .. }
                | Self::SelfInterrupt
                | Self::Send { .. }
                | Self::Halted { .. }
                | Self::Broadcast
                | Self::Eoi
                | Self::Halt
        )
    }

    /// Whether the vCPU that gets the interrupt shall be in HLT.
    pub fn is_halted(self) -> bool {
        matches!(self, Self::Halted { .. } | Self::Halt)
    }

    /// Whether a sample is a difference to something other than the bracket's beginning, or has no bracket.
    pub fn is_unbracketed(self) -> bool {
        matches!(self, Self::Null | Self::Fire { .. } | Self::Jitter { .. })
    }

    /// Whether samples are all of the round but for notes of them, so that this vCPU leaves the guest within samples only. Others
    /// arm a timer before, send to themselves what they end within the sample, or wait outside of it, where the host's own
    /// interrupts come as well.
    pub fn is_enclosed(self) -> bool {
        let waits = matches!(self, Self::Send { answer: false, .. } | Self::Halted { .. });
        !waits && !matches!(self, Self::Fire { .. } | Self::Eoi | Self::Halt)
    }

    /// Interrupts up to now of those who get them: handled, and of these while halted.
    pub fn counted(self, machine: &Machine) -> (u64, u64) {
        let sum = |range: core::ops::RangeInclusive<usize>| {
            let (mut handled, mut halted) = (0, 0);
            for index in range {
                handled += CPUS[index].handled.load(Acquire);
                halted += CPUS[index].halted.load(Acquire);
            }
            (handled, halted)
        };
        match self.targets(machine) {
            0 => sum(0..=0),
            targets => sum(1..=targets),
        }
    }

    /// How many interrupts a sample sends, one per vCPU that gets it.
    pub fn sent_each(self, machine: &Machine) -> u64 {
        self.targets(machine).max(1) as u64
    }

    /// Done so often in one loop, without a bracket around each: cycles in all. None for what cannot be done so.
    pub fn reference(&mut self, machine: &Machine, times: u32) -> Option<u64> {
        if let Self::SelfInterrupt = *self {
            let this = &CPUS[0];
            return Some(cpu::time(|| {
                for _ in 0..times {
                    let before = this.ended.load(Acquire);
                    machine.apic.send_self(idt::MESSAGE);
                    cpu::interrupts(true);
                    while this.ended.load(Acquire) == before {
                        core::hint::spin_loop();
                    }
                    cpu::interrupts(false);
                }
            }));
        }
        let cycles = self.plain(machine, times);
        self.end(machine);
        cycles
    }

    /// One sample.
    pub fn event(self, machine: &Machine) -> Result<u64, Lost> {
        let limit = machine.clock.ms(2000);
        let apic = machine.apic;
        let this = &CPUS[0];
        // Waits with interrupts on until this vCPU has handled one more.
        let one_more = |counter: &AtomicU64, before: u64| {
            cpu::interrupts(true);
            let came = cpu::wait(limit, || counter.load(Acquire) != before);
            cpu::interrupts(false);
            came
        };
        match self {
            Self::SelfInterrupt => {
                let before = this.ended.load(Acquire);
                let mut came = false;
                let cycles = cpu::time(|| {
                    apic.send_self(idt::MESSAGE);
                    came = one_more(&this.ended, before);
                });
                if came { Ok(cycles) } else { Err(NOT_HANDLED) }
            }
            Self::Eoi => {
                let before = this.ended.load(Acquire);
                apic.send_self(idt::TIMED);
                if !one_more(&this.ended, before) {
                    return Err(NOT_HANDLED);
                }
                Ok(this.eoi_cycles.load(Relaxed))
            }
            Self::Halt => {
                let before = this.ended.load(Acquire);
                apic.fire_now();
                let cycles = cpu::time(cpu::halt);
                // It may have been woken by something else.
                if this.ended.load(Acquire) == before && !one_more(&this.ended, before) {
                    return Err(NOT_HANDLED);
                }
                Ok(cycles)
            }
            Self::Fire { ahead } => {
                let before = this.ended.load(Acquire);
                let deadline = cpu::rdtsc() + ahead;
                apic.arm(deadline);
                if !one_more(&this.ended, before) {
                    return Err(NOT_HANDLED);
                }
                // Before its time: the counter would seem to have gone back, and the report says so.
                Ok(this.stamp.load(Relaxed).wrapping_sub(deadline))
            }
            Self::Send { answer, .. } => {
                let other = &CPUS[1];
                let target = other.apic_id.load(Relaxed);
                let before = other.handled.load(Acquire);
                let mut came = true;
                let cycles = cpu::time(|| {
                    apic.send(target, idt::MESSAGE);
                    if answer {
                        came = cpu::wait(limit, || other.handled.load(Acquire) != before);
                    }
                });
                let came = came && cpu::wait(limit, || other.handled.load(Acquire) != before);
                if came && smp::settle(&machine.clock, 1) { Ok(cycles) } else { Err(NOT_HANDLED) }
            }
            Self::Halted { pause } => {
                let other = &CPUS[1];
                let target = other.apic_id.load(Relaxed);
                let before = other.handled.load(Acquire);
                // It has ended the last one; this is the time to get into HLT, and for the host to see it.
                cpu::wait(pause, || false);
                let mut came = false;
                let cycles = cpu::time(|| {
                    apic.send(target, idt::MESSAGE);
                    came = cpu::wait(limit, || other.handled.load(Acquire) != before);
                });
                if came && smp::settle(&machine.clock, 1) { Ok(cycles) } else { Err(NOT_HANDLED) }
            }
            Self::Broadcast => {
                let handled = || {
                    let mut sum = 0;
                    for other in &CPUS[1..machine.cpus] {
                        sum += other.handled.load(Acquire);
                    }
                    sum
                };
                let all = handled() + machine.cpus as u64 - 1;
                let mut came = false;
                let cycles = cpu::time(|| {
                    apic.send_others(idt::MESSAGE);
                    came = cpu::wait(limit, || handled() >= all);
                });
                for index in 1..machine.cpus {
                    came &= smp::settle(&machine.clock, index);
                }
                if came { Ok(cycles) } else { Err(NOT_HANDLED) }
            }
            _ => Err("the payload has no code for it"),
        }
    }
}
