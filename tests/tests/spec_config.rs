//! `hoy-spec`: what it prints is valid, the same each time, and an image's files cannot mislead it.

use std::fs;
use std::os::unix::fs::symlink;

use hoy_tests::{Run, Sandbox, User, busybox_root, has, need, need_root, need_shared, skip};
use serde_json::{Value, json};

/// A sandbox with a root file system `rootfs` and an image configuration `image.json`.
fn with_rootfs(config: Value) -> Option<Sandbox> {
    if !need(&["busybox"]) {
        return None;
    }
    let sandbox = Sandbox::new();
    busybox_root(&sandbox.path("work/rootfs"));
    let image = json!({"architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": []}});
    fs::write(sandbox.path("work/image.json"), image.to_string()).unwrap();
    Some(sandbox)
}

fn spec(sandbox: &Sandbox, args: &[&str]) -> Run {
    sandbox.run("hoy-spec").args(["--rootfs", "rootfs"]).args(args.iter().copied())
}

fn config(sandbox: &Sandbox, args: &[&str]) -> Value {
    serde_json::from_str(&spec(sandbox, args).ok()).unwrap()
}

#[test]
fn same_input_same_bytes() {
    let Some(sandbox) =
        with_rootfs(json!({"Cmd": ["sh"], "User": "app", "Env": ["A=b"], "Labels": {"x": "y", "z": "a"}}))
    else {
        return;
    };
    let args = ["--sysctl", "net.core.somaxconn=9", "--annotation", "b=1", "--annotation", "a=2", "image.json"];
    let first = spec(&sandbox, &args).ok();
    for _ in 0..4 {
        assert_eq!(spec(&sandbox, &args).ok(), first);
    }
    let image = fs::read(sandbox.path("work/image.json")).unwrap();
    assert_eq!(spec(&sandbox, &[&args[..6], &["-"]].concat()).stdin(image).ok(), first);
}

#[test]
fn the_schema_accepts_it() {
    let Some(schemas) = need_shared("data/runtime-spec") else { return };
    if !has("python3") || Run::new("python3").args(["-c", "import jsonschema"]).output().status != 0 {
        return skip("python3 has no jsonschema");
    }
    let Some(sandbox) = with_rootfs(json!({"Cmd": ["sh"]})) else { return };
    let check = "
import json, sys, pathlib, warnings
warnings.simplefilter('ignore')
import jsonschema
base = pathlib.Path(sys.argv[1]).resolve()
store = {f.as_uri(): json.load(open(f)) for f in base.glob('*.json')}
schema = json.load(open(base / 'config-schema.json'))
resolver = jsonschema.RefResolver((base / 'config-schema.json').as_uri(), schema, store=store)
jsonschema.Draft7Validator(schema, resolver=resolver).validate(json.load(sys.stdin))
";
    let all = [
        "-t",
        "--init-path=/bin/busybox",
        "--init",
        "--read-only",
        "-v",
        "/tmp:/t:ro",
        "--tmpfs",
        "/q",
        "--device",
        "/dev/null:/dev/n:r",
        "--ulimit",
        "nofile=5:6",
        "--cap-add",
        "net_raw",
        "-u",
        "1000",
        "--hostname",
        "box",
        "--umask",
        "077",
        "--oom-score-adj",
        "5",
        "--security-opt",
        "no-new-privileges",
        "image.json",
    ];
    for args in [&["image.json"][..], &["--privileged", "--network", "host", "image.json"], &all] {
        let text = spec(&sandbox, args).ok();
        Run::new("python3").args(["-c", check]).arg(&schemas).stdin(text).ok();
    }
}

