//! Interrupts that go through local APICs: what a write to the interrupt command register (ICR) sends and to which vCPUs,
//! and what a device's message (MSI) says.
//!
//! Intel SDM vol. 3, chapter "Advanced Programmable Interrupt Controller (APIC)": "Interrupt Command Register (ICR)",
//! "Determining IPI Destination", "ICR Operation in x2APIC Mode", "Logical Destination Mode in x2APIC Mode", "Message
//! Signalled Interrupts". Where KVM differs from hardware, KVM is followed: arch/x86/kvm/lapic.c.

use std::fmt;

/// How an interrupt is delivered: bits 10:8 of the ICR and of an MSI's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryMode {
    /// 0: the vector, to all processors addressed.
    Fixed,
    /// 1: the vector, to the one addressed that is the least busy. Not for the ICR in x2APIC mode, says the manual; KVM
    /// takes it.
    LowestPriority,
    /// 2: system management interrupt.
    Smi,
    /// 3: reserved.
    Reserved,
    /// 4: non-maskable interrupt.
    Nmi,
    /// 5: INIT, resets the processor.
    Init,
    /// 6: start-up (SIPI): the vector is the page where the processor starts.
    StartUp,
    /// 7: as if from the 8259; no IPI, LINT0 and the I/O APIC only.
    ExtInt,
}

impl DeliveryMode {
    /// From a three-bit field; higher bits are ignored.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            3 => Self::Reserved,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            _ => Self::ExtInt,
        }
    }

    /// The kernel's name, as its events print it (`kvm_deliver_mode` in arch/x86/kvm/trace.h).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "Fixed",
            Self::LowestPriority => "LowPrio",
            Self::Smi => "SMI",
            Self::Reserved => "Res3",
            Self::Nmi => "NMI",
            Self::Init => "INIT",
            Self::StartUp => "SIPI",
            Self::ExtInt => "ExtINT",
        }
    }
}

impl fmt::Display for DeliveryMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How the line is seen: bit 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// 0.
    Edge,
    /// 1.
    Level,
}

impl Trigger {
    const fn from_bit(set: bool) -> Self {
        if set { Self::Level } else { Self::Edge }
    }
}

impl fmt::Display for Trigger {
    /// `edge` or `level`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Edge => "edge",
            Self::Level => "level",
        })
    }
}

/// Destinations that need no id: bits 19:18 of the ICR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shorthand {
    /// 0: the destination field counts.
    None,
    /// 1: the sender.
    Myself,
    /// 2: everybody, the sender too.
    All,
    /// 3: everybody else.
    AllButSelf,
}

impl Shorthand {
    /// From a two-bit field; higher bits are ignored.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::None,
            1 => Self::Myself,
            2 => Self::All,
            _ => Self::AllButSelf,
        }
    }
}

impl fmt::Display for Shorthand {
    /// As the kernel prints it (`kvm_apic_dst_shorthand`): `dst`, `self`, `all`, `all-but-self`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "dst",
            Self::Myself => "self",
            Self::All => "all",
            Self::AllButSelf => "all-but-self",
        })
    }
}

/// Bit 11 of the ICR and bit 2 of an MSI's address: the destination is a mask over logical ids.
const ICR_LOGICAL: u32 = 1 << 11;
/// Bit 14 of the ICR: assert (else de-assert).
const ICR_ASSERT: u32 = 1 << 14;
/// Bit 15 of the ICR and of an MSI's data: level-triggered.
const LEVEL: u32 = 1 << 15;
const MSI_LOGICAL: u64 = 1 << 2;
/// Bit 3 of an MSI's address, the redirection hint: one of those addressed is enough.
const MSI_REDIRECT: u64 = 1 << 3;

/// The destination that is everybody in x2APIC mode.
const X2APIC_BROADCAST: u32 = 0xffff_ffff;
/// The destination that is everybody in xAPIC mode; KVM takes it so for logical destinations too.
const XAPIC_BROADCAST: u32 = 0xff;

