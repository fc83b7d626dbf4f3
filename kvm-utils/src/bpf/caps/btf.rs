//! BTF: where KVM's structures are described, and whether what is needed can be found there.

use std::{fs::File, io, io::Read as _};

use super::{
    item::{Group, Item, Support},
    kvm::Modules,
};
use crate::{
    bpf::layout::{BtfFiles, ExitLayout, LayoutError, files::SYS_KERNEL_BTF},
    host::SysRoot,
};

/// BTF_MAGIC in little endian, include/uapi/linux/btf.h.
const MAGIC: [u8; 2] = [0x9f, 0xeb];

/// What raw tracepoints need to know, or why it cannot be found.
pub(super) struct Layout {
    pub(super) found: Result<(), String>,
    detail: String,
}

impl Layout {
    pub(super) fn find(root: &SysRoot, modules: &Modules) -> Self {
        let layout = BtfFiles::read(&root.path(SYS_KERNEL_BTF)).and_then(|files| ExitLayout::find(&files));
        let layout = match layout {
            Ok(layout) => layout,
            Err(error) => return Self { found: Err(short(&error, modules)), detail: String::new() },
        };
        // A layout for the other vendor's CPUs is of no use.
        let vendor = |name: &str| modules.vendors.iter().any(|module| module.name == name);
        let missing = [("kvm_intel", &layout.vmx), ("kvm_amd", &layout.svm)]
            .into_iter()
            .filter(|(name, _)| vendor(name))
            .find_map(|(name, found)| {
                found.as_ref().err().map(|error| format!("{name}: {}", short(error, modules)))
            });
        match (missing, layout.entry_vcpu) {
            (Some(why), _) => Self { found: Err(why), detail: String::new() },
            (None, None) => Self {
                found: Err("the arguments of kvm_entry are not known".to_owned()),
                detail: String::new(),
            },
            (None, Some(_)) => Self {
                found: Ok(()),
                detail: format!(
                    "kvm_exit(vcpu at {}, isa at {}){}",
                    layout.exit.vcpu,
                    layout.exit.isa,
                    layout.exit.reason.map_or_else(String::new, |at| format!(", reason at {at}")),
                ),
            },
        }
    }
}

/// Without advice: there is one advice for all.
fn short(error: &LayoutError, modules: &Modules) -> String {
    if let LayoutError::NoVendor { .. } = error
        && let [other] = modules.vendors.as_slice()
        && !["kvm_intel", "kvm_amd"].contains(&other.name.as_str())
    {
        return format!("where {} keeps the exit reason is not known", other.name);
    }
    error.brief()
}

/// What helps where BTF is missing.
const OTHER_KERNEL: &str = "a kernel with CONFIG_DEBUG_INFO_BTF_MODULES (from 5.11) makes tracing cheaper";

pub(super) fn items(root: &SysRoot, modules: &Modules, layout: &Layout) -> Vec<Item> {
    let mut items = vec![file(root, "btf_vmlinux", "BTF of vmlinux", "vmlinux", false)];
    if let Some(kvm) = &modules.kvm {
        items.push(file(root, "btf_kvm", "BTF of kvm", "kvm", kvm.built_in));
    }
    for (id, title, name) in
        [("btf_kvm_intel", "BTF of kvm_intel", "kvm_intel"), ("btf_kvm_amd", "BTF of kvm_amd", "kvm_amd")]
    {
        if let Some(module) = modules.vendors.iter().find(|module| module.name == name) {
            items.push(file(root, id, title, name, module.built_in));
        }
    }
    let support = match &layout.found {
        Ok(()) => Support::Full,
        Err(_) if modules.kvm.is_none() || modules.vendors.is_empty() => Support::unknown(
            "known only once KVM and its vendor module are loaded",
            "load KVM (see vendor module)",
        ),
        Err(why) => Support::degraded(format!("only classic tracepoints can be used: {why}"), OTHER_KERNEL),
    };
    items.push(Item::new(Group::Layout, "exit_layout", "layout of exits", support, layout.detail.clone()));
    items
}

fn file(root: &SysRoot, id: &'static str, title: &'static str, name: &str, built_in: bool) -> Item {
    let item = |support, detail: String| Item::new(Group::Layout, id, title, support, detail);
    let shown = format!("{SYS_KERNEL_BTF}/{name}");
    let path = root.path(&shown);
    let mut magic = [0; 2];
    match File::open(&path).and_then(|mut file| {
        file.read_exact(&mut magic)?;
        Ok(file.metadata()?.len())
    }) {
        Ok(bytes) if magic == MAGIC => item(Support::Full, format!("{} KiB", bytes.div_ceil(1024))),
        Ok(_) => item(
            Support::degraded(format!("{shown} is no BTF of this machine's byte order"), ""),
            String::new(),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound && built_in => {
            item(Support::unneeded("built in: part of vmlinux"), String::new())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let option = if name == "vmlinux" {
                "CONFIG_DEBUG_INFO_BTF"
            } else {
                "CONFIG_DEBUG_INFO_BTF_MODULES, from 5.11"
            };
            item(Support::degraded(format!("this kernel has none ({option})"), ""), String::new())
        }
        Err(error) => {
            item(Support::degraded(format!("cannot read {shown}: {error}"), "run as root"), String::new())
        }
    }
}
