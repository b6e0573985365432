//! The same Containerfiles through `hoy-build build` and Debian's buildah: equal trees, equal configurations.

use std::fs;
use std::path::{Path, PathBuf};

use hoy_tests::{CASES, Case, Peer, Run, Sandbox, User, busybox_store, is_long, need, write_context};
use serde_json::Value;

/// What buildah leaves in an image because a RUN needed something to mount on; no sentence of the reference asks for it.
const STUBS: &[&str] = &[
    "dev d ",
    "proc d ",
    "run d ",
    "sys d ",
    "etc/hostname ",
    "etc/hosts ",
    "etc/resolv.conf ",
    "m f ",
    "m d ",
    "t d ",
    "cache d ",
];

/// What is there: kind, permissions, owner, links' targets, contents; and which names are one file.
fn tree(dir: &Path) -> Vec<String> {
    let script = "find . -mindepth 1 -printf '%P %y %m %U:%G %n %l\\n'; find . -type f -exec sha256sum {} +";
    let mut lines: Vec<String> = Run::new("sh").args(["-c", script]).dir(dir).ok().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Tree and configuration of an image.
fn seen(sandbox: &Sandbox, image: &str) -> (Vec<String>, Value) {
    let path: PathBuf = sandbox.path(&format!("tree-{image}"));
    sandbox.run("hoy-storage").arg("unpack").arg(image).arg(&path).ok();
    let config: Value =
        serde_json::from_str(&sandbox.ok("hoy-copy", &["inspect", "--config", &format!("store:{image}")])).unwrap();
    let mut inner = config["config"].clone();
    if let Some(labels) = inner["Labels"].as_object_mut() {
        labels.remove("io.buildah.version");
        if labels.is_empty() {
            inner["Labels"] = Value::Null;
        }
    }
    let mut list = tree(&path);
    list.retain(|line| !STUBS.iter().any(|stub| line.starts_with(stub) || line.ends_with(stub.trim_end())));
    (list, inner)
}

/// What a case wants and is not there, in the tree and the configuration just seen.
fn missing(sandbox: &Sandbox, case: &Case, config: &Value) -> Vec<String> {
    let tree = sandbox.path("tree-ours");
    let found = |key: &str| match key.strip_prefix("config:") {
        Some(pointer) => config.pointer(pointer).map(|value| value.as_str().map_or(value.to_string(), str::to_owned)),
        None => fs::read_to_string(tree.join(key.trim_start_matches('/'))).ok(),
    };
    let wrong = case.want.iter().filter(|(key, text)| found(key).as_deref() != Some(text));
    wrong.map(|(key, text)| format!("{}: {key} is {:?}, wanted {text:?}", case.name, found(key))).collect()
}

#[test]
fn buildah_makes_the_same() {
    if !need(&["buildah", "skopeo"]) {
        return;
    }
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let work = sandbox.path("work");
    write_context(&work);
    sandbox.ok("hoy-storage", &["tag", "busybox", "localhost/base"]);
    let peer = |args: &[&str]| {
        let (root, run) = (sandbox.path("peer"), sandbox.path("peer-run"));
        let store =
            ["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap(), "--storage-driver", "overlay"];
        Run::new("buildah").args(store).args(args).dir(&work).output()
    };
    let base = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    let (root, run) = (sandbox.path("peer"), sandbox.path("peer-run"));
    let store = format!("containers-storage:[overlay@{}+{}]localhost/base:latest", root.display(), run.display());
    Run::new("skopeo").args(["copy", "-q", &base, &store]).ok();
    let mut differ = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let name = case.name;
        fs::write(work.join("Containerfile"), case.text).unwrap();
        sandbox.run("hoy-build").args(["build", "-q", "-t", "ours"]).args(case.options).arg(".").ok();
        let ours = seen(&sandbox, "ours");
        differ.extend(missing(&sandbox, case, &ours.1));
        fs::remove_dir_all(sandbox.path("tree-ours")).unwrap();
        // The peer takes its time: in the short run it makes every third.
        if case.peer == Peer::Unknown || !(is_long() || number % 3 == 0) {
            continue;
        }
        let fixed = ["bud", "-q", "--isolation", "chroot", "-t", "theirs", "-f", "Containerfile"];
        let out = peer(&[&fixed, case.options, &["."]].concat());
        assert_eq!(out.status, 0, "{name}: {}", out.stderr);
        let sent = format!("oci:{}:theirs", sandbox.path("sent").display());
        assert_eq!(peer(&["push", "-q", "-D", "theirs", &sent]).status, 0);
        sandbox.ok("hoy-copy", &["copy", "-q", &sent, "store:theirs"]);
        let theirs = seen(&sandbox, "theirs");
        fs::remove_dir_all(sandbox.path("tree-theirs")).unwrap();
        let only = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
        if let Peer::Different(reason) = case.peer {
            assert!(ours != theirs, "{name}: the peer agrees now, although: {reason}");
            continue;
        }
        if ours.0 != theirs.0 {
            differ.push(format!(
                "{name}: ours {:#?}, theirs {:#?}",
                only(&ours.0, &theirs.0),
                only(&theirs.0, &ours.0)
            ));
        }
        if ours.1 != theirs.1 {
            differ.push(format!("{name}: ours {}, theirs {}", ours.1, theirs.1));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
