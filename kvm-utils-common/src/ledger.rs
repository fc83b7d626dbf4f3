//! Where the time of a vCPU goes: all of it, from when the vCPU is first seen, in exactly one of a few buckets.
//!
//! The transitions are here, apart from the programs, so that they can be tested anywhere. What follows from each:
//!
//! | Event | Time goes from then on to |
//! |---|---|
//! | `kvm_entry` | the guest |
//! | `kvm_exit`, `KVM_RUN` begins | KVM |
//! | `kvm_userspace_exit` | the VMM |
//! | the thread loses its CPU and could go on | the run queue |
//! | the thread blocks | idle if the vCPU halts, else other |
//! | the blocked thread is woken | the run queue |
//! | the thread gets a CPU | what it did before |
//!
//! KVM polls a while before it blocks a vCPU that halts, and tells for how long only when the halt is over: that part
//! is then moved from KVM's time to polling.

use crate::numbers::{
    NUMBERS, STATES, VcpuNumbers,
    ledger::{
        BUCKETS, EXITS, STATE_BASE, STATE_BUCKET, STATE_HALT, STATE_KVM_BEFORE, STATE_OFF, STATE_POLLED,
        STATE_SEQUENCE, STATE_SINCE,
    },
};

/// Where time goes; the number is its place after [`BUCKETS`].
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// The vCPU executes the guest's code.
    Guest = 0,
    /// Its thread executes KVM's code, or what interrupts it there.
    Kvm = 1,
    /// Its thread is outside `KVM_RUN` and has a CPU.
    Vmm = 2,
    /// KVM waits for the end of a halt without giving up the CPU.
    Poll = 3,
    /// The vCPU halts and its thread is blocked.
    Idle = 4,
    /// Its thread waits for a CPU.
    RunQueue = 5,
    /// Its thread is blocked although the vCPU does not halt, or no thread runs it.
    Other = 6,
}

/// One more than the greatest [`Bucket`].
pub const BUCKET_COUNT: usize = 7;
/// In place of a bucket: the vCPU's time is over.
pub const ENDED: u64 = 7;

/// In place of KVM's sum of the time it polled: it is not known.
pub const POLLED_UNKNOWN: u64 = u64::MAX;

/// `KVM_EXIT_HLT`: KVM leaves a HLT to the VMM (include/uapi/linux/kvm.h).
pub const KVM_EXIT_HLT: u64 = 5;

/// Whether an exit reason is a HLT: `EXIT_REASON_HLT` of VMX (arch/x86/include/uapi/asm/vmx.h), `SVM_EXIT_HLT` and
/// `SVM_EXIT_IDLE_HLT` (.../svm.h).
#[inline(always)]
#[must_use]
pub const fn is_halt(isa: u32, code: u64) -> bool {
    if isa == 1 { code & 0xffff == 12 } else { code == 0x78 || code == 0xa6 }
}

/// Bit of `STATE_HALT`: the last exit was a HLT.
pub const HALT_KERNEL: u64 = 1 << 0;
/// Bit of `STATE_HALT`: KVM left a HLT to the VMM.
pub const HALT_USER: u64 = 1 << 1;

/// The numbers of one vCPU that the transitions change.
pub struct Ledger<'a> {
    state: &'a mut [u64; STATES],
    counters: &'a mut [u64; NUMBERS],
}

impl<'a> Ledger<'a> {
    /// Those of a vCPU, for one transition. `None` while another is being made: the programs on KVM's tracepoints can be
    /// preempted on some kernels, and the scheduler's then find the numbers half changed. Time goes on then as if that
    /// event had not been.
    #[inline(always)]
    #[must_use]
    pub fn change(numbers: &'a mut VcpuNumbers) -> Option<Self> {
        let sequence = numbers.state[STATE_SEQUENCE];
        if sequence & 1 != 0 {
            return None;
        }
        let mut ledger = Self { state: &mut numbers.state, counters: &mut numbers.counters };
        ledger.set(STATE_SEQUENCE, sequence + 1);
        Some(ledger)
    }