/// An interrupt command: what one vCPU sends to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Icr {
    /// Which interrupt, or where to start. Without meaning for SMI, NMI and INIT.
    pub vector: u8,
    /// How it is delivered.
    pub mode: DeliveryMode,
    /// Whether `destination` is a logical id (a mask) rather than an APIC id.
    pub logical: bool,
    /// The level bit. False with a level trigger is a de-assert, which KVM drops (INIT de-assert of old).
    pub assert: bool,
    /// How it is triggered; matters for de-asserts only.
    pub trigger: Trigger,
    /// Whom it goes to without regard to `destination`.
    pub shorthand: Shorthand,
    /// The destination field: 32 bits in x2APIC mode, 8 in xAPIC mode.
    pub destination: u32,
}

impl Icr {
    /// From a write to the x2APIC register 0x830.
    #[must_use]
    pub const fn from_x2apic(value: u64) -> Self {
        let [d0, d1, d2, d3, d4, d5, d6, d7] = value.to_le_bytes();
        Self::from_parts(u32::from_le_bytes([d0, d1, d2, d3]), u32::from_le_bytes([d4, d5, d6, d7]))
    }

    /// From the lower half and the destination's id, as in the event `kvm_apic_ipi`.
    #[must_use]
    pub const fn from_parts(icr_low: u32, destination: u32) -> Self {
        let [vector, ..] = icr_low.to_le_bytes();
        Self {
            vector,
            mode: DeliveryMode::from_bits(icr_low >> 8),
            logical: icr_low & ICR_LOGICAL != 0,
            assert: icr_low & ICR_ASSERT != 0,
            trigger: Trigger::from_bit(icr_low & LEVEL != 0),
            shorthand: Shorthand::from_bits(icr_low >> 18),
            destination,
        }
    }

    /// From a write to the x2APIC register 0x83f, SELF IPI: bits 7:0 are the vector.
    #[must_use]
    pub const fn from_self_ipi(value: u64) -> Self {
        let [vector, ..] = value.to_le_bytes();
        Self {
            vector,
            mode: DeliveryMode::Fixed,
            logical: false,
            assert: true,
            trigger: Trigger::Edge,
            shorthand: Shorthand::Myself,
            destination: 0,
        }
    }

    /// Which of `vcpus` (ids of all the VM's vCPUs) it goes to.
    ///
    /// An APIC id is taken to be the vCPU's id, which is how KVM makes it; a guest in xAPIC mode could change its own.
    /// `sender` is the id of the vCPU that wrote the ICR; without it, `self` and `all-but-self` cannot be told.
    /// `x2apic`: whether the VM's APICs are in x2APIC mode.
    #[must_use]
    pub fn targets(&self, sender: Option<u32>, vcpus: &[u32], x2apic: bool) -> Targets {
        const NO_SENDER: Targets = Targets::Unknown("the sending vCPU is not known");
        let found = match (self.shorthand, sender) {
            (Shorthand::None, _) => match addressed(self.destination, self.logical, vcpus, x2apic) {
                Ok(found) => found,
                Err(why) => return Targets::Unknown(why),
            },
            (Shorthand::All, _) => vcpus.to_vec(),
            (Shorthand::Myself | Shorthand::AllButSelf, None) => return NO_SENDER,
            (Shorthand::Myself, Some(sender)) => vec![sender],
            (Shorthand::AllButSelf, Some(sender)) => {
                vcpus.iter().copied().filter(|&id| id != sender).collect()
            }
        };
        let lowest = self.mode == DeliveryMode::LowestPriority;
        Targets::new(found, lowest && !is_physical_broadcast(self.logical, self.destination))
    }
}

impl fmt::Display for Icr {
    /// What arrives, without to whom: `fixed vector 0xfd`, `nmi`, `startup 0x9a`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = describe(self.mode, self.vector);
        if self.trigger == Trigger::Level && !self.assert {
            text.push_str(" deassert");
        }
        f.pad(&text)
    }
}

