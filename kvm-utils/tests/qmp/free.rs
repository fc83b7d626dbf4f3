//! Monitors that nobody uses.

use std::{fs, os::unix::fs::symlink, path::Path, thread};

use kvm_utils::host::{
    SysRoot,
    qmp::{self, DeviceMap, Kind, NoMap},
};

use crate::{
    harness::{Outcome, Skip, Test},
    machine::{Machine, OFF, needs_qemu},
    person::Person,
};

pub const TESTS: &[Test] = &[
    ("free::qmp", control),
    ("free::human_monitor", human_monitor),
    ("free::every_way_to_start_one", every_way_to_start_one),
    ("free::a_path_of_the_user_s", a_path_of_the_users),
    ("free::name_and_uuid", name_and_uuid),
    ("free::others_can_use_it_afterwards", others_can_use_it_afterwards),
    ("free::behind_a_busy_one", behind_a_busy_one),
    ("free::memory_of_kvm", memory_of_kvm),
];

/// Devices that every `pc` has, before its firmware has run.
#[track_caller]
fn check(map: &DeviceMap) {
    assert_eq!(map.port(0x40), Some("pit"));
    assert_eq!(map.port(0x64), Some("i8042-cmd"));
    assert_eq!(map.port(0xcf8), Some("pci-conf-idx"));
    assert_eq!(map.port(0xb2), Some("apm-io"));
    assert_eq!(map.port(0x3f8), None);
    assert_eq!(map.gpa(0x10_0000), Some(("pc.ram", Kind::Ram)));
    assert_eq!(map.gpa(0xfec0_0000), Some(("ioapic", Kind::Io)));
    assert_eq!(map.gpa(0x8000_0000), None);
}

fn control() -> Outcome {
    needs_qemu()?;
    let machine = Machine::start(&format!("-qmp unix:@/q,{OFF}"));
    check(&qmp::device_map(&SysRoot::default(), machine.pid(), None).expect("a map"));
    Ok(())
}

fn human_monitor() -> Outcome {
    needs_qemu()?;
    let machine = Machine::start(&format!("-monitor unix:@/h,{OFF} -device isa-debug-exit,iobase=0xf4"));
    let map = machine.map().expect("a map");
    check(&map);
    assert_eq!(map.port(0xf4), Some("isa-debug-exit"));
    Ok(())
}

fn every_way_to_start_one() -> Outcome {
    needs_qemu()?;
    for arguments in [
        format!("-qmp-pretty unix:@/q,{OFF}"),
        format!("-chardev socket,id=c,path=@/q,{OFF} -mon chardev=c,mode=control"),
        format!("-mon c -chardev socket,path=@/q,id=c,{OFF}"),
        "--qmp unix:path=@/q,server,nowait".to_owned(),
        // Bound as it is written, relative to where QEMU was started.
        format!("-qmp unix:q,{OFF}"),
    ] {
        let machine = Machine::start(&arguments);
        check(&machine.map().unwrap_or_else(|why| panic!("{arguments}: {why}")));
        machine.wait_until_free("q");
    }
    Ok(())
}

fn a_path_of_the_users() -> Outcome {
    needs_qemu()?;
    // A monitor of which the command line does not tell.
    let directory = tempfile::tempdir().expect("a directory");
    let (config, path) = (directory.path().join("config"), directory.path().join("q"));
    let chardev =
        format!("backend = \"socket\"\npath = \"{}\"\nserver = \"on\"\nwait = \"off\"", path.display());
    let mon = "chardev = \"c\"\nmode = \"control\"";
    fs::write(&config, format!("[chardev \"c\"]\n{chardev}\n[mon \"m\"]\n{mon}\n")).expect("written");
    let machine = Machine::start(&format!("-readconfig {}", config.display()));
    let why = machine.map().expect_err("it is not known");
    assert!(matches!(why, NoMap::NoMonitor { .. }), "{why}");
    check(&machine.map_at(&path).expect("a map"));
    let link = directory.path().join("link");
    symlink(&path, &link).expect("a link");
    Person::served(&path).use_qmp();
    // Until QEMU has noticed that the person left.
    let map = loop {
        match machine.map_at(&link) {
            Err(NoMap::Busy { .. }) => thread::yield_now(),
            other => break other,
        }
    };
    check(&map.expect("a map"));
    Ok(())
}

fn name_and_uuid() -> Outcome {
    needs_qemu()?;
    let uuid = "11112222-3333-4444-5555-666677778888";
    for monitor in ["-qmp", "-monitor"] {
        let given = Machine::start(&format!("{monitor} unix:@/q,{OFF} -name web-1 -uuid {uuid}"));
        let mut asked = given.open(None).expect("open");
        assert_eq!(asked.name().expect("an answer").as_deref(), Some("web-1"));
        assert_eq!(asked.uuid().expect("an answer").as_deref(), Some(uuid));
        check(&asked.device_map().expect("a map"));
        let none = Machine::start(&format!("{monitor} unix:@/q,{OFF}"));
        let mut asked = none.open(None).expect("open");
        assert_eq!(asked.name().expect("an answer"), None);
        assert_eq!(asked.uuid().expect("an answer"), None);
    }
    Ok(())
}

fn others_can_use_it_afterwards() -> Outcome {
    needs_qemu()?;
    let machine = Machine::start(&format!("-qmp unix:@/q,{OFF} -monitor unix:@/h,{OFF}"));
    for _ in 0..3 {
        check(&machine.map().expect("a map"));
        Person::served(&machine.path("q")).use_qmp();
        machine.wait_until_free("q");
        check(&machine.map_at(&machine.path("h")).expect("a map"));
        let mut person = Person::connect(&machine.path("h"));
        person.hear("(qemu) ");
        person.ask("info status", "VM status: paused");
        drop(person);
        machine.wait_until_free("h");
    }
    Ok(())
}

fn behind_a_busy_one() -> Outcome {
    needs_qemu()?;
    let machine = Machine::start(&format!("-qmp unix:@/a,{OFF} -qmp unix:@/b,{OFF}"));
    let mut person = Person::served(&machine.path("a"));
    check(&machine.map().expect("the second one is free"));
    person.use_qmp();
    Ok(())
}

fn memory_of_kvm() -> Outcome {
    needs_qemu()?;
    if !Path::new("/dev/kvm").exists() {
        return Err(Skip("needs /dev/kvm".to_owned()));
    }
    // QEMU waits for a client at a monitor without wait=off, but no longer once the machine has vCPUs.
    let machine = Machine::begin("-M pc,accel=kvm -qmp unix:@/q,server=on");
    machine.wait_until_there("q");
    Person::served(&machine.path("q")).use_qmp();
    machine.wait_until_free("q");
    let map = machine.map().expect("a map");
    assert_eq!(map.gpa(0x10_0000), Some(("pc.ram", Kind::Ram)));
    // Devices inside the kernel have names of their own.
    assert_eq!(map.port(0x40), Some("kvm-pit"));
    assert_eq!(map.gpa(0xfec0_0000), Some(("kvm-ioapic", Kind::Io)));
    Ok(())
}
