//! The lab: stock Debian kernels with working KVM inside emulators, so that real VM exits can be traced on
//! a machine without virtualization hardware.

mod amd;
mod bochs;
mod bootrom;
mod cache;
mod carried;
mod carry;
mod cpio;
mod emulator;
mod initramfs;
mod intel;
mod kernel;
pub(crate) mod l2;
mod l2_load;
mod mirror;
mod newest;
pub(crate) mod packages;
mod port_e9;
pub(crate) mod prometheus;
mod qemu;
mod script;
mod vmlinux;

use std::ffi::OsString;
use std::fmt;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rustix::termios::tcgetwinsize;

use crate::project::Project;
use cache::Cache;

pub(crate) use emulator::Limits;
pub(crate) use kernel::series;

/// Whose virtualization the lab emulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum Vendor {
    /// kvm_amd, isa svm
    #[default]
    Amd,
    /// kvm_intel, isa vmx
    Intel,
}

/// The Debian suite whose kernel the lab boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum Suite {
    /// 5.10
    Bullseye,
    /// 6.1
    #[default]
    Bookworm,
    /// 6.12
    Trixie,
    /// 7.x
    Forky,
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd => "amd",
            Self::Intel => "intel",
        })
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        })
    }
}

/// One run of the lab.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) vendor: Vendor,
    pub(crate) suite: Suite,
    /// Count instructions instead of time (AMD only): one instruction is 2 ns in the guest.
    pub(crate) icount: bool,
    /// Virtual CPUs of the lab (AMD only: Intel has one).
    pub(crate) smp: u32,
    /// Memory of the lab, MiB; what suits the vendor when None.
    pub(crate) mem_mib: Option<u32>,
    /// What is run as root; an interactive shell when empty.
    pub(crate) command: Vec<OsString>,
    /// Environment of the command, besides PATH and HOME.
    pub(crate) env: Vec<(String, String)>,
    /// Files, directories and programs (with their shared libraries) of this machine that the command uses
    /// besides its own program. A lab that has this machine's whole root (AMD) does not look at them.
    pub(crate) carry: Vec<PathBuf>,
    /// More words for the kernel command line; `MODULE.PARAMETER=VALUE` reaches the module.
    pub(crate) kernel_args: Vec<String>,
    /// Give the command this process's own terminal.
    pub(crate) interactive: bool,
    /// When the lab is killed; not in an interactive run.
    pub(crate) limits: Limits,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            vendor: Vendor::default(),
            suite: Suite::default(),
            icount: false,
            smp: 2,
            mem_mib: None,
            command: Vec::new(),
            env: Vec::new(),
            carry: Vec::new(),
            kernel_args: Vec::new(),
            interactive: false,
            limits: Limits::whole(Duration::from_secs(25 * 60)),
        }
    }
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

impl Default for Size {
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

/// Where the command's output goes and what the command thinks it is.
pub(crate) enum Output<'a> {
    /// Line by line, without line ends; the command sees a pipe. An error of the callback ends the run.
    Lines(&'a mut dyn FnMut(&str) -> std::io::Result<()>),
    /// To stdout, byte by byte; the command sees a pipe.
    Stdout,
    /// To stdout, byte by byte; the command sees a terminal.
    Terminal(Size),
}

impl Output<'_> {
    /// What suits this process's own stdout.
    pub(crate) fn like_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self::Stdout;
        }
        let size = tcgetwinsize(&stdout).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        Self::Terminal(
            size.map_or_else(Size::default, |size| Size { rows: size.ws_row, columns: size.ws_col }),
        )
    }

    /// What the command's environment says of the terminal.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        if !matches!(self, Self::Terminal(_)) {
            return vec![("TERM".into(), "dumb".into())];
        }
        let names = ["TERM", "COLORTERM", "NO_COLOR"];
        names.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect()
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The command's exit status, as a shell gives it: 128 + the signal when one killed it.
    pub(crate) status: i32,
    /// The release of the lab's kernel.
    pub(crate) kernel: String,
}

