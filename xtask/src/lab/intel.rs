//! The Intel lab: Bochs, which implements VMX, in which a stock kernel loads kvm_intel.
//!
//! Kernel and initramfs are put into the emulated memory by the emulator itself and started by a ROM of ours,
//! so there is no disk, no CD and no boot loader. Emulated time is counted in instructions: it stands still
//! for nothing and jumps over idling, so a `sleep 10` takes no time and a busy minute may take two.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::bochs::{self, Bochs};
use super::cache::Cache;
use super::cpio::Archive;
use super::emulator::{self, End};
use super::kernel::{self, Flavour, Kernel};
use super::packages::{self, Need};
use super::vmlinux::Vmlinux;
use super::{Lab, Outcome, Output, Request, bootrom, carried, initramfs, script};
use crate::cleanup::TtyGuard;
use crate::ui;

const NEEDS: [Need; 6] = [
    Need::new(initramfs::BUSYBOX, "busybox-static"),
    Need::new("depmod", "kmod"),
    Need::new("xz", "xz-utils"),
    Need::new("zstd", "zstd"),
    Need::new("dpkg-deb", "dpkg"),
    Need::new("ldd", "libc-bin"),
];

/// Good with all four kernels. Of the later models skylake_x gives a wrong TSC rate and icelake_u hangs.
const MODEL: &str = "corei7_haswell_4770";

/// Instructions per emulated second, also the TSC's rate: near what the emulator does in a real second.
const INSTRUCTIONS_PER_SECOND: u64 = 100_000_000;

/// Memory of the lab when the request does not say, MiB.
const MEMORY: u32 = 1024;
/// The most that Bochs takes from its host, MiB.
const MEMORY_MAX: u32 = 2048;

/// Words for the kernel besides the request's. A reboot is a triple fault, at which Bochs ends: so a panic
/// ends the run. `cryptomgr.notests` and the blacklisted self-test save 3 s of emulated time, the address is fixed
/// as the kernel lies in memory already, and the TSC is what Bochs makes it.
const KERNEL_ARGS: &str = "console=ttyS0 quiet panic=-1 oops=panic reboot=t nokaslr mitigations=off tsc=reliable \
                           cryptomgr.notests initcall_blacklist=jent_mod_init";

/// How much of the console an error shows, in lines.
const TAIL: usize = 25;

const MIB: u64 = 1 << 20;

/// Installs, downloads and builds what a run needs.
pub(crate) fn prepare(cache: &Cache, request: &Request) -> Result<(Kernel, Bochs)> {
    packages::ensure(&NEEDS)?;
    Ok((kernel::prepare(cache, request.suite, Flavour::Generic)?, bochs::prepare(cache)?))
}

/// Boots the lab, runs the request's command in it and gives its exit status. There is one virtual CPU, whatever
/// the request says: a guest of KVM hangs when Bochs emulates two.
///
/// # Errors
/// When the lab cannot be set up, when the guest dies or hangs (with the end of its console), and when
/// nobody takes the output.
pub(crate) fn run(lab: &Lab, request: &Request, output: &mut Output<'_>) -> Result<Outcome> {
    let (kernel, bochs) = prepare(&lab.cache, request)?;
    let run = lab.cache.run_dir()?;
    let dir = run.path();
    let (facts, flat) = unpacked(&lab.cache, &kernel)?;
    let image = carried::image(request, &lab.project.root, &kernel, output)?;
    let size = write(&image, &dir.join("initramfs"))?;
    let memory = request.mem_mib.unwrap_or(MEMORY);
    let initramfs = place(&facts, size, memory)?;
    let mut arguments = KERNEL_ARGS.to_owned();
    for word in &request.kernel_args {
        arguments.push(' ');
        arguments.push_str(word);
    }
    fs::write(dir.join("rom"), bootrom::image(&facts, initramfs..initramfs + size, &arguments)?)?;
    // Names in the configuration cannot be quoted; these are relative to the run's directory.
    symlink(flat, dir.join("vmlinux"))?;
    symlink(bochs.bios(), dir.join(bochs::BIOS))?;
    let lifelike = request.interactive || matches!(output, Output::Terminal(_));
    let com2 = match (request.interactive, lifelike) {
        (true, _) => "enabled=1, mode=term, dev=/dev/tty",
        (false, true) => "enabled=1, mode=file, dev=/proc/self/fd/1",
        (false, false) => "enabled=0",
    };
    let text = configuration(memory, facts.load, initramfs, com2, lifelike);
    fs::write(dir.join("bochsrc"), text)?;

    let mut command = Command::new(bochs.program());
    command.args(["-q", "-f", "bochsrc"]).current_dir(dir);
    command.stderr(fs::File::create(dir.join("stderr"))?);
    let end = if request.interactive {
        let _tty = TtyGuard::save();
        emulator::interact(command)?
    } else {
        emulator::run(command, request.limits, output)?
    };
    judge(end, request, &kernel, dir)
}

/// The uncompressed kernel, made once and kept beside the compressed one: its facts and its file.
fn unpacked(cache: &Cache, kernel: &Kernel) -> Result<(Vmlinux, std::path::PathBuf)> {
    let (flat, facts) = (kernel.dir.join("vmlinux"), kernel.dir.join("vmlinux.json"));
    let _lock = cache.lock("vmlinux")?;
    // The facts are written last.
    if let Ok(known) = Vmlinux::from_json(&fs::read_to_string(&facts).unwrap_or_default()) {
        return Ok((known, flat));
    }
    ui::step(format_args!("unpacking the kernel {}", kernel.version));
    let image = kernel.image();
    let bzimage = fs::read(&image).with_context(|| format!("cannot read {}", image.display()))?;
    let (unpacked, bytes) =
        Vmlinux::unpack(&bzimage).with_context(|| format!("cannot unpack {}", image.display()))?;
    cache.publish_file(&flat, &bytes)?;
    cache.publish_file(&facts, unpacked.to_json().as_bytes())?;
    Ok((unpacked, flat))
}

