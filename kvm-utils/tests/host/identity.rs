//! Who VMs are, by what processes of real hosts look like (`tests/fixtures/process`, whose README says whence).

use std::{fs, path::PathBuf};

use kvm_utils::host::{Identity, Scanner, Vmm};

use crate::tree::{Fake, Tree};

const FDS: &[&str] = &["anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0"];
const PID: u32 = 4711;

fn fixture(file: &str) -> Option<String> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/process");
    fs::read_to_string(directory.join(file)).ok()
}

/// A tree with the process `name`, which has the command line of the fixture, else that of a QEMU without options.
fn tree(name: &str) -> Tree {
    let tree = Tree::new();
    let cmdline = fixture(&format!("{name}.cmdline")).unwrap_or_else(|| "qemu-system-x86_64\n".to_owned());
    let cgroup = fixture(&format!("{name}.cgroup")).expect(name);
    let cmdline: Vec<&str> = cmdline.lines().collect();
    tree.add(&Fake {
        pid: PID,
        exe: cmdline[0],
        cmdline: &cmdline,
        cgroup: &cgroup,
        fds: FDS,
        ..Fake::default()
    });
    tree
}

fn only_vm(tree: &Tree) -> Identity {
    let scan = Scanner::new(tree.proc()).scan().expect("scans");
    assert_eq!(scan.vms.len(), 1, "{scan:?}");
    scan.vms[0].identity.clone()
}

/// `KIND NAME` of each thing that the process runs in, the outermost first.
fn within(vm: &Identity) -> Vec<String> {
    vm.within.iter().map(|place| format!("{} {}", place.kind, place.name)).collect()
}

#[track_caller]
fn check_places(name: &str, expected: &[&str]) {
    assert_eq!(within(&only_vm(&tree(name))), expected, "{name}");
}

/// Name, UUID and id.
#[track_caller]
fn check(name: &str, vmm: Vmm, expected: (&str, Option<&str>, Option<&str>)) {
    let vm = only_vm(&tree(name));
    assert_eq!((vm.name.as_str(), vm.uuid.as_deref(), vm.id.as_deref()), expected, "{name}");
    assert_eq!(vm.vmm, vmm, "{name}");
}

#[test]
fn command_lines_of_every_monitor() {
    let sandbox = "94a6391dde707330a94acb3e684ee7048d085e7b6d9b1feda0cc1151b90606b2";
    let other = "8564224395a4fbf7f2792baa22ee16dfc8f8e862e20342d3b2bcc211a3939af6";
    let kata = format!("sandbox-{sandbox}");
    let jailed = "551e7604-e35c-42b3-b825-416853441234";
    let uuid = |uuid| Some(uuid);
    check("libvirt-v1", Vmm::Qemu, ("instance-0000001d", uuid("d9b0c4f6-0a3e-4b53-9f0e-2f3c8c3f5c11"), None));
    check("libvirt-v2", Vmm::Qemu, ("vm1", uuid("0d63ce26-c9d4-4ab7-b3c4-3b5bd8dcb3dc"), None));
    check("libvirt-cloud-hypervisor", Vmm::CloudHypervisor, ("web", None, None));
    check(
        "kubevirt-crio-v1",
        Vmm::Qemu,
        ("default_vmi-alpine-efi", uuid("5c6fa8f7-c3f6-4b3f-b596-d16ea3912302"), None),
    );
    check("proxmox", Vmm::Qemu, ("simple", uuid("7b10d7af-b932-4c66-b2c3-3996152ec465"), Some("8006")));
    check(
        "kata-own-cgroup-v1",
        Vmm::Qemu,
        (&kata, uuid("0b4b1ff1-5d05-4b0d-8a3f-4e1a3f1f2e11"), Some(sandbox)),
    );
    check("kata-cloud-hypervisor-v2", Vmm::CloudHypervisor, (other, None, Some(other)));
    check("kata-dragonball-v2", Vmm::Dragonball, (other, None, Some(other)));
    check("firecracker-jailer-v1", Vmm::Firecracker, (jailed, None, Some(jailed)));
    check("service-template", Vmm::Firecracker, ("web-1", None, Some("web-1")));
    check("crosvm", Vmm::Crosvm, ("vm0", uuid("12e474af-2cc1-49d1-b0e5-d03a3e03ca03"), None));
    check("kvmtool", Vmm::Kvmtool, ("t1", None, None));
    check("selftest", Vmm::Selftest, ("selftest", None, None));
}

#[test]
fn machines() {
    check_places("libvirt-v1", &["machine qemu-1-instance-0000001d"]);
    check_places("libvirt-v2", &["machine qemu-6-vm1"]);
    check_places("libvirt-without-systemd", &["machine qemu-3-demo-name"]);
    check_places("libvirt-cloud-hypervisor", &["machine ch-4711-web"]);
    check_places("nspawn-v2", &["machine web-1", "unit init.scope"]);
    check_places("removed", &["machine qemu-6-vm1"]);
}

