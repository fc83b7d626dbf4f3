//! Rounds of samples, in an order that is shuffled anew in each, as in `measure/` of the program for Linux guests.

use crate::bracket;
use crate::cpu;
use crate::events::Lost;
use crate::histogram::Histogram;
use crate::machine::Machine;
use crate::ops::{self, Action, Refusal, USUAL};
use crate::options::{self, Options};
use crate::port::outl;
use crate::serial::Serial;
use crate::shared_ops::{self, Care, Op, Pace};

/// How many empty brackets are timed, and for how long at most.
const EMPTY: (u64, u64) = (10_001, 100);
/// Warm-up: so many samples, and so long, ms; at most four times as long.
const WARM_UP: (u64, u64) = (1000, 50);
const WARM_UP_SLOW: u64 = 20;
/// An operation that takes fewer steps of the counter than this is repeated inside the bracket, at most so often.
const STEPS: u64 = 20;
const REPEAT_MAX: u64 = 64;
/// Samples per operation when nothing else is said. Fewer than Linux takes: all go through a serial port.
const SAMPLES: [u64; 2] = [5000, 500];
/// The longest that a round of the gap detector lasts, ms, and what counts as a gap in terms of the usual distance of two readings.
const JITTER_MS: u64 = 100;
const GAP: u64 = 10;
/// More measurements than anybody asks for at once.
const MAX_TASKS: usize = 96;

/// 0, 1, 2, ...
const IN_ORDER: [u8; MAX_TASKS] = {
    let mut order = [0; MAX_TASKS];
    let mut place = 0;
    while place < MAX_TASKS {
        order[place] = place as u8;
        place += 1;
    }
    order
};

/// How samples are to be read.
#[derive(Clone, Copy)]
struct Ready {
    overhead: u64,
    quantum: u64,
    repeat: u32,
    warm_up: u64,
}

/// One operation under way.
#[derive(Clone, Copy)]
struct Task {
    op: &'static Op,
    argument: u64,
    /// None when it was refused or failed.
    action: Option<Action>,
    ready: Ready,
}

/// What went wrong in a round.
enum Failure {
    Lost(Lost),
    Exception(u64),
}

/// The samples of a round and what was seen meanwhile.
#[derive(Clone, Copy)]
struct Counted {
    samples: u64,
    stolen: u64,
    wrapped: u64,
    steal_ns: u64,
    handled: u64,
    halted: u64,
    strange: u64,
    watched: u64,
    lost: u64,
    /// From before the first sample to behind the last, TSC cycles.
    span: u64,
}

impl Counted {
    fn none() -> Self {
        let zero = cpu::zero;
        Self {
            samples: zero(),
            stolen: zero(),
            wrapped: zero(),
            steal_ns: zero(),
            handled: zero(),
            halted: zero(),
            strange: zero(),
            watched: zero(),
            lost: zero(),
            span: zero(),
        }
    }
}

pub struct Bench<'a> {
    machine: &'a Machine,
    options: &'a Options,
    serial: Serial,
    all: Histogram,
    clean: Histogram,
    random: u64,
    /// What the bracket itself costs, and in which steps the counter moves.
    empty: (u64, u64),
}

impl<'a> Bench<'a> {
    pub fn new(machine: &'a Machine, options: &'a Options, serial: Serial) -> Self {
        let (all, clean) = crate::histogram::pair();
        let random = options.seed.unwrap_or_else(cpu::rdtsc) | 1;
        Self { machine, options, serial, all, clean, random, empty: (0, 1) }
    }

