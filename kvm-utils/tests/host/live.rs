//! The same on real VMs of this machine's KVM, made by a copy of this test program that acts on request.
//! Skipped where there is no KVM.

use std::{
    ffi::CString,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use kvm_utils::host::{
    FindError, Finder, KvmStat, PidNs, ProcRoot, Scanner, Selectors, SysRoot, Unavailable, VmProcess,
    process::process_of,
};

const ROLE: &str = "KVM_UTILS_TEST_ROLE";

/// _IO(KVMIO, nr), include/uapi/linux/kvm.h.
const KVM_CREATE_VM: libc::c_ulong = 0xAE01;
const KVM_CREATE_VCPU: libc::c_ulong = 0xAE41;

/// The copy: makes VMs as told by lines on its input and answers each with a line.
#[test]
fn act() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    // SAFETY: the path is a C string; the result is checked.
    let kvm = unsafe { libc::open(c"/dev/kvm".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    assert!(kvm >= 0);
    let ioctl = |fd: i32, request: libc::c_ulong, argument: libc::c_ulong| {
        // SAFETY: these requests take a number, no pointer.
        let fd = unsafe { libc::ioctl(fd, request, argument) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        fd
    };
    let (mut vm, mut vcpu) = (-1, -1);
    let mut helper: Option<Child> = None;
    println!("\nready");
    for line in std::io::stdin().lines() {
        let line = line.expect("input");
        let mut answer = "done".to_owned();
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("vm", _) => vm = ioctl(kvm, KVM_CREATE_VM, 0),
            ("vm-in-thread", _) => {
                let maker =
                    std::thread::spawn(move || (ioctl(kvm, KVM_CREATE_VM, 0), rustix::thread::gettid()));
                let (made, tid) = maker.join().expect("thread");
                vm = made;
                // A thread can be joined a little before the kernel has removed it.
                let task = format!("/proc/self/task/{tid}");
                while std::fs::exists(&task).expect("own tasks") {
                    std::thread::yield_now();
                }
            }
            ("vcpu", id) => {
                vcpu = ioctl(vm, KVM_CREATE_VCPU, id.parse().expect("id"));
                // As every VMM does before it can run the vCPU.
                // SAFETY: a fresh shared mapping of one page of the vCPU.
                let run = unsafe {
                    let protection = libc::PROT_READ | libc::PROT_WRITE;
                    libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, vcpu, 0)
                };
                assert_ne!(run, libc::MAP_FAILED);
                // SAFETY: the page was just mapped for writing.
                unsafe { run.cast::<u8>().write_volatile(0) };
            }
            ("dup", _) => {
                // SAFETY: duplicating descriptors of this process.
                assert!(unsafe { libc::dup(vm) } >= 0 && unsafe { libc::dup(vcpu) } >= 0);
            }
            ("helper", _) => {
                for fd in [vm, vcpu] {
                    // SAFETY: changes the close-on-exec flag of a descriptor of this process.
                    assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }, 0);
                }
                let child = Command::new("sleep").arg("60").spawn().expect("sleep");
                answer = child.id().to_string();
                helper = Some(child);
            }
            ("name-thread", name) => {
                let name = CString::new(name).expect("name");
                let (tell, told) = std::sync::mpsc::channel();
                std::thread::spawn(move || {
                    // SAFETY: PR_SET_NAME reads a C string, which lives until the call returns.
                    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
                    tell.send(()).expect("told");
                    loop {
                        std::thread::park();
                    }
                });
                told.recv().expect("named");
            }
            other => unreachable!("{other:?}"),
        }
        println!("{answer}");
    }
    if let Some(mut helper) = helper {
        helper.kill().expect("kill");
        helper.wait().expect("wait");
    }
}

