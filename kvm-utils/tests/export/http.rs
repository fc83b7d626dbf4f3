//! What is answered to whom.

use std::time::Duration;

use kvm_utils::export::Limits;

use super::{
    fleet::Fleet,
    harness::{Outcome, Test},
    server::{Fixture, LONG, SHOWN},
};

pub const TESTS: &[Test] = &[
    ("http::each_path_and_method_has_its_answer", paths),
    ("http::the_format_is_what_the_client_wants", formats),
    ("http::many_clients_ask_the_tracer_once", once),
    ("http::a_tracer_that_does_not_answer_is_told", silent_tracer),
];

const FLEET: Fleet = Fleet { vms: 2, vcpus: 2 };

fn fixture() -> Fixture {
    Fixture::start(SHOWN, Limits::default(), LONG, |nth| Some(vec![FLEET.exits(nth)]))
}

fn paths() -> Outcome {
    let fixture = fixture();
    let index = fixture.get("/");
    assert!(
        index.status == 200 && index.head.contains("text/html") && index.body.contains("href=\"/metrics\"")
    );
    let health = fixture.get("/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    let metrics = fixture.get("/metrics?x=y");
    assert_eq!(metrics.status, 200);
    for path in ["/metrics/", "/x", "//", "/metrics%20", "*"] {
        assert_eq!(fixture.get(path).status, 404, "{path}");
    }
    // With the host, as through a proxy.
    assert_eq!(fixture.get("http://example.org/healthz").status, 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let answer =
            fixture.ask(&format!("{method} /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
        assert!(answer.status == 405 && answer.head.contains("allow: get, head"), "{method}: {answer:?}");
    }
    let head = fixture.ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let length = format!("content-length: {}\r\n", metrics.body.len());
    assert!(head.status == 200 && head.body.is_empty() && head.head.contains(&length), "{head:?}");
    assert_eq!(fixture.ask("GET /healthz HTTP/1.0\r\n\r\n").status, 200);
    // One request is answered, and the connection closed, though the client would keep it.
    let two = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n".repeat(2);
    let answer = fixture.ask(&two);
    assert_eq!(answer.body, "ok\n");
    assert!(answer.head.contains("connection: close"));
    Ok(())
}

fn formats() -> Outcome {
    let fixture = fixture();
    let accept = |what: &str| {
        let answer = fixture.ask(&format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{what}\r\n"));
        assert!(answer.status == 200 && answer.head.contains("vary: accept"));
        let is_open =
            answer.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8");
        assert_eq!(answer.body.ends_with("# EOF\n"), is_open, "{what}");
        assert_eq!(answer.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), !is_open);
        is_open
    };
    assert!(accept("Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"));
    assert!(accept("Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text\r\n"));
    assert!(!accept("Accept: text/html,*/*;q=0.8\r\n"));
    assert!(!accept(""));
    Ok(())
}

fn once() -> Outcome {
    let fixture = fixture();
    let texts: Vec<String> = std::thread::scope(|scope| {
        let scrapes: Vec<_> = (0..50).map(|_| scope.spawn(|| fixture.metrics())).collect();
        scrapes.into_iter().map(|scrape| scrape.join().expect("a text")).collect()
    });
    assert!(texts.iter().all(|text| *text == texts[0] && text.contains("kvm_exits_total{")));
    assert_eq!(fixture.asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    // Without a least age every scrape asks.
    let fixture =
        Fixture::start(SHOWN, Limits::default(), Duration::ZERO, |nth| Some(vec![FLEET.exits(nth)]));
    for nth in 1..=5 {
        let line = format!(
            "kvm_exits_total{{vm=\"web-0\",pid=\"4000\",reason=\"io\",isa=\"svm\",class=\"io\"}} {}\n",
            2 * 1009 * nth
        );
        assert!(fixture.metrics().contains(&line), "{nth}");
    }
    Ok(())
}

fn silent_tracer() -> Outcome {
    let impatient = |patience| {
        Fixture::patient(SHOWN, Limits::default(), Duration::ZERO, patience, |nth| {
            (nth > 1).then(|| vec![FLEET.exits(nth)])
        })
    };
    let fixture = impatient(Duration::from_secs(1));
    let answer = fixture.get("/metrics");
    assert_eq!((answer.status, answer.body.as_str()), (503, "the tracer does not answer\n"));
    // Once it does again, all is well.
    assert!(fixture.metrics().contains("kvm_utils_http_responses_total{code=\"503\"} 1\n"));
    // It has not been heard of for no time at all.
    let health = impatient(Duration::ZERO).get("/healthz");
    assert_eq!((health.status, health.body.as_str()), (503, "the tracer does not run\n"));
    Ok(())
}
