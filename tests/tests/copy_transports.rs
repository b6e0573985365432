//! hoy-copy between every two places, beside skopeo: what one writes the other reads, and digests stay.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use hoy_tests::{Registry, Run, Sandbox, User, busybox_layout, need};
use serde_json::Value;

/// A sandbox with a layout of busybox at `work/layout`, and a registry.
struct Place {
    sandbox: Sandbox,
    registry: Registry,
}

impl Place {
    fn new(user: User) -> Option<Self> {
        if !need(&["skopeo", "umoci", "docker-registry", "busybox"]) || (user != User::Root && !user.available()) {
            return None;
        }
        let sandbox = Sandbox::for_user(user);
        busybox_layout(&sandbox.path("layout"));
        Some(Self { sandbox, registry: Registry::start() })
    }

    fn source(&self) -> String {
        format!("oci:{}:busybox:latest", self.sandbox.path("layout").display())
    }

    fn docker(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.registry.address())
    }

    /// One place of every kind, each with room for one image.
    fn places(&self, name: &str) -> Vec<String> {
        vec![
            self.docker(&format!("{name}:1")),
            format!("oci:{name}-layout:x"),
            format!("oci-archive:{name}.oci.tar:x"),
            format!("dir:{name}-dir"),
            format!("store:{name}"),
        ]
    }

    fn copy(&self, args: &[&str], from: &str, to: &str) -> String {
        let flags = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--quiet"];
        self.sandbox.run("hoy-copy").args(flags).args(args).args([from, to]).ok()
    }

    fn skopeo(&self, from: &str, to: &str) {
        let flags = ["--insecure-policy", "copy", "-q", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"];
        self.sandbox.run("skopeo").args(flags).args([from, to]).ok();
    }

    fn digest(&self, program: &str, name: &str) -> String {
        self.sandbox.run(program).args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", name]).ok()
    }

    fn raw(&self, name: &str) -> Value {
        let text = self.sandbox.run("hoy-copy").args(["inspect", "--raw", "--tls-verify=false", name]).ok();
        serde_json::from_str(&text).unwrap()
    }
}

fn every_pair(user: User) {
    let Some(place) = Place::new(user) else { return };
    let digest = place.digest("skopeo", &place.source());
    for (at, first) in place.places("first").iter().enumerate() {
        assert_eq!(place.copy(&[], &place.source(), first), digest, "{first}");
        if !first.starts_with("store:") {
            assert_eq!(place.digest("skopeo", first), digest, "skopeo reads {first}");
        }
        for second in place.places(&format!("second{at}")) {
            assert_eq!(place.copy(&[], first, &second), digest, "{first} to {second}");
            assert_eq!(place.digest("hoy-copy", &second), digest, "{second}");
        }
    }
    let store = format!("oci:{}:localhost/first:latest", place.sandbox.path("root").display());
    assert_eq!(place.digest("skopeo", &store), digest, "the store is a layout");
}

#[test]
fn every_pair_keeps_the_digest() {
    every_pair(User::Root);
}

#[test]
fn every_pair_keeps_the_digest_rootless() {
    every_pair(User::Sub);
}

#[test]
fn what_skopeo_writes_is_read() {
    let Some(place) = Place::new(User::Root) else { return };
    let digest = place.digest("skopeo", &place.source());
    for (at, name) in place.places("skopeo").iter().enumerate().filter(|(_, name)| !name.starts_with("store:")) {
        place.skopeo(&place.source(), name);
        assert_eq!(place.digest("hoy-copy", name), digest, "{name}");
        assert_eq!(place.copy(&[], name, &format!("oci:from{at}:x")), digest, "{name}");
    }
}

#[test]
fn docker_archives_go_both_ways() {
    let Some(place) = Place::new(User::Root) else { return };
    place.skopeo(&place.source(), "docker-archive:theirs.tar:a/b:1");
    place.copy(&["--additional-tag", "c/d:2"], &place.source(), "docker-archive:ours.tar:a/b:1");
    let config = |name: &str| place.raw(name)["config"]["digest"].clone();
    assert_eq!(config("docker-archive:ours.tar"), config(&place.source()), "the configuration stays");
    let layers =
        |program: &str, name: &str| place.sandbox.run(program).args(["inspect", "--format", "{{.Layers}}", name]).ok();
    let theirs = layers("skopeo", "docker-archive:theirs.tar:a/b:1");
    assert_eq!(layers("skopeo", "docker-archive:ours.tar:c/d:2"), theirs);
    assert_eq!(layers("hoy-copy", "docker-archive:theirs.tar:docker.io/a/b:1"), theirs);
    let listed = place.sandbox.ok("hoy-copy", &["list-tags", "docker-archive:ours.tar"]);
    assert_eq!(listed, place.sandbox.ok("skopeo", &["list-tags", "docker-archive:ours.tar"]));
    // From an archive into a layout: compressed, in OCI's words, readable by everybody.
    place.copy(&[], "docker-archive:theirs.tar", "oci:loaded:x");
    assert_eq!(place.digest("skopeo", "oci:loaded:x"), place.digest("hoy-copy", "oci:loaded:x"));
    place.sandbox.ok("umoci", &["unpack", "--image", "loaded:x", "--rootless", "bundle"]);
    place.sandbox.run("hoy-copy").args(["oci:loaded:x", "docker-archive:ours.tar"]).fails(1, &["ours.tar", "exists"]);
    place.sandbox.run("hoy-copy").args(["docker-archive:ours.tar:none", "dir:x"]).fails(1, &["none"]);
}