/// A message-signalled interrupt: what a device sends, or what KVM makes of a line of its I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Msi {
    /// Which interrupt.
    pub vector: u8,
    /// How it is delivered.
    pub mode: DeliveryMode,
    /// Whether `destination` is a logical id (a mask) rather than an APIC id.
    pub logical: bool,
    /// How it is triggered.
    pub trigger: Trigger,
    /// The redirection hint: one of those addressed is enough.
    pub redirect: bool,
    /// An APIC id or a mask: 8 bits, or 32 where the VMM has enabled KVM's x2APIC format of messages.
    pub destination: u32,
}

impl Msi {
    /// From the event `kvm_msi_set_irq`: the upper half of `address` holds bits 31:8 of the destination, or zeros
    /// (SDM "Message Address Register Format", "Message Data Register Format"; KVM's `x86_msi_msg_get_destid`).
    #[must_use]
    pub fn new(address: u64, data: u64) -> Self {
        let [vector, mode, ..] = data.to_le_bytes();
        let [_, low, high, _, _, d1, d2, d3] = address.to_le_bytes();
        Self {
            vector,
            mode: DeliveryMode::from_bits(mode.into()),
            logical: address & MSI_LOGICAL != 0,
            trigger: Trigger::from_bit(data & u64::from(LEVEL) != 0),
            redirect: address & MSI_REDIRECT != 0,
            destination: u32::from_le_bytes([(low >> 4) | (high << 4), d1, d2, d3]),
        }
    }

    /// Which of `vcpus` (ids of all the VM's vCPUs) it goes to, as for [`Icr::targets`].
    #[must_use]
    pub fn targets(&self, vcpus: &[u32], x2apic: bool) -> Targets {
        // KVM_CAP_X2APIC_API decides whether 255 is everybody or vCPU 255 (kvm_apic_mda).
        if x2apic && self.destination == XAPIC_BROADCAST {
            return Targets::Unknown("destination 255 is everybody or vCPU 255, as the VMM chose");
        }
        match addressed(self.destination, self.logical, vcpus, x2apic) {
            Ok(found) => {
                let lowest = self.mode == DeliveryMode::LowestPriority;
                Targets::new(
                    found,
                    self.redirect || (lowest && !is_physical_broadcast(self.logical, self.destination)),
                )
            }
            Err(why) => Targets::Unknown(why),
        }
    }
}

impl fmt::Display for Msi {
    /// What arrives, without to whom: `fixed vector 0x41`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&describe(self.mode, self.vector))
    }
}

/// Whom an interrupt goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Each of these vCPUs, by id. Empty: nobody has that id, the interrupt is lost.
    Each(Vec<u32>),
    /// One of these, KVM chooses (lowest priority).
    OneOf(Vec<u32>),
    /// It cannot be told from the command alone; the reason in words.
    Unknown(&'static str),
}

impl Targets {
    fn new(found: Vec<u32>, one: bool) -> Self {
        if one && found.len() > 1 { Self::OneOf(found) } else { Self::Each(found) }
    }
}

/// The vCPUs that a destination field names.
fn addressed(destination: u32, logical: bool, vcpus: &[u32], x2apic: bool) -> Result<Vec<u32>, &'static str> {
    if destination == if x2apic { X2APIC_BROADCAST } else { XAPIC_BROADCAST } {
        return Ok(vcpus.to_vec());
    }
    if logical && !x2apic {
        return Err("logical ids are the guest's choice in xAPIC mode");
    }
    let is_meant = |id: u32| {
        let own = x2apic_logical_id(id);
        if logical {
            own >> 16 == destination >> 16 && own & destination & 0xffff != 0
        } else {
            id == destination
        }
    };
    Ok(vcpus.iter().copied().filter(|&id| is_meant(id)).collect())
}

/// Such an interrupt is never one of lowest priority: KVM makes it a fixed one, whatever the shorthand
/// (`kvm_irq_delivery_to_apic`).
const fn is_physical_broadcast(logical: bool, destination: u32) -> bool {
    !logical && destination == XAPIC_BROADCAST
}

