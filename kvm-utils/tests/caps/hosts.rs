//! Hosts that lack this or that.

use std::{collections::HashSet, time::Duration};

use kvm_utils::{
    bpf::{
        caps::{Answer, Answers, Caps, Fires, Support, Verdict},
        tracer::Source,
    },
    host::SysRoot,
};

use crate::tree::{Host, blockers, support};

#[test]
fn all_is_well_on_kernels_with_module_btf() {
    for kernel in ["6.1", "6.12", "7.2"] {
        let caps = Host::amd(kernel).caps();
        assert_eq!(caps.exits(), Verdict::Runs { source: Source::Raw }, "{kernel}");
        assert_eq!(caps.sources(), [Source::Raw, Source::Tracepoint]);
        for item in &caps.items {
            // A tree of files has neither a device nor a pid namespace, and nobody watched kvm_exit.
            if !["kvm_device", "pid_namespace", "kvm_stat", "fires"].contains(&item.id) {
                assert_eq!(item.support, Support::Full, "{kernel} {}", item.id);
            }
        }
        assert_eq!(caps.get("parameters").unwrap().detail, "npt=Y avic=N halt_poll_ns=200000");
        assert_eq!((caps.host.cpus_online, caps.host.cpus_possible), (8, 16));
        assert_eq!(caps.host.cpu, "AMD EPYC 7763");
    }
}

#[test]
fn without_module_btf_classic_tracepoints_remain() {
    let caps = Host::amd("5.10").caps();
    assert_eq!(caps.exits(), Verdict::Runs { source: Source::Tracepoint });
    assert!(matches!(support(&caps, "btf_kvm"), Support::Degraded { .. }));
    let layout = support(&caps, "exit_layout");
    assert!(
        layout
            .why()
            .unwrap()
            .starts_with("only classic tracepoints can be used: there is no BTF of the kvm module")
    );
    assert!(matches!(support(&caps, "hook_kvm_exit"), Support::Degraded { .. }));
}

#[test]
fn a_layout_for_the_other_vendor_is_no_layout() {
    let host = Host::amd("6.1");
    host.btf("6.1", "kvm_intel");
    host.remove("sys/kernel/btf/kvm_amd");
    let caps = host.caps();
    assert_eq!(caps.sources(), [Source::Tracepoint]);
    assert!(support(&caps, "exit_layout").why().unwrap().contains("kvm_amd: "));
}

#[test]
fn btf_that_is_none() {
    let host = Host::amd("6.1");
    host.write("sys/kernel/btf/kvm", "\u{7f}ELF");
    let caps = host.caps();
    assert!(support(&caps, "btf_kvm").why().unwrap().contains("is no BTF"));
    assert_eq!(caps.sources(), [Source::Tracepoint]);
}

#[test]
fn without_tracefs_raw_tracepoints_remain_or_it_says_what_to_mount() {
    let mut host = Host::amd("6.1");
    host.remove("sys/kernel/tracing");
    host.answers.tracepoint_hooks = [(); 2].map(|()| Answer::NotAsked("tracefs is not mounted".to_owned()));
    let caps = host.caps();
    assert_eq!(caps.exits(), Verdict::Runs { source: Source::Raw });
    assert_eq!(support(&caps, "tracefs").remedy(), Some("mount -t tracefs tracefs /sys/kernel/tracing"));

    host.remove("sys/kernel/btf");
    assert_eq!(
        blockers(&host.caps()),
        [(
            "hook_kvm_exit",
            "not as raw tracepoint (see layout of exits), nor as classic one: tracefs is not mounted"
                .to_owned(),
            "mount -t tracefs tracefs /sys/kernel/tracing".to_owned()
        )]
    );
}

#[test]
fn tracefs_is_found_below_debugfs_and_named_where_it_is_elsewhere() {
    let host = Host::amd("6.1");
    host.remove("sys/kernel/tracing");
    host.write("proc/self/mountinfo", "36 27 0:14 / /mnt/trace rw,relatime shared:7 - tracefs t rw\n");
    let tracefs = host.caps().get("tracefs").unwrap().clone();
    assert!(tracefs.support.why().unwrap().starts_with("tracefs is mounted at /mnt/trace, where"));
    host.write("sys/kernel/debug/tracing/events/kvm/kvm_exit/id", "1\n");
    let tracefs = host.caps().get("tracefs").unwrap().clone();
    assert_eq!((tracefs.support, tracefs.detail.as_str()), (Support::Full, "/sys/kernel/debug/tracing"));
}

