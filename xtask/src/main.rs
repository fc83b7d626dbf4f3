//! Development tasks of kvm-utils.
fn main() {}