#[test]
fn archives_travel_through_pipes() {
    let Some(place) = Place::new(User::Root) else { return };
    let hoy_copy = hoy_tests::program("hoy-copy");
    let source = place.source();
    for (kind, compress) in [("oci-archive", "cat"), ("oci-archive", "gzip"), ("docker-archive", "gzip")] {
        let script = format!(
            "set -e; {0} -q {source} {kind}:- | {compress} | {0} -q {kind}:- oci:piped:{kind}-{compress}",
            hoy_copy.display()
        );
        place.sandbox.run("sh").args(["-c", &script]).ok();
    }
    let digest = place.digest("skopeo", &source);
    assert_eq!(place.digest("skopeo", "oci:piped:oci-archive-gzip"), digest);
    // The same image is the same archive, byte for byte.
    for name in ["one", "two"] {
        place.copy(&[], &source, &format!("oci-archive:{name}.tar"));
    }
    place.sandbox.ok("cmp", &["one.tar", "two.tar"]);
}

#[test]
fn conversion_is_read_by_skopeo() {
    let Some(place) = Place::new(User::Root) else { return };
    let docker = place.docker("conv:docker");
    let digest = place.copy(&["--format", "v2s2"], &place.source(), &docker);
    assert_ne!(digest, place.digest("skopeo", &place.source()));
    assert_eq!(place.digest("skopeo", &docker), digest);
    let raw = place.raw(&docker);
    assert_eq!(raw["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(raw["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    // A Docker manifest goes into the store and out again as it is.
    assert_eq!(place.copy(&[], &docker, "store:conv"), digest);
    assert_eq!(place.copy(&[], "store:conv", &place.docker("conv:again")), digest);
    let back = place.copy(&["-f", "oci"], &docker, "oci:back:x");
    assert_eq!(place.digest("skopeo", "oci:back:x"), back);
    let refused = ["--preserve-digests", "-f", "oci", "--src-tls-verify=false", &docker, "dir:never"];
    place.sandbox.run("hoy-copy").args(refused).fails(1, &["--preserve-digests"]);
}

#[test]
fn layers_change_their_compression() {
    let Some(place) = Place::new(User::Root) else { return };
    let diff_ids = |name: &str| {
        let text = place.sandbox.ok("hoy-copy", &["inspect", "--config", name]);
        serde_json::from_str::<Value>(&text).unwrap()["rootfs"]["diff_ids"].clone()
    };
    place.copy(&["--dest-compress-format", "zstd"], &place.source(), "oci:l:zstd");
    place.copy(&["--dest-decompress"], "oci:l:zstd", "oci:l:plain");
    place.copy(&["--dest-compress"], "oci:l:plain", "oci:l:gzip");
    for (name, kind) in [("zstd", "tar+zstd"), ("plain", "tar"), ("gzip", "tar+gzip")] {
        let name = format!("oci:l:{name}");
        let layer = place.raw(&name)["layers"][0].clone();
        assert!(layer["mediaType"].as_str().unwrap().ends_with(kind), "{layer}");
        assert_eq!(diff_ids(&name), diff_ids(&place.source()));
    }
    let plain = place.raw("oci:l:plain")["layers"][0]["digest"].clone();
    assert_eq!(plain, diff_ids("oci:l:plain")[0], "a plain layer's digest is its diff ID");
    place.sandbox.run("hoy-copy").args(["-f", "v2s2", "oci:l:zstd", "dir:never"]).fails(1, &["zstd"]);
    // Docker's format has no word for it, and would be read by nobody.
    place.copy(&["--format", "v2s2"], &place.source(), "dir:docker");
    let zstd = place.copy(&["--dest-compress-format", "zstd"], "dir:docker", "dir:zstd");
    assert_eq!(place.digest("skopeo", "dir:zstd"), zstd);
    let asked = ["-f", "v2s2", "--dest-compress-format", "zstd", "dir:docker", "dir:never"];
    place.sandbox.run("hoy-copy").args(asked).fails(1, &["zstd"]);
    place.sandbox.ok("umoci", &["unpack", "--image", "l:gzip", "--rootless", "bundle"]);
}

#[test]
fn an_index_is_copied_whole_or_by_platform() {
    let Some(place) = Place::new(User::Root) else { return };
    place.copy(&[], &place.source(), "oci:multi:one");
    place.sandbox.ok("umoci", &["config", "--image", "multi:one", "--tag", "two", "--architecture", "arm64"]);
    let member = |tag: &str, arch: &str| {
        let index: Value =
            serde_json::from_slice(&std::fs::read(place.sandbox.path("work/multi/index.json")).unwrap()).unwrap();
        let all = index["manifests"].as_array().unwrap().clone();
        let is_it = |m: &&Value| m["annotations"]["org.opencontainers.image.ref.name"] == tag;
        let mut found = all.iter().find(is_it).unwrap().clone();
        found.as_object_mut().unwrap().remove("annotations");
        found["platform"] = serde_json::json!({"os": "linux", "architecture": arch});
        found
    };
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [member("one", std::env::consts::ARCH.replace("x86_64", "amd64").as_str()), member("two", "s390x")],
    });
    // As a directory, the simplest form there is.
    std::fs::create_dir(place.sandbox.path("work/index")).unwrap();
    for tag in ["one", "two"] {
        place.copy(&[], &format!("oci:multi:{tag}"), &format!("dir:{tag}"));
        let digest = place.digest("hoy-copy", &format!("oci:multi:{tag}"));
        let manifest = format!("{tag}/{}.manifest.json", &digest[7..]);
        place.sandbox.ok("sh", &["-c", &format!("mv {tag}/manifest.json {manifest}; cp {tag}/* index")]);
    }
    let bytes = serde_json::to_vec(&index).unwrap();
    std::fs::write(place.sandbox.path("work/index/manifest.json"), &bytes).unwrap();
    let all = place.copy(&["--all"], "dir:index", &place.docker("multi:all"));
    for (at, name) in place.places("index").iter().enumerate() {
        assert_eq!(place.copy(&["--all"], &place.docker("multi:all"), name), all, "{name}");
        assert_eq!(place.copy(&["-a"], name, &place.docker(&format!("multi:back{at}"))), all, "{name}");
    }
    place.skopeo(&place.docker("multi:all"), &place.docker("skopeo:all"));
    assert_eq!(place.digest("skopeo", &place.docker("skopeo:all")), all);
    let one = place.copy(&[], &place.docker("multi:all"), "oci:chosen:one");
    assert_eq!(one, index["manifests"][0]["digest"]);
    let two = place.copy(&["--override-arch", "s390x"], &place.docker("multi:all"), "oci:chosen:two");
    assert_eq!(two, index["manifests"][1]["digest"]);
    let missing = ["--override-arch", "mips", "--src-tls-verify=false", &place.docker("multi:all"), "dir:never"];
    place.sandbox.run("hoy-copy").args(missing).fails(1, &["architecture mips", "linux/s390x"]);
    let docker = place.copy(&["--all", "-f", "v2s2"], &place.docker("multi:all"), &place.docker("multi:docker"));
    assert_eq!(place.digest("skopeo", &place.docker("multi:docker")), docker);
    let raw = place.raw(&place.docker("multi:docker"));
    assert_eq!(raw["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    assert_eq!(raw["manifests"][1]["platform"]["architecture"], "s390x");
}

#[test]
fn inspect_prints_what_skopeo_prints() {
    let Some(place) = Place::new(User::Root) else { return };
    let docker = place.docker("shown:1");
    place.copy(&[], &place.source(), &docker);
    for name in [&place.source(), &docker] {
        let json = |program: &str| {
            let text = place.sandbox.run(program).args(["inspect", "--tls-verify=false", name]).ok();
            let mut value: Value = serde_json::from_str(&text).unwrap();
            // Newer than Debian's skopeo.
            value.as_object_mut().unwrap().remove("LayersData");
            value
        };
        assert_eq!(json("hoy-copy"), json("skopeo"));
        for args in [&["--raw"][..], &["--config", "--raw"], &["--format", "{{.Name}} {{.Os}} {{.Created}}"]] {
            let out = |program: &str| {
                place.sandbox.run(program).args(["inspect", "--tls-verify=false"]).args(args).arg(name).ok()
            };
            assert_eq!(out("hoy-copy"), out("skopeo"), "{args:?}");
        }
        let config = |program: &str| -> Value {
            let out = place.sandbox.run(program).args(["inspect", "--tls-verify=false", "--config", name]).ok();
            serde_json::from_str(&out).unwrap()
        };
        assert_eq!(config("hoy-copy"), config("skopeo"));
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let run = |args: &[&str], words: &[&str]| {
        Run::new("hoy-copy").args(args).fails(2, words);
    };
    run(&["copy", "./debian", "store:x"], &["debian", "transport"]);
    run(&["copy", "dir:a", "debian"], &["debian", "transport"]);
    run(&["copy", "docker-daemon:x", "store:x"], &["docker-daemon"]);
    run(&["--no-such-flag"], &["--no-such-flag"]);
    run(&["copy", "--all", "--multi-arch=all", "dir:a", "dir:b"], &["--multi-arch"]);
    run(&["list-tags", "docker://localhost/x:1"], &["localhost/x:1"]);
    run(&["copy", "dir:a", "docker-archive:b:@1"], &["number"]);
}
