//! Bochs, the emulator of the Intel lab: built once from the archive's sources, kept in the cache.
//!
//! Debian's package will not do: it is made with a debugger and a graphical display, and lacks the
//! corrections below. The BIOS comes from Debian's package, unpacked and not installed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use sha2::{Digest, Sha256};

use super::Suite;
use super::cache::Cache;
use super::mirror::{Archive, Index};
use super::packages::{self, Need};
use crate::cleanup::Group;
use crate::process::{capture, name, tie, tool};
use crate::ui;

/// The suite with Bochs 3.0: the first release whose VMX carries a Linux guest of a current KVM.
const SUITE: Suite = Suite::Trixie;

/// What building takes besides the lab's own needs.
const NEEDS: [Need; 3] = [Need::new("g++", "g++"), Need::new("make", "make"), Need::new("tar", "tar")];

/// No more devices than the lab uses, and no display.
const CONFIGURE: [&str; 12] = [
    "--enable-cpu-level=6",
    "--enable-x86-64",
    "--enable-vmx=2",
    "--enable-avx",
    // avx10 in 3.0 does not compile without it.
    "--enable-evex",
    "--enable-all-optimizations",
    "--enable-long-phy-address",
    "--enable-pci",
    "--with-nogui",
    "--without-x",
    // Its signal handler takes the log's mutex and can lock the emulator up.
    "--disable-show-ips",
    "--disable-docbook",
];

/// -O3 and -march=native gain 3 % and would tie the cache to one machine.
const COMPILER_FLAGS: &str = "-O2 -march=x86-64-v2 -fno-plt";

/// A change to the sources: in `file`, `old` becomes `new`. `old` must be there exactly once.
struct Correction {
    file: &'static str,
    old: &'static str,
    new: &'static str,
}

const CORRECTIONS: [Correction; 4] = [
    // The posted-interrupt descriptor is aligned to 64 bytes, not to a page (Intel SDM volume 3, 27.2.1.1;
    // Bochs issue 556): else entering a guest of a KVM with APICv fails.
    Correction {
        file: "cpu/vmx.cc",
        old: "if (! IsValidPageAlignedPhyAddr(vm->pid_addr)) {",
        new: "if (! IsValidPhyAddr(vm->pid_addr) || (vm->pid_addr & 0x3f) != 0) {",
    },
    // Give all memory its place at the start when there is enough: else a file that is put into memory
    // (optramimage) and is larger than a block of memory is cut apart.
    Correction { file: "memory/memory_stub.cc", old: "  if (0) {", new: "  if (host >= guest) {" },
    // stdout is the guest's.
    Correction { file: "main.cc", old: "  bx_print_header();\n\n  SIM->", new: "  SIM->" },
    // One system call per byte is slow: the guest says with port 0xea when its output is to appear.
    Correction {
        file: "iodev/unmapped.cc",
        old: "        putchar(value);\n        fflush(stdout);\n      }\n      break;\n",
        new: "        putchar(value);\n      }\n      break;\n\n    case 0xea:\n      fflush(stdout);\n      break;\n",
    },
];

/// A built emulator.
pub(crate) struct Bochs {
    dir: PathBuf,
}

/// The emulator's file in its directory.
const PROGRAM: &str = "bochs";
/// The BIOS's name. Bochs knows its BIOS by this name and treats others as QEMU's.
pub(crate) const BIOS: &str = "BIOS-bochs-latest";

impl Bochs {
    pub(crate) fn program(&self) -> PathBuf {
        self.dir.join(PROGRAM)
    }

    pub(crate) fn bios(&self) -> PathBuf {
        self.dir.join(BIOS)
    }
}

/// The emulator from the cache, or built now, which takes about two minutes.
///
/// # Errors
/// When the sources cannot be had or are not those the corrections are for, and when they do not compile.
pub(crate) fn prepare(cache: &Cache) -> Result<Bochs> {
    let dir = cache.path("bochs").join(key());
    let bochs = Bochs { dir };
    let _lock = cache.lock("bochs")?;
    if !bochs.dir.exists() {
        packages::ensure(&NEEDS)?;
        let start = Instant::now();
        cache.publish(&bochs.dir, |dir| build(cache, dir)).context("cannot build the Bochs emulator")?;
        ui::step(format_args!("built Bochs in {}", ui::elapsed(start.elapsed())));
        sweep(&bochs.dir);
    }
    Ok(bochs)
}

/// Names the build by all that shapes it.
fn key() -> String {
    let mut key = Sha256::new();
    let mut add = |part: &str| key.update(Sha256::digest(part));
    add(&SUITE.to_string());
    add(COMPILER_FLAGS);
    CONFIGURE.iter().for_each(|flag| add(flag));
    for correction in &CORRECTIONS {
        [correction.file, correction.old, correction.new].iter().for_each(|part| add(part));
    }
    format!("{:x}", key.finalize())[..16].to_owned()
}

/// Removes what earlier versions of this file built.
fn sweep(current: &Path) {
    let siblings = current.parent().and_then(|dir| fs::read_dir(dir).ok());
    for sibling in siblings.into_iter().flatten().flatten() {
        if sibling.path() != current {
            let _ = fs::remove_dir_all(sibling.path());
        }
    }
}

