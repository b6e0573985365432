//! Overlays of every size and kind: many layers, long paths, volatile ones, images without a container, what a crash leaves.

use std::fs;
use std::path::PathBuf;

use hoy_tests::{Sandbox, User, busybox_store, many_layers, need};

fn many(user: User, count: usize) -> Option<Sandbox> {
    if !user.available() {
        return None;
    }
    let sandbox = Sandbox::for_user(user);
    many_layers(&sandbox.path("layout"), count);
    let source = format!("oci:{}:many", sandbox.path("layout").display());
    sandbox.ok("hoy-copy", &["copy", "-q", &source, "store:many"]);
    Some(sandbox)
}

fn five_hundred(user: User) {
    let Some(sandbox) = many(user, 500) else { return };
    let made = sandbox.run("hoy-storage").args(["create", "--name", "all", "many"]).output();
    assert_eq!((made.status, made.stderr.as_str()), (0, ""), "no copy");
    let root = PathBuf::from(sandbox.ok("hoy-storage", &["mount", "all"]));
    let read = |name: &str| sandbox.run("cat").arg(root.join(name)).ok();
    assert_eq!((read("top"), read("file0"), read("file499")), ("499".into(), "0".into(), "499".into()));
    sandbox.run("sh").args(["-c", "echo new >\"$1/top\"", "-"]).arg(&root).ok();
    assert_eq!(sandbox.ok("hoy-storage", &["diff", "all"]), "C /top");
    sandbox.ok("hoy-storage", &["rm", "all"]);
}

/// The kernel takes no directory twice, and an image may have a layer as often as it likes.
#[test]
fn a_layer_that_an_image_has_twice() {
    for user in [User::Root, User::Sub, User::One] {
        if !user.available() {
            continue;
        }
        let sandbox = Sandbox::for_user(user);
        let context = sandbox.path("work/c");
        fs::create_dir_all(&context).unwrap();
        for (name, text) in [
            ("one", "first"),
            ("two", "second"),
            ("Containerfile", "FROM scratch\nCOPY one /x\nCOPY two /x\nCOPY one /x\nCOPY two /y\n"),
        ] {
            fs::write(context.join(name), text).unwrap();
        }
        let built = sandbox.run("hoy-build").args(["build", "-q", "-t", "twice", "c"]).output();
        assert_eq!(built.status, 0, "{}", built.stderr);
        let layers = sandbox.ok("hoy-build", &["inspect", "--format", "{{.OCIv1.RootFS.DiffIDs}}", "twice"]);
        let layers: Vec<&str> = layers.trim_matches(['[', ']']).split(' ').collect();
        assert!(layers.len() == 4 && layers[0] == layers[2], "{layers:?}");
        sandbox.ok("hoy-storage", &["create", "--name", "c", "twice"]);
        let root = PathBuf::from(sandbox.ok("hoy-storage", &["mount", "c"]));
        let read = |name: &str| sandbox.run("cat").arg(root.join(name)).ok();
        assert_eq!((read("x"), read("y")), ("first".into(), "second".into()), "the topmost counts");
        sandbox.ok("hoy-storage", &["rm", "c"]);
    }
}

#[test]
fn five_hundred_layers_as_root() {
    five_hundred(User::Root);
}

#[test]
fn five_hundred_layers_as_user() {
    five_hundred(User::Sub);
}

/// More than the kernel stacks: a copy, and it is said why.
#[test]
fn more_layers_than_an_overlay_takes() {
    let Some(sandbox) = many(User::Root, 510) else { return };
    let made = sandbox.run("hoy-storage").args(["create", "--name", "all", "many"]).output();
    assert!(made.status == 0 && made.stderr.contains("510 layers are more than the 500"), "{}", made.stderr);
    let root = PathBuf::from(sandbox.ok("hoy-storage", &["mount", "all"]));
    assert_eq!(fs::read_to_string(root.join("top")).unwrap(), "509");
    fs::remove_file(root.join("file7")).unwrap();
    assert_eq!(sandbox.ok("hoy-storage", &["diff", "all"]), "D /file7");
    sandbox.ok("hoy-storage", &["rm", "all"]);
}

/// fsconfig(2) takes values of 255 bytes, a path may have 4096.
#[test]
fn long_paths() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        let long = sandbox.path("work").join(["x".repeat(200), "y z,:\\".repeat(20)].join("/"));
        sandbox.run("sh").args(["-c", "mkdir -p \"$1\" && cp -a \"$HOY_ROOT\" \"$1/root\"", "-"]).arg(&long).ok();
        let storage = |args: &[&str]| sandbox.run("hoy-storage").args(args).env("HOY_ROOT", long.join("root"));
        let made = storage(&["create", "--name", "deep", "busybox"]).output();
        assert_eq!((made.status, made.stderr.as_str()), (0, ""));
        let root = storage(&["mount", "deep"]).ok();
        sandbox.run("touch").arg(format!("{root}/new")).ok();
        assert_eq!(storage(&["diff", "deep"]).ok(), "A /new");
        storage(&["rm", "deep"]).ok();
    }
}

