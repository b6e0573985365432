//! Where the programs under test are.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The workspace's directory.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

/// The program `name`, as every user can execute it.
pub fn program(name: &str) -> PathBuf {
    program_dir().join(name)
}

/// The directory of the programs under test: `HOY_BIN_DIR`, or where cargo put this test's profile.
///
/// Where other users cannot enter that directory, a copy in `/tmp` that they can.
pub fn program_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let built = std::env::var_os("HOY_BIN_DIR").map_or_else(beside_this_test, PathBuf::from);
        assert!(built.join("hoy").exists(), "no programs in {}: run \"cargo build\" first", built.display());
        if everybody_enters(&built) { built } else { copy_for_everybody(&built) }
    })
}

fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST").to_owned()
}

fn everybody_enters(dir: &Path) -> bool {
    dir.ancestors().all(|d| fs::metadata(d).is_ok_and(|m| m.permissions().mode() & 0o001 != 0))
}

fn copy_for_everybody(built: &Path) -> PathBuf {
    let stamp = fs::metadata(built.join("hoy")).expect("hoy is built");
    let dir = PathBuf::from(format!("/tmp/hoy-programs-{}-{}", stamp.ino(), stamp.mtime()));
    if dir.exists() {
        return dir;
    }
    let unfinished = dir.with_extension(std::process::id().to_string());
    fs::create_dir_all(&unfinished).expect("make a directory in /tmp");
    for entry in fs::read_dir(built).expect("read the build directory").flatten() {
        let name = entry.file_name();
        let is_program = name.to_str().is_some_and(|n| n.starts_with("hoy") && !n.contains('.'));
        if is_program && entry.path().is_file() {
            fs::copy(entry.path(), unfinished.join(&name)).expect("copy a program");
        }
    }
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755)).expect("open the directory to everybody");
    // Another test may have been faster; both made the same.
    if fs::rename(&unfinished, &dir).is_err() {
        fs::remove_dir_all(&unfinished).expect("remove the spare copy");
    }
    dir
}
