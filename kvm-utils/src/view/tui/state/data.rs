//! What is known: the newest report of each drill-down, and the values before.

use std::collections::BTreeMap;

use super::{
    ident::{Scope, VcpuKey, VmKey, row_key},
    series::{Series, SeriesKey},
};
use crate::model::{Cell, Column, Report, Row, Vcpu, Vm};

/// The noun whose rows are the reasons.
pub const EXITS: &str = "exits";
/// The noun of the ledger.
pub const TIME: &str = "time";

/// Reports and what is kept of those before.
#[derive(Clone, Debug, Default)]
pub struct Data {
    reports: BTreeMap<&'static str, Report>,
    series: Series,
}

impl Data {
    /// Takes the reports of one interval, one per drill-down; those before are replaced.
    pub fn absorb(&mut self, reports: Vec<Report>) {
        self.reports = reports.into_iter().map(|report| (report.noun, report)).collect();
        for report in self.reports.values() {
            for vm in &report.vms {
                remember(&mut self.series, report, vm);
            }
        }
        self.series.close();
    }

    /// The newest report of a drill-down.
    #[must_use]
    pub fn report(&self, noun: &str) -> Option<&Report> {
        self.reports.get(noun)
    }

    /// All newest reports, `exits` first.
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        let others = self.reports.values().filter(|report| report.noun != EXITS);
        self.report(EXITS).into_iter().chain(others)
    }

    /// What is kept of earlier intervals.
    #[must_use]
    pub const fn series(&self) -> &Series {
        &self.series
    }

    /// A VM, in the report that knows its exits, else in any.
    #[must_use]
    pub fn vm(&self, key: VmKey) -> Option<&Vm> {
        self.reports().find_map(|report| key.find(report))
    }

    /// The rows of a VM or one of its vCPUs in a drill-down's report, each with whose it is; of a VM those of each vCPU
    /// and of all, where a vCPU has one row.
    pub fn rows(&self, noun: &str, vm: VmKey, scope: Scope) -> impl Iterator<Item = (Scope, &Row)> {
        let report = self.report(noun);
        let found = report.and_then(|report| Some((report.one_row, vm.find(report)?)));
        let (each, sum): (&[Vcpu], &[Row]) = match (found, scope) {
            (None, _) => (&[], &[]),
            (Some((one_row, vm)), Scope::All) => {
                let each = if one_row { vm.vcpus.as_slice() } else { &[] };
                (each, if each.len() == 1 { &[] } else { &vm.rows })
            }
            (Some((_, vm)), Scope::Vcpu(vcpu)) => {
                (same_vcpu(vcpu, vm).map_or(&[], std::slice::from_ref), &[])
            }
        };
        let of = |vcpu: &Vcpu| Scope::Vcpu(VcpuKey::of(vcpu));
        let each = each.iter().flat_map(move |vcpu| vcpu.rows.iter().map(move |row| (of(vcpu), row)));
        each.chain(sum.iter().map(|row| (Scope::All, row)))
    }

    /// Shares of all time, in the ledger's order, of a VM or a vCPU.
    #[must_use]
    pub fn ledger(&self, vm: VmKey, scope: Scope) -> Option<Ledger> {
        let report = self.report(TIME)?;
        let vm = vm.find(report)?;
        let rows = match scope {
            Scope::All => &vm.rows,
            Scope::Vcpu(vcpu) => &same_vcpu(vcpu, vm)?.rows,
        };
        Ledger::of(report.columns, rows.first()?)
    }

    /// What the programs themselves took of one CPU, as far as it is known.
    #[must_use]
    pub fn own_cost(&self) -> Option<f64> {
        let known = self.reports.values().filter_map(|report| report.proof.own_cost);
        known.reduce(|sum, share| sum + share)
    }
}

/// The same vCPU in another drill-down's report: by thread and id, else by its id, if there is one of it.
#[must_use]
pub fn same_vcpu(key: VcpuKey, vm: &Vm) -> Option<&Vcpu> {
    key.find(vm).or_else(|| {
        let mut same = vm.vcpus.iter().filter(|vcpu| (vcpu.others, vcpu.vcpu) == (key.others, key.id));
        let only = same.next();
        if same.next().is_none() { only } else { None }
    })
}

