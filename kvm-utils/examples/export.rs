//! What a scrape of a host with many VMs takes, and whether memory stays the same, as `cargo xtask bench export` prints it.
//! The numbers are made up; how long it takes to read real ones is told by `snapshot`.

// clippy.toml allows these in tests, and this measures what they test.
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../tests/export/fleet.rs"]
#[allow(dead_code)]
mod fleet;
#[path = "../tests/export/server.rs"]
#[allow(dead_code)]
mod server;

use std::{
    fs,
    sync::mpsc::sync_channel,
    thread,
    time::{Duration, Instant},
};

use fleet::Fleet;
use kvm_utils::{export::Limits, view::prometheus};
use server::{Fixture, SHOWN};

const FLEET: Fleet = Fleet { vms: 100, vcpus: 8 };
const ROUNDS: u32 = 20;
const SCRAPES: [u32; 2] = [500, 10_000];

fn main() {
    for (what, per_vcpu, max_series) in
        [("by VM", false, 50_000), ("by vCPU, 50,000 series", true, 50_000), ("by vCPU", true, 1_000_000)]
    {
        let shown = prometheus::Limits { per_vcpu, max_series, ..SHOWN };
        let fixture = fixture(shown);
        let mut took: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                // Until the next numbers are made.
                thread::sleep(Duration::from_millis(200));
                let began = Instant::now();
                fixture.metrics();
                began.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        took.sort_by(f64::total_cmp);
        let text = fixture.metrics();
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        println!(
            "Scrape of {} VMs with {} vCPUs each, {what}: median of {ROUNDS} {:.1} ms, fastest {:.1} ms; {series} series, {:.1} MB",
            FLEET.vms,
            FLEET.vcpus,
            took[took.len() / 2],
            took[0],
            text.len() as f64 / 1e6
        );
    }
    let fixture = fixture(SHOWN);
    let mut done = 0;
    for scrapes in SCRAPES {
        (done..scrapes).for_each(|_| drop(fixture.metrics()));
        done = scrapes;
        println!("Memory after {scrapes} scrapes (VmRSS): {:.1} MiB", resident() / 1024.0);
    }
}

/// Every scrape has new numbers, as if none came within the least age. They are made beforehand, on another thread: here
/// they stand for what the tracer has read.
fn fixture(shown: prometheus::Limits) -> Fixture {
    let (made, ready) = sync_channel(0);
    thread::spawn(move || (1..).try_for_each(|nth| made.send(vec![FLEET.exits(nth)])));
    Fixture::start(shown, Limits::default(), Duration::ZERO, move |_| ready.recv().ok())
}

/// KiB, of this process, which is the tracer, the server and the client.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
