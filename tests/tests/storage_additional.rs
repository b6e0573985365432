//! Additional stores: read where they are, on a read-only disk too, by every program, and never written.

use std::fs;
use std::path::Path;

use hoy_tests::{Run, Sandbox, User, busybox_store};

/// Every name below `path` with what tells whether it was touched.
fn listing(path: &Path) -> String {
    Run::new("find").arg(path).args(["-printf", "%P %y %m %U %s %T@ %C@\n"]).ok()
}

/// A sandbox with an empty store, and the path of another with `busybox` and its unpacked layers.
fn beside(user: User) -> Option<(Sandbox, String)> {
    let sandbox = busybox_store(user)?;
    let id = sandbox.ok("hoy-storage", &["create", "busybox"]);
    sandbox.ok("hoy-storage", &["rm", &id]);
    fs::rename(sandbox.path("root"), sandbox.path("other")).unwrap();
    // What a machine's own store does while it is used elsewhere is not this test's.
    fs::remove_dir_all(sandbox.path("other/containers")).unwrap();
    sandbox.run("mkdir").arg(sandbox.path("work/root")).ok();
    let other = sandbox.path("other").display().to_string();
    Some((sandbox, other))
}

fn used_in_place(user: User) {
    let Some((sandbox, other)) = beside(user) else { return };
    let before = listing(Path::new(&other));
    let run =
        |name: &str| sandbox.run(name).env("HOY_ROOT", sandbox.path("work/root")).env("HOY_ADDITIONAL_STORES", &other);
    let storage = |args: &[&str]| run("hoy-storage").args(args).ok();
    assert!(storage(&["images"]).contains("R/O"), "{}", storage(&["images"]));
    assert_eq!(storage(&["images", "--format", "{{.Repository}} {{.ReadOnly}}"]), "localhost/busybox true");
    let made = run("hoy-storage").args(["create", "--name", "one", "busybox"]).output();
    assert_eq!((made.status, made.stderr.as_str()), (0, ""));
    let layers = sandbox.path("work/root/layers");
    assert_eq!(fs::read_dir(&layers).unwrap().count(), 0, "nothing is unpacked again");
    let root = storage(&["mount", "one"]);
    run("sh").args(["-c", "echo new >\"$1/etc/new\"", "-", &root]).ok();
    assert_eq!(storage(&["diff", "one"]), "C /etc\nA /etc/new");
    storage(&["umount", "one"]);
    storage(&["mount", "one"]);
    // Every program reads it.
    assert_eq!(run("hoy").args(["run", "--rm", "busybox", "echo", "hello"]).ok(), "hello");
    assert!(run("hoy-spec").args(["busybox", "true"]).ok().contains("\"process\""));
    assert!(run("hoy").args(["inspect", "busybox"]).ok().contains("RepoTags"));
    let container = run("hoy-build").args(["from", "busybox"]).ok();
    run("hoy-build").args(["config", "--env", "A=1", &container]).ok();
    run("hoy-build").args(["commit", "-q", &container, "mine"]).ok();
    run("hoy-build").args(["rm", &container]).ok();
    for image in ["busybox", "mine"] {
        let layout = sandbox.path("work").join(image);
        run("hoy-copy").args(["copy", "-q", &format!("store:{image}"), &format!("oci:{}:x", layout.display())]).ok();
        assert!(layout.join("index.json").exists(), "{image} is whole outside the store");
    }
    assert_eq!(run("hoy").args(["run", "--rm", "mine", "sh", "-c", "echo $A"]).ok(), "1");
    // What is not this store's is not removed.
    for command in [&["rmi", "busybox"][..], &["rmi", "--force", "busybox"], &["untag", "busybox"]] {
        run("hoy-storage").args(command).fails(1, &["additional store", &other, "read-only"]);
    }
    run("hoy-copy").args(["delete", "store:busybox"]).fails(1, &["additional store", "read-only"]);
    storage(&["tag", "busybox", "alias"]);
    assert!(storage(&["images", "--format", "{{.Repository}} {{.ReadOnly}}"]).contains("localhost/alias false"));
    storage(&["untag", "alias"]);
    run("hoy-storage").arg("check").ok();
    storage(&["rmi", "--all"]);
    storage(&["prune", "--all", "--all-layers", "--force"]);
    assert_eq!(storage(&["diff", "one"]), "C /etc\nA /etc/new");
    storage(&["rm", "one"]);
    storage(&["reset", "--force"]);
    assert_eq!(storage(&["images", "--format", "{{.Repository}}"]), "localhost/busybox");
    assert_eq!(listing(Path::new(&other)), before, "it was written to");
    // The option says the same.
    let option = format!("--additional-store={other}");
    let images = sandbox.run("hoy-storage").args([&option, "images", "-q"]).env("HOY_ROOT", sandbox.path("work/root"));
    assert_eq!(images.ok().len(), 12);
}

