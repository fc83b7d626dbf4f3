//! Connections and answers.
//!
//! A connection is one request and its answer, then it is closed: who holds it longer than that has taken its time or
//! means no good, and is cut off. When there are too many, the oldest that has not asked for anything makes room, else the
//! oldest of all, so that a new client is always heard.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, yield_now},
    time::{sleep, timeout},
};

use super::{
    accept,
    page::{Pages, STATUSES},
    serve::Limits,
};

/// A request's head is not larger, bytes: the least that hyper takes is 8 KiB.
const LARGEST_HEAD: usize = 16 << 10;
/// How long to wait where no connection can be accepted for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection under way.
struct Open {
    task: AbortHandle,
    /// The client has asked and is being answered.
    asked: Arc<AtomicBool>,
}

/// Answers for ever.
pub(super) async fn run(listener: &TcpListener, pages: &Arc<Pages>, limits: Limits) {
    let mut open: VecDeque<Open> = VecDeque::new();
    loop {
        let stream = listener.accept().await;
        open.retain(|connection| !connection.task.is_finished());
        if open.len() >= limits.connections || stream.is_err() {
            make_room(&mut open, pages);
        }
        let Ok((stream, _)) = stream else {
            sleep(PAUSE).await;
            continue;
        };
        let asked = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(connection(stream, Arc::clone(pages), limits, Arc::clone(&asked)));
        open.push_back(Open { task: task.abort_handle(), asked });
        // It shall have looked for a request before others can make it go.
        yield_now().await;
    }
}

fn make_room(open: &mut VecDeque<Open>, pages: &Pages) {
    let idle = open.iter().position(|connection| !connection.asked.load(Ordering::Relaxed));
    if let Some(connection) = open.remove(idle.unwrap_or(0)) {
        connection.task.abort();
        pages.counters.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

async fn connection(stream: TcpStream, pages: Arc<Pages>, limits: Limits, asked: Arc<AtomicBool>) {
    let service = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(answer(&request, &pages).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.request);
    http.keep_alive(false).max_buf_size(LARGEST_HEAD);
    // What goes wrong on a connection is its client's business.
    let _ = timeout(limits.connection, http.serve_connection(TokioIo::new(stream), service)).await;
}

async fn answer(request: &Request<Incoming>, pages: &Arc<Pages>) -> Response<Full<Bytes>> {
    let response = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => metrics(request, pages).await,
        (&Method::GET | &Method::HEAD, "/healthz") if pages.is_alive() => text(StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/healthz") => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the tracer does not run\n")
        }
        (&Method::GET | &Method::HEAD, "/") => {
            typed(StatusCode::OK, "text/html; charset=utf-8", INDEX.into())
        }
        (_, "/metrics" | "/healthz" | "/") => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /\n"),
    };
    if let Some(at) = STATUSES.iter().position(|status| *status == response.status().as_u16()) {
        pages.counters.responses[at].fetch_add(1, Ordering::Relaxed);
    }
    response
}

async fn metrics(request: &Request<Incoming>, pages: &Arc<Pages>) -> Response<Full<Bytes>> {
    // A header may be there several times, which is a list.
    let accept: Vec<&str> =
        request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accept = (!accept.is_empty()).then(|| accept.join(","));
    let format = accept::format(accept.as_deref());
    match pages.metrics(format).await {
        Ok(body) => {
            let mut response = typed(StatusCode::OK, format.content_type(), body);
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
            response
        }
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

fn text(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", Bytes::from_static(words.as_bytes()))
}

fn typed(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The page for people who come by.
const INDEX: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>kvm-utils</title></head>
<body>
<h1>kvm-utils export</h1>
<p>VM exits of the KVM guests on this host, and what they are about.</p>
<ul>
<li><a href=\"/metrics\">/metrics</a>: for Prometheus</li>
<li><a href=\"/healthz\">/healthz</a>: 200 as long as the tracer runs</li>
</ul>
</body>
</html>
";
