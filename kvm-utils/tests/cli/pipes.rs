//! A reader that has seen enough is no error, and one that listens to nothing does not end a run.

use std::{
    fs::{File, OpenOptions},
    io::pipe,
    process::Stdio,
};

use super::{
    harness::{Outcome, Test},
    needs,
    tool::{Ran, Tool, tool},
};

pub const TESTS: &[Test] = &[
    ("pipes::a_closed_one_is_quiet_success", closed_output),
    ("pipes::a_closed_one_is_quiet_success_for_reports", closed_reports),
    ("pipes::nobody_reads_messages", closed_messages),
    ("pipes::nobody_reads_messages_of_a_run", closed_messages_of_a_run),
    ("pipes::a_full_disk_is_told", full),
];

/// A pipe that nobody reads from any more.
fn closed() -> Stdio {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn into(tool: &Tool, stdout: Option<Stdio>, stderr: Option<Stdio>) -> Ran {
    let mut command = tool.command();
    if let Some(stdout) = stdout {
        command.stdout(stdout);
    }
    if let Some(stderr) = stderr {
        command.stderr(stderr);
    }
    let child = command.spawn().expect("it starts");
    tool.ran(&child.wait_with_output().expect("its end"))
}

fn closed_output() -> Outcome {
    for call in ["--help", "exits --help", "--version", "caps --watch 1ms", "caps --watch 1ms -o json"] {
        let ran = into(&tool(call), Some(closed()), None).exits_with(0);
        assert_eq!(ran.stderr, "", "{call}");
    }
    Ok(())
}

fn closed_reports() -> Outcome {
    needs::runs()?;
    for call in ["exits -i 10ms", "exits -i 10ms -o json", "exits -i 10ms -o csv", "exits -d 10ms --summary"]
    {
        // Would not end by itself, but for the last.
        let ran = into(&tool(call).with_tracefs(), Some(closed()), None).exits_with(0);
        let said: Vec<&str> = ran.stderr.lines().filter(|line| !line.contains("using classic")).collect();
        assert!(said.len() == 1 && said[0].contains("attached ("), "{}", ran.picture());
    }
    needs::device()?;
    for call in ["selftest", "selftest -o json"] {
        let ran = into(&tool(call).with_tracefs(), Some(closed()), None).exits_with(0);
        let loud = |line: &&str| !line.contains("using classic");
        assert_eq!(ran.stderr.lines().filter(loud).count(), 0, "{}", ran.picture());
    }
    Ok(())
}

fn closed_messages() -> Outcome {
    into(&tool("exits -i 0s"), None, Some(closed())).exits_with(2);
    needs::tracing()?;
    into(&tool("exits -p 2147483647"), None, Some(closed())).exits_with(2);
    Ok(())
}

fn closed_messages_of_a_run() -> Outcome {
    needs::runs()?;
    let ran = into(&tool("exits -n 1 -i 10ms").with_tracefs(), None, Some(closed())).exits_with(0);
    assert!(ran.stdout.contains("proof "), "{}", ran.picture());
    Ok(())
}

fn full() -> Outcome {
    needs::runs()?;
    let full: File = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let ran = into(&tool("exits -n 1 -i 10ms").with_tracefs(), Some(full.into()), None).exits_with(3);
    ran.says("kvm-utils: cannot write to standard output: No space left on device");
    Ok(())
}
