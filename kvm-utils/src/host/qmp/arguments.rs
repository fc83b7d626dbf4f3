//! The monitors that a QEMU process was started with.
//!
//! `-qmp DEV`, `-qmp-pretty DEV`, `-monitor DEV` and `-mon [chardev=]ID[,mode=...]` with `-chardev socket,id=ID,...`
//! (qemu(1)). Only sockets in the file system count that QEMU listens on and that speak plainly.

use std::collections::HashMap;

use crate::host::qemu::split_at_single_commas;

/// The name of the character device that libvirt makes for its own monitor (qemuBuildMonitorCommandLine,
/// src/qemu/qemu_command.c of libvirt).
const LIBVIRTS: &str = "charmonitor";

/// Monitors on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Monitors {
    /// Those that may be asked; QMP before the human monitor, else in the order of the command line.
    pub(super) sockets: Vec<Socket>,
    /// The path of the one that belongs to libvirt; empty if QEMU got it as a descriptor.
    pub(super) libvirt: Option<String>,
    /// Whether QEMU was given descriptors for later use (`-add-fd`).
    pub(super) has_descriptors: bool,
}

/// A socket on which QEMU listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    /// As given to bind(2).
    pub(super) path: String,
    /// Whether QEMU does not begin before somebody connects.
    pub(super) waits: bool,
}

impl Monitors {
    /// Looks for them among the arguments.
    pub(super) fn of(cmdline: &[String]) -> Self {
        let mut chardevs = HashMap::new();
        for (name, value) in pairs(cmdline) {
            if name == "chardev" {
                let chardev = Options::parse(value, "backend");
                if let Some(id) = chardev.get("id") {
                    chardevs.insert(id.to_owned(), chardev);
                }
            }
        }
        let (mut control, mut human) = (Vec::new(), Vec::new());
        let mut libvirt = None;
        for (name, value) in pairs(cmdline) {
            let (id, is_control) = match name {
                "qmp" | "qmp-pretty" | "monitor" => {
                    let is_control = name != "monitor";
                    if let Some(options) = value.strip_prefix("unix:") {
                        let place = if is_control { &mut control } else { &mut human };
                        place.extend(Options::parse(options, "path").socket());
                        continue;
                    }
                    let Some(id) = value.strip_prefix("chardev:") else { continue };
                    (id.to_owned(), is_control)
                }
                "mon" => {
                    let options = Options::parse(value, "chardev");
                    let Some(id) = options.get("chardev") else { continue };
                    (id.to_owned(), options.get("mode") == Some("control"))
                }
                _ => continue,
            };
            let Some(chardev) = chardevs.get(&id) else { continue };
            if id == LIBVIRTS {
                libvirt = Some(chardev.get("path").unwrap_or_default().to_owned());
            } else if chardev.get("backend") == Some("socket") {
                (if is_control { &mut control } else { &mut human }).extend(chardev.socket());
            }
        }
        control.append(&mut human);
        let has_descriptors = pairs(cmdline).any(|(name, _)| name == "add-fd");
        Self { sockets: control, libvirt, has_descriptors }
    }
}

/// Options that take a value, without their one or two dashes.
fn pairs(cmdline: &[String]) -> impl Iterator<Item = (&str, &str)> {
    cmdline.iter().skip(1).zip(cmdline.iter().skip(2)).filter_map(|(name, value)| {
        let name = name.strip_prefix('-')?;
        Some((name.strip_prefix('-').unwrap_or(name), value.as_str()))
    })
}

/// `key=value,flag,noflag,...` (opts_do_parse, util/qemu-option.c); the last of a key counts.
struct Options(Vec<(String, String)>);

