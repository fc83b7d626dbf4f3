//! A Debian archive, found and read through the machine's own apt: its mirror, its proxies, its checks.
//!
//! Trust runs as in apt: a signature over the Release file, which has the hash of the package index,
//! which has the hash of every package.

use std::collections::BTreeSet;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Suite;
use crate::process::{capture, find, tool};
use crate::ui;

/// apt's own downloader (package apt).
const HELPER: &str = "/usr/lib/apt/apt-helper";
/// The keys of the Debian archive (package debian-archive-keyring).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Which of a suite's indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Index {
    /// The packages for this architecture.
    Binary,
    /// The sources they are made from.
    Source,
}

impl Index {
    /// The index file, relative to the suite's directory.
    fn path(self) -> &'static str {
        match self {
            Self::Binary => "main/binary-amd64/Packages.xz",
            Self::Source => "main/source/Sources.xz",
        }
    }
}

/// One suite of the archive: where its files are and what they are.
pub(crate) struct Archive {
    base: String,
    index: String,
}

/// What the index says of one package, or of the original sources of one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Names in Pre-Depends and Depends, alternatives included.
    pub(crate) depends: Vec<String>,
    filename: String,
    sha256: String,
    size: u64,
}

#[cfg(test)]
impl Package {
    pub(crate) fn for_test(name: &str, depends: &[&str]) -> Self {
        let depends = depends.iter().map(|name| (*name).to_owned()).collect();
        Self {
            name: name.into(),
            version: "1".into(),
            depends,
            filename: String::new(),
            sha256: String::new(),
            size: 0,
        }
    }
}

impl Archive {
    /// Downloads and checks one of the suite's indexes, using `scratch` for its files.
    pub(crate) fn fetch(suite: Suite, index: Index, scratch: &Path) -> Result<Self> {
        let (base, release) = find_release(suite, scratch)?;
        let text = verify(&release, suite)?;
        let path = index.path();
        let hash = index_hash(&text, path)
            .with_context(|| format!("the Release file of {suite} at {base} has no SHA256 for {path}"))?;
        let file = format!("{base}/dists/{suite}/{path}");
        let dir = file.rsplit_once('/').map_or("", |(dir, _)| dir);
        let packed = scratch.join("index.xz");
        // By hash first: the plain name may already be a newer file while a mirror is being updated.
        download(&format!("{dir}/by-hash/SHA256/{hash}"), &packed, Some(&hash), false)
            .or_else(|_| download(&file, &packed, Some(&hash), true))?;
        let index = capture(tool("xz").arg("-dc").arg(&packed))?;
        Ok(Self { base, index })
    }

    /// Looks a package up.
    pub(crate) fn find(&self, name: &str) -> Option<Package> {
        parse_package(&self.index, name)
    }

    /// Looks a package up that has to be there.
    pub(crate) fn package(&self, name: &str) -> Result<Package> {
        self.find(name).with_context(|| format!("the archive's index has no usable entry for package {name}"))
    }

    /// Looks the original sources of a package up, without Debian's changes (from [`Index::Source`]).
    pub(crate) fn source(&self, name: &str) -> Result<Package> {
        parse_source(&self.index, name)
            .with_context(|| format!("the archive's index has no usable entry for the sources of {name}"))
    }

    /// Downloads a package or sources into `dir` and checks them.
    pub(crate) fn download(&self, package: &Package, dir: &Path) -> Result<PathBuf> {
        self.download_all(std::slice::from_ref(package), dir)?.pop().context("nothing was downloaded")
    }

    /// Downloads packages into `dir`, all in one go, and checks them.
    pub(crate) fn download_all(&self, packages: &[Package], dir: &Path) -> Result<Vec<PathBuf>> {
        let megabytes = packages.iter().map(|package| package.size).sum::<u64>().div_ceil(1_000_000);
        let first = packages.first().map(|package| format!("{} {}", package.name, package.version));
        let more = match packages.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        ui::step(format_args!("downloading {}{more} ({megabytes} MB)", first.unwrap_or_default()));
        let mut helper = helper(true);
        let mut files = Vec::new();
        for package in packages {
            let file = dir.join(package.filename.rsplit('/').next().unwrap_or(&package.name));
            helper.arg(format!("{}/{}", self.base, package.filename)).arg(&file);
            helper.arg(format!("SHA256:{}", package.sha256));
            files.push(file);
        }
        run(helper).with_context(|| format!("cannot download from {}", self.base))?;
        Ok(files)
    }
}

