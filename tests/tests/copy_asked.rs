//! What hoy-copy asks of whom: a registry made here writes it down.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use hoy_tests::{Asked, Registry, Sandbox, Web, busybox_layout, need};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// A registry whose one repository `a` has these blobs, and as `1` the manifest of the first of them, its configuration,
/// with these layers.
fn registry(blobs: Vec<&'static str>, layers: Value) -> Web {
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(blobs[0].as_bytes()),
        "size": blobs[0].len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).to_string();
    Web::start(move |asked: &Asked| {
        let last = asked.path().rsplit('/').next().unwrap();
        let blob = blobs.iter().find(|blob| digest(blob.as_bytes()) == last);
        match (asked.path(), blob) {
            (_, Some(blob)) => ("200 OK", Vec::new(), blob.as_bytes().to_vec()),
            ("v2/", _) => ("200 OK", Vec::new(), Vec::new()),
            ("v2/a/tags/list", _) => ("200 OK", Vec::new(), br#"{"name":"a","tags":["1"]}"#.to_vec()),
            ("v2/a/manifests/1", _) => {
                ("200 OK", vec![format!("Content-Type: {MANIFEST}")], manifest.clone().into_bytes())
            }
            _ => ("404 Not Found", Vec::new(), Vec::new()),
        }
    })
}

fn image(registry: &Web) -> String {
    format!("docker://{}/a:1", registry.address.trim_start_matches("http://"))
}

const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

#[test]
fn inspect_takes_one_round_trip_less_than_skopeo() {
    if !need(&["skopeo", "docker-registry", "umoci", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let asked = |program: &str, more: &[&str]| {
        let registry = registry(vec![CONFIG], json!([]));
        let image = image(&registry);
        let args = [&["inspect", "--tls-verify=false"], more, &[&image]].concat();
        sandbox.ok(program, &args);
        // What comes first may be a greeting in TLS, which is no request.
        registry.seen().iter().filter(|asked| asked.line.starts_with("GET ")).count()
    };
    // That it speaks no TLS is found out by a greeting; then manifest, configuration, tags, for which skopeo greets again.
    assert_eq!((asked("hoy-copy", &[]), asked("skopeo", &[])), (4, 5));
    // Whoever answers TLS in plain words is not greeted.
    let real = Registry::start();
    let name = format!("docker://{}/a:1", real.address());
    busybox_layout(&sandbox.path("work/layout"));
    sandbox.ok("hoy-copy", &["-q", "--dest-tls-verify=false", "oci:layout:busybox:latest", &name]);
    let told = sandbox.run("hoy-copy").args(["--debug", "inspect", "--tls-verify=false", &name]).output().stderr;
    assert_eq!(told.lines().filter(|line| line.contains("GET http://")).count(), 3, "{told}");
}

#[test]
fn where_else_a_layer_is_said_to_be_nobody_asks() {
    // CVE-2020-15157: such an address would see the credentials.
    let sandbox = Sandbox::new();
    let elsewhere = Web::start(|_| ("200 OK", Vec::new(), b"layer".to_vec()));
    let registry = registry(
        vec![CONFIG],
        json!([{"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "digest": digest(b"layer"),
            "size": 5, "urls": [elsewhere.address]}]),
    );
    for to in ["oci:out:x", "dir:out-dir", "store:out"] {
        let args = ["-q", "--src-creds=ann:s3cret", "--src-tls-verify=false", &image(&registry), to];
        sandbox.run("hoy-copy").args(args).fails(1, &[&digest(b"layer")]);
    }
    assert_eq!(elsewhere.seen().len(), 0);
}

#[test]
fn files_stay_below_their_directory() {
    // CVE-2026-24137, CVE-2025-62725: a name, which is an annotation, may lead out of it.
    let sandbox = Sandbox::new();
    let absolute = sandbox.path("work/evil").display().to_string();
    for name in ["../evil", &absolute, "a/../../evil", "", "."] {
        let layer = json!({"mediaType": "text/plain", "digest": digest(b"file"), "size": 4,
            "annotations": {"org.opencontainers.image.title": name}});
        let registry = registry(vec!["{}", "file"], json!([layer]));
        let args = ["pull", "--tls-verify=false", &image(&registry), "--output", "out"];
        sandbox.run("hoy-copy").args(args).fails(1, &["leaves the directory"]);
        assert!(!sandbox.path("work/evil").exists() && !sandbox.path("work/out").exists(), "{name}");
    }
}
