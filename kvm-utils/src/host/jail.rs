//! The directory that a process was jailed in.

use super::root::ProcRoot;

/// The id of the VM by the jail that Firecracker's jailer made: it moves the process into a mount namespace whose root
/// is `BASE/PROGRAM/ID/root` (docs/jailer.md there). From outside, `exe` and `root` then look as if they were in `/`;
/// mountinfo (proc(5)) still tells which directory of its file system the root is.
#[must_use]
pub fn id(proc: &ProcRoot, pid: u32) -> Option<String> {
    let mounts = proc.read(pid, "mountinfo").seen()?;
    let text = String::from_utf8_lossy(&mounts);
    let root = text.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (directory, mounted_at) = (fields.next()?, fields.next()?);
        (mounted_at == "/").then(|| directory.to_owned())
    })?;
    let mut parts = root.rsplit('/');
    (parts.next() == Some("root")).then_some(())?;
    // An id has letters, digits and hyphens (src/utils/src/validators.rs there).
    parts
        .next()
        .filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        .filter(|_| parts.next().is_some_and(|program| !program.is_empty()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_in(mountinfo: &str) -> Option<String> {
        let proc = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(proc.path().join("7")).expect("directory");
        std::fs::write(proc.path().join("7/mountinfo"), mountinfo).expect("file");
        id(&ProcRoot::at(proc.path()), 7)
    }

    #[test]
    fn the_root_of_a_jail_tells_the_id() {
        // As a process shows it after the steps that docs/jailer.md describes.
        let jail =
            "63 42 254:0 /srv/jailer/firecracker/551e7604-e35c/root / rw,relatime - ext4 /dev/vda rw\n";
        assert_eq!(id_in(jail).as_deref(), Some("551e7604-e35c"));
        let proc = "64 63 0:20 / /proc rw - proc proc rw\n";
        assert_eq!(id_in(&format!("{proc}{jail}")).as_deref(), Some("551e7604-e35c"));
    }

    #[test]
    fn any_other_root_tells_none() {
        for mountinfo in [
            "",
            "63",
            "30 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n",
            "30 1 254:0 /root / rw - ext4 /dev/vda rw\n",
            "30 1 254:0 /a/root / rw - ext4 /dev/vda rw\n",
            "30 1 254:0 /images/web/rootfs / rw - ext4 /dev/vda rw\n",
            r"30 1 254:0 /srv/fc/a\040b/root / rw - ext4 /dev/vda rw",
        ] {
            assert_eq!(id_in(mountinfo), None, "{mountinfo}");
        }
        assert_eq!(id(&ProcRoot::at("/nowhere"), 7), None);
    }
}
