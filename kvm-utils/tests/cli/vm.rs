//! Processes that hold a VM and never run it: copies of this program that act so when asked by their environment.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, ExitCode, Stdio},
};

const NAME: &str = "KVM_UTILS_TEST_VM_NAME";

/// Whether this process is such a copy.
pub fn is_asked_for() -> bool {
    std::env::var_os(NAME).is_some()
}

/// Makes a VM with a vCPU, says so, and holds it until its input ends.
pub fn act() -> ExitCode {
    let name = std::env::var(NAME).expect("a name");
    fs::write("/proc/self/comm", name).expect("a name to be known by");
    let kvm = kvm_ioctls::Kvm::new().expect("KVM");
    let vm = kvm.create_vm().expect("a VM");
    let _vcpu = vm.create_vcpu(0).expect("a vCPU");
    println!("ready");
    // Ends with the one who asked.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

/// A VM by this name; it ends when dropped.
pub struct Vm(Child);

impl Vm {
    /// Starts it and waits until it is there.
    pub fn start(name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(NAME, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a copy of this program");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("its word");
        assert_eq!(line, "ready\n");
        Self(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Closes its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
