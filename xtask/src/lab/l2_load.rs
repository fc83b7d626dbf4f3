//! The program of the Linux guest that makes one system call over and over, made here so that nothing else has to be
//! built for the guest: a file in ELF format with a few instructions.
//!
//! `/load clock` asks for the time: with `clocksource=acpi_pm` on the kernel's command line each call reads a port of an
//! emulated device. `/load timers` arms a timer, each time anew before it fires: with a local APIC in deadline mode each
//! call writes an MSR. Neither ends by itself.

use std::slice;

core::arch::global_asm!(
    ".pushsection .rodata.kvm_lab_load, \"a\", @progbits",
    "kvm_lab_load:",
    // The first letter of the first argument; the stack begins with argc, argv[0], argv[1].
    "    movq 16(%rsp), %rdi",
    "    cmpb $'t', (%rdi)",
    "    je 2f",
    "1:",
    "    movl ${clock_gettime}, %eax",
    "    movl ${clock_monotonic}, %edi",
    "    leaq -64(%rsp), %rsi",
    "    syscall",
    "    jmp 1b",
    "2:",
    "    movl ${timerfd_create}, %eax",
    "    movl ${clock_monotonic}, %edi",
    "    xorl %esi, %esi",
    "    syscall",
    "    movl %eax, %ebx",
    // struct itimerspec, from its end: no interval.
    "    pushq ${ahead_ns}",
    "    pushq $0",
    "    pushq $0",
    "    pushq $0",
    "3:",
    "    movl ${timerfd_settime}, %eax",
    "    movl %ebx, %edi",
    "    xorl %esi, %esi",
    "    movq %rsp, %rdx",
    "    xorl %r10d, %r10d",
    "    syscall",
    "    jmp 3b",
    "kvm_lab_load_end:",
    ".popsection",
    clock_gettime = const libc::SYS_clock_gettime,
    timerfd_create = const libc::SYS_timerfd_create,
    timerfd_settime = const libc::SYS_timerfd_settime,
    clock_monotonic = const libc::CLOCK_MONOTONIC,
    ahead_ns = const AHEAD_NS,
    options(att_syntax),
);

unsafe extern "C" {
    #[link_name = "kvm_lab_load"]
    static CODE_START: u8;
    #[link_name = "kvm_lab_load_end"]
    static CODE_END: u8;
}

/// How far ahead timers are armed: less than a tick, so that they come first, and more than a call takes, so that they never
/// fire.
const AHEAD_NS: i32 = 200_000;

/// Where the file is loaded, as linkers do it by default.
const BASE: u64 = 0x40_0000;
/// Sizes of `Elf64_Ehdr` and `Elf64_Phdr` (System V ABI, chapter 4 and 5).
const FILE_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;

fn code() -> &'static [u8] {
    let (start, end) = (&raw const CODE_START, &raw const CODE_END);
    // SAFETY: both symbols bound one read-only section of this binary, start before end.
    unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The file.
pub(crate) fn elf() -> Vec<u8> {
    let headers = u64::from(FILE_HEADER + PROGRAM_HEADER);
    let size = headers + code().len() as u64;
    let mut file = Vec::new();
    let half = |values: &[u16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let word = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let long = |values: &[u64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    // 64-bit, little-endian, version 1; the rest of the identification is zero.
    file.extend(b"\x7fELF\x02\x01\x01");
    file.resize(16, 0);
    // ET_EXEC, EM_X86_64.
    file.extend(half(&[2, 62]));
    file.extend(word(&[1]));
    // Entry, program headers, no section headers.
    file.extend(long(&[BASE + headers, u64::from(FILE_HEADER), 0]));
    file.extend(word(&[0]));
    file.extend(half(&[FILE_HEADER, PROGRAM_HEADER, 1, 0, 0, 0]));
    // PT_LOAD, to be read and executed.
    file.extend(word(&[1, 5]));
    file.extend(long(&[0, BASE, BASE, size, size, 0x1000]));
    file.extend(code());
    file
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_runs_until_it_is_ended() {
        let path = std::env::temp_dir().join(format!("kvm-utils-load-{}", std::process::id()));
        fs::write(&path, elf()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        for what in ["clock", "timers"] {
            let mut child = Command::new(&path).arg(what).spawn().unwrap();
            // Long enough for a crash to show.
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(child.try_wait().unwrap(), None, "{what}");
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL), "{what}");
        }
        fs::remove_file(&path).unwrap();
    }
}