#[test]
fn without_kvm_the_module_to_load_is_named() {
    let mut host = Host::amd("6.1");
    for gone in [
        "sys/module/kvm",
        "sys/module/kvm_amd",
        "sys/kernel/tracing/events/kvm",
        "sys/kernel/btf/kvm",
        "sys/kernel/btf/kvm_amd",
    ] {
        host.remove(gone);
    }
    host.answers.raw_hooks = [Answer::No(libc::ENOENT), Answer::No(libc::ENOENT)];
    host.answers.tracepoint_hooks = [(); 2].map(|()| Answer::NotAsked("there is no events/kvm".to_owned()));
    host.answers.destroy_hook = Answer::No(libc::ENOENT);
    let found = blockers(&host.caps());
    assert_eq!(found.iter().map(|(item, ..)| *item).collect::<Vec<_>>(), ["vendor_module"]);
    assert!(found[0].2.starts_with("modprobe kvm_amd"), "{found:?}");
    host.write("proc/cpuinfo", "flags\t\t: fpu vmx\n");
    assert!(blockers(&host.caps())[0].2.starts_with("modprobe kvm_intel"));
    host.write("proc/cpuinfo", "flags\t\t: fpu\n");
    assert!(blockers(&host.caps())[0].1.contains("offers no virtualization"));
}

#[test]
fn an_unknown_vendor_is_told_and_never_firing_is_a_no() {
    // A real host: KVM_PVM built in, BTF of vmlinux alone.
    let mut host = Host::amd("6.18");
    for module in ["kvm", "kvm_amd"] {
        host.remove(&format!("sys/module/{module}"));
    }
    for module in ["kvm", "kvm_pvm"] {
        host.write(&format!("sys/module/{module}/parameters/x"), "1\n");
    }
    host.answers.destroy_hook =
        Answer::NotAsked("this kernel has no kprobes (CONFIG_KPROBE_EVENTS)".to_owned());
    let mut caps = host.caps();
    assert_eq!(caps.exits(), Verdict::Runs { source: Source::Tracepoint });
    assert!(support(&caps, "vendor_module").why().unwrap().contains("kvm_pvm is not part of Linux"));
    assert!(
        support(&caps, "exit_layout")
            .why()
            .unwrap()
            .contains("where kvm_pvm keeps the exit reason is not known")
    );
    assert!(matches!(support(&caps, "btf_kvm"), Support::Unneeded { .. }));

    let within = Duration::from_millis(200);
    caps.set_fires(&Fires::Doubtful { others: 1052, within });
    assert_eq!(caps.exits(), Verdict::Runs { source: Source::Tracepoint });
    caps.set_fires(&Fires::Never { exits: 90, within });
    let found = blockers(&caps);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "fires");
    assert!(found[0].1.contains("KVM counted 90 exits within 200ms and kvm_exit never fired"), "{found:?}");
}

#[test]
fn a_user_is_told_which_privileges_are_missing_and_nothing_else() {
    let mut host = Host::amd("6.1");
    host.process("bash", "0000000000000000", 0);
    host.answers = Answers::refused(libc::EPERM);
    let caps = host.caps();
    assert_eq!(
        blockers(&caps),
        [(
            "privileges",
            "BPF programs need privileges".to_owned(),
            "run as root (sudo), or with CAP_BPF and CAP_PERFMON".to_owned()
        )]
    );
    assert!(support(&caps, "other_processes").why().unwrap().contains("uid 1000"));
    host.write("proc/sys/kernel/cap_last_cap", "37\n");
    assert!(blockers(&host.caps())[0].2.contains("CAP_SYS_ADMIN is needed"));
}

#[test]
fn cap_bpf_and_cap_perfmon_suffice() {
    let host = Host::amd("6.1");
    // Bits 38 and 39.
    host.process("bash", "000000c000000000", 0);
    let caps = host.caps();
    assert_eq!(caps.exits(), Verdict::Runs { source: Source::Raw });
    assert_eq!(caps.get("privileges").unwrap().detail, "uid 1000 with CAP_BPF, CAP_PERFMON");
    assert!(matches!(support(&caps, "other_processes"), Support::Degraded { .. }));
}

#[test]
fn containers_that_only_look_like_root() {
    let mut host = Host::amd("6.1");
    host.answers = Answers::refused(libc::EPERM);
    host.process("sh", "000001ffffffffff", 2);
    assert!(blockers(&host.caps())[0].1.contains("seccomp"));
    host.write("proc/self/uid_map", "         0       1000          1\n");
    assert!(blockers(&host.caps())[0].1.contains("user namespace"));
    host.write("proc/self/uid_map", "         0          0 4294967295\n");
    host.process("sh", "000001ffffffffff", 0);
    assert!(blockers(&host.caps())[0].1.contains("security module"));
}