impl Options {
    /// `implied` is the key of a first item that has none.
    fn parse(text: &str, implied: &str) -> Self {
        let item = |(index, item): (usize, String)| match item.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None if index == 0 => (implied.to_owned(), item),
            None => match item.strip_prefix("no") {
                Some(key) => (key.to_owned(), "off".to_owned()),
                None => (item, "on".to_owned()),
            },
        };
        Self(split_at_single_commas(text).into_iter().enumerate().map(item).collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether the switch `key` is on (qapi_bool_parse, qapi/qapi-util.c).
    fn on(&self, key: &str, default: bool) -> bool {
        match self.get(key) {
            Some(value) => matches!(value, "on" | "yes" | "true" | "y"),
            None => default,
        }
    }

    /// The socket, if it is one that can be asked: QEMU listens; nothing lies between it and the monitor (telnet,
    /// TLS); and the monitor shares it with nothing else (`mux`, where a serial port may have the word).
    fn socket(&self) -> Option<Socket> {
        let switches = ["telnet", "tn3270", "websocket", "abstract", "mux"];
        let plain = switches.iter().all(|key| !self.on(key, false)) && self.get("tls-creds").is_none();
        let path = self.get("path").filter(|path| !path.is_empty())?.to_owned();
        (plain && self.on("server", false)).then(|| Socket { path, waits: self.on("wait", true) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitors(arguments: &str) -> Monitors {
        let cmdline: Vec<String> =
            std::iter::once("qemu").chain(arguments.split(' ')).map(str::to_owned).collect();
        Monitors::of(&cmdline)
    }

    /// Each path; a `+` marks those that QEMU waits at.
    #[track_caller]
    fn check(arguments: &str, expected: &[&str]) {
        let found: Vec<String> = monitors(arguments)
            .sockets
            .into_iter()
            .map(|socket| if socket.waits { format!("{}+", socket.path) } else { socket.path })
            .collect();
        assert_eq!(found, expected, "{arguments}");
    }

    #[test]
    fn every_way_to_write_it() {
        check("-qmp unix:/run/a,server=on,wait=off", &["/run/a"]);
        check("--qmp unix:/run/a,server,nowait -m 64", &["/run/a"]);
        check("-qmp-pretty unix:/run/a,server=yes,wait=n", &["/run/a"]);
        check("-qmp unix:path=/run/a,server=on", &["/run/a+"]);
        check("-m 64 -qmp unix:/run/a,,b,server=on,wait=off", &["/run/a,b"]);
        check("-chardev socket,id=q,path=/run/a,server=on,wait=off -mon chardev=q,mode=control", &["/run/a"]);
        check("-mon q,mode=control -chardev backend=socket,path=/run/a,server,nowait,id=q", &["/run/a"]);
        check("-chardev socket,id=q,path=a,server=on,wait=off -qmp chardev:q", &["a"]);
        check("-monitor unix:h,server,nowait", &["h"]);
    }

    #[test]
    fn qmp_comes_before_the_human_monitor() {
        check(
            "-monitor unix:h,server,nowait -qmp unix:q,server,nowait -qmp unix:r,server",
            &["q", "r+", "h"],
        );
        let chardevs =
            "-chardev socket,id=a,path=h,server,nowait -mon a -chardev socket,id=b,path=q,server,nowait";
        check(&format!("{chardevs} -mon chardev=b,mode=control"), &["q", "h"]);
    }

    #[test]
    fn others_cannot_be_asked() {
        for arguments in [
            "-qmp stdio",
            "-qmp tcp:localhost:4444,server=on,wait=off",
            "-qmp unix:/run/a",
            "-qmp unix:/run/a,server=off",
            "-qmp unix:/run/a,noserver",
            "-qmp unix:,server",
            "-qmp",
            "-monitor mon:unix:/run/a,server",
            "-serial unix:/run/a,server,nowait",
            "-chardev socket,id=q,path=/run/a,server=on,wait=off",
            "-chardev socket,id=q,path=/run/a,server=on,mux=on -mon q",
            "-chardev socket,id=q,path=/run/a,server=on,telnet=on -mon q",
            "-chardev socket,id=q,path=/run/a,server=on,tls-creds=t -mon q",
            "-chardev socket,id=q,path=a,abstract=on,server=on -mon q",
            "-chardev socket,id=q,fd=5,server=on -mon q",
            "-chardev socket,id=q,host=::1,port=5,server=on -mon q",
            "-chardev pty,id=q,path=/run/a -mon q",
            "-mon q",
        ] {
            check(arguments, &[]);
            assert_eq!(monitors(arguments).libvirt, None, "{arguments}");
        }
        assert_eq!(Monitors::of(&[]), Monitors::default());
    }

    #[test]
    fn libvirt_s_is_known_and_left_out() {
        let mon = "-mon chardev=charmonitor,id=monitor,mode=control";
        let found = monitors(&format!("-chardev socket,id=charmonitor,fd=24,server=on,wait=off {mon}"));
        assert_eq!(found, Monitors { libvirt: Some(String::new()), ..Monitors::default() });
        let path = "-chardev socket,id=charmonitor,path=/x,server,nowait";
        let found = monitors(&format!("{path} {mon} -qmp unix:/run/mine,server,nowait"));
        assert_eq!(found.libvirt.as_deref(), Some("/x"));
        assert_eq!(found.sockets.len(), 1);
    }

    #[test]
    fn descriptors_for_later_are_noticed() {
        assert!(monitors("-m 64 -add-fd fd=5,set=2 -S").has_descriptors);
        assert!(!monitors("-m 64 -S").has_descriptors);
    }
}
