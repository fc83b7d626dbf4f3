//! What runs on this host: VMs and their vCPUs, KVM's own statistics, the machine.
//!
//! Everything is read below a [`SysRoot`], so that a tree of fixtures stands in for /proc and /sys in tests. A
//! process that vanishes while it is being read is not an error anywhere here: it is gone, and the answer says so.

pub mod cgroup;
pub mod command_line;
pub mod facts;
pub mod fds;
pub mod find;
pub mod identity;
pub mod info;
pub mod jail;
pub mod kvm_stat;
pub mod libvirt;
pub mod names;
pub mod pidns;
pub mod posted;
pub mod process;
pub mod qemu;
pub mod qmp;
pub mod root;
pub mod scan;
pub mod uuid;
pub mod vcpu_thread;
pub mod virtual_apic;
pub mod vm;
pub mod vmm;

pub use cgroup::{Place, PlaceKind};
pub use find::{FindError, Finder, Found, Selectors};
pub use identity::Identity;
pub use info::HostInfo;
pub use kvm_stat::{KvmStat, Unavailable};
pub use pidns::PidNs;
pub use posted::Posted;
pub use root::{Peek, ProcRoot, SysRoot};
pub use scan::{Scan, Scanner};
pub use vcpu_thread::VcpuThread;
pub use vm::VmProcess;
pub use vmm::Vmm;
