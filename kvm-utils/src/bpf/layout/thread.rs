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
    /// `kvm_vcpu.arch.mp_state`, 4 bytes.
    pub mp_state: Option<u32>,
    /// `kvm_vcpu.stat.generic.halt_poll_success_ns`, 8 bytes, where the kernel has it.
    pub poll_success: Option<u32>,
    /// `kvm_vcpu.stat.generic.halt_poll_fail_ns`, 8 bytes.
    pub poll_fail: Option<u32>,
    /// `kvm_vcpu.stat.generic.halt_attempted_poll`, 8 bytes.
    pub poll_attempted: Option<u32>,
    /// `kvm_vcpu.stat.generic.halt_successful_poll`, 8 bytes.
    pub poll_successful: Option<u32>,
    /// `kvm_vcpu.halt_poll_ns`, 4 bytes.
    pub poll_window: Option<u32>,
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
        let vcpu_u32 = |member| {
            let found = kvm.btf().member_offset("kvm_vcpu", member).ok();
            found.filter(|member| member.size == 4).map(|member| member.offset)
        };
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
            mp_state: vcpu_u32("arch.mp_state"),
            poll_success: vcpu("stat.generic.halt_poll_success_ns"),
            poll_fail: vcpu("stat.generic.halt_poll_fail_ns"),
            poll_attempted: vcpu("stat.generic.halt_attempted_poll"),
            poll_successful: vcpu("stat.generic.halt_successful_poll"),
            poll_window: vcpu_u32("halt_poll_ns"),
            tsc_ratio: vcpu("arch.l1_tsc_scaling_ratio").or_else(|| vcpu("arch.tsc_scaling_ratio")),
        })
    }
}

/// Whether programs on raw tracepoints may be preempted: from 7.0 on tracepoints are protected by SRCU instead of disabled
/// preemption (kernel/tracepoint.c). Another task that runs the same program on the same CPU then finds it busy, and
/// the kernel leaves its event out.
///
/// # Errors
/// [`LayoutError`] if the kernel has no BTF.
pub fn may_be_preempted(files: &BtfFiles) -> Result<bool, LayoutError> {
    Ok(files.base()?.member_offset("tp_transition_snapshot", "srcu_gp").is_ok())
}

/// What the program on the raw tracepoint `sched_switch` must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchLayout {
    /// The state of the thread that loses the CPU is an argument.
    StatePassed,
    /// It is in `task_struct.state`, at this byte.
    StateAt(u32),
}

impl SwitchLayout {
    /// Finds it in the kernel's BTF.
    ///
    /// # Errors
    /// [`LayoutError`] if the prototype is of no known form, or the member is missing.
    pub fn find(files: &BtfFiles) -> Result<Self, LayoutError> {
        const EVENT: &str = "sched_switch";
        let base = files.base()?;
        let kernel = Module::new("vmlinux", &base, None)?;
        match argument_sizes(&kernel, EVENT)?[..] {
            [1, 8, 8, 4] => Ok(Self::StatePassed),
            [1, 8, 8] => {
                let found = base.member_offset("task_struct", "state");
                let found = found.map_err(|source| missing(&kernel, "task_struct", "state", source))?;
                Ok(Self::StateAt(sized("task_struct", "state", found, &[4, 8])?.offset))
            }
            _ => Err(LayoutError::UnknownPrototype { event: EVENT, arguments: Vec::new() }),
        }
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
