//! The exits of an operation, beside those that the list of operations states.

use std::collections::BTreeMap;

use kvm_bench::shared::ops::{self, Exits};

use super::attribute::{Each, Seen};
use crate::decode::Class;
use crate::drilldown::exits::rows::Code;

/// Exits for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The kernel's name.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// How many.
    pub count: u64,
}

/// Exits of all rounds of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How often it was done.
    pub operations: u64,
    /// What it made the guest leave for, the most frequent first; without what marks the rounds, and without the targets'.
    pub exits: Vec<Reason>,
    /// The same of each vCPU that gets the operation's interrupts.
    pub targets: Each<Vec<Reason>>,
    /// The host's own interrupts meanwhile, unless the operation is about interrupts, and memory that the guest had not touched
    /// before.
    pub background: Vec<Reason>,
    /// The class and number for each operation that are stated, if they are.
    pub stated: Option<(&'static str, u32)>,
}

type Sums = BTreeMap<Code, u64>;

/// Of all rounds of one operation.
pub(super) fn count(title: &str, rounds: &[&Seen<Each<Sums>>]) -> Counted {
    let operations = rounds.iter().map(|round| round.operations).sum();
    let is_about_interrupts = rounds.iter().any(|round| round.span.interrupts);
    let op = title.split(' ').next().and_then(ops::find);
    let stated = match op.map(|op| op.exits) {
        Some(Exits::Each(class, each)) => Some((class, each)),
        _ => None,
    };
    let mut sums: Each<Sums> = BTreeMap::from([(0, Sums::new())]);
    for round in rounds {
        for (&vcpu, counts) in &round.reading {
            // One that takes no part has nothing to leave for: if it does, it shows beside what is stated.
            let whose = if vcpu <= round.span.targets { vcpu } else { 0 };
            let sums = sums.entry(whose).or_default();
            counts.iter().for_each(|(code, count)| *sums.entry(*code).or_default() += count);
        }
    }
    let ours = |reason: &Reason| {
        !is_background(reason, operations, is_about_interrupts)
            || stated.is_some_and(|(class, _)| is_of(reason.class, class))
    };
    let mut counted = Counted { operations, stated, ..Counted::default() };
    let mut background = Sums::new();
    for (vcpu, mut sums) in sums {
        if vcpu == 0 {
            without_marks(&mut sums, rounds.len() as u64);
        }
        sums.retain(|code, count| {
            let is_ours = ours(&reason(*code, *count));
            if !is_ours {
                *background.entry(*code).or_default() += *count;
            }
            is_ours
        });
        match vcpu {
            0 => counted.exits = sorted(sums),
            _ => _ = counted.targets.insert(vcpu, sorted(sums)),
        }
    }
    counted.background = sorted(background);
    counted
}

/// Of the two marks of a round the second is an exit within it.
fn without_marks(sums: &mut Sums, mut marks: u64) {
    for (code, count) in sums {
        if class(*code) == Class::Io {
            let mark = marks.min(*count);
            *count -= mark;
            marks -= mark;
        }
    }
}

fn reason(code: Code, count: u64) -> Reason {
    Reason { name: code.name(), class: class(code), count }
}

fn sorted(sums: Sums) -> Vec<Reason> {
    let some = sums.into_iter().filter(|(_, count)| *count > 0);
    let mut reasons: Vec<_> = some.map(|(code, count)| reason(code, count)).collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    reasons
}

fn class(code: Code) -> Class {
    code.reason().map_or(Class::Other, |reason| reason.class())
}

/// Whether the host, not the operation, makes these: its interrupts at any time, and the first touch of a page, which happens
/// far less often than an operation that touches one each time.
fn is_background(reason: &Reason, operations: u64, is_about_interrupts: bool) -> bool {
    match reason.class {
        Class::Interrupt | Class::Nmi | Class::IrqWindow => !is_about_interrupts,
        Class::Ept | Class::Exception => reason.count < operations.div_ceil(2),
        _ => false,
    }
}

/// Whether an exit of this class may be one that is stated as `stated`: what the vendors do not tell apart.
fn is_of(class: Class, stated: &str) -> bool {
    match class {
        // Device memory is a nested page fault with SVM and a misconfigured entry with VMX.
        Class::Ept | Class::Mmio => stated == Class::Ept.id() || stated == Class::Mmio.id(),
        // SVM's exit code does not tell reads from writes.
        Class::Msr => stated == Class::MsrRead.id() || stated == Class::MsrWrite.id(),
        class => stated == class.id(),
    }
}

