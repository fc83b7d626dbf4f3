//! `--pid` and `--vm`.

use kvm_utils::host::{FindError, Finder, Found, Scan, Scanner, Selectors};

use crate::tree::{Fake, Tree};

const FDS: &[&str] = &["anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0"];

/// Two VMs of one name, one of another, and a shell.
fn host() -> Tree {
    let tree = Tree::new();
    let vm = |pid, name| {
        let cmdline = &["qemu-system-x86_64", "-name", name];
        tree.add(&Fake { pid, cmdline, fds: FDS, threads: &[(pid + 5, "CPU 0/KVM")], ..Fake::default() });
    };
    vm(100, "web-1");
    vm(200, "web-2");
    vm(300, "twin");
    vm(400, "twin");
    tree.add(&Fake { pid: 900, comm: "bash", exe: "/bin/bash", cmdline: &["bash"], ..Fake::default() });
    tree
}

fn finder(pids: &[u32], names: &[&str]) -> Finder {
    let names = names.iter().map(|n| (*n).to_owned()).collect();
    Finder::new(Selectors { pids: pids.to_vec(), names })
}

fn find(tree: &Tree, finder: &mut Finder) -> Found {
    let mut scanner = Scanner::new(tree.proc());
    let scan = scanner.scan().expect("scans");
    finder.resolve(&scan, scanner.proc())
}

/// The pids found and the messages.
fn outcome(tree: &Tree, pids: &[u32], names: &[&str]) -> (Vec<u32>, Vec<String>) {
    let found = find(tree, &mut finder(pids, names));
    (found.vms.iter().map(|vm| vm.pid).collect(), found.errors.iter().map(ToString::to_string).collect())
}

#[test]
fn nothing_selected_is_all() {
    assert_eq!(outcome(&host(), &[], &[]), (vec![100, 200, 300, 400], vec![]));
}

#[test]
fn pids_and_names_add_up_without_doubles() {
    assert_eq!(outcome(&host(), &[100, 400], &["web-1", "web-2"]), (vec![100, 200, 400], vec![]));
}

#[test]
fn patterns_may_match_several() {
    assert_eq!(outcome(&host(), &[], &["web-*"]), (vec![100, 200], vec![]));
    assert_eq!(outcome(&host(), &[], &["tw?n"]), (vec![300, 400], vec![]));
}

const POD: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
const CONTAINER: &str = "aaefb9d8feed2d453b543f6d928cede7a4dbefa6a0ae7c9b990dd234c56e93b9";
const UUID: &str = "7b10d7af-b932-4c66-b2c3-3996152ec465";

/// One VM in a pod, two in a unit, one of which is called like the unit.
fn placed() -> Tree {
    let tree = Tree::new();
    let vm = |pid, cmdline: &[&str], cgroup: &str| {
        tree.add(&Fake { pid, cmdline, cgroup, fds: FDS, ..Fake::default() });
    };
    let pod = format!("0::/kubepods/burstable/pod{POD}/{CONTAINER}\n");
    vm(100, &["qemu", "-name", "default_web", "-uuid", UUID], &pod);
    vm(200, &["kvm", "-id", "8006", "-name", "build"], "0::/system.slice/build.service\n");
    vm(300, &["qemu", "-name", "100"], "0::/system.slice/build.service\n");
    tree
}

#[test]
fn vms_answer_to_uuid_id_pod_container_and_unit() {
    let tree = placed();
    for name in [UUID, &UUID.to_uppercase(), POD, CONTAINER, &CONTAINER[..12], "2fc932ce-*", "7b10d7af*"] {
        assert_eq!(outcome(&tree, &[], &[name]), (vec![100], vec![]), "{name}");
    }
    assert_eq!(outcome(&tree, &[], &["8006"]), (vec![200], vec![]));
    // A unit is all of its VMs, and a name goes before what others run in.
    assert_eq!(outcome(&tree, &[], &["build.service"]), (vec![200, 300], vec![]));
    assert_eq!(outcome(&tree, &[], &["build"]), (vec![200], vec![]));
    assert_eq!(outcome(&tree, &[], &["build.*"]), (vec![200, 300], vec![]));
    assert_eq!(outcome(&tree, &[], &["100", POD]), (vec![100, 300], vec![]));
    assert_eq!(outcome(&tree, &[], &[&POD[..12]]).0, Vec::<u32>::new(), "a pod's uid is not abbreviated");
}

#[test]
fn a_uuid_that_two_vms_have_is_ambiguous_until_one_of_them_was_meant() {
    let tree = placed();
    let mut finder = finder(&[], &[UUID]);
    assert_eq!(find(&tree, &mut finder).vms.len(), 1);
    tree.add(&Fake {
        pid: 400,
        cmdline: &["qemu", "-name", "clone", "-uuid", UUID],
        fds: FDS,
        ..Fake::default()
    });
    assert_eq!(find(&tree, &mut finder).vms[0].pid, 100);
    assert_eq!(
        outcome(&tree, &[], &[UUID]).1,
        [format!("--vm {UUID}: 2 VMs have this id; use --pid 100 or --pid 400")]
    );
}

