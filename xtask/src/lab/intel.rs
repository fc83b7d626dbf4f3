//! The Intel lab: kvm_intel under an emulator that implements VMX.

use anyhow::{Result, bail};

use super::{Lab, Outcome, Output, Request};

/// Boots the lab, runs the request's command in it and gives its exit status.
pub(crate) fn run(_lab: &Lab, _request: &Request, _output: &mut Output<'_>) -> Result<Outcome> {
    bail!("the Intel lab (kvm_intel under Bochs) is not built into this xtask; use --vendor amd")
}
