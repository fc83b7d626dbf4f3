//! Pages as files.

use std::path::PathBuf;
use std::sync::OnceLock;

use kvm_utils::model::{Cell, Fingerprint, History, KvmStat, Report, Row};
use kvm_utils::view::html;

use super::{fixture, run};

/// A directory of pages.
pub struct Pages(tempfile::TempDir);

impl Pages {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// Writes the page of these histories.
    pub fn write(&self, name: &str, histories: &[History]) -> PathBuf {
        let file = self.0.path().join(format!("{name}.html"));
        std::fs::write(&file, html::page(histories).expect("a page")).expect("a file");
        file
    }
}

/// One VM, three minutes.
pub fn one() -> &'static [History] {
    static RUN: OnceLock<Vec<History>> = OnceLock::new();
    RUN.get_or_init(run::one_vm)
}

/// A few VMs.
pub fn several() -> &'static [History] {
    static RUN: OnceLock<Vec<History>> = OnceLock::new();
    RUN.get_or_init(run::several_vms)
}

/// More VMs than have pictures.
pub fn many() -> &'static [History] {
    static RUN: OnceLock<Vec<History>> = OnceLock::new();
    RUN.get_or_init(run::many_vms)
}

/// A report as the only interval of a run.
pub fn alone(report: Report) -> Vec<History> {
    let whole = Report { summary: true, ..report.clone() };
    vec![History { fingerprint: Fingerprint::default(), intervals: vec![report], whole }]
}

/// Everything that can be doubted is.
pub fn doubtful() -> Vec<History> {
    let mut histories = one().to_vec();
    histories[0].whole.proof = fixture::doubtful().proof;
    histories[0].intervals[90].proof.missed = Some(17);
    histories[1].whole.proof.rows_full = 3;
    histories[2].whole.proof.kvm_stat = KvmStat::Unknown("debugfs is not mounted".to_owned());
    histories
}

/// What would run if it were taken for markup, a script or a style.
pub const HOSTILE: &str = "</script></style></title>\"'><script>owned=1</script><img src=x onerror=owned=1>\
                           <svg onload=owned=1>${owned=1}<!--javascript:owned=1//\\u003c/script\\u003e";

/// The same in every text that comes from a host or a guest.
pub fn hostile() -> Vec<History> {
    let mut histories = several().to_vec();
    let text = |at: &str| format!("{at} {HOSTILE}");
    for history in &mut histories {
        history.fingerprint.facts.insert(text("fact"), text("value"));
        let rows = |rows: &mut Vec<Row>| {
            for (i, row) in rows.iter_mut().enumerate() {
                row.detail = Some(text("detail"));
                for cell in &mut row.cells {
                    match cell {
                        Cell::Text(name) => *name = text(&format!("{name} {i}")),
                        Cell::List(flags) => flags.push(text("flag")),
                        _ => {}
                    }
                }
            }
        };
        for report in history.intervals.iter_mut().chain([&mut history.whole]) {
            report.host.kernel = text("kernel");
            report.host.cpu = text("cpu");
            report.host.isa = text("isa");
            report.hints = vec![text("hint")];
            report.notes = vec![text("note")];
            report.proof.kvm_stat = KvmStat::Unknown(text("why"));
            rows(&mut report.totals);
            for vm in &mut report.vms {
                vm.name = text(&vm.name);
                vm.vmm = text("vmm");
                vm.id = Some(text("id"));
                vm.uuid = Some(text("uuid"));
                vm.within = fixture::in_a_pod().vms[0].within.clone();
                vm.within[0].name = text("pod");
                rows(&mut vm.rows);
                vm.vcpus.iter_mut().for_each(|vcpu| rows(&mut vcpu.rows));
            }
        }
    }
    histories
}
