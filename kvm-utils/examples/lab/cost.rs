//! `lab cost`: how long one exit takes, to be run with and without tracers beside it. Where time is a count of
//! instructions (the lab with --icount), so is the result.

use std::{
    ffi::CString,
    io,
    os::fd::{FromRawFd as _, OwnedFd},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};
use clap::Args;
use kvm_utils::selftest::{Config, Operation, Options as SessionOptions, Phase, Plan};

use crate::{Outcome, check};

#[derive(Debug, Args)]
pub struct Options {
    /// The operation whose exit is timed
    #[arg(long, default_value = "wrmsr")]
    operation: String,
    /// Exits per round
    #[arg(long, default_value_t = 4001)]
    count: u64,
    /// Rounds; the fastest counts, because a tracer's own process may run during the others
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Attach empty programs to the raw tracepoints kvm_exit and kvm_entry meanwhile
    #[arg(long)]
    empty_programs: bool,
}

/// Prints the nanoseconds per exit.
pub fn run(options: &Options) -> Outcome {
    let _attached = if options.empty_programs {
        vec![attach_empty("kvm_exit")?, attach_empty("kvm_entry")?]
    } else {
        Vec::new()
    };
    let phase = |count| Phase::parse(&format!("{}={count}", options.operation)).map_err(|e| anyhow!("{e}"));
    let mut plan = Plan::default();
    for _ in 0..options.rounds {
        plan.phases.push(phase(1)?);
        plan.phases.push(phase(options.count + 1)?);
    }
    let spins = |p: &Phase| p.work.of(0).iter().any(|step| matches!(step.operation, Operation::SpinCpuid));
    if plan.phases.iter().any(spins) {
        return Err(anyhow!("--operation {}: it never ends", options.operation));
    }
    let mut session = check::start(&plan, Config::default(), SessionOptions::default())?;
    let mut fastest = u128::MAX;
    let mut timed = || -> Result<u128> {
        let began = Instant::now();
        session.run_phase()?.context("the plan ended early")?;
        Ok(began.elapsed().as_nanos())
    };
    for _ in 0..options.rounds {
        // What a phase costs besides its exits falls out of the difference.
        let empty = timed()?;
        let full = timed()?;
        fastest = fastest.min(full.saturating_sub(empty));
    }
    println!("{:.1}", fastest as f64 / options.count as f64);
    Ok(ExitCode::SUCCESS)
}

/// Attaches `r0 = 0; exit` to a raw tracepoint, as long as the descriptors live.
fn attach_empty(tracepoint: &str) -> Result<(OwnedFd, OwnedFd)> {
    let mut program: [bpf_insn; 2] = [instruction(0xb7), instruction(0x95)];
    // SAFETY: plain integers, for which zero is valid.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    let license = CString::new("GPL")?;
    // SAFETY: the member that belongs to this command.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT as u32;
    load.insns = program.as_mut_ptr() as u64;
    load.insn_cnt = program.len() as u32;
    load.license = license.as_ptr() as u64;
    let program = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).context("cannot load an empty program")?;
    // SAFETY: as above.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    let name = CString::new(tracepoint)?;
    attr.raw_tracepoint.name = name.as_ptr() as u64;
    attr.raw_tracepoint.prog_fd = std::os::fd::AsRawFd::as_raw_fd(&program).unsigned_abs();
    let link = bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr).context("cannot attach an empty program")?;
    Ok((program, link))
}

/// An instruction with all operands 0: 0xb7 is `r0 = 0`, 0x95 is `exit` (RFC 9669).
fn instruction(code: u8) -> bpf_insn {
    // SAFETY: plain integers, for which zero is valid.
    let mut instruction: bpf_insn = unsafe { std::mem::zeroed() };
    instruction.code = code;
    instruction
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is a whole bpf_attr whose pointers the callers keep valid during the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>())
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
