//! Model-specific registers, with the kernel's device `/dev/cpu/N/msr` (arch/x86/kernel/msr.c) on the CPU that asks.
//!
//! The device costs a system call, and a call of a function on "that CPU", which is this one: what both take is measured
//! first and taken off each sample.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Noun, Opened, Place, Refusal, Spec, Target};
use crate::measure::round::Details;
use crate::shared::bracket::{self, Sample};

#[path = "msr_names.rs"]
pub(crate) mod names;

/// What is read usually: two that KVM lets pass on most machines, the others are intercepted.
const USUAL: [&str; 6] =
    ["tsc_adjust", "apicbase", "platform_info", "misc_enable", "spec_ctrl", "kernel_gs_base"];

/// KVM intercepts this register on no vendor's processors (`vmx_possible_passthrough_msrs` in vmx/vmx.c,
/// `direct_access_msrs` in svm/svm.c): what reading it takes is the way there.
const PASSED: u32 = 0xc000_0100;

/// How often the way is measured.
const CALIBRATION: usize = 2001;

pub(super) const NOUN: Noun = Noun {
    name: "msr",
    usual: || USUAL.map(|name| Spec::new("msr:read").with("msr", name)).into(),
    open: |spec, place| open(spec, place),
};

fn open(spec: &Spec, place: Place) -> Opened {
    let name = spec.text("msr")?.unwrap_or(USUAL[0]);
    let index = names::number(name)
        .ok_or_else(|| Refusal::new(format!("{name} is no known register"), "give its number after 0x"))?;
    let device = Path::new("/dev/cpu").join(place.cpu.to_string());
    let writes = spec.op == "msr:write";
    let mut target = Register::open(&device.join("msr"), index, writes)?;
    let (way, by) = target.calibrate(&device.join("cpuid"))?;
    (target.way, target.by) = (way, by);
    Ok(Box::new(target))
}

/// One register.
struct Register {
    file: File,
    index: u32,
    writes: bool,
    /// What it held when it was opened, to be put back.
    held: u64,
    /// Cycles of a system call that does the same but for the register.
    way: u64,
    /// What told so.
    by: &'static str,
}

impl Register {
    /// `path` is the device; each register is 8 bytes at its number.
    fn open(path: &Path, index: u32, writes: bool) -> Result<Self, Refusal> {
        let file = OpenOptions::new().read(true).write(writes).open(path);
        let file = file.map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
                    "load the module msr (modprobe msr; CONFIG_X86_MSR), or use the payload: `kvm-utils bench` on the host"
                }
                _ => "run it as root with CAP_SYS_RAWIO, without kernel lockdown",
            };
            Refusal::new(format!("{} cannot be opened: {error}", path.display()), hint)
        })?;
        let mut register = Self { file, index, writes, held: 0, way: 0, by: "" };
        if writes {
            register.held = register.read()?;
        }
        Ok(register)
    }

    fn read(&self) -> Result<u64, Refusal> {
        let mut bytes = [0; 8];
        self.file
            .read_exact_at(&mut bytes, self.index.into())
            .map_err(|error| self.refused("reading", &error))?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn refused(&self, doing: &str, error: &io::Error) -> Refusal {
        let name = names::name(self.index);
        match error.raw_os_error() {
            Some(libc::EIO) => Refusal::new(
                format!(
                    "{doing} {name} ({:#x}) raises #GP: the processor or the hypervisor does not have it",
                    self.index
                ),
                "nothing helps; choose another with --index",
            ),
            Some(libc::EPERM) => Refusal::new(
                format!("the kernel does not let {name} be written"),
                "write on to /sys/module/msr/parameters/allow_writes; kernel lockdown forbids it in any case",
            ),
            _ => Refusal::new(format!("{doing} {name} fails: {error}"), "run it as root"),
        }
    }

    /// What the system call takes without the register: the device for CPUID makes the same call, so that its time less
    /// that of CPUID is it; without that device, a register that is not intercepted.
    fn calibrate(&self, cpuid: &Path) -> Result<(u64, &'static str), Refusal> {
        if let Ok(file) = File::open(cpuid) {
            let mut bytes = [0; 16];
            if let (Some(device), Some(alone)) = (
                median(|| file.read_exact_at(&mut bytes, 0).is_ok()),
                median(|| {
                    black_box(std::arch::x86_64::__cpuid_count(0, 0));
                    true
                }),
            ) {
                return Ok((device.saturating_sub(alone), "those of /dev/cpu/N/cpuid less CPUID"));
            }
        }
        let mut bytes = [0; 8];
        median(|| self.file.read_exact_at(&mut bytes, PASSED.into()).is_ok())
            .map(|way| (way, "those of fs_base, which is not intercepted"))
            .ok_or_else(|| {
                Refusal::new("the cost of the system call cannot be measured", "load the module cpuid")
            })
    }

    /// What to write: what it holds. A deadline that has passed holds zero, and zero would stop a timer that an interrupt
    /// has set since: the present moment is written instead, at which the kernel's handler finds nothing to do. Outside
    /// of deadline mode the register reads zero and takes nothing (Intel SDM volume 3, 11.5.4.1).
    fn value(&self) -> Result<u64, Refusal> {
        match (self.index, self.read()?) {
            (names::TSC_DEADLINE, 0) => Ok(bracket::start()),
            (_, value) => Ok(value),
        }
    }
}

