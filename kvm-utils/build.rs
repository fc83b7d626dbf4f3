//! Refuses an eBPF object that is missing or older than its sources: it would silently run other code than the
//! one in front of the reader. Tells the digest of the HTML page's script.

#[path = "build/digest.rs"]
mod digest;

use std::fs;
use std::io;
use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use sha2::{Digest as _, Sha256};

use digest::{LOCK, OBJECT, REMEDY, SOURCES, STAMP, Stamp};

/// The script of the HTML page, whose policy names it by its digest.
const SCRIPT: &str = "src/view/html/script.js";

fn main() -> Result<(), String> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets no CARGO_MANIFEST_DIR")?;
    let workspace = Path::new(&manifest).parent().ok_or("the package has no parent directory")?;
    for path in SOURCES.iter().chain(&[OBJECT, STAMP, LOCK]).filter(|path| workspace.join(path).exists()) {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/digest.rs");
    policy(Path::new(&manifest))?;
    check(workspace).map_err(|why| format!("{why}; run `{REMEDY}`"))
}

/// Tells the code the digest of the page's script, as CSP wants it: the page may run this script and no other.
fn policy(manifest: &Path) -> Result<(), String> {
    let script = manifest.join(SCRIPT);
    println!("cargo::rerun-if-changed={}", script.display());
    let script = fs::read(&script).map_err(|error| format!("cannot read {SCRIPT} ({error})"))?;
    println!("cargo::rustc-env=KVM_UTILS_SCRIPT_HASH=sha256-{}", STANDARD.encode(Sha256::digest(&script)));
    Ok(())
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