/// The logical id of an APIC in x2APIC mode: cluster in the upper half, one bit of sixteen in the lower (SDM "Deriving
/// Logical x2APIC ID from the Local x2APIC ID"; KVM's `kvm_apic_calc_x2apic_ldr`).
const fn x2apic_logical_id(id: u32) -> u32 {
    ((id >> 4) << 16) | (1 << (id & 0xf))
}

fn describe(mode: DeliveryMode, vector: u8) -> String {
    match mode {
        DeliveryMode::Fixed => format!("fixed vector {vector:#04x}"),
        DeliveryMode::LowestPriority => format!("lowest-priority vector {vector:#04x}"),
        DeliveryMode::Smi => "smi".into(),
        DeliveryMode::Reserved => format!("reserved mode 3, vector {vector:#04x}"),
        DeliveryMode::Nmi => "nmi".into(),
        DeliveryMode::Init => "init".into(),
        DeliveryMode::StartUp => format!("startup {vector:#04x}"),
        DeliveryMode::ExtInt => "extint".into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VCPUS: &[u32] = &[0, 1, 2, 3, 16, 17, 31, 255];

    fn ipi(low: u32, destination: u32) -> Icr {
        Icr::from_parts(low, destination)
    }

    fn each(ids: &[u32]) -> Targets {
        Targets::Each(ids.to_vec())
    }

    #[test]
    fn commands_read_as_what_arrives() {
        for (low, text) in [
            (0x0000_00fd, "fixed vector 0xfd"),
            (0x000c_00fb, "fixed vector 0xfb"),
            (0x0000_0131, "lowest-priority vector 0x31"),
            (0x0000_0200, "smi"),
            (0x0000_0302, "reserved mode 3, vector 0x02"),
            (0x000c_0400, "nmi"),
            // What Linux writes to start a processor: INIT assert, INIT de-assert, SIPI.
            (0x0000_c500, "init"),
            (0x0000_8500, "init deassert"),
            (0x0000_069a, "startup 0x9a"),
            (0x0000_0700, "extint"),
        ] {
            assert_eq!(ipi(low, 1).to_string(), text, "{low:#x}");
        }
        assert_eq!(format!("{:>6}|", ipi(0x400, 1)), "   nmi|");
        assert_eq!(Icr::from_self_ipi(0xf6).to_string(), "fixed vector 0xf6");
    }

    #[test]
    fn words_are_the_kernels() {
        let modes: Vec<_> = (0..8).map(|bits| DeliveryMode::from_bits(bits).name()).collect();
        assert_eq!(modes, ["Fixed", "LowPrio", "SMI", "Res3", "NMI", "INIT", "SIPI", "ExtINT"]);
        let shorthands: Vec<_> = (0..4).map(|bits| Shorthand::from_bits(bits).to_string()).collect();
        assert_eq!(shorthands, ["dst", "self", "all", "all-but-self"]);
        assert_eq!((Trigger::Edge.to_string(), Trigger::Level.to_string()), ("edge".into(), "level".into()));
    }

    #[test]
    fn an_apic_id_names_one_vcpu_or_nobody() {
        assert_eq!(ipi(0xfd, 17).targets(Some(0), VCPUS, true), each(&[17]));
        assert_eq!(ipi(0xfd, 17).targets(None, VCPUS, false), each(&[17]));
        assert_eq!(ipi(0xfd, 4).targets(Some(0), VCPUS, true), each(&[]));
        // 255 is one vCPU in x2APIC mode, all of them in xAPIC mode.
        assert_eq!(ipi(0xfd, 255).targets(Some(0), VCPUS, true), each(&[255]));
        assert_eq!(ipi(0xfd, 255).targets(Some(0), VCPUS, false), each(VCPUS));
    }

    #[test]
    fn everybody_is_everybody_in_both_destination_modes() {
        for low in [0xfd, 0xfd | ICR_LOGICAL] {
            assert_eq!(ipi(low, 0xffff_ffff).targets(None, VCPUS, true), each(VCPUS));
            assert_eq!(ipi(low, 0xff).targets(None, VCPUS, false), each(VCPUS));
        }
    }

    #[test]
    fn a_logical_destination_is_a_mask_within_a_cluster_of_sixteen() {
        let logical = |destination| ipi(0xfd | ICR_LOGICAL, destination).targets(Some(0), VCPUS, true);
        assert_eq!(logical(0x0000_000a), each(&[1, 3]));
        assert_eq!(logical(0x0001_8001), each(&[16, 31]));
        assert_eq!(logical(0x000f_8000), each(&[255]));
        assert_eq!(logical(0x0002_ffff), each(&[]));
        assert_eq!(logical(0x0001_0000), each(&[]), "nobody has no bit");
    }

    #[test]
    fn logical_ids_of_xapic_mode_are_not_guessed() {
        let targets = ipi(0xfd | ICR_LOGICAL, 0x03).targets(Some(0), VCPUS, false);
        assert!(matches!(targets, Targets::Unknown(why) if why.contains("xAPIC")), "{targets:?}");
    }

    #[test]
    fn shorthands_disregard_the_destination() {
        let short = |bits: u32, sender| ipi(0xfd | (bits << 18), 99).targets(sender, VCPUS, true);
        assert_eq!(short(1, Some(2)), each(&[2]));
        assert_eq!(short(2, Some(2)), each(VCPUS));
        assert_eq!(short(2, None), each(VCPUS));
        assert_eq!(short(3, Some(2)), each(&[0, 1, 3, 16, 17, 31, 255]));
        for bits in [1, 3] {
            assert!(matches!(short(bits, None), Targets::Unknown(why) if why.contains("sending vCPU")));
        }
        assert_eq!(Icr::from_self_ipi(0xf6).targets(Some(31), VCPUS, true), each(&[31]));
    }

    #[test]
    fn lowest_priority_goes_to_one() {
        let lowest = 0x131 | ICR_LOGICAL;
        assert_eq!(ipi(lowest, 0xa).targets(Some(0), VCPUS, true), Targets::OneOf(vec![1, 3]));
        assert_eq!(ipi(lowest, 0x8).targets(Some(0), VCPUS, true), each(&[3]), "no choice");
        assert_eq!(ipi(0x131, 0xff).targets(Some(0), VCPUS, false), each(VCPUS), "KVM broadcasts it");
    }

    #[test]
    fn a_message_says_vector_and_destination() {
        let msi = Msi::new(0xfee0_1004, 0x0041);
        assert_eq!(
            msi,
            Msi {
                vector: 0x41,
                mode: DeliveryMode::Fixed,
                logical: true,
                trigger: Trigger::Edge,
                redirect: false,
                destination: 1,
            }
        );
        assert_eq!(msi.to_string(), "fixed vector 0x41");
        assert_eq!(msi.targets(VCPUS, true), each(&[0]), "bit 0 of cluster 0");
        let msi = Msi::new(0xfee1_1008, 0x8931);
        assert_eq!(
            (msi.mode, msi.trigger, msi.redirect),
            (DeliveryMode::LowestPriority, Trigger::Level, true)
        );
        assert_eq!(msi.targets(VCPUS, false), each(&[17]));
        // The x2APIC format: bits 31:8 of the destination are bits 63:40 of the address.
        assert_eq!(Msi::new(0x0001_2300_fee4_5000, 0x21).destination, 0x0001_2345);
    }

    #[test]
    fn a_message_to_255_is_not_guessed_in_x2apic_mode() {
        assert!(matches!(Msi::new(0xfeef_f000, 0x21).targets(VCPUS, true), Targets::Unknown(_)));
        assert_eq!(Msi::new(0xfeef_f000, 0x21).targets(VCPUS, false), each(VCPUS));
    }

    #[test]
    fn a_message_with_the_hint_goes_to_one() {
        assert_eq!(Msi::new(0xfee0_300c, 0x21).targets(VCPUS, true), Targets::OneOf(vec![0, 1]));
        assert_eq!(Msi::new(0xfeef_f008, 0x21).targets(VCPUS, false), Targets::OneOf(VCPUS.to_vec()));
        // Lowest priority alone: KVM makes a physical broadcast of it.
        assert_eq!(Msi::new(0xfeef_f000, 0x121).targets(VCPUS, false), each(VCPUS));
    }

    fn flag(set: bool, mask: u64) -> u64 {
        if set { mask } else { 0 }
    }

    fn encode_icr(icr: &Icr) -> u64 {
        u64::from(icr.vector)
            + ((icr.mode as u64) << 8)
            + flag(icr.logical, ICR_LOGICAL.into())
            + flag(icr.assert, ICR_ASSERT.into())
            + flag(icr.trigger == Trigger::Level, LEVEL.into())
            + ((icr.shorthand as u64) << 18)
            + (u64::from(icr.destination) << 32)
    }

    /// As Linux composes messages, with the extended destination of KVM's x2APIC format.
    fn encode_msi(msi: &Msi) -> (u64, u64) {
        let address = 0xfee0_0000
            + flag(msi.logical, MSI_LOGICAL)
            + flag(msi.redirect, MSI_REDIRECT)
            + (u64::from(msi.destination & 0xff) << 12)
            + (u64::from(msi.destination >> 8) << 40);
        let data = u64::from(msi.vector)
            + ((msi.mode as u64) << 8)
            + flag(msi.trigger == Trigger::Level, LEVEL.into());
        (address, data)
    }

    proptest! {
        #[test]
        fn an_encoded_command_decodes_to_itself(
            vector: u8, mode in 0..8u32, logical: bool, assert: bool, level: bool, short in 0..4u32, destination: u32,
        ) {
            let icr = Icr {
                vector,
                mode: DeliveryMode::from_bits(mode),
                logical,
                assert,
                trigger: Trigger::from_bit(level),
                shorthand: Shorthand::from_bits(short),
                destination,
            };
            prop_assert_eq!(Icr::from_x2apic(encode_icr(&icr)), icr);
        }

        /// The two ways in agree, and bits without meaning change nothing.
        #[test]
        fn nothing_of_a_command_is_lost(value: u64) {
            let icr = Icr::from_x2apic(value);
            prop_assert_eq!(Icr::from_parts(value as u32, (value >> 32) as u32), icr);
            prop_assert_eq!(encode_icr(&icr), value & 0xffff_ffff_000c_cfff);
        }

        #[test]
        fn an_encoded_message_decodes_to_itself(
            vector: u8, mode in 0..8u32, logical: bool, level: bool, redirect: bool, destination: u32,
        ) {
            let mode = DeliveryMode::from_bits(mode);
            let msi = Msi { vector, mode, logical, trigger: Trigger::from_bit(level), redirect, destination };
            let (address, data) = encode_msi(&msi);
            prop_assert_eq!(Msi::new(address, data), msi);
        }

        /// Every vCPU is reached by its own logical id, and no other is.
        #[test]
        fn a_logical_id_names_its_owner_alone(id in 0..0x8000u32, other in 0..0x8000u32) {
            let targets = ipi(0xfd | ICR_LOGICAL, x2apic_logical_id(id)).targets(None, &[id, other], true);
            prop_assert_eq!(targets, if id == other { each(&[id, id]) } else { each(&[id]) });
        }

        /// Targets are always among the vCPUs there are; a shorthand needs no destination.
        #[test]
        fn targets_exist(value: u64, sender in 0..300u32, count in 1..300u32, x2apic: bool) {
            let vcpus: Vec<u32> = (0..count).collect();
            let sender = sender.min(count - 1);
            match Icr::from_x2apic(value).targets(Some(sender), &vcpus, x2apic) {
                Targets::Each(ids) => prop_assert!(ids.iter().all(|id| vcpus.contains(id))),
                Targets::OneOf(ids) => prop_assert!(ids.len() > 1 && ids.iter().all(|id| vcpus.contains(id))),
                Targets::Unknown(_) => prop_assert!(!x2apic),
            }
        }
    }
}
