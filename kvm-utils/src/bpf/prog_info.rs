//! What the kernel says of a loaded program, beyond what aya tells.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_info, bpf_stats_type};

/// Time spent in programs while [`enable_run_time`] held.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunTime {
    /// Time, ns.
    pub ns: u64,
    /// Runs.
    pub runs: u64,
}

/// Answers of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Runs while run-time statistics were on.
    pub run_time: RunTime,
    /// Runs skipped because of recursion; `None` where the kernel does not count them (before 5.12).
    pub recursion_misses: Option<u64>,
}

/// Asks the kernel about a program.
///
/// # Errors
///
/// What bpf(2) says.
pub fn get(program: BorrowedFd<'_>) -> io::Result<Info> {
    // SAFETY: plain integers, for which zero is valid.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.info.bpf_fd = program.as_raw_fd().unsigned_abs();
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = (&raw mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: the kernel wrote the length it knows.
    let known = unsafe { attr.info.info_len } as usize;
    let has_misses = known >= std::mem::offset_of!(bpf_prog_info, recursion_misses) + size_of::<u64>();
    Ok(Info {
        run_time: RunTime { ns: info.run_time_ns, runs: info.run_cnt },
        recursion_misses: has_misses.then_some(info.recursion_misses),
    })
}

/// Makes the kernel measure the run time of all BPF programs as long as the returned descriptor is open.
///
/// # Errors
///
/// What bpf(2) says; kernels before 5.8 cannot do it this way.
pub fn enable_run_time() -> io::Result<OwnedFd> {
    // SAFETY: plain integers, for which zero is valid.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.enable_stats.type_ = bpf_stats_type::BPF_STATS_RUN_TIME as u32;
    let fd = bpf(bpf_cmd::BPF_ENABLE_STATS, &mut attr)?;
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` is a whole bpf_attr whose pointers, if any, the callers keep valid during the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
