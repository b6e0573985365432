//! A container without a mount namespace of its own.

use std::fs;

use hoy_tests::{Bundle, User};
use serde_json::json;

fn mounts_below(bundle: &Bundle) -> usize {
    let path = bundle.path("rootfs");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(path.to_str().unwrap())).count()
}

/// It sees the caller's mount namespace from inside its own root, and what was mounted for it goes with it.
#[test]
fn its_mounts_are_the_callers_and_go_with_it() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "mount");
    bundle.set("/root/readonly", json!(true));
    bundle.script("readlink /proc/self/ns/mnt; ls /; touch /x 2>/dev/null || echo read-only; cat /proc/kcore | wc -c");
    let out = bundle.hoy(&["run", "a"]).ok();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert!(out.starts_with(own.to_str().unwrap()), "{out}");
    assert!(out.ends_with("read-only\n0") && !out.contains("boot"), "{out}");
    assert_eq!(mounts_below(&bundle), 0);

    bundle.script("sleep 100");
    bundle.leave(&["run", "-d", "a"]);
    assert!(mounts_below(&bundle) > 3);
    assert_eq!(
        bundle.hoy(&["exec", "a", "sh", "-c", "pwd; ls -d /bin/busybox; ls /etc/debian_version 2>&1"]).output().stdout,
        "/\n/bin/busybox\nls: /etc/debian_version: No such file or directory\n"
    );
    bundle.hoy(&["delete", "-f", "a"]).ok();
    assert_eq!(mounts_below(&bundle), 0);
}

/// One that cannot be made leaves no mount, and the host's own root is not to be one's root.
#[test]
fn a_failure_leaves_no_mount() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "mount");
    bundle.set("/process/args", json!(["/no/such"]));
    bundle.hoy(&["run", "a"]).fails(1, &["/no/such"]);
    assert_eq!(mounts_below(&bundle), 0);
    bundle.set("/root/path", json!("/"));
    bundle.hoy(&["run", "a"]).fails(1, &["root.path \"/\" needs a mount namespace"]);
}
