//! The root of the Intel lab, which has no way to this machine's files: an initramfs with the modules, busybox
//! and all that the command uses, at the paths they have here.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::{Output, Request, Size, carry, initramfs, port_e9, script};
use crate::process::{capture, find, tool};

const INIT: &str = concat!(include_str!("init-head.sh"), include_str!("init-carried.sh"));

const MODULES: [&str; 2] = ["kvm_intel", "msr"];

/// Directories that are links on a merged-/usr system; they are then here too, before anything goes in.
const TOP: [&str; 4] = ["/bin", "/sbin", "/lib", "/lib64"];

/// The initramfs of one run. Relative paths in the request start at `root`, where the command does.
///
/// # Errors
/// When a file to carry is missing, is no file, or its libraries cannot be told.
pub(crate) fn image(request: &Request, root: &Path, kernel: &Kernel, output: &Output<'_>) -> Result<Archive> {
    let mut archive = Archive::default();
    for dir in ["/proc", "/sys", "/dev", "/mod", "/lab", "/usr/bin", "/usr/sbin"] {
        archive.dir(dir);
    }
    for dir in TOP.map(Path::new).into_iter().filter(|dir| dir.exists()) {
        if dir.is_symlink() {
            archive.link(&dir.to_string_lossy(), fs::read_link(dir)?);
        } else {
            archive.dir(&dir.to_string_lossy());
        }
    }
    archive.copy(Path::new(initramfs::BUSYBOX))?;
    archive.file("/init", 0o755, INIT);

    let modules = initramfs::modules(kernel, &MODULES)?;
    let list: String = modules.iter().map(|(name, _)| format!("{name}\n")).collect();
    archive.file("/mod/list", 0o644, list);
    for (name, data) in modules {
        archive.file(&format!("/mod/{name}"), 0o644, without_signature(&data));
    }

    let (terminal, size) = match output {
        _ if request.interactive => (1, Size::default()),
        Output::Terminal(size) => (1, *size),
        Output::Lines(_) | Output::Stdout => (0, Size::default()),
    };
    let config = format!("lab_terminal={terminal}\nlab_rows={}\nlab_columns={}\n", size.rows, size.columns);
    archive.file("/lab/config", 0o644, config);
    archive.file("/lab/command", 0o755, script::command(request, root));
    archive.file("/lab/port-e9", 0o755, port_e9::elf());

    let applets = capture(tool(initramfs::BUSYBOX).arg("--list"))?;
    for file in program(request, &applets).into_iter().chain(request.carry.iter().cloned()) {
        add(&mut archive, &resolve(&file, root))?;
    }
    Ok(archive)
}

/// The file that is the command's program: a path as it is, a bare name as this machine's PATH has it. None
/// where busybox will do, or where nothing is found, which the lab's shell will say.
fn program(request: &Request, applets: &str) -> Option<PathBuf> {
    let Some(program) = request.command.first() else { return find("bash") };
    if program.as_bytes().contains(&b'/') {
        return Some(program.into());
    }
    let name = program.to_str()?;
    if applets.lines().any(|applet| applet == name) {
        return None;
    }
    find(name)
}

/// A path from `root` on; a bare name that is no file there is a program's, as this machine's PATH has it.
fn resolve(file: &Path, root: &Path) -> PathBuf {
    let path = root.join(file);
    let name = file.to_str().filter(|name| !name.contains('/') && !path.exists());
    name.and_then(find).unwrap_or(path)
}

/// A directory, a program with its libraries, or any other file.
fn add(archive: &mut Archive, path: &Path) -> Result<()> {
    let metadata =
        fs::metadata(path).with_context(|| format!("cannot carry {} into the lab", path.display()))?;
    if metadata.is_dir() {
        return archive.copy(path);
    }
    ensure!(
        metadata.is_file(),
        "cannot carry {} into the lab: it is no file and no directory",
        path.display()
    );
    if rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() {
        carry::program(archive, path)
    } else {
        archive.copy(path)
    }
}

/// A module without the signature behind it (kernel: scripts/sign-file.c, `struct module_signature`), whose check
/// takes an interpreting emulator longer than the rest of the load. A kernel that does not enforce
/// signatures, as Debian's without secure boot, loads it all the same.
fn without_signature(module: &[u8]) -> &[u8] {
    const MAGIC: &[u8] = b"~Module signature appended~\n";
    /// `sig_len`, big-endian, is the last of the structure's 12 bytes.
    const INFO: usize = 12;
    let stripped = module.strip_suffix(MAGIC).and_then(|rest| {
        let length = u32::from_be_bytes(*rest.last_chunk()?);
        rest.get(..rest.len().checked_sub(INFO + usize::try_from(length).ok()?)?)
    });
    stripped.unwrap_or(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(program: &str) -> Request {
        Request { command: vec![program.into()], ..Request::default() }
    }

    #[test]
    fn a_signature_goes_and_nothing_else() {
        let mut signed = b"\x7fELF module".to_vec();
        signed.extend([9; 300]);
        signed.extend([0, 0, 2, 0, 0, 0, 0, 0]);
        signed.extend(300_u32.to_be_bytes());
        signed.extend(b"~Module signature appended~\n");
        assert_eq!(without_signature(&signed), b"\x7fELF module");
        assert_eq!(without_signature(b"\x7fELF module"), b"\x7fELF module");
        // a length that cannot be
        let broken = b"1234567\xff\xff\xff\xff~Module signature appended~\n";
        assert_eq!(without_signature(broken), broken);
    }

    #[test]
    fn a_bare_name_is_a_program_unless_there_is_such_a_file() {
        assert_eq!(resolve(Path::new("sh"), Path::new("/no/root")), find("sh").unwrap());
        assert_eq!(resolve(Path::new("sh"), Path::new("/bin")), Path::new("/bin/sh"));
        assert_eq!(resolve(Path::new("a/sh"), Path::new("/r")), Path::new("/r/a/sh"));
        assert_eq!(resolve(Path::new("/etc/x"), Path::new("/r")), Path::new("/etc/x"));
    }

    #[test]
    fn the_program_is_a_path_or_found() {
        let applets = "sh\nuname\n";
        assert_eq!(program(&request("target/x"), applets), Some("target/x".into()));
        assert_eq!(program(&request("uname"), applets), None);
        assert_eq!(program(&request("ldd"), applets), find("ldd"));
        assert_eq!(program(&request("no-such-program"), applets), None);
    }
}