    /// The transition is complete.
    #[inline(always)]
    pub fn done(mut self) {
        let sequence = self.state[STATE_SEQUENCE];
        self.set(STATE_SEQUENCE, sequence + 1);
    }

    /// Writes a word in the order of the program: user space copies them meanwhile, and trusts the sequence.
    #[inline(always)]
    fn set(&mut self, place: usize, value: u64) {
        // SAFETY: a reference.
        unsafe { (&raw mut self.state[place]).write_volatile(value) };
    }

    /// Whether the vCPU is seen for the first time.
    #[inline(always)]
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.state[STATE_SINCE] == 0
    }

    /// Its time begins at `since`. `polled` is KVM's sum of the time it polled so far.
    #[inline(always)]
    pub fn begin(&mut self, since: u64, polled: u64) {
        self.set(STATE_BUCKET, Bucket::Kvm as u64);
        self.set(STATE_BASE, Bucket::Kvm as u64);
        self.set(STATE_POLLED, polled);
        self.set(STATE_SINCE, since);
    }

    /// The time up to now goes where it went, from now on to `bucket`.
    #[inline(always)]
    fn turn(&mut self, now: u64, bucket: u64) {
        let since = self.state[STATE_SINCE];
        // Read anew: where the compiler knows more of it than the verifier it would drop the bound.
        // SAFETY: a reference.
        let before = unsafe { (&raw const self.state[STATE_BUCKET]).read_volatile() } & 7;
        // CPUs' clocks may differ by a little.
        if now > since {
            let passed = now - since;
            if before != ENDED {
                let counter = &raw mut self.counters[BUCKETS + before as usize];
                // SAFETY: a reference, to the end of the enum's values and one more.
                unsafe { counter.write_volatile(counter.read_volatile() + passed) };
            }
            self.set(STATE_SINCE, now);
        }
        self.set(STATE_BUCKET, bucket);
    }

    #[inline(always)]
    fn turn_to(&mut self, now: u64, base: Bucket) {
        self.turn(now, base as u64);
        self.set(STATE_BASE, base as u64);
    }

    /// KVM has taken over: what it does may turn out to be polling.
    #[inline(always)]
    fn kvm_takes_over(&mut self) {
        let kvm = self.counters[BUCKETS + Bucket::Kvm as usize];
        self.set(STATE_KVM_BEFORE, kvm);
        self.set(STATE_OFF, 0);
    }

    /// `kvm_exit`, because of a HLT or of something else.
    #[inline(always)]
    pub fn exit(&mut self, now: u64, halt: bool) {
        self.turn_to(now, Bucket::Kvm);
        self.kvm_takes_over();
        self.set(STATE_HALT, if halt { HALT_KERNEL } else { 0 });
        self.counters[EXITS] += 1;
    }

    /// `kvm_entry`.
    #[inline(always)]
    pub fn entry(&mut self, now: u64) {
        self.turn_to(now, Bucket::Guest);
        self.set(STATE_HALT, 0);
    }

    /// `kvm_userspace_exit`; `halt`: the VMM is to wait for the end of a HLT. Where a signal ends `KVM_RUN`, a vCPU that
    /// halts goes on halting in the next.
    #[inline(always)]
    pub fn leave(&mut self, now: u64, halt: bool) {
        self.turn_to(now, Bucket::Vmm);
        if halt {
            let halts = self.state[STATE_HALT] | HALT_USER;
            self.set(STATE_HALT, halts);
        }
    }

    /// `KVM_RUN` begins.
    #[inline(always)]
    pub fn run(&mut self, now: u64) {
        self.turn_to(now, Bucket::Kvm);
        self.kvm_takes_over();
        let halts = self.state[STATE_HALT];
        // What KVM left to the VMM is over.
        self.set(STATE_HALT, if halts & HALT_USER != 0 { 0 } else { halts });
    }

    /// Where its thread would be found halting: `None` if it cannot be told without asking KVM.
    #[inline(always)]
    #[must_use]
    pub fn halts(&self) -> Halts {
        let (base, halt) = (self.state[STATE_BASE], self.state[STATE_HALT]);
        if base == Bucket::Vmm as u64 {
            return if halt & HALT_USER != 0 { Halts::Yes } else { Halts::No };
        }
        if halt & HALT_KERNEL != 0 { Halts::Yes } else { Halts::AskKvm }
    }

    /// The thread loses its CPU, although it could go on.
    #[inline(always)]
    pub fn preempted(&mut self, now: u64) {
        self.off(now, Bucket::RunQueue);
    }

    /// The thread blocks, while the vCPU halts or not.
    #[inline(always)]
    pub fn blocked(&mut self, now: u64, halts: bool) {
        self.off(now, if halts { Bucket::Idle } else { Bucket::Other });
    }

    #[inline(always)]
    fn off(&mut self, now: u64, bucket: Bucket) {
        if self.state[STATE_OFF] == 0 {
            self.set(STATE_OFF, now);
        }
        // It has left the guest, although the exit is told later (up to 6.2, on AMD).
        if self.state[STATE_BASE] == Bucket::Guest as u64 {
            self.set(STATE_BASE, Bucket::Kvm as u64);
        }
        self.turn(now, bucket as u64);
    }

    /// The thread is woken. Nothing happens to one that is not blocked.
    #[inline(always)]
    pub fn woken(&mut self, now: u64) {
        let bucket = self.state[STATE_BUCKET];
        if bucket == Bucket::Idle as u64 || bucket == Bucket::Other as u64 {
            self.turn(now, Bucket::RunQueue as u64);
        }
    }

    /// The thread gets a CPU.
    #[inline(always)]
    pub fn scheduled(&mut self, now: u64) {
        let base = self.state[STATE_BASE];
        self.turn(now, base);
    }

    /// `kvm_vcpu_wakeup`: a halt of `ns` is over. `polled` is KVM's sum of the time it polled so far; where that is
    /// [`POLLED_UNKNOWN`], polling is what passed until the thread first lost its CPU.
    #[inline(always)]
    pub fn halted(&mut self, now: u64, ns: u64, polled: u64) {
        let bucket = self.state[STATE_BUCKET];
        self.turn(now, bucket);
        let before = self.state[STATE_POLLED];
        let poll = if polled == POLLED_UNKNOWN {
            match self.state[STATE_OFF] {
                0 => ns,
                off => off.saturating_sub(now.saturating_sub(ns)),
            }
        } else {
            self.set(STATE_POLLED, polled);
            polled.saturating_sub(before)
        };
        // What is moved must be there.
        let kvm = self.counters[BUCKETS + Bucket::Kvm as usize];
        let most = kvm.saturating_sub(self.state[STATE_KVM_BEFORE]);
        let moved = if poll < most { poll } else { most };
        let counters = &raw mut *self.counters;
        // SAFETY: references; in the order of the program, as in `set`.
        unsafe {
            (&raw mut (*counters)[BUCKETS + Bucket::Kvm as usize]).write_volatile(kvm - moved);
            let poll = &raw mut (*counters)[BUCKETS + Bucket::Poll as usize];
            poll.write_volatile(poll.read_volatile() + moved);
        }
        self.kvm_takes_over();
    }

    /// The thread that ran the vCPU runs another one, or has ended.
    #[inline(always)]
    pub fn deserted(&mut self, now: u64) {
        self.turn(now, Bucket::Other as u64);
        self.set(STATE_BASE, Bucket::Other as u64);
    }

    /// Nothing will be known of the vCPU any more.
    #[inline(always)]
    pub fn end(&mut self, now: u64) {
        self.turn(now, ENDED);
        self.set(STATE_BASE, ENDED);
    }
}

