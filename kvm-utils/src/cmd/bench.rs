//! `kvm-utils bench`: what this host's KVM costs per operation, and who takes the time.

mod budget;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use clap::{Args as ClapArgs, ValueEnum};
use kvm_bench::{
    environment,
    measure::{
        supervisor::Status,
        tsc::{self, Tsc},
    },
    payload::BENCH_ELF,
    payload_report::{self, Heard},
    report::{Report, json, table},
    shared::{marks::MARK_PORT, ops},
};
use serde_json::json;

use super::{
    options::duration,
    trace::{self, base_settings, blocked},
};
use crate::{
    bench::{
        Beside, Budget, Config, EMPTY, End, Error, Exits, Machine, Meter, NOTIFY_ADDRESS, NOTIFY_PORT,
        Options, Seen, Times, Untraced, budgets, run as run_machine, run_in_qemu,
    },
    bpf::{
        caps::{fired_during, obstacle},
        source::SourceChoice,
    },
    drilldown::{exits, noun::Noun, report::Order, time::TIME},
    error::{CHECK_FAILED, Failure, say},
    host::SysRoot,
    model::Proof,
    session::{Select, Session},
};

/// Formats of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// One document, kvm-bench/v1
    Json,
}

/// Modes of the local APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Apic {
    /// Through its page of memory
    Xapic,
    /// Through MSRs
    X2apic,
}

/// QEMU's program where only `--qemu` is given.
const QEMU: &str = "qemu-system-x86_64";

/// Measure what each kind of exit costs on this host, and who takes the time
///
/// Runs a small guest on /dev/kvm that measures its own trips out, as `kvm-bench` does in a Linux guest. Changes nothing
/// on the host. With --attribute the tracer runs beside it, and each operation's round trip is split into guest, KVM,
/// VMM and time without a CPU.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  kvm-utils bench                      everything, on two vCPUs
  kvm-utils bench --ops cpuid,pio      operations, or all of a noun
  kvm-utils bench --ops msr:read@0x1b  one register, or leaf, in hexadecimal
  kvm-utils bench --attribute          who takes the time (needs root)
  kvm-utils bench --qemu --ops pio     with QEMU in place of our own VMM

Exit codes: 0 ok, 1 an operation failed, 2 usage, 3 this host cannot do it
(no /dev/kvm; for --attribute no root, or a KVM that never fires kvm_exit).")]
pub struct Args {
    /// vCPUs of the guest; operations between vCPUs need two (default: 2, or 1 where the host has one CPU)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=288))]
    vcpus: Option<u32>,
    /// Only these operations, or all of these nouns (`kvm-bench list` names them); @ gives a leaf or a register
    #[arg(long, value_name = "OP", value_delimiter = ',')]
    ops: Vec<String>,
    /// Rounds, in each of which the order is shuffled; confidence intervals need 3 or more
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Samples per operation in all rounds (default: 5000, of those that sleep 500)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    samples: Option<u64>,
    /// Time per operation in all rounds, at most: 500ms, 2s, 1m
    #[arg(short, long, value_name = "T", default_value = "1s", value_parser = duration)]
    time: Duration,
    /// After each round do the operation so often in one loop without fences, timed as a whole as kvm-unit-tests do:
    /// reference_n and reference_cycles in the evidence (JSON)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    reference: Option<u32>,
    /// CPUs of the host on which the vCPUs run, one each (default: any)
    #[arg(long, value_name = "CPU", value_delimiter = ',', conflicts_with = "qemu")]
    pin: Vec<usize>,
    /// How the guest reaches its local APIC (default: x2apic where there is one)
    #[arg(long, value_name = "MODE", value_enum)]
    apic: Option<Apic>,
    /// Run the guest under QEMU
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = QEMU)]
    qemu: Option<String>,
    /// Split each round trip into guest, KVM, VMM and time without a CPU, and count its exits
    #[arg(long, conflicts_with = "qemu")]
    attribute: bool,
    /// How to learn of exits, with --attribute
    #[arg(long, value_name = "SOURCE", value_enum, default_value = "auto", requires = "attribute")]
    source: SourceChoice,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table")]
    output: Output,
}

