//! A virtual machine that holds the embedded guest.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kvm_bench::protocol::{Control, MAGIC, MESSAGE_VECTOR};
use kvm_bindings::{
    CpuId, KVM_IRQ_ROUTING_MSI, KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_RUNNABLE, KvmIrqRouting, kvm_ioeventfd,
    kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_msi, kvm_irqfd, kvm_mp_state,
    kvm_msi, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VmFd};
use rustix::event::{EventfdFlags, eventfd};

use super::error::Error;
use super::layout::{self, Apic, Layout};
use super::memory::GuestMemory;
use super::vcpu::Vcpu;

/// What kind of virtual machine.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// vCPUs, with ids 0 to this minus one; at most [`MAX_VCPUS`](super::MAX_VCPUS).
    pub vcpus: u32,
    /// How the LAPIC is reached.
    pub apic: Apic,
    /// Pages that each vCPU can touch for the first time; [`Plan::fresh_pages`](super::Plan::fresh_pages) tells.
    pub fresh_pages: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { vcpus: 1, apic: Apic::XApic, fresh_pages: 0 }
    }
}

/// `_IOW(KVMIO, 0x76, struct kvm_irqfd)`, include/uapi/linux/kvm.h.
const KVM_IRQFD: libc::Ioctl = 0x4020_ae76;

/// `_IOW(KVMIO, 0x79, struct kvm_ioeventfd)`, include/uapi/linux/kvm.h.
const KVM_IOEVENTFD: libc::Ioctl = 0x4040_ae79;

/// What all vCPUs share. The guest exists until the last of them and the [`Vm`] are dropped.
#[derive(Debug)]
pub(super) struct Machine {
    fd: VmFd,
    pub(super) memory: GuestMemory,
    pub(super) layout: Layout,
    /// Whether the processor wants VMMCALL and not VMCALL.
    pub(super) amd_processor: bool,
}

impl Machine {
    pub(super) fn control(&self, vcpu: u32) -> Result<&Control, Error> {
        self.memory.control(Layout::control(vcpu))
    }

    /// An edge-triggered message interrupt; physical destination (Intel SDM volume 3, 12.11).
    pub(super) fn send_message(&self, vcpu: u32) -> Result<(), Error> {
        let msi = kvm_msi {
            address_lo: 0xfee0_0000 | vcpu << 12,
            data: u32::from(MESSAGE_VECTOR),
            ..Default::default()
        };
        self.fd.signal_msi(msi).map_err(Error::kvm("send an interrupt to a vCPU"))?;
        Ok(())
    }

    /// From now on the VM's interrupt lines are messages: line n the one of [`Self::send_message`] to vCPU n.
    pub(super) fn make_lines_messages(&self, vcpus: u32) -> Result<(), Error> {
        let route = |vcpu: u32| kvm_irq_routing_entry {
            gsi: vcpu,
            type_: KVM_IRQ_ROUTING_MSI,
            u: kvm_irq_routing_entry__bindgen_ty_1 {
                msi: kvm_irq_routing_msi {
                    address_lo: 0xfee0_0000 | vcpu << 12,
                    data: u32::from(MESSAGE_VECTOR),
                    ..Default::default()
                },
            },
            ..Default::default()
        };
        let routes: Vec<_> = (0..vcpus).map(route).collect();
        let too_many = |_| Error::Plan(format!("{vcpus} vCPUs are too many for interrupt lines"));
        let routes = KvmIrqRouting::from_entries(&routes).map_err(too_many)?;
        self.fd.set_gsi_routing(&routes).map_err(Error::kvm("route interrupt lines"))
    }

    /// An eventfd that is rung by each write to a guest-physical address, of whatever size and value.
    pub(super) fn doorbell(&self, address: u64) -> Result<OwnedFd, Error> {
        let eventfd = new_eventfd()?;
        let doorbell = kvm_ioeventfd { addr: address, fd: eventfd.as_raw_fd(), ..Default::default() };
        // SAFETY: the kernel reads a structure of this size, which lives as long as the call.
        if unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_IOEVENTFD, &raw const doorbell) } < 0 {
            let source = std::io::Error::last_os_error();
            return Err(Error::Kvm { what: "connect an eventfd with an address", source });
        }
        Ok(eventfd)
    }

    /// An eventfd that raises an interrupt line of the VM each time it is written to.
    pub(super) fn line(&self, gsi: u32) -> Result<OwnedFd, Error> {
        let eventfd = new_eventfd()?;
        let irqfd = kvm_irqfd { fd: eventfd.as_raw_fd() as u32, gsi, ..Default::default() };
        // SAFETY: the kernel reads a structure of this size, which lives as long as the call.
        if unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_IRQFD, &raw const irqfd) } < 0 {
            let source = std::io::Error::last_os_error();
            return Err(Error::Kvm { what: "connect an eventfd with an interrupt line", source });
        }
        Ok(eventfd)
    }
}

