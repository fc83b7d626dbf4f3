//! Prometheus itself, of Debian's package.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use kvm_utils::{export::Limits, view::prometheus};
use serde_json::Value;

use super::{
    fleet::Fleet,
    harness::{Outcome, Test},
    needs,
    server::{Answer, Fixture, LONG, SHOWN},
};

pub const TESTS: &[Test] = &[
    ("prometheus::promtool_has_nothing_to_say", lint),
    ("prometheus::a_scrape_gives_the_exact_numbers", scrape),
];

/// promtool with this on its standard input; what it says.
pub fn promtool(arguments: &[&str], input: &str) -> Result<(bool, String), super::harness::Skip> {
    let mut tool = Command::new(needs::prometheus("promtool")?);
    tool.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = tool.spawn().expect("promtool starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("its end");
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// Every drill-down, by VM and by vCPU, whole and folded.
fn lint() -> Outcome {
    needs::prometheus("promtool")?;
    for (per_vcpu, max_series) in [(false, 50_000), (true, 50_000), (true, 30)] {
        let shown = prometheus::Limits { per_vcpu, max_series, ..SHOWN };
        let fixture =
            Fixture::start(shown, Limits::default(), LONG, |_| Some(Fleet { vms: 3, vcpus: 2 }.everything()));
        let text = fixture.metrics();
        for noun in ["exits", "wrmsr", "io", "cpuid", "hypercall", "fault", "rip", "irq", "halt"] {
            assert!(text.contains(&format!("\nkvm_{noun}_total{{vm=\"web-1\"")), "no {noun}:\n{text}");
        }
        assert!(
            text.contains("kvm_time_seconds_total{vm=\"web-1\",pid=\"4001\",")
                && text.contains("state=\"steal\"}")
        );
        let (ok, said) = promtool(&["check", "metrics"], &text)?;
        assert!(ok && said.is_empty(), "{said}");
    }
    Ok(())
}

/// A Prometheus that scrapes the fixture once a second.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(target: SocketAddr) -> Result<Self, super::harness::Skip> {
        let program = needs::prometheus("prometheus")?;
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("prometheus.yml");
        let text = format!(
            "scrape_configs:\n- job_name: kvm\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  static_configs:\n  - targets: ['{target}']\n"
        );
        fs::write(&config, text).expect("a file");
        // Nobody takes it in between, or this fails and is repeated by hand.
        let free =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let log = fs::File::create(directory.path().join("log")).expect("a file");
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            // Debian's package has these elsewhere than where it was unpacked to.
            .args(["--web.console.templates=/nowhere", "--web.console.libraries=/nowhere"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        Ok(Self { child, address: free, directory })
    }

    /// The one value of a query; none as long as there is none.
    fn query(&self, query: &str) -> Option<f64> {
        let escape = |byte: u8| format!("%{byte:02x}");
        let path: String = query.bytes().map(escape).collect();
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(LONG)).ok()?;
        write!(stream, "GET /api/v1/query?query={path} HTTP/1.0\r\nHost: x\r\n\r\n").ok()?;
        let answer = Answer::read(&mut stream);
        let json: Value = serde_json::from_str(&answer.body).ok()?;
        let result = json["data"]["result"].as_array()?;
        assert!(result.len() <= 1, "{query}: {json}");
        result.first()?["value"][1].as_str()?.parse().ok()
    }

    /// The same, as soon as there is one.
    fn value(&mut self, query: &str) -> f64 {
        let began = Instant::now();
        loop {
            if let Some(value) = self.query(query) {
                return value;
            }
            let ended = self.child.try_wait().expect("it is ours");
            if ended.is_some() || began.elapsed() > LONG {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                panic!("no value for {query} ({ended:?}):\n{log}");
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn scrape() -> Outcome {
    let fleet = Fleet { vms: 100, vcpus: 8 };
    // The same numbers at each look, so that whenever it scrapes they are these.
    let fixture = Fixture::start(SHOWN, Limits::default(), Duration::ZERO, move |_| {
        let mut reports = vec![fleet.exits(3)];
        reports.extend(fleet.everything().into_iter().filter(|report| report.noun != "exits"));
        reports[0].vms[7].name = "a\"b\\c\n\u{1b}[2J".to_owned();
        Some(reports)
    });
    let mut prometheus = Prometheus::start(fixture.address)?;
    assert_eq!(prometheus.value("up{job=\"kvm\"} == 1"), 1.0);
    let all: u64 = (0..100).flat_map(|vm| (0..20).map(move |at| fleet.count(vm, at, 3) * 8)).sum();
    let one = fleet.count(42, 0, 3) * 8;
    let cases = [
        ("kvm_exits_total{vm=\"web-42\",reason=\"io\"}", one),
        ("kvm_exit_duration_seconds_count{vm=\"web-42\",reason=\"io\"}", one),
        ("kvm_exit_duration_seconds_bucket{vm=\"web-42\",reason=\"io\",le=\"+Inf\"}", one),
        // 61.2 us each, but for a tenth that took half as long and a hundredth that took longer.
        ("kvm_exit_duration_seconds_bucket{vm=\"web-42\",reason=\"io\",le=\"3.2767e-05\"}", one / 10),
        ("kvm_exit_duration_seconds_bucket{vm=\"web-42\",reason=\"io\",le=\"6.5535e-05\"}", one - one / 100),
        ("sum(kvm_exits_total)", all),
        ("sum(kvm_exit_duration_seconds_count)", all),
        ("count(count by (vm) (kvm_exits_total))", 100),
        // The name that wanted to be a terminal's master.
        (
            "sum(kvm_exits_total{vm=\"a\\\"b\\\\c\\\\n\\\\u{1b}[2J\"})",
            (0..20).map(|at| fleet.count(7, at, 3) * 8).sum(),
        ),
        ("kvm_time_seconds_total{vm=\"web-1\",state=\"steal\"} * 1e9", 1009),
        ("kvm_halt_blocked_seconds_count{vm=\"web-1\"}", 17),
        ("kvm_utils_verdict{noun=\"exits\",kvm_utils_verdict=\"proven\"}", 1),
        ("kvm_utils_info * on(instance) group_right kvm_utils_host_cpus", 64),
        ("kvm_vm_info{vm=\"web-1\",uuid=\"5c6fa8f7-c3f6-4b3f-b596-000000000001\"}", 1),
    ];
    for (query, expected) in cases {
        assert_eq!(prometheus.value(query), expected as f64, "{query}");
    }
    Ok(())
}