/// Of a function's brackets, less the bracket itself; None when it fails.
fn median(mut function: impl FnMut() -> bool) -> Option<u64> {
    let mut worked = true;
    let mut time = |function: &mut dyn FnMut() -> bool| bracket::time(|| worked &= function()).cycles;
    let mut all: Vec<u64> = (0..CALIBRATION).map(|_| time(&mut function)).collect();
    let mut empty: Vec<u64> = (0..CALIBRATION).map(|_| time(&mut || true)).collect();
    all.sort_unstable();
    empty.sort_unstable();
    worked.then(|| all[CALIBRATION / 2].saturating_sub(empty[CALIBRATION / 2]))
}

impl Target for Register {
    fn fill(&mut self, samples: &mut [Sample], _: u32) -> Result<(), Refusal> {
        let mut bytes = [0; 8];
        for sample in samples {
            let mut result = Ok(());
            if self.writes {
                bytes = self.value()?.to_le_bytes();
                *sample = bracket::time(|| result = self.file.write_all_at(&bytes, self.index.into()));
            } else {
                *sample = bracket::time(|| result = self.file.read_exact_at(&mut bytes, self.index.into()));
            }
            result.map_err(|error| self.refused(if self.writes { "writing" } else { "reading" }, &error))?;
        }
        black_box(bytes);
        Ok(())
    }

    fn way(&self) -> Option<u64> {
        Some(self.way)
    }

    fn details(&mut self) -> Details {
        let via = format!("/dev/cpu/N/msr, less the {} cycles of its system call ({})", self.way, self.by);
        let notes = [("via", via), ("index", format!("{:#x}", self.index))];
        Details { notes: notes.map(|(name, value)| (name.to_owned(), value)).into(), ..Details::default() }
    }
}

impl Drop for Register {
    fn drop(&mut self) {
        // The kernel sets its deadline all the time; what was there is of no use any more.
        if !self.writes || self.index == names::TSC_DEADLINE {
            return;
        }
        if self.read().is_ok_and(|value| value != self.held) {
            // There is nobody to be told when this fails.
            let _ = self.file.write_all_at(&self.held.to_le_bytes(), self.index.into());
        }
    }
}

/// The registers that `--write` writes when none is named.
pub(crate) const WRITTEN: [&str; 4] = ["tsc_deadline", "power_ctl", "tsc_adjust", "spec_ctrl"];

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// A file in which each register has its own bytes, as the device has.
    fn device() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(0x1000).unwrap();
        file
    }

    fn value(file: &tempfile::NamedTempFile, index: u64) -> u64 {
        let mut bytes = [0; 8];
        file.as_file().read_exact_at(&mut bytes, index).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// Another tool says POWER_CTL and writes TSC_DEADLINE.
    #[test]
    fn the_register_that_is_named_is_the_one_that_is_written() {
        for name in WRITTEN {
            let index = names::number(name).unwrap();
            let wanted = u64::from(match name {
                "tsc_deadline" => x86::msr::IA32_TSC_DEADLINE,
                "power_ctl" => x86::msr::MSR_POWER_CTL,
                "tsc_adjust" => 0x3b,
                _ => 0x48,
            });
            let file = device();
            let mut register = Register::open(file.path(), index, true).unwrap();
            // Somebody changes it after it was opened: samples write that, not what was there at first.
            file.as_file().write_all_at(&[0x5a; 8], wanted).unwrap();
            file.as_file().set_modified(UNIX_EPOCH).unwrap();
            let mut samples = [Sample::default(); 3];
            register.fill(&mut samples, 1).unwrap();
            assert!(file.as_file().metadata().unwrap().modified().unwrap() > UNIX_EPOCH, "not written");
            assert_eq!(value(&file, wanted), u64::from_le_bytes([0x5a; 8]), "{name}");
            // Nothing else was touched.
            let all = std::fs::read(file.path()).unwrap();
            let touched: Vec<_> = (0..all.len()).filter(|&at| all[at] != 0).collect();
            assert_eq!(touched, (wanted as usize..wanted as usize + 8).collect::<Vec<_>>(), "{name}");
            drop(register);
            let left = if name == "tsc_deadline" { u64::from_le_bytes([0x5a; 8]) } else { 0 };
            assert_eq!(value(&file, wanted), left, "{name}: what was there is put back");
        }
    }

    #[test]
    fn a_deadline_of_zero_is_never_written() {
        let file = device();
        let mut register = Register::open(file.path(), names::TSC_DEADLINE, true).unwrap();
        register.fill(&mut [Sample::default()], 1).unwrap();
        let written = value(&file, names::TSC_DEADLINE.into());
        assert!(written != 0 && written <= bracket::start(), "{written}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let refusal = Register::open(Path::new("nowhere/msr"), 0x10, false).err().unwrap();
        assert!(
            refusal.reason.contains("nowhere/msr") && refusal.hint.contains("modprobe msr"),
            "{refusal:?}"
        );
        let file = device();
        let register = Register::open(file.path(), 0x10, false).unwrap();
        let refusal = register.refused("reading", &io::Error::from_raw_os_error(libc::EIO));
        assert!(refusal.reason.contains("tsc (0x10) raises #GP"), "{refusal:?}");
    }

    #[test]
    fn the_way_is_what_a_register_takes_that_is_not_intercepted() {
        let file = device();
        let register = Register::open(file.path(), 0x10, false).unwrap();
        // The file ends before that register.
        assert!(register.calibrate(Path::new("nowhere/cpuid")).is_err());
        file.as_file().set_len(u64::from(PASSED) + 8).unwrap();
        let (way, by) = register.calibrate(Path::new("nowhere/cpuid")).unwrap();
        assert!(way > 0 && by.contains("fs_base"), "{way} {by}");
    }
}
