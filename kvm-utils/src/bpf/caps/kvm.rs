//! KVM: its device, its modules and their parameters.

use std::{fs, io};

use super::{
    answers::describe,
    item::{Group, Item, Support},
    syscalls,
};
use crate::host::SysRoot;

/// One of KVM's modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) name: String,
    /// Part of the kernel image, not loaded.
    pub(super) built_in: bool,
}

/// KVM's modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Modules {
    /// The common part.
    pub(super) kvm: Option<Module>,
    /// kvm_intel, kvm_amd, or one unknown here; more than one only where they are built in.
    pub(super) vendors: Vec<Module>,
    /// /sys/module could be looked at.
    listed: bool,
}

impl Modules {
    /// Looks into /sys/module. A built-in module has a directory there if it has parameters, as all of KVM's have; only
    /// a loaded one has a file `initstate` (kernel/module/sysfs.c).
    pub(super) fn find(root: &SysRoot) -> Self {
        let mut modules = Self::default();
        let Ok(directory) = fs::read_dir(root.path("/sys/module")) else { return modules };
        modules.listed = true;
        for entry in directory.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let built_in = !entry.path().join("initstate").exists();
            if name == "kvm" {
                modules.kvm = Some(Module { name, built_in });
            } else if name.starts_with("kvm_") {
                modules.vendors.push(Module { name, built_in });
            }
        }
        modules.vendors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        modules
    }
}

/// Parameters that change which exits there are, or how long they take.
const PARAMETERS: [(&str, &[&str]); 3] = [
    (
        "kvm_intel",
        &["ept", "nested", "enable_apicv", "enable_ipiv", "preemption_timer", "enable_mediated_pmu"],
    ),
    ("kvm_amd", &["npt", "nested", "avic", "enable_ipiv", "enable_mediated_pmu"]),
    ("kvm", &["halt_poll_ns"]),
];

pub(super) fn items(root: &SysRoot, modules: &Modules) -> Vec<Item> {
    vec![device(root), common(modules), vendor(root, modules), parameters(root, modules)]
}

fn device(root: &SysRoot) -> Item {
    let path = root.path("/dev/kvm");
    let selftest = "selftest cannot run; VMs of others can still be traced";
    let (support, detail) = match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(device) => match syscalls::kvm_api_version(&device) {
            Ok(12) => (Support::Full, "API version 12".to_owned()),
            Ok(version) => (
                Support::degraded(
                    format!("API version {version} is not the 12 known here; {selftest}"),
                    "use a newer kvm-utils",
                ),
                String::new(),
            ),
            Err(errno) => (
                Support::degraded(
                    format!("it does not answer as KVM ({}); {selftest}", describe(errno)),
                    "make the device again: rm /dev/kvm, then reload the kvm module",
                ),
                String::new(),
            ),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => (
            Support::degraded(
                format!("there is none; {selftest}"),
                "load KVM (see below), or pass the device into this container",
            ),
            String::new(),
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => (
            Support::degraded(
                format!("not allowed to open it; {selftest}"),
                "run as root, or join its group: usermod -aG kvm USER",
            ),
            String::new(),
        ),
        Err(error) => (
            Support::degraded(
                format!("cannot be opened ({error}); {selftest}"),
                "load KVM's vendor module (see below)",
            ),
            String::new(),
        ),
    };
    Item::new(Group::Kvm, "kvm_device", "/dev/kvm", support, detail)
}

fn common(modules: &Modules) -> Item {
    let support = match modules.kvm {
        Some(_) => Support::Full,
        None if !modules.listed => not_listed(),
        None => Support::no("KVM is not loaded, so there is nothing to trace", "see vendor module"),
    };
    let detail = modules.kvm.as_ref().map_or("", how);
    Item::new(Group::Kvm, "kvm_module", "kvm", support, detail)
}

pub(super) fn vendor(root: &SysRoot, modules: &Modules) -> Item {
    let found: Vec<String> =
        modules.vendors.iter().map(|module| format!("{}, {}", module.name, how(module))).collect();
    let known = |module: &Module| ["kvm_intel", "kvm_amd"].contains(&module.name.as_str());
    let support = if modules.vendors.iter().any(known) {
        Support::Full
    } else if let Some(other) = modules.vendors.first() {
        Support::degraded(
            format!(
                "{} is not part of Linux: its exits may have unknown reasons, or not be traced at all",
                other.name
            ),
            "run kvm-utils selftest",
        )
    } else if !modules.listed {
        not_listed()
    } else {
        let (why, remedy) = no_vendor(root);
        Support::no(why, remedy)
    };
    Item::new(Group::Kvm, "vendor_module", "vendor module", support, found.join("; "))
}

fn not_listed() -> Support {
    Support::unknown("/sys/module cannot be looked at", "mount -t sysfs sysfs /sys")
}

fn how(module: &Module) -> &'static str {
    if module.built_in { "built into the kernel" } else { "loaded" }
}

/// Why there is no vendor module, judged by the CPU's flags.
fn no_vendor(root: &SysRoot) -> (&'static str, &'static str) {
    let cpuinfo = fs::read_to_string(root.path("/proc/cpuinfo")).unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag| flags.split_ascii_whitespace().any(|word| word == flag);
    match (has("vmx"), has("svm")) {
        (true, _) => {
            ("kvm_intel is not loaded", "modprobe kvm_intel; if that fails, enable VT-x in the firmware")
        }
        (_, true) => ("kvm_amd is not loaded", "modprobe kvm_amd; if that fails, enable SVM in the firmware"),
        _ => (
            "this CPU offers no virtualization (neither vmx nor svm among its flags)",
            "enable it in the firmware; in a VM, have its host enable nested virtualization",
        ),
    }
}

fn parameters(root: &SysRoot, modules: &Modules) -> Item {
    let present = |name: &str| modules.kvm.iter().chain(&modules.vendors).any(|module| module.name == name);
    let values: Vec<String> = PARAMETERS
        .iter()
        .filter(|(module, _)| present(module))
        .flat_map(|(module, names)| names.iter().map(move |name| (module, name)))
        .filter_map(|(module, name)| {
            let value = root.text(format!("/sys/module/{module}/parameters/{name}")).ok()?;
            Some(format!("{name}={value}"))
        })
        .collect();
    let support = if values.is_empty() { Support::unneeded("none to be seen") } else { Support::Full };
    Item::new(Group::Kvm, "parameters", "parameters", support, values.join(" "))
}
