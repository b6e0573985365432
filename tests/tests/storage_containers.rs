//! Containers of the store: names, mounts, holders, stubs, and what is left when they go.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hoy_tests::{User, busybox_store, need};

fn life(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let storage = |args: &[&str]| sandbox.ok("hoy-storage", args);
    let bundle = sandbox.path("work/bundle");
    let id = storage(&["create", "--name", "one", "--bundle", bundle.to_str().unwrap(), "busybox"]);
    assert!(id.len() == 64 && id.bytes().all(|c| c.is_ascii_hexdigit()), "{id}");
    sandbox.run("hoy-storage").args(["create", "--name", "one", "busybox"]).fails(1, &["one", &id]);
    assert_eq!(storage(&["containers", "-q"]), id[..12], "a failed creation leaves nothing");
    // CVE-2021-21284, CVE-2021-41091: other users reach no setuid file of an image.
    for dir in ["root/layers", "root/containers"] {
        assert_eq!(fs::metadata(sandbox.path(dir)).unwrap().permissions().mode() & 0o7777, 0o700, "{dir}");
    }
    let mount = storage(&["mount", "one"]);
    assert_eq!(mount, storage(&["mount", &id[..6]]), "mounting again is no change");
    sandbox.run("sh").args(["-c", "echo text >\"$1/file\"", "-", &mount]).ok();
    storage(&["umount", "one"]);
    assert!(!Path::new(&mount).join("file").exists());
    let mount = storage(&["mount", "one"]);
    assert_eq!(sandbox.run("cat").arg(format!("{mount}/file")).ok(), "text");
    assert_eq!(storage(&["diff", "one"]), "A /file");
    assert!(storage(&["mount"]).contains(&mount));
    sandbox.run("hoy-storage").args(["rmi", "busybox"]).fails(1, &["busybox", "one"]);
    storage(&["rm", "one"]);
    assert_eq!(storage(&["containers", "-q"]), "");
    assert!(!bundle.join("rootfs").exists(), "the bundle's rootfs goes with the container");
    assert!(storage(&["rmi", "busybox"]).contains("Deleted: "));
    assert_eq!(storage(&["images", "-n"]), "");
    storage(&["prune", "--force"]);
    assert_eq!(fs::read_dir(sandbox.path("root/blobs/sha256")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(sandbox.path("root/layers")).unwrap().count(), 0);
    assert!(!sandbox.path("run/holder.json").exists(), "nobody keeps mounts when there are none");
}

#[test]
fn a_container_as_root() {
    life(User::Root);
}

#[test]
fn a_container_as_user() {
    life(User::Sub);
}

#[test]
fn a_container_with_one_id() {
    life(User::One);
}

#[test]
fn from_nothing() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let id = sandbox.ok("hoy-storage", &["create", "scratch"]);
    let mount = sandbox.ok("hoy-storage", &["mount", &id]);
    let tar = || sandbox.run("sh").args(["-c", &format!("hoy-storage diff --tar {id} | sha256sum")]).ok();
    let nothing = sandbox.run("sh").args(["-c", "head -c 1024 /dev/zero | sha256sum"]).ok();
    assert_eq!(tar(), nothing, "nothing is an empty archive");
    // What a runtime makes to mount something is no change, as long as nobody writes there.
    let container = sandbox.path("root/containers").join(&id);
    fs::write(container.join("stubs.json"), r#"["/proc", "/etc/resolv.conf", "/run/secret/key"]"#).unwrap();
    for dir in ["proc", "etc", "run/secret"] {
        fs::create_dir_all(Path::new(&mount).join(dir)).unwrap();
    }
    for file in ["etc/resolv.conf", "run/secret/key"] {
        fs::write(Path::new(&mount).join(file), "").unwrap();
    }
    assert_eq!(tar(), nothing);
    fs::write(Path::new(&mount).join("etc/resolv.conf"), "nameserver ::1").unwrap();
    assert_eq!(sandbox.ok("hoy-storage", &["diff", &id]), "A /etc\nA /etc/resolv.conf");
    sandbox.ok("hoy-storage", &["rm", &id]);
}

#[test]
fn in_use() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let id = sandbox.ok("hoy-storage", &["create", "busybox"]);
    let mount = sandbox.ok("hoy-storage", &["mount", &id]);
    let open = fs::File::open(Path::new(&mount).join("etc/passwd")).unwrap();
    for command in ["umount", "rm"] {
        sandbox.run("hoy-storage").args([command, &id]).fails(1, &["in use", &id, "--force"]);
    }
    sandbox.ok("hoy-storage", &["rm", "--force", &id]);
    drop(open);
    sandbox.run("hoy-storage").args(["rm", &id]).fails(1, &[&id]);
    sandbox.ok("hoy-storage", &["rm", "--force", &id]);
}