/// Whether a vCPU halts whose thread blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halts {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// No exit says so, but a vCPU that waits to be started, or that halted in an earlier `KVM_RUN`, blocks as well:
    /// `kvm_vcpu.arch.mp_state` tells.
    AskKvm,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers() -> Box<VcpuNumbers> {
        Box::new(VcpuNumbers { state: [0; STATES], counters: [0; NUMBERS] })
    }

    /// Time in each bucket at `now`, as user space reads it.
    fn buckets(numbers: &VcpuNumbers, now: u64) -> [u64; BUCKET_COUNT] {
        let mut all = [0; BUCKET_COUNT];
        all.copy_from_slice(&numbers.counters[BUCKETS..BUCKETS + BUCKET_COUNT]);
        if let Some(bucket) = all.get_mut(numbers.state[STATE_BUCKET] as usize) {
            *bucket += now - numbers.state[STATE_SINCE];
        }
        all
    }

    fn change(numbers: &mut VcpuNumbers, what: impl FnOnce(&mut Ledger<'_>)) {
        let mut ledger = Ledger::change(numbers).unwrap();
        what(&mut ledger);
        ledger.done();
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Exit { halt: bool },
        Entry,
        Leave { halt: bool },
        Run,
        Preempted,
        Blocked,
        Woken,
        Scheduled,
        Halted { ns: u64, polled: u64 },
        Deserted,
    }

    fn apply(numbers: &mut VcpuNumbers, now: u64, event: Event) {
        change(numbers, |ledger| match event {
            Event::Exit { halt } => ledger.exit(now, halt),
            Event::Entry => ledger.entry(now),
            Event::Leave { halt } => ledger.leave(now, halt),
            Event::Run => ledger.run(now),
            Event::Preempted => ledger.preempted(now),
            Event::Blocked => {
                let halts = ledger.halts() == Halts::Yes;
                ledger.blocked(now, halts);
            }
            Event::Woken => ledger.woken(now),
            Event::Scheduled => ledger.scheduled(now),
            Event::Halted { ns, polled } => ledger.halted(now, ns, polled),
            Event::Deserted => ledger.deserted(now),
        });
    }

    /// What is in the buckets after these events, the first at 1000, the vCPU's time beginning there.
    fn run(events: &[(u64, Event)], now: u64) -> [u64; BUCKET_COUNT] {
        let mut numbers = numbers();
        change(&mut numbers, |ledger| ledger.begin(1000, 70));
        for (at, event) in events {
            apply(&mut numbers, *at, *event);
        }
        buckets(&numbers, now)
    }

    #[test]
    fn each_part_of_a_vcpus_life_has_its_bucket() {
        let events = [
            (1000, Event::Entry),
            (1100, Event::Exit { halt: false }),
            (1120, Event::Leave { halt: false }),
            (1150, Event::Blocked),
            (1250, Event::Woken),
            (1257, Event::Scheduled),
            (1270, Event::Run),
            (1275, Event::Entry),
            // The exit is told only after the thread was preempted for 10.
            (1300, Event::Preempted),
            (1310, Event::Scheduled),
            (1315, Event::Exit { halt: true }),
            (1365, Event::Blocked),
            (1900, Event::Woken),
            (1905, Event::Scheduled),
            (1907, Event::Halted { ns: 590, polled: 70 + 43 }),
            (1910, Event::Entry),
        ];
        let guest = 100 + 25 + 90;
        let kvm = 20 + 5 + 5 + 50 + 5 - 43;
        assert_eq!(run(&events, 2000), [guest, kvm, 30 + 13, 43, 535, 7 + 10 + 5, 100]);
    }

    #[test]
    fn where_kvm_does_not_tell_how_long_it_polled_it_is_the_time_until_the_thread_blocks() {
        let events = [
            (1000, Event::Exit { halt: true }),
            // The halt begins at 1010; polling until 1060.
            (1060, Event::Blocked),
            (1500, Event::Woken),
            (1503, Event::Scheduled),
            (1510, Event::Halted { ns: 500, polled: POLLED_UNKNOWN }),
        ];
        assert_eq!(run(&events, 1510), [0, 10 + 7, 0, 50, 440, 3, 0]);
        let polled =
            [(1000, Event::Exit { halt: true }), (1060, Event::Halted { ns: 50, polled: POLLED_UNKNOWN })];
        assert_eq!(run(&polled, 1060), [0, 10, 0, 50, 0, 0, 0]);
    }

    #[test]
    fn more_than_there_is_is_not_moved_to_polling() {
        let events = [
            (1000, Event::Entry),
            (1100, Event::Exit { halt: true }),
            (1150, Event::Halted { ns: 9999, polled: POLLED_UNKNOWN }),
            (1160, Event::Halted { ns: 9999, polled: u64::MAX - 1 }),
        ];
        assert_eq!(run(&events, 1160), [100, 0, 0, 60, 0, 0, 0]);
    }

    #[test]
    fn a_halt_that_a_signal_interrupts_goes_on_in_the_next_run() {
        let events = [
            (1000, Event::Exit { halt: true }),
            (1010, Event::Leave { halt: false }),
            (1020, Event::Run),
            (1030, Event::Blocked),
        ];
        assert_eq!(run(&events, 1100)[Bucket::Idle as usize], 70);
    }

    #[test]
    fn a_halt_that_the_vmm_waits_for_is_idle_and_ends_with_the_next_run() {
        let events = [
            (1000, Event::Exit { halt: true }),
            (1010, Event::Leave { halt: true }),
            (1020, Event::Blocked),
            (1100, Event::Scheduled),
            (1110, Event::Run),
            (1120, Event::Blocked),
        ];
        let all = run(&events, 1200);
        assert_eq!((all[Bucket::Idle as usize], all[Bucket::Other as usize]), (80, 80));
    }

    #[test]
    fn a_vcpu_without_a_thread_is_elsewhere_until_one_runs_it_and_nowhere_after_its_end() {
        let events = [(1010, Event::Deserted), (1100, Event::Run), (1110, Event::Entry)];
        assert_eq!(run(&events, 1120), [10, 20, 0, 0, 0, 0, 90]);
        let mut numbers = numbers();
        change(&mut numbers, |ledger| ledger.begin(5, 0));
        change(&mut numbers, |ledger| ledger.end(25));
        assert_eq!(buckets(&numbers, 1000).iter().sum::<u64>(), 20);
    }

    #[test]
    fn a_transition_within_another_is_left_out() {
        let mut numbers = numbers();
        change(&mut numbers, |ledger| ledger.begin(5, 0));
        let open = Ledger::change(&mut numbers).map(|_| ());
        assert!(open.is_some());
        assert!(Ledger::change(&mut numbers).is_none());
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            any::<bool>().prop_map(|halt| Event::Exit { halt }),
            Just(Event::Entry),
            any::<bool>().prop_map(|halt| Event::Leave { halt }),
            Just(Event::Run),
            Just(Event::Preempted),
            Just(Event::Blocked),
            Just(Event::Woken),
            Just(Event::Scheduled),
            (0u64..2000, prop_oneof![Just(POLLED_UNKNOWN), 0u64..100_000])
                .prop_map(|(ns, polled)| Event::Halted { ns, polled }),
            Just(Event::Deserted),
        ]
    }

    proptest! {
        /// Whatever comes, in whatever order.
        #[test]
        fn all_time_is_in_exactly_one_bucket(events in prop::collection::vec((0u64..1000, event()), 0..60)) {
            let mut numbers = numbers();
            change(&mut numbers, |ledger| ledger.begin(1000, 0));
            let (mut now, mut before) = (1000, 0);
            for (step, event) in events {
                now += step;
                apply(&mut numbers, now, event);
                let all = buckets(&numbers, now);
                prop_assert_eq!(all.iter().sum::<u64>(), now - 1000);
                // Only KVM's time ever becomes less, by what becomes polling.
                let polling = all[Bucket::Kvm as usize] + all[Bucket::Poll as usize];
                let others = all.iter().sum::<u64>() - polling;
                prop_assert!(others >= before);
                before = others;
                prop_assert_eq!(numbers.state[STATE_SEQUENCE] % 2, 0);
            }
        }

        /// Nor is any counted twice where the clock of the CPU of an event is behind.
        #[test]
        fn clocks_may_differ(events in prop::collection::vec((0u64..1000, 0u64..50, event()), 0..60)) {
            let mut numbers = numbers();
            change(&mut numbers, |ledger| ledger.begin(1000, 0));
            let mut now = 1000;
            for (step, behind, event) in events {
                now += step;
                apply(&mut numbers, now - behind, event);
                prop_assert_eq!(buckets(&numbers, now).iter().sum::<u64>(), now - 1000);
            }
        }
    }
}
