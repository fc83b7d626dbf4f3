//! Which vCPUs make up a VM.
//!
//! The address of the `struct kvm` tells, together with the process; but the kernel uses an address again once a VM is
//! gone. A VM's vCPUs are destroyed only with the VM (kvm_destroy_vcpus, virt/kvm/kvm_main.c), so a vCPU that appears
//! after the end of one of the others belongs to a new VM.

use super::collect::VcpuKey;
use crate::{
    bpf::snapshot::Head,
    host::Identity,
    model::{Place, Vm},
};

/// A VM, as far as its vCPUs tell.
#[derive(Clone, Debug)]
pub struct VmGroup {
    /// Number that no other VM of the run has.
    pub serial: u64,
    /// Process in the initial pid namespace.
    pub tgid: u32,
    /// Process as seen from here; 0 = not visible.
    pub ns_tgid: u32,
    /// Address of the `struct kvm`; 0 = unknown.
    kvm: u64,
    /// Who it is.
    pub identity: Identity,
    /// vCPUs with their KVM ids, in the order of their appearance.
    pub vcpus: Vec<(VcpuKey, u32)>,
    /// End of the vCPU that ended first, monotonic ns.
    until: Option<u64>,
    /// It ended before the interval began: nothing of it can change any more.
    pub settled: bool,
}

impl VmGroup {
    /// Whether one of its vCPUs ended, and so the VM.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.until.is_some()
    }

    /// Its process as a person here would name it.
    #[must_use]
    pub fn shown_pid(&self) -> u32 {
        if self.ns_tgid == 0 { self.tgid } else { self.ns_tgid }
    }

    /// Who it is, for the model, without any numbers.
    #[must_use]
    pub fn shown(&self) -> Vm {
        let places = self.identity.within.iter();
        Vm {
            pid: self.shown_pid(),
            name: self.identity.name.clone(),
            vmm: self.identity.vmm.as_str().to_owned(),
            uuid: self.identity.uuid.clone(),
            id: self.identity.id.clone(),
            within: places
                .map(|place| Place { kind: place.kind.as_str(), name: place.name.clone() })
                .collect(),
            ..Vm::default()
        }
    }
}

/// All VMs seen, in the order of their appearance.
#[derive(Debug, Default)]
pub struct Groups {
    /// The VMs.
    pub vms: Vec<VmGroup>,
    /// VMs ever seen.
    seen: u64,
}

impl Groups {
    /// Puts a vCPU never seen before into its VM. `identify` says who the VM of the first vCPU is.
    pub fn join(&mut self, head: &Head, identify: impl FnOnce(&Head) -> Identity) -> usize {
        let key = (head.slot, head.since);
        let found = self.vms.iter().rposition(|vm| {
            vm.tgid == head.tgid
                && vm.kvm == head.kvm
                && vm.until.is_none_or(|until| until > head.since)
                // Where the VM is not known, two VMs of one process with the same ids cannot be told apart.
                && (head.kvm == 0 || vm.vcpus.iter().all(|(_, id)| *id != head.vcpu_id))
        });
        let index = found.unwrap_or_else(|| {
            self.seen += 1;
            self.vms.push(VmGroup {
                serial: self.seen,
                tgid: head.tgid,
                ns_tgid: head.ns_tgid,
                kvm: head.kvm,
                identity: identify(head),
                vcpus: Vec::new(),
                until: None,
                settled: false,
            });
            self.vms.len() - 1
        });
        if let Some(vm) = self.vms.get_mut(index) {
            vm.vcpus.push((key, head.vcpu_id));
        }
        index
    }

    /// A vCPU ended at `until_ns`.
    pub fn ended(&mut self, key: VcpuKey, until_ns: u64) {
        for vm in &mut self.vms {
            if vm.vcpus.iter().any(|(member, _)| *member == key) {
                vm.until = Some(vm.until.map_or(until_ns, |until| until.min(until_ns)));
            }
        }
    }

    /// Takes out the VM that ended longest ago, once there are more than `most`.
    pub fn remove_settled(&mut self, most: usize) -> Option<VmGroup> {
        if self.vms.len() <= most {
            return None;
        }
        let oldest = self.vms.iter().position(|vm| vm.settled)?;
        Some(self.vms.remove(oldest))
    }

    /// Whether two vCPUs of one VM have the same id, which happens where VMs of one process cannot be told apart.
    #[must_use]
    pub fn ambiguous(&self) -> bool {
        self.vms.iter().any(|vm| {
            let mut ids: Vec<u32> = vm.vcpus.iter().map(|(_, id)| *id).collect();
            ids.sort_unstable();
            ids.windows(2).any(|pair| pair[0] == pair[1])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(slot: u32, kvm: u64, vcpu_id: u32, since: u64) -> Head {
        Head {
            slot,
            kvm,
            since,
            vcpu_id,
            tgid: 77,
            tid: 77 + slot,
            ns_tgid: 77,
            ns_tid: 77 + slot,
            ..Head::default()
        }
    }

    fn name(_: &Head) -> Identity {
        Identity::unknown("vm".to_owned())
    }

    #[test]
    fn vcpus_of_one_kvm_are_one_vm_and_two_kvms_in_one_process_are_two() {
        let mut groups = Groups::default();
        let a0 = groups.join(&head(1, 0xa, 0, 1), name);
        let b0 = groups.join(&head(2, 0xb, 0, 2), name);
        let a1 = groups.join(&head(3, 0xa, 1, 3), name);
        assert_eq!((a0, a1), (0, 0));
        assert_eq!(b0, 1);
        assert!(!groups.ambiguous());
    }

    #[test]
    fn a_new_vm_at_the_address_of_an_old_one_is_a_new_vm() {
        let mut groups = Groups::default();
        groups.join(&head(1, 0xa, 0, 1), name);
        groups.join(&head(2, 0xa, 1, 2), name);
        groups.ended((1, 1), 10);
        groups.ended((2, 2), 11);
        assert_eq!(groups.join(&head(1, 0xa, 0, 12), name), 1);
        assert_eq!(groups.join(&head(2, 0xa, 1, 13), name), 1);
        // Seen late: it had appeared before the first one's end.
        assert_eq!(groups.join(&head(3, 0xa, 2, 9), name), 1);
    }

    #[test]
    fn the_same_id_again_is_a_new_vm_even_if_no_end_was_seen() {
        let mut groups = Groups::default();
        groups.join(&head(1, 0xa, 0, 1), name);
        assert_eq!(groups.join(&head(2, 0xa, 0, 2), name), 1);
    }

    #[test]
    fn only_settled_vms_leave_the_list_and_only_when_it_is_too_long() {
        let mut groups = Groups::default();
        for slot in 1..=3 {
            groups.join(&head(slot, u64::from(slot) << 8, 0, u64::from(slot)), name);
        }
        groups.vms[1].settled = true;
        assert!(groups.remove_settled(3).is_none());
        assert_eq!(groups.remove_settled(2).unwrap().vcpus, [((2, 2), 0)]);
        assert!(groups.remove_settled(1).is_none(), "the others live");
    }

    #[test]
    fn without_the_address_vms_of_a_process_are_shown_as_one_and_said_to_be_ambiguous() {
        let mut groups = Groups::default();
        assert_eq!(groups.join(&head(1, 0, 0, 1), name), 0);
        assert_eq!(groups.join(&head(2, 0, 0, 2), name), 0);
        assert!(groups.ambiguous());
    }
}
