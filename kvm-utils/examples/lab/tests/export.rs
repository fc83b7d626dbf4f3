//! `kvm-utils export` serves what guests did, number for number, also with no more privileges than its unit gives it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kvm_utils::decode::Class;
use kvm_utils::selftest::{Config, Operation, Phase, Plan};
use rustix::process::{Pid, Signal, kill_process};

use crate::check;
use crate::program;
use crate::reference::{Counter, EventCounter, Scope};
use crate::registry::{Context, Test, Verdict};
use crate::tracer::{self, Source};

tracer_tests! {
    "export-known-numbers", 120, known_numbers;
}

/// Whatever source there is.
pub const TESTS: &[Test] = &[
    Test { name: "export-least-privilege", needs_idle_kvm: false, timeout_s: 120, run: least_privilege },
    Test { name: "export-unit-starts", needs_idle_kvm: false, timeout_s: 240, run: unit_starts },
];

const UNIT: &str = include_str!("../../../../contrib/systemd/kvm-utils-exporter.service");

/// A running `kvm-utils export`.
struct Exporter {
    child: Child,
    address: String,
}

impl Exporter {
    /// Starts it at a free port and waits until it serves.
    fn start(mut command: Command, options: &[&str]) -> Result<Self> {
        command.args(["export", "--listen", "127.0.0.1:0", "-i", "1ms"]).args(options);
        program::dies_with_us(&mut command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let mut said = Vec::new();
        let mut lines = BufReader::new(child.stderr.take().context("no pipe for messages")?).lines();
        for line in lines.by_ref().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("serving http://") {
                let address = rest.trim_end_matches("/metrics").to_owned();
                // So that it can go on saying things.
                std::thread::spawn(move || {
                    lines.map_while(Result::ok).for_each(|line| eprintln!("  {line}"));
                });
                return Ok(Self { child, address });
            }
            said.push(line);
        }
        let status = child.wait()?;
        bail!("the exporter ended with {status}: {}", said.join("; "))
    }