fn image_without_container(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let storage = |args: &[&str]| sandbox.ok("hoy-storage", args);
    assert_eq!(storage(&["mount", "--image"]), "");
    let root = storage(&["mount", "--image", "busybox"]);
    assert_eq!(storage(&["mount", "--image", "busybox"]), root, "mounting again is no change");
    assert_eq!(storage(&["mount", "--image"]), format!("localhost/busybox:latest {root}"));
    assert!(sandbox.run("cat").arg(format!("{root}/etc/os-release")).ok().contains("busybox"));
    assert_eq!(sandbox.run("stat").args(["-c", "%a", &root]).ok(), "755");
    sandbox.run("touch").arg(format!("{root}/new")).fails(1, &["Read-only file system"]);
    // What is mounted is needed.
    sandbox.run("hoy-storage").args(["rmi", "--force", "busybox"]).fails(1, &["mounted at", "umount --image"]);
    storage(&["prune", "--force", "--all-layers"]);
    assert!(sandbox.run("cat").arg(format!("{root}/etc/os-release")).ok().contains("busybox"));
    storage(&["umount", "--image", "busybox"]);
    assert_eq!(storage(&["mount", "--image"]), "");
    sandbox.run("hoy-storage").args(["mount", "--image", "nobody"]).fails(1, &["image not known"]);
    storage(&["prune", "--force", "--all-layers"]);
    assert_eq!(fs::read_dir(sandbox.path("root/layers")).unwrap().count(), 0);
    storage(&["rmi", "busybox"]);
    assert!(!sandbox.path("run/holder.json").exists(), "nobody keeps mounts when there are none");
}

#[test]
fn an_image_is_mounted_as_root() {
    image_without_container(User::Root);
}

#[test]
fn an_image_is_mounted_as_user() {
    image_without_container(User::Sub);
}

#[test]
fn an_image_is_mounted_with_one_id() {
    image_without_container(User::One);
}

/// Without mounts an image is copied, and that is said.
#[test]
fn an_image_where_nothing_can_be_mounted() {
    let Some(sandbox) = busybox_store(User::Root).filter(|_| need(&["capsh"])) else { return };
    let script = "m=$(hoy-storage mount --image busybox); cat $m/etc/os-release; hoy-storage umount --image busybox; test ! -e $m";
    let out = sandbox.run("capsh").args(["--drop=cap_sys_admin", "--", "-euc", script]).output();
    assert!(out.status == 0 && out.stderr.contains("is a copy") && out.stdout.contains("busybox"), "{}", out.stderr);
}

/// A volatile overlay may be mounted again in the boot it was made in, and is not believed after that.
#[test]
fn volatile() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        let storage = |args: &[&str]| sandbox.ok("hoy-storage", args);
        let id = storage(&["create", "--volatile", "--name", "fast", "busybox"]);
        let options = sandbox.run("hoy-storage").args(["unshare", "--", "cat", "/proc/self/mountinfo"]).ok();
        assert!(options.lines().any(|line| line.contains(&id) && line.contains("volatile")), "{options}");
        for text in ["one", "two"] {
            let root = storage(&["mount", "fast"]);
            sandbox.run("sh").args(["-c", "echo $1 >>\"$2/file\"", "-", text, &root]).ok();
            storage(&["umount", "fast"]);
        }
        let root = storage(&["mount", "fast"]);
        assert_eq!(sandbox.run("cat").arg(format!("{root}/file")).ok(), "one\ntwo");
        storage(&["umount", "fast"]);
        let record = sandbox.path("root/containers").join(&id).join("storage.json");
        let text = fs::read_to_string(&record).unwrap();
        let at = text.find("\"volatile\":\"").expect("the boot is recorded") + 12;
        fs::write(&record, format!("{}00000000{}", &text[..at], &text[at + 8..])).unwrap();
        for args in [&["mount", "fast"][..], &["diff", "fast"]] {
            sandbox.run("hoy-storage").args(args).fails(1, &["fast", "--volatile", "remove the container"]);
        }
        storage(&["rm", "fast"]);
    }
}

/// The record of a process that is gone, and of one of an earlier boot that has the same number, are of no holder.
#[test]
fn a_holder_that_is_gone() {
    let Some(sandbox) = busybox_store(User::Sub) else { return };
    let storage = |args: &[&str]| sandbox.ok("hoy-storage", args);
    storage(&["create", "--name", "kept", "busybox"]);
    let root = storage(&["mount", "kept"]);
    sandbox.run("sh").args(["-c", "echo 1 >\"$1/file\"", "-", &root]).ok();
    let record = sandbox.path("run/holder.json");
    let text = fs::read_to_string(&record).unwrap();
    let pid: i32 =
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["pid"].as_i64().unwrap().try_into().unwrap();
    let kill = || {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        // It ends when the kernel gets to it, and may stay as a process that nobody has waited for.
        let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
        while fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    // An earlier boot's: another holder is started, and the container mounted in it.
    let at = text.find("\"bootId\":\"").unwrap() + 10;
    fs::write(&record, format!("{}00000000{}", &text[..at], &text[at + 8..])).unwrap();
    let other = storage(&["mount", "kept"]);
    assert!(other != root && sandbox.run("cat").arg(format!("{other}/file")).ok() == "1");
    storage(&["umount", "kept"]);
    kill();
    // A dead one's, as after a reboot with RUNROOT on a disk.
    fs::write(&record, &text).unwrap();
    let root = storage(&["mount", "kept"]);
    assert_eq!(sandbox.run("cat").arg(format!("{root}/file")).ok(), "1");
    storage(&["rm", "kept"]);
}

/// The root file system of a running container is not mounted a second time when its holder is gone.
#[test]
fn an_overlay_is_mounted_once() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let mut child = sandbox.run("hoy").args(["run", "--name", "busy", "busybox", "sleep", "100"]).spawn();
    while sandbox.run("hoy").args(["exec", "busy", "true"]).output().status != 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let id = sandbox.ok("hoy", &["ps", "-q", "--no-trunc"]);
    sandbox.ok("hoy-storage", &["umount", "--force", &id]);
    sandbox.run("hoy-storage").args(["mount", &id]).fails(1, &["process", "still has", &id]);
    sandbox.ok("hoy", &["rm", "-f", "busy"]);
    child.wait().unwrap();
}
