//! Garbage: how much there is, that all of it goes, with a full disk too, and that the number told is right.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoy_tests::{Call, Deed, Plan, Run, Sandbox, User, busybox_store, many_files, need, need_root, traced_by};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

/// Bytes of disk space of the store, as du(1) counts them.
fn disk(sandbox: &Sandbox) -> u64 {
    let out = Run::new("du").args(["-s", "--block-size=1", "--one-file-system"]).arg(sandbox.path("root")).ok();
    out.split_whitespace().next().unwrap().parse().unwrap()
}

/// A row of `df`: total, active, bytes, reclaimable bytes.
fn row(sandbox: &Sandbox, kind: &str) -> [u64; 4] {
    let rows: Vec<Value> = serde_json::from_str(&sandbox.ok("hoy-storage", &["df", "--format", "json"])).unwrap();
    let row = rows.iter().find(|row| row["Type"] == kind).unwrap();
    ["Total", "Active", "RawSize", "RawReclaimable"].map(|field| row[field].as_u64().unwrap())
}

/// Adds an image with a layer of its own to the store.
fn build(sandbox: &Sandbox, name: &str, label: &str, created: &str) {
    let id = sandbox.ok("hoy-build", &["from", "busybox"]);
    let root = sandbox.ok("hoy-build", &["mount", &id]);
    let script = format!("head -c 300000 /dev/urandom >{root}/{name}");
    sandbox.ok("hoy-storage", &["unshare", "--", "sh", "-c", &script]);
    sandbox.ok("hoy-build", &["config", "--label", label, &id]);
    sandbox.ok("hoy-build", &["commit", "--timestamp", created, &id, name]);
    sandbox.ok("hoy-build", &["rm", &id]);
}

