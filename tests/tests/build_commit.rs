//! What `hoy-build` commits, held against other tools' reading of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use hoy_tests::{Registry, Run, Sandbox, User, busybox_layout, busybox_store, need};
use serde_json::Value;

/// A layout with the image `busybox:latest` that every user can read.
fn base() -> Sandbox {
    let sandbox = Sandbox::new();
    let layout = sandbox.path("layout");
    busybox_layout(&layout);
    Run::new("chmod").args(["-R", "a+rX"]).arg(&layout).ok();
    sandbox
}

/// A sandbox whose store has `busybox`.
fn with_busybox(user: User) -> Option<Sandbox> {
    (user.available() && need(&["umoci", "busybox"])).then(|| with_image(user, &base()))
}

fn with_image(user: User, base: &Sandbox) -> Sandbox {
    let sandbox = Sandbox::for_user(user);
    let image = format!("oci:{}:busybox:latest", base.path("layout").display());
    sandbox.ok("hoy-copy", &["copy", &image, "store:busybox"]);
    sandbox
}

fn mounted(sandbox: &Sandbox, container: &str) -> PathBuf {
    PathBuf::from(sandbox.ok("hoy-build", &["mount", container]))
}

fn manifest(sandbox: &Sandbox, image: &str) -> Value {
    let text = sandbox.ok("hoy-copy", &["inspect", "--raw", &format!("store:{image}")]);
    serde_json::from_str(&text).unwrap()
}

fn config(sandbox: &Sandbox, image: &str) -> Value {
    let text = sandbox.ok("hoy-copy", &["inspect", "--config", "--raw", &format!("store:{image}")]);
    serde_json::from_str(&text).unwrap()
}

fn digest(sandbox: &Sandbox, image: &str) -> String {
    sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &format!("store:{image}")])
}

/// Everything that a build does, once; what comes out is the manifest's digest.
fn build(sandbox: &Sandbox) -> String {
    fs::write(sandbox.path("work/file"), "copied\n").unwrap();
    let container = sandbox.ok("hoy-build", &["from", "busybox"]);
    let root = mounted(sandbox, &container);
    sandbox.run("cp").args(["-r", "/etc/pam.d"]).arg(root.join("etc/pam.d")).ok();
    sandbox.run("rm").arg(root.join("etc/os-release")).ok();
    sandbox.run("hoy-build").args(["copy", "-q", "--chown", "app:staff", &container, "file", "/srv/app/file"]).ok();
    sandbox.ok("hoy-build", &["run", &container, "--", "sh", "-c", "echo ran > /ran"]);
    sandbox.ok("hoy-build", &["config", "--env", "A=b", "--label", "x=y", "--cmd", "cat /ran", &container]);
    let first = sandbox.ok("hoy-build", &["commit", "-q", &container, "app"]);
    let second = sandbox.ok("hoy-build", &["commit", "-q", &container, "app"]);
    assert_eq!(first, second, "two commits, one image");
    digest(sandbox, "app")
}

#[test]
fn one_digest_for_every_user() {
    if !need(&["umoci", "busybox"]) {
        return;
    }
    let (base, mut digests) = (base(), Vec::new());
    for user in [User::Root, User::Sub, User::One] {
        if !user.available() {
            return;
        }
        let sandbox = with_image(user, &base);
        digests.push((user, build(&sandbox)));
        let config = config(&sandbox, "app");
        assert_eq!(config["created"], "2024-01-01T00:00:00Z", "the time of the base image");
        assert_eq!(config["config"]["Env"].as_array().unwrap().last().unwrap(), "A=b");
    }
    assert!(digests.windows(2).all(|pair| pair[0].1 == pair[1].1), "{digests:?}");
}

fn nothing_changed(user: User) {
    let Some(sandbox) = with_busybox(user) else { return };
    let base = manifest(&sandbox, "busybox");
    let container = sandbox.ok("hoy-build", &["from", "--name", "unchanged", "busybox"]);
    assert_eq!(container, "unchanged");
    sandbox.ok("hoy-build", &["run", &container, "--", "true"]);
    let volume = format!("{}:/deep/down", sandbox.path("work").display());
    sandbox.ok("hoy-build", &["run", "--network", "host", "-v", &volume, &container, "--", "ls", "/deep/down"]);
    assert_eq!(sandbox.ok("hoy-storage", &["diff", &container]), "");
    sandbox.ok("hoy-build", &["commit", "-q", &container, "same"]);
    assert_eq!(manifest(&sandbox, "same")["layers"], base["layers"]);
    assert_eq!(config(&sandbox, "same")["history"].as_array().unwrap().last().unwrap()["empty_layer"], true);
    let code = sandbox.run("hoy-build").args(["run", &container, "--", "sh", "-c", "exit 7"]).output().status;
    assert_eq!(code, 7);
    sandbox.ok("hoy-build", &["rm", &container]);
}

#[test]
fn run_true_adds_no_layer_as_root() {
    nothing_changed(User::Root);
}

#[test]
fn run_true_adds_no_layer_as_user() {
    nothing_changed(User::Sub);
}

