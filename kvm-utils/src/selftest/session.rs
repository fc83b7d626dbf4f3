//! A plan being run: threads for the vCPUs, phases one after the other, and a guard against hanging.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvm_bench::protocol::MAX_STEPS;
use rustix::thread::{CpuSet, Pid};

use super::error::Error;
use super::kick::Kick;
use super::plan::{Operation, Phase, Plan, Step};
use super::vcpu::{Stop, Until, Vcpu, VcpuReport};
use super::vm::{Config, Machine, Vm};

/// Which threads run the vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Each vCPU has its own thread, as in QEMU.
    #[default]
    OwnThread,
    /// One thread runs all vCPUs, taking the next one whenever one returns to user space. So nothing may wait for
    /// another vCPU without returning.
    OneThread,
    /// As many threads as vCPUs, at least two; a vCPU goes to the next thread with every phase.
    EachPhase,
    /// The same, with every return to user space, as gVisor does it.
    EachUserExit,
}

/// What a phase did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// Every vCPU's part, in the order of ids.
    pub vcpus: Vec<VcpuReport>,
}

/// How a session is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which threads run the vCPUs.
    pub placement: Placement,
    /// A phase that takes longer is ended with [`Error::Timeout`].
    pub limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { placement: Placement::default(), limit: Duration::from_secs(60) }
    }
}

/// vCPUs on their way to a thread.
struct Job {
    vcpus: Vec<Vcpu>,
    until: Until,
}

/// And back.
struct Reply {
    vcpu: Vcpu,
    stop: Result<Stop, Error>,
}

/// A thread that runs the vCPUs it is given.
struct Worker {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: Pid,
}

impl Worker {
    fn start(name: String, replies: Sender<Reply>) -> Result<Self, Error> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (tid_out, tid_in) = mpsc::channel();
        let body = move || {
            // The receiver waits below; if it is gone, so is the session.
            let _ = tid_out.send(rustix::thread::gettid());
            work(&inbox, &replies);
        };
        let thread = thread::Builder::new().name(name).spawn(body).map_err(|source| Error::Host {
            what: "start a vCPU thread",
            source,
            remedy: "raise the limit of threads (ulimit -u, cgroup pids.max)",
        })?;
        let tid = tid_in.recv().map_err(|_| Error::Worker)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), tid })
    }

    fn give(&self, job: Job) -> Result<(), Error> {
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or(Error::Worker)
    }
}

/// Body of a thread. It blocks outside `KVM_RUN` between jobs, so a waiting vCPU makes no exits.
fn work(inbox: &Receiver<Job>, replies: &Sender<Reply>) {
    while let Ok(job) = inbox.recv() {
        let alone = job.vcpus.len() == 1;
        let until = if alone { job.until } else { Until::UserExit };
        let mut queue = VecDeque::from(job.vcpus);
        while let Some(mut vcpu) = queue.pop_front() {
            let stop = vcpu.run(until);
            if !alone && matches!(stop, Ok(Stop::UserExit)) {
                queue.push_back(vcpu);
            } else if replies.send(Reply { vcpu, stop }).is_err() {
                return;
            }
        }
    }
}

/// A virtual machine that runs a plan, phase by phase. Dropping it stops the vCPUs wherever they are. After an error
/// it can only be dropped.
pub struct Session {
    machine: Arc<Machine>,
    phases: VecDeque<Phase>,
    running: Option<Phase>,
    started: usize,
    options: Options,
    workers: Vec<Worker>,
    replies: Receiver<Reply>,
    kicks: Vec<Arc<Kick>>,
    idle: Vec<Option<Vcpu>>,
    /// Worker that has each vCPU, or had it last.
    owner: Vec<usize>,
}