#[test]
fn each_failure_names_cause_and_remedy() {
    let tree = host();
    let all = "running VMs: web-1 (100), web-2 (200), twin (300), twin (400)";
    for (pids, names, message) in [
        (vec![77], vec![], format!("--pid 77: no such process; {all}")),
        (
            vec![900],
            vec![],
            format!("--pid 900: process bash runs no VM (it holds no kvm-vm or kvm-vcpu file); {all}"),
        ),
        (vec![], vec!["web1"], format!("--vm web1: no VM of this name; did you mean web-1?; {all}")),
        (
            vec![],
            vec!["WEB-1"],
            format!("--vm WEB-1: no VM of this name; did you mean web-1 or web-2?; {all}"),
        ),
        (vec![], vec!["mail"], format!("--vm mail: no VM of this name; {all}")),
        (vec![], vec!["mail*"], format!("--vm mail*: no VM of this name; {all}")),
        (vec![], vec!["twin"], "--vm twin: 2 VMs have this name; use --pid 300 or --pid 400".to_owned()),
    ] {
        assert_eq!(outcome(&tree, &pids, &names), (vec![], vec![message]), "{pids:?} {names:?}");
    }
    let empty = Tree::new();
    assert_eq!(outcome(&empty, &[], &["a"]).1, ["--vm a: no VM of this name; no VM runs now"]);
}

#[test]
fn a_thread_is_told_its_process() {
    let tree = host();
    let mut scanner = Scanner::new(tree.proc());
    let scan = scanner.scan().expect("scans");
    tree.add_thread_directories(&Fake { fds: FDS, threads: &[(105, "CPU 0/KVM")], ..Fake::default() });
    let found = finder(&[105], &[]).resolve(&scan, scanner.proc());
    assert!(found.vms.is_empty());
    assert_eq!(
        found.errors[0].to_string(),
        "--pid 105: this is a thread (CPU 0/KVM) of process 100; use --pid 100"
    );
}

#[test]
fn a_vmm_of_another_user_may_be_the_one() {
    let scan = Scan { denied: 90, denied_vmms: vec![(131, "qemu-system-x86".to_owned())], ..Scan::default() };
    let error = finder(&[], &["web"]).resolve(&scan, &Tree::new().proc()).errors.remove(0);
    assert!(error.needs_privileges());
    assert!(
        error.to_string().contains("not allowed to look into qemu-system-x86 (131): run as root"),
        "{error}"
    );
    let scan = Scan { denied: 90, ..Scan::default() };
    assert!(!finder(&[], &["web"]).resolve(&scan, &Tree::new().proc()).errors[0].needs_privileges());
}

#[test]
fn one_bad_selector_does_not_hide_the_others() {
    let (pids, errors) = outcome(&host(), &[77, 100], &["web-2"]);
    assert_eq!((pids, errors.len()), (vec![100, 200], 1));
}

#[test]
fn a_vm_may_start_later() {
    let tree = host();
    let mut finder = finder(&[], &["late"]);
    let errors = find(&tree, &mut finder).errors;
    assert!(errors[0].may_pass() && !errors[0].needs_privileges());
    tree.add(&Fake { pid: 500, cmdline: &["qemu", "-name", "late"], fds: FDS, ..Fake::default() });
    assert_eq!(find(&tree, &mut finder).vms[0].pid, 500);
    // A second VM of that name does not disturb, and a restart is followed.
    tree.add(&Fake { pid: 600, cmdline: &["qemu", "-name", "late"], fds: FDS, ..Fake::default() });
    assert_eq!(find(&tree, &mut finder).vms[0].pid, 500);
    tree.remove("proc/500");
    assert_eq!(find(&tree, &mut finder).vms[0].pid, 600);
}

#[test]
fn a_pid_is_not_followed_to_another_process() {
    let tree = host();
    let mut finder = finder(&[100], &[]);
    assert_eq!(find(&tree, &mut finder).vms.len(), 1);
    tree.add(&Fake { start_time: 9999, fds: FDS, ..Fake::default() });
    assert_eq!(find(&tree, &mut finder).errors, [FindError::Ended { pid: 100, name: "web-1".to_owned() }]);
    tree.remove("proc/100");
    let error = find(&tree, &mut finder).errors.remove(0);
    assert!(!error.may_pass());
    assert_eq!(
        error.to_string(),
        "--pid 100: the process (web-1) has ended; start the VM again, then use its new pid or --vm NAME"
    );
}

#[test]
fn many_vms_are_counted_not_listed() {
    let tree = Tree::new();
    for pid in 1..=20 {
        tree.add(&Fake {
            pid,
            cmdline: &["qemu", "-name", &format!("vm-{pid}")],
            fds: FDS,
            ..Fake::default()
        });
    }
    let (_, errors) = outcome(&tree, &[], &["zzz"]);
    assert!(errors[0].ends_with("vm-8 (8), 12 more"), "{errors:?}");
}