#[test]
fn a_kernel_without_bpf() {
    let mut host = Host::amd("6.1");
    host.answers = Answers::refused(libc::ENOSYS);
    let found = blockers(&host.caps());
    assert_eq!((found.len(), found[0].0), (1, "bpf"));
    assert!(found[0].1.contains("CONFIG_BPF_SYSCALL"));
}

#[test]
fn lockdown() {
    let mut host = Host::amd("6.1");
    host.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    assert!(matches!(support(&host.caps(), "lockdown"), Support::Degraded { .. }));
    host.write("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    host.answers.read_kernel = Answer::No(libc::EINVAL);
    let found = blockers(&host.caps());
    assert_eq!((found.len(), found[0].0), (1, "read_kernel"));
    host.remove("sys/kernel/security");
    assert!(matches!(support(&host.caps(), "lockdown"), Support::Unknown { .. }));
}

#[test]
fn a_kvm_without_vendor_module_runs_no_vm() {
    let host = Host::amd("6.1");
    host.remove("sys/module/kvm_amd");
    host.remove("sys/kernel/btf/kvm_amd");
    let caps = host.caps();
    assert_eq!(blockers(&caps)[0].1, "kvm_amd is not loaded");
    assert!(matches!(support(&caps, "exit_layout"), Support::Unknown { .. }));
}

#[test]
fn locked_memory() {
    // Seen on 5.10 with CAP_BPF and CAP_PERFMON alone.
    let mut host = Host::amd("5.10");
    host.answers.memory = Answer::No(libc::EPERM);
    host.answers.memory_limit = Some(65536);
    let caps = host.caps();
    assert_eq!(caps.get("memory").unwrap().detail, "RLIMIT_MEMLOCK 64 KiB");
    let found = blockers(&caps);
    assert_eq!((found.len(), found[0].0), (1, "memory"));
    assert!(found[0].2.contains("ulimit -l unlimited"));
}

#[test]
fn perf_events_can_be_refused_beyond_cap_perfmon() {
    // Seen on Debian with perf_event_paranoid at its default of 3.
    let mut host = Host::amd("5.10");
    host.answers.tracepoint_hooks = [Answer::No(libc::EACCES), Answer::No(libc::EACCES)];
    host.answers.destroy_hook = Answer::No(libc::EACCES);
    let caps = host.caps();
    assert!(blockers(&caps)[0].2.contains("sysctl kernel.perf_event_paranoid=2"));
    assert!(support(&caps, "hook_vcpu_destroy").remedy().unwrap().contains("perf_event_paranoid"));
}

#[test]
fn smaller_things() {
    let mut host = Host::amd("6.1");
    host.write("proc/sys/net/core/bpf_jit_enable", "0\n");
    host.write("sys/kernel/debug/kprobes/enabled", "0\n");
    host.answers.destroy_hook = Answer::No(libc::EPERM);
    let caps = host.caps();
    assert_eq!(support(&caps, "jit").remedy(), Some("sysctl net.core.bpf_jit_enable=1"));
    assert_eq!(caps.get("hook_vcpu_destroy").unwrap().detail, "kprobes are switched off");
    assert!(support(&caps, "kvm_device").why().unwrap().contains("there is none"));
    host.write("dev/kvm", "");
    assert!(support(&host.caps(), "kvm_device").why().unwrap().contains("does not answer as KVM"));
    // None of these stands in the way.
    assert_eq!(caps.exits(), Verdict::Runs { source: Source::Raw });
}

#[test]
fn an_empty_root_is_an_answer_too() {
    let empty = tempfile::tempdir().expect("temporary directory");
    let caps = Caps::assess(&SysRoot::at(empty.path()), &Answers::refused(libc::EPERM));
    assert!(!blockers(&caps).is_empty());
    let ids: HashSet<&str> = caps.items.iter().map(|item| item.id).collect();
    assert_eq!(ids.len(), caps.items.len(), "ids are unique");
}

#[test]
fn every_item_that_is_not_full_says_why() {
    let empty = tempfile::tempdir().expect("temporary directory");
    for answers in [
        Answers::refused(libc::EPERM),
        Answers::refused(libc::ENOSYS),
        Answers::uniform(&Answer::No(libc::EINVAL)),
        Answers::uniform(&Answer::NotAsked("not asked".to_owned())),
    ] {
        let caps = Caps::assess(&SysRoot::at(empty.path()), &answers);
        for item in &caps.items {
            if let Some(why) = item.support.why() {
                assert!(!why.is_empty(), "{}", item.id);
            }
            if let Support::No { remedy, .. } | Support::Unknown { remedy, .. } = &item.support {
                assert!(!remedy.is_empty(), "{}", item.id);
            }
        }
        assert!(blockers(&caps).iter().all(|(_, why, remedy)| !why.is_empty() && !remedy.is_empty()));
    }
}
