//! Where things are in guest-physical memory, and the machine state in which a vCPU starts: 64-bit mode, the first
//! 4 GiB mapped one to one.

use kvm_bench::{payload, protocol};
use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;

use super::error::Error;
use super::memory::{GuestMemory, PAGE};

const GDT: u64 = 0x1000;
const TSS: u64 = 0x2000;
const PML4: u64 = 0x3000;
const PDPT: u64 = 0x4000;
const PAGE_DIRECTORIES: u64 = 0x5000;
/// The private areas of the vCPUs, see [`protocol::AREA_SIZE`].
const AREAS: u64 = 0x20_0000;
/// Pages that only the touch operation uses; above it nothing but device space.
const FRESH: u64 = 0x40_0000;
/// Bytes that one leaf table of a nested page table maps. vCPUs get their fresh pages in different ones: two that
/// install the same table at once would make one of them fault again.
const LEAF_TABLE_SPAN: u64 = 0x20_0000;
/// The APIC page and KVM's private pages begin above; guest memory must end below.
const MEMORY_LIMIT: u64 = 0xc000_0000;
/// Three pages for VMX without unrestricted guest mode, below 4 GiB and away from everything else, as
/// `KVM_SET_TSS_ADDR` and `KVM_SET_IDENTITY_MAP_ADDR` want (kernel, Documentation/virt/kvm/api.rst).
pub(super) const VMX_TSS: u64 = 0xfffb_d000;
/// See [`VMX_TSS`].
pub(super) const VMX_IDENTITY_MAP: u64 = 0xfffb_c000;

/// Distance of pages touched one after the other. KVM's shadow MMU maps up to 8 neighbours of a faulting page
/// (`PTE_PREFETCH_NUM`, arch/x86/kvm/mmu/mmu.c; used for nested paging where the TDP MMU is off, as on 5.10).
pub(super) const TOUCH_STRIDE: u64 = 8 * PAGE;
/// An address without memory: KVM hands every access to user space.
pub(super) const MMIO_HOLE: u64 = 0xd000_0000;

/// More do not fit between the areas and the fresh pages.
pub const MAX_VCPUS: u32 = ((FRESH - AREAS) / protocol::AREA_SIZE) as u32;

const _: () = assert!(payload::LOAD_ADDRESS + payload::MEMORY_SIZE <= AREAS, "the image overlaps the areas");

/// Sizes of one guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    vcpus: u32,
    fresh_per_vcpu: u64,
}

impl Layout {
    /// For `vcpus` vCPUs that touch up to `touches` fresh pages each.
    pub(super) fn new(vcpus: u32, touches: u64) -> Result<Self, Error> {
        if vcpus == 0 || vcpus > MAX_VCPUS {
            return Err(Error::Plan(format!("{vcpus} vCPUs; 1 to {MAX_VCPUS} are possible")));
        }
        let bytes = touches.saturating_mul(TOUCH_STRIDE).checked_next_multiple_of(LEAF_TABLE_SPAN);
        let total = bytes.and_then(|bytes| bytes.checked_mul(vcpus.into())).unwrap_or(u64::MAX);
        if total > MEMORY_LIMIT - FRESH {
            let most =
                (MEMORY_LIMIT - FRESH) / LEAF_TABLE_SPAN / u64::from(vcpus) * LEAF_TABLE_SPAN / TOUCH_STRIDE;
            return Err(Error::Plan(format!(
                "{touches} fresh pages for each of {vcpus} vCPUs do not fit; at most {most} each do"
            )));
        }
        Ok(Self { vcpus, fresh_per_vcpu: total / u64::from(vcpus) })
    }

    /// Bytes of guest memory.
    pub(super) fn memory_size(&self) -> u64 {
        FRESH + u64::from(self.vcpus) * self.fresh_per_vcpu
    }

    /// Guest-physical address of a vCPU's control page.
    pub(super) fn control(vcpu: u32) -> u64 {
        AREAS + u64::from(vcpu) * protocol::AREA_SIZE
    }

    /// Guest-physical range of a vCPU's fresh pages.
    pub(super) fn fresh(&self, vcpu: u32) -> std::ops::Range<u64> {
        let start = FRESH + u64::from(vcpu) * self.fresh_per_vcpu;
        start..start + self.fresh_per_vcpu
    }

