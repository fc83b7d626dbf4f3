//! The error code of the event `kvm_page_fault`: what the guest tried to do, and why that failed.
//!
//! The event shows the number as it came from wherever the fault was found, and these encode it differently
//! ([`Encoding`]). KVM translates the others to SVM's encoding inside, after the event (`__vmx_handle_ept_violation` in
//! arch/x86/kvm/vmx/common.h). Emulated device registers (MMIO) fault in the same way at the first access only; later ones
//! carry [`PageFault::is_mmio`] on SVM, and on VMX are exits of their own, `EPT_MISCONFIG`, without this event.

use std::borrow::Cow;
use std::fmt;

use super::Isa;

/// Whose bits the error code consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// SVM with nested paging: EXITINFO1 of #NPF (AMD APM vol. 2, "Nested versus Guest Page Faults, Fault Ordering") and
    /// KVM's additions, `PFERR_*` in arch/x86/include/asm/kvm_host.h. The address is guest-physical.
    Npf,
    /// VMX with EPT: the exit qualification (Intel SDM vol. 3, "Exit Qualification for EPT Violations";
    /// `EPT_VIOLATION_*` in arch/x86/include/asm/vmx.h). The address is guest-physical. Of a TDX guest's private memory
    /// KVM reports writes, whatever it was (arch/x86/kvm/vmx/tdx.c).
    Ept,
    /// Shadow paging: the error code of #PF (Intel SDM vol. 3, "Page-Fault Error Code"). The address is a virtual one.
    Shadow,
}

impl Encoding {
    /// The encoding on a host with this instruction set. `two_dimensional`: whether KVM uses EPT or nested paging (the
    /// parameter `ept` of kvm_intel, `npt` of kvm_amd).
    #[must_use]
    pub const fn of(isa: Isa, two_dimensional: bool) -> Self {
        match (isa, two_dimensional) {
            (Isa::Vmx, true) => Self::Ept,
            (Isa::Svm, true) => Self::Npf,
            // Others, the out-of-tree PVM for one, have shadow paging only.
            (Isa::Vmx | Isa::Svm, false) | (Isa::Other(_), _) => Self::Shadow,
        }
    }
}

/// What the guest tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// A data read, or the processor's read of a page table.
    Read,
    /// A data write, or the processor's update of a page table.
    Write,
    /// An instruction fetch.
    Fetch,
}

impl fmt::Display for Access {
    /// `read`, `write`, `fetch`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Fetch => "fetch",
        })
    }
}

/// Which step of the guest's own translation met the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// A page table of the guest was not accessible (`PFERR_GUEST_PAGE_MASK`).
    GuestTable,
    /// The page that the guest addressed (`PFERR_GUEST_FINAL_MASK`).
    GuestPage,
}

/// `PFERR_PRESENT_MASK`, `PFERR_WRITE_MASK`, `PFERR_USER_MASK`, `PFERR_RSVD_MASK`, `PFERR_FETCH_MASK`.
const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const RESERVED: u64 = 1 << 3;
const FETCH: u64 = 1 << 4;
/// `PFERR_GUEST_FINAL_MASK`, `PFERR_GUEST_PAGE_MASK`.
const GUEST_FINAL: u64 = 1 << 32;
const GUEST_PAGE: u64 = 1 << 33;
/// `PFERR_GUEST_ENC_MASK`: the guest's mapping is an encrypted one.
const ENCRYPTED: u64 = 1 << 34;
/// `PFERR_PRIVATE_ACCESS`, of KVM's own.
const PRIVATE: u64 = 1 << 49;

/// `EPT_VIOLATION_ACC_WRITE`, `EPT_VIOLATION_ACC_INSTR`, and `EPT_VIOLATION_ACC_READ`, which needs no test.
const EPT_READ: u64 = 1 << 0;
const EPT_WRITE: u64 = 1 << 1;
const EPT_FETCH: u64 = 1 << 2;
/// `EPT_VIOLATION_PROT_MASK` but for bit 6, which has a meaning with mode-based execute control only: the translation
/// allows something.
const EPT_PROT: u64 = 0b111 << 3;
const EPT_PROT_USER_FETCH: u64 = 1 << 6;
/// `EPT_VIOLATION_GVA_IS_VALID`, `EPT_VIOLATION_GVA_TRANSLATED`.
const EPT_GVA_VALID: u64 = 1 << 7;
const EPT_GVA_TRANSLATED: u64 = 1 << 8;
/// `EPT_VIOLATION_GVA_USER`, `_WRITABLE`, `_NX`: what the guest's own page tables say of the page. Valid if the
/// processor has the feature, which the number does not tell, so nothing is made of them.
const EPT_GVA_RIGHTS: u64 = 0b111 << 9;

