//! From a sample to the model: a report.

use super::{
    body, exits,
    noun::{Aids, Noun},
    sample::{Sample, Scope},
};
use crate::{
    decode::Isa,
    drilldown::{exits::rows::Code, irq},
    model::{Host, KvmStat, Proof, Report, Row},
    view::units,
};

/// What decides which rows are shown and in which order.
#[derive(Clone, Debug)]
pub struct Order {
    /// Id of a column.
    pub sort: String,
    /// Rows per table.
    pub top: Option<usize>,
}

impl Order {
    /// All rows, by the drill-down's own column.
    #[must_use]
    pub fn of(noun: &Noun) -> Self {
        Self { sort: noun.sort.to_owned(), top: None }
    }
}

/// Puts what only the VMM knows into the rows of the VM in this process, as seen from here.
pub type Complete<'a> = &'a dyn Fn(u32, &mut [Row]);

/// The report of a sample.
#[must_use]
pub fn report(sample: &Sample, order: &Order, aids: &Aids, complete: Complete<'_>) -> Report {
    let noun = sample.noun;
    let exits = exits::report::body(sample, order);
    let isa = sample.isa();
    let mut proof = Proof {
        source: sample.source.name(),
        counted: exits.counted,
        kvm_stat: sample.kvm_stat.clone(),
        missed: sample.missed,
        unpaired: exits.unpaired,
        entries_without_exit: exits.entries_without_exit,
        in_progress: exits.in_progress,
        vcpus_full: exits.overflow,
        histograms_full: sample.trouble.histograms_full,
        unreadable: sample.trouble.unreadable,
        rows_full: sample.trouble.rows_full,
        own_cost: sample.cost.of_exits(exits.counted, sample.interval),
    };
    let mut notes = Vec::new();
    let mut hints = Vec::new();
    let (vms, totals) = if let Some(build) = noun.build {
        let body =
            body::body(&body::Parts { sample, build, exits: &exits.by_code, isa, order, aids, complete });
        proof.counted = body.counted;
        proof.kvm_stat = KvmStat::NotKept;
        proof.own_cost = sample.cost.share;
        notes.extend(body.notes);
        notes.extend(sample.notes.devices.iter().cloned());
        if body.left_out > 0 {
            let rows = units::counted(body.left_out as u64, "row is", "rows are");
            notes.push(format!("{rows} not shown; --top N shows the first N"));
        }
        if body.unattributed > 0 {
            let (one, many) = noun.counting;
            notes.push(format!(
                "{} more came in interrupts of the host or on threads of the kernel, for these VMs or others: \
                 without --pid, --vm and --vcpu they are shown",
                units::counted(body.unattributed, one, many)
            ));
        }
        if sample.blind_to_interrupts {
            notes.push(
                "this kernel does not show when it deals with an interrupt of the host: what comes in one is \
                 shown under the thread that it came upon"
                    .to_owned(),
            );
        }
        (body.vms, body.totals)
    } else {
        hints = hints_of(&exits.by_code);
        (exits.vms, exits.totals)
    };
    notes.extend(sample.notes.lacks.iter().cloned());
    if let Some(posted) = sample.posted
        && (posted != crate::host::Posted::default() || !std::ptr::eq(noun, &irq::NOUN))
    {
        notes.push(posted.sentence());
    }
    if sample.scope == Scope::Run && sample.unlisted.vms > 0 {
        notes.push(format!("{} VMs that ended earlier are in the totals only", sample.unlisted.vms));
    }
    if sample.ambiguous {
        notes.push(
            "a process runs several VMs, which classic tracepoints do not tell apart: its vCPUs are told apart \
             by thread"
                .to_owned(),
        );
    }
    Report {
        noun: noun.name,
        counting: noun.counting,
        columns: noun.columns,
        one_row: noun.build.is_some_and(|build| build.one_row),
        time: sample.time,
        interval: sample.interval,
        summary: sample.scope == Scope::Run,
        host: Host {
            kernel: sample.host.kernel.clone(),
            isa: isa.map_or_else(|| "unknown".to_owned(), |isa: Isa| isa.to_string()),
            cpus: sample.host.cpus,
            cpu: sample.host.cpu.clone(),
        },
        events: proof.counted,
        proof,
        hints,
        notes,
        vms,
        totals,
    }
}

/// What the numbers suggest to look at: a class that makes up a third of the exits, or more.
fn hints_of(by_code: &[(Code, u64)]) -> Vec<String> {
    let all: u64 = by_code.iter().map(|(_, count)| count).sum();
    by_code
        .iter()
        .filter(|(_, count)| all > 0 && count.saturating_mul(3) >= all)
        .filter_map(|(code, count)| hint(*code, *count as f64 / all as f64))
        .collect()
}

fn hint(code: Code, share: f64) -> Option<String> {
    let reason = code.reason()?;
    let class = reason.class();
    let more = class.drilldown().map_or(String::new(), |noun| format!("; `kvm-utils {noun}` tells more"));
    Some(format!("{:.0} % of these exits are {reason}: {}{more}", share * 100.0, class.help()))
}