#[test]
fn a_store_beside_it_as_root() {
    used_in_place(User::Root);
}

#[test]
fn a_store_beside_it_as_user() {
    used_in_place(User::Sub);
}

#[test]
fn a_store_beside_it_with_one_id() {
    used_in_place(User::One);
}

/// A disk that cannot be written to, and a store without unpacked layers.
#[test]
fn read_only_media() {
    let Some((sandbox, other)) = beside(User::Root) else { return };
    let run =
        |name: &str| sandbox.run(name).env("HOY_ROOT", sandbox.path("work/root")).env("HOY_ADDITIONAL_STORES", &other);
    Run::new("mount").args(["--bind", &other, &other]).ok();
    Run::new("mount").args(["-o", "remount,bind,ro", &other]).ok();
    for userns in ["--userns=host", "--userns=auto"] {
        assert_eq!(run("hoy").args(["run", "--rm", userns, "busybox", "echo", "hello"]).ok(), "hello");
        assert_eq!(fs::read_dir(sandbox.path("work/root/layers")).unwrap().count(), 0);
    }
    Run::new("umount").arg(&other).ok();
    fs::remove_dir_all(format!("{other}/layers")).unwrap();
    assert_eq!(run("hoy").args(["run", "--rm", "busybox", "echo", "hello"]).ok(), "hello");
    assert_eq!(fs::read_dir(sandbox.path("work/root/layers")).unwrap().count(), 2, "unpacked into the own store");
    assert!(!Path::new(&other).join("layers").exists());
}

/// A store of somebody else: the images serve, the unpacked files have the wrong owners and do not.
#[test]
fn of_another_user() {
    let Some((sandbox, other)) = beside(User::Root) else { return };
    if !User::Sub.available() {
        return;
    }
    Run::new("chmod").args(["-R", "a+rX", &other]).ok();
    let own = Sandbox::for_user(User::Sub);
    let out = own.run("hoy").args(["run", "--rm", "busybox", "stat", "-c", "%u", "/bin/busybox"]);
    let out = out.env("HOY_ADDITIONAL_STORES", &other).output();
    assert_eq!((out.status, out.stdout.as_str(), out.stderr.as_str()), (0, "0\n", ""));
    assert_eq!(fs::read_dir(own.path("root/layers")).unwrap().count(), 2);
    drop(sandbox);
}

/// One that is missing or damaged is named once, and everything else works.
#[test]
fn missing_and_damaged() {
    let Some((sandbox, other)) = beside(User::Root) else { return };
    let missing = sandbox.path("nowhere").display().to_string();
    let damaged = sandbox.path("damaged");
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(damaged.join("index.json"), "{").unwrap();
    let list = format!("{missing}:{}:{other}", damaged.display());
    for (program, args) in [
        ("hoy-storage", &["images"][..]),
        ("hoy-storage", &["create", "busybox"]),
        ("hoy", &["run", "--rm", "busybox", "true"]),
        ("hoy-spec", &["busybox", "true"]),
        ("hoy-build", &["from", "busybox"]),
        ("hoy-copy", &["inspect", "store:busybox"]),
    ] {
        let out = sandbox.run(program).args(args).env("HOY_ROOT", sandbox.path("work/root"));
        let out = out.env("HOY_ADDITIONAL_STORES", &list).output();
        assert_eq!(out.status, 0, "{program} {args:?}: {}", out.stderr);
        for path in [&missing, &damaged.display().to_string()] {
            let said = out.stderr.lines().filter(|line| line.contains("is left out") && line.contains(path.as_str()));
            assert_eq!(said.count(), 1, "{program} {args:?} {path}: {}", out.stderr);
        }
    }
}