/// What a bit means that tells neither access nor stage.
type Flag = (u32, &'static str);

/// `PFERR_*` of [`Encoding::Npf`].
const NPF_FLAGS: &[Flag] = &[
    (5, "protection key"),
    (6, "shadow stack"),
    (31, "RMP"),
    (35, "RMP page size"),
    (36, "VMPL"),
    (37, "supervisor shadow stack"),
    (48, "implicit access"),
];

/// SDM vol. 3, "Exit Qualification for EPT Violations".
const EPT_FLAGS: &[Flag] = &[
    (12, "NMI unblocked by IRET"),
    (13, "shadow stack"),
    (14, "supervisor shadow stack"),
    (15, "guest-paging verification"),
    (16, "asynchronous"),
];

/// SDM vol. 3, "Page-Fault Error Code"; APM vol. 2, "#PF"; `PFERR_*`.
const SHADOW_FLAGS: &[Flag] =
    &[(2, "user"), (5, "protection key"), (6, "shadow stack"), (7, "HLAT"), (15, "SGX"), (31, "RMP")];

/// A fault, as KVM's event reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageFault {
    /// Whose bits these are.
    pub encoding: Encoding,
    /// The event's error code, whole. Linux 5.10's event has the lower 32 bits only, 6.1's all.
    pub code: u64,
}

impl PageFault {
    /// From the event's error code.
    #[must_use]
    pub const fn new(encoding: Encoding, code: u64) -> Self {
        Self { encoding, code }
    }

    /// What the guest tried. An EPT violation may be both a read and a write (the processor's update of a page table):
    /// that is a write.
    #[must_use]
    pub const fn access(self) -> Access {
        let (fetch, write) = match self.encoding {
            Encoding::Npf | Encoding::Shadow => (FETCH, WRITE),
            Encoding::Ept => (EPT_FETCH, EPT_WRITE),
        };
        if self.code & fetch != 0 {
            Access::Fetch
        } else if self.code & write != 0 {
            Access::Write
        } else {
            Access::Read
        }
    }

    /// Whether there was a translation, which did not allow the access: write-protected for dirty logging or shadow
    /// paging, or not executable. If not, the page was not mapped yet, or is emulated.
    #[must_use]
    pub const fn is_present(self) -> bool {
        let mask = match self.encoding {
            Encoding::Npf | Encoding::Shadow => PRESENT,
            Encoding::Ept => EPT_PROT,
        };
        self.code & mask != 0
    }

    /// Whether a reserved bit was set in the translation: KVM marks pages of emulated devices so, once it knows them.
    /// EPT violations cannot tell; there such accesses are another exit, `EPT_MISCONFIG`.
    #[must_use]
    pub const fn is_mmio(self) -> bool {
        match self.encoding {
            Encoding::Npf | Encoding::Shadow => self.code & RESERVED != 0,
            Encoding::Ept => false,
        }
    }

    /// Whether a confidential guest accessed its private memory. EPT violations (of TDX) do not say.
    #[must_use]
    pub const fn is_private(self) -> bool {
        match self.encoding {
            Encoding::Npf => self.code & (ENCRYPTED | PRIVATE) != 0,
            Encoding::Ept | Encoding::Shadow => false,
        }
    }

    /// Where in the guest's translation it happened, if the code says: shadow paging's never does, and
    /// [`Encoding::Npf`] not with the lower 32 bits alone.
    #[must_use]
    pub const fn stage(self) -> Option<Stage> {
        match self.encoding {
            Encoding::Npf if self.code & GUEST_PAGE != 0 => Some(Stage::GuestTable),
            Encoding::Npf if self.code & GUEST_FINAL != 0 => Some(Stage::GuestPage),
            Encoding::Ept if self.code & EPT_GVA_VALID == 0 => None,
            Encoding::Ept if self.code & EPT_GVA_TRANSLATED == 0 => Some(Stage::GuestTable),
            Encoding::Ept => Some(Stage::GuestPage),
            Encoding::Npf | Encoding::Shadow => None,
        }
    }

