//! Library behind the `kvm-utils` command.