/// The record of a layer from an earlier boot is believed only when its files had reached the disk.
#[test]
fn after_a_crash() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let create = || sandbox.ok("hoy-storage", &["create", "busybox"]);
    let first = create();
    sandbox.ok("hoy-storage", &["rm", &first]);
    let layers = sandbox.path("root/layers");
    let record = fs::read_dir(&layers).unwrap().flatten().map(|e| e.path()).find(|p| p.extension().is_some()).unwrap();
    let busybox = record.with_extension("").join("bin/busybox");
    let text = fs::read_to_string(&record).unwrap();
    for (synced, is_kept) in [(true, true), (false, false)] {
        fs::write(&busybox, "torn").unwrap();
        let boot = text.find("bootId\":\"").unwrap() + 9;
        let mut other = text.replace("\"synced\":false", &format!("\"synced\":{synced}"));
        other.replace_range(boot..boot + 8, "00000000");
        fs::write(&record, other).unwrap();
        let id = create();
        assert_eq!(fs::read(&busybox).unwrap() == b"torn", is_kept, "synced: {synced}");
        sandbox.ok("hoy-storage", &["rm", &id]);
    }
    // Once the files had time to reach the disk they are marked.
    let id = create();
    sandbox.run("touch").args(["-d", "2 minutes ago"]).arg(&record).ok();
    sandbox.ok("hoy-storage", &["rm", &id]);
    let id = create();
    assert!(fs::read_to_string(&record).unwrap().contains("\"synced\":true"));
    sandbox.ok("hoy-storage", &["rm", &id]);
    fs::write(&record, "{").unwrap();
    fs::write(&busybox, "torn").unwrap();
    create();
    assert!(fs::metadata(&busybox).unwrap().len() > 10, "a torn record is none");
    // So is that of a container which need not survive a power cut.
    let id = sandbox.ok("hoy-storage", &["create", "--volatile", "busybox"]);
    let container = sandbox.path("root/containers").join(&id);
    fs::write(container.join("storage.json"), "").unwrap();
    assert!(!sandbox.ok("hoy-storage", &["containers", "-q", "--no-trunc"]).contains(&id));
    sandbox.ok("hoy-storage", &["prune", "--force"]);
    assert!(!container.exists());
}

/// What a new container consists of is on disk before it is said to be there, in its last form: a power cut leaves it so.
#[test]
fn a_container_is_durable() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !need(&["strace"]) {
        return;
    }
    fs::write(sandbox.path("work/mine.json"), "{}").unwrap();
    let trace = ["-f", "-qq", "-y", "-e", "trace=/^rename,fsync", "-o", "trace"];
    let create = ["create", "--record", "mine.json=mine.json", "busybox"];
    let id = sandbox.run("strace").args(trace).arg(hoy_tests::program("hoy-storage")).args(create).ok();
    let trace = fs::read_to_string(sandbox.path("work/trace")).unwrap();
    let container = sandbox.path("root/containers").join(&id).display().to_string();
    let (before, after) = trace.split_once(&format!("{container}/storage.json\"")).expect("it is given its last name");
    for file in ["mine.json", ".tmp-"] {
        assert!(before.lines().any(|l| l.contains("fsync(") && l.contains(&format!("{container}/{file}"))), "{trace}");
    }
    for directory in [&container, sandbox.path("root/containers").to_str().unwrap()] {
        assert!(after.lines().any(|l| l.contains("fsync(") && l.contains(&format!("<{directory}>"))), "{trace}");
    }
}