    /// What else is set, lowest bit first; bits without a meaning here are `bit N`.
    #[must_use]
    pub fn flags(self) -> Vec<Cow<'static, str>> {
        let (told, names) = match self.encoding {
            // A nested walk always counts as a user's, so SVM's bit 2 tells nothing.
            Encoding::Npf => (NPF_COMMON, NPF_FLAGS),
            Encoding::Ept => (EPT_COMMON, EPT_FLAGS),
            Encoding::Shadow => (SHADOW_COMMON, SHADOW_FLAGS),
        };
        let rest = self.code & !told;
        (0..u64::BITS)
            .filter(|bit| rest & (1 << bit) != 0)
            .map(|bit| match names.iter().find(|(known, _)| *known == bit) {
                Some((_, name)) => Cow::Borrowed(*name),
                None => Cow::Owned(format!("bit {bit}")),
            })
            .collect()
    }
}

/// Bits that the methods of [`PageFault`] tell of.
const SHADOW_COMMON: u64 = PRESENT | WRITE | RESERVED | FETCH;
const NPF_COMMON: u64 = SHADOW_COMMON | USER | GUEST_FINAL | GUEST_PAGE | ENCRYPTED | PRIVATE;
const EPT_COMMON: u64 = EPT_READ
    | EPT_WRITE
    | EPT_FETCH
    | EPT_PROT
    | EPT_PROT_USER_FETCH
    | EPT_GVA_VALID
    | EPT_GVA_TRANSLATED
    | EPT_GVA_RIGHTS;

impl fmt::Display for PageFault {
    /// `write, not mapped`; `write, protected`; `read, mmio`; then, if so, `guest page table`, `private` and the flags.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.access().to_string();
        text.push_str(match (self.is_mmio(), self.is_present()) {
            (true, _) => ", mmio",
            (false, true) => ", protected",
            (false, false) => ", not mapped",
        });
        if self.stage() == Some(Stage::GuestTable) {
            text.push_str(", guest page table");
        }
        if self.is_private() {
            text.push_str(", private");
        }
        for flag in self.flags() {
            text.push_str(", ");
            text.push_str(&flag);
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Encoding; 3] = [Encoding::Npf, Encoding::Ept, Encoding::Shadow];

    fn npf(code: u64) -> PageFault {
        PageFault::new(Encoding::Npf, code)
    }

    fn ept(code: u64) -> PageFault {
        PageFault::new(Encoding::Ept, code)
    }

    fn shadow(code: u64) -> PageFault {
        PageFault::new(Encoding::Shadow, code)
    }

    #[test]
    fn the_same_faults_read_the_same_on_both_vendors() {
        // SVM's and VMX's number for: a page not mapped yet, read, written and executed; a page that is write-protected;
        // an accessed bit to be set in the guest's page table.
        for (amd, intel, text) in [
            (0x1_0000_0004, 0x181, "read, not mapped"),
            (0x1_0000_0006, 0x182, "write, not mapped"),
            (0x1_0000_0014, 0x184, "fetch, not mapped"),
            (0x1_0000_0007, 0x1aa, "write, protected"),
            (0x2_0000_0007, 0x0ab, "write, protected, guest page table"),
            (0x2_0000_0004, 0x081, "read, not mapped, guest page table"),
        ] {
            assert_eq!((npf(amd).to_string(), ept(intel).to_string()), (text.into(), text.into()));
            assert_eq!(npf(amd).stage(), ept(intel).stage());
        }
    }

    #[test]
    fn known_device_registers_are_told_apart_on_svm_only() {
        let fault = npf(0x1_0000_000f);
        assert!(fault.is_mmio());
        assert_eq!(fault.to_string(), "write, mmio");
        assert_eq!(npf(0x1_0000_000d).to_string(), "read, mmio");
        assert!(!ept(0x8).is_mmio(), "readable, not reserved");
    }

    #[test]
    fn a_confidential_guests_faults() {
        let fault = npf(0x5_8000_0006);
        assert_eq!((fault.is_private(), fault.is_present()), (true, false));
        assert_eq!(fault.to_string(), "write, not mapped, private, RMP");
        assert_eq!(npf(1 << 49 | 0x1_0000_0004).to_string(), "read, not mapped, private");
        assert_eq!(npf(0x38_8000_0005).flags(), ["RMP", "RMP page size", "VMPL", "supervisor shadow stack"]);
    }

