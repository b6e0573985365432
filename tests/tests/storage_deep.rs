//! Trees deeper than descriptors and paths reach: what a container can make, the store can name and remove.

use std::path::Path;

use hoy_tests::{Run, Sandbox, User, need};

/// Makes `levels` directories within one another below `dir`, as a program in a container can.
fn dig(dir: &Path, levels: usize) {
    let script = "import os, sys\nos.chdir(sys.argv[1])\nfor i in range(int(sys.argv[2])):\n    os.makedirs('d', exist_ok=True); os.chdir('d')\n";
    Run::new("python3").args(["-c", script]).arg(dir).arg(levels.to_string()).ok();
}

#[test]
fn a_deep_tree_is_removed_whole() {
    if !User::Root.available() || !need(&["python3"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let container = sandbox.ok("hoy-storage", &["create", "scratch"]);
    dig(Path::new(&sandbox.ok("hoy-storage", &["mount", &container])), 5000);
    sandbox.run("sh").args(["-c", "ulimit -n 256 && exec hoy-storage rm --force \"$1\"", "sh", &container]).ok();
    assert!(sandbox.disk_kib("root/containers") < 64, "{} KiB stay", sandbox.disk_kib("root/containers"));
}

#[test]
fn a_path_too_long_is_refused_by_name() {
    if !User::Root.available() || !need(&["python3"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let container = sandbox.ok("hoy-storage", &["create", "scratch"]);
    let root = sandbox.ok("hoy-storage", &["mount", &container]);
    dig(Path::new(&root), 2000);
    assert_eq!(sandbox.ok("hoy-storage", &["diff", &container]).lines().count(), 2000);
    dig(Path::new(&root), 2100);
    sandbox.run("hoy-storage").args(["diff", &container]).fails(1, &["4,095 bytes"]);
    sandbox.ok("hoy-storage", &["rm", "--force", &container]);
}
