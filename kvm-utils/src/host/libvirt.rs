//! What libvirt notes of a domain that runs.
//!
//! The system daemon keeps `/run/libvirt/DRIVER/NAME.pid` and `NAME.xml`, the latter of the form
//! `<domstatus ... pid='N'> ... <domain ...><name>NAME</name><uuid>UUID</uuid>` (virDomainObjFormat,
//! src/conf/domain_conf.c there). The driver of Cloud Hypervisor writes the latter seldom (src/ch/ there), and gives
//! the monitor nothing but a socket. The files are root's. Those of session daemons are not read: they are their users',
//! who could put anything there.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::uuid;

/// A status file is some 50 KB long; what we look for is before the devices.
const MOST: u64 = 1 << 20;

/// A domain of libvirt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Its UUID, which the guest sees as that of the system.
    pub uuid: Option<String>,
}

/// The domain that process `pid` runs for libvirt's `driver` (`qemu`, `ch`); `run` is the directory `/run`. With
/// `name`, only the files of that name are looked at.
#[must_use]
pub fn domain(run: &Path, driver: &str, pid: u32, name: Option<&str>) -> Option<Domain> {
    let directory = run.join("libvirt").join(driver);
    if let Some(name) = name {
        // libvirt allows no such name, and it would lead elsewhere.
        return if name.contains('/') { None } else { status(&directory.join(format!("{name}.xml")), pid) };
    }
    let files = std::fs::read_dir(&directory).ok()?;
    let mut files: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    files.sort();
    let with = |extension: &'static str| {
        files.iter().filter(move |file| file.extension().is_some_and(|found| found == extension))
    };
    // A pid file is a few bytes, a status file is not.
    let noted =
        with("pid").find(|file| read(file).is_some_and(|text| text.trim().parse::<u32>().ok() == Some(pid)));
    match noted {
        Some(file) => status(&file.with_extension("xml"), pid)
            .or_else(|| Some(Domain { name: file.file_stem()?.to_str()?.to_owned(), uuid: None })),
        None => with("xml").find_map(|file| status(file, pid)),
    }
}

/// The domain in a status file, if it is that of `pid`.
fn status(file: &Path, pid: u32) -> Option<Domain> {
    let text = read(file)?;
    let (_, domstatus) = text.split_once("<domstatus ")?;
    let (head, rest) = domstatus.split_once('>')?;
    if attribute(head, "pid")?.parse::<u32>().ok()? != pid {
        return None;
    }
    // What comes before may have names, too.
    let (_, domain) = rest.split_once("<domain ")?;
    let uuid = element(domain, "uuid").and_then(|text| uuid::canonical(&text));
    Some(Domain { name: element(domain, "name").filter(|name| !name.is_empty())?, uuid })
}

fn read(file: &Path) -> Option<String> {
    // Nothing else is worth opening, and a pipe would make us wait.
    if !std::fs::metadata(file).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of an attribute in the inside of a tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = tag;
    while let Some((before, behind)) = rest.split_once('=') {
        let value = behind.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (value, next) = value.get(1..)?.split_once(quote)?;
        if before.trim() == name {
            return Some(value);
        }
        rest = next;
    }
    None
}

/// The text of the first element of this name that has no attributes.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, behind) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = behind.split_once(&format!("</{name}>"))?;
    // Predefined entities, XML 1.0 section 4.6; `&amp;` last, as it makes none of what it leaves.
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")]
        .iter()
        .fold(value.to_owned(), |text, (entity, character)| text.replace(entity, character));
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n\
        <domstatus state='running' reason='booted' pid='195139'>\n  <devices><name>not me</name></devices>\n  \
        <domain type='kvm' id='1'>\n    <name>a&amp;b &lt;1&gt;</name>\n    \
        <uuid>DCF47DBD-46d1-4d5b-b442-262a806a333a</uuid>\n  </domain>\n</domstatus>\n";

    fn directory() -> tempfile::TempDir {
        let run = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(run.path().join("libvirt/qemu")).expect("directory");
        run
    }

    fn write(run: &tempfile::TempDir, name: &str, text: &str) {
        std::fs::write(run.path().join("libvirt/qemu").join(name), text).expect("file");
    }

    fn this() -> Option<Domain> {
        Some(Domain {
            name: "a&b <1>".to_owned(),
            uuid: Some("dcf47dbd-46d1-4d5b-b442-262a806a333a".to_owned()),
        })
    }

    #[test]
    fn the_domain_of_a_process_is_found_by_its_pid() {
        let run = directory();
        write(&run, "other.pid", "77\n");
        write(&run, "other.xml", &STATUS.replace("195139", "77"));
        write(&run, "it.xml", STATUS);
        assert_eq!(domain(run.path(), "qemu", 195_139, None), this(), "without pid file");
        write(&run, "it.pid", "195139\n");
        assert_eq!(domain(run.path(), "qemu", 195_139, None), this(), "with pid file");
        assert_eq!(domain(run.path(), "qemu", 195_139, Some("it")), this(), "by name");
        assert_eq!(domain(run.path(), "qemu", 195_139, Some("other")), None, "the name of another");
        assert_eq!(domain(run.path(), "qemu", 1, None), None);
        write(&run, "pid only.pid", "4711");
        let named = Domain { name: "pid only".to_owned(), uuid: None };
        assert_eq!(domain(run.path(), "qemu", 4711, None), Some(named));
        assert_eq!(domain(run.path(), "ch", 195_139, None), None, "no such directory");
    }

    #[test]
    fn a_name_does_not_lead_out_of_the_directory() {
        let run = directory();
        std::fs::write(run.path().join("it.xml"), STATUS).expect("file");
        assert_eq!(domain(run.path(), "qemu", 195_139, Some("../../it")), None);
    }

    #[test]
    fn files_that_are_none_of_libvirts_are_passed_by() {
        let run = directory();
        for text in
            ["", "<domstatus pid='195139'>", "<domstatus pid=195139><domain a><name>x</name>", "\u{fffd}<<>>"]
        {
            write(&run, "it.xml", text);
            assert_eq!(domain(run.path(), "qemu", 195_139, None), None, "{text}");
        }
        std::fs::create_dir(run.path().join("libvirt/qemu/it.pid")).expect("directory");
        let pipe = run.path().join("libvirt/qemu/pipe.xml");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("pipe");
        assert_eq!(domain(run.path(), "qemu", 195_139, None), None);
    }
}