/// Runs the guest, with --attribute three times: alone, with its exits counted, and with its time.
///
/// # Errors
///
/// With cause and remedy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check_ops(&args.ops)?;
    if !Path::new("/dev/kvm").exists() {
        return Err(Failure::host(
            "there is no /dev/kvm, without which no guest can be run: in a container, have the device passed in \
             (--device /dev/kvm); else look into the kernel log (dmesg) for what KVM says",
        )
        .into());
    }
    if args.attribute
        && let Some(blocker) = obstacle(&SysRoot::default())
    {
        return Err(blocked(blocker).0.into());
    }
    catch_interrupts();
    let bench = Bench { args, tsc: tsc::find() };
    if args.attribute && bench.never_fires()? {
        return Err(Failure::host(SILENT).into());
    }
    let (mut heard, _) = bench.pass(Run::Plain, Untraced)?;
    let attributed = if args.attribute && !stopped() { Some(bench.attribute()?) } else { None };
    if let Some(attributed) = &attributed {
        for one in &mut heard.results {
            let doubt = attributed.budgets.get(&one.spec.title()).and_then(Budget::doubt);
            if let (Status::Ok, Some(doubt)) = (&one.status, doubt) {
                one.status = Status::Suspect(doubt);
            }
        }
    }
    let mut report = heard.report(Some(bench.tsc.clone())).map_err(Failure::host)?;
    bench.describe(&mut report.environment);
    bench.show(&report, attributed.as_ref())?;
    if report.interrupted {
        say("interrupted: these are the rounds until then");
    }
    let failed = report.results.iter().any(|one| matches!(one.status, Status::Failed(_)));
    Ok(if failed { ExitCode::from(CHECK_FAILED) } else { ExitCode::SUCCESS })
}

/// Why there is nothing to attribute.
const SILENT: &str = "this KVM never fires kvm_exit: the guest ran, and not one event came. It is a KVM that traces no \
exits (out-of-tree PVM, for one), so --attribute cannot tell who takes the time; without it the operations are measured all \
the same";

/// Whether the payload has all of these.
fn check_ops(named: &[String]) -> Result<(), Failure> {
    for word in named {
        let name = word.split('@').next().unwrap_or(word);
        let mut known = ops::OPS.iter().filter(|op| op.in_payload);
        if !known.any(|op| op.name == name || op.noun() == name) {
            let all: Vec<_> = ops::OPS.iter().filter(|op| op.in_payload).map(|op| op.name).collect();
            return Err(Failure::usage(format!(
                "there is no operation {name}; there are {}",
                all.join(", ")
            )));
        }
        if word.contains(char::is_whitespace) {
            return Err(Failure::usage(format!(
                "{word:?} is no operation: put commas between them, no spaces"
            )));
        }
    }
    Ok(())
}

/// What the tracer said.
struct Attributed {
    budgets: BTreeMap<String, Budget>,
    source: &'static str,
    /// Of the run in which exits were counted.
    proof: Proof,
    notes: Vec<String>,
}

/// What a run of the payload is for.
#[derive(Clone, Copy)]
enum Run<'a> {
    /// To see that it runs.
    Probe,
    /// For its figures.
    Plain,
    /// For what the tracer sees of each round; what to call that.
    Marked(&'a str),
}

/// Each round, as a meter saw it.
type Rounds<M> = Vec<Seen<<M as Meter>::Reading>>;

struct Bench<'a> {
    args: &'a Args,
    tsc: Tsc,
}

