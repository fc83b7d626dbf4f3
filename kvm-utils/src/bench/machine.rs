//! A virtual machine as a PVH guest expects it, as bare as possible: memory, KVM's interrupt controllers and PIT, vCPUs.

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, kvm_cpuid_entry2, kvm_pit_config, kvm_regs,
    kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use super::Error;
use super::elf::Image;
use super::notify::Notified;
use super::start_info::{self, START_INFO};
use crate::selftest::Error as VmError;
use crate::selftest::kick::Kick;
use crate::selftest::memory::GuestMemory;

/// Bytes of guest memory, of which only what is touched takes host memory.
const MEMORY: u64 = 128 << 20;
/// As `KVM_SET_TSS_ADDR` and `KVM_SET_IDENTITY_MAP_ADDR` want it on VMX without unrestricted guest mode (kernel,
/// Documentation/virt/kvm/api.rst): three pages and one below 4 GiB, away from memory and devices.
const VMX_TSS: u64 = 0xfffb_d000;
/// See [`VMX_TSS`].
const VMX_IDENTITY_MAP: u64 = 0xfffb_c000;

/// What a guest is to be run with.
#[derive(Clone, Debug)]
pub struct Config {
    /// vCPUs, the first of which starts the program.
    pub vcpus: u32,
    /// The guest's command line.
    pub command_line: String,
}

/// A virtual machine whose first vCPU is at the program's entry; the others wait for their start-up interrupts.
#[derive(Debug)]
pub struct Machine {
    pub(super) vcpus: Vec<VcpuFd>,
    /// For taking each of them out of `KVM_RUN`.
    pub(super) kicks: Vec<Kick>,
    /// Where the guest notifies nobody.
    notified: Notified,
    _vm: VmFd,
    /// Dropped last: nothing uses it any more when the vCPUs and the VM are gone.
    _memory: GuestMemory,
}

impl Machine {
    /// Creates one with the program in its memory.
    ///
    /// # Errors
    ///
    /// When this host's KVM cannot do it, or the program cannot be loaded.
    pub fn new(elf: &[u8], config: &Config) -> Result<Self, Error> {
        let kvm = Kvm::new()
            .map_err(|error| VmError::Open { source: std::io::Error::from_raw_os_error(error.errno()) })?;
        for (capability, what) in [
            (Cap::Irqchip, "interrupt controllers (KVM_CAP_IRQCHIP)"),
            (Cap::Pit2, "programmable timer (KVM_CAP_PIT2)"),
            (Cap::ImmediateExit, "immediate exit (KVM_CAP_IMMEDIATE_EXIT)"),
        ] {
            if !kvm.check_extension(capability) {
                return Err(VmError::Missing { what }.into());
            }
        }
        let most = kvm.get_max_vcpus();
        if config.vcpus == 0 || config.vcpus as usize > most {
            return Err(Error::Vcpus { vcpus: config.vcpus, most });
        }
        let vm = kvm.create_vm().map_err(VmError::kvm("create a virtual machine"))?;
        vm.set_identity_map_address(VMX_IDENTITY_MAP).map_err(VmError::kvm("place its identity map"))?;
        vm.set_tss_address(VMX_TSS as usize).map_err(VmError::kvm("place its task state segment"))?;
        vm.create_irq_chip().map_err(VmError::kvm("create interrupt controllers"))?;
        // Port 0x61, by which the second channel is read, belongs to it.
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        vm.create_pit2(pit).map_err(VmError::kvm("create a programmable timer"))?;

        let image = Image::parse(elf)?;
        let mut memory = GuestMemory::new(MEMORY)?;
        start_info::fill(&mut memory, &image, &config.command_line)?;
        let region = kvm_userspace_memory_region {
            memory_size: memory.size(),
            userspace_addr: memory.host_address(),
            ..Default::default()
        };
        // SAFETY: the mapping outlives the VM, as the order of the fields says.
        unsafe { vm.set_user_memory_region(region) }.map_err(VmError::kvm("accept guest memory"))?;

        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(VmError::kvm("tell the CPUID it supports"))?;
        let (mut vcpus, mut kicks) = (Vec::new(), Vec::new());
        for id in 0..config.vcpus {
            let fd = vm.create_vcpu(id.into()).map_err(VmError::kvm("create a vCPU"))?;
            // A KVM that cannot tell leaves it to the guest to find out.
            let tsc_khz = fd.get_tsc_khz().unwrap_or(0);
            let cpuid = cpuid(&supported, id, config.vcpus, tsc_khz)?;
            fd.set_cpuid2(&cpuid).map_err(VmError::kvm("set the CPUID of a vCPU"))?;
            if id == 0 {
                enter(&fd, image.entry)?;
            }
            kicks.push(Kick::new(&fd)?);
            vcpus.push(fd);
        }
        let notified = Notified::open(&vm)?;
        Ok(Self { vcpus, kicks, notified, _vm: vm, _memory: memory })
    }

