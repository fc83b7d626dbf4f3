//! Clients that mean no good, or have gone wrong: none of them keeps others from being served, or the tracer from its
//! work.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::Ordering,
    time::Duration,
};

use kvm_utils::export::Limits;

use super::{
    fleet::Fleet,
    harness::{Outcome, Test},
    server::{Answer, Fixture, LONG, SHOWN},
};

pub const TESTS: &[Test] = &[
    ("hostile::a_thousand_silent_connections", silent),
    ("hostile::clients_that_never_read", never_read),
    ("hostile::slow_and_unfinished_requests_are_cut_off", slow),
    ("hostile::garbage_is_refused", garbage),
    ("hostile::clients_that_leave_do_not_make_the_tracer_work", leave),
    ("hostile::memory_stays_the_same", memory),
];

const FLEET: Fleet = Fleet { vms: 10, vcpus: 2 };

/// All limits of time out of reach.
const PATIENT: Limits = Limits { connections: 64, request: LONG, connection: LONG };

fn fixture(limits: Limits, refresh: Duration) -> Fixture {
    Fixture::start(SHOWN, limits, refresh, |nth| Some(vec![FLEET.exits(nth)]))
}

fn is_closed(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("non-blocking");
    match stream.read(&mut [0; 1]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// Descriptors of this process, which has both ends of every connection.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

fn silent() -> Outcome {
    let fixture = fixture(PATIENT, LONG);
    let before = descriptors();
    let mut held = Vec::new();
    for nth in 0..1000 {
        held.push(fixture.connect());
        if nth % 100 == 99 {
            assert!(fixture.metrics().contains("kvm_exits_total{"));
        }
    }
    assert!(fixture.metrics().contains("kvm_exits_total{"));
    // All but the last were closed; this process has the clients' ends.
    let open = held.iter().filter(|stream| !is_closed(stream)).count();
    assert!(
        open <= PATIENT.connections && descriptors() <= before + 1000 + PATIENT.connections + 1,
        "{open}"
    );
    assert_eq!(fixture.asked.load(Ordering::Relaxed), 1);
    let dropped = fixture.pages.dropped();
    assert!(dropped >= 1000 - PATIENT.connections as u64, "{dropped}");
    Ok(())
}

fn never_read() -> Outcome {
    let fleet = Fleet { vms: 100, vcpus: 1 };
    let fixture = Fixture::start(SHOWN, PATIENT, LONG, move |nth| Some(vec![fleet.exits(nth)]));
    assert!(fixture.metrics().len() > 4 << 20, "more than the sockets hold");
    let mut held = Vec::new();
    for _ in 0..2 * PATIENT.connections {
        let mut stream = fixture.connect();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("the server reads");
        held.push(stream);
    }
    assert!(fixture.metrics().ends_with('\n'));
    Ok(())
}

fn slow() -> Outcome {
    let short = Duration::from_millis(100);
    let fixture = fixture(Limits { request: short, connection: LONG, ..PATIENT }, LONG);
    for part in ["", "G", "GET /metrics HTTP/1.1\r\n", "GET /metrics HTTP/1.1\r\nHost: x\r\nX: "] {
        let mut stream = fixture.connect();
        stream.write_all(part.as_bytes()).expect("the server reads");
        // Until the server closes it.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let fixture = self::fixture(Limits { request: LONG, connection: short, ..PATIENT }, LONG);
    let mut stream = fixture.connect();
    for byte in b"GET /metrics HTTP/1.1\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x')) {
        std::thread::sleep(Duration::from_millis(1));
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
    }
    assert!(fixture.metrics().contains("kvm_exits_total{"));
    Ok(())
}

fn garbage() -> Outcome {
    let fixture = fixture(Limits::default(), LONG);
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5000));
    let wide = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    let body = format!(
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n{}",
        "z".repeat(1 << 20)
    );
    let smuggled = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x";
    let texts = [
        "\r\n\r\n\r\n\r\n",
        "\0\0\0\0\u{1b}[2J\r\n\r\n",
        "GET\r\n\r\n",
        "GET /metrics HTTP/9.9\r\n\r\n",
        "GET /metrics\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        &long,
        &many,
        &wide,
        &body,
        smuggled,
    ];
    for text in texts {
        let mut stream = fixture.connect();
        // The server may close before it has read all of it.
        let _ = stream.write_all(text.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let answer = Answer::parse(&String::from_utf8_lossy(&bytes));
        assert!(answer.status == 0 || answer.status >= 400, "{:?}: {answer:?}", &text[..text.len().min(60)]);
        assert!(!answer.body.contains("kvm_exits"));
    }
    assert!(fixture.metrics().contains("kvm_exits_total{"));
    Ok(())
}

/// The tracer is asked once in a while, however many come and go before they have an answer.
fn leave() -> Outcome {
    let fixture = Fixture::start(SHOWN, Limits::default(), LONG, |nth| {
        std::thread::sleep(Duration::from_millis(200));
        Some(vec![FLEET.exits(nth)])
    });
    for _ in 0..300 {
        let mut stream = fixture.connect();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("the server reads");
    }
    assert!(fixture.metrics().contains("kvm_exits_total{"));
    assert_eq!(fixture.asked.load(Ordering::Relaxed), 1);
    Ok(())
}

/// What this process holds, KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// VMs come and go, rows are folded, clients scrape: what was is forgotten.
fn memory() -> Outcome {
    let shown = kvm_utils::view::prometheus::Limits { max_series: 1000, keep: Duration::ZERO, ..SHOWN };
    let fixture = Fixture::start(shown, Limits::default(), Duration::ZERO, |nth| {
        let mut report = Fleet { vms: 3, vcpus: 1 }.exits(nth);
        for vm in &mut report.vms {
            vm.name = format!("{}-{nth}", vm.name);
        }
        Some(vec![report])
    });
    let scrape =
        |times: u32| (0..times).for_each(|_| assert!(fixture.metrics().contains("kvm_exits_total{")));
    scrape(200);
    let before = resident();
    scrape(1500);
    let after = resident();
    assert!(after < before + 2048, "{before} KiB, then {after} KiB");
    Ok(())
}
