//! `--cache-to` and `--cache-from`: a cold store takes what another store's steps made, and believes no byte of it unseen.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoy_tests::{Out, Registry, Run, Sandbox, User, busybox_store, is_long, need};
use serde_json::{Value, json};

/// Two stages: of the first one, only one small file gets into the image.
const TEXT: &str = "FROM busybox AS tools\nARG WORD=s3cr3t-word\nRUN head -c 300000 /dev/urandom >/big; echo $WORD >/small\n\
                    FROM busybox\nCOPY file /file\nWORKDIR /w\nRUN wc -c /file >count\nRUN true\nCOPY --from=tools /small /small\n";

/// A digest of nothing.
const OTHER: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A store that has the base image of `first`, and nothing else.
fn cold(user: User, first: &Sandbox) -> Sandbox {
    let sandbox = Sandbox::for_user(user);
    let image = format!("oci:{}:busybox:latest", first.path("layout").display());
    sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:busybox"]);
    context(&sandbox);
    sandbox
}

fn context(sandbox: &Sandbox) {
    fs::create_dir_all(sandbox.path("work/c")).unwrap();
    fs::write(sandbox.path("work/c/file"), "one\n").unwrap();
    fs::write(sandbox.path("work/c/Containerfile"), TEXT).unwrap();
    for (name, mode) in [("", 0o755), ("/file", 0o644), ("/Containerfile", 0o644)] {
        fs::set_permissions(sandbox.path(&format!("work/c{name}")), fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn build(sandbox: &Sandbox, args: &[&str]) -> Out {
    let all = [&["build", "-t", "made", "--progress", "plain"], args, &["c"]].concat();
    sandbox.run("hoy-build").args(all).output()
}

/// How many steps were done, and how many known.
fn steps(out: &Out) -> (usize, usize) {
    assert_eq!(out.status, 0, "{}", out.stderr);
    out.steps()
}

fn is_clean(sandbox: &Sandbox) {
    sandbox.ok("hoy-storage", &["check", "--deep"]);
}

fn cold_store_is_warm(from: User, to: User) {
    if !need(&["docker-registry"]) {
        return;
    }
    let Some(first) = busybox_store(from).filter(|_| to.available()) else { return };
    let registry = Registry::start();
    let cache = format!("{}/cache", registry.address());
    context(&first);
    let second = cold(to, &first);
    let insecure = "--tls-verify=false";
    let missing = build(&first, &[insecure, "--cache-from", &cache, "--cache-to", &cache]);
    assert_eq!(steps(&missing), (6, 0), "{}", missing.stderr);
    assert!(missing.stderr.contains("is not used"), "{}", missing.stderr);
    let known = build(&second, &[insecure, "--cache-from", &cache, "--explain"]);
    assert_eq!(steps(&known), (0, 6), "{}", known.stderr);
    assert_eq!(known.stdout, missing.stdout, "{from:?}, {to:?}");
    let place = format!("cached in \"docker://{cache}:cache\"");
    assert_eq!(known.stderr.lines().filter(|line| line.contains(&place)).count(), 6, "{}", known.stderr);
    // What only the first stage has was not fetched.
    let big = |sandbox: &Sandbox| {
        let blobs = fs::read_dir(sandbox.path("root/blobs/sha256")).unwrap();
        blobs.flatten().filter(|blob| (300_000..330_000).contains(&blob.metadata().unwrap().len())).count()
    };
    assert_eq!((big(&first), big(&second)), (1, 0));
    is_clean(&second);
    // What follows a change is done, from the layers of the cache where they are needed.
    fs::write(second.path("work/c/Containerfile"), format!("{TEXT}COPY --from=tools /big /\n")).unwrap();
    assert_eq!(steps(&build(&second, &[insecure, "--cache-from", &cache])), (1, 6));
    assert_eq!(big(&second), 2);
    is_clean(&second);
    // Everything is known here now.
    assert_eq!(steps(&build(&second, &[])), (0, 7));
}

#[test]
fn root() {
    cold_store_is_warm(User::Root, User::Root);
}

#[test]
fn subordinate_ids_from_root() {
    cold_store_is_warm(User::Root, User::Sub);
}

#[test]
fn root_from_one_id() {
    cold_store_is_warm(User::One, User::Root);
}

/// A directory is a cache, is replaced as a whole, has no variables in it, and is not written when nothing changed.
#[test]
fn directory() {
    let Some(first) = busybox_store(User::Root) else { return };
    context(&first);
    let second = cold(User::Root, &first);
    let directory = first.path("work/cache").display().to_string();
    let (to, from) = (format!("type=local,dest={directory},mode=max"), format!("oci:{directory}"));
    steps(&build(&first, &["--cache-to", &to]));
    let claims = claims(Path::new(&directory)).1;
    assert!(!claims.to_string().contains("s3cr3t") && !claims.to_string().contains("RUN"), "{claims}");
    assert_eq!(claims["steps"].as_object().unwrap().len(), 6);
    let written = fs::metadata(format!("{directory}/index.json")).unwrap().modified().unwrap();
    assert_eq!(steps(&build(&second, &["--cache-from", &from, "--cache-to", &from])), (0, 6));
    assert_eq!(fs::metadata(format!("{directory}/index.json")).unwrap().modified().unwrap(), written);
    // Nothing of the artifact stays in the store.
    second.ok("hoy-build", &["rmi", "made"]);
    assert_eq!(second.run("hoy-build").args(["build", "--no-cache", "--cache-from", &from, "c"]).output().status, 0);
    for (args, words) in [
        (&["--cache-to", "type=gha"][..], "type=registry"),
        (&["--cache-to", "docker-archive:x"], "images alone"),
        (&["--cache-from", &from, "--cache-ttl", "1h"], "cannot be used with"),
        (&["--cache-to", "oci:/proc/none/x"], "keep the build's cache"),
    ] {
        let out = build(&second, args);
        assert!(out.status == 125 && out.stderr.contains(words), "{args:?}: {} {}", out.status, out.stderr);
    }
}

/// The manifest and the configuration of the cache in a layout.
fn claims(directory: &Path) -> (Value, Value) {
    let read = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |digest: &Value| directory.join("blobs").join(digest.as_str().unwrap().replace(':', "/"));
    let manifest = read(blob(&read(directory.join("index.json"))["manifests"][0]["digest"]));
    let config = read(blob(&manifest["config"]["digest"]));
    (manifest, config)
}

/// Puts other claims into the layout.
fn claim(directory: &Path, mut manifest: Value, claims: &Value) {
    let put = |value: &Value| {
        let bytes = serde_json::to_vec(value).unwrap();
        let path = directory.join("new");
        fs::write(&path, &bytes).unwrap();
        let hex = Run::new("sha256sum").arg(&path).ok()[..64].to_owned();
        fs::rename(&path, directory.join("blobs/sha256").join(&hex)).unwrap();
        (format!("sha256:{hex}"), bytes.len())
    };
    let (digest, size) = put(claims);
    (manifest["config"]["digest"], manifest["config"]["size"]) = (json!(digest), json!(size));
    let (digest, size) = put(&manifest);
    let path = directory.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    (index["manifests"][0]["digest"], index["manifests"][0]["size"]) = (json!(digest), json!(size));
    fs::write(path, index.to_string()).unwrap();
}

/// Whatever a cache says or has, the image is what it would be without, and the store is whole.
#[test]
fn hostile() {
    let Some(first) = busybox_store(User::Root) else { return };
    context(&first);
    let directory = first.path("work/cache");
    let from = format!("oci:{}", directory.display());
    let text = TEXT.replace("head -c 300000 /dev/urandom", "head -c 300000 /dev/zero");
    fs::write(first.path("work/c/Containerfile"), &text).unwrap();
    let image = build(&first, &["--cache-to", &from]);
    steps(&image);
    let (manifest, honest) = claims(&directory);
    let layers = |change: fn(&mut Value)| {
        let mut claims = honest.clone();
        let steps = claims["steps"].as_object_mut().unwrap().values_mut();
        steps.filter_map(|step| step.get_mut("layer")).for_each(change);
        claims
    };
    let mut version = honest.clone();
    version["hoyBuildCache"] = json!(2);
    let mut long = honest.clone();
    long["steps"][OTHER] = json!({"layer": {"digest": OTHER, "size": -1, "diffId": OTHER}});
    let cases = [
        ("diff ID", layers(|layer| layer["diffId"] = json!(OTHER))),
        ("unexpected end", layers(|layer| layer["size"] = json!(7))),
        ("has no blob", layers(|layer| layer["digest"] = json!(OTHER))),
        ("version 2", version),
        ("no build cache", long),
        ("no build cache", json!({"architecture": "amd64", "os": "linux"})),
        ("no build cache", json!([[[[]]]])),
    ];
    for (words, claims) in cases {
        claim(&directory, manifest.clone(), &claims);
        let cold = cold(User::Root, &first);
        fs::write(cold.path("work/c/Containerfile"), &text).unwrap();
        let out = build(&cold, &["--cache-from", &from]);
        assert_eq!((out.status, &out.stdout), (0, &image.stdout), "{words}: {}", out.stderr);
        assert!(out.stderr.contains(words), "{words}: {}", out.stderr);
        assert_eq!(out.stderr.matches("is not used").count(), 1, "{words}: {}", out.stderr);
        is_clean(&cold);
        assert_eq!(steps(&build(&cold, &[])).0, 0, "{words}");
    }
    // The layers themselves are damaged.
    claim(&directory, manifest.clone(), &honest);
    for layer in manifest["layers"].as_array().unwrap() {
        let path = directory.join("blobs").join(layer["digest"].as_str().unwrap().replace(':', "/"));
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        // It may be a link to a blob of the store.
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let cold = cold(User::Root, &first);
    fs::write(cold.path("work/c/Containerfile"), &text).unwrap();
    let out = build(&cold, &["--cache-from", &from]);
    assert_eq!((out.status, &out.stdout), (0, &image.stdout), "{}", out.stderr);
    assert!(out.stderr.contains("is not used"), "{}", out.stderr);
    is_clean(&cold);
}

/// Killed at any moment of taking from a cache or of filling one, a build leaves what the next one goes on from.
#[test]
fn killed() {
    let Some(first) = busybox_store(User::Root) else { return };
    context(&first);
    let cache = format!("oci:{}", first.path("work/cache").display());
    let other = format!("oci:{}", first.path("work/other").display());
    let image = build(&first, &["--cache-to", &cache]);
    steps(&image);
    let cold = cold(User::Root, &first);
    let delays: &[u64] = if is_long() { &[5, 15, 30, 45, 60, 80, 100, 130, 170, 220] } else { &[20, 60, 100, 160] };
    for &delay in delays {
        let args = ["build", "-q", "--cache-from", &cache, "--cache-to", &other, "--cache-to", &cache, "c"];
        let mut child = cold.run("hoy-build").args(args).spawn();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        is_clean(&cold);
    }
    let out = build(&cold, &["--cache-from", &cache, "--cache-to", &other]);
    assert_eq!((steps(&out), &out.stdout), ((0, 6), &image.stdout), "{}", out.stderr);
    let third = crate::cold(User::Root, &first);
    assert_eq!(steps(&build(&third, &["--cache-from", &other])), (0, 6));
}
