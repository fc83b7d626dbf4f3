//! One vCPU and the loop around `KVM_RUN`.

use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kvm_bench::protocol::{Control, DONE_PORT, MAX_STEPS, status};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::error::Error;
use super::kick::Kick;
use super::plan::{Operation, RawStep, Resolve, Step};
use super::vm::Machine;

/// What the VMM saw itself: returns of `KVM_RUN` to user space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserExits {
    /// Port reads.
    pub io_in: u64,
    /// Port writes, without those that end a batch.
    pub io_out: u64,
    /// Reads of device memory.
    pub mmio_read: u64,
    /// Writes to device memory.
    pub mmio_write: u64,
    /// Ends of batches.
    pub batch_end: u64,
    /// Interruptions by a signal. They are no exits of the guest.
    pub interrupted: u64,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// What was to be done.
    pub operation: Operation,
    /// How often.
    pub count: u64,
    /// How often the guest did it. For HLT the count is of wake-ups: something else may have woken the vCPU too, or an
    /// interrupt may have come just before the HLT, which then was left out.
    pub executed: u64,
    /// What the last execution returned, see [`kvm_bench::protocol::Step::result`].
    pub result: u64,
}

/// A vCPU's part in a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuReport {
    /// Its id.
    pub vcpu: u32,
    /// Its steps.
    pub steps: Vec<StepReport>,
    /// What came to user space.
    pub user: UserExits,
    /// Interrupts that the guest took.
    pub interrupts: u64,
    /// Of those, how many the guest ended with a write to the EOI register.
    pub eoi_writes: u64,
    /// Whether its LAPIC is in x2APIC mode.
    pub x2apic: bool,
}

/// How long [`Vcpu::run`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the end of the batch.
    BatchEnd,
    /// To the next return to user space.
    UserExit,
}

/// Why [`Vcpu::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All steps are done.
    BatchEnd,
    /// An exit was answered; the batch goes on with the next `run`.
    UserExit,
    /// [`Kick::kick`] was called. The batch can go on after [`Kick::clear`].
    Kicked,
}

/// A vCPU. It can move between threads; whoever has it runs it.
pub struct Vcpu {
    id: u32,
    fd: VcpuFd,
    kick: Arc<Kick>,
    machine: Arc<Machine>,
    steps: Vec<Step>,
    next_fresh: u64,
    batches: u64,
    user: UserExits,
    /// State of the counters at the beginning of the batch.
    before: (UserExits, u64, u64),
}

