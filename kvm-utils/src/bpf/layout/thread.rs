//! What programs need in order to tell on behalf of which vCPU a thread runs, and of what prototype events are.

use super::LayoutError;
use super::files::{BtfFiles, Module};
use super::raw::{argument_sizes, missing, sized};

/// Byte offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadLayout {
    /// `task_struct.preempt_notifiers.first`: KVM registers a notifier with the thread that has loaded a vCPU.
    pub task_notifiers: u32,
    /// `kvm_vcpu.preempt_notifier.link`, to which that points.
    pub vcpu_notifier: u32,
    /// `kvm_vcpu.arch.l1_tsc_offset`, 8 bytes, where the kernel has it: what to add to the host's TSC.
    pub tsc_offset: Option<u32>,
    /// `kvm_vcpu.arch.l1_tsc_scaling_ratio`, 8 bytes, under its newer or older name.
    pub tsc_ratio: Option<u32>,
    /// `msr_data.index` and `msr_data.host_initiated`, what KVM's functions are told of a write.
    pub msr_data: Option<(u32, u32)>,
}

impl ThreadLayout {
    /// Finds it in the BTF of a kernel and of its module `kvm`.
    ///
    /// # Errors
    /// [`LayoutError`] that names the file, struct or member that is missing.
    pub fn find(files: &BtfFiles) -> Result<Self, LayoutError> {
        let base = files.base()?;
        let kvm = Module::new("kvm", &base, files.kvm.as_ref())?;
        let find = |ty: &'static str, member: &'static str| {
            let found = kvm.btf().member_offset(ty, member);
            let found = found.map_err(|source| missing(&kvm, ty, member, source))?;
            Ok(sized(ty, member, found, &[8])?.offset)
        };
        let vcpu = |member| find("kvm_vcpu", member).ok();
        Ok(Self {
            task_notifiers: find("task_struct", "preempt_notifiers.first")?,
            vcpu_notifier: {
                let link = kvm.btf().member_offset("kvm_vcpu", "preempt_notifier.link");
                link.map_err(|source| missing(&kvm, "kvm_vcpu", "preempt_notifier.link", source))?.offset
            },
            msr_data: {
                let member = |member| kvm.btf().member_offset("msr_data", member).ok();
                let index = member("index").filter(|found| found.size == 4);
                let host = member("host_initiated").filter(|found| found.size == 1);
                index.zip(host).map(|(index, host)| (index.offset, host.offset))
            },
            tsc_offset: vcpu("arch.l1_tsc_offset").or_else(|| vcpu("arch.tsc_offset")),
            tsc_ratio: vcpu("arch.l1_tsc_scaling_ratio").or_else(|| vcpu("arch.tsc_scaling_ratio")),
        })
    }
}

/// For each raw tracepoint, whether it has arguments of these sizes in bytes; a pointer has 8. What BTF does not tell of one
/// is a no.
///
/// # Errors
/// [`LayoutError`] if the kernel has no usable BTF.
pub fn have_arguments(files: &BtfFiles, events: &[(&'static str, &[u32])]) -> Result<Vec<bool>, LayoutError> {
    let base = files.base()?;
    let kvm = Module::new("kvm", &base, files.kvm.as_ref())?;
    let has = |event, sizes| argument_sizes(&kvm, event).is_ok_and(|found| found == sizes);
    Ok(events.iter().map(|(event, sizes)| has(*event, *sizes)).collect())
}