#[test]
fn pods_of_each_driver_class_and_runtime() {
    for (name, pod, container) in [
        (
            "kubevirt-crio-v1",
            "08ff2263-5cf1-49f7-b3e7-80b6e0840fd5",
            "1a5b9a1eb29e863bf504561344f7ffc67cfc469150418b7727c8959e0c5f8982",
        ),
        (
            "crio-crun-v2",
            "08ff2263-5cf1-49f7-b3e7-80b6e0840fd5",
            "1a5b9a1eb29e863bf504561344f7ffc67cfc469150418b7727c8959e0c5f8982",
        ),
        (
            "kubevirt-docker-v1",
            "d1a9ffa0-15d5-4447-a202-5427b2771049",
            "747f3ec762def86ef7681d6340e09650879e11f75fa3bf35db5d537fef9f98e9",
        ),
        (
            "containerd-burstable-v2",
            "2fc932ce-fdcc-454b-97bd-aadfdeb4c340",
            "aaefb9d8feed2d453b543f6d928cede7a4dbefa6a0ae7c9b990dd234c56e93b9",
        ),
        (
            "containerd-besteffort-cgroupfs-v1",
            "9a18ffb8-8513-11e7-b26e-7e29fbe2a5a3",
            "d28e0087cf8f3f0429f755d60b0de415b20fcf76736ded7bab6e30e7b739ee36",
        ),
        (
            "containerd-static-pod-v2",
            "187bff14cccb94f179e943eacce55bb3",
            "c203a2647ef1ad78e990157c50331f3b6ef0b03336cf08535d6bf7faa5421415",
        ),
        (
            "kata-cloud-hypervisor-v2",
            "dc430cd3-34b7-4ea6-be26-ddfd88d7ddff",
            "8564224395a4fbf7f2792baa22ee16dfc8f8e862e20342d3b2bcc211a3939af6",
        ),
    ] {
        check_places(name, &[&format!("pod {pod}"), &format!("container {container}")]);
    }
}

#[test]
fn what_is_nested_is_told_from_outside_in() {
    check_places(
        "kind-v2",
        &[
            "container b508e2673897c4f521d858f56dab18e31ddbfc1f83300fb9793c8a4052af8f05",
            "pod 1e597579-417e-482f-bf65-5fe170c3aebd",
            "container d7dfb4a21fe1703a8537e60d5af248af729315d187b24a538102d14874c8117d",
        ],
    );
    check_places(
        "containerd-driver-mismatch-v1",
        &[
            "unit containerd.service",
            "pod 0125ec2f-b64a-4868-8f5b-94b56cbab864",
            "container ee4b20e90ac7f42a10bd004d05646b13d8ab5e2c5e7cbc01abf8006bac016459",
        ],
    );
    check_places("lxc-v2", &["container web", "machine qemu-1-inner"]);
}

#[test]
fn containers() {
    check_places(
        "docker-v2",
        &["container b508e2673897c4f521d858f56dab18e31ddbfc1f83300fb9793c8a4052af8f05"],
    );
    // The line of cgroup v2 has the daemon that started it.
    check_places(
        "docker-hybrid",
        &["container a2ffe0e97ac22657a2a023ad628e9df837c38a03b1ebc904d3f6d644eb1a1a81"],
    );
    check_places(
        "podman-rootless-v2",
        &[
            "unit user@1006.service",
            "container 93e4d1f949c1b52721d1c62dbc7f19e100fa6be3e6c214e9edf9346ac7f69514",
        ],
    );
    check_places(
        "podman-split-v2",
        &["unit web.service", "container cf21d19260ace8544fe8b769fc2638bf2c0873dfbfff0b6253f0569b26a1d5eb"],
    );
    // The process that watches a container does not run in it.
    check_places(
        "podman-conmon-v2",
        &["unit libpod-conmon-cf21d19260ace8544fe8b769fc2638bf2c0873dfbfff0b6253f0569b26a1d5eb.scope"],
    );
    check_places("lxc-v1", &["container x1", "unit libvirtd.service"]);
    check_places("proxmox-lxc-v2", &["container 101", "unit incus.service"]);
    check_places(
        "kata-memory-only-v1",
        &["container 9f49ba797580a17bdc1ab6881af038246bb93fa3dbfaa5f91c5b4bdb2b785777"],
    );
}

#[test]
fn units() {
    check_places("proxmox", &["unit 8006.scope"]);
    check_places("service", &["unit incus.service"]);
    // As it is to be typed for systemctl.
    check_places("service-template", &[r"unit firecracker@web\x2d1.service"]);
    check_places("session-v1", &["unit session-3.scope"]);
    check_places("crosvm", &["unit vmm.service"]);
    check_places("user-service-v2", &["unit user@1000.service", "unit app-org.gnome.Boxes-4711.scope"]);
    check_places("slice-only", &["unit vm.slice"]);
}

#[test]
fn other_cgroups_are_told_by_their_path_and_the_root_is_nothing() {
    check_places("firecracker-jailer-v1", &["cgroup /firecracker/551e7604-e35c-42b3-b825-416853441234"]);
    check_places("root", &[]);
    check_places("root-v1", &[]);
}

