//! What a drill-down's columns are called in Prometheus: a rule for all, and a table of better names and words.

use super::{Family, Kind, labels};
use crate::model::{Cell, Column, Role, Unit};

/// What all families of a drill-down are named after.
#[must_use]
pub fn prefix(noun: &str) -> String {
    format!("kvm_{}", labels::name(noun))
}

/// A name and words in place of the rule's.
struct Named {
    noun: &'static str,
    column: &'static str,
    /// The family, without `_total`; several columns may share one, told apart by a label.
    family: &'static str,
    label: Option<(&'static str, &'static str)>,
    help: &'static str,
}

const fn named(noun: &'static str, column: &'static str, family: &'static str, help: &'static str) -> Named {
    Named { noun, column, family, label: None, help }
}

const fn state(column: &'static str, state: &'static str) -> Named {
    Named {
        noun: "time",
        column,
        family: "kvm_time_seconds",
        label: Some(("state", state)),
        help: "Time of the vCPUs by what their threads did.",
    }
}

const fn polling(column: &'static str, result: &'static str) -> Named {
    Named {
        noun: "halt",
        column,
        family: "kvm_halt_poll_seconds",
        label: Some(("result", result)),
        help: "Time polled in halts, by whether the halt ended meanwhile.",
    }
}

/// Pseudo column: how durations are distributed.
const DURATIONS: &str = "";

const NAMED: &[Named] = &[
    named("exits", "count", "kvm_exits", "VM exits."),
    named("exits", DURATIONS, "kvm_exit_duration_seconds", "Time from a VM exit to the vCPU's next entry."),
    named(
        "derived",
        "count",
        "kvm_derived",
        "Events that come of VM exits, on a KVM that does not tell of those.",
    ),
    named("msr", "count", "kvm_msr", "Accesses to model-specific registers."),
    named("msr", "faults", "kvm_msr_faults", "Accesses to model-specific registers that ended in #GP."),
    named("wrmsr", "count", "kvm_wrmsr", "Writes to model-specific registers."),
    named("wrmsr", "faults", "kvm_wrmsr_faults", "Writes to model-specific registers that ended in #GP."),
    named("msr", "armed", "kvm_msr_armed", "Times that a guest armed its timer by IA32_TSC_DEADLINE."),
    named("msr", "rearmed", "kvm_msr_rearmed", "Of kvm_msr_armed, how often it had not fired yet."),
    named("msr", "cancelled", "kvm_msr_cancelled", "Times that a guest cancelled its timer before it fired."),
    named("msr", "past", "kvm_msr_past", "Of kvm_msr_armed, how often the time had passed already."),
    named(
        "msr",
        "ahead_unknown",
        "kvm_msr_ahead_unknown",
        "Of kvm_msr_armed, how often it is not known how far ahead.",
    ),
    named("wrmsr", "armed", "kvm_wrmsr_armed", "Times that a guest armed its timer by IA32_TSC_DEADLINE."),
    named("wrmsr", "rearmed", "kvm_wrmsr_rearmed", "Of kvm_wrmsr_armed, how often it had not fired yet."),
    named(
        "wrmsr",
        "cancelled",
        "kvm_wrmsr_cancelled",
        "Times that a guest cancelled its timer before it fired.",
    ),
    named("wrmsr", "past", "kvm_wrmsr_past", "Of kvm_wrmsr_armed, how often the time had passed already."),
    named(
        "wrmsr",
        "ahead_unknown",
        "kvm_wrmsr_ahead_unknown",
        "Of kvm_wrmsr_armed, how often it is not known how far ahead.",
    ),
    named("ipi", "count", "kvm_ipi", "Commands for interrupts between vCPUs."),
    named("io", "count", "kvm_io", "Accesses to ports and to the memory of devices."),
    named("io", "total_ns", "kvm_io_duration_seconds", "Time out of the guest for accesses to devices."),
    named("io", "timed", "kvm_io_timed", "Accesses to devices of which the time is known."),
    named(
        "io",
        "units",
        "kvm_io_units",
        "Units that accesses moved: more than accesses for string instructions.",
    ),
    named("io", "events", "kvm_io_events", "Events of accesses: two for a read that the VMM answered."),
    named("cpuid", "count", "kvm_cpuid", "CPUID instructions that KVM answered."),
    named("hypercall", "count", "kvm_hypercall", "Hypercalls."),
    named(
        "hypercall",
        "fast",
        "kvm_hypercall_fast",
        "Of kvm_hypercall, how many passed their input in registers.",
    ),
    named("hypercall", "reps", "kvm_hypercall_reps", "Repetitions that hypercalls asked for."),
    named("hypercall", "targets", "kvm_hypercall_targets", "vCPUs that hypercalls were aimed at."),
    named("fault", "count", "kvm_fault", "Nested page faults."),
    named(
        "fault",
        "protected",
        "kvm_fault_protected",
        "Of kvm_fault, how many were of pages that were present.",
    ),
    named(
        "fault",
        "walks",
        "kvm_fault_walks",
        "Of kvm_fault, how many came of the guest's own page tables being read.",
    ),
    named("rip", "count", "kvm_rip", "VM exits by the guest's instruction pointer."),
    state("guest_ns", "guest"),
    state("kvm_ns", "kvm"),
    state("vmm_ns", "vmm"),
    state("poll_ns", "poll"),
    state("idle_ns", "idle"),
    state("steal_ns", "steal"),
    state("other_ns", "other"),
    named("time", "exits", "kvm_time_exits", "VM exits, as the ledger of time counts them."),
    named("halt", "count", "kvm_halt", "Halts of vCPUs."),
    named("halt", "invalid", "kvm_halt_invalid", "Halts that ended with nothing for the guest to do."),
    named("halt", "valid", "kvm_halt_valid", "Halts that ended with something for the guest to do."),
    named("halt", "waited", "kvm_halt_waited", "Halts in which the thread was blocked."),
    named("halt", "polls", "kvm_halt_polls", "Halts in which KVM polled."),
    named(
        "halt",
        "poll_unknown",
        "kvm_halt_poll_unknown",
        "Halts of which it is not known whether KVM polled.",
    ),
    named("halt", "grown", "kvm_halt_grown", "How often KVM made the time longer for which it polls."),
    named("halt", "shrunk", "kvm_halt_shrunk", "How often KVM made the time shorter for which it polls."),
    named("halt", "polls_successful", "kvm_halt_polls_successful", "Halts that ended while KVM polled."),
    polling("poll_success_ns", "success"),
    polling("poll_fail_ns", "fail"),
    named("halt", "halted_ns", "kvm_halt_halted_seconds", "Time in halts, polling and blocked."),
    named("halt", DURATIONS, "kvm_halt_blocked_seconds", "Time for which the thread was blocked in a halt."),
    named("irq", "count", "kvm_irq", "What happened to interrupts, by event; one interrupt makes several."),
    named("irq", "elsewhere", "kvm_irq_elsewhere", "Of kvm_irq, what happened on no vCPU's thread."),
];

