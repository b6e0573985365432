//! `hoy-build manifest`: indexes of images, as buildah's scripts make them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use hoy_tests::{Registry, Sandbox, User, busybox_store, need};
use serde_json::Value;

/// Images `one` and `two` for other processors, beside busybox.
fn images(sandbox: &Sandbox) {
    fs::create_dir_all(sandbox.path("work/c")).unwrap();
    fs::write(sandbox.path("work/c/Containerfile"), "FROM scratch\nARG TARGETARCH\nLABEL for=$TARGETARCH\n").unwrap();
    for (name, platform) in [("one", "linux/arm64"), ("two", "linux/s390x")] {
        sandbox.ok("hoy-build", &["build", "-q", "--platform", platform, "-t", name, "c"]);
    }
}

fn lists(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    images(&sandbox);
    let manifest = |args: &[&str]| sandbox.ok("hoy-build", &[&["manifest"], args].concat());
    let members = || {
        let text = manifest(&["inspect", "list"]);
        let document: Value = serde_json::from_str(&text).unwrap();
        document["manifests"].as_array().unwrap().clone()
    };
    let digest = |image: &str| sandbox.ok("hoy-copy", &["digest", &format!("store:{image}")]);
    let exists = |name: &str| sandbox.run("hoy-build").args(["manifest", "exists", name]).output().status;
    assert_eq!(exists("list"), 1, "{user:?}");
    let id = manifest(&["create", "list"]);
    assert!(id.len() == 64 && members().is_empty(), "{user:?}: {id}");
    assert_eq!((exists("list"), exists("one")), (0, 1), "{user:?}");
    let added = manifest(&["add", "list", "one"]);
    assert_eq!(added, format!("{}: {}", digest("list").trim_start_matches("sha256:"), digest("one")), "{user:?}");
    manifest(&["add", "--os-version", "9", "--annotation", "a=b", "list", "localhost/two"]);
    let found = members();
    assert_eq!((found.len(), &found[0]["platform"]["architecture"]), (2, &Value::from("arm64")), "{user:?}");
    assert_eq!(
        (&found[1]["platform"]["os.version"], &found[1]["annotations"]["a"]),
        (&"9".into(), &"b".into()),
        "{found:?}"
    );
    manifest(&["annotate", "--variant", "v8", "--os-features", "x,y", "--features=sse4", "list", &digest("one")]);
    manifest(&["annotate", "--arch", "ppc64le", "list", "two"]);
    manifest(&["annotate", "--index", "--annotation", "whole=yes", "list"]);
    let found = members();
    assert_eq!(
        (&found[0]["platform"]["variant"], &found[0]["platform"]["os.features"][1]),
        (&"v8".into(), &"y".into())
    );
    assert_eq!(found[0]["platform"]["features"][0], "sse4", "{user:?}");
    assert_eq!(found[1]["platform"]["architecture"], "ppc64le", "{user:?}");
    assert!(manifest(&["inspect", "list"]).contains("\"whole\": \"yes\""));
    manifest(&["remove", "list", &digest("two")]);
    assert_eq!(members().len(), 1, "{user:?}");
    manifest(&["create", "--amend", "list", "two"]);
    assert_eq!(members().len(), 2, "{user:?}");
    // Of an index the image for this machine, for another one, or all.
    manifest(&["create", "--all", "whole", "list", "busybox"]);
    manifest(&["create", "machine", "whole"]);
    let names = |list: &str| sandbox.ok("hoy-copy", &["index", "list", &format!("store:{list}")]);
    assert_eq!(names("whole").lines().count(), 3, "{user:?}");
    assert_eq!(names("machine"), format!("{} {}", digest("busybox"), hoy_oci_platform()), "{user:?}");
    let fails = |args: &[&str], said: &str| {
        sandbox.run("hoy-build").arg("manifest").args(args).fails(125, &[said]);
    };
    fails(&["create", "list"], "is already in use");
    fails(&["add", "none", "one"], "none");
    fails(&["annotate", "--arch", "x", "list", &digest("busybox")], "has no image");
    fails(&["remove", "list", &digest("busybox")], "nothing to take out");
    fails(&["rm", "one"], "no index");
    // An image that has the name is the first of the index, or gives way to it and stays.
    manifest(&["create", "--amend", "one", "busybox"]);
    assert!(names("one").lines().map(|line| line.ends_with("arm64")).eq([true, false]), "{user:?}: {}", names("one"));
    let two = sandbox.ok("hoy-build", &["images", "-q", "two"]);
    manifest(&["create", "--replace", "two"]);
    assert_eq!(names("two"), "", "{user:?}");
    assert_eq!(inspect_id(&sandbox, &two), inspect_id(&sandbox, &two[..8]), "{user:?}");
    manifest(&["rm", "list", "machine"]);
    assert_eq!(exists("list"), 1, "{user:?}");
    // What an index was made of stays.
    assert_eq!(sandbox.run("hoy-copy").args(["validate", "store:whole"]).output().status, 0, "{user:?}");
}