    /// Ends it as systemd does, and expects success.
    fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the exporter ended with {status}");
        Ok(())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is served there: samples, by name and labels.
fn scrape(address: &str) -> Result<BTreeMap<String, f64>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: lab\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    let number = |line: &str| -> Result<_> {
        let (name, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
        Ok((name.to_owned(), value.parse()?))
    };
    samples.map(number).collect()
}

/// Sum over the samples of this name that have all of these labels.
fn sum(samples: &BTreeMap<String, f64>, name: &str, labels: &[String]) -> u64 {
    let of = |sample: &str| {
        sample.split('{').next() == Some(name) && labels.iter().all(|label| sample.contains(label.as_str()))
    };
    samples.iter().filter(|(sample, _)| of(sample)).map(|(_, value)| *value as u64).sum()
}

/// Leaves of CPUID with how often they are asked for, and writes.
const LEAVES: [(u32, u64); 2] = [(0, 1009), (0x8000_0008, 211)];
const BIOS_SIGN_ID: u32 = 0x8b;
const WRITES: u64 = 311;

fn plan() -> Plan {
    let cpuid =
        |(leaf, count)| Phase::new(format!("{leaf:#x}"), Class::Cpuid, Operation::Cpuid { leaf }, count);
    let write = Operation::WriteMsr { index: BIOS_SIGN_ID, value: 0 };
    let mut phases = LEAVES.map(cpuid).to_vec();
    phases.push(Phase::new("wrmsr".to_owned(), Class::MsrWrite, write, WRITES));
    Plan { phases, skipped: Vec::new() }
}

/// Runs the plan under an exporter and compares.
fn compare(exporter: Exporter) -> Result<()> {
    let host = check::host()?;
    let mut session = check::start(&plan(), Config::default(), check::options())?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let leaves = EventCounter::new("kvm_cpuid", &[])?;
    let first = scrape(&exporter.address)?;
    let (before, leaves_before) = (counter.read()?, leaves.read()?);
    let mut last = first.clone();
    while session.run_phase()?.is_some() {
        let now = scrape(&exporter.address)?;
        for (name, value) in
            last.iter().filter(|(name, _)| name.contains("_total") || name.contains("_bucket"))
        {
            ensure!(
                now.get(name).is_some_and(|now| now >= value),
                "{name} went from {value} to {:?}",
                now.get(name)
            );
        }
        last = now;
    }
    let exits = counter.read()?.since(&before);
    let cpuids = leaves.read()?[0] - leaves_before[0];
    let samples = scrape(&exporter.address)?;
    let grown = |name: &str, labels: &[String]| sum(&samples, name, labels) - sum(&first, name, labels);
    let of = |id: &str, value: &str| vec![format!("{id}=\"{value}\"")];
    let pid = of("pid", &std::process::id().to_string());

    let all: u64 = exits.reasons.values().sum();
    ensure!(
        exits.other() == 0 && grown("kvm_exits_total", &pid) == all,
        "{} of {all}",
        grown("kvm_exits_total", &pid)
    );
    for (code, count) in &exits.reasons {
        let reason = of("reason", &kvm_utils::decode::ExitReason::new(host.isa, *code).to_string());
        ensure!(grown("kvm_exits_total", &reason) == *count, "{reason:?}: {samples:?}");
    }
    ensure!(grown("kvm_utils_counted_total", &of("noun", "exits")) == all, "{samples:?}");
    let doubtful = [of("noun", "exits"), of("kvm_utils_verdict", "doubtful")].concat();
    ensure!(sum(&samples, "kvm_utils_verdict", &doubtful) == 0, "{samples:?}");
    // The last exit goes on: it has no duration.
    let timed = grown("kvm_exit_duration_seconds_count", &pid);
    ensure!((all - 1..=all).contains(&timed), "{timed} durations of {all} exits");
    let bound = grown("kvm_exit_duration_seconds_bucket", &of("le", "+Inf"));
    ensure!(bound == timed, "{bound} and {timed}");

    ensure!(grown("kvm_cpuid_total", &[]) == cpuids, "{} of {cpuids}", grown("kvm_cpuid_total", &[]));
    for (leaf, count) in LEAVES {
        ensure!(
            grown("kvm_cpuid_total", &of("leaf", &format!("{leaf:#x}"))) == count,
            "{leaf:#x}: {samples:?}"
        );
    }
    let writes = grown("kvm_wrmsr_total", &of("index", &format!("{BIOS_SIGN_ID:#x}")));
    ensure!(writes == WRITES, "{writes} of {WRITES}");
    exporter.stop()
}

const NOUNS: [&str; 3] = ["exits", "cpuid", "wrmsr"];

fn known_numbers(context: &Context, source: Source) -> Result<()> {
    let options = [&NOUNS[..], &["--source", source.option()]].concat();
    compare(Exporter::start(tracer::command(context)?, &options)?)
}

/// `kernel.perf_event_paranoid`, put back at the end.
struct Paranoid(Option<String>);

const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

impl Paranoid {
    fn at_most_2() -> Result<Self> {
        let before = std::fs::read_to_string(PARANOID)?;
        if before.trim().parse::<i32>()? <= 2 {
            return Ok(Self(None));
        }
        std::fs::write(PARANOID, "2")?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Paranoid {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The lab ends soon.
            let _ = std::fs::write(PARANOID, before);
        }
    }
}

/// As the unit has it: nobody, with the capabilities that it names.
fn least_privilege(context: &Context) -> Result<Verdict> {
    let Some(program) = &context.kvm_utils else {
        return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
    };
    if Command::new("setpriv").arg("--version").output().is_err() {
        return Ok(Verdict::Skipped("there is no setpriv here (package util-linux)".to_owned()));
    }
    let capabilities = UNIT.lines().find_map(|line| line.strip_prefix("AmbientCapabilities="));
    let capabilities = capabilities.context("the unit names no capabilities")?.split(' ');
    let capabilities: Vec<String> =
        capabilities.map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase())).collect();
    let capabilities = capabilities.join(",");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    command.arg(format!("--bounding-set=-all,{capabilities}"));
    command.arg(format!("--inh-caps=-all,{capabilities}")).arg(format!("--ambient-caps=-all,{capabilities}"));
    command.arg(program);
    // Debian's kernels let nobody but CAP_SYS_ADMIN use perf events unless told to, as docs/export.md says.
    let _paranoid = Paranoid::at_most_2()?;
    // Who owns the processes of VMs is somebody else.
    compare(Exporter::start(command, &NOUNS)?)?;
    Ok(Verdict::Ok)
}

/// Where the unit serves.
const ADDRESS: &str = "127.0.0.1:9973";

/// A systemd of its own that starts the unit and nothing else. What it writes is in memory and its own.
struct Systemd {
    unshare: Child,
    pid: String,
}

