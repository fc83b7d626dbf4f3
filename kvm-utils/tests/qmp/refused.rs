//! What cannot be asked at all, and what does not answer.

use std::{fs, os::unix::net::UnixListener, path::Path, time::Instant};

use kvm_utils::host::{
    SysRoot,
    qmp::{self, NoMap, TalkError},
};

use crate::{
    harness::{Outcome, Skip, Test},
    machine::{Machine, OFF, needs_qemu},
    person::Person,
};

pub const TESTS: &[Test] = &[
    ("refused::a_frozen_one_in_time", a_frozen_one_in_time),
    ("refused::without_a_monitor", without_a_monitor),
    ("refused::a_path_that_is_not_its_own", a_path_that_is_not_its_own),
    ("refused::a_path_that_another_has_taken", a_path_that_another_has_taken),
    ("refused::a_serial_port", a_serial_port),
    ("refused::other_processes", other_processes),
    ("refused::to_nobody", to_nobody),
];

fn a_frozen_one_in_time() -> Outcome {
    needs_qemu()?;
    let mut machine = Machine::start(&format!("-qmp unix:@/q,{OFF}"));
    machine.freeze(true);
    let began = Instant::now();
    let why = qmp::device_map(&SysRoot::default(), machine.pid(), None).expect_err("frozen");
    let took = began.elapsed();
    assert!(matches!(why, NoMap::Talk { source: TalkError::TimedOut { .. }, .. }), "{why}");
    assert!(took >= qmp::LIMIT && took < 10 * qmp::LIMIT, "{took:?}");
    // We have left; whoever comes next is served as soon as QEMU wakes.
    let mut person = Person::connect(&machine.path("q"));
    machine.freeze(false);
    machine.control("query-status");
    person.hear("QMP");
    person.use_qmp();
    Ok(())
}

fn without_a_monitor() -> Outcome {
    needs_qemu()?;
    let why = Machine::start(&format!("-serial unix:@/s,{OFF}")).map().expect_err("no monitor");
    assert!(matches!(why, NoMap::NoMonitor { .. }), "{why}");
    Ok(())
}

fn a_path_that_is_not_its_own() -> Outcome {
    needs_qemu()?;
    let machine = Machine::start(&format!("-qmp unix:@/q,{OFF}"));
    let other = Machine::start(&format!("-qmp unix:@/q,{OFF}"));
    let why = machine.map_at(&other.path("q")).expect_err("another VM's");
    assert!(matches!(why, NoMap::NotListening { .. }), "{why}");
    // The test listens there, QEMU is its client.
    let why = machine.map_at(&machine.path("control")).expect_err("the test's");
    assert!(matches!(why, NoMap::NotListening { .. }), "{why}");
    let why = machine.map_at(Path::new("/nonexistent/q")).expect_err("nothing there");
    assert!(why.to_string().ends_with("; name the socket with --qmp PATH"), "{why}");
    fs::remove_file(machine.path("q")).expect("removed");
    assert!(matches!(machine.map(), Err(NoMap::Unreachable { .. })));
    Ok(())
}

fn a_path_that_another_has_taken() -> Outcome {
    needs_qemu()?;
    let machine = Machine::start(&format!("-qmp unix:@/q,{OFF}"));
    fs::remove_file(machine.path("q")).expect("removed");
    let listener = UnixListener::bind(machine.path("q")).expect("bound");
    let why = machine.map().expect_err("not QEMU's");
    let NoMap::Replaced { other, .. } = why else { panic!("{why}") };
    assert_eq!(other, std::process::id());
    drop(listener);
    Ok(())
}

fn a_serial_port() -> Outcome {
    needs_qemu()?;
    let machine = Machine::start(&format!("-serial unix:@/s,{OFF}"));
    let path = machine.path("s");
    let why = qmp::device_map(&SysRoot::default(), machine.pid(), Some(&path)).expect_err("silent");
    assert!(matches!(why, NoMap::Talk { source: TalkError::TimedOut { .. }, .. }), "{why}");
    Ok(())
}

fn other_processes() -> Outcome {
    let ask = |pid| qmp::device_map(&SysRoot::default(), pid, None).expect_err("no QEMU");
    assert!(matches!(ask(std::process::id()), NoMap::NotQemu { .. }));
    // No pid reaches this number (PID_MAX_LIMIT, include/linux/threads.h).
    assert!(matches!(ask(1 << 22), NoMap::Gone { .. }));
    Ok(())
}

fn to_nobody() -> Outcome {
    needs_qemu()?;
    if !rustix::process::geteuid().is_root() {
        return Err(Skip("needs root".to_owned()));
    }
    let machine = Machine::start(&format!("-qmp unix:@/q,{OFF}"));
    let asked = std::thread::scope(|scope| {
        let nobody = scope.spawn(|| {
            /// The uid that owns nothing, Documentation/admin-guide/sysctl/fs.rst (overflowuid).
            const NOBODY: libc::uid_t = 65534;
            // By hand: libc would do it for all threads of the process.
            // SAFETY: takes no pointers; it concerns this thread alone.
            let done = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
            assert_eq!(done, 0);
            machine.map()
        });
        nobody.join().expect("an answer")
    });
    let why = asked.expect_err("denied");
    assert_eq!(why.to_string(), format!("not allowed to look at process {}; run as root", machine.pid()));
    Ok(())
}