/// Columns that no series is made of: what others say already, as a sum or as a part of it.
const LEFT_OUT: &[(&str, &str)] =
    &[("time", "wall_ns"), ("halt", "blocked_ns"), ("exits", "flags"), ("irq", "flags")];

/// A counter of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterName {
    /// Position of its column.
    pub column: usize,
    /// The family it belongs to, one of [`Names::families`].
    pub family: usize,
    /// What tells it from others of the family.
    pub label: Option<(&'static str, &'static str)>,
    /// Of nanoseconds.
    pub is_time: bool,
}

/// The series that the rows of a drill-down have.
#[derive(Clone, Debug, PartialEq)]
pub struct Names {
    /// All families, without metrics: of the counters, and last the histogram's if there is one.
    pub families: Vec<Family>,
    /// The counters.
    pub counters: Vec<CounterName>,
    /// Columns that are labels, with the label's name.
    pub labels: Vec<(usize, String)>,
}

impl Names {
    /// Of a drill-down with these columns, whose rows have `durations` or not. In one with `one_row` per vCPU the vCPU is
    /// no label of the row.
    #[must_use]
    pub fn of(noun: &str, columns: &[Column], one_row: bool, durations: bool) -> Self {
        let mut names = Self { families: Vec::new(), counters: Vec::new(), labels: Vec::new() };
        // The histogram has its own sum.
        let left_out =
            |column: &Column| LEFT_OUT.contains(&(noun, column.id)) || durations && column.id == "total_ns";
        for (index, column) in columns.iter().enumerate().filter(|(_, column)| !left_out(column)) {
            match column.role {
                Role::Sum => names.count(noun, index, column),
                // A key that is a number says what another says in words.
                Role::Key if column.unit == Unit::Text && !(one_row && column.id == "vcpu") => {
                    names.labels.push((index, labels::name(column.id)));
                }
                _ => {}
            }
        }
        if !durations {
            return names;
        }
        let (name, help) = match find(noun, DURATIONS) {
            Some(named) => (named.family.to_owned(), named.help.to_owned()),
            None => (
                format!("{}_duration_seconds", prefix(noun)),
                format!("How long took what kvm-utils {noun} counts."),
            ),
        };
        names.families.push(Family::new(name, Kind::Histogram, help));
        names
    }

