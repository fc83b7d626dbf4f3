//! Reads of device memory. Only registers whose reading changes nothing are read, unless an address is given.

use std::hint::black_box;
use std::path::Path;

use super::device_memory::Page;
use super::pci::{self, Device};
use super::resources::Claims;
use super::{Noun, Opened, Refusal, Spec, Target, fill};
use crate::measure::round::Details;
use crate::shared::bracket::Sample;

/// Version register of the local APIC, Intel SDM volume 3, 11.4.8.
const LAPIC_VERSION: u64 = 0x30;
/// Main counter of the HPET, IA-PC HPET specification 1.0a, 2.3.7.
const HPET_COUNTER: u64 = 0xf0;
/// Red Hat's vendor number, which virtio devices have (virtio 1.2, 4.1.2).
const VIRTIO_VENDOR: u64 = 0x1af4;
/// `num_queues` of the common configuration, 16 bits, which only the device changes (virtio 1.2, 4.1.4.3).
const VIRTIO_QUEUES: u64 = 0x12;
/// Display controllers.
const DISPLAY: u64 = 0x03;

pub(super) const NOUN: Noun = Noun {
    name: "mmio",
    usual: || {
        ["ioapic", "lapic", "hpet", "virtio", "vram", "pci-hole"]
            .map(|name| Spec::new(&format!("mmio:{name}")))
            .into()
    },
    open: |spec, _| {
        let word = find(spec)?;
        word.target()
    },
};

/// What is to be read.
struct Word {
    page: Page,
    size: u64,
    via: String,
    what: String,
}

fn find(spec: &Spec) -> Result<Word, Refusal> {
    match spec.op.as_str() {
        "mmio:ioapic" => claimed("IOAPIC 0", 0),
        "mmio:hpet" => claimed("HPET 0", HPET_COUNTER),
        "mmio:lapic" => lapic(),
        "mmio:virtio" => virtio(),
        "mmio:vram" => vram(),
        "mmio:pci-hole" => {
            let hole = Claims::memory()?.hole().ok_or_else(|| {
                Refusal::new(
                    "/proc/iomem has no window of a PCI bus with room in it",
                    "name an address with --addr",
                )
            })?;
            physical(hole, 4, "what nobody has")
        }
        "mmio:addr" => asked(spec),
        _ => Err(Refusal::new(format!("{} has no code", spec.op), "report this")),
    }
}

fn physical(address: u64, size: u64, owner: &str) -> Result<Word, Refusal> {
    let page = Page::physical(address)?;
    Ok(Word { page, size, via: "/dev/mem".into(), what: format!("{address:#x}, {owner}") })
}

/// A register of what the kernel knows by this name.
fn claimed(name: &str, offset: u64) -> Result<Word, Refusal> {
    let claims = Claims::memory()?;
    let claim = claims.of(name).ok_or_else(|| {
        Refusal::new(format!("/proc/iomem has no {name}"), "nothing helps, unless the machine is given one")
    })?;
    physical(claim.start + offset, 4, name)
}

/// In x2APIC mode nobody answers at the local APIC's address: what is read then is all ones (KVM's quirk LAPIC_MMIO_HOLE)
/// or zero.
fn lapic() -> Result<Word, Refusal> {
    let word = claimed("Local APIC", LAPIC_VERSION)?;
    // SAFETY: mapped, aligned, and reading the version changes nothing.
    let version = unsafe { word.page.word::<u32>()?.read_volatile() };
    if version == 0 || version == u32::MAX {
        return Err(Refusal::new(
            format!("the local APIC is in x2APIC mode: its memory reads {version:#x}"),
            "boot with nox2apic to measure it, or see msr:read for what x2APIC mode costs",
        ));
    }
    Ok(word)
}

fn virtio() -> Result<Word, Refusal> {
    let mut devices =
        pci::devices(Path::new(pci::DEVICES)).into_iter().filter(|one| one.vendor == VIRTIO_VENDOR);
    let none = || Refusal::new("no virtio device on PCI has a common configuration", "give the machine one");
    let first = devices.next().ok_or_else(none)?;
    for device in std::iter::once(first).chain(devices) {
        if let Some((bar, offset)) = device.virtio_common()? {
            return behind_bar(&device, bar, offset + VIRTIO_QUEUES, 2);
        }
    }
    Err(none())
}