/// Where overlays cannot be mounted the root file system is a copy, and the same changes give the same layer.
#[test]
fn without_mounts() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !need(&["capsh"]) {
        return;
    }
    let script = "id=$(hoy-storage create busybox); m=$(hoy-storage mount $id); test -z \"$(hoy-storage diff $id)\"\n\
        rm $m/etc/group; echo new >$m/etc/new; chmod 700 $m/var; hoy-storage diff --tar --clamp 0 $id | sha256sum\n\
        hoy-storage rm $id >/dev/null";
    let mounted = sandbox.run("sh").args(["-euc", script]).output();
    let copied = sandbox.run("capsh").args(["--drop=cap_sys_admin", "--", "-euc", script]).output();
    assert!(copied.stderr.contains("a copy") && !mounted.stderr.contains("a copy"), "{}", copied.stderr);
    assert_eq!(mounted.stdout, copied.stdout);
    assert_eq!((mounted.status, copied.status), (0, 0));
    // An overlay cannot lie on an overlay, as in a container of somebody else's.
    let on = "mkdir lower upper work on && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none on && \
        cp -a \"$HOY_ROOT/.\" on && export HOY_ROOT=$PWD/on";
    let stacked = sandbox.run("sh").args(["-euc", &format!("{on}\n{script}")]).output();
    assert!(stacked.stderr.contains("a copy"), "{}", stacked.stderr);
    assert_eq!((stacked.status, stacked.stdout), (0, copied.stdout));
}

#[test]
fn questions_need_a_terminal() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    sandbox.run("hoy-storage").args(["prune", "--all"]).fails(2, &["--force"]);
    assert_ne!(sandbox.ok("hoy-storage", &["images", "-q"]), "");
    sandbox.ok("hoy-storage", &["prune", "--all", "--force"]);
    assert_eq!(sandbox.ok("hoy-storage", &["images", "-q"]), "");
}

/// Nobody takes a container away while what was written in it is read: a layer would lack files, and nobody would know.
#[test]
fn what_is_read_is_not_removed() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    for command in [["diff", "--tar"], ["export", "--output=-"]] {
        let id = sandbox.ok("hoy-storage", &["create", "busybox"]);
        let mount = sandbox.ok("hoy-storage", &["mount", &id]);
        // More than a pipe and a buffer hold comes before the last file.
        fs::write(Path::new(&mount).join("a"), vec![b'x'; 4 << 20]).unwrap();
        fs::write(Path::new(&mount).join("zz"), "last").unwrap();
        sandbox.ok("hoy-storage", &["umount", &id]);
        let mut reader = sandbox.run("hoy-storage").args(command).arg(&id);
        let mut reader = reader.command().stdout(Stdio::piped()).spawn().unwrap();
        let mut tar = vec![0; 1 << 20];
        let mut pipe = reader.stdout.take().unwrap();
        pipe.read_exact(&mut tar).unwrap();
        std::thread::scope(|scope| {
            let rm = scope.spawn(|| sandbox.ok("hoy-storage", &["rm", "--force", &id]));
            std::thread::sleep(Duration::from_millis(300));
            pipe.read_to_end(&mut tar).unwrap();
            assert!(reader.wait().unwrap().success(), "{command:?}");
            rm.join().unwrap();
        });
        assert!(sandbox.run("tar").args(["-t"]).stdin(tar).ok().lines().any(|name| name == "zz"), "{command:?}");
        assert!(!sandbox.path("root/containers").join(&id).exists());
    }
}