    /// Fills everything that the guest needs before its first instruction.
    pub(super) fn fill(&self, memory: &mut GuestMemory) -> Result<(), Error> {
        memory.populate(0, FRESH, PAGE)?;
        memory.populate(FRESH, self.memory_size(), TOUCH_STRIDE)?;
        memory.write(payload::LOAD_ADDRESS, payload::IMAGE)?;
        for (index, descriptor) in gdt().iter().enumerate() {
            memory.write(GDT + 8 * index as u64, &descriptor.to_le_bytes())?;
        }
        // Accessed and dirty are set already: the page walk never writes.
        const TABLE: u64 = 0x23; // present, writable, accessed
        const LARGE_PAGE: u64 = 0xe3; // and dirty, 2 MiB
        memory.write(PML4, &(PDPT | TABLE).to_le_bytes())?;
        for gigabyte in 0..4 {
            let directory = PAGE_DIRECTORIES + gigabyte * PAGE;
            memory.write(PDPT + 8 * gigabyte, &(directory | TABLE).to_le_bytes())?;
            for entry in 0..512 {
                let page = (gigabyte << 30) + (entry << 21);
                memory.write(directory + 8 * entry, &(page | LARGE_PAGE).to_le_bytes())?;
            }
        }
        Ok(())
    }
}

/// Null, 64-bit code, data, and a busy 64-bit TSS in two slots (AMD APM vol. 2, 4.8); at the selectors of the protocol.
fn gdt() -> [u64; 5] {
    let tss_low = 0x0000_8b00_0000_0067 | TSS << 16;
    [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, tss_low, 0]
}

fn segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        g: 1,
        l: u8::from(selector == protocol::CODE_SELECTOR),
        db: u8::from(selector != protocol::CODE_SELECTOR),
        ..Default::default()
    }
}

/// How the LAPIC is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Apic {
    /// Through its memory page.
    #[default]
    XApic,
    /// Through MSRs.
    X2Apic,
}

/// Puts a vCPU at the guest's entry.
pub(super) fn enter(fd: &VcpuFd, vcpu: u32, apic: Apic, xsave: bool) -> Result<(), Error> {
    let mut sregs: kvm_sregs = fd.get_sregs().map_err(Error::kvm("read the special registers"))?;
    sregs.cs = segment(protocol::CODE_SELECTOR, 0xb);
    let data = segment(protocol::DATA_SELECTOR, 0x3);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.gs.base = Layout::control(vcpu);
    sregs.tr = kvm_segment {
        base: TSS,
        limit: 0x67,
        selector: protocol::TSS_SELECTOR,
        type_: 0xb,
        present: 1,
        ..Default::default()
    };
    sregs.gdt.base = GDT;
    sregs.gdt.limit = (size_of_val(&gdt()) - 1) as u16;
    sregs.idt.limit = 0;
    sregs.cr0 = 0x8001_0033; // PG, WP, NE, ET, MP, PE
    sregs.cr3 = PML4;
    sregs.cr4 = 0x620 | u64::from(xsave) << 18; // PAE, OSFXSR, OSXMMEXCPT; OSXSAVE
    sregs.efer = 0x500; // LME, LMA
    if apic == Apic::X2Apic {
        sregs.apic_base |= 0xc00; // enabled, x2APIC
    }
    fd.set_sregs(&sregs).map_err(Error::kvm("start a vCPU in 64-bit mode"))?;
    let control = Layout::control(vcpu);
    let regs = kvm_regs {
        rip: payload::ENTRY,
        rsp: control + protocol::AREA_STACK_TOP,
        rdi: control,
        rflags: 2,
        ..Default::default()
    };
    fd.set_regs(&regs).map_err(Error::kvm("set the registers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpus_never_share_a_leaf_table() {
        let layout = Layout::new(3, 65).unwrap();
        for vcpu in 0..3 {
            let range = layout.fresh(vcpu);
            assert!(range.start.is_multiple_of(LEAF_TABLE_SPAN));
            assert!(range.end - range.start >= 65 * TOUCH_STRIDE);
        }
        assert_eq!(layout.fresh(0).end, layout.fresh(1).start);
        assert_eq!(layout.fresh(2).end, layout.memory_size());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_limit() {
        let error = Layout::new(2, 1 << 40).unwrap_err().to_string();
        assert!(error.contains("at most"), "{error}");
        let most: u64 = error.rsplit("at most ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(Layout::new(2, most).is_ok());
        assert!(Layout::new(2, most + 1).is_err());
        assert!(Layout::new(0, 1).is_err());
        assert!(Layout::new(MAX_VCPUS + 1, 1).is_err());
    }
}
