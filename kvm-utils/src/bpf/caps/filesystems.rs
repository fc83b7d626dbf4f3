//! tracefs and debugfs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    item::{Group, Item, Support},
    kvm::Modules,
};
use crate::host::{KvmStat, SysRoot, Unavailable};

/// Where tracefs belongs, and where debugfs mounts it by itself when it is looked at.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Why KVM's events cannot be seen in tracefs.
#[derive(Debug, thiserror::Error)]
pub(super) enum EventsError {
    #[error("tracefs is not mounted")]
    NotMounted,
    #[error("tracefs is mounted at {0}, where it is not looked for")]
    Elsewhere(String),
    #[error("not allowed to read {0}")]
    Denied(String),
    #[error("there is no {0}")]
    NoKvm(String),
    #[error("cannot read {0}: {1}")]
    Unreadable(String, io::Error),
}

impl EventsError {
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::NotMounted | Self::Elsewhere(_) | Self::Unreadable(..) => {
                "mount -t tracefs tracefs /sys/kernel/tracing"
            }
            Self::Denied(_) => "run as root, or with CAP_DAC_READ_SEARCH",
            Self::NoKvm(_) => "load KVM (see vendor module)",
        }
    }
}

/// The directory of KVM's events.
pub(super) fn kvm_events(root: &SysRoot) -> Result<PathBuf, EventsError> {
    let mut failure = None;
    for tracefs in TRACEFS {
        let events = format!("{tracefs}/events");
        match fs::metadata(root.path(&events)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                failure.get_or_insert(EventsError::Denied(tracefs.to_owned()));
                continue;
            }
            Err(error) => {
                failure.get_or_insert(EventsError::Unreadable(events, error));
                continue;
            }
        }
        let kvm = root.path(format!("{events}/kvm"));
        return if kvm.exists() { Ok(kvm) } else { Err(EventsError::NoKvm(format!("{events}/kvm"))) };
    }
    // An unmounted /sys/kernel/tracing may be hidden behind a /sys/kernel/debug that is closed to this user.
    let mounted = |at: &str| {
        fs::read_to_string(root.path("/proc/self/mountinfo"))
            .ok()?
            .lines()
            .find_map(|line| mount_of(line, at))
    };
    match failure {
        Some(EventsError::Denied(at)) if mounted("tracefs").is_some() || mounted("debugfs").is_some() => {
            Err(EventsError::Denied(at))
        }
        Some(EventsError::Denied(_)) | None => match mounted("tracefs") {
            Some(at) if !TRACEFS.contains(&at.as_str()) => Err(EventsError::Elsewhere(at)),
            _ => Err(EventsError::NotMounted),
        },
        Some(failure) => Err(failure),
    }
}

/// The mount point in a line of /proc/PID/mountinfo (proc(5)), if its file system is `kind`.
fn mount_of(line: &str, kind: &str) -> Option<String> {
    let (mount, source) = line.split_once(" - ")?;
    if source.split(' ').next()? != kind {
        return None;
    }
    // White space in it is written in octal.
    Some(mount.split(' ').nth(4)?.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
}

pub(super) fn items(root: &SysRoot, modules: &Modules, initial_pidns: bool) -> Vec<Item> {
    vec![tracefs(root, modules), kvm_stat(root, initial_pidns)]
}

fn tracefs(root: &SysRoot, modules: &Modules) -> Item {
    let (support, detail) = match kvm_events(root) {
        Ok(events) => {
            let tracefs = events.parent().and_then(Path::parent).unwrap_or(&events);
            let shown = tracefs.strip_prefix(root.path("/")).unwrap_or(tracefs).display();
            (Support::Full, format!("/{shown}"))
        }
        Err(error @ EventsError::NoKvm(_)) if modules.kvm.is_some() => (
            Support::no(error.to_string(), "KVM was built without tracepoints; use a distribution's kernel"),
            String::new(),
        ),
        Err(error @ EventsError::NoKvm(_)) => (Support::no(error.to_string(), error.remedy()), String::new()),
        Err(error) => (
            Support::degraded(format!("{error}; only raw tracepoints can be used"), error.remedy()),
            String::new(),
        ),
    };
    Item::new(Group::Files, "tracefs", "tracefs", support, detail)
}

fn kvm_stat(root: &SysRoot, initial_pidns: bool) -> Item {
    let stat = KvmStat::new(root, initial_pidns);
    let count = if initial_pidns { stat.host_exits() } else { Err(Unavailable::PidNamespace) };
    let (support, detail) = match count {
        Ok(exits) => (Support::Full, format!("{exits} exits of the VMs that run now")),
        Err(reason) => (
            Support::degraded(format!("no proof against KVM's own count: {}", reason.why()), reason.remedy()),
            String::new(),
        ),
    };
    Item::new(Group::Files, "kvm_stat", "KVM statistics", support, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo() {
        // From real hosts; the second has an optional field.
        let tracefs = "36 27 0:14 / /sys/kernel/tracing rw,relatime - tracefs t rw";
        let shared = "36 27 0:14 / /mnt/my\\040trace rw,relatime shared:7 - tracefs t rw";
        assert_eq!(mount_of(tracefs, "tracefs").as_deref(), Some("/sys/kernel/tracing"));
        assert_eq!(mount_of(shared, "tracefs").as_deref(), Some("/mnt/my trace"));
        assert_eq!(mount_of(tracefs, "debugfs"), None);
        assert_eq!(mount_of("", "tracefs"), None);
    }
}