fn is_reclaimed(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let storage = |args: &[&str]| sandbox.ok("hoy-storage", args);
    build(&sandbox, "new", "a=b", "1000");
    let id = storage(&["create", "--name", "c", "busybox"]);
    assert_eq!(row(&sandbox, "Garbage"), [0; 4]);
    let [total, active, bytes, reclaimable] = row(&sandbox, "Images");
    assert_eq!((total, active), (2, 1));
    assert!((300_000..400_000).contains(&reclaimable) && bytes > reclaimable, "{bytes} {reclaimable}");
    assert_eq!(row(&sandbox, "Containers")[..2], [1, 1]);
    // What a killed pull, a killed unpack and a killed create leave, an image that loses its name, and a signature of no
    // image beside one of an image.
    storage(&["untag", "new"]);
    let kept = sandbox.ok("hoy-copy", &["digest", "store:busybox"]);
    let script = format!(
        "cd {} && head -c 70000 /dev/zero >blobs/sha256/.tmp-partial && mkdir -p layers/.tmp-1/a containers/{}/upper && \
         head -c 50000 /dev/zero >layers/.tmp-1/a/b && head -c 90000 /dev/zero >containers/{}/upper/x && \
         head -c 30000 /dev/zero >blobs/sha256/{} && : >.tmp-root && mkdir signatures && cd signatures && \
         mkdir {} {} && for one in *; do head -c 20000 /dev/zero >$one/signature-1; done",
        sandbox.path("root").display(),
        "0".repeat(64),
        "0".repeat(64),
        "1".repeat(64),
        "2".repeat(64),
        &kept["sha256:".len()..],
    );
    sandbox.run("sh").args(["-ec", &script]).ok();
    let [count, _, garbage, all] = row(&sandbox, "Garbage");
    assert!(count >= 5 && garbage == all && garbage > 240_000, "{count} {garbage}");
    let before = disk(&sandbox);
    let said = storage(&["prune", "--force"]);
    let freed = before - disk(&sandbox);
    assert!(freed > garbage + 300_000, "{freed} {garbage}");
    assert!(said.contains("Deleted: ") && said.contains("Total reclaimed space: "), "{said}");
    let number: f64 = said.rsplit_once(": ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let unit = if said.ends_with("kB") { 1e3 } else { 1e6 };
    // Directories of the store may become smaller, and the holder's files are few.
    assert!((number * unit - freed as f64).abs() < 0.01 * freed as f64 + 9000.0, "{said} and {freed}");
    assert_eq!(row(&sandbox, "Garbage"), [0; 4]);
    assert_eq!(fs::read_dir(sandbox.path("root/signatures")).unwrap().count(), 1);
    assert!(storage(&["prune", "--force"]).ends_with("space: 0 B"));
    storage(&["umount", "c"]);
    assert_eq!(row(&sandbox, "Containers")[..2], [1, 0]);
    storage(&["rm", &id]);
    storage(&["prune", "--force", "--all"]);
    assert_eq!(row(&sandbox, "Images"), [0; 4]);
    assert_eq!(row(&sandbox, "Unpacked Layers"), [0; 4]);
    storage(&["check", "--deep"]);
}

#[test]
fn all_garbage_is_reclaimed_root() {
    is_reclaimed(User::Root);
}

#[test]
fn all_garbage_is_reclaimed_subordinate_ids() {
    is_reclaimed(User::Sub);
}

fn names(sandbox: &Sandbox) -> Vec<String> {
    let list = sandbox.ok("hoy-storage", &["images", "--format", "{{.Repository}}"]);
    let mut names: Vec<String> = list.lines().map(|name| name.trim_start_matches("localhost/").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn images_are_chosen() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let storage = |args: &[&str]| sandbox.ok("hoy-storage", args);
    for (name, label, created) in [("one", "a=b", "1000"), ("two", "a=c", "2000000"), ("three", "x=y", "2000000000")] {
        build(&sandbox, name, label, created);
    }
    let prune = |filters: &[&str]| {
        let mut args = vec!["prune", "--force", "--all"];
        filters.iter().for_each(|filter| args.extend(["--filter", filter]));
        storage(&args);
        names(&sandbox)
    };
    storage(&["create", "busybox"]);
    assert_eq!(prune(&["label=a", "until=1970-01-01"]), ["busybox", "one", "three", "two"]);
    assert_eq!(prune(&["label=a", "until=1970-01-02"]), ["busybox", "three", "two"]);
    assert_eq!(prune(&["label!=x=y", "label=a=b"]), ["busybox", "three", "two"]);
    assert_eq!(prune(&["label!=x"]), ["busybox", "three"]);
    assert_eq!(prune(&["until=24h"]), ["busybox", "three"], "made in the future");
    for wrong in ["nonsense", "until=never", "before=x", "until!=3"] {
        sandbox.run("hoy-storage").args(["prune", "--force", "--filter", wrong]).fails(2, &["--filter", wrong]);
    }
    // Those that were not used for longest go first, until the rest fits.
    build(&sandbox, "four", "a=b", "1000");
    build(&sandbox, "five", "a=b", "1000");
    let id = storage(&["create", "three"]);
    storage(&["rm", &id]);
    let taken = row(&sandbox, "Images")[2] + row(&sandbox, "Unpacked Layers")[2];
    storage(&["prune", "--force", "--max-size", &taken.to_string()]);
    assert_eq!(names(&sandbox), ["busybox", "five", "four", "three"]);
    storage(&["prune", "--force", "--max-size", &(taken - 1).to_string()]);
    assert_eq!(names(&sandbox), ["busybox", "five", "three"]);
    storage(&["prune", "--force", "--max-size", "0"]);
    assert_eq!(names(&sandbox), ["busybox"], "what a container was made from stays");
    sandbox.run("hoy-storage").args(["prune", "--max-size", "much"]).fails(2, &["much"]);
}

/// Trees of layers, and what a killed unpack left, are removed when whoever pulls need not wait for that any more.
#[test]
fn others_go_on_while_trees_are_removed() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let id = sandbox.ok("hoy-storage", &["create", "busybox"]);
    sandbox.ok("hoy-storage", &["rm", &id]);
    sandbox.run("sh").args(["-c", "cd \"$HOY_ROOT\" && mkdir layers/.tmp-2 && : >layers/.tmp-2/a"]).ok();
    let (hidden, lease) = (sandbox.path("root/layers/.tmp-").display().to_string(), sandbox.path("root/.lease.lock"));
    let is_free = |_: &Call| {
        let lease = fs::File::open(&lease).expect("open the lock");
        flock(&lease, FlockOperation::NonBlockingLockShared).is_ok()
    };
    for command in [vec!["rmi", "busybox"], vec!["prune", "--force"]] {
        let removed = std::cell::RefCell::new(Vec::new());
        let counts = |call: &Call| {
            let is_below = |file: &PathBuf| file.to_string_lossy().starts_with(&hidden);
            let file = call.file().filter(|file| call.name() == Some("unlinkat") && is_below(file));
            removed.borrow_mut().extend(file.map(|file| (file, is_free(call))));
            false
        };
        let plan = Plan { counts: &counts, nth: None, deed: Deed::Kill };
        let silent = || fs::File::create("/dev/null").expect("open /dev/null");
        let seen = traced_by(sandbox.run("hoy-storage").args(&command), &plan, silent(), silent());
        assert_eq!(seen.status, 0, "{command:?}");
        let removed = removed.into_inner();
        assert!(!removed.is_empty() && removed.iter().all(|(_, is_free)| *is_free), "{command:?} {removed:?}");
    }
}

/// A file system of 24 MiB that a store of one image fills to its last byte.
///
/// Without the index before its last change: replacing that would give the space which the next one needs.
fn full(sandbox: &Sandbox) {
    fs::remove_file(sandbox.path("root/index.json.old")).unwrap_or_default();
    let mut file = fs::File::create(sandbox.path("root/fill")).unwrap();
    let block = vec![0; 4096];
    while file.write_all(&block).is_ok() {}
    while file.write_all(b"x").is_ok() {}
    assert!(fs::write(sandbox.path("root/one-more"), "x").is_err(), "it is not full");
    fs::remove_file(sandbox.path("root/one-more")).unwrap_or_default();
}

fn on_a_full_disk(make: &dyn Fn(&Path)) {
    if !need_root() || !need(&["umoci", "busybox", "mkfs.ext4"]) {
        return;
    }
    let commands: [&[&str]; 4] =
        [&["prune", "--all", "--force"], &["rmi", "many"], &["prune", "--force", "--max-size", "1"], &["rm", "--all"]];
    for args in commands {
        for is_unpacked in [true, false] {
            let sandbox = Sandbox::new();
            make(&sandbox.path("root"));
            let layout = sandbox.path("layout");
            fs::create_dir(&layout).unwrap();
            many_files(&layout, 200);
            sandbox.ok("hoy-copy", &["copy", &format!("oci:{}:many", layout.display()), "store:many"]);
            let id = if is_unpacked { sandbox.ok("hoy-storage", &["create", "many"]) } else { String::new() };
            if is_unpacked && args[0] != "rm" {
                sandbox.ok("hoy-storage", &["rm", &id]);
            }
            full(&sandbox);
            sandbox.ok("hoy-storage", args);
            if args[0] != "rm" {
                assert_eq!(sandbox.ok("hoy-storage", &["images", "-q"]), "", "{args:?}");
                assert_eq!(fs::read_dir(sandbox.path("root/blobs/sha256")).unwrap().count(), 0, "{args:?}");
            }
            assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]), "");
            assert_eq!(sandbox.run("hoy-storage").args(["check"]).fails(0, &[]), "", "{args:?}");
        }
    }
}