#[test]
fn peers_agree_on_every_digest() {
    if !User::Root.available() || !need(&["skopeo", "umoci", "podman", "docker-registry"]) {
        return;
    }
    let Some(sandbox) = with_busybox(User::Root) else { return };
    let built = build(&sandbox);
    let layout = sandbox.path("work/out");
    let target = format!("oci:{}:app", layout.display());
    sandbox.ok("hoy-build", &["push", "-q", "app", &target]);
    assert_eq!(Run::new("skopeo").args(["inspect", "--format", "{{.Digest}}", &target]).ok(), built);
    let bundle = sandbox.path("work/bundle");
    Run::new("umoci").args(["unpack", "--image", target.trim_start_matches("oci:")]).arg(&bundle).ok();
    assert_eq!(fs::read_to_string(bundle.join("rootfs/srv/app/file")).unwrap(), "copied\n");
    assert!(!bundle.join("rootfs/etc/os-release").exists(), "the deletion is in the layer");

    let registry = Registry::start();
    let name = format!("{}/team/app:1", registry.address());
    let digest_file = sandbox.path("work/digest");
    let args = ["push", "-q", "--tls-verify=false", "--digestfile"];
    sandbox.run("hoy-build").args(args).arg(&digest_file).args(["app", &name]).ok();
    assert_eq!(fs::read_to_string(&digest_file).unwrap().trim(), built);
    let peer = Sandbox::new();
    let podman = |args: &[&str]| {
        Run::new("podman").arg("--root").arg(peer.path("root")).arg("--runroot").arg(peer.path("run")).args(args).ok()
    };
    let id = podman(&["pull", "-q", "--tls-verify=false", &name]);
    assert_eq!(podman(&["image", "inspect", "--format", "{{.Digest}}", &name]), built);
    assert_eq!(format!("sha256:{id}"), manifest(&sandbox, "app")["config"]["digest"].as_str().unwrap());
    podman(&["rmi", "-a", "-f"]);

    let other = Sandbox::new();
    let pulled = other.ok("hoy-build", &["pull", "-q", "--tls-verify=false", &name]);
    assert_eq!(pulled, id);
    let container = other.ok("hoy-build", &["from", "--pull-never", &name]);
    assert_eq!(container, "app-working-container");
    let inspected = other.ok("hoy-build", &["inspect", "--format", "{{.FromImage}} {{.FromImageID}}", &container]);
    assert_eq!(inspected, format!("{name} {id}"));
}

