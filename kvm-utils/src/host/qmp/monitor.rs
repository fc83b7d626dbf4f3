//! A monitor of a QEMU process: found, seen to be free, opened, asked.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    NoMap, TalkError,
    arguments::Monitors,
    mtree::DeviceMap,
    owner::View,
    session::Session,
    socket,
    visit::{Visit, seen},
};
use crate::host::{
    process::{Process, printable},
    root::SysRoot,
    vmm::Vmm,
};

/// An open monitor. Nobody else can use it before this is dropped.
#[derive(Debug)]
pub struct Monitor {
    pub(super) path: PathBuf,
    pub(super) session: Session,
}

impl Monitor {
    /// Opens a monitor of QEMU, process `pid`: the one whose socket is `given`, else the first free one among those
    /// of its command line. Everything that is done with it has to be done within `limit` from now.
    ///
    /// # Errors
    /// [`NoMap`] if this is not QEMU, has no monitor that is free, or does not answer.
    pub fn open(root: &SysRoot, pid: u32, given: Option<&Path>, limit: Duration) -> Result<Self, NoMap> {
        let end = Instant::now() + limit;
        let proc = root.proc();
        let process = seen(pid, Process::read(&proc, pid))?;
        if Vmm::of(&process) != Vmm::Qemu {
            return Err(NoMap::NotQemu { pid });
        }
        let view = seen(pid, View::read(&proc, pid))?;
        let monitors = Monitors::of(&process.cmdline);
        let visit = Visit { proc: &proc, pid, view: &view, monitors: &monitors, end, limit };
        if let Some(path) = given {
            return visit.given(path);
        }
        let mut why = None;
        for socket in &monitors.sockets {
            if Instant::now() >= end {
                break;
            }
            let bound = socket.path.as_bytes();
            match visit.open(bound, || socket::locate(&proc, pid, bound), socket.waits) {
                Ok(monitor) => return Ok(monitor),
                // The first one's reason is told, unless it only says whose it is.
                Err(reason) => {
                    why = why.filter(|first| !matches!(first, NoMap::Libvirt { .. })).or(Some(reason));
                }
            }
        }
        let none = if monitors.libvirt.is_some() { NoMap::Libvirt { pid } } else { NoMap::NoMonitor { pid } };
        Err(why.unwrap_or(none))
    }

    /// What is where in the guest, now.
    ///
    /// # Errors
    /// [`NoMap`] if QEMU does not answer, or has no map.
    pub fn device_map(&mut self) -> Result<DeviceMap, NoMap> {
        let text = self.session.run("info mtree -f").map_err(|source| self.failed(source))?;
        DeviceMap::parse(&text).ok_or_else(|| NoMap::Unknown { path: self.path.clone() })
    }

    /// The guest's name; `None` if it was given none.
    ///
    /// # Errors
    /// [`NoMap`] if QEMU does not answer.
    pub fn name(&mut self) -> Result<Option<String>, NoMap> {
        let name = self.session.name().map_err(|source| self.failed(source))?;
        Ok(name.map(|name| printable(name.as_bytes())))
    }

    /// The guest's UUID; `None` if it was given none.
    ///
    /// # Errors
    /// [`NoMap`] if QEMU does not answer.
    pub fn uuid(&mut self) -> Result<Option<String>, NoMap> {
        let uuid = self.session.uuid().map_err(|source| self.failed(source))?;
        Ok(uuid.map(|uuid| printable(uuid.as_bytes())))
    }

    fn failed(&self, source: TalkError) -> NoMap {
        NoMap::Talk { path: self.path.clone(), source }
    }
}
