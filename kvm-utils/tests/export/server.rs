//! A server as the exporter's, on a free port of this machine, whose tracer is made up; and a client.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use kvm_utils::{
    export::{Ask, Collected, Limits, Pages, Server, listen},
    model::Report,
    view::prometheus::{self, Exposition},
};
use tokio::sync::mpsc;

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(60);

/// What is shown.
pub const SHOWN: prometheus::Limits = prometheus::Limits {
    max_series: 50_000,
    per_vcpu: false,
    created: false,
    keep: Duration::from_secs(300),
};

/// A running server.
pub struct Fixture {
    pub address: SocketAddr,
    pub pages: Arc<Pages>,
    /// How often the tracer was asked.
    pub asked: Arc<AtomicU64>,
    _server: Server,
}

impl Fixture {
    /// Its tracer answers with what `reports` gives for the first time, the second, and so on; not at all for `None`.
    pub fn start(
        shown: prometheus::Limits,
        limits: Limits,
        refresh: Duration,
        reports: impl FnMut(u64) -> Option<Vec<Report>> + Send + 'static,
    ) -> Self {
        Self::patient(shown, limits, refresh, LONG, reports)
    }

    /// The same, waiting no longer than `patience` for the tracer.
    pub fn patient(
        shown: prometheus::Limits,
        limits: Limits,
        refresh: Duration,
        patience: Duration,
        mut reports: impl FnMut(u64) -> Option<Vec<Report>> + Send + 'static,
    ) -> Self {
        let (ask, mut asks) = mpsc::channel::<Ask>(1);
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        // Ends when the pages do.
        thread::spawn(move || {
            let mut waiting = Vec::new();
            while let Some(answer) = asks.blocking_recv() {
                let nth = count.fetch_add(1, Ordering::Relaxed) + 1;
                match reports(nth) {
                    Some(reports) => _ = answer.send(Collected { reports, took: Duration::from_millis(1) }),
                    None => waiting.push(answer),
                }
            }
        });
        let pages = Arc::new(Pages::new(ask, Exposition::new(shown), refresh).with_patience(patience));
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = Server::start(listener, Arc::clone(&pages), limits).expect("a server");
        Self { address, pages, asked, _server: server }
    }

    /// A new connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        stream
    }

    /// Sends a request as it is and reads the answer.
    pub fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("the server reads");
        Answer::read(&mut stream)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    /// What a scrape gives.
    pub fn metrics(&self) -> String {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// Reads it to the end of the connection.
    pub fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        Self::parse(&String::from_utf8(bytes).expect("UTF-8"))
    }

    pub fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}