    /// How often KVM has made events of writes to the port and the address for it, since the last time.
    ///
    /// # Errors
    ///
    /// When the eventfds cannot be read.
    pub fn notifications(&self) -> Result<[u64; 2], Error> {
        self.notified.counts()
    }
}

/// The state in which PVH starts a program (Xen, docs/misc/pvh.pandoc): 32-bit protected mode with flat segments, no
/// paging, EBX pointing to what it is told.
fn enter(fd: &VcpuFd, entry: u64) -> Result<(), Error> {
    let mut sregs = fd.get_sregs().map_err(VmError::kvm("read the special registers"))?;
    let flat = |selector, type_| kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        db: 1,
        g: 1,
        ..Default::default()
    };
    sregs.cs = flat(0x08, 0xb);
    let data = flat(0x10, 0x3);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment { limit: 0x67, selector: 0x18, type_: 0xb, present: 1, ..Default::default() };
    // PE; ET cannot be cleared.
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (0x11, 0, 0, 0);
    fd.set_sregs(&sregs).map_err(VmError::kvm("start a vCPU in 32-bit mode"))?;
    let regs = kvm_regs { rip: entry, rbx: START_INFO, rflags: 2, ..Default::default() };
    Ok(fd.set_regs(&regs).map_err(VmError::kvm("set the registers"))?)
}

/// What a vCPU says of itself: all that KVM supports, its own number, and the frequency of its counter.
fn cpuid(supported: &CpuId, id: u32, vcpus: u32, tsc_khz: u32) -> Result<CpuId, Error> {
    /// Leaf 1 EDX: EBX has the number of logical processors.
    const HTT: u32 = 1 << 28;
    /// Leaf 1 ECX: KVM emulates both with its own LAPIC but leaves it to the VMM to announce the second; and there is a
    /// hypervisor.
    const ANNOUNCED: u32 = 1 << 21 | 1 << 24 | 1 << 31;
    /// Highest leaf of the hypervisor in EAX.
    const HYPERVISOR: u32 = 0x4000_0000;
    /// VMware's leaf, which other hypervisors give too: frequencies in kHz of the counter and of the LAPIC's timer, which
    /// is 1 GHz in KVM (`APIC_BUS_CYCLE_NS`, arch/x86/kvm/lapic.h).
    const FREQUENCIES: u32 = 0x4000_0010;
    const LAPIC_KHZ: u32 = 1_000_000;

    let mut entries: Vec<kvm_cpuid_entry2> = supported.as_slice().to_vec();
    for entry in &mut entries {
        match entry.function {
            1 => {
                entry.ecx |= ANNOUNCED;
                entry.ebx = entry.ebx & 0xffff | vcpus.min(255) << 16 | (id & 0xff) << 24;
                entry.edx = if vcpus > 1 { entry.edx | HTT } else { entry.edx & !HTT };
            }
            0xb | 0x1f => entry.edx = id,
            // Extended APIC id, AMD.
            0x8000_001e => entry.eax = id,
            HYPERVISOR if tsc_khz != 0 => entry.eax = entry.eax.max(FREQUENCIES),
            _ => {}
        }
    }
    if tsc_khz != 0 && !entries.iter().any(|entry| entry.function == FREQUENCIES) {
        entries.push(kvm_cpuid_entry2 {
            function: FREQUENCIES,
            eax: tsc_khz,
            ebx: LAPIC_KHZ,
            ..Default::default()
        });
    }
    CpuId::from_entries(&entries)
        .map_err(|_| VmError::Plan("KVM supports more CPUID leaves than it takes".to_owned()).into())
}