/// Writes the initramfs and tells its size.
fn write(image: &Archive, path: &Path) -> Result<u64> {
    let context = || format!("cannot write {}", path.display());
    let mut file = io::BufWriter::new(fs::File::create(path).with_context(context)?);
    image.write(&mut file).with_context(context)?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error).with_context(context)?;
    Ok(file.metadata()?.len())
}

/// Where the initramfs lies: behind the kernel, at a whole MiB.
fn place(kernel: &Vmlinux, size: u64, memory: u32) -> Result<u64> {
    ensure!(memory <= MEMORY_MAX, "the Intel lab takes up to {MEMORY_MAX} MiB of memory, not {memory}");
    let initramfs = kernel.end.next_multiple_of(MIB);
    // The kernel copies the files out before it gives the image's memory back, and needs some for itself.
    let needed = (initramfs + 2 * size) / MIB + 128;
    ensure!(
        needed <= u64::from(memory),
        "what is carried into the lab ({} MiB) needs {needed} MiB of memory and the lab has {memory}: carry less, \
         or give it more (--mem, up to {MEMORY_MAX})",
        size / MIB
    );
    Ok(initramfs)
}

/// The emulator's configuration file (bochsrc(5)).
fn configuration(memory: u32, kernel: u64, initramfs: u64, com2: &str, lifelike: bool) -> String {
    // For a person time passes as it does outside, unless the emulator is too slow for it.
    let sync = if lifelike { "slowdown" } else { "none" };
    format!(
        "config_interface: textconfig\n\
         display_library: nogui\n\
         memory: guest={memory}, host={memory}\n\
         cpu: model={MODEL}, count=1, ips={INSTRUCTIONS_PER_SECOND}, reset_on_triple_fault=0, ignore_bad_msrs=1\n\
         clock: sync={sync}, time0=utc\n\
         romimage: file={bios}, options=fastboot\n\
         vgaromimage: file=rom\n\
         optramimage1: file=vmlinux, address={kernel:#x}\n\
         optramimage2: file=initramfs, address={initramfs:#x}\n\
         pci: enabled=1, chipset=i440fx\n\
         com1: enabled=1, mode=file, dev=console\n\
         com2: {com2}\n\
         port_e9_hack: enabled=1\n\
         mouse: enabled=0\n\
         log: log\n\
         panic: action=fatal\n\
         error: action=ignore\n\
         info: action=ignore\n\
         debug: action=ignore\n",
        bios = bochs::BIOS,
    )
}

/// What became of the run. Bochs calls every end a panic, also the power-off; what counts is the verdict
/// on the console.
fn judge(end: End, request: &Request, kernel: &Kernel, dir: &Path) -> Result<Outcome> {
    let console = fs::read(dir.join("console")).unwrap_or_default();
    let what = match (end, script::verdict(&console)) {
        (End::Exited(_), Some(Ok(status))) => {
            return Ok(Outcome { status, kernel: kernel.version.clone() });
        }
        (End::Killed(why), _) => why,
        (End::Exited(_), Some(Err(why))) => why,
        (End::Exited(status), None) => {
            let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
            let reason = panic(&log).map_or_else(|| status.to_string(), ToOwned::to_owned);
            format!("died before the command ended ({reason})")
        }
    };
    bail!(
        "the lab ({}, {}) {what}; its console ends with\n{}",
        request.vendor,
        kernel.version,
        emulator::tail(&console, TAIL)
    )
}

/// The last words of the emulator, from its log: `TIMEp[DEVICE] >>PANIC<< words`.
fn panic(log: &str) -> Option<&str> {
    log.lines().rev().find_map(|line| line.split_once(">>PANIC<< ")).map(|(_, words)| words.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Vmlinux {
        Vmlinux { entry: 0x100_0000, load: 0x100_0000, end: 0x4a0_0800, setup_header: Vec::new() }
    }

    #[test]
    fn the_initramfs_lies_behind_the_kernel_if_it_fits() {
        assert_eq!(place(&kernel(), 64 * MIB, 512).unwrap(), 0x4b0_0000);
        let error = place(&kernel(), 200 * MIB, 512).unwrap_err().to_string();
        assert!(error.contains("needs 603 MiB") && error.contains("--mem"), "{error}");
        assert!(place(&kernel(), MIB, 4096).is_err());
    }

    #[test]
    fn the_emulators_last_words_are_found() {
        let log = "00000000000i[      ] Bochs\n00951283567p[ACPI  ] >>PANIC<< ACPI control: soft power off\n";
        assert_eq!(panic(log), Some("ACPI control: soft power off"));
        assert_eq!(panic("00000000000i[      ] Bochs\n"), None);
    }

    #[test]
    fn the_configuration_names_no_host_path() {
        let text = configuration(1024, 0x100_0000, 0x4b0_0000, "enabled=0", false);
        assert!(text.contains("optramimage1: file=vmlinux, address=0x1000000\n"));
        assert!(text.lines().all(|line| line.contains(": ") && !line.contains('/')), "{text}");
    }
}
