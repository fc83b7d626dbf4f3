//! Port I/O, which KVM always intercepts: in the kernel's own devices, or on to the VMM.

use std::arch::asm;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;

use super::resources::Claims;
use super::{Noun, Opened, Place, Refusal, Spec, Target, fill};
use crate::measure::round::Details;
use crate::shared::bracket::Sample;

/// Edge/level control of the first 8259: KVM's `picdev_eclr_ops`, arch/x86/kvm/i8259.c.
const ELCR: u16 = 0x4d0;
/// Interrupt mask of the first 8259.
const PIC_MASK: u16 = 0x21;
/// Count of channel 0 of the 8254.
const PIT_COUNT: u16 = 0x40;
/// Status of the 8042; reading it changes nothing, unlike the data at 0x60.
const KEYBOARD_STATUS: u16 = 0x64;
/// Where no PC has a device; kvm-unit-tests uses it too.
const NOBODY: u16 = 0x1234;

pub(super) const NOUN: Noun = Noun {
    name: "pio",
    usual: || {
        ["kernel-in", "pic", "pit", "user-in", "keyboard", "pmtimer"]
            .map(|name| Spec::new(&format!("pio:{name}")))
            .into()
    },
    open: |spec, place| open(spec, &place),
};

fn open(spec: &Spec, _: &Place) -> Opened {
    let variant = spec.op.split_once(':').map_or("", |(_, variant)| variant);
    let size = Size::of(spec)?;
    match variant {
        "kernel-in" => Port::reach(ELCR, size),
        "kernel-out" => writer(ELCR, true),
        "pic" => Port::reach(PIC_MASK, size),
        "pit" => Port::reach(PIT_COUNT, Size::Byte),
        "user-in" => {
            nobody_at(NOBODY)?;
            Port::reach(NOBODY, size)
        }
        "user-out" => {
            nobody_at(NOBODY)?;
            writer(NOBODY, false)
        }
        "keyboard" => Port::reach(KEYBOARD_STATUS, Size::Byte),
        // ACPI 6.5, 4.8.3.3: 32 bits wide.
        "pmtimer" => Port::reach(pm_timer()?, Size::Long),
        "port" => {
            let port = spec.number("port", u64::from(NOBODY))?;
            let port = u16::try_from(port)
                .map_err(|_| Refusal::new(format!("{port:#x} is no port"), "ports have 16 bits"))?;
            Port::reach(port, size)
        }
        _ => return Err(Refusal::new(format!("{} has no code", spec.op), "report this")),
    }
    .map(|port| port as Box<dyn Target>)
}

/// Refuses a port at which a device answers.
fn nobody_at(port: u16) -> Result<(), Refusal> {
    match Claims::ports()?.device_at(u64::from(port)) {
        None => Ok(()),
        Some(device) => Err(Refusal::new(
            format!("port {port:#x} belongs to {device} here"),
            "name one that nobody has with --port",
        )),
    }
}

fn pm_timer() -> Result<u16, Refusal> {
    let ports = Claims::ports()?;
    let start = ports.of("ACPI PM_TMR").and_then(|claim| u16::try_from(claim.start).ok());
    start.ok_or_else(|| {
        Refusal::new("/proc/ioports has no ACPI PM_TMR: this machine has no such timer", "nothing helps")
    })
}

/// How much is read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Byte,
    Word,
    Long,
}

impl Size {
    fn of(spec: &Spec) -> Result<Self, Refusal> {
        match spec.number("size", 1)? {
            1 => Ok(Self::Byte),
            2 => Ok(Self::Word),
            4 => Ok(Self::Long),
            other => Err(Refusal::new(format!("{other} bytes cannot be read at once"), "use 1, 2 or 4")),
        }
    }

    fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Long => 4,
        }
    }
}

/// How ports are reached.
#[derive(Debug)]
enum Way {
    /// The instruction itself, allowed by the named system call.
    Allowed(&'static str),
    /// A system call each time.
    Device(File),
}

impl Way {
    /// Tries what adds nothing first.
    fn to(port: u16, size: Size, writes: bool) -> Result<Self, Refusal> {
        if u32::from(port) + u32::from(size.bytes()) > 0x1_0000 {
            return Err(Refusal::new(
                format!("nothing is behind port {port:#x}"),
                "name a smaller port or --size",
            ));
        }
        // SAFETY: gives this thread access to these ports only; it can then do no more than the operation does.
        let mut allowed = match unsafe { libc::ioperm(port.into(), size.bytes().into(), 1) } {
            0 => Ok("ioperm"),
            _ => Err(io::Error::last_os_error()),
        };
        // SAFETY: gives this thread access to all ports.
        if allowed.is_err() && unsafe { libc::iopl(3) } == 0 {
            allowed = Ok("iopl");
        }
        let refused = match allowed {
            Ok(call) if is_obeyed() => return Ok(Self::Allowed(call)),
            Ok(call) => format!("{call} is granted, but the instruction is refused all the same"),
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                "this kernel has neither ioperm nor iopl (CONFIG_X86_IOPL_IOPERM)".to_owned()
            }
            Err(error) => format!("ioperm and iopl are refused ({error})"),
        };
        match OpenOptions::new().read(true).write(writes).open("/dev/port") {
            Ok(file) if size == Size::Byte => Ok(Self::Device(file)),
            Ok(_) => Err(Refusal::new(
                format!("{refused}, and /dev/port reads single bytes"),
                "use --size 1, or run it as root on a kernel with CONFIG_X86_IOPL_IOPERM",
            )),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Err(Refusal::new(
                format!("{refused}, and there is no /dev/port"),
                "run it as root on a kernel that has one of them, or use the payload: `kvm-utils bench` on the host",
            )),
            Err(error) => Err(Refusal::new(
                format!("{refused}, and /dev/port cannot be opened ({error})"),
                "run it as root with CAP_SYS_RAWIO, without kernel lockdown",
            )),
        }
    }
}