#[test]
fn what_podman_writes() {
    if !need_root() || !need(&["podman"]) {
        return;
    }
    let Some(sandbox) = with_rootfs(json!({"Cmd": ["sh"]})) else { return };
    let podman = |args: &[&str]| {
        let dir = sandbox.path("podman");
        let mut run = Run::new("podman").arg("--root").arg(dir.join("root")).arg("--runroot").arg(dir.join("run"));
        run = run.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        run.args(args.iter().copied()).output()
    };
    let limits = ["--ulimit", "nofile=100:100", "--ulimit", "nproc=100:100"];
    let rootfs = sandbox.path("work/rootfs");
    let create =
        [&["create", "--network", "none", "--rootfs"][..], &limits, &[rootfs.to_str().unwrap(), "sh"]].concat();
    let created = podman(&create);
    let id = created.stdout.trim().to_owned();
    podman(&["init", &id]);
    let theirs = fs::read(sandbox.path(&format!("podman/root/vfs-containers/{id}/userdata/config.json")));
    podman(&["rm", "--force", &id]);
    let Ok(theirs) = theirs else { return skip("podman wrote no config.json here") };
    let theirs: Value = serde_json::from_slice(&theirs).unwrap();
    let ours = config(&sandbox, &[&limits[..], &["image.json"]].concat());
    let sorted = |value: &Value| {
        let mut all: Vec<String> = value.as_array().into_iter().flatten().map(ToString::to_string).collect();
        all.sort();
        all
    };
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        let set = format!("/process/capabilities/{set}");
        let of = |config: &Value| config.pointer(&set).map(sorted).unwrap_or_default();
        assert_eq!(of(&ours), of(&theirs), "{set}");
    }
    for same in [
        "/process/cwd",
        "/process/args",
        "/process/user/uid",
        "/process/user/umask",
        "/linux/sysctl",
        "/linux/resources/pids",
    ] {
        assert_eq!(ours.pointer(same), theirs.pointer(same), "{same}");
    }
    let hidden: Vec<String> = ["/linux/maskedPaths", "/linux/readonlyPaths"]
        .iter()
        .flat_map(|p| sorted(&ours.pointer(p).unwrap().clone()))
        .collect();
    for path in ["/linux/maskedPaths", "/linux/readonlyPaths"].iter().flat_map(|p| sorted(theirs.pointer(p).unwrap())) {
        assert!(hidden.contains(&path), "podman hides {path}");
    }
}

#[test]
fn hostile_images() {
    let Some(sandbox) = with_rootfs(json!({"Cmd": ["sh"], "Env": ["SECRET", "S*", "", "=x", "A=1"]})) else { return };
    let made = serde_json::from_str::<Value>(&spec(&sandbox, &["image.json"]).env("SECRET", "s3cret").ok()).unwrap();
    assert!(!made.to_string().contains("s3cret"));
    assert!(made["process"]["env"].as_array().unwrap().contains(&json!("A=1")));
    let passwd = sandbox.path("work/rootfs/etc/passwd");
    fs::write(&passwd, "1000:x:0:0::/:/bin/sh\nroot:x:0:0::/root:\n").unwrap();
    assert_eq!(config(&sandbox, &["-u", "1000", "image.json"])["process"]["user"]["uid"], 1000, "CVE-2016-3697");
    for user in ["4294967296", "2147483648", "-1", "00", " 0", "1x", "ghost", "root:ghost"] {
        spec(&sandbox, &["-u", user, "image.json"]).fails(1, &[user.split(':').next_back().unwrap()]);
    }
    fs::remove_file(&passwd).unwrap();
    Run::new("mkfifo").arg(&passwd).ok();
    spec(&sandbox, &["image.json"]).fails(1, &["/etc/passwd", "regular"]);
    fs::remove_file(&passwd).unwrap();
    symlink("/etc/shadow", &passwd).unwrap();
    assert_eq!(config(&sandbox, &["image.json"])["process"]["user"]["uid"], 0, "the link stays in the image");
    spec(&sandbox, &["-w", "/proc/self/fd/7", "image.json"]).fails(1, &["/proc/self/fd/7"]);
    fs::remove_file(&passwd).unwrap();
    fs::write(&passwd, vec![b'x'; 2 << 20]).unwrap();
    spec(&sandbox, &["image.json"]).fails(1, &["/etc/passwd", "1 MiB"]);
}

#[test]
fn a_name_alone_takes_the_callers_value() {
    let Some(sandbox) = with_rootfs(json!({"Cmd": ["sh"]})) else { return };
    let made = spec(&sandbox, &["-e", "MINE", "-e", "NOT_MINE", "image.json"]).env("MINE", "yes").ok();
    assert!(made.contains("MINE=yes") && !made.contains("NOT_MINE"));
}

#[test]
fn root_both_peers_run_it() {
    if !User::Root.available() || !need_root() {
        return;
    }
    let Some(sandbox) = with_rootfs(json!({"Cmd": ["sh", "-c", "id -u; cat /proc/1/comm; hostname; exit 3"]})) else {
        return;
    };
    for runtime in ["runc", "crun"] {
        if !need(&[runtime]) {
            continue;
        }
        let text = spec(&sandbox, &["--cgroups", "disabled", "image.json"]).ok();
        fs::write(sandbox.path("work/config.json"), text).unwrap();
        // Debian's crun refuses a hybrid hierarchy altogether; a mount namespace hides that it is one.
        let script = format!("umount /sys/fs/cgroup/unified 2>/dev/null; exec {runtime} run spec-test-{runtime}-$$");
        let out = sandbox.run("unshare").args(["-m", "sh", "-c", &script]).output();
        assert_eq!((out.status, out.stdout.as_str()), (3, "0\nsh\nhoy\n"), "{runtime}: {}", out.stderr);
    }
}