impl Session {
    /// Starts the guest and warms it up: each operation of the plan is executed a few times, so that code, tables and
    /// device pages are mapped and later phases make no exits but their own. Returns with the vCPUs outside `KVM_RUN`.
    pub fn start(vm: Vm, plan: &Plan, options: Options) -> Result<Self, Error> {
        let (machine, vcpus) = vm.into_parts();
        let count = match options.placement {
            Placement::OneThread => 1,
            Placement::OwnThread => vcpus.len(),
            Placement::EachPhase | Placement::EachUserExit => vcpus.len().max(2),
        };
        let (reply, replies) = mpsc::channel();
        let workers = (0..count)
            .map(|index| Worker::start(format!("vcpu-{index}"), reply.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut session = Self {
            machine,
            phases: plan.phases.iter().cloned().collect(),
            running: None,
            started: 0,
            options,
            workers,
            replies,
            kicks: vcpus.iter().map(Vcpu::kick).collect(),
            owner: (0..vcpus.len()).map(|vcpu| vcpu % count).collect(),
            idle: vcpus.into_iter().map(Some).collect(),
        };
        session.warm_up(plan)?;
        Ok(session)
    }

    fn warm_up(&mut self, plan: &Plan) -> Result<(), Error> {
        /// The first access to a device page is another kind of exit than the following ones.
        const TIMES: u64 = 3;
        let mut operations: Vec<Operation> = Vec::new();
        for vcpu in 0..self.kicks.len() as u32 {
            for step in plan.phases.iter().flat_map(|phase| phase.work.of(vcpu)) {
                let operation = step.operation;
                let endless = operation.spins() || operation.waits_for_others();
                if operation != Operation::TouchFresh && !endless && !operations.contains(&operation) {
                    operations.push(operation);
                }
            }
        }
        let steps: Vec<Step> = operations.into_iter().map(|operation| Step::new(operation, TIMES)).collect();
        let mut batches: Vec<&[Step]> = steps.chunks(MAX_STEPS).collect();
        if batches.is_empty() {
            batches.push(&[]);
        }
        for batch in batches {
            self.launch(|_| batch)?;
            self.collect("its warm-up")?;
        }
        Ok(())
    }

    /// Phases that have not begun.
    #[must_use]
    pub fn phases_left(&self) -> usize {
        self.phases.len()
    }

    /// Begins the next phase and returns its name at once; `None` at the end of the plan.
    pub fn begin_phase(&mut self) -> Result<Option<&str>, Error> {
        if self.running.is_some() {
            return Err(Error::Plan("a phase is running already".to_owned()));
        }
        let Some(phase) = self.phases.pop_front() else { return Ok(None) };
        self.started += 1;
        self.launch(|vcpu| phase.work.of(vcpu))?;
        Ok(Some(&self.running.insert(phase).name))
    }

    /// Waits for the end of the phase that was begun.
    pub fn finish_phase(&mut self) -> Result<PhaseReport, Error> {
        let Some(phase) = self.running.take() else {
            return Err(Error::Plan("no phase is running".to_owned()));
        };
        let vcpus = self.collect(&phase.name)?;
        Ok(PhaseReport { name: phase.name, vcpus })
    }

    /// Runs the next phase; `None` at the end of the plan.
    pub fn run_phase(&mut self) -> Result<Option<PhaseReport>, Error> {
        match self.begin_phase()? {
            Some(_) => self.finish_phase().map(Some),
            None => Ok(None),
        }
    }

    /// Worker for a vCPU in the phase that begins.
    fn place(&self, vcpu: usize) -> usize {
        match self.options.placement {
            Placement::OneThread => 0,
            Placement::OwnThread | Placement::EachUserExit => vcpu % self.workers.len(),
            Placement::EachPhase => (vcpu + self.started) % self.workers.len(),
        }
    }

    fn launch<'a>(&mut self, steps: impl Fn(u32) -> &'a [Step]) -> Result<(), Error> {
        for vcpu in self.idle.iter_mut().flatten() {
            vcpu.load(steps(vcpu.id()))?;
        }
        let until = match self.options.placement {
            Placement::EachUserExit => Until::UserExit,
            _ => Until::BatchEnd,
        };
        let mut jobs: Vec<Vec<Vcpu>> = self.workers.iter().map(|_| Vec::new()).collect();
        for index in 0..self.idle.len() {
            let worker = self.place(index);
            let vcpu = self.idle[index].take().ok_or(Error::Worker)?;
            self.owner[index] = worker;
            jobs[worker].push(vcpu);
        }
        for (worker, vcpus) in self.workers.iter().zip(jobs) {
            if !vcpus.is_empty() {
                worker.give(Job { vcpus, until })?;
            }
        }
        Ok(())
    }

    /// Waits until every vCPU is back and reports; at the first error stops them all and returns it.
    fn collect(&mut self, phase: &str) -> Result<Vec<VcpuReport>, Error> {
        let deadline = Instant::now() + self.options.limit;
        while self.idle.iter().any(Option::is_none) {
            let left = deadline.saturating_duration_since(Instant::now());
            let reply = match self.replies.recv_timeout(left) {
                Ok(reply) => reply,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Worker),
                Err(RecvTimeoutError::Timeout) => {
                    let progress = self.progress_of_all();
                    self.kick_out()?;
                    let (phase, limit) = (phase.to_owned(), self.options.limit);
                    return Err(Error::Timeout { phase, limit, progress });
                }
            };
            let id = reply.vcpu.id();
            let index = id as usize;
            if let Ok(Stop::UserExit) = reply.stop {
                self.owner[index] = (self.owner[index] + 1) % self.workers.len();
                let job = Job { vcpus: vec![reply.vcpu], until: Until::UserExit };
                self.workers[self.owner[index]].give(job)?;
                continue;
            }
            self.idle[index] = Some(reply.vcpu);
            let error = match reply.stop {
                Ok(Stop::Kicked) => Error::Kicked { vcpu: id },
                Ok(Stop::BatchEnd | Stop::UserExit) => continue,
                Err(error) => error,
            };
            // The others may be waiting for this one.
            self.kick_out()?;
            return Err(error);
        }
        self.idle.iter().flatten().map(Vcpu::report).collect()
    }