#[test]
fn docker_format() {
    if !need(&["skopeo"]) {
        return;
    }
    let Some(sandbox) = with_busybox(User::Root) else { return };
    let container = sandbox.ok("hoy-build", &["from", "busybox"]);
    let settings = ["config", "--healthcheck", "CMD true", "--onbuild", "RUN x", "--shell", "/bin/sh -e -c"];
    sandbox.run("hoy-build").args(settings).arg(&container).ok();
    let dir = format!("dir:{}", sandbox.path("work/docker").display());
    let id = sandbox.ok("hoy-build", &["commit", "-q", "--format", "docker", &container, &dir]);
    let raw: Value = serde_json::from_str(&Run::new("skopeo").args(["inspect", "--raw", &dir]).ok()).unwrap();
    assert_eq!(raw["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(raw["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    assert_eq!(raw["config"]["digest"], format!("sha256:{id}"));
    let kinds = raw["layers"].as_array().unwrap().iter().map(|layer| layer["mediaType"].as_str().unwrap());
    assert!(kinds.into_iter().all(|kind| kind == "application/vnd.docker.image.rootfs.diff.tar.gzip"), "{raw}");
    let config: Value =
        serde_json::from_str(&Run::new("skopeo").args(["inspect", "--config", "--raw", &dir]).ok()).unwrap();
    assert_eq!(config["config"]["OnBuild"][0], "RUN x");
    assert_eq!(config["config"]["Healthcheck"]["Test"][0], "CMD");
    assert_eq!(sandbox.ok("hoy-build", &["images", "-q"]).lines().count(), 1, "what was sent away did not stay");
}

#[test]
fn squash_and_times() {
    let Some(sandbox) = with_busybox(User::Root) else { return };
    let container = sandbox.ok("hoy-build", &["from", "busybox"]);
    let root = mounted(&sandbox, &container);
    fs::write(root.join("new"), "new").unwrap();
    symlink("/nowhere", root.join("link")).unwrap();
    sandbox.ok("hoy-build", &["commit", "-q", "--squash", &container, "flat"]);
    assert_eq!(manifest(&sandbox, "flat")["layers"].as_array().unwrap().len(), 1);
    let list = |image: &str| {
        let dir = sandbox.path(&format!("work/{image}"));
        sandbox.run("hoy-storage").args(["unpack", image]).arg(&dir).ok();
        Run::new("sh").args(["-c", "find . -printf '%P %M %U %G %s %l\n' | sort"]).dir(&dir).ok()
    };
    sandbox.ok("hoy-build", &["commit", "-q", &container, "layered"]);
    assert_eq!(list("flat"), list("layered"), "one layer or two, the files are the same");
    for (args, environment, want) in [
        (&["--timestamp", "5"][..], "7", "1970-01-01T00:00:05Z"),
        (&[], "7", "1970-01-01T00:00:07Z"),
        (&["--omit-timestamp"], "7", "1970-01-01T00:00:00Z"),
        (&[], "", "2024-01-01T00:00:00Z"),
    ] {
        let run = sandbox.run("hoy-build").args(["commit", "-q"]).args(args).args([container.as_str(), "timed"]);
        run.env("SOURCE_DATE_EPOCH", environment).ok();
        assert_eq!(config(&sandbox, "timed")["created"], want, "{args:?} {environment}");
    }
    sandbox.run("hoy-build").args(["commit", "--timestamp", "noon", &container]).fails(125, &["--timestamp", "noon"]);
}

#[test]
fn names_and_lists() {
    let sandbox = Sandbox::new();
    let build = |args: &[&str]| sandbox.ok("hoy-build", args);
    assert_eq!(build(&["from", "scratch"]), "working-container");
    assert_eq!(build(&["from", "scratch"]), "working-container-1");
    build(&["rename", "working-container-1", "other"]);
    sandbox
        .run("hoy-build")
        .args(["rename", "other", "working-container"])
        .fails(125, &["working-container", "in use"]);
    let format = "{{.ContainerName}} {{.ImageName}}";
    assert_eq!(build(&["containers", "--format", format]), "working-container scratch\nother scratch");
    assert_eq!(build(&["containers", "-q", "--filter", "name=oth"]).len(), 64);
    assert!(build(&["containers"]).starts_with("CONTAINER ID  BUILDER"), "buildah's headings");
    build(&["umount", "--all"]);
    let path = build(&["mount", "other"]);
    assert_eq!(build(&["mount"]), format!("other {path}"));
    build(&["umount", "other"]);
    assert_eq!(build(&["mount"]), "");
    let id = build(&["commit", "-q", "other", "app"]);
    build(&["tag", "app", "r.example/team/app:1"]);
    let format = "{{.Name}} {{.Tag}}";
    let named = build(&["images", "--format", format]);
    assert_eq!(named, "localhost/app latest\nr.example/team/app 1");
    assert_eq!(build(&["images", "-q", "--no-trunc"]), format!("sha256:{id}"), "one image with two names");
    let listed: Value = serde_json::from_str(&build(&["images", "--json"])).unwrap();
    assert_eq!(listed[0]["names"][1], "r.example/team/app:1");
    assert_eq!(build(&["images", "-q", "--filter", "dangling=true"]), "");
    sandbox.run("hoy-build").args(["images", "nope"]).fails(125, &["nope"]);
    build(&["rmi", "app"]);
    assert_eq!(build(&["images", "-n", "--format", format]), "r.example/team/app 1");
    let ids = build(&["rm", "--all"]);
    assert_eq!(ids.lines().count(), 2);
    assert_eq!(build(&["containers", "-n"]), "");
    let foreign = sandbox.ok("hoy-storage", &["create", "scratch"]);
    sandbox.run("hoy-build").args(["rm", &foreign]).fails(125, &["was not made by hoy-build"]);
    sandbox.run("hoy-build").args(["build", "."]).fails(125, &["cannot find Containerfile or Dockerfile"]);
    sandbox.run("hoy-build").args(["from", "--no-such-flag", "x"]).fails(125, &["--no-such-flag"]);
}

/// What an image consists of is on disk before the index leads to it, and the index before the command ends: each
/// name once.
#[test]
fn an_image_is_durable() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !need(&["strace"]) {
        return;
    }
    let id = sandbox.ok("hoy-build", &["from", "busybox"]);
    let mounted = sandbox.ok("hoy-build", &["mount", &id]);
    fs::write(format!("{mounted}/new"), "new").unwrap();
    let trace = ["-qq", "-y", "-e", "trace=/^rename,fsync", "-o", "trace"];
    sandbox.run("strace").args(trace).arg(hoy_tests::program("hoy-build")).args(["commit", &id, "new"]).ok();
    let trace = fs::read_to_string(sandbox.path("work/trace")).unwrap();
    let blobs = sandbox.path("root/blobs/sha256").display().to_string();
    let index = format!("{}\"", sandbox.path("root/index.json").display());
    let (before, after) = trace.split_once(&index).expect("the index is replaced");
    let (written, last) = before.rsplit_once(&format!(", \"{blobs}/")).expect("a blob gets its name");
    assert_eq!(written.lines().filter(|l| l.contains("fsync(") && l.contains(&format!("{blobs}/.tmp-"))).count(), 3);
    let names =
        |lines: &str| lines.lines().filter(|l| l.contains("fsync(") && l.contains(&format!("<{blobs}>"))).count();
    assert_eq!((names(written), names(last)), (0, 1), "{trace}");
    let root = format!("<{}>", sandbox.path("root").display());
    assert!(after.lines().any(|l| l.contains("fsync(") && l.contains(&root)), "{trace}");
}
