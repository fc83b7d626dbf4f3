//! KVM's statistics in debugfs.

use kvm_utils::host::{KvmStat, Unavailable, kvm_stat::VmExits};

use crate::tree::{Fake, Tree};

const DEBUGFS: &str = "sys/kernel/debug";

fn with_counts(counts: &[(&str, &str)]) -> Tree {
    let tree = Tree::new();
    tree.write(&format!("{DEBUGFS}/kvm/exits"), "31\n");
    for (name, exits) in counts {
        tree.write(&format!("{DEBUGFS}/kvm/{name}/exits"), &format!("{exits}\n"));
    }
    tree
}

#[test]
fn several_vms_of_a_process_add_up_also_those_made_by_its_threads() {
    let tree = with_counts(&[("100-8", "20"), ("103-9", "11"), ("200-8", "5")]);
    let process = Fake { pid: 100, threads: &[(103, "vmm")], ..Fake::default() };
    tree.add(&process);
    tree.add_thread_directories(&process);
    tree.add(&Fake { pid: 200, ..Fake::default() });
    let mut stat = KvmStat::new(&tree.root(), true);
    let of_100 = stat.of(100).expect("listed");
    assert_eq!(of_100.total, 31);
    assert_eq!(
        of_100.vms,
        [VmExits { creator: 100, fd: 8, exits: 20 }, VmExits { creator: 103, fd: 9, exits: 11 }]
    );
    assert_eq!(stat.all().expect("readable").keys().copied().collect::<Vec<_>>(), [100, 200]);
    assert_eq!(stat.host_exits(), Ok(31));
    assert_eq!(stat.of(300), Err(Unavailable::NotListed(300)));
}

#[test]
fn a_vm_stays_known_when_the_thread_that_made_it_ends() {
    let tree = with_counts(&[("103-9", "11")]);
    let process = Fake { pid: 100, threads: &[(103, "vmm")], ..Fake::default() };
    tree.add(&process);
    tree.add_thread_directories(&process);
    let mut stat = KvmStat::new(&tree.root(), true);
    assert_eq!(stat.of(100).expect("listed").total, 11);
    tree.remove("proc/103");
    tree.write(&format!("{DEBUGFS}/kvm/103-9/exits"), "12\n");
    assert_eq!(stat.of(100).expect("still listed").total, 12);
    // For one who comes later, it is nobody's.
    assert_eq!(KvmStat::new(&tree.root(), true).of(100), Err(Unavailable::NotListed(100)));
    tree.remove(&format!("{DEBUGFS}/kvm/103-9"));
    assert_eq!(stat.of(100), Err(Unavailable::NotListed(100)));
}

#[test]
fn a_vm_that_vanishes_while_reading_is_left_out() {
    let tree = with_counts(&[("100-8", "20")]);
    tree.add(&Fake::default());
    std::fs::create_dir_all(tree.path(&format!("{DEBUGFS}/kvm/100-9"))).expect("directory");
    assert_eq!(KvmStat::new(&tree.root(), true).of(100).expect("listed").vms.len(), 1);
}

#[test]
fn what_cannot_be_had_has_a_reason() {
    let tree = Tree::new();
    let stat = || KvmStat::new(&tree.root(), true);
    assert_eq!(stat().of(1), Err(Unavailable::NotMounted));
    std::fs::create_dir_all(tree.path(DEBUGFS)).expect("mount point");
    assert_eq!(stat().of(1), Err(Unavailable::NotMounted));
    tree.write(&format!("{DEBUGFS}/sleep_time"), "");
    assert!(matches!(stat().all(), Err(Unavailable::NoKvm(_))));
    assert!(matches!(stat().host_exits(), Err(Unavailable::NoKvm(_))));
    tree.write(&format!("{DEBUGFS}/kvm/exits"), "?\n");
    assert!(matches!(stat().host_exits(), Err(Unavailable::Unexpected { .. })));
    assert_eq!(KvmStat::new(&tree.root(), false).all(), Err(Unavailable::PidNamespace));
}
