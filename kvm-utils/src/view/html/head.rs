//! The top of the page: whose numbers these are, and whether to believe them.

use super::{Noun, markup::Markup};
use crate::model::{KvmStat, Report, Verdict, Vm};
use crate::view::{json, sentences, units};

/// Name of the machine's guests: the VM's, or how many there are.
pub fn subject(nouns: &[Noun]) -> String {
    let Some(first) = nouns.first() else { return "nothing recorded".to_owned() };
    match first.whole.vms.as_slice() {
        [] => "no VM".to_owned(),
        [only] => only.name.clone(),
        several => units::counted(several.len() as u64, "VM", "VMs"),
    }
}

/// The heading and its figures.
pub fn header(out: &mut Markup, nouns: &[Noun]) {
    out.raw("<header><p class=\"tool\">kvm-utils report</p><h1>").text(&subject(nouns)).raw("</h1>");
    let Some(first) = nouns.first() else {
        out.raw("<p>Nothing was recorded.</p></header>");
        return;
    };
    let whole = &first.whole;
    let host = &whole.host;
    out.raw("<p class=\"facts\">");
    let mut facts = Vec::new();
    if let [vm] = whole.vms.as_slice() {
        facts.push(about(vm));
    }
    facts.push(format!("kernel {}", host.kernel));
    facts.push(host.isa.clone());
    facts.push(format!("{}, {}", host.cpu, units::counted(u64::from(host.cpus), "CPU", "CPUs")));
    facts.push(period(first));
    for fact in &facts {
        out.raw("<span>").text(fact).raw("</span> ");
    }
    out.raw("</p><dl class=\"tiles\">");
    let mut tile = |name: &str, value: &str| {
        out.raw("<div><dt>").text(name).raw("</dt><dd>").text(value).raw("</dd></div>");
    };
    tile(whole.counting.1, &units::count(whole.events));
    tile("per second", &units::rate(whole.events as f64 / whole.interval.as_secs_f64()));
    if let [vm] = whole.vms.as_slice() {
        for (name, share) in [("time in exits", vm.busy_share), ("waiting", vm.waiting_share)] {
            if let Some(share) = share {
                tile(name, &units::percent(share, " "));
            }
        }
    } else {
        let vcpus = whole.vms.iter().flat_map(|vm| &vm.vcpus).filter(|vcpu| !vcpu.others).count();
        tile("vCPUs", &units::count(vcpus as u64));
    }
    for (id, name) in [("guest_share", "in the guest"), ("steal_share", "waiting for a CPU")] {
        let share = nouns.iter().find_map(|noun| {
            let at = noun.whole.columns.iter().position(|column| column.id == id)?;
            noun.whole.totals.first()?.cells.get(at)?.number()
        });
        if let Some(share) = share {
            tile(name, &units::percent(share, " "));
        }
    }
    if let Some(cost) = whole.proof.own_cost {
        tile("our cost, of a CPU", &units::percent(cost, " "));
    }
    out.raw("</dl></header>");
}

/// Who a VM is, in one line.
pub fn about(vm: &Vm) -> String {
    let mut items = vec![sentences::process(vm)];
    let vcpus = vm.vcpus.iter().filter(|vcpu| !vcpu.others).count();
    if vcpus > 0 || vm.vcpus.is_empty() {
        items.push(units::counted(vcpus as u64, "vCPU", "vCPUs"));
    }
    if vm.ended {
        items.push("ended".to_owned());
    }
    if let Some(id) = vm.id.as_ref().filter(|id| **id != vm.name) {
        items.push(format!("id {id}"));
    }
    items.extend(vm.within.iter().map(|place| format!("{} {}", place.kind, place.name)));
    items.extend(vm.uuid.as_ref().map(|uuid| format!("uuid {uuid}")));
    items.join(", ")
}

/// When and for how long.
fn period(noun: &Noun) -> String {
    let whole = &noun.whole;
    let begin = noun.began.or_else(|| whole.time.checked_sub(whole.interval));
    let time = |time| json::rfc3339(time).map(|text| text.replace('T', " ").replace('Z', " UTC"));
    let (begin, end) = (begin.and_then(time), time(whole.time));
    let length = units::interval(whole.interval.as_secs_f64());
    let intervals = units::counted(noun.lengths.len() as u64, "interval", "intervals");
    match (begin, end) {
        (Some(begin), Some(end)) => format!("{begin} to {end}: {length}, {intervals}"),
        _ => format!("{length}, {intervals}"),
    }
}

/// What it all amounts to; whatever is in doubt is told here, of every drill-down.
pub fn verdict(out: &mut Markup, nouns: &[Noun]) {
    let mut doubts = Vec::new();
    let mut unsure = Vec::new();
    let mut proven = None;
    for noun in nouns {
        let (whole, name) = (&noun.whole, noun.whole.noun);
        match whole.proof.verdict() {
            Verdict::Doubtful(of) => doubts.extend(of.into_iter().map(|doubt| format!("{name}: {doubt}"))),
            Verdict::Unchecked => {
                unsure.extend(sentences::unsure(&whole.proof).map(|why| format!("{name}: {why}")));
            }
            Verdict::Proven if proven.is_none() => proven = Some(&whole.proof),
            Verdict::Proven => {}
        }
        let of_intervals = noun.doubts.iter().filter(|doubtful| **doubtful).count() as u64;
        if of_intervals > 0 {
            let intervals = units::counted(of_intervals, "interval", "intervals");
            doubts.push(format!("{name}: {intervals} of {} in doubt", noun.lengths.len()));
        }
    }
    let (class, word) = match (doubts.is_empty(), unsure.is_empty(), proven) {
        (false, ..) => ("doubtful", "In doubt"),
        (true, false, _) => ("unchecked", "Not checked"),
        (true, true, Some(_)) => ("proven", "Proven"),
        (true, true, None) => ("unchecked", "Nothing to check against"),
    };
    out.raw("<section").attr("class", &format!("verdict {class}")).raw("><h2>").text(word).raw("</h2><ul>");
    for sentence in doubts.iter().chain(&unsure) {
        out.raw("<li>").text(sentence).raw("</li>");
    }
    if let Some(proof) = proven {
        out.raw("<li>").text(&sentences::proof(proof).join(", ")).raw("</li>");
    }
    out.raw("</ul></section>");
}

/// The proof of one drill-down.
pub fn proof(out: &mut Markup, report: &Report) {
    let class = match report.proof.verdict() {
        Verdict::Proven => "proof proven",
        Verdict::Unchecked if report.proof.kvm_stat == KvmStat::NotKept => "proof",
        Verdict::Unchecked => "proof unchecked",
        Verdict::Doubtful(_) => "proof doubtful",
    };
    out.raw("<p").attr("class", class).raw("><b>proof</b> ");
    for item in sentences::proof(&report.proof) {
        out.raw("<span>").text(&item).raw("</span> ");
    }
    out.raw("</p>");
    if let Verdict::Doubtful(doubts) = report.proof.verdict() {
        for doubt in doubts {
            out.raw("<p class=\"proof doubtful\"><b>DOUBT</b> ").text(&doubt).raw("</p>");
        }
    }
    if let Some(why) = sentences::unsure(&report.proof) {
        out.raw("<p class=\"proof unchecked\"><b>unsure</b> ").text(&why).raw("</p>");
    }
    for (label, texts) in [("try", &report.hints), ("note", &sentences::notes(report))] {
        for text in texts {
            out.raw("<p class=\"advice\"><b>").text(label).raw("</b> ").text(text).raw("</p>");
        }
    }
}
