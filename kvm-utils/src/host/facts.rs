//! Facts about the machine that may make two runs differ.

use std::{collections::BTreeMap, fs};

use super::{HostInfo, SysRoot, info::vendor_isa};

/// Modules whose parameters change what exits there are, and what they take.
const MODULES: [&str; 3] = ["kvm", "kvm_intel", "kvm_amd"];

/// Facts by name: `kernel`, `cpu`, `cpus`, `isa`, and each parameter of KVM's modules, such as `kvm.halt_poll_ns`.
#[must_use]
pub fn gather(root: &SysRoot) -> BTreeMap<String, String> {
    let info = HostInfo::gather(root);
    let isa = vendor_isa(root).map_or_else(|| "unknown".to_owned(), |isa| isa.to_string());
    let mut facts = BTreeMap::from([
        ("kernel".to_owned(), info.kernel),
        ("cpu".to_owned(), info.cpu),
        ("cpus".to_owned(), info.cpus_online.to_string()),
        ("isa".to_owned(), isa),
    ]);
    for module in MODULES {
        let directory = root.path(format!("/sys/module/{module}/parameters"));
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            // Some may be read by root only, some not at all.
            let Ok(value) = fs::read_to_string(entry.path()) else { continue };
            facts
                .insert(format!("{module}.{}", entry.file_name().to_string_lossy()), value.trim().to_owned());
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_kvm_are_facts() {
        let dir = tempfile::tempdir().unwrap();
        let parameters = dir.path().join("sys/module/kvm/parameters");
        fs::create_dir_all(&parameters).unwrap();
        fs::write(parameters.join("halt_poll_ns"), "200000\n").unwrap();
        let facts = gather(&SysRoot::at(dir.path()));
        assert_eq!(facts["kvm.halt_poll_ns"], "200000");
        assert_eq!(facts["isa"], "unknown");
        assert!(facts.contains_key("kernel"));
    }
}
