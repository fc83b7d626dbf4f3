//! `cargo xtask demo`: kvm-utils on real exits of a real guest, on any machine.

use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::lab::{Lab, Output, Request, l2};
use crate::project::Project;
use crate::release::{self, Release};
use crate::{process, ui};

/// Starts the guest and kvm-utils; the same on this machine and inside the lab.
const SCRIPT: &str = include_str!("demo.sh");

/// How long the guest is watched, in seconds.
const SECONDS: u32 = 20;

/// `cargo xtask demo`.
pub(crate) fn main() -> Result<ExitCode> {
    let release = release::build(&Project::locate()?)?;
    let lab = Lab::open()?;
    let l2 = l2::prepare(&lab.cache)?;
    let mut env = vec![
        ("KVM_UTILS".to_owned(), release.kvm_utils.to_string_lossy().into_owned()),
        ("DEMO_SECONDS".to_owned(), SECONDS.to_string()),
    ];
    env.extend(l2.env());
    let (place, status) = match native_obstacle(&release)? {
        None => {
            ui::step("this machine's own KVM shows its exits; starting a guest on it");
            (format!("Linux {}, this machine", kernel()?), native(&env)?)
        }
        Some(why) => {
            ui::step(format_args!("this machine cannot show exits ({why}); booting the lab"));
            let mut output = Output::like_stdout();
            env.extend(output.env());
            let command = ["/bin/sh", "-c", SCRIPT].map(OsString::from).to_vec();
            let outcome = lab.run(&Request { command, env, ..Request::default() }, &mut output)?;
            (
                format!("Linux {} in an emulated {} machine", outcome.kernel, Request::default().vendor),
                outcome.status,
            )
        }
    };
    if status != 0 {
        bail!("the demo failed (exit status {status})");
    }
    println!(
        "\ndemo: done. Those were the real exits of a two-vCPU Linux guest under QEMU on KVM ({place})."
    );
    println!("      On a host with guests of its own, type: sudo kvm-utils exits");
    Ok(ExitCode::SUCCESS)
}

/// Why this machine's own KVM will not do, as kvm-utils itself finds out; None when it will.
fn native_obstacle(release: &Release) -> Result<Option<String>> {
    ui::step("trying kvm-utils selftest on this machine");
    let mut selftest = Command::new(&release.kvm_utils);
    let output = selftest.arg("selftest").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {}", release.kvm_utils.display()))?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let why = said.lines().next().unwrap_or_default().trim_start_matches("kvm-utils: ");
    Ok(Some(if why.is_empty() { format!("selftest: {}", output.status) } else { why.to_owned() }))
}

fn native(env: &[(String, String)]) -> Result<i32> {
    let mut script = Command::new("/bin/sh");
    script.args(["-c", SCRIPT]).envs(env.iter().map(|(name, value)| (name, value)));
    process::tie(&mut script, rustix::process::Signal::TERM);
    let status = script.status().context("cannot start the guest")?;
    status.code().context("the demo was killed")
}

fn kernel() -> Result<String> {
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?;
    Ok(release.trim().to_owned())
}
