//! `kvm-utils time`: where the vCPUs' time goes.

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::{
    options::{Common, TRUST},
    trace::{self, Plan},
};
use crate::{bpf::source::SourceChoice, drilldown::time::TIME};

/// Show where each vCPU's time goes, all of it
///
/// One line per vCPU. Its shares of wall time add up to 100 %:
///
///   GUEST  executing the guest's code
///   KVM    in the kernel on behalf of the guest
///   VMM    in user space: QEMU or whatever runs the guest
///   POLL   halted, KVM still polling for the next event
///   IDLE   halted, thread blocked
///   STEAL  ready to run, waiting for a CPU of the host
///   OTHER  blocked elsewhere: the VMM waits, a page is being fetched, ...
#[derive(ClapArgs, Debug)]
#[command(
    verbatim_doc_comment,
    after_help = concat!("Examples:
  kvm-utils time                    all VMs, live
  kvm-utils time --vm web-1 -d 10s  ten seconds of one VM

Two vCPUs that share one CPU, each waiting for it as long as it computes:

  VCPU              GUEST    KVM    VMM   POLL   IDLE  STEAL  OTHER  TOTAL
  0                 39.8%   7.7%  <0.1%  <0.1%  12.9%  39.5%     0%   5.0s
  1                 39.4%  10.8%  <0.1%  <0.1%  11.0%  38.7%     0%   5.0s
  all               39.6%   9.3%  <0.1%  <0.1%  12.0%  39.1%     0%    10s

", super::exit_codes!())
)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// How to learn of exits and of threads
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", help_heading = TRUST)]
    source: SourceChoice,
}

/// Traces until told to stop.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    trace::run(&args.common, &Plan { noun: &TIME, sort: TIME.sort, source: args.source })
}