struct Actor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Actor {
    /// `None` where there is no KVM to make VMs with.
    fn start(arguments: &[&str]) -> Option<Self> {
        if std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
            eprintln!("skipped: no /dev/kvm to be opened here");
            return None;
        }
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .arg0(arguments.first().unwrap_or(&"actor"))
            .args(["--exact", "live::act", "--nocapture", "--test-threads=1"])
            .args(arguments.iter().skip(1))
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a copy of this program");
        let input = child.stdin.take().expect("input");
        let output = BufReader::new(child.stdout.take().expect("output"));
        let mut actor = Self { child, input, output };
        while actor.line() != "ready" {}
        Some(actor)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.output.read_line(&mut line).expect("output"), 0, "the actor died");
        line.trim_end().to_owned()
    }

    fn tell(&mut self, request: &str) -> String {
        writeln!(self.input, "{request}").expect("input");
        self.line()
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

fn vm_of(scanner: &mut Scanner, pid: u32) -> Option<VmProcess> {
    scanner.scan().expect("scans").vm(pid).cloned()
}

#[test]
fn a_process_that_opens_kvm_late_is_found_by_the_next_scan() {
    let Some(mut actor) = Actor::start(&[]) else { return };
    let mut scanner = Scanner::new(ProcRoot::default());
    assert_eq!(vm_of(&mut scanner, actor.pid()), None);
    actor.tell("vm");
    actor.tell("vcpu 0");
    let vm = vm_of(&mut scanner, actor.pid()).expect("found");
    assert_eq!((vm.vm_count(), vm.vcpu_count()), (1, 1));
    actor.tell("vcpu 5");
    actor.tell("name-thread CPU 0/KVM");
    actor.tell("name-thread CPU 1/KVM");
    actor.tell("name-thread CPU 10");
    let vm = vm_of(&mut scanner, actor.pid()).expect("found");
    assert_eq!(vm.fds.vcpus.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [Some(0), Some(5)]);
    assert_eq!(vm.probable_thread(5).map(|thread| thread.comm.as_str()), Some("CPU 1/KVM"));

    // Selecting a thread tells the process.
    let tid = vm.vcpus[0].tid;
    let scan = scanner.scan().expect("scans");
    let found = Finder::new(Selectors { pids: vec![tid], names: Vec::new() }).resolve(&scan, scanner.proc());
    assert_eq!(found.errors, [FindError::Thread { tid, comm: "CPU 0/KVM".to_owned(), pid: actor.pid() }]);

    let pid = actor.pid();
    let mut finder = Finder::new(Selectors { pids: vec![pid], names: Vec::new() });
    assert_eq!(finder.resolve(&scan, scanner.proc()).vms.len(), 1);
    drop(actor);
    let scan = scanner.scan().expect("scans");
    assert_eq!(scan.vm(pid), None);
    assert!(matches!(finder.resolve(&scan, scanner.proc()).errors[..], [FindError::Ended { .. }]));
}

#[test]
fn duplicates_are_one_and_two_vms_are_two() {
    let Some(mut actor) = Actor::start(&[]) else { return };
    for request in ["vm", "vcpu 0", "dup", "vm", "vcpu 0"] {
        actor.tell(request);
    }
    let vm = vm_of(&mut Scanner::new(ProcRoot::default()), actor.pid()).expect("found");
    assert_eq!((vm.vm_count(), vm.vcpu_count()), (2, 2));
}

#[test]
fn a_child_that_inherited_the_vm_is_a_helper() {
    let Some(mut actor) = Actor::start(&[]) else { return };
    for request in ["vm", "vcpu 0"] {
        actor.tell(request);
    }
    let helper: u32 = actor.tell("helper").parse().expect("pid");
    let mut scanner = Scanner::new(ProcRoot::default());
    let scan = scanner.scan().expect("scans");
    assert!(scan.vm(actor.pid()).is_some());
    assert_eq!(scan.vm(helper), None);
    assert!(scan.helpers.contains(&(helper, actor.pid())), "{:?}", scan.helpers);
    let found =
        Finder::new(Selectors { pids: vec![helper], names: Vec::new() }).resolve(&scan, scanner.proc());
    assert_eq!(found.errors, [FindError::Helper { pid: helper, owner: actor.pid() }]);
    // SAFETY: ends the process whose id the actor just told, its own child.
    unsafe { libc::kill(helper.cast_signed(), libc::SIGKILL) };
}

#[test]
fn kvm_counts_exits_per_process_also_of_vms_made_by_a_thread_that_ended() {
    let Some(mut actor) = Actor::start(&[]) else { return };
    actor.tell("vm");
    actor.tell("vcpu 0");
    let initial = PidNs::own(&ProcRoot::default()).expect("namespace").is_initial();
    let mut stat = KvmStat::new(&SysRoot::default(), initial);
    match stat.of(actor.pid()) {
        Ok(exits) => {
            assert_eq!((exits.total, exits.vms.len()), (0, 1));
            // The directory bears the id of the thread, here the one in which the test harness runs `act`.
            assert_eq!(process_of(&ProcRoot::default(), exits.vms[0].creator), Some(actor.pid()));
            actor.tell("vm-in-thread");
            // Nobody saw the thread alive, so nobody can say whose that VM is.
            assert_eq!(stat.of(actor.pid()).expect("listed").vms.len(), 1);
        }
        Err(Unavailable::NotListed(pid)) => unreachable!("VM of {pid} is not listed"),
        Err(reason) => eprintln!("skipped: {reason}"),
    }
}
