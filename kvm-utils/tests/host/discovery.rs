//! Which processes are VMs, and what is known of them.

use kvm_utils::host::{Scanner, VcpuThread, VmProcess, Vmm};

use crate::tree::{Fake, Tree};

const QEMU_FDS: &[&str] = &[
    "/dev/null",
    "/dev/kvm",
    "anon_inode:[eventfd]",
    "anon_inode:kvm-vm",
    "anon_inode:kvm-vcpu:0",
    "anon_inode:kvm-vcpu:1",
];

fn only_vm(tree: &Tree) -> VmProcess {
    let scan = Scanner::new(tree.proc()).scan().expect("scans");
    assert_eq!(scan.vms.len(), 1, "{scan:?}");
    scan.vms[0].clone()
}

fn thread(tid: u32, index: u32, comm: &str) -> VcpuThread {
    VcpuThread { tid, index, comm: comm.to_owned() }
}

#[test]
fn qemu_with_named_threads() {
    let tree = Tree::new();
    tree.add(&Fake {
        cmdline: &["qemu-system-x86_64", "-name", "guest=web-1,debug-threads=on"],
        fds: QEMU_FDS,
        threads: &[(102, "worker"), (103, "CPU 0/KVM"), (104, "CPU 1/KVM")],
        ..Fake::default()
    });
    let vm = only_vm(&tree);
    assert_eq!(
        (vm.pid, vm.start_time, vm.identity.name.as_str(), vm.identity.vmm),
        (100, 5000, "web-1", Vmm::Qemu)
    );
    assert_eq!((vm.vm_count(), vm.vcpu_count()), (1, 2));
    assert_eq!(vm.vcpus, [thread(103, 0, "CPU 0/KVM"), thread(104, 1, "CPU 1/KVM")]);
    assert_eq!(vm.probable_thread(1).map(|t| t.tid), Some(104));
    assert_eq!(vm.probable_thread(2), None);
}

#[test]
fn cpu_1_is_not_cpu_10() {
    let tree = Tree::new();
    let comms: Vec<String> = (0..12).map(|index| format!("CPU {index}/KVM")).collect();
    // Thread ids in another order than the indices.
    let threads: Vec<(u32, &str)> =
        comms.iter().rev().enumerate().map(|(i, c)| (200 + i as u32, c.as_str())).collect();
    let vcpus: Vec<String> = (0..12).map(|id| format!("anon_inode:kvm-vcpu:{id}")).collect();
    let mut fds = vec!["anon_inode:kvm-vm"];
    fds.extend(vcpus.iter().map(String::as_str));
    tree.add(&Fake { fds: &fds, threads: &threads, ..Fake::default() });
    let vm = only_vm(&tree);
    for (id, comm) in comms.iter().enumerate() {
        assert_eq!(vm.probable_thread(id as u32).map(|t| t.comm.as_str()), Some(comm.as_str()));
    }
}

#[test]
fn apic_ids_with_gaps_still_find_their_threads() {
    // QEMU -smp 6,sockets=2,cores=3: KVM's ids are APIC ids 0 1 2 4 5 6, the threads are CPU 0 to CPU 5.
    let tree = Tree::new();
    let vcpus: Vec<String> =
        [0, 1, 2, 4, 5, 6].iter().map(|id| format!("anon_inode:kvm-vcpu:{id}")).collect();
    let mut fds = vec!["anon_inode:kvm-vm"];
    fds.extend(vcpus.iter().map(String::as_str));
    let comms: Vec<String> = (0..6).map(|index| format!("CPU {index}/KVM")).collect();
    let threads: Vec<(u32, &str)> =
        comms.iter().enumerate().map(|(i, c)| (200 + i as u32, c.as_str())).collect();
    tree.add(&Fake { fds: &fds, threads: &threads, ..Fake::default() });
    let vm = only_vm(&tree);
    assert_eq!(vm.probable_thread(4).map(|t| t.comm.as_str()), Some("CPU 3/KVM"));
    assert_eq!(vm.probable_thread(3), None);
}

