//! `cargo xtask dist`: what is given to users. Two static programs with their manual pages and completions, as an archive and
//! as a Debian package, with checksums.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::lab::packages::{self, Need};
use crate::process::{capture, tool};
use crate::project::Project;
use crate::release::{self, Release};
use crate::ui;

/// Where everything goes, below cargo's target directory.
const DIST: &str = "dist";

/// What makes a .deb, and what sees that a static program is one.
const NEEDS: [Need; 2] = [Need::new("dpkg-deb", "dpkg"), Need::new("readelf", "binutils")];

/// A program may be no larger, bytes.
const SIZE_MAX: u64 = 8 << 20;

/// `cargo xtask dist`.
pub(crate) fn main() -> Result<ExitCode> {
    packages::ensure(&NEEDS)?;
    let project = Project::locate()?;
    let version = Version::of(&project)?;
    let release = release::build_as(&project, &version.told())?;
    let dist = project.target.join(DIST);
    let _ = fs::remove_dir_all(&dist);
    let name = format!("kvm-utils-{}-x86_64-linux", version.number);
    let tree = dist.join(&name);
    stage(&project, &release, &tree)?;
    let archive = dist.join(format!("{name}.tar.gz"));
    pack(&tree, &archive, version.time)?;
    let package = dist.join(format!("kvm-utils_{}_amd64.deb", version.debian()));
    debian(&project, &tree, &dist.join("deb"), &package, &version)?;
    let sums: Result<String> = [&archive, &package].into_iter().map(|file| checksum(file)).collect();
    fs::write(dist.join("SHA256SUMS"), sums?)?;
    for file in [&archive, &package] {
        let size = fs::metadata(file)?.len();
        ui::step(format_args!("{} ({:.1} MiB)", file.display(), size as f64 / f64::from(1 << 20)));
    }
    ui::step(format_args!(
        "kvm-utils {}: done, checksums in {}",
        version.told(),
        dist.join("SHA256SUMS").display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Sees that everything that is given to users can be made, and what is in the package; `cargo xtask test` does so.
pub(crate) fn rehearse(project: &Project) -> Result<()> {
    packages::ensure(&NEEDS)?;
    let directory = project.target.join("dist-rehearsal");
    let _ = fs::remove_dir_all(&directory);
    let (tree, package) = (directory.join("tree"), directory.join("kvm-utils.deb"));
    stage(project, &release::build(project)?, &tree)?;
    for (_, to) in CONTRIB {
        ensure!(tree.join(to).exists(), "there is no {to}");
    }
    let unit = fs::read_to_string(tree.join(CONTRIB[0].1))?;
    ensure!(
        unit.contains("ExecStart=/usr/bin/kvm-utils export "),
        "the unit does not start what is installed"
    );
    debian(project, &tree, &directory.join("deb"), &package, &Version::of(project)?)?;
    let listed = capture(tool("dpkg-deb").arg("--contents").arg(&package))?;
    let has = |path: &str| listed.lines().any(|line| line.ends_with(&format!(" ./usr/{path}")));
    let mut wanted = Vec::new();
    for program in ["kvm-utils", "kvm-bench"] {
        wanted.push(format!("bin/{program}"));
        wanted.push(format!("share/man/man1/{program}.1.gz"));
        // A page for the program, and one for each line of its commands.
        let help = capture(Command::new(tree.join("bin").join(program)).arg("--help"))?;
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let names = commands.take_while(|line| line.starts_with("  ")).filter_map(|line| {
            line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty() && *name != "help")
        });
        let names: Vec<&str> = names.collect();
        ensure!(names.len() > 5, "the help of {program} lists {} commands", names.len());
        wanted.extend(names.iter().map(|name| format!("share/man/man1/{program}-{name}.1.gz")));
        let completions = [
            format!("share/bash-completion/completions/{program}"),
            format!("share/zsh/vendor-completions/_{program}"),
            format!("share/fish/vendor_completions.d/{program}.fish"),
        ];
        for path in &completions {
            let text = fs::read_to_string(tree.join(path)).with_context(|| format!("there is no {path}"))?;
            for name in &names {
                ensure!(text.contains(name), "{path} does not complete {name}");
            }
        }
        wanted.extend(completions);
    }
    wanted
        .extend(["copyright", "changelog.gz", "README.md"].map(|name| format!("share/doc/kvm-utils/{name}")));
    for path in wanted {
        ensure!(has(&path), "the package has no usr/{path}");
    }
    fs::remove_dir_all(&directory).context("cannot remove what was tried")
}

/// Whom the package's description names.
const MAINTAINER: &str = "the developers of kvm-utils <kvm-utils@users.noreply.invalid>";

/// Which state of the project this is.
struct Version {
    /// Of the package, such as 0.1.0.
    number: String,
    /// The commit, with `-dirty` if there is more than is committed; None without git.
    revision: Option<String>,
    /// When that was, seconds since 1970, so that the same commit gives the same files.
    time: u64,
}

impl Version {
    fn of(project: &Project) -> Result<Self> {
        let git = |words: &[&str]| {
            capture(tool("git").current_dir(&project.root).args(words))
                .ok()
                .map(|text| text.trim().to_owned())
        };
        let revision = git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
        let time = git(&["log", "-1", "--format=%ct"]).and_then(|time| time.parse().ok()).unwrap_or(0);
        Ok(Self { number: env!("CARGO_PKG_VERSION").to_owned(), revision, time })
    }

    /// As `--version` tells it.
    fn told(&self) -> String {
        match &self.revision {
            Some(revision) => format!("{} ({revision})", self.number),
            None => self.number.clone(),
        }
    }

    /// As Debian sorts it (deb-version(7)): commits of the same day are told apart, not ordered.
    fn debian(&self) -> String {
        match &self.revision {
            Some(revision) => format!("{}+git{}", self.number, revision.replace('-', "+")),
            None => self.number.clone(),
        }
    }

    /// The package's own changelog (deb-changelog(5)).
    fn changelog(&self) -> Result<String> {
        let seconds = format!("@{}", self.time);
        let day = capture(tool("date").args(["--utc", "--rfc-email", "--date", &seconds]))?;
        Ok(format!(
            "kvm-utils ({}) unstable; urgency=medium\n\n  * What changed is in CHANGELOG.md.\n\n -- {MAINTAINER}  {}\n",
            self.debian(),
            day.trim()
        ))
    }
}

/// What goes with the programs, from contrib/ to below the prefix. The unit is where systemd.unit(5) has those of packages.
const CONTRIB: [(&str, &str); 4] = [
    ("systemd/kvm-utils-exporter.service", "lib/systemd/system/kvm-utils-exporter.service"),
    ("prometheus/kvm-utils.rules.yml", "share/doc/kvm-utils/prometheus/kvm-utils.rules.yml"),
    ("prometheus/kvm-utils.rules.test.yml", "share/doc/kvm-utils/prometheus/kvm-utils.rules.test.yml"),
    ("grafana/kvm-utils.json", "share/doc/kvm-utils/grafana/kvm-utils.json"),
];

/// Lays out what is installed below a prefix.
fn stage(project: &Project, release: &Release, tree: &Path) -> Result<()> {
    let (bin, doc) = (tree.join("bin"), tree.join("share/doc/kvm-utils"));
    for directory in [&bin, &doc] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    for program in [&release.kvm_utils, &release.kvm_bench] {
        check(program)?;
        let name = program.file_name().context("a program without a name")?;
        fs::copy(program, bin.join(name))?;
    }
    let made = tree.join("made");
    capture(Command::new(release.lab.with_file_name("manual")).arg(&made))?;
    let share = tree.join("share");
    fs::create_dir_all(share.join("man"))?;
    fs::rename(made.join("man"), share.join("man/man1"))?;
    for (suffix, directory) in [
        ("bash", "bash-completion/completions"),
        ("fish", "fish/vendor_completions.d"),
        ("", "zsh/vendor-completions"),
    ] {
        fs::create_dir_all(share.join(directory))?;
        for entry in fs::read_dir(made.join("completions"))?.flatten() {
            let file = entry.path();
            if file.extension().unwrap_or_default() == suffix {
                // bash looks for the program's own name.
                let name = if suffix == "bash" { file.file_stem() } else { file.file_name() };
                fs::copy(&file, share.join(directory).join(name.unwrap_or_default()))?;
            }
        }
    }
    fs::remove_dir_all(made)?;
    for (from, to) in [
        ("README.md", "README.md"),
        ("CHANGELOG.md", "CHANGELOG.md"),
        ("LICENSE-MIT", "LICENSE-MIT"),
        ("LICENSE-APACHE", "LICENSE-APACHE"),
        ("kvm-utils-ebpf/LICENSE.md", "LICENSE-eBPF.md"),
        ("docs/export.md", "export.md"),
    ] {
        fs::copy(project.root.join(from), doc.join(to)).with_context(|| format!("cannot copy {from}"))?;
    }
    for (from, to) in CONTRIB {
        let to = tree.join(to);
        fs::create_dir_all(to.parent().context("no directory")?)?;
        fs::copy(project.root.join("contrib").join(from), to)
            .with_context(|| format!("cannot copy {from}"))?;
    }
    Ok(())
}

/// One static file, and not a large one.
fn check(program: &Path) -> Result<()> {
    let size = fs::metadata(program).with_context(|| format!("cannot read {}", program.display()))?.len();
    if size > SIZE_MAX {
        bail!("{} has {size} bytes, more than {SIZE_MAX}", program.display());
    }
    // An interpreter is the dynamic linker: System V ABI, PT_INTERP.
    if capture(tool("readelf").arg("--program-headers").arg(program))?.contains("INTERP") {
        bail!("{} is not static: is .cargo/config.toml overridden?", program.display());
    }
    Ok(())
}

fn pack(tree: &Path, archive: &Path, time: u64) -> Result<()> {
    let (parent, name) = (tree.parent().context("no directory")?, tree.file_name().context("no name")?);
    let mut tar = tool("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"]);
    tar.arg(format!("--mtime=@{time}")).arg("--create").arg("--file").arg(archive);
    tar.args(["--use-compress-program", "gzip --no-name -9", "--directory"]).arg(parent).arg(name);
    capture(&mut tar).map(drop)
}

/// What Debian's policy asks for beside the files themselves: manual pages and changelog compressed (12.1, 12.7), the
/// licences in `copyright` (12.5), checksums of all files for `dpkg --verify`.
fn debian(project: &Project, tree: &Path, root: &Path, package: &Path, version: &Version) -> Result<()> {
    fs::create_dir_all(root.join("DEBIAN"))?;
    fs::create_dir_all(root.join("usr"))?;
    for part in ["bin", "lib", "share"] {
        capture(tool("cp").arg("--recursive").arg(tree.join(part)).arg(root.join("usr")))?;
    }
    let (share, doc) = (root.join("usr/share"), root.join("usr/share/doc/kvm-utils"));
    for licence in files(&doc)?.iter().filter(|file| file.to_string_lossy().contains("LICENSE-")) {
        fs::remove_file(licence)?;
    }
    fs::write(doc.join("copyright"), copyright(project)?)?;
    fs::write(doc.join("changelog"), version.changelog()?)?;
    let overrides = share.join("lintian/overrides");
    fs::create_dir_all(&overrides)?;
    // One file that runs on every host and in every guest is what this is about.
    let on_purpose =
        ["kvm-utils", "kvm-bench"].map(|p| format!("kvm-utils: statically-linked-binary [usr/bin/{p}]\n"));
    fs::write(overrides.join("kvm-utils"), on_purpose.concat())?;
    let mut compressed = files(&share.join("man"))?;
    compressed.push(doc.join("changelog"));
    capture(tool("gzip").args(["--no-name", "-9"]).args(compressed))?;
    capture(tool("chmod").args(["--recursive", "u=rwX,go=rX"]).arg(root))?;

    let installed = files(&root.join("usr"))?;
    let size: u64 = installed.iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum();
    let mut names: Vec<&Path> = installed.iter().filter_map(|file| file.strip_prefix(root).ok()).collect();
    names.sort();
    let sums = capture(tool("md5sum").current_dir(root).args(names))?;
    fs::write(root.join("DEBIAN/md5sums"), sums)?;
    let control = format!(
        "Package: kvm-utils\nVersion: {}\nArchitecture: amd64\nMaintainer: {MAINTAINER}\n\
         Installed-Size: {}\nSection: admin\nPriority: optional\n\
         Description: trace and time the VM exits of KVM guests, measure what they cost\n \
         kvm-utils counts and times every VM exit of the guests on a host and tells why they happen.\n .\n \
         kvm-bench measures inside a guest what each trip out of it costs.\n",
        version.debian(),
        size.div_ceil(1024)
    );
    fs::write(root.join("DEBIAN/control"), control)?;
    let mut build = tool("dpkg-deb");
    build.env("SOURCE_DATE_EPOCH", version.time.to_string());
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(root).arg(package);
    capture(&mut build)?;
    fs::remove_dir_all(root).context("cannot remove what the package was built from")
}

/// The licences, in the form that programs read too
/// (<https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>).
fn copyright(project: &Project) -> Result<String> {
    let mut text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
                    Upstream-Name: kvm-utils\n\n\
                    Files: *\nCopyright: the developers of kvm-utils\nLicense: Expat or Apache-2.0\n\n\
                    Files: kvm-utils-ebpf/*\nCopyright: the developers of kvm-utils\nLicense: GPL-2 or Expat\n\
                    Comment: The eBPF object, which is part of the program kvm-utils.\n"
        .to_owned();
    let mit = fs::read_to_string(project.root.join("LICENSE-MIT")).context("cannot read LICENSE-MIT")?;
    text.push_str("\nLicense: Expat\n");
    for line in mit.lines() {
        text.push_str(&if line.trim().is_empty() { " .\n".to_owned() } else { format!(" {line}\n") });
    }
    for (name, file) in [("Apache-2.0", "Apache-2.0"), ("GPL-2", "GPL-2")] {
        text.push_str(&format!(
            "\nLicense: {name}\n On Debian systems the text is in /usr/share/common-licenses/{file}.\n"
        ));
    }
    Ok(text)
}

/// All files below a directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { all.extend(files(&path)?) } else { all.push(path) }
    }
    Ok(all)
}

/// A line as `sha256sum --check` reads it.
fn checksum(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{:x}  {name}\n", Sha256::digest(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_tells_its_commit() {
        let version = |revision: Option<&str>| Version {
            number: "0.1.0".into(),
            revision: revision.map(str::to_owned),
            time: 0,
        };
        assert_eq!(version(Some("abc-dirty")).told(), "0.1.0 (abc-dirty)");
        assert_eq!(version(Some("abc-dirty")).debian(), "0.1.0+gitabc+dirty");
        assert_eq!((version(None).told(), version(None).debian()), ("0.1.0".into(), "0.1.0".into()));
    }
}