/// What every run needs: the project and the cache.
pub(crate) struct Lab {
    pub(crate) project: Project,
    pub(crate) cache: Cache,
}

impl Lab {
    pub(crate) fn open() -> Result<Self> {
        let project = Project::locate()?;
        let cache = Cache::open(&project)?;
        Ok(Self { project, cache })
    }

    /// Boots the lab, runs the command, gives its exit status. Nothing of the run stays behind.
    pub(crate) fn run(&self, request: &Request, output: &mut Output<'_>) -> Result<Outcome> {
        match request.vendor {
            Vendor::Amd => amd::run(self, request, output),
            Vendor::Intel => intel::run(self, request, output),
        }
    }
}

/// Options of `cargo xtask lab`.
#[derive(Args)]
pub(crate) struct Options {
    /// Whose virtualization to emulate
    #[arg(long, value_enum, default_value_t)]
    vendor: Vendor,
    /// The Debian suite whose newest kernel to boot
    #[arg(long, value_enum, default_value_t)]
    suite: Suite,
    /// Count instructions: costs inside repeat to about 1 % (AMD only, one CPU unless --smp says more)
    #[arg(long)]
    icount: bool,
    /// Use this terminal: a shell, or COMMAND when given. Its end ends the lab; so does Ctrl-A X with --vendor amd
    #[arg(long)]
    shell: bool,
    /// Virtual CPUs of the lab [default: 2, with --icount 1; --vendor intel has 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    smp: Option<u32>,
    /// Memory of the lab in MiB [default: 3072, with --vendor intel 1024]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(512..))]
    mem: Option<u32>,
    /// Kill the lab after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15 * 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// A word for the lab's kernel command line, such as kvm_amd.avic=1; may be repeated
    #[arg(long = "kernel-arg", value_name = "WORD")]
    kernel_args: Vec<String>,
    /// A file, directory or program (a path, or a name in PATH) the command needs besides its own program; may be
    /// repeated. The AMD lab sees all files anyway
    #[arg(long, value_name = "PATH")]
    carry: Vec<PathBuf>,
    /// Name a small Linux guest to the command in $L2_KERNEL and $L2_INITRAMFS, to be started under QEMU with
    /// `-append "console=ttyS0 quiet work=SECONDS"`
    #[arg(long)]
    l2: bool,
    /// The command to run as root, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// `cargo xtask lab`.
pub(crate) fn main(options: Options) -> Result<ExitCode> {
    if options.command.is_empty() && !options.shell {
        bail!("nothing to run: give a command after --, or --shell");
    }
    if options.icount && options.vendor == Vendor::Intel {
        bail!("--icount is QEMU's and works with --vendor amd only");
    }
    if options.vendor == Vendor::Intel && options.smp.is_some_and(|smp| smp > 1) {
        bail!("the Intel lab has one CPU; --smp works with --vendor amd only");
    }
    let mut output = Output::like_stdout();
    if options.shell {
        if !std::io::stdin().is_terminal() {
            bail!("--shell needs a terminal on stdin; give a command after -- instead");
        }
        if !matches!(output, Output::Terminal(_)) {
            bail!("--shell needs a terminal on stdout; give a command after -- instead");
        }
    }
    let lab = Lab::open()?;
    let mut env = output.env();
    let mut carry = options.carry;
    if options.l2 {
        let l2 = l2::prepare(&lab.cache)?;
        env.extend(l2.env());
        carry.extend([l2.kernel, l2.initramfs]);
        carry.extend(l2::QEMU.map(PathBuf::from));
    }
    let request = Request {
        vendor: options.vendor,
        suite: options.suite,
        icount: options.icount,
        smp: options.smp.unwrap_or(if options.icount { 1 } else { 2 }),
        mem_mib: options.mem,
        command: options.command,
        env,
        carry,
        kernel_args: options.kernel_args,
        interactive: options.shell,
        limits: Limits::whole(Duration::from_secs(options.timeout)),
    };
    let outcome = lab.run(&request, &mut output)?;
    let status = u8::try_from(outcome.status).context("the command's exit status is no status")?;
    Ok(ExitCode::from(status))
}
