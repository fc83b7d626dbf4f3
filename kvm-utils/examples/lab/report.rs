//! What the tracer reports, read from its JSON, and what must hold within every report.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use kvm_utils::selftest::Host;
use kvm_utils::selftest::expect::Expected;
use serde::Deserialize;

use crate::check;
use crate::reference::Counts;

/// One document of `kvm-utils exits -o json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    pub schema: String,
    pub summary: bool,
    pub count: u64,
    pub proof: Proof,
    pub vms: Vec<Vm>,
    pub totals: Vec<Row>,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Proof {
    pub counted: u64,
    pub kvm_stat: Option<u64>,
    pub kvm_stat_unknown: Option<String>,
    pub missed: Option<u64>,
    pub unpaired: u64,
    pub in_progress: u64,
    pub vcpus_full: u64,
    pub histograms_full: u64,
    pub unreadable: u64,
    pub verdict: String,
    pub doubts: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Vm {
    pub pid: u32,
    pub name: String,
    pub vmm: String,
    pub uuid: Option<String>,
    pub id: Option<String>,
    pub within: Vec<Place>,
    pub ended: bool,
    pub count: u64,
    pub vcpus: Vec<Vcpu>,
    pub totals: Vec<Row>,
}

/// What a VM's process runs in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Place {
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Vcpu {
    pub vcpu: Option<u32>,
    pub tid: u32,
    pub count: u64,
    pub exits: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    pub reason: String,
    /// Without flags; none if it could not be read.
    pub code: Option<u32>,
    pub count: u64,
    pub total_ns: u64,
    pub min_ns: Option<u64>,
    pub mean_ns: Option<u64>,
    pub p50_ns: Option<u64>,
    pub p90_ns: Option<u64>,
    pub p99_ns: Option<u64>,
    pub max_ns: Option<u64>,
    pub waiting: bool,
}

/// Exits by reason. What has no code counts as one that no guest can make.
pub fn counts<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeMap<u32, u64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.code.unwrap_or(u32::MAX)).or_default() += row.count;
    }
    counts.retain(|_, count| *count > 0);
    counts
}

impl Vm {
    /// The vCPU that ran on this thread when it was first seen.
    pub fn on_thread(&self, tid: i32) -> Option<&Vcpu> {
        self.vcpus.iter().find(|vcpu| u32::try_from(tid) == Ok(vcpu.tid))
    }
}

impl Report {
    /// The VM of a process; there must be exactly one.
    pub fn vm_of(&self, pid: u32) -> Result<&Vm> {
        let mut found = self.vms.iter().filter(|vm| vm.pid == pid);
        match (found.next(), found.next()) {
            (Some(vm), None) => Ok(vm),
            _ => anyhow::bail!("expected one VM of process {pid}, got {:?}", self.names()),
        }
    }

    /// Pid, name and exits of each VM.
    pub fn names(&self) -> Vec<(u32, &str, u64)> {
        self.vms.iter().map(|vm| (vm.pid, vm.name.as_str(), vm.count)).collect()
    }

    /// Every exit that the kernel counted, no more, and by the same reasons.
    pub fn ensure_equals(&self, reference: &Counts) -> Result<()> {
        let ours = counts(&self.totals);
        eprintln!("  counted {} = {} per kernel, {:?}", self.count, reference.total, self.proof);
        ensure!(
            ours == reference.reasons && self.count == reference.total,
            "counted {} {ours:?}, the kernel {} {:?}",
            self.count,
            reference.total,
            reference.reasons
        );
        Ok(())
    }

    /// Nothing in the proof speaks against the counts, and nothing was left without a duration.
    pub fn ensure_undoubted(&self) -> Result<()> {
        let proof = &self.proof;
        ensure!(proof.verdict == "proven" || proof.verdict == "unchecked", "{proof:?}");
        ensure!(
            proof.missed.unwrap_or(0) == 0 && proof.vcpus_full == 0 && proof.unreadable == 0,
            "{proof:?}"
        );
        ensure!(proof.histograms_full == 0 && proof.doubts.is_empty(), "{proof:?}");
        Ok(())
    }