    fn count(&mut self, noun: &str, column: usize, of: &Column) {
        let is_time = of.unit == Unit::Nanoseconds;
        let named = find(noun, of.id);
        let (name, help) = match named {
            Some(named) => (named.family.to_owned(), named.help.to_owned()),
            None => (default(noun, of), format!("Column {} of kvm-utils {noun}.", of.id)),
        };
        let family = self.families.iter().position(|family| family.name == name).unwrap_or_else(|| {
            self.families.push(Family::new(name, Kind::Counter, help));
            self.families.len() - 1
        });
        let label = named.and_then(|named| named.label);
        self.counters.push(CounterName { column, family, label, is_time });
    }

    /// The labels of a row.
    #[must_use]
    pub fn row(&self, cells: &[Cell]) -> super::Labels {
        let mut labels = super::Labels::default();
        for (index, name) in &self.labels {
            match cells.get(*index) {
                Some(Cell::Text(text)) => labels.add(name, text),
                Some(Cell::List(texts)) => labels.add(name, &texts.join(",")),
                Some(Cell::Number(number)) => labels.add(name, &number.to_string()),
                Some(Cell::Real(number)) => labels.add(name, &number.to_string()),
                Some(Cell::Unknown) | None => {}
            }
        }
        labels
    }
}

fn find(noun: &str, column: &str) -> Option<&'static Named> {
    NAMED.iter().find(|named| named.noun == noun && named.column == column)
}

/// The rule: `kvm_NOUN` for what is counted, `kvm_NOUN_COLUMN` for the rest, times in seconds.
fn default(noun: &str, column: &Column) -> String {
    let prefix = prefix(noun);
    let id = labels::name(column.id);
    match (column.unit, id.as_str()) {
        (_, "count") => prefix,
        (Unit::Nanoseconds, "total_ns") => format!("{prefix}_duration_seconds"),
        (Unit::Nanoseconds, id) => format!("{prefix}_{}_seconds", id.strip_suffix("_ns").unwrap_or(id)),
        (_, id) => format!("{prefix}_{id}"),
    }
}

/// Families that are of no drill-down alone.
pub mod own {
    use super::{Family, Kind};