fn new_eventfd() -> Result<OwnedFd, Error> {
    eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| Error::Host {
        what: "make an eventfd",
        source: errno.into(),
        remedy: "raise the limit of open files (ulimit -n)",
    })
}

/// A virtual machine whose vCPUs have not run yet. It has KVM's own interrupt controllers.
#[derive(Debug)]
pub struct Vm {
    machine: Arc<Machine>,
    vcpus: Vec<Vcpu>,
}

impl Vm {
    /// Creates one, with the guest in its memory and every vCPU at the guest's entry.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let layout = Layout::new(config.vcpus, config.fresh_pages)?;
        let kvm = Kvm::new()
            .map_err(|error| Error::Open { source: std::io::Error::from_raw_os_error(error.errno()) })?;
        for (capability, what) in [
            (Cap::Irqchip, "interrupt controllers (KVM_CAP_IRQCHIP)"),
            (Cap::ImmediateExit, "immediate exit (KVM_CAP_IMMEDIATE_EXIT)"),
            (Cap::SignalMsi, "message interrupts (KVM_CAP_SIGNAL_MSI)"),
        ] {
            if !kvm.check_extension(capability) {
                return Err(Error::Missing { what });
            }
        }
        let fd = kvm.create_vm().map_err(Error::kvm("create a virtual machine"))?;
        fd.set_identity_map_address(layout::VMX_IDENTITY_MAP)
            .map_err(Error::kvm("place its identity map"))?;
        fd.set_tss_address(layout::VMX_TSS as usize).map_err(Error::kvm("place its task state segment"))?;
        fd.create_irq_chip().map_err(Error::kvm("create interrupt controllers"))?;

        let mut memory = GuestMemory::new(layout.memory_size())?;
        layout.fill(&mut memory)?;
        let region = kvm_userspace_memory_region {
            memory_size: memory.size(),
            userspace_addr: memory.host_address(),
            ..Default::default()
        };
        // SAFETY: the mapping outlives the vCPUs, which keep it through the Arc; without them nothing accesses it.
        unsafe { fd.set_user_memory_region(region) }.map_err(Error::kvm("accept guest memory"))?;

        let mut cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(Error::kvm("tell the CPUID it supports"))?;
        let (amd_processor, xsave) = (is_amd(&cpuid), has_xsave(&cpuid));
        let machine = Arc::new(Machine { fd, memory, layout, amd_processor });
        let mut vcpus = Vec::new();
        for id in 0..config.vcpus {
            let fd = machine.fd.create_vcpu(id.into()).map_err(Error::kvm("create a vCPU"))?;
            personalize(&mut cpuid, id);
            fd.set_cpuid2(&cpuid).map_err(Error::kvm("set the CPUID of a vCPU"))?;
            layout::enter(&fd, id, config.apic, xsave)?;
            // A secondary vCPU would wait for its start-up IPI.
            fd.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE })
                .map_err(Error::kvm("make a vCPU runnable"))?;
            machine.control(id)?.magic.store(MAGIC, Ordering::SeqCst);
            vcpus.push(Vcpu::new(id, fd, Arc::clone(&machine))?);
        }
        Ok(Self { machine, vcpus })
    }

    /// How many vCPUs it has.
    #[must_use]
    pub fn vcpus(&self) -> u32 {
        self.vcpus.len() as u32
    }

    /// The vCPUs, to be run by hand on whatever threads.
    #[must_use]
    pub fn into_vcpus(self) -> Vec<Vcpu> {
        self.vcpus
    }

    pub(super) fn into_parts(self) -> (Arc<Machine>, Vec<Vcpu>) {
        (self.machine, self.vcpus)
    }
}

/// From the vendor string, leaf 0: "AuthenticAMD" or "HygonGenuine".
fn is_amd(cpuid: &CpuId) -> bool {
    const AUTH: u32 = u32::from_le_bytes(*b"Auth");
    const HYGO: u32 = u32::from_le_bytes(*b"Hygo");
    cpuid.as_slice().iter().any(|entry| entry.function == 0 && matches!(entry.ebx, AUTH | HYGO))
}

fn has_xsave(cpuid: &CpuId) -> bool {
    cpuid.as_slice().iter().any(|entry| entry.function == 1 && entry.ecx & 1 << 26 != 0)
}

/// What differs between vCPUs, and the TSC-deadline timer, which KVM emulates but leaves for the VMM to announce.
fn personalize(cpuid: &mut CpuId, id: u32) {
    const TSC_DEADLINE_TIMER: u32 = 1 << 24;
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            1 => {
                entry.ecx |= TSC_DEADLINE_TIMER;
                entry.ebx = entry.ebx & 0x00ff_ffff | id << 24;
            }
            0xb | 0x1f => entry.edx = id,
            _ => {}
        }
    }
}
