//! The series of one drill-down: which are shown, and what they count.

use std::collections::BTreeMap;

use super::{Family, Labels, Metric, Names, Value, bins};
use crate::model::{Cell, Report, Row, Vcpu, Vm};

/// The value of the first label of a row that stands for others.
const FOLDED: &str = "(folded)";

/// Beside the bins, a histogram's sum of durations.
const TOTAL: usize = bins::BINS;
/// Numbers that a histogram takes, and series that it is.
const HISTOGRAM: usize = bins::BINS + 1;
const HISTOGRAM_SERIES: usize = bins::BINS + 2;

/// Numbers of a row: its counters, and if it has durations the bins and their sum. Unknown ones are no series.
type Numbers = Vec<Option<u64>>;

/// A row that is shown.
#[derive(Clone, Debug)]
struct Shown {
    /// What was shown last.
    last: Numbers,
    /// What is added so that no number goes back: numbers of VMs that are no longer in the report.
    base: Vec<u64>,
    created: f64,
}

impl Shown {
    fn new(width: usize, created: f64) -> Self {
        Self { last: vec![None; width], base: vec![0; width], created }
    }

    fn update(&mut self, now: &[Option<u64>]) {
        for ((last, base), now) in self.last.iter_mut().zip(&mut self.base).zip(now) {
            let Some(now) = *now else { continue };
            let before = last.unwrap_or(0);
            if now.saturating_add(*base) < before {
                *base = before - now;
            }
            *last = Some(now.saturating_add(*base));
        }
    }
}

/// A VM's rows.
#[derive(Clone, Debug, Default)]
struct OfVm {
    rows: BTreeMap<Labels, Shown>,
    /// The sum of those that are not shown. Once there is one, no other row is shown: whether it was in the sum is
    /// not remembered.
    folded: Option<Shown>,
    /// Rows in it.
    folded_rows: usize,
}

/// The rows of a drill-down.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    noun: &'static str,
    names: Names,
    /// Each row has so many numbers.
    width: usize,
    vms: BTreeMap<Labels, OfVm>,
    /// No more rows than this.
    most: usize,
    /// Durations that are in no bucket.
    unbinned: u64,
}

impl Rows {
    /// Those of a report; `None` as long as it has none, since rows tell whether there are durations.
    pub fn of(report: &Report, max_series: usize) -> Option<Self> {
        let of_vms = || {
            report.vms.iter().flat_map(|vm| vm.rows.iter().chain(vm.vcpus.iter().flat_map(|vcpu| &vcpu.rows)))
        };
        let first = report.totals.first().or_else(|| of_vms().next())?;
        let durations = first.durations.is_some();
        let names = Names::of(report.noun, report.columns, report.one_row, durations);
        let counters = names.counters.len();
        let (numbers, series) = if durations { (HISTOGRAM, HISTOGRAM_SERIES) } else { (0, 0) };
        Some(Self {
            noun: report.noun,
            width: counters + numbers,
            most: (max_series / (counters + series).max(1)).max(1),
            names,
            vms: BTreeMap::new(),
            unbinned: 0,
        })
    }