impl Counted {
    /// Exits of the stated class.
    #[must_use]
    pub fn of_stated(&self) -> Option<u64> {
        let (stated, _) = self.stated?;
        Some(self.exits.iter().filter(|reason| is_of(reason.class, stated)).map(|reason| reason.count).sum())
    }

    /// Exits of other classes that the host did not make, where it is stated what there must be.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        let Some(stated) = self.of_stated() else { return 0 };
        self.exits.iter().map(|reason| reason.count).sum::<u64>() - stated
    }

    /// Whether what was counted is what is stated; None if nothing is.
    #[must_use]
    pub fn agrees(&self) -> Option<bool> {
        let (_, each) = self.stated?;
        Some(self.of_stated()? == self.operations * u64::from(each))
    }
}

#[cfg(test)]
mod tests {
    use kvm_bench::measure::round::Span;

    use super::*;

    const SVM: u32 = 2;
    const VMX: u32 = 1;

    pub(super) fn exits(isa: u32, counts: &[(u64, u64)]) -> Sums {
        counts.iter().map(|(code, count)| (Code { isa, code: *code }, *count)).collect()
    }

    const CPUID: u64 = 0x72;
    const IO: u64 = 0x7b;
    const INTERRUPT: u64 = 0x60;
    const VINTR: u64 = 0x64;
    const HLT: u64 = 0x78;
    const NPF: u64 = 0x400;
    const MSR: u64 = 0x7c;

    fn seen(title: &str, operations: u64, span: Span, each: &[Sums]) -> Seen<Each<Sums>> {
        let reading = each.iter().cloned().enumerate().map(|(vcpu, sums)| (vcpu as u32, sums)).collect();
        Seen { title: title.to_owned(), operations, span, reading }
    }

    fn counted(rounds: &[Seen<Each<Sums>>]) -> Counted {
        count(&rounds[0].title, &rounds.iter().collect::<Vec<_>>())
    }

    fn one(title: &str, operations: u64, sums: Sums) -> Counted {
        counted(&[seen(title, operations, Span::default(), &[sums])])
    }

    #[test]
    fn what_is_counted_is_held_against_what_is_stated() {
        let counted = counted(&[
            seen("cpuid", 1009, Span::default(), &[exits(SVM, &[(CPUID, 1009), (IO, 1), (INTERRUPT, 3)])]),
            seen("cpuid", 1009, Span::default(), &[exits(SVM, &[(CPUID, 1009), (IO, 1), (NPF, 1)])]),
        ]);
        assert_eq!(
            (counted.operations, counted.of_stated(), counted.agrees()),
            (2018, Some(2018), Some(true))
        );
        assert_eq!((counted.unexplained(), counted.exits.len(), counted.background.len()), (0, 1, 2));
    }

    #[test]
    fn vendors_name_the_same_exit_differently_and_marks_are_no_operations() {
        assert_eq!(one("pio:user-in", 7, exits(SVM, &[(IO, 8)])).agrees(), Some(true));
        assert_eq!(one("mmio:ioapic", 7, exits(SVM, &[(NPF, 7), (IO, 1)])).agrees(), Some(true));
        assert_eq!(one("timer:arm", 7, exits(SVM, &[(MSR, 7), (IO, 1)])).agrees(), Some(true));
        assert_eq!(one("mmio:ioapic", 7, exits(VMX, &[(49, 7), (30, 1)])).agrees(), Some(true));
        let depends = one("ipi:self", 7, exits(SVM, &[(MSR, 14), (IO, 1)]));
        assert_eq!((depends.agrees(), depends.exits[0].count), (None, 14));
    }

    #[test]
    fn targets_are_counted_by_themselves_and_interrupts_are_theirs() {
        let span = Span { targets: 1, interrupts: true, ..Span::default() };
        let sender = exits(SVM, &[(MSR, 7), (IO, 1), (VINTR, 2), (NPF, 1)]);
        let counted =
            counted(&[seen("ipi:single", 7, span, &[sender, exits(SVM, &[(INTERRUPT, 6), (MSR, 7)])])]);
        let counts = |reasons: &[Reason]| reasons.iter().map(|one| one.count).collect::<Vec<_>>();
        assert_eq!((counts(&counted.exits), counts(&counted.targets[&1])), (vec![7, 2], vec![7, 6]));
        assert_eq!(counts(&counted.background), [1]);
    }

    #[test]
    fn another_vcpu_that_leaves_the_guest_is_not_overlooked() {
        let each = [exits(SVM, &[(CPUID, 7), (IO, 1)]), exits(SVM, &[(HLT, 3)])];
        let counted = counted(&[seen("cpuid", 7, Span::default(), &each)]);
        assert_eq!((counted.agrees(), counted.unexplained(), counted.targets.len()), (Some(true), 3, 0));
    }
}
