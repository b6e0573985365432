//! Tests that this machine cannot run: named, with the reason, and counted by `make check`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Records the current test as skipped; the caller then returns.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("skipped {}: {reason}\n", thread.name().unwrap_or("a test"));
    eprint!("{line}");
    if let Some(path) = std::env::var_os("HOY_SKIPS") {
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("open the list of skipped tests");
        file.write_all(line.as_bytes()).expect("write the list of skipped tests");
    }
}

/// Whether the program `name` is in PATH.
pub fn has(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|dir| dir.join(name).is_file())
}

/// Whether all these peers are installed; where not, the test is recorded as skipped.
pub fn need(peers: &[&str]) -> bool {
    let missing: Vec<&str> = peers.iter().filter(|peer| !has(peer)).copied().collect();
    if !missing.is_empty() {
        skip(&format!("{} not installed", missing.join(", ")));
    }
    missing.is_empty()
}

/// Whether this is root; where not, the test is recorded as skipped.
pub fn need_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("needs root");
    }
    is_root
}

/// The file `name` of the folder of reference documents beside the project; without it the test is recorded as skipped.
pub fn need_shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
    if !path.exists() {
        skip(&format!("there is no ../shared/{name}"));
    }
    path.exists().then_some(path)
}