fn vram() -> Result<Word, Refusal> {
    let devices = pci::devices(Path::new(pci::DEVICES));
    let display = devices.iter().filter(|device| device.class >> 16 == DISPLAY);
    let memory = display.filter_map(|device| {
        let bar = device.bars.iter().position(|bar| bar.is_some_and(|bar| bar.is_prefetchable))?;
        Some((device, bar as u64))
    });
    let (device, bar) = memory.into_iter().next().ok_or_else(|| {
        Refusal::new("no graphics card with memory is on PCI", "give the machine one, such as -device VGA")
    })?;
    behind_bar(device, bar, 0, 4)
}

/// sysfs' file first: it needs no /dev/mem.
fn behind_bar(device: &Device, number: u64, offset: u64, size: u64) -> Result<Word, Refusal> {
    let bar = device.bar(number)?;
    if offset.checked_add(size).is_none_or(|end| end > bar.len) {
        return Err(Refusal::new(
            format!("BAR {number} of {} has {:#x} bytes", device.name, bar.len),
            "choose a smaller --offset",
        ));
    }
    let what = format!("{} BAR {number} + {offset:#x}", device.name);
    match Page::map(&device.resource(number), offset) {
        Ok(page) => Ok(Word { page, size, via: format!("resource{number}"), what }),
        Err(error) => physical(bar.start + offset, size, &what).map_err(|refusal| {
            Refusal::new(
                format!("{what}: resource{number} is refused ({error}), {}", refusal.reason),
                refusal.hint,
            )
        }),
    }
}

/// `addr`, or `pci` with `bar` and `offset`.
fn asked(spec: &Spec) -> Result<Word, Refusal> {
    let size = spec.number("size", 4)?;
    if !matches!(size, 1 | 2 | 4 | 8) {
        return Err(Refusal::new(format!("{size} bytes cannot be read at once"), "use 1, 2, 4 or 8"));
    }
    if let Some(name) = spec.text("pci")? {
        // Without a domain it is the first one.
        let full = if name.matches(':').count() == 1 { format!("0000:{name}") } else { name.to_owned() };
        let devices = pci::devices(Path::new(pci::DEVICES));
        let device = devices.iter().find(|device| device.name == full).ok_or_else(|| {
            Refusal::new(format!("there is no PCI device {full}"), format!("{} lists them", pci::DEVICES))
        })?;
        return behind_bar(device, spec.number("bar", 0)?, spec.number("offset", 0)?, size);
    }
    let address = spec.number("addr", 0)?;
    let owner = Claims::memory()
        .ok()
        .and_then(|claims| claims.device_at(address).map(str::to_owned))
        .unwrap_or_else(|| "what nobody has".to_owned());
    if owner == "System RAM" {
        return Err(Refusal::new(
            format!("{address:#x} is this system's memory: reading it makes no exit"),
            "name the address of a device; /proc/iomem lists them",
        ));
    }
    physical(address, size, &owner)
}

impl Word {
    fn target(self) -> Opened {
        Ok(match self.size {
            1 => Box::new(Read { word: self.page.word::<u8>()?, of: self }),
            2 => Box::new(Read { word: self.page.word::<u16>()?, of: self }),
            8 => Box::new(Read { word: self.page.word::<u64>()?, of: self }),
            _ => Box::new(Read { word: self.page.word::<u32>()?, of: self }),
        })
    }
}

/// Reads of a word.
struct Read<T> {
    word: *const T,
    of: Word,
}

impl<T: Copy> Target for Read<T> {
    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        let word = self.word;
        fill(samples, repeat, || {
            // SAFETY: it lies aligned in the page, which is mapped as long as `self.of` lives.
            black_box(unsafe { word.read_volatile() });
        });
        Ok(())
    }

    fn details(&mut self) -> Details {
        let notes = [("via", &self.of.via), ("address", &self.of.what)];
        Details {
            notes: notes.map(|(name, value)| (name.to_owned(), value.clone())).into(),
            ..Details::default()
        }
    }
}