/// Whether the processor does what the kernel allows. An emulator may not: QEMU's finds fault with the task state segment of
/// a guest of KVM (`helper_check_io`), which is then told by a signal. So another process tries, with a port that nobody
/// minds to be read: Linux writes to it to pass the time (`native_io_delay`).
fn is_obeyed() -> bool {
    const DELAY: u16 = 0x80;
    // SAFETY: the child makes system calls and reads the port, with no memory of its own, and does not return.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above; a fault ends the child, without a core file.
        unsafe {
            libc::prctl(libc::PR_SET_DUMPABLE, 0);
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            if libc::ioperm(DELAY.into(), 1, 1) != 0 && libc::iopl(3) != 0 {
                libc::_exit(1);
            }
            asm!("in al, dx", in("dx") DELAY, out("al") _, options(nostack, preserves_flags));
            libc::_exit(0)
        }
    }
    let mut status = 0;
    // SAFETY: waits for a child of our own, and writes how it ended.
    child > 0 && unsafe { libc::waitpid(child, &raw mut status, 0) } == child && status == 0
}

/// Reads of one port.
struct Port {
    port: u16,
    size: Size,
    way: Way,
    /// The 8254 gives low and high bytes in turn; after an odd number of reads the next user would get the wrong one.
    is_odd: bool,
}

impl Port {
    fn reach(port: u16, size: Size) -> Result<Box<dyn Target>, Refusal> {
        let way = Way::to(port, size, false)?;
        // Nothing is read yet: what is read is counted from the first warm-up on.
        Ok(Box::new(Self { port, size, way, is_odd: false }))
    }
}

impl Target for Port {
    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        let port = self.port;
        match (&self.way, self.size) {
            (Way::Allowed(_), Size::Byte) => fill(samples, repeat, || {
                let value: u8;
                // SAFETY: reading was allowed for this port; a read changes no memory.
                unsafe {
                    asm!("in al, dx", in("dx") port, out("al") value, options(nostack, preserves_flags));
                };
                black_box(value);
            }),
            (Way::Allowed(_), Size::Word) => fill(samples, repeat, || {
                let value: u16;
                // SAFETY: as above.
                unsafe {
                    asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack, preserves_flags));
                };
                black_box(value);
            }),
            (Way::Allowed(_), Size::Long) => fill(samples, repeat, || {
                let value: u32;
                // SAFETY: as above.
                unsafe {
                    asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack, preserves_flags));
                };
                black_box(value);
            }),
            (Way::Device(file), _) => {
                let mut result = Ok(());
                fill(samples, repeat, || {
                    let mut byte = [0];
                    let read = file.read_exact_at(&mut byte, port.into());
                    if read.is_err() {
                        result = read;
                    }
                    black_box(byte);
                });
                result.map_err(|error| failed(port, &error))?;
            }
        }
        self.is_odd ^= samples.len() % 2 == 1 && repeat % 2 == 1;
        Ok(())
    }

    fn end(&mut self) {
        if self.port == PIT_COUNT && self.is_odd {
            // There is nothing to be done about a read that fails now.
            let _ = self.fill(&mut [Sample::default()], 1);
        }
    }

    fn details(&mut self) -> Details {
        details(&self.way, self.port)
    }
}

/// Writes of a byte to a port: what can be read from it, else 0.
fn writer(port: u16, keeps: bool) -> Result<Box<dyn Target>, Refusal> {
    let way = Way::to(port, Size::Byte, true)?;
    let mut byte = [0];
    match &way {
        _ if !keeps => {}
        Way::Device(file) => {
            file.read_exact_at(&mut byte, port.into()).map_err(|error| failed(port, &error))?;
        }
        Way::Allowed(_) => {
            // SAFETY: reading was allowed for this port; a read changes no memory.
            unsafe { asm!("in al, dx", in("dx") port, out("al") byte[0], options(nostack, preserves_flags)) };
        }
    }
    Ok(Box::new(Writer { port, value: byte[0], way }))
}

/// Writes of one byte.
struct Writer {
    port: u16,
    value: u8,
    way: Way,
}

impl Target for Writer {
    fn fill(&mut self, samples: &mut [Sample], repeat: u32) -> Result<(), Refusal> {
        let (port, value) = (self.port, self.value);
        let mut result = Ok(());
        match &self.way {
            Way::Allowed(_) => fill(samples, repeat, || {
                // SAFETY: access was allowed; the port keeps what it holds, or nobody listens.
                unsafe {
                    asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags));
                };
            }),
            Way::Device(file) => fill(samples, repeat, || {
                let written = file.write_all_at(&[value], port.into());
                if written.is_err() {
                    result = written;
                }
            }),
        }
        result.map_err(|error| failed(port, &error))
    }

    fn details(&mut self) -> Details {
        details(&self.way, self.port)
    }
}

fn failed(port: u16, error: &io::Error) -> Refusal {
    Refusal::new(
        format!("/dev/port does not give port {port:#x}: {error}"),
        "run it as root, without kernel lockdown",
    )
}

fn details(way: &Way, port: u16) -> Details {
    let via = match way {
        Way::Allowed(call) => call,
        Way::Device(_) => "/dev/port, whose system call is a part of it",
    };
    let notes = [("via", via.to_owned()), ("port", format!("{port:#x}"))];
    Details { notes: notes.map(|(name, value)| (name.to_owned(), value)).into(), ..Details::default() }
}