    /// KVM's own statistic was there, and agrees.
    pub fn ensure_proven(&self) -> Result<()> {
        self.ensure_undoubted()?;
        let proof = &self.proof;
        ensure!(proof.verdict == "proven" && proof.kvm_stat == Some(proof.counted), "{proof:?}");
        ensure!(proof.kvm_stat_unknown.is_none(), "{proof:?}");
        Ok(())
    }

    /// Parts make up the whole, and durations are possible. For summaries.
    pub fn ensure_consistent(&self) -> Result<()> {
        ensure!(self.schema == "kvm-utils/exits/v1" && self.summary, "no summary: {}", self.schema);
        let mut all = BTreeMap::new();
        let (mut in_vms, mut vcpus) = (0, 0);
        for vm in &self.vms {
            let mut of_vm = BTreeMap::new();
            for vcpu in &vm.vcpus {
                let rows = counts(&vcpu.exits);
                ensure!(rows.values().sum::<u64>() == vcpu.count, "rows and count of {vcpu:?} differ");
                add(&mut of_vm, rows);
            }
            ensure!(of_vm == counts(&vm.totals), "vCPUs and VM differ: {of_vm:?}, {:?}", vm.totals);
            ensure!(of_vm.values().sum::<u64>() == vm.count, "rows and count of VM {} differ", vm.pid);
            add(&mut all, of_vm);
            in_vms += vm.count;
            vcpus += vm.vcpus.len() as u64;
        }
        let totals = counts(&self.totals);
        let total = totals.values().sum::<u64>();
        ensure!(total == self.count && total == self.proof.counted, "totals are {total}, not {}", self.count);
        ensure!(total == in_vms + self.proof.vcpus_full, "VMs have {in_vms} of {total} exits");
        ensure!(self.proof.vcpus_full > 0 || all == totals, "VMs and totals differ: {all:?}, {totals:?}");

        // An exit that was the vCPU's last has no end, one that came twice has none either.
        let untimed = self.proof.unpaired + vcpus + self.proof.vcpus_full;
        let rows = self.vms.iter().flat_map(|vm| vm.vcpus.iter().flat_map(|vcpu| &vcpu.exits));
        let rows = rows.chain(self.vms.iter().flat_map(|vm| &vm.totals)).chain(&self.totals);
        for row in rows {
            ensure_possible(row, untimed)?;
        }
        Ok(())
    }
}

fn add(sum: &mut BTreeMap<u32, u64>, more: BTreeMap<u32, u64>) {
    for (code, count) in more {
        *sum.entry(code).or_default() += count;
    }
}

fn ensure_possible(row: &Row, untimed: u64) -> Result<()> {
    let Some(mean) = row.mean_ns else {
        ensure!(row.total_ns == 0 && row.count <= untimed, "no durations in {row:?}");
        return Ok(());
    };
    let order = [Some(0), row.min_ns, row.p50_ns, row.p90_ns, row.p99_ns, row.max_ns];
    ensure!(order.iter().all(Option::is_some) && order.is_sorted(), "out of order: {row:?}");
    ensure!(row.min_ns <= Some(mean) && Some(mean) <= row.max_ns, "impossible mean: {row:?}");
    // The mean is rounded down.
    let least = row.count.saturating_sub(untimed).saturating_mul(mean);
    let most = row.count.saturating_mul(mean + 1);
    ensure!((least..=most).contains(&row.total_ns), "mean and total do not go together: {row:?}");
    Ok(())
}

/// Compares rows with what guests must have caused.
pub fn ensure_expected(name: &str, host: &Host, expected: &[Expected], rows: &[Row]) -> Result<()> {
    let reasons = counts(rows);
    let counts = Counts { total: reasons.values().sum(), reasons, ..Counts::default() };
    ensure!(
        check::compare(name, host.isa, expected, &counts),
        "{name}: {expected:?} expected, got {counts:?}"
    );
    Ok(())
}