impl fmt::Debug for Vcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vcpu").field("id", &self.id).field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl AsRawFd for Vcpu {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Vcpu {
    pub(super) fn new(id: u32, fd: VcpuFd, machine: Arc<Machine>) -> Result<Self, Error> {
        let kick = Arc::new(Kick::new(&fd)?);
        let next_fresh = machine.layout.fresh(id).start;
        Ok(Self {
            id,
            fd,
            kick,
            machine,
            steps: Vec::new(),
            next_fresh,
            batches: 0,
            user: UserExits::default(),
            before: Default::default(),
        })
    }

    /// Its id, unique in its virtual machine.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// For stopping it from another thread.
    #[must_use]
    pub fn kick(&self) -> Arc<Kick> {
        Arc::clone(&self.kick)
    }

    /// Everything that came to user space so far.
    #[must_use]
    pub fn user_exits(&self) -> UserExits {
        self.user
    }

    fn control(&self) -> Result<&Control, Error> {
        self.machine.control(self.id)
    }

    /// Writes the next batch into guest memory. Only at the start or at the end of a batch.
    pub fn load(&mut self, steps: &[Step]) -> Result<(), Error> {
        if steps.len() > MAX_STEPS {
            return Err(Error::Plan(format!("{} steps in one phase; at most {MAX_STEPS} fit", steps.len())));
        }
        let range = self.machine.layout.fresh(self.id);
        let needs_tsc = steps.iter().any(|step| matches!(step.operation, Operation::HaltTimer { .. }));
        let tsc_khz = if needs_tsc {
            self.fd.get_tsc_khz().map_err(Error::kvm("tell the frequency of the time stamp counter"))?
        } else {
            0
        };
        let mut with = Resolve {
            amd_processor: self.machine.amd_processor,
            tsc_khz,
            fresh: self.next_fresh.max(range.start),
        };
        let raw: Vec<RawStep> =
            steps.iter().map(|step| step.operation.resolve(step.count, &mut with)).collect();
        if with.fresh > range.end {
            return Err(Error::Plan(format!(
                "vCPU {} is to touch more fresh pages than the virtual machine was created with",
                self.id
            )));
        }
        self.next_fresh = with.fresh;
        self.steps = steps.to_vec();

        let control = self.control()?;
        for (step, slot) in raw.iter().zip(&control.steps) {
            slot.op.store(step.op as u32, Ordering::Relaxed);
            slot.status.store(status::PENDING, Ordering::Relaxed);
            slot.count.store(step.count, Ordering::Relaxed);
            slot.arg.store(step.arg, Ordering::Relaxed);
            slot.value.store(step.value, Ordering::Relaxed);
            slot.executed.store(0, Ordering::Relaxed);
            slot.result.store(0, Ordering::Relaxed);
        }
        control.stop.store(0, Ordering::Relaxed);
        control.waits.store(0, Ordering::Relaxed);
        control.len.store(raw.len() as u32, Ordering::Release);
        let counters =
            (control.interrupts.load(Ordering::Relaxed), control.eoi_writes.load(Ordering::Relaxed));
        self.before = (self.user, counters.0, counters.1);
        Ok(())
    }

    /// Runs the vCPU on the calling thread.
    pub fn run(&mut self, until: Until) -> Result<Stop, Error> {
        let kick = self.kick();
        let _running = kick.enter();
        loop {
            if kick.is_requested() {
                return Ok(Stop::Kicked);
            }
            let unusual = match self.fd.run() {
                Ok(VcpuExit::IoOut(DONE_PORT, _)) => {
                    self.user.batch_end += 1;
                    self.batches += 1;
                    return self.check_batch().map(|()| Stop::BatchEnd);
                }
                Ok(VcpuExit::IoOut(..)) => {
                    self.user.io_out += 1;
                    None
                }
                Ok(VcpuExit::IoIn(_, data)) => {
                    self.user.io_in += 1;
                    data.fill(0x5a);
                    None
                }
                Ok(VcpuExit::MmioRead(_, data)) => {
                    self.user.mmio_read += 1;
                    data.fill(0x5a);
                    None
                }
                Ok(VcpuExit::MmioWrite(..)) => {
                    self.user.mmio_write += 1;
                    None
                }
                Ok(VcpuExit::Intr) => {
                    self.user.interrupted += 1;
                    continue;
                }
                Ok(VcpuExit::Shutdown) => Some("a triple fault".to_owned()),
                Ok(VcpuExit::InternalError) => Some("an internal error of KVM".to_owned()),
                Ok(exit) => Some(format!("{exit:?}")),
                Err(error) if error.errno() == libc::EINTR => {
                    self.user.interrupted += 1;
                    continue;
                }
                Err(error) => return Err(Error::kvm("run a vCPU")(error)),
            };
            if let Some(exit) = unusual {
                let rip = self.fd.get_regs().map_or(0, |regs| regs.rip);
                return Err(Error::Exit { vcpu: self.id, exit, rip });
            }
            if until == Until::UserExit {
                return Ok(Stop::UserExit);
            }
        }
    }

    /// The guest said that its batch is done: is it?
    fn check_batch(&self) -> Result<(), Error> {
        let control = self.control()?;
        let counted = control.batches.load(Ordering::Acquire);
        let failed = self.steps.iter().zip(&control.steps).find(|(step, slot)| {
            let exact = !step.operation.spins() && !step.operation.halts();
            let short = exact && slot.executed.load(Ordering::Relaxed) < step.count;
            slot.status.load(Ordering::Acquire) != status::DONE || short
        });
        if counted == self.batches && failed.is_none() {
            return Ok(());
        }
        let what = failed.map_or("its start".to_owned(), |(step, _)| step.operation.to_string());
        let vector = control.fault_vector.load(Ordering::Relaxed);
        if vector == 0 {
            let done = failed.map_or(0, |(_, slot)| slot.executed.load(Ordering::Relaxed));
            let count = failed.map_or(0, |(step, _)| step.count);
            return Err(Error::Incomplete { vcpu: self.id, what, done, count });
        }
        Err(Error::GuestFault {
            vcpu: self.id,
            what,
            vector: vector - 1,
            error: control.fault_error.load(Ordering::Relaxed),
            rip: control.fault_rip.load(Ordering::Relaxed),
            address: control.fault_address.load(Ordering::Relaxed),
        })
    }

    /// What the vCPU has done in the batch that ended last.
    pub fn report(&self) -> Result<VcpuReport, Error> {
        let control = self.control()?;
        let (user, interrupts, eoi_writes) = self.before;
        let steps = self.steps.iter().zip(&control.steps).map(|(step, slot)| StepReport {
            operation: step.operation,
            count: step.count,
            executed: slot.executed.load(Ordering::Relaxed),
            result: slot.result.load(Ordering::Relaxed),
        });
        Ok(VcpuReport {
            vcpu: self.id,
            steps: steps.collect(),
            user: UserExits {
                io_in: self.user.io_in - user.io_in,
                io_out: self.user.io_out - user.io_out,
                mmio_read: self.user.mmio_read - user.mmio_read,
                mmio_write: self.user.mmio_write - user.mmio_write,
                batch_end: self.user.batch_end - user.batch_end,
                interrupted: self.user.interrupted - user.interrupted,
            },
            interrupts: control.interrupts.load(Ordering::Relaxed) - interrupts,
            eoi_writes: control.eoi_writes.load(Ordering::Relaxed) - eoi_writes,
            x2apic: control.x2apic.load(Ordering::Relaxed) != 0,
        })
    }
}
