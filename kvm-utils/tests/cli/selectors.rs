//! `--pid` and `--vm` that find nothing, the wrong thing, or too much.

use std::process::{Command, Stdio};

use super::{
    harness::{Outcome, Test},
    needs,
    tool::{Ran, tool},
    vm::Vm,
};

pub const TESTS: &[Test] = &[
    ("selectors::pids_that_are_no_vms", pids),
    ("selectors::names_that_no_vm_has", names),
    ("selectors::a_name_that_two_vms_have", twins),
    ("selectors::a_name_that_is_almost_right", near),
];

/// A picture without what differs from run to run and host to host.
fn picture(ran: &Ran, names: &[(&str, String)]) -> String {
    let mut text = ran.picture();
    for (name, value) in names {
        text = text.replace(value.as_str(), name);
    }
    // VMs of others may run meanwhile.
    let lines = text.lines().map(|line| {
        let (before, after) = match line.split_once("; running VMs: ") {
            Some((before, list)) => (before, list.split_once("; ").map_or("", |(_, after)| after)),
            None => match line.split_once("; no VM runs now") {
                Some((before, after)) => (before, after.strip_prefix("; ").unwrap_or(after)),
                None => return format!("{line}\n"),
            },
        };
        let semicolon = if after.is_empty() { "" } else { "; " };
        format!("{before}; (the VMs that run){semicolon}{after}\n")
    });
    lines.collect()
}

fn pids() -> Outcome {
    needs::tracing()?;
    let mut zombie =
        Command::new("/proc/self/exe").arg("--list").stdout(Stdio::null()).spawn().expect("a child");
    // Its state tells when it has ended; it stays until it is waited for.
    let stat = format!("/proc/{}/stat", zombie.id());
    while !std::fs::read_to_string(&stat).expect("its state").contains(") Z ") {
        std::thread::yield_now();
    }
    let (send, wait) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("cli-thread".to_owned())
        .spawn(move || {
            tell.send(rustix::thread::gettid()).expect("somebody listens");
            let _ = wait.recv();
        })
        .expect("a thread");
    let tid = told.recv().expect("its id").as_raw_nonzero();
    let comm = std::fs::read_to_string("/proc/self/comm").expect("a name").trim().to_owned();
    let own = std::process::id();
    let of = |pid: String| tool(&format!("exits -p {pid}")).run().exits_with(2);
    let names = [
        ("TID", tid.to_string()),
        ("ZOMBIE", zombie.id().to_string()),
        ("PID", own.to_string()),
        ("COMM", comm),
    ];
    let pictures: Vec<String> = [
        of("2147483647".to_owned()),
        of(zombie.id().to_string()),
        of(tid.to_string()),
        of(own.to_string()),
        // The first mistake is told, and there are not two messages.
        of(format!("{own} -p 2147483647")),
    ]
    .iter()
    .map(|ran| picture(ran, &names))
    .collect();
    drop(send);
    thread.join().expect("no panic");
    zombie.wait().expect("ended");
    insta::assert_snapshot!("pids_that_are_no_vms", pictures.join("\n"));
    Ok(())
}

fn names() -> Outcome {
    needs::tracing()?;
    let pictures: Vec<String> = ["exits --vm no-such-vm", "exits --vm no-such-*"]
        .iter()
        .map(|call| picture(&tool(call).run().exits_with(2), &[]))
        .collect();
    insta::assert_snapshot!("names_that_no_vm_has", pictures.join("\n"));
    Ok(())
}

fn twins() -> Outcome {
    needs::tracing()?;
    needs::device()?;
    let (one, two) = (Vm::start("cli-twin"), Vm::start("cli-twin"));
    let (low, high) = (one.pid().min(two.pid()), one.pid().max(two.pid()));
    let ran = tool("exits --vm cli-twin").run().exits_with(2);
    let names = [("LOW", low.to_string()), ("HIGH", high.to_string())];
    insta::assert_snapshot!("a_name_that_two_vms_have", picture(&ran, &names));
    Ok(())
}

fn near() -> Outcome {
    needs::tracing()?;
    needs::device()?;
    let _vm = Vm::start("cli-nearly");
    tool("exits --vm cli-neary").run().exits_with(2).says("no VM of this name; did you mean cli-nearly?");
    Ok(())
}
