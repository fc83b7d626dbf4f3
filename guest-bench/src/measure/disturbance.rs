//! What disturbed a thread while it took samples, and which samples that makes doubtful.

use std::fs;

use rustix::thread::gettid;

use super::round::Cause;
use crate::shared::bracket::Sample;

/// Counters of this thread and its CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disturbances {
    /// Time the hypervisor kept the CPU for others, ticks of 10 ms: /proc/stat, `steal`.
    pub steal: u64,
    /// Times that the thread had to give the CPU to another: getrusage, `ru_nivcsw`.
    pub preempted: u64,
    /// Time on the guest's run queue without running, ns: /proc/self/task/TID/schedstat.
    pub run_delay_ns: u64,
    /// Interrupts on the CPU: /proc/interrupts.
    pub interrupts: u64,
}

impl Disturbances {
    /// Up to now, of this thread and of a CPU. What the system does not tell is zero.
    pub fn now(cpu: usize) -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let interrupts = fs::read_to_string("/proc/interrupts").unwrap_or_default();
        Self {
            steal: steal(&stat, cpu).unwrap_or(0),
            preempted: involuntary_switches(),
            run_delay_ns: run_delay_ns(),
            interrupts: interrupts_on(&interrupts, cpu).unwrap_or(0),
        }
    }

    /// Since then.
    pub fn since(self, then: Self) -> Self {
        Self {
            steal: self.steal.saturating_sub(then.steal),
            preempted: self.preempted.saturating_sub(then.preempted),
            run_delay_ns: self.run_delay_ns.saturating_sub(then.run_delay_ns),
            interrupts: self.interrupts.saturating_sub(then.interrupts),
        }
    }
}

/// How long this thread has waited on the guest's run queue, ns; 0 when the kernel does not tell.
pub fn run_delay_ns() -> u64 {
    let schedstat = fs::read_to_string(format!("/proc/self/task/{}/schedstat", gettid().as_raw_nonzero()));
    schedstat.ok().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0)
}

/// A CPU's stolen time: Documentation/filesystems/proc.rst, 1.7.
fn steal(stat: &str, cpu: usize) -> Option<u64> {
    let name = format!("cpu{cpu}");
    let line = stat.lines().find(|line| line.split(' ').next() == Some(&name))?;
    line.split_ascii_whitespace().nth(8)?.parse().ok()
}

/// All interrupts of a CPU. Columns are the CPUs that are online.
pub fn interrupts_on(interrupts: &str, cpu: usize) -> Option<u64> {
    let name = format!("CPU{cpu}");
    let column = interrupts.lines().next()?.split_ascii_whitespace().position(|title| title == name)?;
    let count = |line: &str| line.split_ascii_whitespace().nth(column + 1)?.parse::<u64>().ok();
    Some(interrupts.lines().skip(1).filter_map(count).sum())
}

/// Of one kind of interrupt on a CPU: `CAL` are function calls (IPIs), `LOC` the local timer.
pub fn interrupts_of(interrupts: &str, kind: &str, cpu: usize) -> Option<u64> {
    let name = format!("CPU{cpu}");
    let column = interrupts.lines().next()?.split_ascii_whitespace().position(|title| title == name)?;
    let line = interrupts.lines().find(|line| line.trim_start().split(':').next() == Some(kind))?;
    line.split_ascii_whitespace().nth(column + 1)?.parse().ok()
}

fn involuntary_switches() -> u64 {
    // SAFETY: an all-zero rusage is valid, and getrusage only writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    u64::try_from(usage.ru_nivcsw).unwrap_or(0)
}

