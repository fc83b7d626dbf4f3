//! Posted interrupts, as the host counts them.

use super::root::SysRoot;

/// Lines of /proc/interrupts, over all CPUs (arch/x86/kernel/irq.c). Host-wide: nobody tells of which VM they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// `PIN`: an interrupt was posted to a vCPU that ran.
    pub notifications: u64,
    /// `NPI`: the same, to a nested guest's.
    pub nested: u64,
    /// `PIW`: an interrupt was posted to a vCPU that halts, which is to be woken.
    pub wakeups: u64,
}

impl Posted {
    /// The counts now; `None` where the host keeps none.
    #[must_use]
    pub fn read(root: &SysRoot) -> Option<Self> {
        Self::parse(&root.text("/proc/interrupts").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let sum = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
            // The counts of the CPUs, then what it is, in words.
            Some(line.split_whitespace().map_while(|word| word.parse::<u64>().ok()).sum())
        };
        Some(Self { notifications: sum("PIN:")?, nested: sum("NPI:")?, wakeups: sum("PIW:")? })
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        // A CPU that goes offline takes its counts along.
        Self {
            notifications: self.notifications.saturating_sub(before.notifications),
            nested: self.nested.saturating_sub(before.nested),
            wakeups: self.wakeups.saturating_sub(before.wakeups),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        Self {
            notifications: self.notifications + more.notifications,
            nested: self.nested + more.nested,
            wakeups: self.wakeups + more.wakeups,
        }
    }

    /// For people.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!(
            "posted interrupts on the whole host (/proc/interrupts): {} to running vCPUs (PIN), {} to nested ones (NPI), \
             {} that wake a halted one (PIW)",
            self.notifications, self.nested, self.wakeups
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "           CPU0       CPU1       \n\
        \x20 0:         23          0   IO-APIC   2-edge      timer\n\
        PIN:        110          3   Posted-interrupt notification event\n\
        NPI:          0          0   Nested posted-interrupt event\n\
        PIW:          5          7   Posted-interrupt wakeup event\n";

    #[test]
    fn cpus_are_summed_and_moments_compared() {
        let now = Posted::parse(TEXT).unwrap();
        assert_eq!(now, Posted { notifications: 113, nested: 0, wakeups: 12 });
        let before = Posted { notifications: 100, nested: 1, wakeups: 12 };
        assert_eq!(now.since(&before), Posted { notifications: 13, nested: 0, wakeups: 0 });
        assert_eq!(Posted::parse("  0: 23 timer\n"), None);
        assert!(now.sentence().contains("113 to running"));
    }
}