/// Finds the configured archive that has the suite, as Debian's own and not one of its side archives.
fn find_release(suite: Suite, scratch: &Path) -> Result<(String, PathBuf)> {
    let bases = bases()?;
    let mut refusals = Vec::new();
    for base in bases {
        let release = scratch.join("InRelease");
        match download(&format!("{base}/dists/{suite}/InRelease"), &release, None, false) {
            Ok(()) if is_debian(&fs::read_to_string(&release)?) => return Ok((base, release)),
            Ok(()) => refusals.push(format!("{base} is not Debian's main archive")),
            Err(error) => refusals.push(format!("{error:#}")),
        }
    }
    bail!("no archive that apt is configured with gives Debian {suite}: {}", refusals.join("; "))
}

/// The archives apt is configured with, in its order. Works before the first `apt-get update` and as any user.
fn bases() -> Result<Vec<String>> {
    let uris = capture(tool("apt-get").args(["update", "--print-uris", "-o", "Debug::NoLocking=1"]))
        .context("cannot ask apt for its mirrors")?;
    let bases = parse_bases(&uris);
    if bases.is_empty() {
        bail!(
            "apt has no package archive configured (see sources.list(5)); the lab's kernels come from there"
        );
    }
    Ok(bases)
}

fn parse_bases(uris: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    uris.lines()
        .filter_map(|line| line.strip_prefix('\'')?.split_once('\''))
        .filter(|(uri, _)| uri.ends_with("/InRelease"))
        .filter_map(|(uri, _)| uri.split_once("/dists/"))
        .map(|(base, _)| base.to_owned())
        .filter(|base| seen.insert(base.clone()))
        .collect()
}

fn is_debian(release: &str) -> bool {
    let has = |line| release.lines().take_while(|l| !l.starts_with(' ')).any(|l| l == line);
    has("Origin: Debian") && has("Label: Debian")
}

/// Downloads one file. `shown` lets apt draw its progress on a terminal.
fn download(uri: &str, file: &Path, sha256: Option<&str>, shown: bool) -> Result<()> {
    let mut helper = helper(shown);
    helper.arg(uri).arg(file).args(sha256.map(|hash| format!("SHA256:{hash}")));
    run(helper).with_context(|| format!("cannot download {uri}"))
}

/// apt's downloader with its own methods and proxies; takes URI, file and hash, as often as wanted.
fn helper(shown: bool) -> Command {
    let mut helper = tool(HELPER);
    // As root apt would drop to a user that cannot write here.
    helper.args(["-o", "APT::Sandbox::User=root"]);
    // Without a terminal a line per file is no progress but noise.
    if shown && std::io::stderr().is_terminal() {
        helper.stdout(std::io::stderr());
    } else {
        helper.stdout(Stdio::null());
    }
    helper.arg("download-file");
    helper
}

