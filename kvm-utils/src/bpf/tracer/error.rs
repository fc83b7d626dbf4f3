//! Why tracing could not start or go on.

use std::error::Error;
use std::io;

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use kvm_utils_common::vcpu::VcpuRecord;

use crate::bpf::{
    cause::{PERF_REFUSED, cause},
    object::VCPU_DESTROY_SYMBOL,
};

/// Why tracing could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TracerError {
    /// The object could not be loaded as a whole: maps, mostly.
    #[error(
        "the kernel refused the eBPF maps: {}; {}", cause(.0.as_ref()), load_remedy(.0)
    )]
    Load(#[source] Box<EbpfError>),
    /// A program was refused.
    #[error("the kernel refused the eBPF program {program}: {}; `kvm-utils caps` tells why", cause(.source.as_ref()))]
    Program {
        /// Its name.
        program: &'static str,
        /// What aya says, with the verifier's log.
        #[source]
        source: Box<ProgramError>,
    },
    /// A program could not be attached.
    #[error(
        "cannot attach to {target}: {}; {}", cause(.source.as_ref()),
        refused_or(.source, "is KVM's vendor module (kvm_intel or kvm_amd) loaded? `kvm-utils caps` tells what is there")
    )]
    Attach {
        /// Tracepoint or function.
        target: &'static str,
        /// What aya says.
        #[source]
        source: Box<ProgramError>,
    },
    /// Raw tracepoints need a kprobe beside them.
    #[error(
        "the kernel cannot tell when it destroys a vCPU, without which a new one at the same address would be taken for \
         it: no kprobe on {VCPU_DESTROY_SYMBOL} ({}); {}",
        cause(.0.as_ref()), refused_or(.0, "use --source tracepoint")
    )]
    NoDestroyHook(#[source] Box<ProgramError>),
    /// A map of the object is not as this tool knows it.
    #[error("the eBPF object has no usable {0}: the build is inconsistent, rebuild with `cargo xtask ebpf`")]
    Object(&'static str),
    /// A map could not be mapped into memory.
    #[error("cannot map {map} into memory: {source}; kernels before 5.5 cannot do this")]
    Mmap {
        /// Name of the map.
        map: &'static str,
        /// What mmap(2) said.
        #[source]
        source: io::Error,
    },
    /// A map could not be changed.
    #[error("cannot update {map}: {}; this is a defect, please report it", cause(.source.as_ref()))]
    Map {
        /// Name of the map.
        map: &'static str,
        /// What aya says.
        #[source]
        source: Box<MapError>,
    },
}

/// What to do: about perf events, where the kernel's answer was that this is not allowed; else what is usual.
fn refused_or(error: &ProgramError, usual: &'static str) -> &'static str {
    let error: &(dyn Error + 'static) = error;
    let is_refused = std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|answer| answer.kind() == io::ErrorKind::PermissionDenied);
    if is_refused { PERF_REFUSED } else { usual }
}

fn load_remedy(error: &EbpfError) -> String {
    let answer = match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => io_error.raw_os_error(),
        _ => None,
    };
    match answer {
        // E2BIG is the answer of bpf_map_charge_init (before 5.11) to more than 4 GiB.
        Some(libc::ENOMEM | libc::E2BIG) => format!(
            "lower --max-vcpus, each takes {} KB of kernel memory, or allow more (memory cgroup)",
            size_of::<VcpuRecord>() / 1000
        ),
        Some(libc::EPERM) => "run as root, or let it lock more memory: ulimit -l unlimited".to_owned(),
        _ => "`kvm-utils caps` tells what this host lacks".to_owned(),
    }
}

pub(super) fn map_error(map: &'static str, source: MapError) -> TracerError {
    TracerError::Map { map, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::sys::SyscallError;

    #[test]
    fn perf_events_that_are_refused_name_the_setting() {
        let error = |errno| {
            let io_error = io::Error::from_raw_os_error(errno);
            let source = SyscallError { call: "perf_event_open", io_error };
            ProgramError::SyscallError(source)
        };
        let attach =
            |errno| TracerError::Attach { target: "kvm_entry", source: Box::new(error(errno)) }.to_string();
        assert_eq!(
            attach(libc::EACCES),
            "cannot attach to kvm_entry: `perf_event_open` failed: Permission denied (os error 13); run as root, or with \
             CAP_SYS_ADMIN, or: sysctl kernel.perf_event_paranoid=2"
        );
        assert!(attach(libc::ENOENT).contains("is KVM's vendor module"));
        let destroy = |errno| TracerError::NoDestroyHook(Box::new(error(errno))).to_string();
        assert!(destroy(libc::EPERM).ends_with("perf_event_paranoid=2"));
        assert!(destroy(libc::ENOENT).ends_with("use --source tracepoint"));
    }

    #[test]
    fn maps_that_are_refused_for_memory_name_the_option() {
        let refused = |errno| {
            let io_error = io::Error::from_raw_os_error(errno);
            let name = "VCPUS".to_owned();
            TracerError::Load(Box::new(EbpfError::MapError(MapError::CreateError { name, io_error })))
                .to_string()
        };
        assert!(
            refused(libc::ENOMEM)
                .contains("Cannot allocate memory (os error 12); lower --max-vcpus, each takes ")
        );
        assert!(refused(libc::E2BIG).contains("lower --max-vcpus"));
        assert!(refused(libc::EPERM).contains("run as root"));
    }
}
