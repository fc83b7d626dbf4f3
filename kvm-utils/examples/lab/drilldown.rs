//! What a drill-down reports, read from its JSON.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The summary of a drill-down.
pub struct Summary(Value);

impl Summary {
    /// Reads it, and sees that parts make up wholes and that nothing speaks against the counts.
    pub fn parse(line: &str) -> Result<Self> {
        let summary = Self::parse_skipped(line)?;
        ensure!(summary.0["proof"]["verdict"] != "doubtful", "{line}");
        ensure!(summary.0["proof"]["missed"].as_u64().unwrap_or(0) == 0, "{line}");
        Ok(summary)
    }

    /// The same, but the kernel may have skipped runs of the programs.
    pub fn parse_skipped(line: &str) -> Result<Self> {
        let summary = Self(serde_json::from_str(line).with_context(|| format!("cannot read {line}"))?);
        ensure!(summary.0["summary"] == true, "no summary: {line}");
        summary.ensure_consistent()?;
        Ok(summary)
    }

    /// All events.
    pub fn count(&self) -> u64 {
        self.0["count"].as_u64().unwrap_or(u64::MAX)
    }

    /// Any part of the document.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Rows over all VMs.
    pub fn totals(&self) -> Vec<&Value> {
        self.0["totals"].as_array().into_iter().flatten().collect()
    }

    /// The VM of a process; there must be exactly one.
    pub fn vm_of(&self, pid: u32) -> Result<&Value> {
        let vms: Vec<&Value> =
            self.0["vms"].as_array().into_iter().flatten().filter(|vm| vm["pid"] == pid).collect();
        ensure!(vms.len() == 1, "{} VMs of process {pid}: {}", vms.len(), self.0);
        Ok(vms[0])
    }

    /// Sum of `column` over the rows of `totals` in which each of `keys` has the value given.
    pub fn sum(&self, column: &str, keys: &[(&str, Value)]) -> u64 {
        sum(self.totals(), column, keys)
    }

    fn noun(&self) -> &str {
        self.0["schema"].as_str().and_then(|schema| schema.split('/').nth(1)).unwrap_or_default()
    }

    fn ensure_consistent(&self) -> Result<()> {
        let proof = &self.0["proof"];
        ensure!(proof["rows_full"] == 0, "{proof}");
        ensure!(proof["counted"] == self.0["count"], "{proof}, count {}", self.0["count"]);
        let mut in_vms = 0;
        for vm in self.0["vms"].as_array().context("no vms")? {
            let count = vm["count"].as_u64().context("no count")?;
            let vcpus = vm["vcpus"].as_array().context("no vcpus")?;
            let in_vcpus: u64 = vcpus.iter().filter_map(|vcpu| vcpu["count"].as_u64()).sum();
            ensure!(in_vcpus == count, "vCPUs have {in_vcpus} of {count} events: {vm}");
            for vcpu in vcpus {
                ensure!(vcpu[self.noun()].is_array(), "no rows under {:?}: {vcpu}", self.noun());
            }
            in_vms += count;
        }
        ensure!(in_vms == self.count(), "VMs have {in_vms} of {} events", self.count());
        Ok(())
    }
}

/// Sum of `column` over the rows in which each of `keys` has the value given.
pub fn sum<'a>(rows: impl IntoIterator<Item = &'a Value>, column: &str, keys: &[(&str, Value)]) -> u64 {
    let wanted = |row: &&Value| keys.iter().all(|(key, value)| row[*key] == *value);
    rows.into_iter().filter(wanted).filter_map(|row| row[column].as_u64()).sum()
}
