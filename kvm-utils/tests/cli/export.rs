//! `kvm-utils export` from the outside: what it refuses, what it tells systemd, that it ends well.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    process::Output,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    harness::{Outcome, Test},
    needs,
    tool::{Ran, pictures, tool},
};

pub const TESTS: &[Test] = &[
    ("export::what_cannot_be_meant", mistakes),
    ("export::other_machines_only_if_told_so", remote),
    ("export::serves_until_told_to_stop", serves),
    ("export::an_address_that_is_taken_is_told", taken),
];

fn mistakes() -> Outcome {
    let calls = [
        "export exists",
        "export derived",
        "export --listen 9973",
        "export --listen localhost:9973",
        "export --listen 127.0.0.1:99999",
        "export --max-series 0",
        "export --keep soon",
        "export -i 5",
        "export -o json",
    ];
    let runs: Vec<_> = calls.iter().map(|call| tool(call).run().exits_with(2)).collect();
    insta::assert_snapshot!("export_mistakes", pictures(&runs));
    Ok(())
}

fn remote() -> Outcome {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9973"] {
        let ran = tool(&format!("export --listen {address}")).run().exits_with(2);
        ran.says("can be reached from other machines").says("or give --allow-remote");
    }
    // Whatever else may be the matter, it is not that.
    let ran = tool("export -p 2147483647 --listen 0.0.0.0:0 --allow-remote").run();
    assert!(!ran.stderr.contains("other machines"), "{}", ran.picture());
    Ok(())
}

/// The answer to a request.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it serves");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn serves() -> Outcome {
    needs::runs()?;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let heard = || {
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    for signal in [Signal::TERM, Signal::INT] {
        let tool = tool("export exits halt --listen 127.0.0.1:0").with_tracefs();
        let mut command = tool.command();
        let mut child =
            command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1").spawn().expect("it starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).expect("text") > 0, "ended early: {said}");
            said.push_str(&line);
            if let Some((_, rest)) = line.split_once("serving http://") {
                break rest.trim().trim_end_matches("/metrics").to_owned();
            }
        };
        assert_eq!(heard(), "READY=1");
        assert_eq!(heard(), "WATCHDOG=1");
        let metrics = get(&address, "/metrics");
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
        assert!(
            metrics.contains("\nkvm_utils_counted_total{noun=\"exits\"} ")
                && metrics.contains("noun=\"halt\"")
        );
        assert!(
            metrics.contains(&format!("kvm_utils_info{{version=\"{}", env!("CARGO_PKG_VERSION"))),
            "{metrics}"
        );
        assert!(get(&address, "/healthz").ends_with("\r\n\r\nok\n"));
        // One that has connected and says nothing does not keep it from ending.
        let _silent = TcpStream::connect(&address).expect("it serves");
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        let (mut stdout, mut rest) = (Vec::new(), String::new());
        child.stdout.take().expect("a pipe").read_to_end(&mut stdout).expect("output");
        stderr.read_to_string(&mut rest).expect("text");
        let status = child.wait().expect("its end");
        let ran: Ran =
            tool.ran(&Output { status, stdout, stderr: (said + &rest).into_bytes() }).exits_with(0);
        assert_eq!(ran.stdout, "");
        while heard() != "STOPPING=1" {}
    }
    Ok(())
}

fn taken() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    tool(&format!("export --listen {address}")).run().exits_with(3).says("--listen gives another address");
    Ok(())
}