    /// The drill-down.
    pub fn noun(&self) -> &'static str {
        self.noun
    }

    /// Rows that are not shown.
    pub fn folded(&self) -> usize {
        self.vms.values().map(|vm| vm.folded_rows).sum()
    }

    /// Durations that are in no bucket.
    pub fn unbinned(&self) -> u64 {
        self.unbinned
    }

    /// Forgets a VM.
    pub fn forget(&mut self, vm: &Labels) {
        self.vms.remove(vm);
    }

    /// Takes over a report. `key` gives the labels of a VM, or none if it is not to be shown; rows that are new were not
    /// there at `before`.
    pub fn update(
        &mut self,
        report: &Report,
        per_vcpu: bool,
        key: impl Fn(&Vm) -> Option<Labels>,
        before: f64,
    ) {
        let mut vms: BTreeMap<Labels, BTreeMap<Labels, Numbers>> = BTreeMap::new();
        let mut unbinned = 0;
        for vm in &report.vms {
            let Some(key) = key(vm) else { continue };
            let rows = vms.entry(key).or_default();
            if per_vcpu {
                for vcpu in &vm.vcpus {
                    let label = Labels::of("vcpu", &vcpu_name(vcpu));
                    vcpu.rows.iter().for_each(|row| self.gather(rows, &mut unbinned, label.clone(), row));
                }
            } else {
                vm.rows.iter().for_each(|row| self.gather(rows, &mut unbinned, Labels::default(), row));
            }
        }
        self.unbinned = self.unbinned.max(unbinned);
        self.admit(&vms, before);
        for (vm, rows) in vms {
            let width = self.width;
            let of = self.vms.entry(vm).or_default();
            let mut folded: Option<Numbers> = None;
            of.folded_rows = 0;
            for (labels, numbers) in rows {
                match of.rows.get_mut(&labels) {
                    Some(shown) => shown.update(&numbers),
                    None => {
                        of.folded_rows += 1;
                        add(folded.get_or_insert_with(|| vec![None; width]), &numbers);
                    }
                }
            }
            if let Some(folded) = folded {
                of.folded.get_or_insert_with(|| Shown::new(width, before)).update(&folded);
            }
        }
    }

    /// Adds a row to those of its VM, to the one with the same labels if there is one.
    fn gather(&self, rows: &mut BTreeMap<Labels, Numbers>, unbinned: &mut u64, labels: Labels, row: &Row) {
        if row.of_others {
            return;
        }
        let numbers =
            rows.entry(labels.join(&self.names.row(&row.cells))).or_insert_with(|| vec![None; self.width]);
        let counters = self.names.counters.iter().map(|counter| match row.cells.get(counter.column) {
            Some(Cell::Number(number)) => Some(*number),
            _ => None,
        });
        let mut own: Numbers = counters.collect();
        if let Some(durations) = &row.durations {
            let mut histogram = vec![Some(0); HISTOGRAM];
            let mut count = |at: usize, by: u64| {
                if let Some(Some(number)) = histogram.get_mut(at) {
                    *number += by;
                }
            };
            durations.buckets.iter().for_each(|(bucket, n)| count(bins::bin(*bucket), *n));
            // Longer than nothing is all that is known of them.
            count(bins::BINS - 1, durations.unbinned);
            count(TOTAL, durations.total_ns);
            own.extend(histogram);
            *unbinned += durations.unbinned;
        }
        add(numbers, &own);
    }

    /// Decides which new rows are shown: all, or if there are too many those that count most.
    fn admit(&mut self, vms: &BTreeMap<Labels, BTreeMap<Labels, Numbers>>, before: f64) {
        let shown: usize = self.vms.values().map(|vm| vm.rows.len()).sum();
        let mut candidates = Vec::new();
        for (vm, rows) in vms {
            let of = self.vms.get(vm);
            if of.is_some_and(|of| of.folded.is_some()) {
                continue;
            }
            let new = rows.iter().filter(|(labels, _)| of.is_none_or(|of| !of.rows.contains_key(*labels)));
            candidates.extend(new.map(|(labels, numbers)| (count(numbers), vm, labels)));
        }
        candidates.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
        candidates.truncate(self.most.saturating_sub(shown));
        for (_, vm, labels) in candidates {
            let rows = &mut self.vms.entry(vm.clone()).or_default().rows;
            rows.insert(labels.clone(), Shown::new(self.width, before));
        }
    }

    /// The families with their metrics; `created` tells since when they count.
    pub fn families(&self, created: bool) -> Vec<Family> {
        let mut families = self.names.families.clone();
        let first = self.names.labels.first().map_or("row", |(_, name)| name.as_str());
        let folded_label = Labels::of(first, FOLDED);
        for (vm, of) in &self.vms {
            let folded = of.folded.iter().map(|shown| (&folded_label, shown));
            for (labels, shown) in of.rows.iter().chain(folded) {
                let labels = vm.clone().join(labels);
                let created = created.then_some(shown.created);
                for (counter, number) in self.names.counters.iter().zip(&shown.last) {
                    let (Some(number), Some(family)) = (number, families.get_mut(counter.family)) else {
                        continue;
                    };
                    let value =
                        if counter.is_time { Value::Nanoseconds(*number) } else { Value::Count(*number) };
                    let labels = match counter.label {
                        Some((name, value)) => labels.clone().and(name, value),
                        None => labels.clone(),
                    };
                    family.metrics.push(Metric { labels, value, created });
                }
                let histogram = shown.last.get(self.names.counters.len()..).and_then(durations);
                if let (Some(value), Some(family)) = (histogram, families.last_mut()) {
                    family.metrics.push(Metric { labels, value, created });
                }
            }
        }
        families
    }
}

/// What the histogram's numbers say.
fn durations(numbers: &[Option<u64>]) -> Option<Value> {
    let mut bins = [0; bins::BINS];
    for (bin, number) in bins.iter_mut().zip(numbers) {
        *bin = (*number)?;
    }
    Some(Value::Durations { bins, total_ns: (*numbers.get(TOTAL)?)? })
}

/// What rows are ranked by: events, which is the first column of sums.
fn count(numbers: &Numbers) -> u64 {
    numbers.iter().flatten().next().copied().unwrap_or(0)
}

fn add(sum: &mut Numbers, more: &[Option<u64>]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        if let Some(more) = more {
            *sum = Some(sum.unwrap_or(0).saturating_add(*more));
        }
    }
}

fn vcpu_name(vcpu: &Vcpu) -> String {
    match vcpu.vcpu {
        Some(id) => id.to_string(),
        None if vcpu.others => "other threads".to_owned(),
        None => "unknown".to_owned(),
    }
}