    /// Stops all vCPUs and takes them back.
    fn kick_out(&mut self) -> Result<(), Error> {
        /// A kicked vCPU returns within microseconds; a machine may be slow, but not that slow.
        const GRACE: Duration = Duration::from_secs(10);
        for kick in &self.kicks {
            kick.kick();
        }
        while self.idle.iter().any(Option::is_none) {
            let reply = self.replies.recv_timeout(GRACE).map_err(|_| Error::Worker)?;
            let index = reply.vcpu.id() as usize;
            self.idle[index] = Some(reply.vcpu);
        }
        Ok(())
    }

    fn progress_of_all(&self) -> String {
        let one = |vcpu: u32| {
            let steps = self.machine.control(vcpu).map(|control| {
                let len = control.len.load(Ordering::Acquire) as usize;
                let done = |slot: &kvm_bench::protocol::Step| {
                    let (executed, count) =
                        (slot.executed.load(Ordering::Relaxed), slot.count.load(Ordering::Relaxed));
                    format!("{executed} of {count}")
                };
                control.steps.iter().take(len).map(done).collect::<Vec<_>>().join(", ")
            });
            format!("vCPU {vcpu}: {}", steps.unwrap_or_default())
        };
        (0..self.kicks.len() as u32).map(one).collect::<Vec<_>>().join("; ")
    }

    /// The thread that runs a vCPU, or ran it last.
    #[must_use]
    pub fn thread_of(&self, vcpu: u32) -> Option<i32> {
        let owner = *self.owner.get(vcpu as usize)?;
        Some(self.workers.get(owner)?.tid.as_raw_nonzero().get())
    }

    /// For stopping a vCPU from outside; the phase then ends with [`Error::Kicked`].
    #[must_use]
    pub fn kick(&self, vcpu: u32) -> Option<Arc<Kick>> {
        self.kicks.get(vcpu as usize).map(Arc::clone)
    }

