use kvm_utils::model::History;
use kvm_utils::view::html::page;

use crate::{fixture, run};

/// Writes a page where `KVM_UTILS_PAGES` says, to be looked at.
fn keep(name: &str, page: &str) {
    if let Some(directory) = std::env::var_os("KVM_UTILS_PAGES") {
        std::fs::write(std::path::Path::new(&directory).join(format!("{name}.html")), page).unwrap();
    }
}

fn written(name: &str, histories: &[History]) -> String {
    let page = page(histories).unwrap();
    keep(name, &page);
    page
}

#[test]
fn one_vm_on_one_page() {
    let page = written("one", &run::one_vm());
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

#[test]
fn several() {
    let page = written("several", &run::several_vms());
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
}

#[test]
fn many() {
    let page = written("many", &run::many_vms());
    assert!(page.len() < 6_000_000, "{} bytes", page.len());
}

#[test]
fn hostile() {
    let report = fixture::hostile();
    let history = History { fingerprint: Default::default(), intervals: vec![report.clone()], whole: report };
    written("hostile", &[history]);
}
