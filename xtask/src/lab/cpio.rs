//! A writer for the `newc` cpio format, which the kernel unpacks as initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel tree).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// How many symbolic links a host path may go through, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

enum Node {
    Dir,
    File { mode: u32, data: Vec<u8> },
    Link(PathBuf),
}

/// The files of an initramfs. Paths are absolute, parents appear by themselves, the last writer of a path wins.
#[derive(Default)]
pub(crate) struct Archive {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Archive {
    /// An empty directory.
    pub(crate) fn dir(&mut self, path: &str) -> &mut Self {
        self.insert(Path::new(path), Node::Dir);
        self
    }

    /// A file with the given permission bits.
    pub(crate) fn file(&mut self, path: &str, mode: u32, data: impl Into<Vec<u8>>) -> &mut Self {
        self.insert(Path::new(path), Node::File { mode, data: data.into() });
        self
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: impl Into<PathBuf>) -> &mut Self {
        self.insert(Path::new(path), Node::Link(target.into()));
        self
    }

    /// Copies a file or a whole directory of this machine to the same absolute path, keeping the symbolic
    /// links on the way (`/lib -> usr/lib`), so that a program finds what it finds here.
    pub(crate) fn copy(&mut self, host: &Path) -> Result<()> {
        self.copy_following(host, 0)
    }

    fn copy_following(&mut self, host: &Path, links: usize) -> Result<()> {
        if links > MAX_LINKS {
            bail!("cannot carry {} into the lab: too many symbolic links", host.display());
        }
        let mut path = PathBuf::from("/");
        let mut components = host.components();
        while let Some(component) = components.next() {
            match component {
                Component::RootDir | Component::CurDir => continue,
                Component::ParentDir => {
                    path.pop();
                    continue;
                }
                Component::Normal(name) => path.push(name),
                Component::Prefix(_) => bail!("{} is no path of this system", host.display()),
            }
            let metadata = std::fs::symlink_metadata(&path)
                .with_context(|| format!("cannot carry {} into the lab", host.display()))?;
            if metadata.is_symlink() {
                let target = std::fs::read_link(&path)?;
                self.insert(&path, Node::Link(target.clone()));
                path.pop();
                return self.copy_following(&path.join(target).join(components.as_path()), links + 1);
            }
        }
        self.copy_resolved(&path)
    }

    /// Copies `path`, none of whose parents is a symbolic link.
    fn copy_resolved(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() {
            self.insert(path, Node::Dir);
            let entries =
                std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
            for entry in entries {
                let entry = entry?.path();
                // A link that leads nowhere is as useless there as here.
                if entry.exists() {
                    self.copy(&entry)?;
                }
            }
            return Ok(());
        }
        let data = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mode = std::fs::metadata(path)?.permissions().mode() & 0o7777;
        self.insert(path, Node::File { mode, data });
        Ok(())
    }

    fn insert(&mut self, path: &Path, node: Node) {
        for parent in path.ancestors().skip(1).filter(|parent| parent.parent().is_some()) {
            self.nodes.entry(parent.to_owned()).or_insert(Node::Dir);
        }
        // A directory that is already known by its files stays as it is.
        match (self.nodes.get(path), &node) {
            (Some(Node::Link(_)), Node::Dir) => {}
            _ => drop(self.nodes.insert(path.to_owned(), node)),
        }
    }

    /// Writes the archive; the same files give the same bytes.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        // Parents sort before their children, as the kernel needs it.
        for (inode, (path, node)) in (1u32..).zip(&self.nodes) {
            let name = path.strip_prefix("/").unwrap_or(path).as_os_str();
            match node {
                Node::Dir => entry(out, inode, S_IFDIR | 0o755, name, &[])?,
                Node::File { mode, data } => entry(out, inode, S_IFREG | mode, name, data)?,
                Node::Link(target) => {
                    entry(out, inode, S_IFLNK | 0o777, name, target.as_os_str().as_bytes())?;
                }
            }
        }
        entry(out, 0, 0, OsStr::new("TRAILER!!!"), &[])
    }

    /// The archive in memory.
    pub(crate) fn to_vec(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }
}

/// One entry: a header of thirteen 8-digit hex numbers, the name, the data, each padded to 4 bytes.
fn entry(out: &mut impl Write, inode: u32, mode: u32, name: &OsStr, data: &[u8]) -> io::Result<()> {
    const HEADER: usize = 6 + 13 * 8;
    let size =
        u32::try_from(data.len()).map_err(|_| io::Error::other("a file of 4 GiB or more in a cpio"))?;
    let links = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
    write!(out, "070701{inode:08X}{mode:08X}{:08X}{:08X}{links:08X}{:08X}{size:08X}", 0, 0, 0)?;
    write!(out, "{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}", 0, 0, 0, 0, name.len() + 1, 0)?;
    out.write_all(name.as_bytes())?;
    out.write_all(&[0])?;
    pad(out, HEADER + name.len() + 1)?;
    out.write_all(data)?;
    pad(out, data.len())
}

fn pad(out: &mut impl Write, length: usize) -> io::Result<()> {
    out.write_all(&[0; 3][..length.next_multiple_of(4) - length])
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn an_archive_is_padded_and_sorted() {
        let mut archive = Archive::default();
        archive.file("/lab/a b", 0o644, "hello").link("/bin/sh", "busybox");
        let bytes = archive.to_vec().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let position = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name} missing"));
        assert!(position("bin\0") < position("bin/sh\0"));
        assert!(position("lab\0") < position("lab/a b\0"));
        assert!(text.starts_with("070701"));
        // mode and size of the file, at their places in the header
        let header = position("lab/a b\0") - 110;
        assert_eq!(&text[header + 14..header + 22], "000081A4");
        assert_eq!(&text[header + 54..header + 62], "00000005");
    }

    /// The reference reader agrees, where it is installed.
    #[test]
    fn cpio_reads_it_back() {
        let Ok(mut cpio) = Command::new("cpio")
            .arg("-itv")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            return;
        };
        let mut archive = Archive::default();
        archive.dir("/proc").file("/init", 0o755, vec![7; 4097]).link("/bin/sh", "busybox");
        cpio.stdin.take().unwrap().write_all(&archive.to_vec().unwrap()).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        assert!(
            listing
                .lines()
                .any(|l| l.starts_with("-rwxr-xr-x") && l.contains(" 4097 ") && l.ends_with(" init"))
        );
        assert!(listing.lines().any(|l| l.starts_with('l') && l.ends_with("bin/sh -> busybox")));
        assert!(listing.lines().any(|l| l.starts_with('d') && l.ends_with(" proc")));
    }

    #[test]
    fn a_copy_keeps_the_links_on_its_way() {
        let dir = std::env::temp_dir().join(format!("xtask-cpio-{}", std::process::id()));
        let real = dir.join("real");
        std::fs::create_dir_all(&real).unwrap();
        std::fs::write(real.join("file"), "x").unwrap();
        let _ = std::os::unix::fs::symlink("real", dir.join("alias"));
        let mut archive = Archive::default();
        archive.copy(&dir.join("alias/file")).unwrap();
        assert!(matches!(&archive.nodes[&dir.join("alias")], Node::Link(to) if to == Path::new("real")));
        assert!(matches!(&archive.nodes[&real.join("file")], Node::File { data, .. } if data == b"x"));
        assert!(archive.copy(&dir.join("nothing")).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