fn build(cache: &Cache, out: &Path) -> Result<()> {
    let temp = cache.temp_dir()?;
    ui::step(format_args!("looking for the sources of Bochs in Debian {SUITE}"));
    let archive = Archive::fetch(SUITE, Index::Source, temp.path())?;
    let tarball = archive.download(&archive.source("bochs")?, temp.path())?;
    let archive = Archive::fetch(SUITE, Index::Binary, temp.path())?;
    let bios = archive.download(&archive.package("bochsbios")?, temp.path())?;

    let unpacked = temp.path().join("bios");
    capture(tool("dpkg-deb").arg("-x").arg(&bios).arg(&unpacked))?;
    copy(&unpacked.join("usr/share/bochs").join(BIOS), &out.join(BIOS))?;

    let source = temp.path().join("source");
    fs::create_dir(&source)?;
    capture(tool("tar").args(["--strip-components=1", "-C"]).arg(&source).arg("-xf").arg(&tarball))?;
    for correction in &CORRECTIONS {
        correction.apply(&source)?;
    }
    compile(&source)?;
    copy(&source.join(PROGRAM), &out.join(PROGRAM))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

impl Correction {
    fn apply(&self, source: &Path) -> Result<()> {
        let path = source.join(self.file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let corrected = self.replace(&text)?;
        fs::write(&path, corrected).with_context(|| format!("cannot write {}", path.display()))
    }

    fn replace(&self, text: &str) -> Result<String> {
        ensure!(
            text.matches(self.old).count() == 1,
            "the archive's Bochs is not the one the corrections in xtask are for: {} does not have {:?} once",
            self.file,
            self.old.trim()
        );
        Ok(text.replacen(self.old, self.new, 1))
    }
}

fn compile(source: &Path) -> Result<()> {
    ui::step("configuring Bochs");
    let mut configure = Command::new("./configure");
    configure.args(CONFIGURE).current_dir(source);
    configure.env("CFLAGS", COMPILER_FLAGS).env("CXXFLAGS", COMPILER_FLAGS).env("LC_ALL", "C");
    follow(configure, &source.join("configure.log"), |_| ())?;

    let jobs = available_parallelism().map_or(1, usize::from).to_string();
    let plan = capture(make(source).arg("-n"))?;
    let total = plan.lines().filter(|line| is_compilation(line)).count().max(1);
    ui::step(format_args!("compiling Bochs: {total} files on {jobs} CPUs, once, a minute or two"));
    let mut command = make(source);
    command.args(["-j", &jobs]);
    let mut done = 0;
    follow(command, &source.join("make.log"), |line| {
        if is_compilation(line) {
            done += 1;
            // A line for each tenth: progress on a terminal and in a log alike.
            if done * 10 / total > (done - 1) * 10 / total && done < total {
                ui::step(format_args!("compiling Bochs: {done} of {total} files"));
            }
        }
    })
}

/// Runs a command that may start many others, in a process group that ends with this process, and hands on the
/// lines it prints. An error quotes what went to its stderr.
fn follow(mut command: Command, log: &Path, mut each: impl FnMut(&str)) -> Result<()> {
    let name = name(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(log)?).process_group(0);
    tie(&mut command, Signal::KILL);
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).map(Group::of);
    let stdout = child.stdout.take().with_context(|| format!("{name} has no stdout"))?;
    for line in BufReader::new(stdout).split(b'\n') {
        each(&String::from_utf8_lossy(&line.with_context(|| format!("cannot read what {name} prints"))?));
    }
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    if let Some(group) = group {
        group.release();
    }
    if !status.success() {
        let text = fs::read_to_string(log).unwrap_or_default();
        let errors: Vec<_> = text.lines().filter(|line| line.contains("rror")).take(5).collect();
        bail!("{name} failed ({status}): {}", errors.join("; "));
    }
    Ok(())
}

fn make(source: &Path) -> Command {
    let mut make = tool("make");
    make.current_dir(source).arg("bochs");
    // Set by a make around this process, and not for this one.
    make.env_remove("MAKEFLAGS").env_remove("MFLAGS").env_remove("CARGO_MAKEFLAGS");
    make
}

/// Whether a line that make prints compiles one file.
fn is_compilation(line: &str) -> bool {
    line.split_whitespace().any(|word| word == "-c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_fits_exactly_once() {
        let correction = Correction { file: "a.cc", old: "if (0) {", new: "if (1) {" };
        assert_eq!(correction.replace("x if (0) { y").unwrap(), "x if (1) { y");
        let error = correction.replace("nothing").unwrap_err().to_string();
        assert!(error.contains("a.cc") && error.contains("if (0) {"), "{error}");
        assert!(correction.replace("if (0) { if (0) {").is_err());
    }

    #[test]
    fn the_key_is_a_directory_name_and_repeats() {
        assert_eq!(key(), key());
        assert!(key().len() == 16 && key().chars().all(|c| c.is_ascii_hexdigit()));
    }

    #[test]
    fn a_failed_command_quotes_its_errors() {
        let log = std::env::temp_dir().join(format!("xtask-bochs-{}", std::process::id()));
        let mut lines = Vec::new();
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "echo one; echo two; echo 'a.cc:1: error: no' >&2; echo 'make: *** Error 1' >&2; exit 2",
        ]);
        let error = follow(shell, &log, |line| lines.push(line.to_owned())).unwrap_err().to_string();
        assert!(error.contains("a.cc:1: error: no; make: *** Error 1"), "{error}");
        assert_eq!(lines, ["one", "two"]);
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn compilations_are_counted_and_links_are_not() {
        assert!(is_compilation("g++ -c -I.. -O2 vmx.cc -o vmx.o"));
        assert!(!is_compilation("g++ -o bochs -O2 main.o -lm"));
        assert!(!is_compilation("cd cpu && make libcpu.a"));
    }
}