#[test]
fn a_reader_in_a_cgroup_of_its_own_sees_what_it_can() {
    check_places(
        "seen-from-a-sibling",
        &["container aaefb9d8feed2d453b543f6d928cede7a4dbefa6a0ae7c9b990dd234c56e93b9"],
    );
    check_places("seen-from-below", &[]);
}

#[test]
fn kata_leaves_only_the_threads_of_vcpus_in_the_pod() {
    let sandbox = "container 94a6391dde707330a94acb3e684ee7048d085e7b6d9b1feda0cc1151b90606b2";
    let tree = tree("kata-own-cgroup-v1");
    assert_eq!(within(&only_vm(&tree)), [sandbox]);
    let of_thread = |name: &str| fixture(&format!("{name}.cgroup")).expect(name);
    tree.write(&format!("proc/{PID}/task/{PID}/cgroup"), &of_thread("kata-own-cgroup-v1"));
    tree.write(&format!("proc/{PID}/task/4715/cgroup"), &of_thread("kata-vcpu-thread-v1"));
    assert_eq!(within(&only_vm(&tree)), ["pod 3a864680-ceaf-4acd-83fd-20a4d542b651", sandbox]);
}

#[test]
fn a_jail_tells_the_id_that_the_command_line_does_not() {
    let tree = Tree::new();
    let cmdline = &["/firecracker", "--no-api", "--config-file", "vm.json"];
    tree.add(&Fake { pid: PID, exe: "/firecracker", cmdline, fds: FDS, ..Fake::default() });
    assert_eq!(only_vm(&tree).name, "firecracker-4711");
    tree.write(
        &format!("proc/{PID}/mountinfo"),
        "63 42 254:0 /srv/jailer/firecracker/551e7604/root / rw,relatime - ext4 /dev/vda rw\n",
    );
    let vm = only_vm(&tree);
    assert_eq!((vm.name.as_str(), vm.id.as_deref()), ("551e7604", Some("551e7604")));
}

/// As libvirt writes it, without most of the middle.
fn status(pid: u32, name: &str, uuid: &str) -> String {
    format!(
        "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE\nOVERWRITTEN AND LOST.\n-->\n\n\
         <domstatus state='running' reason='booted' pid='{pid}'>\n  <monitor path='/var/lib/libvirt/qemu/domain-1-x/\
         monitor.sock' type='unix'/>\n  <domain type='kvm' id='1'>\n    <name>{name}</name>\n    <uuid>{uuid}</uuid>\n  \
         </domain>\n</domstatus>\n"
    )
}

#[test]
fn libvirts_own_files_tell_what_the_command_line_does_not() {
    const UUID: &str = "dcf47dbd-46d1-4d5b-b442-262a806a333a";
    let fresh = |cmdline: &[&str]| {
        let tree = Tree::new();
        tree.add(&Fake { pid: PID, exe: cmdline[0], cmdline, fds: FDS, ..Fake::default() });
        tree.write("run/libvirt/qemu/other.pid", "77\n");
        tree.write(
            "run/libvirt/qemu/other.xml",
            &status(77, "other", "0d63ce26-c9d4-4ab7-b3c4-3b5bd8dcb3dc"),
        );
        tree
    };
    let known = |tree: &Tree| {
        let vm = only_vm(tree);
        (vm.name, vm.uuid)
    };
    let web = || ("web".to_owned(), Some(UUID.to_owned()));

    let tree = fresh(&["/usr/bin/qemu-system-x86_64"]);
    assert_eq!(known(&tree), ("qemu-4711".to_owned(), None));
    tree.write("run/libvirt/qemu/web.xml", &status(PID, "web", UUID));
    assert_eq!(known(&tree), web());

    let tree = fresh(&["/usr/bin/qemu-system-x86_64", "-name", "guest=web"]);
    assert_eq!(known(&tree), ("web".to_owned(), None));
    tree.write("run/libvirt/qemu/web.xml", &status(PID, "web", UUID));
    assert_eq!(known(&tree), web());
    // What the process says of itself counts more.
    tree.write("run/libvirt/qemu/web.xml", &status(PID, "renamed", UUID));
    assert_eq!(known(&tree), web());
    // The file of an earlier process of that name.
    tree.write("run/libvirt/qemu/web.xml", &status(PID + 1, "web", UUID));
    assert_eq!(known(&tree), ("web".to_owned(), None));

    // Older libvirt gave Cloud Hypervisor nothing but a socket, and notes no more than the pid.
    let tree = fresh(&["/usr/bin/cloud-hypervisor", "--api-socket", "fd=23"]);
    assert_eq!(known(&tree), ("cloud-hypervisor-4711".to_owned(), None));
    tree.write("run/libvirt/ch/web.pid", &format!("{PID}\n"));
    assert_eq!(known(&tree), ("web".to_owned(), None));
}

#[test]
fn every_fixture_is_used() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/process");
    let source = include_str!("identity.rs");
    for file in fs::read_dir(directory).expect("fixtures") {
        let file = file.expect("entry").file_name().into_string().expect("name");
        let (name, kind) = file.rsplit_once('.').expect("suffix");
        assert!(source.contains(&format!("\"{name}\"")), "{file} is not used");
        assert!(["cgroup", "cmdline"].contains(&kind), "{file}");
    }
}
