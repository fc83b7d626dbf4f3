//! Tells systemd how the service is: sd_notify(3), which is a datagram to the socket that `NOTIFY_SOCKET` names.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// Where to tell it; nowhere if no service manager started this process.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// It wants to hear from us at least this often.
    pub watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says.
    #[must_use]
    pub fn from_env() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| Self::open(&name).ok());
        // sd_watchdog_enabled(3): meant for this process, or for any if none is named.
        let meant = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let watchdog = std::env::var("WATCHDOG_USEC").ok().and_then(|us| us.parse().ok()).filter(|_| meant);
        Self { socket, watchdog: watchdog.map(Duration::from_micros) }
    }

    fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not listen must not keep us from tracing.
        socket.set_nonblocking(true)?;
        Ok((socket, address))
    }

    /// Tells it something like `READY=1`. That nobody hears it is no reason to end.
    pub fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &OsStr, listener: &UnixDatagram) -> String {
        let notify = Notify { socket: Some(Notify::open(name).unwrap()), watchdog: None };
        notify.tell("READY=1\nSTATUS=x");
        let mut buffer = [0; 64];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn sockets_have_a_path_or_an_abstract_name() {
        let directory = std::env::temp_dir().join(format!("kvm-utils-notify-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        assert_eq!(told(path.as_os_str(), &UnixDatagram::bind(&path).unwrap()), "READY=1\nSTATUS=x");
        std::fs::remove_dir_all(directory).unwrap();
        let name = format!("kvm-utils-notify-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        assert_eq!(told(OsStr::new(&format!("@{name}")), &listener), "READY=1\nSTATUS=x");
        // Nobody there: nothing happens.
        Notify { socket: Notify::open(OsStr::new("/nowhere")).ok(), watchdog: None }.tell("READY=1");
        Notify::default().tell("READY=1");
    }
}