fn remember(series: &mut Series, report: &Report, vm: &Vm) {
    let seconds = report.interval.as_secs_f64();
    let key = VmKey::of(vm);
    let of_exits = report.noun == EXITS;
    if of_exits {
        let all = SeriesKey { vm: key, scope: Scope::All, row: None };
        series.push(all, vm.events as f64 / seconds);
    }
    rows(series, report, key, Scope::All, &vm.rows);
    for vcpu in &vm.vcpus {
        let scope = Scope::Vcpu(VcpuKey::of(vcpu));
        if of_exits {
            series.push(SeriesKey { vm: key, scope, row: None }, vcpu.events as f64 / seconds);
        }
        rows(series, report, key, scope, &vcpu.rows);
    }
}

fn rows(series: &mut Series, report: &Report, vm: VmKey, scope: Scope, rows: &[Row]) {
    let Some(rate) = report.columns.iter().position(|column| column.id == "rate") else { return };
    for row in rows {
        if let Some(value) = row.cells.get(rate).and_then(Cell::number) {
            let row = Some((report.noun, row_key(report.columns, row)));
            series.push(SeriesKey { vm, scope, row }, value);
        }
    }
}

/// Where the time of a vCPU, or of several, went: shares that add up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ledger(pub [f64; 7]);

/// The ledger's buckets: the column with its share, the letter that stands for it, its name.
pub const BUCKETS: [(&str, char, &str); 7] = [
    ("guest_share", 'G', "guest"),
    ("kvm_share", 'K', "KVM"),
    ("vmm_share", 'V', "VMM"),
    ("poll_share", 'P', "poll"),
    ("idle_share", 'I', "idle"),
    ("steal_share", 'S', "steal"),
    ("other_share", 'O', "other"),
];

impl Ledger {
    /// From a row under the ledger's columns.
    #[must_use]
    pub fn of(columns: &[Column], row: &Row) -> Option<Self> {
        let mut shares = [0.0; 7];
        for (share, (id, ..)) in shares.iter_mut().zip(BUCKETS) {
            let column = columns.iter().position(|column| column.id == id)?;
            *share = row.cells.get(column)?.number().filter(|share| share.is_finite() && *share >= 0.0)?;
        }
        Some(Self(shares))
    }

    /// How many of `width` places each bucket takes: all of them together, by the largest remainders.
    #[must_use]
    pub fn places(&self, width: usize) -> [usize; 7] {
        let sum: f64 = self.0.iter().sum();
        if !(sum.is_finite() && sum > 0.0) {
            return [0; 7];
        }
        let exact = self.0.map(|share| share / sum * width as f64);
        let mut places = exact.map(|places| places as usize);
        let mut order = [0, 1, 2, 3, 4, 5, 6];
        order.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()));
        let left = width.saturating_sub(places.iter().sum());
        for bucket in order.into_iter().cycle().take(left) {
            places[bucket] += 1;
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_are_given_to_the_largest_remainders() {
        let ledger = Ledger([0.5, 0.25, 0.0, 0.0, 0.25, 0.0, 0.0]);
        assert_eq!(ledger.places(4), [2, 1, 0, 0, 1, 0, 0]);
        assert_eq!(ledger.places(3), [1, 1, 0, 0, 1, 0, 0]);
        assert_eq!(Ledger([0.0; 7]).places(10), [0; 7]);
    }

    proptest! {
        #[test]
        fn a_bar_is_as_wide_as_it_is_to_be(shares in prop::array::uniform7(0.0f64..1.0), width in 0usize..200) {
            let places = Ledger(shares).places(width);
            let sum: f64 = shares.iter().sum();
            prop_assert_eq!(places.iter().sum::<usize>(), if sum > 0.0 { width } else { 0 });
            for (places, share) in places.iter().zip(shares) {
                let exact = share / sum * width as f64;
                prop_assert!((*places as f64 - exact).abs() < 1.0 + 1e-9, "{places} for {exact}");
            }
        }
    }
}
