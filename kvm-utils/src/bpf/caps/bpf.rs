//! What the kernel's BPF can do.

use super::{
    answers::{Answer, Answers},
    item::{Group, Item, Support},
};
use crate::host::SysRoot;

pub(super) fn items(root: &SysRoot, answers: &Answers) -> Vec<Item> {
    vec![syscall(answers), jit(root), memory(answers), read_kernel(answers), mappable_arrays(answers)]
}

fn syscall(answers: &Answers) -> Item {
    let support = match &answers.raw_program {
        Answer::Yes => Support::Full,
        Answer::No(libc::ENOSYS) => {
            Support::no("this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)", "boot a distribution's kernel")
        }
        Answer::No(libc::EPERM | libc::EACCES) => {
            Support::no("the kernel does not let this process load programs", "see privileges")
        }
        Answer::No(libc::EINVAL) => Support::no(
            "this kernel has no raw tracepoint programs (before 4.17, or without CONFIG_BPF_EVENTS)",
            "boot a newer kernel",
        ),
        other => Support::unknown(
            format!("a program of two instructions was refused: {}", other.refusal().unwrap_or_default()),
            "run as root",
        ),
    };
    let detail = if support == Support::Full { "programs load" } else { "" };
    Item::new(Group::Bpf, "bpf", "bpf(2)", support, detail)
}

fn jit(root: &SysRoot) -> Item {
    let item = |support, detail| Item::new(Group::Bpf, "jit", "JIT", support, detail);
    match root.text("/proc/sys/net/core/bpf_jit_enable").as_deref() {
        Ok("0") => item(
            Support::degraded(
                "programs are interpreted, which costs the guests several times as much",
                "sysctl net.core.bpf_jit_enable=1",
            ),
            "",
        ),
        Ok(_) => item(Support::Full, "on"),
        // Network namespaces other than the initial one do not show it.
        Err(_) => item(
            Support::unknown(
                "net.core.bpf_jit_enable is not shown here",
                "on the host itself: sysctl net.core.bpf_jit_enable",
            ),
            "",
        ),
    }
}

fn memory(answers: &Answers) -> Item {
    let limit = match answers.memory_limit {
        None => "unlimited".to_owned(),
        Some(bytes) => format!("RLIMIT_MEMLOCK {} KiB", bytes / 1024),
    };
    let (support, detail) = match &answers.memory {
        Answer::Yes => (Support::Full, format!("{limit}, no obstacle")),
        Answer::No(libc::EPERM | libc::ENOMEM) => (
            Support::no(
                "maps count as locked memory here, more than this limit is needed, and it cannot be raised",
                "run with CAP_SYS_RESOURCE, or: ulimit -l unlimited",
            ),
            limit,
        ),
        other => (
            Support::unknown(format!("not asked: {}", other.refusal().unwrap_or_default()), "see bpf(2)"),
            limit,
        ),
    };
    Item::new(Group::Bpf, "memory", "memory", support, detail)
}

fn read_kernel(answers: &Answers) -> Item {
    let support = match &answers.read_kernel {
        Answer::Yes => Support::Full,
        Answer::No(_) => Support::no(
            "programs may not read kernel memory: the kernel is locked down, or older than 5.5",
            "see lockdown",
        ),
        Answer::NotAsked(why) => Support::unknown(format!("not asked: {why}"), "see bpf(2)"),
    };
    let detail = if support == Support::Full { "bpf_probe_read_kernel" } else { "" };
    Item::new(Group::Bpf, "read_kernel", "kernel memory", support, detail)
}

fn mappable_arrays(answers: &Answers) -> Item {
    let support = match &answers.mappable_array {
        Answer::Yes => Support::Full,
        Answer::No(libc::EINVAL) => {
            Support::no("arrays cannot be mapped into memory (before 5.5)", "boot a newer kernel")
        }
        Answer::No(_) => Support::no(
            format!(
                "an array of 8 bytes was refused: {}",
                answers.mappable_array.refusal().unwrap_or_default()
            ),
            "see memory",
        ),
        Answer::NotAsked(why) => Support::unknown(format!("not asked: {why}"), "see bpf(2)"),
    };
    let detail = if support == Support::Full { "counters are read without system calls" } else { "" };
    Item::new(Group::Bpf, "mappable_arrays", "mapped arrays", support, detail)
}