    /// Everything that was asked for.
    pub fn run(mut self) -> Serial {
        let null = Task {
            op: &shared_ops::OPS[0],
            argument: cpu::zero(),
            action: None,
            ready: Ready { overhead: cpu::zero(), quantum: 1, repeat: 1, warm_up: cpu::zero() },
        };
        self.empty = self.overhead();
        let mut tasks = [null; MAX_TASKS];
        let mut len = 0;
        match self.options.ops {
            None => {
                for &(name, argument) in USUAL {
                    self.add(&mut tasks, &mut len, name, argument);
                }
            }
            Some(words) => self.add_named(&mut tasks, &mut len, words),
        }
        for task in &mut tasks[..len] {
            self.open(task);
        }
        let mut order = IN_ORDER;
        for _ in 0..self.options.rounds {
            for left in (1..len).rev() {
                let other = self.next_random() as usize % (left + 1);
                order.swap(left, other);
            }
            for &turn in &order[..len] {
                self.round(&mut tasks[turn as usize], turn);
            }
        }
        self.serial
    }

    /// xorshift64*: George Marsaglia, Xorshift RNGs; Sebastiano Vigna's multiplier.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    fn add(&mut self, tasks: &mut [Task; MAX_TASKS], len: &mut usize, name: &str, argument: u64) {
        if let (Some(task), Some(op)) = (tasks.get_mut(*len), shared_ops::find(name)) {
            if self.options.ops.is_none() && op.care == Care::Destructive {
                return;
            }
            task.op = op;
            task.argument = argument;
            *len += 1;
        }
    }

    /// `a,b@0x10`: operations or nouns. A noun leaves out what is destructive, unless it is the whole name.
    fn add_named(&mut self, tasks: &mut [Task; MAX_TASKS], len: &mut usize, words: &'static [u8]) {
        for word in words.split(|&byte| byte == b',') {
            let at = word.iter().position(|&byte| byte == b'@');
            let name = &word[..at.unwrap_or(word.len())];
            let argument = at.map(|at| options::number(&word[at + 1..]));
            let mut known = false;
            for &(usual, usually) in USUAL {
                let is_it = usual.as_bytes() == name;
                let noun = usual.split(':').next().unwrap_or(usual);
                if !is_it && noun.as_bytes() != name {
                    continue;
                }
                match argument {
                    Some(None) => {}
                    Some(Some(_)) if known || !is_it => {}
                    Some(Some(argument)) => self.add(tasks, len, usual, argument),
                    None => self.add(tasks, len, usual, usually),
                }
                known = known || !matches!(argument, Some(None)) && (is_it || argument.is_none());
            }
            if !known && !word.is_empty() {
                self.serial.raw("{\"op\":");
                self.serial.string(word);
                self.serial.raw(",\"args\":{}");
                self.skipped(&Refusal {
                    reason: "the payload has no such operation",
                    hint: "see `kvm-bench list` for names; leaves and indices are given as cpuid@0x1 or msr:read@0x1b",
                    vector: None,
                });
            }
        }
    }

    /// Who a line is about.
    fn begin_line(&mut self, task: &Task) {
        self.serial.raw("{\"op\":");
        self.serial.string(task.op.name.as_bytes());
        self.serial.raw(",\"args\":{");
        let mut name = match task.op.name {
            "cpuid" => Some("leaf"),
            "msr:read" | "msr:write" => Some("index"),
            _ => None,
        };
        if let Some(name) = name.take() {
            self.serial.string(name.as_bytes());
            self.serial.raw(":");
            self.serial.hex(task.argument);
        }
        if let Some(Action::Arm) = task.action {
            self.serial.raw("\"mode\":");
            self.serial.string(self.machine.apic.timer.name().as_bytes());
        }
        self.serial.raw("}");
    }

    fn skipped(&mut self, refusal: &Refusal) {
        self.serial.raw(",\"skipped\":{\"reason\":");
        self.serial.string(refusal.reason.as_bytes());
        if let Some(vector) = refusal.vector {
            self.serial.raw(",\"vector\":");
            self.serial.number(vector);
        }
        self.serial.raw(",\"hint\":");
        self.serial.string(refusal.hint.as_bytes());
        self.serial.raw("}}\n");
    }

    fn failed(&mut self, task: &Task, failure: &Failure) {
        self.begin_line(task);
        self.serial.raw(",\"failed\":");
        match failure {
            Failure::Lost(why) => self.serial.string(why.as_bytes()),
            Failure::Exception(vector) => {
                self.serial.raw("\"it ended in exception ");
                self.serial.number(*vector);
                self.serial.raw("\"");
            }
        }
        self.serial.raw("}\n");
    }

    /// Prepares and warms up.
    fn open(&mut self, task: &mut Task) {
        match ops::open(self.machine, task.op, task.argument) {
            Ok(action) => task.action = Some(action),
            Err(refusal) => {
                self.begin_line(task);
                self.skipped(&refusal);
                return;
            }
        }
        let (overhead, quantum) = self.empty;
        task.ready = Ready { overhead, quantum, repeat: 1, warm_up: cpu::zero() };
        if task.action.is_some_and(Action::is_unbracketed) {
            task.ready.overhead = 0;
        }
        let (samples, ms) = match task.op.pace {
            Pace::Fast => WARM_UP,
            Pace::Slow => (WARM_UP_SLOW, WARM_UP.1),
        };
        let start = cpu::rdtsc();
        let mut taken = 0;
        self.clear();
        loop {
            match self.sample(task, samples, self.machine.clock.ms(ms), None) {
                Ok(counted) => taken += counted.samples.max(1),
                Err(failure) => {
                    self.failed(task, &failure);
                    task.action = None;
                    return;
                }
            }
            let elapsed = cpu::rdtsc().wrapping_sub(start);
            let long = elapsed >= self.machine.clock.ms(ms);
            if long && taken >= samples
                || elapsed >= self.machine.clock.ms(ms * 4)
                || task.op.name == "jitter"
            {
                break;
            }
        }
        task.ready.warm_up = taken;
        let median = self.all.median();
        let enough = STEPS * quantum;
        let net = median.saturating_sub(overhead);
        match &mut task.action {
            Some(Action::Jitter { threshold }) => *threshold = self.usual_distance() * GAP,
            Some(action)
                if task.op.pace == Pace::Fast
                    && net < enough
                    && !action.is_event()
                    && !action.is_unbracketed() =>
            {
                task.ready.repeat = enough.div_ceil(net.max(1)).min(REPEAT_MAX) as u32;
            }
            _ => {}
        }
    }

    fn clear(&mut self) {
        self.all.clear();
        self.clean.clear();
    }

    /// What the bracket itself costs, and in which steps the counter moves, TSC cycles.
    fn overhead(&mut self) -> (u64, u64) {
        let mut quantum = 0;
        // Twice: the first warms up.
        for _ in 0..2 {
            self.clear();
            quantum = 0;
            let start = cpu::rdtsc();
            while self.all.len() < EMPTY.0
                && cpu::rdtsc().wrapping_sub(start) < self.machine.clock.ms(EMPTY.1)
            {
                let cycles = cpu::time(|| ());
                quantum = gcd(quantum, cycles);
                self.all.record(cycles);
            }
        }
        (self.all.median(), quantum.max(1))
    }

    /// How far apart two readings of the counter are as a rule.
    fn usual_distance(&mut self) -> u64 {
        self.clear();
        let mut before = bracket::start();
        for _ in 0..1000 {
            let now = bracket::start();
            self.all.record(now.wrapping_sub(before));
            before = now;
        }
        self.all.median().max(1)
    }

    fn round(&mut self, task: &mut Task, number: u8) {
        let Some(action) = task.action else { return };
        let rounds = self.options.rounds;
        let usual = SAMPLES[usize::from(task.op.pace == Pace::Slow)];
        let samples = self.options.samples.unwrap_or(usual).div_ceil(rounds).max(1);
        let limit = self.machine.clock.ms(self.options.time_ms) / rounds;
        self.clear();
        match self.sample(
            task,
            samples,
            limit,
            self.options.mark_port.map(|port| (port, u32::from(number) + 1)),
        ) {
            Ok(counted) => self.write(task, action, &counted),
            Err(failure) => {
                self.failed(task, &failure);
                task.action = None;
            }
        }
    }

    /// Takes samples; at least one, whatever the limit. `mark`: where to tell the VMM that they come next, with what, and with
    /// zero that they have been taken; what prepares them and cleans up is outside.
    fn sample(
        &mut self,
        task: &mut Task,
        samples: u64,
        limit: u64,
        mark: Option<(u16, u32)>,
    ) -> Result<Counted, Failure> {
        let Some(mut action) = task.action else { return Err(Failure::Lost("it is not open")) };
        let machine = self.machine;
        action.begin(machine).map_err(Failure::Lost)?;
        let mut counted = Counted::none();
        let strange = || cpu::CPUS[0].strange.load(core::sync::atomic::Ordering::Relaxed);
        let (before, strange_before) = (action.counted(machine), strange());
        let repeat = task.ready.repeat;
        let mut lost = None;
        if let Some((port, number)) = mark {
            outl(port, number);
        }
        let guarded = cpu::guarded(|| {
            let start = cpu::rdtsc();
            let mut steal = machine.steal.now();
            if let Action::Jitter { threshold } = action {
                self.watch(threshold, limit, &mut counted);
                counted.span = cpu::rdtsc().wrapping_sub(start);
                return;
            }
            while counted.samples < samples {
                let cycles = match action.plain(machine, repeat) {
                    Some(cycles) => cycles,
                    None => match action.event(machine) {
                        Ok(cycles) => cycles,
                        Err(why) => {
                            lost = Some(why);
                            return;
                        }
                    },
                };
                counted.samples += 1;
                let stolen = machine.steal.now();
                // One that went back took no time that anybody knows.
                let wrapped = cycles > u64::MAX / 2;
                self.all.record(if wrapped { 0 } else { cycles });
                if wrapped {
                    counted.wrapped += 1;
                } else if stolen != steal {
                    counted.stolen += 1;
                } else {
                    self.clean.record(cycles);
                }
                counted.steal_ns += stolen.wrapping_sub(steal);
                steal = stolen;
                if cpu::rdtsc().wrapping_sub(start) > limit {
                    break;
                }
            }
            counted.span = cpu::rdtsc().wrapping_sub(start);
        });
        cpu::interrupts(false);
        if let Some((port, _)) = mark {
            outl(port, 0);
        }
        action.end(machine);
        task.action = Some(action);
        let after = action.counted(machine);
        counted.handled = after.0 - before.0;
        counted.halted = after.1 - before.1;
        counted.strange = strange() - strange_before;
        if let Err(fault) = guarded {
            return Err(Failure::Exception(fault.vector));
        }
        if let Some(why) = lost {
            return Err(Failure::Lost(why));
        }
        action.rest(machine).map_err(Failure::Lost)?;
        Ok(counted)
    }

    /// Looks at the counter without a pause: what lies between two looks is a gap if it is longer than usual.
    fn watch(&mut self, threshold: u64, limit: u64, counted: &mut Counted) {
        let limit = limit.min(self.machine.clock.ms(JITTER_MS));
        let start = cpu::rdtsc();
        let mut before = start;
        let mut steal = self.machine.steal.now();
        while before.wrapping_sub(start) < limit {
            let now = cpu::rdtsc();
            let gap = now.wrapping_sub(before);
            before = now;
            if threshold > 0 && gap > threshold {
                self.all.record(gap);
                self.clean.record(gap);
                counted.samples += 1;
                counted.lost += gap;
                let stolen = self.machine.steal.now();
                counted.steal_ns += stolen.wrapping_sub(steal);
                steal = stolen;
                // Recording it took time of our own.
                before = cpu::rdtsc();
            }
        }
        counted.watched = before.wrapping_sub(start);
    }

    /// The line of a round.
    fn write(&mut self, task: &Task, action: Action, counted: &Counted) {
        let times = self.options.reference;
        let reference = if times > 0 { { action }.reference(self.machine, times) } else { None };
        self.begin_line(task);
        let ready = task.ready;
        self.serial.raw(",\"ready\":{\"overhead\":");
        self.serial.number(ready.overhead);
        self.serial.raw(",\"quantum\":");
        self.serial.number(ready.quantum);
        self.serial.raw(",\"repeat\":");
        self.serial.number(ready.repeat.into());
        self.serial.raw(",\"warm_up\":");
        self.serial.number(ready.warm_up);
        self.serial.raw("},\"all\":");
        self.all.write(&mut self.serial);
        // The same as all when it is not there: most of a line is one of the two.
        if self.clean.len() != self.all.len() {
            self.serial.raw(",\"clean\":");
            self.clean.write(&mut self.serial);
        }
        self.serial.raw(",\"rejected\":{");
        let mut first = true;
        for (name, count) in [("steal", counted.stolen), ("wrapped", counted.wrapped)] {
            if count > 0 {
                self.pair(&mut first, name, count);
            }
        }
        self.serial.raw("},\"evidence\":{");
        first = true;
        let sent = counted.samples * action.sent_each(self.machine);
        if action.is_event() {
            self.pair(&mut first, "sent", sent);
            self.pair(&mut first, "handled", counted.handled);
        }
        if action.is_halted() {
            self.pair(&mut first, "halted", counted.halted);
        }
        if matches!(action, Action::Jitter { .. }) {
            self.pair(&mut first, "gaps", counted.samples);
        }
        if self.machine.steal.is_told() {
            self.pair(&mut first, "steal_ns", counted.steal_ns);
        }
        if let Some(cycles) = reference {
            self.pair(&mut first, "reference_n", times.into());
            self.pair(&mut first, "reference_cycles", cycles);
        }
        if counted.strange > 0 {
            self.pair(&mut first, "strange_interrupts", counted.strange);
        }
        self.serial.raw("},\"span\":{\"cycles\":");
        self.serial.number(counted.span);
        self.serial.raw(",\"targets\":");
        self.serial.number(action.targets(self.machine) as u64);
        self.serial.raw(",\"enclosed\":");
        self.serial.raw(if action.is_enclosed() { "true" } else { "false" });
        self.serial.raw(",\"interrupts\":");
        let is_about_them = action.is_event() || matches!(action, Action::Jitter { .. });
        self.serial.raw(if is_about_them { "true}" } else { "false}" });
        self.watched(action, counted);
        let doubt = if action.is_event() && counted.handled != sent {
            Some(("interrupts handled: ", counted.handled))
        } else if action.is_halted() && counted.halted != sent {
            Some(("interrupts that found the vCPU in HLT: ", counted.halted))
        } else {
            None
        };
        if let Some((what, count)) = doubt {
            self.serial.raw(",\"doubt\":\"");
            self.serial.raw(what);
            self.serial.number(count);
            self.serial.raw(" of ");
            self.serial.number(sent);
            self.serial.raw("\"");
        }
        self.serial.raw("}\n");
    }

    /// Of the gap detector: how long it watched, and how much of that was lost.
    fn watched(&mut self, action: Action, counted: &Counted) {
        let Action::Jitter { threshold } = action else { return };
        let clock = self.machine.clock;
        self.serial.raw(",\"details\":{\"totals\":{");
        let mut first = true;
        self.pair(&mut first, "watched_ns", clock.ns(counted.watched));
        self.pair(&mut first, "lost_ns", clock.ns(counted.lost));
        self.pair(&mut first, "steal_ns", counted.steal_ns);
        self.serial.raw("},\"notes\":{\"threshold\":\"");
        self.serial.number(threshold);
        self.serial.raw(" cycles\"}}");
    }

    fn pair(&mut self, first: &mut bool, name: &str, value: u64) {
        if !*first {
            self.serial.raw(",");
        }
        *first = false;
        self.serial.string(name.as_bytes());
        self.serial.raw(":");
        self.serial.number(value);
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