#[test]
fn on_a_full_tmpfs() {
    on_a_full_disk(&|root| {
        Run::new("mount").args(["-t", "tmpfs", "-o", "mode=700,size=24m", "tmpfs"]).arg(root).ok();
    });
}

#[test]
fn on_a_full_ext4() {
    on_a_full_disk(&|root| {
        let image = root.with_file_name("disk");
        Run::new("truncate").args(["-s", "24M"]).arg(&image).ok();
        Run::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).ok();
        Run::new("mount").args(["-o", "loop"]).arg(&image).arg(root).ok();
    });
}

/// A command makes a temporary and locks it in the next moment: who looks in between does not call it left.
#[test]
fn what_has_just_begun_is_not_left() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let file = fs::File::create(sandbox.path("run/.tmp-0123456789abcdef")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(40));
            flock(&file, FlockOperation::LockExclusive).unwrap();
        });
        assert_eq!(sandbox.run("hoy-storage").arg("check").fails(0, &[]), "");
    });
    drop(file);
    sandbox.run("hoy-storage").arg("check").fails(0, &["a killed command left it"]);
}

/// A name is not given to what is just being taken away.
#[test]
fn a_name_waits_for_who_takes_away() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let lease = fs::OpenOptions::new().write(true).open(sandbox.path("root/.lease.lock")).unwrap();
    flock(&lease, FlockOperation::LockExclusive).unwrap();
    let is_there = || fs::read_to_string(sandbox.path("root/index.json")).unwrap().contains("localhost/other");
    std::thread::scope(|scope| {
        let tag = scope.spawn(|| sandbox.ok("hoy-storage", &["tag", "busybox", "localhost/other"]));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!is_there());
        flock(&lease, FlockOperation::Unlock).unwrap();
        tag.join().unwrap();
    });
    assert!(is_there());
}

/// An image that goes while somebody waits to unpack it has no name any more; it is not damaged.
#[test]
fn what_goes_before_it_is_unpacked_is_not_there() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let lease = fs::OpenOptions::new().write(true).open(sandbox.path("root/.lease.lock")).unwrap();
    flock(&lease, FlockOperation::LockExclusive).unwrap();
    std::thread::scope(|scope| {
        let unpack = scope.spawn(|| {
            sandbox.run("hoy-storage").args(["unpack", "busybox", "tree"]).fails(1, &["image not known", "busybox"])
        });
        std::thread::sleep(Duration::from_millis(300));
        sandbox.ok("hoy-storage", &["untag", "busybox"]);
        sandbox.run("sh").args(["-c", "rm \"$HOY_ROOT\"/blobs/sha256/*"]).ok();
        flock(&lease, FlockOperation::Unlock).unwrap();
        unpack.join().unwrap();
    });
}
