//! The BTF files that speak of KVM.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::LayoutError;
use super::btf::Btf;
use super::error::NO_OWN_BTF;

/// Where the running kernel shows its BTF and that of its loaded modules.
pub const SYS_KERNEL_BTF: &str = "/sys/kernel/btf";

/// Contents of the BTF files of vmlinux and of KVM's modules. What is built into the kernel is part of vmlinux and has
/// no file of its own; nor has a module that is not loaded, or one of a kernel without module BTF (before 5.11, or
/// `CONFIG_DEBUG_INFO_BTF_MODULES=n`).
#[derive(Clone, Debug, Default)]
pub struct BtfFiles {
    /// The kernel.
    pub vmlinux: Vec<u8>,
    /// `kvm`.
    pub kvm: Option<Vec<u8>>,
    /// `kvm_intel`.
    pub kvm_intel: Option<Vec<u8>>,
    /// `kvm_amd`.
    pub kvm_amd: Option<Vec<u8>>,
}

impl BtfFiles {
    /// Reads what there is in a directory like [`SYS_KERNEL_BTF`].
    ///
    /// # Errors
    /// [`LayoutError::NoBtf`] without a vmlinux, [`LayoutError::Unreadable`] if a file is there but cannot be read.
    pub fn read(dir: &Path) -> Result<Self, LayoutError> {
        let read = |name: &str| {
            let path = dir.join(name);
            match fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(LayoutError::Unreadable {
                    path: path.display().to_string(),
                    reason: error.to_string(),
                }),
            }
        };
        let no_btf = || LayoutError::NoBtf { path: dir.join("vmlinux").display().to_string() };
        Ok(Self {
            vmlinux: read("vmlinux")?.ok_or_else(no_btf)?,
            kvm: read("kvm")?,
            kvm_intel: read("kvm_intel")?,
            kvm_amd: read("kvm_amd")?,
        })
    }

    /// The kernel's own, parsed.
    pub(super) fn base(&self) -> Result<Btf<'_>, LayoutError> {
        Btf::parse(&self.vmlinux).map_err(|source| LayoutError::Malformed { module: "vmlinux", source })
    }
}

/// One module's BTF over the kernel's, or the kernel's alone where the module has none (it may be built in).
pub(super) struct Module<'a> {
    name: &'static str,
    split: Option<Btf<'a>>,
    base: &'a Btf<'a>,
}

impl<'a> Module<'a> {
    pub(super) fn new(
        name: &'static str,
        base: &'a Btf<'a>,
        bytes: Option<&'a Vec<u8>>,
    ) -> Result<Self, LayoutError> {
        let split = bytes
            .map(|bytes| Btf::split(base, bytes))
            .transpose()
            .map_err(|source| LayoutError::Malformed { module: name, source })?;
        Ok(Self { name, split, base })
    }

    /// Where to look things up: the module first, then the kernel.
    pub(super) fn btf(&self) -> &Btf<'a> {
        self.split.as_ref().unwrap_or(self.base)
    }

    /// What was looked at, for messages.
    pub(super) fn described(&self) -> String {
        let state = if self.split.is_some() { "" } else { NO_OWN_BTF };
        format!("vmlinux and {}{state}", self.name)
    }
}