impl Systemd {
    fn start(program: &str) -> Result<Self> {
        // Without what a whole machine needs: no journal, no temporary files, no login.
        let script = r#"
            mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /var/tmp || exit
            mkdir -p /run/lock /run/systemd/system/kvm-utils-exporter.service.d
            cp "$PROGRAM" /run/kvm-utils
            printf %s "$UNIT" >/run/systemd/system/kvm-utils-exporter.service
            printf '[Unit]\nDefaultDependencies=no\nAfter=\n[Service]\nExecStart=\nExecStart=/run/kvm-utils export $KVM_UTILS_EXPORT\n' \
                >/run/systemd/system/kvm-utils-exporter.service.d/lab.conf
            printf '[Unit]\nDefaultDependencies=no\nWants=kvm-utils-exporter.service\n' >/run/systemd/system/lab.target
            exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lab \
                /lib/systemd/systemd --system --unit=lab.target --log-target=console --show-status=no"#;
        let mut command = Command::new("unshare");
        command.args(["--pid", "--mount", "--fork", "--kill-child", "sh", "-c", script]);
        command.env("UNIT", UNIT).env("PROGRAM", program).stdin(Stdio::null()).stdout(Stdio::null());
        program::dies_with_us(&mut command);
        let unshare = command.spawn().context("cannot start unshare")?;
        let mut systemd = Self { unshare, pid: String::new() };
        let children = format!("/proc/{0}/task/{0}/children", systemd.unshare.id());
        while systemd.pid.is_empty() {
            ensure!(systemd.unshare.try_wait()?.is_none(), "unshare ended early");
            systemd.pid = std::fs::read_to_string(&children)?.trim().to_owned();
        }
        Ok(systemd)
    }

    /// What a program says that runs where systemd does.
    fn inside(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid, "-m", "-p", "-r", "-w"]).args(arguments);
        let output = command.output().context("cannot start nsenter")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What systemctl says.
    fn control(&self, arguments: &[&str]) -> Result<String> {
        self.inside(&[&["systemctl", "--no-pager"], arguments].concat())
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // Its init goes, and all processes of its namespace with it.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// systemd starts the unit as it is, as a user without any rights but the five capabilities, and all exits are counted.
fn unit_starts(context: &Context) -> Result<Verdict> {
    let Some(program) = &context.kvm_utils else {
        return Ok(Verdict::Skipped("--kvm-utils is not given".to_owned()));
    };
    if !std::path::Path::new("/lib/systemd/systemd").exists() {
        return Ok(Verdict::Skipped("there is no systemd here (package systemd)".to_owned()));
    }
    let _paranoid = Paranoid::at_most_2()?;
    let systemd = Systemd::start(&program.to_string_lossy())?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while systemd.control(&["is-active", "kvm-utils-exporter"])? != "active" {
        if Instant::now() > deadline {
            bail!("the unit did not start: {}", systemd.control(&["status", "kvm-utils-exporter"])?);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let main = systemd.control(&["show", "kvm-utils-exporter", "-p", "MainPID", "--value"])?;
    let status = systemd.inside(&["cat", &format!("/proc/{main}/status")])?;
    let of = |name: &str| -> Result<&str> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).with_context(|| format!("no {name} {status}"))
    };
    ensure!(!of("Uid:")?.starts_with('0') && of("NoNewPrivs:")? == "1" && of("Seccomp:")? == "2", "{status}");
    ensure!(u64::from_str_radix(of("CapEff:")?, 16)?.count_ones() == 5, "{status}");

    let host = check::host()?;
    let mut session = check::start(&plan(), Config::default(), check::options())?;
    let counter = Counter::all_reasons(&Scope::System, host.isa)?;
    let (first, before) = (scrape(ADDRESS)?, counter.read()?);
    while session.run_phase()?.is_some() {}
    let exits: u64 = counter.read()?.since(&before).reasons.values().sum();
    // Numbers may be as old as --interval.
    std::thread::sleep(Duration::from_millis(1500));
    let last = scrape(ADDRESS)?;
    let counted = |samples| sum(samples, "kvm_utils_counted_total", &["noun=\"exits\"".to_owned()]);
    ensure!(counted(&last) - counted(&first) == exits, "{} of {exits}", counted(&last) - counted(&first));

    systemd.control(&["stop", "kvm-utils-exporter"])?;
    let result =
        systemd.control(&["show", "kvm-utils-exporter", "-p", "Result", "-p", "ActiveState", "--value"])?;
    ensure!(result.contains("success") && result.contains("inactive"), "{result}");
    Ok(Verdict::Ok)
}
