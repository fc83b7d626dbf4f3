//! kvm-utils: trace and time the VM exits of KVM guests from the host.
fn main() {}