/// Says for each sample of a chunk whether it is to be left out, and why.
///
/// The counters tell how often something came between, not when; it takes time, so that the longest samples are the
/// doubtful ones. Those above twice the chunk's median are left out: all of them when time was stolen, else as many as
/// there were preemptions and interrupts. `sleeps`: the operation sleeps, so that interrupts are a part of it.
pub fn judge(chunk: &[Sample], seen: Disturbances, cpu: usize, sleeps: bool) -> Vec<(u64, Option<Cause>)> {
    let cause_by_itself = |sample: &Sample| {
        // TSC_AUX: arch/x86/include/asm/vdso/getcpu.h.
        let migrated = (sample.aux & 0xfff) as usize != cpu & 0xfff;
        let wrapped = sample.cycles > u64::MAX / 2;
        if wrapped { Some(Cause::Wrapped) } else { migrated.then_some(Cause::Migrated) }
    };
    let mut judged: Vec<_> = chunk
        .iter()
        .map(|sample| {
            let cause = cause_by_itself(sample);
            // What went back took no time that anybody knows.
            (if cause == Some(Cause::Wrapped) { 0 } else { sample.cycles }, cause)
        })
        .collect();
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_unstable_by_key(|&index| judged[index].0);
    let Some(&middle) = order.get(order.len() / 2) else { return judged };
    let limit = judged[middle].0.saturating_mul(2);
    let interrupts = if sleeps { 0 } else { seen.interrupts };
    let mut left = seen.preempted + interrupts;
    for &index in order.iter().rev() {
        let (cycles, cause) = &mut judged[index];
        if *cycles <= limit {
            break;
        }
        let disturbed = if seen.steal > 0 {
            Some(Cause::Steal)
        } else if left > interrupts {
            Some(Cause::Preempted)
        } else {
            (left > 0).then_some(Cause::Interrupted)
        };
        left = left.saturating_sub(1);
        *cause = cause.or(disturbed);
    }
    judged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(cycles: &[u64]) -> Vec<Sample> {
        cycles.iter().map(|&cycles| Sample { cycles, aux: 3 }).collect()
    }

    #[test]
    fn as_many_long_samples_are_left_out_as_there_were_disturbances() {
        let samples = chunk(&[100, 101, 99, 5000, 100, 900, 700, 150]);
        let seen = Disturbances { preempted: 1, interrupts: 1, ..Disturbances::default() };
        let causes: Vec<_> = judge(&samples, seen, 3, false).into_iter().map(|(_, cause)| cause).collect();
        assert_eq!(causes[3], Some(Cause::Preempted));
        assert_eq!(causes[5], Some(Cause::Interrupted));
        assert_eq!(causes.iter().flatten().count(), 2);
        assert!(judge(&samples, Disturbances::default(), 3, false).iter().all(|(_, cause)| cause.is_none()));
        let stolen = Disturbances { steal: 1, ..Disturbances::default() };
        let stolen = judge(&samples, stolen, 3, false);
        assert_eq!(stolen.iter().filter(|(_, cause)| *cause == Some(Cause::Steal)).count(), 3);
    }

    #[test]
    fn other_cpus_and_counters_that_go_back_are_seen_in_the_sample() {
        let mut samples = chunk(&[100, 100, 100]);
        samples[0].aux = 4;
        samples[1].cycles = 5_u64.wrapping_sub(9);
        let judged = judge(&samples, Disturbances::default(), 3, false);
        assert_eq!(judged, [(100, Some(Cause::Migrated)), (0, Some(Cause::Wrapped)), (100, None)]);
    }

    const INTERRUPTS: &str = "           CPU0       CPU2\n  0:         46          0   IO-APIC    2-edge      timer\n\
        NMI:          1          2   Non-maskable interrupts\nCAL:          7         11   Function call interrupts\n\
        ERR:          0\n";

    #[test]
    fn interrupts_are_read_by_the_cpu_s_name() {
        assert_eq!(interrupts_on(INTERRUPTS, 0), Some(54));
        assert_eq!(interrupts_on(INTERRUPTS, 2), Some(13));
        assert_eq!(interrupts_on(INTERRUPTS, 1), None);
        assert_eq!(interrupts_of(INTERRUPTS, "CAL", 2), Some(11));
        assert_eq!(interrupts_of(INTERRUPTS, "TLB", 2), None);
    }

    #[test]
    fn steal_is_the_eighth_number() {
        let stat = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu1 1 2 3 4 5 6 7 18 9 10\ncpu10 1 2 3 4 5 6 7 28 9 10\n";
        assert_eq!(steal(stat, 1), Some(18));
        assert_eq!(steal(stat, 10), Some(28));
        assert_eq!(steal(stat, 0), None);
    }
}
