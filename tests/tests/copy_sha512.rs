//! Images whose digests are those of SHA-512: moved, verified, and refused where there is no place for them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use hoy_tests::{Registry, Sandbox, User, busybox_layout, need};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

/// Makes of the layout `work/layout` the layout `work/long`, whose blobs are the same under longer names.
fn lengthen(sandbox: &Sandbox) -> String {
    let work = sandbox.path("work");
    let read = |digest: &Value| {
        std::fs::read(work.join("layout/blobs").join(digest.as_str().unwrap().replace(':', "/"))).unwrap()
    };
    std::fs::create_dir_all(work.join("long/blobs/sha512")).unwrap();
    let put = |bytes: &[u8]| {
        let hex: String = Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(work.join("long/blobs/sha512").join(&hex), bytes).unwrap();
        Value::from(format!("sha512:{hex}"))
    };
    let mut index: Value = serde_json::from_slice(&std::fs::read(work.join("layout/index.json")).unwrap()).unwrap();
    let entry = &mut index["manifests"][0];
    let mut manifest: Value = serde_json::from_slice(&read(&entry["digest"])).unwrap();
    manifest["config"]["digest"] = put(&read(&manifest["config"]["digest"]));
    manifest["layers"][0]["digest"] = put(&read(&manifest["layers"][0]["digest"]));
    let manifest = manifest.to_string();
    (entry["digest"], entry["size"]) = (put(manifest.as_bytes()), json!(manifest.len()));
    let digest = entry["digest"].as_str().unwrap().to_owned();
    std::fs::write(work.join("long/index.json"), index.to_string()).unwrap();
    std::fs::copy(work.join("layout/oci-layout"), work.join("long/oci-layout")).unwrap();
    digest
}

const SOURCE: &str = "oci:long:busybox:latest";

#[test]
fn they_move_as_they_are() {
    for user in [User::Root, User::One] {
        if !need(&["umoci", "busybox", "docker-registry"]) || !user.available() {
            return;
        }
        let sandbox = Sandbox::for_user(user);
        busybox_layout(&sandbox.path("work/layout"));
        let digest = lengthen(&sandbox);
        sandbox.run("hoy-copy").args(["validate", SOURCE]).ok();
        let registry = Registry::start();
        let image = format!("docker://{}/app:1", registry.address());
        let copy = |from: &str, to: &str| {
            let run = sandbox.run("hoy-copy").args(["-q", "--src-tls-verify=false", "--dest-tls-verify=false"]);
            run.args([from, to]).ok()
        };
        let mut from = SOURCE;
        for to in ["oci:two:x", "oci-archive:three.tar:x", "oci:four:x", &image, "dir:five"] {
            // A registry's tag and a directory say nothing of the manifest's digest, so that it has the usual one again.
            let written = copy(from, to);
            assert_eq!(written == digest, from != image, "{from} to {to}");
            from = to;
        }
        copy(from, "oci:six:x");
        for there in ["oci:four:x", &image, "oci:six:x"] {
            sandbox.run("hoy-copy").args(["validate", "--tls-verify=false", there]).ok();
            let layers = sandbox.run("hoy-copy").args(["layers", "--tls-verify=false", there]).ok();
            assert!(layers.starts_with("sha512:"), "{there}: {layers}");
        }
        // Either digest of a manifest can be asked for, whichever names it.
        let shown = |algorithm: &str| {
            let digest = ["--manifest-digest", algorithm, "--format", "{{.Digest}}", SOURCE];
            sandbox.run("hoy-copy").arg("inspect").args(digest).ok()
        };
        assert_eq!(shown("sha512"), digest);
        std::fs::write(sandbox.path("work/manifest"), sandbox.ok("hoy-copy", &["inspect", "--raw", SOURCE])).unwrap();
        assert_eq!(shown("sha256"), sandbox.ok("hoy-copy", &["manifest-digest", "manifest"]));
        let count = |name: &str| std::fs::read_dir(sandbox.path("work").join(name)).unwrap().count();
        assert_eq!(count("four/blobs/sha512"), 3, "manifest, configuration, layer");
        // A layer that is written anew has the usual kind.
        let anew = ["-q", "--dest-compress-format", "zstd", SOURCE, "oci:seven:x"];
        assert!(sandbox.run("hoy-copy").args(anew).ok().starts_with("sha256:"));
        sandbox.run("hoy-copy").args(["validate", "oci:seven:x"]).ok();
    }
}

#[test]
fn damage_is_seen_and_places_without_room_say_so() {
    if !need(&["umoci", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    busybox_layout(&sandbox.path("work/layout"));
    lengthen(&sandbox);
    for to in ["store:app", "docker-archive:x.tar"] {
        sandbox.run("hoy-copy").args(["-q", SOURCE, to]).fails(1, &["has no place for sha512:", "SHA-256"]);
    }
    assert!(!sandbox.path("root/blobs/sha512").exists());
    let serve = sandbox.run("hoy-copy").args(["-q", "--ssh", "false", SOURCE, "ssh://nas/app"]);
    serve.fails(1, &["ssh://nas"]);
    let largest = std::fs::read_dir(sandbox.path("work/long/blobs/sha512")).unwrap().map(|e| e.unwrap().path());
    let largest = largest.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&largest, &bytes).unwrap();
    for to in ["oci:bad:x", "dir:bad2", "oci-archive:bad.tar"] {
        sandbox.run("hoy-copy").args(["-q", SOURCE, to]).fails(1, &["sha512:"]);
    }
    sandbox.run("hoy-copy").args(["validate", SOURCE]).fails(1, &["sha512:"]);
}
