//! Monitors that somebody uses: they are left alone, and their users notice nothing.

use std::{
    fs,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::net::UnixListener,
    },
    sync::mpsc,
    thread,
};

use kvm_utils::host::qmp::NoMap;

use crate::{
    harness::{Outcome, Skip, Test},
    machine::{Machine, OFF, needs_qemu},
    person::Person,
};

pub const TESTS: &[Test] = &[
    ("owned::by_a_client", by_a_client),
    ("owned::by_a_client_of_the_human_monitor", by_a_client_of_the_human_monitor),
    ("owned::by_one_that_has_not_been_served_yet", by_one_that_has_not_been_served_yet),
    ("owned::by_one_in_another_network_namespace", by_one_in_another_network_namespace),
    ("owned::by_libvirt", by_libvirt),
    ("owned::by_one_that_qemu_waits_for", by_one_that_qemu_waits_for),
    ("owned::descriptors_that_would_be_closed", descriptors_that_would_be_closed),
];

fn by_a_client() -> Outcome {
    needs_qemu()?;
    let machine = Machine::start(&format!("-qmp unix:@/q,{OFF}"));
    let mut person = Person::served(&machine.path("q"));
    let before = machine.lines("q");
    for asked in [machine.map(), machine.map_at(&machine.path("q"))] {
        let why = asked.expect_err("busy");
        assert!(matches!(why, NoMap::Busy { .. }), "{why}");
        assert_eq!(
            why.to_string(),
            format!(
                "another client has QEMU's monitor {}; end it, or start QEMU with one for this tool: -qmp \
                 unix:PATH,server=on,wait=off",
                machine.path("q").display()
            )
        );
    }
    // The same connection and no other: nothing of ours waits behind it.
    assert_eq!(machine.lines("q"), before);
    assert_eq!(before.len(), 2);
    person.use_qmp();
    drop(person);
    machine.wait_until_free("q");
    assert!(machine.map().is_ok());
    Ok(())
}

fn by_a_client_of_the_human_monitor() -> Outcome {
    needs_qemu()?;
    let machine = Machine::start(&format!("-monitor unix:@/h,{OFF}"));
    let mut person = Person::connect(&machine.path("h"));
    person.hear("(qemu) ");
    let before = machine.lines("h");
    assert!(matches!(machine.map(), Err(NoMap::Busy { .. })));
    assert_eq!(machine.lines("h"), before);
    person.ask("info status", "VM status: paused");
    Ok(())
}

fn by_one_that_has_not_been_served_yet() -> Outcome {
    needs_qemu()?;
    let mut machine = Machine::start(&format!("-qmp unix:@/q,{OFF}"));
    machine.freeze(true);
    let mut person = Person::connect(&machine.path("q"));
    let before = machine.lines("q");
    assert!(before.contains(&"02 0".to_owned()), "waits: {before:?}");
    assert!(matches!(machine.map(), Err(NoMap::Busy { .. })));
    assert_eq!(machine.lines("q"), before);
    machine.freeze(false);
    machine.control("query-status");
    person.hear("QMP");
    person.use_qmp();
    Ok(())
}

fn by_one_in_another_network_namespace() -> Outcome {
    needs_qemu()?;
    let machine = Machine::start(&format!("-qmp unix:@/q,{OFF}"));
    let path = machine.path("q");
    let (connected, told) = mpsc::channel();
    let (asked, wait) = mpsc::channel();
    let person = thread::spawn(move || {
        // SAFETY: takes no pointers; it concerns this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            connected.send(false).expect("the test waits");
            return;
        }
        let mut person = Person::served(&path);
        connected.send(true).expect("the test waits");
        wait.recv().expect("the test ends");
        person.use_qmp();
    });
    if !told.recv().expect("the thread tells") {
        return Err(Skip("needs to be let make a network namespace".to_owned()));
    }
    // The kernel lists that connection over there.
    let before = machine.lines("q");
    assert_eq!(before.len(), 1);
    let why = machine.map().expect_err("unclear");
    assert!(matches!(why, NoMap::Unclear { .. }), "{why}");
    assert_eq!(machine.lines("q"), before);
    asked.send(()).expect("the person waits");
    person.join().expect("the person was served");
    Ok(())
}

fn by_libvirt() -> Outcome {
    needs_qemu()?;
    let mon = "-mon chardev=charmonitor,id=monitor,mode=control";
    let named = Machine::start(&format!("-chardev socket,id=charmonitor,path=@/m,{OFF} {mon}"));
    for why in [named.map(), named.map_at(&named.path("m"))] {
        assert!(matches!(why, Err(NoMap::Libvirt { .. })), "{why:?}");
    }
    assert_eq!(named.lines("m").len(), 1);

    // Today's libvirt makes the socket itself, so that only the kernel knows its path.
    let directory = tempfile::tempdir().expect("a directory");
    let domain = directory.path().join("libvirt/qemu/domain-1-web");
    fs::create_dir_all(&domain).expect("directories");
    let path = domain.join("monitor.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    rustix::io::fcntl_setfd(listener.as_fd(), rustix::io::FdFlags::empty()).expect("inherited");
    let fd = listener.as_raw_fd();
    let passed = Machine::start(&format!("-chardev socket,id=charmonitor,fd={fd},{OFF} {mon}"));
    for why in [passed.map(), passed.map_at(&path)] {
        assert!(matches!(why, Err(NoMap::Libvirt { .. })), "{why:?}");
    }
    let mut person = Person::served(&path);
    person.use_qmp();
    drop(listener);

    // One beside it is as good as any.
    let both =
        Machine::start(&format!("-chardev socket,id=charmonitor,path=@/m,{OFF} {mon} -qmp unix:@/q,{OFF}"));
    assert!(both.map().is_ok());
    Ok(())
}

fn by_one_that_qemu_waits_for() -> Outcome {
    needs_qemu()?;
    let mut machine = Machine::begin("-qmp unix:@/q,server=on");
    machine.wait_until_there("q");
    let why = machine.map().expect_err("QEMU would begin");
    assert!(matches!(why, NoMap::Waits { .. }), "{why}");
    assert_eq!(machine.lines("q").len(), 1);
    let mut person = Person::served(&machine.path("q"));
    machine.control("qmp_capabilities");
    person.use_qmp();
    Ok(())
}

fn descriptors_that_would_be_closed() -> Outcome {
    needs_qemu()?;
    let file = tempfile::tempfile().expect("a file");
    rustix::io::fcntl_setfd(file.as_fd(), rustix::io::FdFlags::empty()).expect("inherited");
    let fd = file.as_raw_fd();
    let machine = Machine::start(&format!("-qmp unix:@/a,{OFF} -qmp unix:@/b,{OFF} -add-fd fd={fd},set=2"));
    assert!(matches!(machine.map(), Err(NoMap::Descriptors { .. })));
    assert_eq!(machine.lines("a").len(), 1);
    // While another client stays, QEMU keeps them.
    let mut person = Person::served(&machine.path("a"));
    assert!(machine.map().is_ok());
    person.ask("{\"execute\": \"qmp_capabilities\"}", "\"return\"");
    person.ask("{\"execute\": \"query-fdsets\"}", "\"fdset-id\": 2");
    Ok(())
}