fn hoy_oci_platform() -> String {
    format!("linux/{}", if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" })
}

#[test]
fn lists_of_root() {
    lists(User::Root);
}

#[test]
fn lists_of_ordinary_users() {
    lists(User::Sub);
    lists(User::One);
}

#[test]
fn lists_go_to_a_registry() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !need(&["docker-registry", "skopeo"]) {
        return;
    }
    let registry = Registry::start();
    images(&sandbox);
    let name = format!("{}/team/list:1", registry.address());
    sandbox.ok("hoy-build", &["manifest", "create", &name, "one", "two"]);
    let push = ["manifest", "push", "--tls-verify=false", "--digestfile", "digest", "--rm", name.as_str()];
    sandbox.ok("hoy-build", &push);
    let raw = sandbox.run("skopeo").args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).ok();
    assert!(raw.contains("arm64") && raw.contains("s390x"), "{raw}");
    assert!(fs::read_to_string(sandbox.path("work/digest")).unwrap().starts_with("sha256:"));
    sandbox.run("hoy-build").args(["manifest", "exists", &name]).fails(1, &[]);
    // From there into another one, and looked at where it is.
    sandbox
        .ok("hoy-build", &["manifest", "create", "--all", "--tls-verify=false", "back", &format!("docker://{name}")]);
    let seen = sandbox.ok("hoy-build", &["manifest", "inspect", "--tls-verify=false", &name]);
    assert!(seen.contains("s390x"), "{seen}");
    assert_eq!(sandbox.run("hoy-copy").args(["validate", "store:back"]).output().status, 0);
    sandbox.run("hoy-build").args(["manifest", "push", "back", "dir:/dev/null/x"]).fails(125, &["push \"back\""]);
}

/// Files that go into an index as an artifact, and to a registry with it.
fn artifacts(user: User) {
    if !need(&["docker-registry"]) {
        return;
    }
    let Some(sandbox) = busybox_store(user) else { return };
    let manifest = |args: &[&str]| sandbox.ok("hoy-build", &[&["manifest"], args].concat());
    for (name, text) in [("a.txt", "one"), ("b.bin", "two"), ("config.json", "{\"x\": 1}")] {
        fs::write(sandbox.path("work").join(name), text).unwrap();
    }
    manifest(&["create", "list", "busybox"]);
    let said = [
        "--artifact-type",
        "a/b",
        "--artifact-config=config.json",
        "--artifact-config-type=a/config",
        "--artifact-subject=busybox",
    ];
    let more = [
        "--artifact-layer-type=text/plain",
        "--artifact-annotation",
        "n=v",
        "--annotation=in=index",
        "list",
        "a.txt",
        "b.bin",
    ];
    let added = manifest(&[&["add", "--artifact"][..], &said, &more].concat());
    let digest = added.split_once(": ").unwrap().1;
    let read = |name: &str| -> Value {
        let text = sandbox.ok("hoy-copy", &["manifest", name]);
        serde_json::from_str(&text).unwrap()
    };
    let list = read("store:list");
    let member = list["manifests"].as_array().unwrap().iter().find(|member| member["digest"] == digest).unwrap();
    assert_eq!((&member["artifactType"], &member["annotations"]["in"]), (&"a/b".into(), &"index".into()), "{user:?}");
    assert!(member.get("platform").is_none(), "{user:?}: an artifact is for no machine: {member}");
    manifest(&["add", "--artifact", "--artifact-exclude-titles", "--artifact-config-type=its/own", "list", "a.txt"]);
    let said = manifest(&["annotate", "--annotation", "by=file", "list", "b.bin"]);
    assert!(said.ends_with(digest), "{user:?}: {said}");
    // Nothing but the index keeps it.
    sandbox.ok("hoy-storage", &["prune", "--force"]);
    let registry = Registry::start();
    let place = format!("docker://{}/list:1", registry.address());
    sandbox.ok("hoy-build", &["manifest", "push", "-q", "--tls-verify=false", "list", &place]);
    let at = |digest: &str| {
        let name = format!("docker://{}/list@{digest}", registry.address());
        let text = sandbox.ok("hoy-copy", &["manifest", "--tls-verify=false", &name]);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let sent = at(digest);
    let busybox = sandbox.ok("hoy-copy", &["digest", "store:busybox"]);
    assert_eq!((&sent["subject"]["digest"], &sent["annotations"]["n"]), (&busybox.into(), &"v".into()), "{user:?}");
    assert_eq!((&sent["config"]["mediaType"], &sent["config"]["size"]), (&"a/config".into(), &8.into()), "{user:?}");
    let layers = sent["layers"].as_array().unwrap();
    let title = |layer: &Value| layer["annotations"]["org.opencontainers.image.title"].clone();
    assert_eq!((title(&layers[0]), title(&layers[1])), ("a.txt".into(), "b.bin".into()), "{user:?}");
    assert_eq!(layers[1]["mediaType"], "text/plain", "{user:?}");
    let other =
        list_of(&sandbox).into_iter().find(|member| member["artifactType"] == "application/vnd.unknown.artifact.v1");
    let other = at(other.unwrap()["digest"].as_str().unwrap());
    assert_eq!(other["layers"][0].get("annotations"), None, "{user:?}: {other}");
    assert_eq!(other["layers"][0]["mediaType"], "application/octet-stream", "{user:?}");
    assert_eq!((&other["config"]["mediaType"], &other["config"]["size"]), (&"its/own".into(), &2.into()), "{user:?}");
    let add = |args: &[&str]| sandbox.run("hoy-build").args(["manifest", "add", "--artifact"]).args(args);
    add(&["list", "none.txt"]).fails(125, &["none.txt"]);
    add(&["none", "a.txt"]).fails(125, &["none"]);
    add(&["--artifact-subject=none-such", "list", "a.txt"]).fails(125, &["none-such"]);
}

fn inspect_id(sandbox: &Sandbox, image: &str) -> String {
    sandbox.ok("hoy-build", &["inspect", "--type", "image", "--format", "{{.FromImageID}}", image])
}

fn list_of(sandbox: &Sandbox) -> Vec<Value> {
    let list: Value = serde_json::from_str(&sandbox.ok("hoy-build", &["manifest", "inspect", "list"])).unwrap();
    list["manifests"].as_array().unwrap().clone()
}

#[test]
fn artifacts_as_root() {
    artifacts(User::Root);
}

#[test]
fn artifacts_as_user() {
    artifacts(User::Sub);
}