    /// Pins the thread that runs a vCPU to one CPU of the host, at once, also while it sleeps.
    pub fn pin(&self, vcpu: u32, cpu: usize) -> Result<(), Error> {
        let owner = self.owner.get(vcpu as usize).and_then(|&owner| self.workers.get(owner));
        let worker = owner.ok_or_else(|| Error::Plan(format!("there is no vCPU {vcpu}")))?;
        let mut set = CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(Some(worker.tid), &set).map_err(|errno| Error::Host {
            what: "pin a vCPU thread to a CPU",
            source: errno.into(),
            remedy: "choose a CPU that is online and allowed here (Cpus_allowed_list in /proc/self/status)",
        })
    }

    /// Ends the spinning step of a vCPU. Takes effect when the vCPU next looks, which it does all the time.
    pub fn stop_spinning(&self, vcpu: u32) -> Result<(), Error> {
        self.machine.control(vcpu)?.stop.store(1, Ordering::Release);
        Ok(())
    }

    /// Executions so far of a step of the running phase.
    pub fn executed(&self, vcpu: u32, step: usize) -> Result<u64, Error> {
        let slot = self.machine.control(vcpu)?.steps.get(step);
        Ok(slot.map_or(0, |slot| slot.executed.load(Ordering::Acquire)))
    }

    /// Sends a vCPU the interrupt that [`Operation::HaltMessage`] and [`Operation::AwaitInterrupts`] wait for.
    pub fn send_message(&self, vcpu: u32) -> Result<(), Error> {
        self.machine.send_message(vcpu)
    }

    /// Makes eventfds, one for each vCPU: whoever writes to one sends the vCPU the message of [`Self::send_message`], on the
    /// thread or in the interrupt in which that is done. The VM has no other interrupt lines any more.
    pub fn message_eventfds(&self) -> Result<Vec<OwnedFd>, Error> {
        let vcpus = self.kicks.len() as u32;
        self.machine.make_lines_messages(vcpus)?;
        (0..vcpus).map(|gsi| self.machine.line(gsi)).collect()
    }

    /// An eventfd that raises an interrupt line of the VM's own controllers and lowers it again each time it is written to;
    /// a thread of the kernel does that.
    pub fn line_eventfd(&self, gsi: u32) -> Result<OwnedFd, Error> {
        self.machine.line(gsi)
    }

    /// An eventfd that is rung by each write of the guest to an address without memory: KVM takes it, whatever its size and
    /// value, and the VMM does not see it.
    pub fn doorbell_eventfd(&self, address: u64) -> Result<OwnedFd, Error> {
        self.machine.doorbell(address)
    }

    /// Waits until a vCPU is in its `nth` [`Operation::HaltMessage`] of the phase (the first is 1) and its thread
    /// sleeps. KVM polls before it blocks a vCPU, so this takes a moment.
    pub fn wait_asleep(&self, vcpu: u32, nth: u64) -> Result<(), Error> {
        let deadline = Instant::now() + self.options.limit;
        let control = self.machine.control(vcpu)?;
        let tid = self.thread_of(vcpu).ok_or(Error::Worker)?;
        while control.waits.load(Ordering::Acquire) < nth || !is_asleep(tid) {
            if Instant::now() > deadline {
                let phase = self.running.as_ref().map_or("its warm-up", |phase| &phase.name).to_owned();
                let progress = self.progress_of_all();
                return Err(Error::Timeout { phase, limit: self.options.limit, progress });
            }
            // Nothing tells when another thread falls asleep: look again.
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

/// Whether a thread of this process sleeps: the state after the name in /proc/.../stat (proc(5)).
fn is_asleep(tid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('S'))
}

impl Drop for Session {
    fn drop(&mut self) {
        for kick in &self.kicks {
            kick.kick();
        }
        for worker in &mut self.workers {
            worker.jobs = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// Runs a whole plan with one thread per vCPU.
pub fn run_plan(config: &Config, plan: &Plan) -> Result<Vec<PhaseReport>, Error> {
    let vm = Vm::new(config)?;
    let mut session = Session::start(vm, plan, Options::default())?;
    let mut reports = Vec::new();
    while let Some(report) = session.run_phase()? {
        reports.push(report);
    }
    Ok(reports)
}
