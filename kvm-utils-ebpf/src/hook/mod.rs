//! One file per kernel hook. Where a hook can be reached in two ways there are two entry points, which differ only in
//! how they learn who and why.

mod kvm_entry;
mod kvm_exit;
mod vcpu_destroy;
