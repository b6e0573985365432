//! A store on a disk of its own, without a byte left: what was there stays, what failed is named, and prune needs no space.

use std::fs;
use std::os::unix::fs::chown;

use hoy_tests::{Run, Sandbox, User, busybox_layout, need, need_root, skip};
use rustix::fs::statvfs;

/// A sandbox whose store is the root of an ext4 file system of 48 MiB.
fn small(user: User) -> Option<Sandbox> {
    if !need_root() || !user.available() || !need(&["umoci", "busybox", "mke2fs"]) {
        return None;
    }
    let sandbox = Sandbox::for_user(user);
    let (disk, root) = (sandbox.path("disk.img"), sandbox.path("root"));
    Run::new("mke2fs").args(["-q", "-t", "ext4", "-b", "4096", "-m", "0"]).arg(&disk).arg("48M").ok();
    if Run::new("mount").args(["-o", "loop"]).args([&disk, &root]).output().status != 0 {
        skip("no file can be mounted here");
        return None;
    }
    if let Some((uid, gid)) = user.ids() {
        chown(&root, Some(uid), Some(gid)).unwrap();
    }
    busybox_layout(&sandbox.path("layout"));
    // Two images of 16 MB that no compressor makes smaller, in the layout `big`.
    let script = "umoci init --layout big; for name in big second; do \
        head -c 16000000 /dev/urandom >noise; tar cf noise.tar noise; \
        umoci new --image big:$name; umoci raw add-layer --image big:$name noise.tar; done; \
        chmod -R a+rX big";
    Run::new("sh").args(["-ec", script]).dir(sandbox.path("")).ok();
    Some(sandbox)
}

fn available(sandbox: &Sandbox) -> u64 {
    let found = statvfs(sandbox.path("root")).unwrap();
    found.f_bavail * found.f_frsize
}

/// Takes what is left, in files that are none of the store's.
fn fill(sandbox: &Sandbox) {
    let script =
        "cat /dev/zero >filler; sync -f .; i=0; while head -c 1 /dev/zero >$i; do i=$((i + 1)); done; sync -f .";
    Run::new("sh").args(["-c", script]).dir(sandbox.path("root/lost+found")).output();
    assert_eq!(available(sandbox), 0);
}

/// What was acknowledged is there, and nothing is wrong with it.
fn is_content(sandbox: &Sandbox) {
    sandbox.ok("hoy-storage", &["check"]);
    let names = sandbox.ok("hoy-storage", &["images", "--format", "{{.Repository}}"]);
    assert!(names.contains("busybox") && names.contains("first") && !names.contains("other"), "{names}");
    assert!(sandbox.ok("hoy-storage", &["containers"]).contains("old"));
}

fn is_full(user: User) {
    let Some(sandbox) = small(user) else { return };
    let source = |layout: &str, image: &str| format!("oci:{}:{image}", sandbox.path(layout).display());
    sandbox.ok("hoy-copy", &["copy", &source("layout", "busybox:latest"), "store:busybox"]);
    sandbox.ok("hoy-storage", &["create", "--name", "old", "busybox"]);
    sandbox.ok("hoy-copy", &["copy", &source("big", "big"), "store:first"]);

    // The blob fits, what it unpacks to does not.
    let filler = sandbox.path("root/lost+found/half");
    fs::write(filler, vec![0; usize::try_from(available(&sandbox)).unwrap() - 9_000_000]).unwrap();
    let create = || sandbox.run("hoy-storage").args(["create", "--name", "new", "first"]);
    create().fails(1, &["no space left on device"]);
    is_content(&sandbox);

    fill(&sandbox);
    create().fails(1, &["no space left on device"]);
    sandbox
        .run("hoy-copy")
        .args(["copy", &source("big", "second"), "store:other"])
        .fails(1, &["no space left on device"]);
    is_content(&sandbox);

    // Deleting needs no space, though the index is written again.
    sandbox.ok("hoy-storage", &["rmi", "first"]);
    assert!(available(&sandbox) > 15_000_000, "{} bytes are free", available(&sandbox));
    sandbox.ok("hoy-storage", &["rm", "old"]);
    sandbox.ok("hoy-storage", &["prune", "--force"]);
    sandbox.ok("hoy-storage", &["check"]);
    sandbox.ok("hoy", &["run", "--rm", "busybox", "true"]);
}

#[test]
fn a_full_disk_root() {
    is_full(User::Root);
}

#[test]
fn a_full_disk_subordinate_ids() {
    is_full(User::Sub);
}
