//! The options of QEMU that say who the guest is.
//!
//! - `-name [guest=]NAME[,process=TITLE][,debug-threads=on|off]` (qemu(1)); a comma within a value is written twice.
//!   The option may be repeated: QEMU merges them, and the last `guest` counts.
//! - `-uuid UUID` and `-smbios type=1,uuid=UUID` set one and the same variable when they are parsed, in their order on
//!   the command line (qemu_init, system/vl.c; smbios_entry_add, hw/smbios/smbios.c).
//! - `-id N` is Proxmox's: the number of the VM (qemu-server, src/PVE/QemuServer.pm; QEMU itself has no such option).

use super::uuid;

/// The guest's name among the arguments of a QEMU process.
#[must_use]
pub fn guest_name(cmdline: &[String]) -> Option<String> {
    options(cmdline).filter(|(name, _)| *name == "name").filter_map(|(_, value)| guest_of(value)).last()
}

/// The UUID that the guest sees as its system's, canonical.
#[must_use]
pub fn guest_uuid(cmdline: &[String]) -> Option<String> {
    let given = options(cmdline).filter_map(|(name, value)| match name {
        "uuid" => Some(value.to_owned()),
        "smbios" => uuid_of(value),
        _ => None,
    });
    // That of all zeros takes an earlier one back.
    uuid::canonical(&given.last()?)
}

/// The number that Proxmox gave the VM.
#[must_use]
pub fn proxmox_id(cmdline: &[String]) -> Option<String> {
    let id = options(cmdline).filter(|(name, _)| *name == "id").last()?.1;
    (!id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())).then(|| id.to_owned())
}

/// Every argument that begins with a hyphen, without it, and the one after.
fn options(cmdline: &[String]) -> impl Iterator<Item = (&str, &str)> {
    let pairs = cmdline.iter().zip(cmdline.iter().skip(1)).skip(1);
    pairs.filter_map(|(option, value)| {
        let name = option.strip_prefix("--").or_else(|| option.strip_prefix('-'))?;
        Some((name, value.as_str()))
    })
}

/// The UUID in one value of `-smbios`, if it is about the system.
fn uuid_of(value: &str) -> Option<String> {
    let items = split_at_single_commas(value);
    let last = |key: &str| {
        items.iter().rev().find_map(|item| item.split_once('=').filter(|(found, _)| *found == key))
    };
    let (_, kind) = last("type")?;
    (kind.parse() == Ok(1_u32) || kind == "0x1").then_some(())?;
    last("uuid").map(|(_, uuid)| uuid.to_owned())
}

/// The guest in one value of `-name`.
fn guest_of(value: &str) -> Option<String> {
    let mut guest = None;
    for (index, item) in split_at_single_commas(value).into_iter().enumerate() {
        match item.split_once('=') {
            Some(("guest", name)) => guest = Some(name.to_owned()),
            Some(_) => {}
            // `guest` is the implied key of the first item only.
            None if index == 0 => guest = Some(item),
            None => {}
        }
    }
    guest.filter(|name| !name.is_empty())
}