    #[test]
    fn shadow_paging_has_the_guests_own_error_code() {
        assert_eq!(shadow(0x0).to_string(), "read, not mapped");
        assert_eq!(shadow(0x7).to_string(), "write, protected, user");
        assert_eq!(shadow(0x15).to_string(), "fetch, protected, user");
        assert_eq!(shadow(0x25).to_string(), "read, protected, user, protection key");
        assert_eq!(shadow(0x9).to_string(), "read, mmio");
        assert_eq!(shadow(0x7).stage(), None);
    }

    #[test]
    fn codes_of_kernels_whose_event_has_32_bits_lack_the_stage() {
        assert_eq!((npf(0x6).stage(), npf(0x6).to_string()), (None, "write, not mapped".into()));
        assert_eq!(ept(0x182).stage(), Some(Stage::GuestPage), "a qualification has it in its lower bits");
        assert_eq!(ept(0x2).stage(), None, "no guest-linear address: not the guest's own access");
    }

    #[test]
    fn rights_that_the_guest_gave_do_not_make_a_page_present() {
        // Bits 6 and 9 to 11.
        assert_eq!(ept(0xfc2).to_string(), "write, not mapped");
        assert_eq!(ept(0x1181).to_string(), "read, not mapped, NMI unblocked by IRET");
    }

    #[test]
    fn the_encoding_is_that_of_the_paging_in_use() {
        assert_eq!(Encoding::of(Isa::Vmx, true), Encoding::Ept);
        assert_eq!(Encoding::of(Isa::Svm, true), Encoding::Npf);
        for isa in [Isa::Vmx, Isa::Svm, Isa::Other(3)] {
            assert_eq!(Encoding::of(isa, false), Encoding::Shadow);
        }
        assert_eq!(Encoding::of(Isa::Other(3), true), Encoding::Shadow);
    }

    #[test]
    fn unknown_bits_are_shown() {
        assert_eq!(npf(1 << 10 | 1 << 63).flags(), ["bit 10", "bit 63"]);
        assert_eq!(ept(1 << 17).flags(), ["bit 17"]);
        assert_eq!(shadow(1 << 8 | 1 << 33).flags(), ["bit 8", "bit 33"]);
    }

    #[test]
    fn text_can_be_padded() {
        assert_eq!(format!("{:<18}|{:>6}|", npf(0x6), Access::Read), "write, not mapped |  read|");
    }

    #[test]
    fn flags_repeat_no_bit_that_is_told_otherwise() {
        for (told, names) in [(NPF_COMMON, NPF_FLAGS), (EPT_COMMON, EPT_FLAGS), (SHADOW_COMMON, SHADOW_FLAGS)]
        {
            assert!(names.iter().all(|(bit, _)| told & (1 << bit) == 0));
            assert!(names.is_sorted_by_key(|(bit, _)| *bit));
        }
    }

    proptest! {
        /// Each set bit is in the flags or told by a method.
        #[test]
        fn nothing_of_a_code_is_lost(code: u64, which in 0..3usize) {
            let fault = PageFault::new(ALL[which], code);
            let told = [NPF_COMMON, EPT_COMMON, SHADOW_COMMON][which];
            prop_assert_eq!(fault.flags().len(), (code & !told).count_ones() as usize);
            prop_assert!(!fault.to_string().is_empty());
        }

        /// What KVM makes of an exit qualification (`__vmx_handle_ept_violation`) is the same fault.
        #[test]
        fn kvms_translation_to_svms_encoding_agrees(qualification in 0..0x40u64, gva in 0..4u64) {
            let qualification = qualification | (gva << 7);
            let mut code = 0;
            if qualification & EPT_WRITE != 0 { code |= WRITE; }
            if qualification & EPT_FETCH != 0 { code |= FETCH; }
            if qualification & EPT_PROT != 0 { code |= PRESENT; }
            if qualification & EPT_GVA_VALID != 0 {
                code |= if qualification & EPT_GVA_TRANSLATED != 0 { GUEST_FINAL } else { GUEST_PAGE };
            }
            prop_assert_eq!(ept(qualification).to_string(), npf(code).to_string());
            prop_assert_eq!(ept(qualification).stage(), npf(code).stage());
        }
    }
}
