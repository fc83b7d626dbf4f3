//! `kvm-bench list`: every operation is prepared, as it would be to be measured, and let go.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::run;
use crate::measure::supervisor::{self, Status};
use crate::measure::tsc;
use crate::ops::{self, Spec};
use crate::shared::ops::OPS;

#[derive(Debug, Args)]
pub(super) struct Options {}

pub(super) fn run(_: &Options, common: &run::Options) -> Result<ExitCode> {
    let specs = ops::usual();
    let probed = {
        let plan = common.plan(&tsc::find(), specs.len())?;
        supervisor::probe(&specs, plan.cpu, plan.hz)?
    };
    if common.is_json() {
        let rows = probed.iter().map(|one| {
            let (status, reason, hint) = match &one.status {
                Status::Skipped(reason, hint) => ("skipped", Some(reason), Some(hint)),
                Status::Failed(reason) | Status::Suspect(reason) => ("failed", Some(reason), None),
                Status::Ok => ("ok", None, None),
            };
            json!({"op": one.spec.op, "args": one.spec.args, "status": status, "reason": reason, "hint": hint})
        });
        run::print(&format!("{}\n", serde_json::Value::from_iter(rows)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let about = |spec: &Spec| OPS.iter().find(|op| op.name == spec.op).map_or("", |op| op.about);
    let width = probed.iter().map(|one| one.spec.title().len()).max().unwrap_or(0);
    let mut text = String::new();
    for one in &probed {
        let title = one.spec.title();
        text.push_str(&match &one.status {
            Status::Ok => format!("ok       {title:width$}  {}\n", about(&one.spec)),
            Status::Skipped(reason, hint) => format!("skipped  {title:width$}  {reason}; {hint}\n"),
            Status::Suspect(reason) | Status::Failed(reason) => {
                format!("FAILED   {title:width$}  {reason}\n")
            }
        });
    }
    run::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