fn run(mut helper: Command) -> Result<()> {
    let output = helper.stderr(Stdio::piped()).output().with_context(|| format!("cannot start {HELPER}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!("{}", stderr.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What the signature of a Release file is worth.
#[derive(Debug, PartialEq, Eq)]
enum Signature {
    Good,
    Bad,
    /// No key on this machine can tell.
    Unknown,
}

/// Checks the signature and returns the text it covers. A bad one is an error; where nothing can check, it is said.
fn verify(release: &Path, suite: Suite) -> Result<String> {
    let all = || fs::read_to_string(release).context("cannot read the Release file");
    if find("gpgv").is_none() || !Path::new(KEYRING).exists() {
        ui::warn(format_args!(
            "the signature of Debian {suite} is not verified: packages gpgv and debian-archive-keyring are not installed"
        ));
        return all();
    }
    let signed = release.with_extension("signed");
    let mut gpgv = tool("gpgv");
    gpgv.args(["--status-fd", "1", "--keyring", KEYRING, "--output"]).arg(&signed).arg(release);
    let output = gpgv.output().context("cannot start gpgv")?;
    match judge(&String::from_utf8_lossy(&output.stdout)) {
        Signature::Good => fs::read_to_string(&signed).context("gpgv did not write the signed text"),
        Signature::Bad => bail!(
            "the Release file of Debian {suite} has a bad signature; the mirror or the way to it is broken or worse: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Signature::Unknown => {
            ui::warn(format_args!(
                "the signature of Debian {suite} is not verified: {KEYRING} lacks a valid key for it; \
                 upgrade the package debian-archive-keyring"
            ));
            all()
        }
    }
}

/// Reads gpgv's status lines (doc/DETAILS of GnuPG). Several keys sign; one good signature is enough, as for apt.
fn judge(status: &str) -> Signature {
    let has = |word: &str| {
        status
            .lines()
            .any(|line| line.strip_prefix("[GNUPG:] ").and_then(|l| l.split(' ').next()) == Some(word))
    };
    if has("BADSIG") {
        Signature::Bad
    } else if has("GOODSIG") && has("VALIDSIG") {
        Signature::Good
    } else {
        Signature::Unknown
    }
}

/// The SHA256 that a Release file gives for an index.
fn index_hash(release: &str, index: &str) -> Option<String> {
    release
        .lines()
        .skip_while(|line| *line != "SHA256:")
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find_map(|fields| match fields.as_slice() {
            [hash, _, path] if *path == index && hash.len() == 64 => Some((*hash).to_owned()),
            _ => None,
        })
}

/// The stanza of an index that is about `name`.
fn stanza<'a>(index: &'a str, name: &str) -> Option<&'a str> {
    let head = format!("Package: {name}\n");
    let start = if index.starts_with(&head) { 0 } else { index.find(&format!("\n{head}"))? + 1 };
    index[start..].split("\n\n").next()
}

/// Reads one stanza of a Sources file: the `.orig.tar` among the files it lists with hash and size.
fn parse_source(index: &str, name: &str) -> Option<Package> {
    let stanza = stanza(index, name)?;
    let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let files = stanza.lines().skip_while(|line| line.trim_end() != "Checksums-Sha256:").skip(1);
    let files = files.take_while(|line| line.starts_with(' '));
    files.map(|line| line.split_whitespace().collect::<Vec<_>>()).find_map(|fields| match fields.as_slice() {
        [hash, size, file] if file.contains(".orig.tar.") && !file.ends_with(".asc") => Some(Package {
            name: name.to_owned(),
            version: field("Version")?.to_owned(),
            depends: Vec::new(),
            filename: format!("{}/{file}", field("Directory")?),
            sha256: (*hash).to_owned(),
            size: size.parse().ok()?,
        }),
        _ => None,
    })
}

/// Reads one stanza of a Packages file.
fn parse_package(index: &str, name: &str) -> Option<Package> {
    let stanza = stanza(index, name)?;
    let field = |name: &str| {
        stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(ToOwned::to_owned)
    };
    let depends = ["Pre-Depends", "Depends"].iter().filter_map(|name| field(name)).flat_map(|list| {
        let names =
            list.split([',', '|']).filter_map(|item| item.split_whitespace().next().map(ToOwned::to_owned));
        names.collect::<Vec<_>>()
    });
    Some(Package {
        name: name.to_owned(),
        version: field("Version")?,
        depends: depends.collect(),
        filename: field("Filename")?,
        sha256: field("SHA256")?,
        size: field("Size")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_from_apt_in_its_order() {
        let uris = "'http://a.example/debian/dists/bookworm/InRelease' a_InRelease 0 \n\
                    'http://a.example/debian/dists/bookworm-updates/InRelease' b_InRelease 0 \n\
                    'http://b.example/security/dists/bookworm-security/InRelease' c_InRelease 0 \n\
                    'http://c.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' d 0 \n";
        assert_eq!(parse_bases(uris), ["http://a.example/debian", "http://b.example/security"]);
    }

    #[test]
    fn only_debians_main_archive_will_do() {
        assert!(is_debian("Origin: Debian\nLabel: Debian\nSHA256:\n x\n"));
        assert!(!is_debian("Origin: Debian\nLabel: Debian-Security\n"));
        assert!(!is_debian("Label: Debian\nSHA256:\n x\nOrigin: Debian\n"));
    }

    #[test]
    fn the_index_hash_is_the_sha256_one() {
        let (md5, sha) = ("1".repeat(32), "2".repeat(64));
        let index = Index::Binary.path();
        let release = format!(
            "Origin: Debian\nMD5Sum:\n {md5} 10 {index}\nSHA256:\n {md5}{md5} 9 main/binary-i386/Packages.xz\n \
             {sha}  10 {index}\n"
        );
        assert_eq!(index_hash(&release, index), Some(sha));
        assert_eq!(index_hash(&release, Index::Source.path()), None);
        assert_eq!(index_hash("MD5Sum:\n 1 1 x\n", "x"), None);
    }

    #[test]
    fn sources_are_the_original_ones() {
        let index = "Package: bochs-doc\nVersion: 9\n\nPackage: bochs\nVersion: 3.0+dfsg-1\nFiles:\n 1 2 b.dsc\n\
                     Checksums-Sha256:\n 11 2 bochs_3.0.dsc\n 22 3896488 bochs_3.0.orig.tar.xz\n \
                     33 4 bochs_3.0.orig.tar.xz.asc\n 44 5 bochs_3.0.debian.tar.xz\nDirectory: pool/main/b/bochs\n\n";
        let source = parse_source(index, "bochs").unwrap();
        assert_eq!((source.version.as_str(), source.size), ("3.0+dfsg-1", 3_896_488));
        assert_eq!(source.filename, "pool/main/b/bochs/bochs_3.0.orig.tar.xz");
        assert_eq!(source.sha256, "22");
        assert_eq!(parse_source(index, "bochs-doc"), None);
    }

    #[test]
    fn one_good_signature_is_enough_and_one_bad_too_many() {
        let good = "[GNUPG:] NEWSIG\n[GNUPG:] NO_PUBKEY 1\n[GNUPG:] GOODSIG 2 Debian\n[GNUPG:] VALIDSIG 2\n";
        assert_eq!(judge(good), Signature::Good);
        assert_eq!(judge(&format!("{good}[GNUPG:] BADSIG 3 x\n")), Signature::Bad);
        assert_eq!(judge("[GNUPG:] NO_PUBKEY 1\n"), Signature::Unknown);
        assert_eq!(judge("[GNUPG:] EXPKEYSIG 1\n[GNUPG:] VALIDSIG 1\n"), Signature::Unknown);
    }

    #[test]
    fn a_stanza_gives_file_hash_and_dependencies() {
        let index = "Package: linux-image-amd64-dbg\nVersion: 9\nFilename: no\nSize: 1\nSHA256: no\n\n\
                     Package: linux-image-amd64\nVersion: 7.2.12-1\nPre-Depends: linux-base (>= 4.12~)\n\
                     Depends: linux-image-7.2.12+deb14-amd64 (= 7.2.12-1), a | b\nFilename: pool/x.deb\nSize: 70\n\
                     SHA256: abc\n\nPackage: z\n";
        let package = parse_package(index, "linux-image-amd64").unwrap();
        assert_eq!(package.depends, ["linux-base", "linux-image-7.2.12+deb14-amd64", "a", "b"]);
        assert_eq!((package.version.as_str(), package.filename.as_str()), ("7.2.12-1", "pool/x.deb"));
        assert_eq!((package.sha256.as_str(), package.size), ("abc", 70));
        assert_eq!(parse_package(index, "linux-image"), None);
        assert_eq!(parse_package(index, "z"), None);
    }
}
