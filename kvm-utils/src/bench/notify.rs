//! A port and an address whose writes KVM turns into events itself (ioeventfd), the way in which devices such as virtio's are
//! notified without the VMM.

use std::os::fd::{AsRawFd, OwnedFd};

use kvm_bindings::{KVMIO, kvm_ioeventfd, kvm_ioeventfd_flag_nr_pio};
use kvm_ioctls::VmFd;
use rustix::event::{EventfdFlags, eventfd};

use super::Error;
use crate::selftest::Error as VmError;

/// The port. No device of KVM or of a PC answers there.
pub const NOTIFY_PORT: u16 = 0x5d8;
/// The address: no memory, and none of those where the payload looks for nobody.
pub const NOTIFY_ADDRESS: u64 = 0xd800_0000;

/// `KVM_IOEVENTFD`: Documentation/virt/kvm/api.rst, 4.59.
const KVM_IOEVENTFD: libc::c_ulong = {
    const WRITE: u32 = 1;
    (WRITE << 30 | (size_of::<kvm_ioeventfd>() as u32) << 16 | KVMIO << 8 | 0x79) as libc::c_ulong
};

/// Their eventfds, at which nobody looks.
#[derive(Debug)]
pub(super) struct Notified {
    port: OwnedFd,
    address: OwnedFd,
}

impl Notified {
    pub fn open(vm: &VmFd) -> Result<Self, Error> {
        Ok(Self {
            port: event(vm, NOTIFY_PORT.into(), 1 << kvm_ioeventfd_flag_nr_pio)?,
            address: event(vm, NOTIFY_ADDRESS, 0)?,
        })
    }

    /// Of both, since the last time.
    pub fn counts(&self) -> Result<[u64; 2], Error> {
        Ok([count(&self.port)?, count(&self.address)?])
    }
}

fn count(file: &OwnedFd) -> Result<u64, Error> {
    let mut count = [0; 8];
    match rustix::io::read(file, &mut count) {
        Ok(_) => Ok(u64::from_ne_bytes(count)),
        // It was not written.
        Err(rustix::io::Errno::AGAIN) => Ok(0),
        Err(errno) => {
            Err(VmError::Host { what: "read an eventfd", source: errno.into(), remedy: "report this" }.into())
        }
    }
}

/// An eventfd for writes of any value and length.
fn event(vm: &VmFd, addr: u64, flags: u32) -> Result<OwnedFd, Error> {
    let no_file = |errno: rustix::io::Errno| VmError::Host {
        what: "make an eventfd",
        source: errno.into(),
        remedy: "raise the limit of open files (ulimit -n)",
    };
    let file = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(no_file)?;
    let wanted = kvm_ioeventfd { addr, len: 0, fd: file.as_raw_fd(), flags, ..Default::default() };
    // SAFETY: the kernel reads the structure.
    if unsafe { libc::ioctl(vm.as_raw_fd(), KVM_IOEVENTFD, &raw const wanted) } != 0 {
        let source = kvm_ioctls::Error::last();
        return Err(VmError::kvm("make writes events (KVM_IOEVENTFD)")(source).into());
    }
    Ok(file)
}
