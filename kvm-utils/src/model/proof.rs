//! Whether to believe a report.

/// Events counted, beside what the kernel says of the same interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// `raw_tracepoint` or `tracepoint`.
    pub source: &'static str,
    /// Exits counted in the interval, over all vCPUs shown and also those that found no record.
    pub counted: u64,
    /// KVM's own `exits` statistic over the same interval.
    pub kvm_stat: KvmStat,
    /// Program runs that the kernel skipped because of recursion; `None` where it does not tell.
    pub missed: Option<u64>,
    /// Exits that no entry followed before the next exit: counted, but without duration.
    pub unpaired: u64,
    /// Entries that no exit preceded.
    pub entries_without_exit: u64,
    /// Exits that are going on at the end of the interval: counted, their duration is yet to come.
    pub in_progress: u64,
    /// Exits of vCPUs that found no record (raise `--max-vcpus`): counted per reason, not per vCPU.
    pub vcpus_full: u64,
    /// (vCPU, reason) pairs without percentiles because no histogram was left.
    pub histograms_full: u64,
    /// Exits whose reason could not be read.
    pub unreadable: u64,
    /// Events on no vCPU's thread that are counted nowhere else, because no room was left for their keys.
    pub rows_full: u64,
    /// Share of one CPU that the programs themselves took, from samples; `None` while not known.
    pub own_cost: Option<f64>,
}

/// KVM's statistic and how far it can be compared.
#[derive(Clone, Debug, PartialEq)]
pub enum KvmStat {
    /// Read before and after ours was: at least and at most so many exits in the interval.
    Between {
        /// Least number of exits in the interval.
        least: u64,
        /// Greatest number of exits in the interval.
        most: u64,
    },
    /// Cannot be known, and why.
    Unknown(String),
    /// KVM keeps none of these events.
    NotKept,
}

/// What the proof amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing missed, and KVM's statistic agrees.
    Proven,
    /// Nothing known to be missed; KVM's statistic cannot be had (the reason is in the proof).
    Unchecked,
    /// Something is off: the sentences say what and what to do.
    Doubtful(Vec<String>),
}

impl Proof {
    /// Weighs the proof; `--strict` accepts no [`Verdict::Doubtful`].
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let mut doubts = Vec::new();
        if let KvmStat::Between { least, most } = self.kvm_stat {
            if self.counted < least {
                doubts.push(format!(
                    "{} exits fewer than KVM's own statistic: events were missed, or it counts too many (as 5.10's does \
                     with AMD); `kvm-utils selftest` tells which",
                    least - self.counted
                ));
            } else if self.counted > most {
                doubts.push(format!(
                    "{} exits more than KVM's own statistic: it leaves out exits handled in the fast path on some \
                     kernels (before 6.4, where not backported); run `kvm-utils selftest` to see which count is right",
                    self.counted - most
                ));
            }
        }
        if let Some(missed) = self.missed.filter(|missed| *missed > 0) {
            doubts.push(format!(
                "the kernel skipped {missed} runs of the programs: the counts are too low by up to that"
            ));
        }
        if self.vcpus_full > 0 {
            doubts.push(format!(
                "{} exits of vCPUs that found no record are counted per reason only: raise --max-vcpus",
                self.vcpus_full
            ));
        }
        if self.unreadable > 0 {
            doubts.push(format!(
                "the reason of {} exits could not be read: use --source tracepoint",
                self.unreadable
            ));
        }
        if self.rows_full > 0 {
            doubts.push(format!(
                "{} events on no vCPU's thread found no room in the kernel's table: they are in no row; trace fewer VMs at a time (--pid)",
                self.rows_full
            ));
        }
        match (&self.kvm_stat, doubts.is_empty()) {
            (_, false) => Verdict::Doubtful(doubts),
            (KvmStat::Between { .. }, true) => Verdict::Proven,
            (KvmStat::Unknown(_) | KvmStat::NotKept, true) => Verdict::Unchecked,
        }
    }
}
