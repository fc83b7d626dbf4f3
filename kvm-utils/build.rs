//! Refuses an eBPF object that is missing or older than its sources: it would silently run other code than the
//! one in front of the reader.

#[path = "build/digest.rs"]
mod digest;

use std::fs;
use std::io;
use std::path::Path;

use digest::{LOCK, OBJECT, REMEDY, SOURCES, STAMP, Stamp};

fn main() -> Result<(), String> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets no CARGO_MANIFEST_DIR")?;
    let workspace = Path::new(&manifest).parent().ok_or("the package has no parent directory")?;
    for path in SOURCES.iter().chain(&[OBJECT, STAMP, LOCK]).filter(|path| workspace.join(path).exists()) {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/digest.rs");
    check(workspace).map_err(|why| format!("{why}; run `{REMEDY}`"))
}

fn check(workspace: &Path) -> Result<(), String> {
    let object = match fs::read(workspace.join(OBJECT)) {
        Ok(object) => object,
        Err(error) => return Err(format!("the eBPF object {OBJECT} cannot be read ({error})")),
    };
    let stamp = fs::read_to_string(workspace.join(STAMP)).unwrap_or_default();
    let Some(stamp) = Stamp::parse(&stamp) else {
        return Err(format!("the eBPF object's stamp {STAMP} is missing or damaged"));
    };
    if digest::sha256(&object) != stamp.object {
        return Err(format!("the eBPF object {OBJECT} is not the one its stamp describes"));
    }
    match digest::sources(workspace) {
        Ok(sources) if sources == stamp.sources => Ok(()),
        Ok(_) => Err("the eBPF object is stale: its sources have changed since it was built".into()),
        // A copy without the sources of the object has nothing that it could be older than.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("cannot read the sources of the eBPF object ({error})")),
    }
}
