//! Where programs can be attached.

use super::{
    answers::{Answer, Answers, HOOKS},
    btf::Layout,
    filesystems,
    item::{Group, Item, Support},
};
use crate::{
    bpf::{cause::PERF_REFUSED, object::VCPU_DESTROY_SYMBOL, tracer::Source},
    host::SysRoot,
};

/// The ways in which exits can be learned of, the best first.
pub(super) fn sources(answers: &Answers, layout: &Layout) -> Vec<Source> {
    if !answers.read_kernel.is_yes() || !answers.mappable_array.is_yes() {
        return Vec::new();
    }
    let mut sources = Vec::new();
    if layout.found.is_ok() && answers.raw_hooks.iter().all(Answer::is_yes) {
        sources.push(Source::Raw);
    }
    if answers.tracepoint_hooks.iter().all(Answer::is_yes) {
        sources.push(Source::Tracepoint);
    }
    sources
}

pub(super) fn items(root: &SysRoot, answers: &Answers, layout: &Layout) -> Vec<Item> {
    let mut items: Vec<Item> = ["hook_kvm_exit", "hook_kvm_entry"]
        .into_iter()
        .zip(HOOKS)
        .zip(answers.raw_hooks.iter().zip(&answers.tracepoint_hooks))
        .map(|((id, title), (raw, classic))| {
            let (support, detail) = tracepoint(root, title, raw, classic, layout);
            Item::new(Group::Hooks, id, title, support, detail)
        })
        .collect();
    items.push(vcpu_destroy(root, answers));
    items
}

fn tracepoint(
    root: &SysRoot,
    name: &str,
    raw: &Answer,
    classic: &Answer,
    layout: &Layout,
) -> (Support, String) {
    let events = filesystems::kvm_events(root);
    let exists = events.as_ref().is_ok_and(|events| events.join(name).exists());
    let ways: Vec<&str> = [(raw.is_yes(), "raw tracepoint"), (classic.is_yes(), "tracepoint")]
        .into_iter()
        .filter_map(|(works, name)| works.then_some(name))
        .collect();
    let detail =
        if ways.is_empty() && exists { "there is such a tracepoint".to_owned() } else { ways.join(", ") };
    let support = match (raw, classic) {
        (Answer::Yes, _) if layout.found.is_ok() => Support::Full,
        (Answer::Yes, Answer::Yes) => Support::degraded(
            "only as a classic tracepoint, which costs the guests more",
            "see layout of exits",
        ),
        (_, Answer::Yes) => {
            Support::degraded(format!("not as raw tracepoint: {}", raw.refusal().unwrap_or_default()), "")
        }
        (Answer::Yes, _) => Support::no(
            format!(
                "not as raw tracepoint (see layout of exits), nor as classic one: {}",
                classic.refusal().unwrap_or_default()
            ),
            match (classic, &events) {
                (Answer::No(libc::EACCES), _) => PERF_REFUSED,
                (_, Err(error)) => error.remedy(),
                (_, Ok(_)) => "see tracefs and lockdown",
            },
        ),
        (Answer::No(libc::ENOENT), _) => {
            Support::no("this kernel has no such tracepoint now", "load KVM (see vendor module)")
        }
        (Answer::No(_), _) => Support::no(raw.refusal().unwrap_or_default(), "see privileges and lockdown"),
        (Answer::NotAsked(why), _) => {
            Support::unknown(format!("not tried: {why}"), "see privileges and bpf(2)")
        }
    };
    (support, detail)
}

fn vcpu_destroy(root: &SysRoot, answers: &Answers) -> Item {
    let costs = "each exit is compared with its process as well, which costs a little";
    let support = match &answers.destroy_hook {
        Answer::Yes => Support::Full,
        Answer::No(libc::ENOENT) => Support::degraded(
            format!("the kernel has no such function; {costs}"),
            "load KVM (see vendor module)",
        ),
        Answer::No(libc::EACCES) => {
            Support::degraded(format!("perf events are refused; {costs}"), PERF_REFUSED)
        }
        Answer::No(_) => Support::degraded(
            format!("refused ({}); {costs}", answers.destroy_hook.refusal().unwrap_or_default()),
            "allow kprobes: echo 1 > /sys/kernel/debug/kprobes/enabled; see lockdown",
        ),
        Answer::NotAsked(why) if answers.raw_program.is_yes() => {
            Support::degraded(format!("{why}; {costs}"), "")
        }
        Answer::NotAsked(why) => Support::unknown(format!("not tried: {why}"), "see privileges and bpf(2)"),
    };
    let off = root.text("/sys/kernel/debug/kprobes/enabled").is_ok_and(|enabled| enabled == "0");
    let detail = match (&support, off) {
        (_, true) => "kprobes are switched off",
        (Support::Full, false) => "kprobe",
        _ => "",
    };
    Item::new(Group::Hooks, "hook_vcpu_destroy", VCPU_DESTROY_SYMBOL, support, detail)
}