impl Bench<'_> {
    fn vcpus(&self) -> u32 {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.args.vcpus.unwrap_or(if cpus > 1 { 2 } else { 1 })
    }

    fn patience(&self) -> Duration {
        // Each round of each operation prints a line; warming up takes half a second at most, and emulators are slow.
        self.args.time + Duration::from_secs(60)
    }

    /// What the payload is told.
    fn command_line(&self, run: Run<'_>) -> String {
        let args = self.args;
        let mut words = vec![format!("cpus={} tsc_khz={}", self.vcpus(), self.tsc.hz / 1000)];
        if matches!(run, Run::Probe) {
            words.push(format!("ops={EMPTY} rounds=1 samples=1 time_ms=100"));
            return words.join(" ");
        }
        if args.qemu.is_none() {
            words.push(format!("notify_port={NOTIFY_PORT:#x} notify_address={NOTIFY_ADDRESS:#x}"));
        }
        words.push(format!("rounds={} time_ms={}", args.rounds, args.time.as_millis().max(1)));
        if !args.ops.is_empty() {
            // What the marks themselves take is learned from the empty operation.
            let empty = matches!(run, Run::Marked(_)) && !args.ops.iter().any(|op| op == EMPTY);
            words.push(format!("ops={}{}", if empty { "null," } else { "" }, args.ops.join(",")));
        }
        words.extend(args.apic.map(|apic| match apic {
            Apic::Xapic => "apic=xapic".to_owned(),
            Apic::X2apic => "apic=x2apic".to_owned(),
        }));
        words.extend(args.samples.map(|samples| format!("samples={samples}")));
        words.extend(args.reference.map(|times| format!("reference={times}")));
        if matches!(run, Run::Marked(_)) {
            words.push(format!("mark_port={MARK_PORT:#x}"));
        }
        words.join(" ")
    }

    /// Runs the guest once, with a meter beside it.
    fn pass<M: Meter>(&self, run: Run<'_>, meter: M) -> Result<(Heard, Rounds<M>), Failure> {
        let config = Config { vcpus: self.vcpus(), command_line: self.command_line(run) };
        let options = Options { pin: &self.args.pin, patience: self.patience(), stop: &STOP };
        let progress = Progress::new(if let Run::Marked(what) = run { what } else { "" });
        let mut tell = |line: &str| progress.show(line);
        let mut beside = Beside::new(meter, &mut tell);
        let end = match &self.args.qemu {
            Some(path) => run_in_qemu(BENCH_ELF, path, &config, &options, &mut beside),
            None => Machine::new(BENCH_ELF, &config)
                .and_then(|mut machine| run_machine(&mut machine, &options, &mut beside)),
        };
        let (lines, rounds) = (beside.lines, beside.rounds);
        progress.clear();
        let heard = match (payload_report::read(lines.iter().map(String::as_str)), &end) {
            (Ok(heard), _) => heard,
            (Err(_), Ok(End::Stopped)) => Heard::default(),
            (Err(error), Ok(_)) => return Err(Failure::host(error)),
            (Err(_), Err(error)) => return Err(Failure::host(error)),
        };
        let after = heard.last.as_ref().map_or(String::new(), |last| format!(" after {last}"));
        if let (Ok(_), Some(fatal)) = (&end, &heard.fatal) {
            return Err(Failure::host(format!(
                "the guest ended in an exception{after}: {fatal}; leave that operation out with --ops, and report it"
            )));
        }
        match end {
            Err(Error::Silent { patience, .. }) => Err(Failure::host(Error::Silent { patience, after })),
            Err(error) => Err(Failure::host(error)),
            Ok(End::Off | End::Shutdown) if !heard.done => Err(Failure::host(format!(
                "the guest ended{after} before it was done; leave that operation out with --ops, and report it"
            ))),
            Ok(_) => Ok((heard, rounds)),
        }
    }

    /// Whether the guest runs and kvm_exit does not fire, found out without knowing where anything lies in KVM.
    fn never_fires(&self) -> Result<bool, Failure> {
        match fired_during(|| self.pass(Run::Probe, Untraced)) {
            Ok((fired, ran)) => ran.map(|_| fired == 0),
            // Whatever is the matter, the tracer will say it.
            Err(_) => Ok(false),
        }
    }

    /// A tracer for our own guests only.
    fn tracer(&self, noun: &'static Noun) -> Result<Session, Failure> {
        let mut settings = base_settings(noun, self.args.source)?;
        settings.tgids = vec![std::process::id()];
        settings.max_vcpus = settings.max_vcpus.max(self.vcpus());
        let plan = trace::Plan { noun, sort: noun.sort, source: self.args.source };
        trace::start(&plan, &mut settings, &Select::default(), None)
    }

    fn attribute(&self) -> Result<Attributed, Failure> {
        let mut session = self.tracer(&exits::NOUN)?;
        let (_, counted) = self.pass(Run::Marked("counting exits: "), Exits(&mut session))?;
        let order = Order { sort: exits::NOUN.sort.to_owned(), top: None };
        let counts = session.summary(&order).map_err(Failure::host)?;
        let source = session.source().name();
        drop(session);
        if stopped() {
            let notes = vec!["interrupted before the time was split".to_owned()];
            return Ok(Attributed {
                budgets: budgets(&counted, &[], &[], 0),
                source,
                proof: counts.proof,
                notes,
            });
        }
        let mut session = self.tracer(&TIME)?;
        let (heard, timed) = self.pass(Run::Marked("splitting time: "), Times::new(&mut session))?;
        let times =
            session.summary(&Order { sort: TIME.sort.to_owned(), top: None }).map_err(Failure::host)?;
        let tsc_khz = u32::try_from(self.tsc.hz / 1000).unwrap_or(u32::MAX);
        let mut notes = counts.notes;
        notes.extend(times.notes);
        notes.dedup();
        let budgets = budgets(&counted, &timed, &heard.results, tsc_khz);
        Ok(Attributed { budgets, source, proof: counts.proof, notes })
    }

    /// Adds to the guest as it sees itself what ran it, and the host.
    fn describe(&self, environment: &mut serde_json::Value) {
        if !environment.is_object() {
            *environment = json!({});
        }
        let vmm = if self.args.qemu.is_some() { "qemu" } else { "kvm-utils" };
        environment["vmm"] = vmm.into();
        environment["vcpus"] = self.vcpus().into();
        environment["pinned"] = self.args.pin.clone().into();
        environment["host"] = environment::fingerprint();
    }

    fn show(&self, report: &Report, attributed: Option<&Attributed>) -> anyhow::Result<()> {
        let text = match self.args.output {
            Output::Table => {
                let mut text = table::text(report);
                if let Some(attributed) = attributed {
                    text.push_str(&budget::table(report, attributed));
                }
                text
            }
            Output::Json => {
                let mut document = json::document(report)?;
                if let Some(attributed) = attributed {
                    budget::add(&mut document, report, attributed);
                }
                format!("{document}\n")
            }
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}

/// Ctrl-C has been pressed.
static STOP: AtomicBool = AtomicBool::new(false);

fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

extern "C" fn stop(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// The first Ctrl-C shows what there is; the second one ends the program.
fn catch_interrupts() {
    let handler: extern "C" fn(libc::c_int) = stop;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic; SA_RESETHAND gives the next one its usual effect.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// One line on a terminal that says what was measured last.
struct Progress<'a> {
    what: &'a str,
    is_terminal: bool,
}

impl<'a> Progress<'a> {
    fn new(what: &'a str) -> Self {
        Self { what, is_terminal: io::stderr().is_terminal() }
    }

    fn show(&self, line: &str) {
        if let (true, Some(op)) = (self.is_terminal, line.strip_prefix("{\"op\":\"")) {
            // A terminal that has gone is no reason to end.
            let _ = write!(io::stderr(), "\r\x1b[K{}{}", self.what, op.split('"').next().unwrap_or(op));
        }
    }

    fn clear(&self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