    macro_rules! families {
        ($($(#[$doc:meta])* $function:ident $name:literal $kind:ident $help:literal)*) => {
            $(
                $(#[$doc])*
                #[doc = $help]
                #[must_use]
                pub fn $function() -> Family {
                    Family::new($name, Kind::$kind, $help)
                }
            )*
            /// All of them, without metrics.
            #[must_use]
            pub fn all() -> Vec<Family> {
                vec![$($function()),*]
            }
        };
    }

    families! {
        info "kvm_utils" Info "This kvm-utils and the machine it runs on."
        source "kvm_utils_source" Info "How each drill-down learns of its events."
        host_cpus "kvm_utils_host_cpus" Gauge "CPUs online."
        vm "kvm_vm" Info "Who a VM is: join it with the others on vm and pid."
        vcpus "kvm_vm_vcpus" Gauge "vCPUs of a VM that have been seen and live; 0 when it has ended."
        report_time "kvm_utils_report_timestamp_seconds" Gauge "When the numbers of a drill-down were read."
        folded "kvm_utils_folded_rows" Gauge "Rows that share the series whose label is (folded): --max-series."
        verdict "kvm_utils_verdict" StateSet "Whether to believe the counts since the start: the proof's verdict."
        counted "kvm_utils_counted" Counter "Events that a drill-down counted, also those that are in no other series."
        stat_least "kvm_utils_kvm_stat_least" Gauge "KVM's own count of the same exits, at least."
        stat_most "kvm_utils_kvm_stat_most" Gauge "KVM's own count of the same exits, at most."
        missed "kvm_utils_missed" Counter "Runs of the tracing programs that the kernel skipped: events not counted."
        unpaired "kvm_utils_unpaired" Counter "Exits without duration, as another followed before an entry."
        entries "kvm_utils_entries_without_exit" Counter "Entries that no exit preceded."
        in_progress "kvm_utils_exits_in_progress" Gauge "Exits that have not ended."
        vcpus_full "kvm_utils_vcpus_full" Counter "Exits of vCPUs that found no record, which are in no VM: --max-vcpus."
        histograms_full "kvm_utils_histograms_full" Counter "Pairs of vCPU and reason that no histogram was left for."
        unbinned "kvm_utils_unbinned" Counter "Durations without histogram, which are in the bucket +Inf only."
        unreadable "kvm_utils_unreadable" Counter "Exits whose reason could not be read."
        rows_full "kvm_utils_rows_full" Counter "Events that no row was left for."
        own_cost "kvm_utils_own_cost_ratio" Gauge "Share of one CPU that the tracing programs take."
        posted "kvm_posted_interrupts" Counter "Posted interrupts of the whole host since it started, as /proc/interrupts has them."
        collection "kvm_utils_collection_duration_seconds" Gauge "How long it took to read the numbers."
        responses "kvm_utils_http_responses" Counter "Answers to HTTP requests, by status."
        dropped "kvm_utils_http_dropped" Counter "Connections that were closed to make room for new ones."
        cpu_time "process_cpu_seconds" Counter "CPU time of this process."
        memory "process_resident_memory_bytes" Gauge "Memory of this process."
        started "process_start_time_seconds" Gauge "When this process started, seconds since 1970."
        descriptors "process_open_fds" Gauge "Open file descriptors of this process."
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::drilldown::registry::REGISTRY;

    fn sum(id: &'static str, unit: Unit) -> Column {
        Column::new(id, "", unit, None).role(Role::Sum)
    }

    #[test]
    fn a_new_drilldown_has_names_by_the_rule() {
        let columns = [
            Column::new("what", "", Unit::Text, None),
            Column::new("code", "", Unit::Count, None).role(Role::Key),
            sum("count", Unit::Count),
            sum("total_ns", Unit::Nanoseconds),
            sum("slow_ns", Unit::Nanoseconds),
            sum("faults", Unit::Count),
            Column::new("mean_ns", "", Unit::Nanoseconds, None),
        ];
        let families = |names: &Names| -> Vec<(String, Kind)> {
            names.families.iter().map(|family| (family.name.clone(), family.kind)).collect()
        };
        let family = |name: &str, kind| (format!("kvm_dirty_log{name}"), kind);
        let names = Names::of("dirty-log", &columns, false, false);
        let (slow, faults) = (family("_slow_seconds", Kind::Counter), family("_faults", Kind::Counter));
        let count = family("", Kind::Counter);
        let total = |kind| family("_duration_seconds", kind);
        assert_eq!(families(&names), [count.clone(), total(Kind::Counter), slow.clone(), faults.clone()]);
        assert_eq!(names.labels, [(0, "what".to_owned())]);
        let seen: Vec<(usize, bool)> = names.counters.iter().map(|c| (c.column, c.is_time)).collect();
        assert_eq!(seen, [(2, false), (3, true), (4, true), (5, false)]);
        let names = Names::of("dirty-log", &columns, false, true);
        assert_eq!(families(&names), [count, slow, faults, total(Kind::Histogram)]);
    }

    #[test]
    fn names_and_words_are_of_columns_that_there_are() {
        for named in NAMED.iter().filter(|named| named.column != DURATIONS) {
            let of = |noun: &&&crate::drilldown::noun::Noun| noun.name == named.noun;
            let columns = REGISTRY.iter().filter(of).flat_map(|noun| noun.columns);
            let column = columns.into_iter().find(|column| column.id == named.column);
            assert!(column.is_some_and(|column| column.role == Role::Sum), "{} {}", named.noun, named.column);
        }
        for (noun, column) in LEFT_OUT {
            assert!(REGISTRY.iter().any(|of| of.name == *noun && of.columns.iter().any(|c| c.id == *column)));
        }
    }

    /// Prometheus takes one type per name, and has its conventions (`promtool check metrics`, which another test runs).
    #[test]
    fn samples_of_different_families_have_different_names() {
        let mut names = BTreeMap::new();
        for noun in REGISTRY {
            let durations = ["exits", "halt"].contains(&noun.name);
            let one_row = noun.build.is_some_and(|build| build.one_row);
            for family in Names::of(noun.name, noun.columns, one_row, durations).families {
                // Variants of a noun share them.
                for sample in family.samples() {
                    assert_eq!(*names.entry(sample).or_insert(family.kind), family.kind, "{}", family.name);
                }
            }
        }
        for family in own::all() {
            for sample in family.samples() {
                assert!(names.insert(sample, family.kind).is_none(), "{}", family.name);
            }
        }
        assert!(
            names
                .keys()
                .all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        );
    }

    #[test]
    fn the_ledger_is_one_family_and_its_sum_none() {
        let noun = &crate::drilldown::time::TIME;
        let names = Names::of(noun.name, noun.columns, true, false);
        let states: Vec<_> = names.counters.iter().filter_map(|c| c.label).map(|(_, state)| state).collect();
        assert_eq!(states, ["guest", "kvm", "vmm", "poll", "idle", "steal", "other"]);
        assert!(names.labels.is_empty());
        let families: Vec<&str> = names.families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(families[..2], ["kvm_time_exits", "kvm_time_seconds"]);
    }
}
