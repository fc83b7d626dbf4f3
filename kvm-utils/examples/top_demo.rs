//! `kvm-utils top` with made-up VMs, for looking at the screen where there is no KVM:
//!
//!     cargo run -p kvm-utils --example top_demo -- [--vms N] [--with NOUN]...

// clippy.toml allows this in tests; this is for those who make them.
#![allow(clippy::unwrap_used)]

#[path = "../tests/tui/demo.rs"]
mod demo;
#[path = "../tests/tui/fleet.rs"]
mod fleet;

use std::time::Duration;

use clap::Parser;
use demo::Demo;
use fleet::Fleet;
use kvm_utils::cmd::top::{End, Pace, show};

#[derive(Parser)]
struct Options {
    /// So many VMs of eight vCPUs, in place of three
    #[arg(long)]
    vms: Option<u32>,
    /// Drill-downs beside exits and time
    #[arg(long)]
    with: Vec<String>,
    /// Milliseconds between updates
    #[arg(long, default_value_t = 1000)]
    interval: u64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut demo = Demo::new(options.vms.map_or_else(|| Fleet::new(7), |vms| Fleet::many(7, vms, 8)));
    demo.nouns.extend(options.with);
    let pace = Pace { interval: Duration::from_millis(options.interval), duration: None };
    match show(&mut demo, &pace)? {
        End::Done => println!("{} intervals", demo.ticks),
        End::Lost => eprintln!("the terminal is gone"),
    }
    Ok(())
}