/// Cuts at commas, and makes one comma of two.
pub(super) fn split_at_single_commas(value: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            items.push(String::new());
        } else if let Some(item) = items.last_mut() {
            item.push(c);
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(arguments: &[&str]) -> Option<String> {
        let cmdline: Vec<String> =
            std::iter::once(&"qemu").chain(arguments).map(|a| (*a).to_owned()).collect();
        guest_name(&cmdline)
    }

    #[test]
    fn every_way_to_write_it() {
        assert_eq!(name(&["-name", "web-1"]).as_deref(), Some("web-1"));
        assert_eq!(name(&["--name", "web-1"]).as_deref(), Some("web-1"));
        assert_eq!(name(&["-name", "guest=web-1,debug-threads=on"]).as_deref(), Some("web-1"));
        assert_eq!(name(&["-name", "debug-threads=on,guest=web-1"]).as_deref(), Some("web-1"));
        assert_eq!(name(&["-name", "web 1,process=x"]).as_deref(), Some("web 1"));
        assert_eq!(name(&["-m", "64", "-name", "a", "-smp", "2"]).as_deref(), Some("a"));
    }

    #[test]
    fn commas_in_names_are_doubled() {
        assert_eq!(name(&["-name", "a,,b"]).as_deref(), Some("a,b"));
        assert_eq!(name(&["-name", "guest=a,,b,debug-threads=on"]).as_deref(), Some("a,b"));
        assert_eq!(name(&["-name", "guest=a,,,debug-threads=on"]).as_deref(), Some("a,"));
        assert_eq!(name(&["-name", "guest=x=y"]).as_deref(), Some("x=y"));
    }

    #[test]
    fn repeated_options_are_merged() {
        assert_eq!(name(&["-name", "a", "-name", "debug-threads=on"]).as_deref(), Some("a"));
        assert_eq!(name(&["-name", "debug-threads=on", "-name", "b"]).as_deref(), Some("b"));
        assert_eq!(name(&["-name", "a", "-name", "guest=b"]).as_deref(), Some("b"));
    }

    fn uuid(arguments: &[&str]) -> Option<String> {
        let cmdline: Vec<String> =
            std::iter::once(&"qemu").chain(arguments).map(|a| (*a).to_owned()).collect();
        guest_uuid(&cmdline)
    }

    #[test]
    fn the_last_uuid_counts_however_it_is_given() {
        const A: &str = "5c6fa8f7-c3f6-4b3f-b596-d16ea3912302";
        const B: &str = "7b10d7af-b932-4c66-b2c3-3996152ec465";
        let smbios = |uuid: &str| format!("type=1,manufacturer=a,,uuid=x,uuid={uuid},family=KubeVirt");
        assert_eq!(uuid(&["-uuid", A]).as_deref(), Some(A));
        assert_eq!(uuid(&["--uuid", &A.to_uppercase()]).as_deref(), Some(A));
        assert_eq!(uuid(&["-smbios", &smbios(B)]).as_deref(), Some(B));
        assert_eq!(uuid(&["-smbios", &format!("uuid={B},type=0x1")]).as_deref(), Some(B));
        assert_eq!(uuid(&["-uuid", A, "-smbios", &smbios(B)]).as_deref(), Some(B));
        assert_eq!(uuid(&["-smbios", &smbios(B), "-uuid", A]).as_deref(), Some(A));
        assert_eq!(uuid(&["-uuid", A, "-smbios", "type=1,serial=x"]).as_deref(), Some(A));
        assert_eq!(uuid(&["-uuid", A, "-smbios", &format!("type=3,uuid={B}")]).as_deref(), Some(A));
        assert_eq!(uuid(&["-uuid", A, "-uuid", "00000000-0000-0000-0000-000000000000"]), None);
        assert_eq!(uuid(&["-uuid"]), None);
        assert_eq!(uuid(&["-uuid", "x"]), None);
        assert_eq!(uuid(&["-smbios", &format!("file={B}")]), None);
        assert_eq!(uuid(&[]), None);
    }

    #[test]
    fn only_a_number_is_an_id_of_proxmox() {
        let id = |arguments: &[&str]| {
            let cmdline: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
            proxmox_id(&cmdline)
        };
        assert_eq!(id(&["/usr/bin/kvm", "-id", "100", "-name", "web"]).as_deref(), Some("100"));
        assert_eq!(id(&["/usr/bin/kvm", "-device", "x,id=3"]), None);
        assert_eq!(id(&["/usr/bin/kvm", "-id", "a"]), None);
        assert_eq!(id(&["/usr/bin/kvm", "-id"]), None);
    }

    #[test]
    fn no_name_is_none() {
        assert_eq!(name(&[]), None);
        assert_eq!(name(&["-name"]), None);
        assert_eq!(name(&["-name", ""]), None);
        assert_eq!(name(&["-name", "guest="]), None);
        assert_eq!(name(&["-name", "debug-threads=on"]), None);
        assert_eq!(name(&["-name", "process=a"]), None);
    }
}
