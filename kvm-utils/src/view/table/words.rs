//! The sentences around the numbers: whose they are, whether to believe them, what to do next.

use super::fit::{Line, Paint};
use super::{Style, whose};
use crate::model::{KvmStat, Report, Vcpu, Verdict, Vm};
use crate::view::{
    sentences::{self, events, own_cost, span},
    text, units,
};

/// A VM's name takes no more columns than this.
const LONGEST_NAME: usize = 32;
/// The labels of the last lines are this wide.
const LABEL: usize = 7;
/// A heading's lines after the first begin with as many spaces.
const INDENT: usize = 2;

/// Whose numbers follow, for one VM.
pub fn vm(vm: &Vm, report: &Report, style: &Style) -> Vec<Line> {
    let name = text::cut(&text::safe(&vm.name, style.unicode), LONGEST_NAME, style.unicode);
    let vmm = text::cut(&text::safe(&vm.vmm, style.unicode), LONGEST_NAME, style.unicode);
    let mut who = vec![name];
    who.push(format!("{} {}", if vmm == "unknown" { "pid" } else { vmm.as_str() }, vm.pid));
    let vcpus = vm.vcpus.iter().filter(|vcpu| !vcpu.others).count();
    if vcpus > 0 || vm.vcpus.is_empty() {
        who.push(units::counted(vcpus as u64, "vCPU", "vCPUs"));
    }
    if vm.ended {
        who.push("ended".to_owned());
    }
    let alone = report.vms.len() == 1;
    if alone {
        who.extend(span(report));
    }
    let mut items = vec![who.join("  "), events(vm.events, report)];
    items.extend(sentences::shares(vm));
    if alone {
        items.extend(own_cost(&report.proof));
    }
    add_if_room(&mut items, whose::identity(vm, style), style);
    packed(&items, Paint::Heading, style)
}

/// Adds each of `extras` in the first way that fits into the lines there are, or, if it is worth that, into one more
/// where lines are not counted.
fn add_if_room(items: &mut Vec<String>, extras: Vec<whose::Extra>, style: &Style) {
    let lines = |items: &[String]| text::pack(items, style.columns(), INDENT, style.unicode).len();
    let one_more = lines(items) + usize::from(style.height.is_none());
    for extra in extras {
        let most = if extra.worth_a_line { one_more } else { lines(items) };
        for way in extra.ways {
            let whole = text::width(&way) + INDENT <= style.columns();
            items.push(way);
            if whole && lines(items) <= most {
                break;
            }
            items.pop();
        }
    }
}

/// Whose numbers follow, for one vCPU, and what it is doing.
pub fn vcpu(vcpu: &Vcpu, report: &Report, style: &Style) -> Vec<Line> {
    let id = vcpu.vcpu.map_or_else(|| "?".to_owned(), |id| id.to_string());
    let who = if vcpu.others {
        format!("other threads  pid {}", vcpu.tid)
    } else {
        format!("vcpu {id}  tid {}", vcpu.tid)
    };
    let mut items = vec![who, events(vcpu.events, report)];
    if let Some(running) = &vcpu.running {
        let reason = text::safe(&running.reason, style.unicode);
        items.push(format!("in {reason} for {}", units::duration(running.for_ns as f64)));
    }
    packed(&items, Paint::Plain, style)
}

/// The line over several VMs.
pub fn overview(report: &Report, style: &Style) -> Vec<Line> {
    let vcpus = report.vms.iter().flat_map(|vm| &vm.vcpus).filter(|vcpu| !vcpu.others).count();
    let mut who = vec![
        units::counted(report.vms.len() as u64, "VM", "VMs"),
        units::counted(vcpus as u64, "vCPU", "vCPUs"),
    ];
    who.extend(span(report));
    let mut items = vec![who.join("  "), events(report.events, report)];
    items.extend(own_cost(&report.proof));
    packed(&items, Paint::Heading, style)
}

/// What to say when there is nothing to show.
pub fn nothing(report: &Report, style: &Style) -> Vec<Line> {
    text::wrap(&sentences::nothing(report), style.columns())
        .into_iter()
        .map(|line| Line::new(line, Paint::Heading))
        .collect()
}

/// The proof, and every reason to doubt it; with `brief`, what takes more than a line is cut.
pub fn proof(report: &Report, style: &Style, brief: bool) -> Vec<Line> {
    let proof = &report.proof;
    let verdict = proof.verdict();
    let items = sentences::proof(proof);
    let width = style.columns().saturating_sub(LABEL);
    let packed = text::pack(&items, width, 0, style.unicode);
    let packed = if brief { vec![text::cut(&items.join("   "), width, style.unicode)] } else { packed };
    let sentence = |label, text: &str, paint| {
        let text = text::safe(text, style.unicode);
        let lines =
            if brief { vec![text::cut(&text, width, style.unicode)] } else { text::wrap(&text, width) };
        labelled(label, &lines, paint)
    };
    let paint = match verdict {
        Verdict::Proven => Paint::Plain,
        Verdict::Unchecked if proof.kvm_stat == KvmStat::NotKept => Paint::Plain,
        Verdict::Unchecked => Paint::Unchecked,
        Verdict::Doubtful(_) => Paint::Doubt,
    };
    let mut lines = labelled("proof", &packed, paint);
    if let Verdict::Doubtful(doubts) = &verdict {
        for doubt in doubts {
            lines.extend(sentence("DOUBT", doubt, Paint::Doubt));
        }
    }
    if let Some(why) = sentences::unsure(proof) {
        lines.extend(sentence("unsure", &why, Paint::Unchecked));
    }
    lines
}

/// What to look at next, and what one must know.
pub fn advice(report: &Report, style: &Style) -> Vec<Line> {
    let width = style.columns().saturating_sub(LABEL);
    let sentence = |label, text: &str| {
        labelled(label, &text::wrap(&text::safe(text, style.unicode), width), Paint::Plain)
    };
    let mut lines = Vec::new();
    for hint in &report.hints {
        lines.extend(sentence("try", hint));
    }
    for note in sentences::notes(report) {
        lines.extend(sentence("note", &note));
    }
    lines
}

fn packed(items: &[String], paint: Paint, style: &Style) -> Vec<Line> {
    let lines = text::pack(items, style.columns(), INDENT, style.unicode);
    lines.into_iter().map(|line| Line::new(line, paint)).collect()
}

/// Lines under a label.
fn labelled(label: &str, texts: &[String], paint: Paint) -> Vec<Line> {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels.zip(texts).map(|(label, text)| Line::new(format!("{label:LABEL$}{text}"), paint)).collect()
}
