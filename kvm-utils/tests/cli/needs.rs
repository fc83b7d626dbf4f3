//! What tests need of the machine.

use std::path::Path;

use super::{
    harness::{Outcome, Skip},
    tool::tool,
};

fn need(met: bool, what: impl Into<String>) -> Outcome {
    if met { Ok(()) } else { Err(Skip(what.into())) }
}

/// To be root.
pub fn root() -> Outcome {
    need(rustix::process::geteuid().is_root(), "needs root")
}

/// To be let load programs.
pub fn tracing() -> Outcome {
    root()?;
    let ran = tool("exits -p 2147483647").run();
    need(ran.code == 2, format!("needs to be let load eBPF programs: {}", ran.stderr.trim()))
}

/// To be let mount file systems in a mount namespace.
pub fn mounts() -> Outcome {
    root()?;
    match tool("--version").without("/mnt").command().output() {
        Ok(_) => Ok(()),
        Err(error) => Err(Skip(format!("needs to be let mount file systems: {error}"))),
    }
}

/// A kernel with KVM loaded.
pub fn kvm() -> Outcome {
    let loaded = std::fs::read_dir("/sys/module")
        .is_ok_and(|modules| modules.flatten().any(|m| m.file_name().to_string_lossy().starts_with("kvm_")));
    need(loaded, "needs KVM and its vendor module")
}

/// Runs that attach: all of the above, and tracefs or BTF.
pub fn runs() -> Outcome {
    tracing()?;
    mounts()?;
    kvm()?;
    let ran = match tool("exits -n 1 -i 1ms").with_tracefs().command().output() {
        Ok(ran) => ran,
        Err(error) => return Err(Skip(format!("needs tracefs: {error}"))),
    };
    let said = String::from_utf8_lossy(&ran.stderr);
    // What else may keep it from running is for the tests of runs to find.
    need(!said.contains("there is no KVM") && !said.contains("needs tracefs"), "needs KVM that can be traced")
}

/// A KVM that makes VMs.
pub fn device() -> Outcome {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(Path::new("/dev/kvm"));
    need(opened.is_ok(), "needs /dev/kvm")
}