#[test]
fn firecracker_cloud_hypervisor_crosvm_kvmtool_and_others() {
    let tree = Tree::new();
    let fds = &["anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0"];
    let add = |pid, comm, cmdline, thread| {
        tree.add(&Fake {
            pid,
            comm,
            exe: "/x",
            cmdline,
            fds,
            threads: &[(pid + 1, thread)],
            ..Fake::default()
        });
    };
    add(100, "firecracker", &["/firecracker", "--id", "fc-1"], "fc_vcpu 0");
    add(200, "cloud-hyperviso", &["cloud-hypervisor", "--api-socket", "/run/db-1.sock"], "vcpu0");
    add(300, "crosvm", &["crosvm", "run", "--name", "arc"], "crosvm_vcpu0");
    add(400, "lkvm", &["lkvm", "run", "--name", "t1"], "kvm-vcpu-0");
    add(500, "kvm-utils", &["kvm-utils", "selftest"], "guest");
    add(600, "my (vmm) 1", &["./a.out"], "x");
    let scan = Scanner::new(tree.proc()).scan().expect("scans");
    let all: Vec<(u32, Vmm, &str, Option<u32>)> = scan
        .vms
        .iter()
        .map(|vm| (vm.pid, vm.identity.vmm, vm.identity.name.as_str(), vm.vcpus.first().map(|v| v.tid)))
        .collect();
    assert_eq!(
        all,
        [
            (100, Vmm::Firecracker, "fc-1", Some(101)),
            (200, Vmm::CloudHypervisor, "db-1", Some(201)),
            (300, Vmm::Crosvm, "arc", Some(301)),
            (400, Vmm::Kvmtool, "t1", Some(401)),
            (500, Vmm::Selftest, "selftest", None),
            (600, Vmm::Unknown, "my (vmm) 1", None),
        ]
    );
    assert_eq!((scan.vm_count(), scan.vcpu_count()), (6, 6));
}

#[test]
fn two_vms_in_one_process() {
    let tree = Tree::new();
    tree.add(&Fake {
        fds: &["anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0"],
        threads: &[(101, "CPU 0/KVM"), (102, "CPU 0/KVM")],
        ..Fake::default()
    });
    let vm = only_vm(&tree);
    assert_eq!((vm.vm_count(), vm.vcpu_count()), (2, 2));
    assert_eq!(vm.probable_thread(0), None, "either thread may run either vCPU 0");
}

#[test]
fn a_process_with_only_vcpus_is_a_vm() {
    let tree = Tree::new();
    tree.add(&Fake { fds: &["anon_inode:kvm-vcpu:7"], ..Fake::default() });
    let vm = only_vm(&tree);
    assert_eq!((vm.vm_count(), vm.vcpu_count(), vm.identity.name.as_str()), (0, 1, "qemu-100"));
}

#[test]
fn others_are_no_vms() {
    let tree = Tree::new();
    // QEMU under TCG, with KVM's device open but no VM.
    tree.add(&Fake {
        fds: &["/dev/kvm", "anon_inode:[eventfd]"],
        threads: &[(101, "CPU 0/TCG")],
        ..Fake::default()
    });
    let scan = Scanner::new(tree.proc()).scan().expect("scans");
    assert!(scan.vms.is_empty() && scan.denied == 0, "{scan:?}");
}

#[test]
fn processes_that_vanish_in_the_middle_are_no_error() {
    let tree = Tree::new();
    tree.add(&Fake { fds: QEMU_FDS, ..Fake::default() });
    for missing in ["stat", "status", "cmdline", "cgroup", "exe", "fd", "task"] {
        let pid = 200;
        tree.add(&Fake { pid, fds: QEMU_FDS, ..Fake::default() });
        let path = tree.path(&format!("proc/{pid}/{missing}"));
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
            .expect("removed");
        let scan = Scanner::new(tree.proc()).scan().expect("scans");
        assert!(scan.vm(100).is_some(), "{missing}");
        assert_eq!(scan.vm(pid).is_some(), !["stat", "fd"].contains(&missing), "{missing}");
    }
}

#[test]
fn a_process_that_becomes_a_vm_is_found_and_an_idle_one_not_looked_into_again() {
    let tree = Tree::new();
    let mut scanner = Scanner::new(tree.proc());
    tree.add(&Fake::default());
    assert!(scanner.scan().expect("scans").vms.is_empty());
    // Without page faults there was no vCPU to map: the descriptors are not read.
    tree.add(&Fake { fds: QEMU_FDS, ..Fake::default() });
    assert!(scanner.scan().expect("scans").vms.is_empty());
    tree.add(&Fake { fds: QEMU_FDS, minor_faults: 9, ..Fake::default() });
    assert_eq!(scanner.scan().expect("scans").vms.len(), 1);
    // Another process under the same pid.
    tree.add(&Fake { start_time: 6000, minor_faults: 9, ..Fake::default() });
    assert!(scanner.scan().expect("scans").vms.is_empty());
    tree.remove("proc/100");
    assert!(scanner.scan().expect("scans").vms.is_empty());
}

#[test]
fn no_proc_is_an_error_with_a_remedy() {
    let tree = Tree::new();
    tree.remove("proc");
    let error = Scanner::new(tree.proc()).scan().expect_err("no /proc").to_string();
    assert!(error.contains("mount -t proc proc /proc"), "{error}");
}
