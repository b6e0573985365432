//! What hoy-build says, in buildah's words, of registries that it may not use, and of images that it cannot have.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use hoy_tests::{Registry, Sandbox, User, busybox_store, need};

/// The one variable that says which registries may be used.
const SOURCES: &str = "BUILD_REGISTRY_SOURCES";

fn refused(sandbox: &Sandbox, args: &[&str], words: &str) {
    sandbox.run("hoy-build").args(args).fails(125, &[words]);
}

fn images(sandbox: &Sandbox) -> String {
    sandbox.ok("hoy-build", &["images", "--no-trunc"])
}

#[test]
fn words_for_what_cannot_be_had() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    sandbox.ok("hoy-build", &["manifest", "create", "list"]);
    sandbox.ok("hoy-build", &["push", "-q", "busybox", "oci:layout:x"]);
    fs::write(sandbox.path("work/Containerfile"), "FROM none\n").unwrap();
    let none = format!("sha256:{}", "1".repeat(64));
    // What is wrong with options is told once.
    let said = sandbox.run("hoy-build").args(["login", "--none", "127.0.0.1:1"]).fails(125, &["--none"]);
    assert!(!said.contains("failed"), "{said}");
    for (args, words) in [
        (&["from", "--pull-never", "none"][..], "none: image not known"),
        (&["pull", "--policy", "never", "none"], "none: image not known"),
        (&["from", &none], &format!("{none}: image not known")),
        (&["build", "--pull=never", "."], "none: image not known"),
        (&["manifest", "rm", "none"], "none: image not known"),
        (&["push", "none", "dir:d"], "none: image not known"),
        (&["images", "none"], "none: image not known"),
        (&["pull", "oci:layout:y"], "y: image not known"),
        (&["pull", "--policy", "bogus", "busybox"], "unsupported pull policy \"bogus\"\nhint: "),
        (&["from", "--pull=bogus", "busybox"], "unsupported pull policy \"bogus\"\nhint: "),
        (
            &["pull", "--all-tags", "docker-archive:a.tar"],
            "pulling all tags is not supported for docker-archive transport",
        ),
        (&["pull", "--all-tags", "dir:d"], "pulling all tags is not supported for dir transport"),
        (
            &["manifest", "create", "list"],
            "that name is already in use\nhint: add to \"localhost/list:latest\" with --amend",
        ),
        (
            &["from", "--network", "mine", "busybox"],
            "unable to find network with name or ID mine: network not found\nhint: ",
        ),
        (&["from", "--authfile", "/none", "busybox"], "checking authfile: stat /none: "),
        (&["logout", "--authfile", "/none", "127.0.0.1:1"], "hoy-build: checking authfile: stat /none: "),
        (&["push", "--sign-by", "me", "busybox", "dir:d"], "Cannot determine canonical Docker reference for dir:d: "),
    ] {
        refused(&sandbox, args, words);
    }
}

#[test]
fn registries_that_the_environment_denies() {
    if !need(&["docker-registry"]) {
        return;
    }
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let registry = Registry::start();
    let host = registry.address();
    let name = format!("{host}/a");
    let place = format!("docker://{name}");
    let place = place.as_str();
    sandbox.ok("hoy-build", &["from", "--name", "c", "busybox"]);
    let before = images(&sandbox);
    let under = |sources: &str, args: &[&str]| sandbox.run("hoy-build").env(SOURCES, sources).args(args);
    let list = |list: &str, host: &str| format!("{{\"{list}\": [\"{host}\"]}}");
    // It is plain HTTP, for which nothing else is said; and whoever wants certificates checked has the last word.
    let insecure = list("insecureRegistries", &host);
    under(&insecure, &["push", "-q", "busybox", place]).ok();
    under(&insecure, &["push", "-q", "--tls-verify=true", "busybox", place]).fails(125, &["does not speak HTTPS"]);
    under(&list("insecureRegistries", "other"), &["push", "-q", "busybox", place])
        .fails(125, &["does not speak HTTPS"]);
    fs::write(sandbox.path("work/Containerfile"), format!("FROM {name}\n")).unwrap();
    for (sources, why) in [
        (list("blockedRegistries", &host), "it is in the blocked registries list"),
        (list("allowedRegistries", "other.example"), "not in allowed registries list"),
    ] {
        let denied = format!("registry \"{host}\" denied by policy: {why}");
        for args in [
            &["pull", "--tls-verify=false", place][..],
            &["pull", "--tls-verify=false", "--all-tags", &name],
            &["from", "--tls-verify=false", &name],
            &["build", "--tls-verify=false", "."],
            &["build", "--tls-verify=false", "--all-platforms", "."],
            &["push", "--tls-verify=false", "busybox", place],
            &["manifest", "create", "--tls-verify=false", "list", &name],
            &["manifest", "inspect", "--tls-verify=false", &name],
            &["source", "pull", "--tls-verify=false", &name, "sources"],
            &["sbom", "--tls-verify=false", place],
        ] {
            under(&sources, args).fails(125, &[&denied]);
        }
        let denied = format!("commit to registry at \"{host}\" denied by policy: {why}");
        under(&sources, &["commit", "--tls-verify=false", "c", place]).fails(125, &[&denied]);
        // What is here already is nobody's registry.
        under(&sources, &["pull", "busybox"]).ok();
    }
    under("{", &["pull", &name]).fails(125, &[SOURCES]);
    under("{", &["commit", "c", place]).fails(125, &[SOURCES]);
    assert_eq!(images(&sandbox), before);
}

#[test]
fn registries_of_the_first_form() {
    if !need(&["docker-registry"]) {
        return;
    }
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let registry = Registry::start();
    let host = registry.address();
    let under = |text: &str, args: &[&str]| {
        fs::write(sandbox.path("work/r.conf"), text).unwrap();
        sandbox.run("hoy-build").args(["--registries-conf", "r.conf"]).args(args)
    };
    let insecure = format!("[registries.insecure]\nregistries = ['{host}']\n");
    under(&insecure, &["push", "-q", "busybox", &format!("docker://{host}/short/name:1")]).ok();
    let search = format!("{insecure}[registries.search]\nregistries = ['{host}']\n");
    under(&search, &["pull", "-q", "short/name:1"]).ok();
    let names = sandbox.ok("hoy-build", &["images", "--format", "{{.Name}}:{{.Tag}}"]);
    assert!(names.contains(&format!("{host}/short/name:1")), "{names}");
    let blocked = format!("{insecure}[registries.block]\nregistries = ['{host}']\n");
    let said = [&format!("registry {host} is blocked in "), "r.conf\""];
    under(&blocked, &["pull", "-q", &format!("{host}/short/other")]).fails(125, &said);
    let mixed = format!("unqualified-search-registries = ['{host}']\n{insecure}");
    under(&mixed, &["pull", "-q", "a"]).fails(125, &["r.conf", "cannot be mixed"]);
}

/// What containers.conf(5) says of compression holds where no option does.
#[test]
fn compression_of_what_is_sent() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    sandbox.ok("hoy-build", &["from", "--name", "c", "busybox"]);
    fs::write(sandbox.path("work/c.conf"), "[engine]\ncompression_format = 'zstd'\ncompression_level = 3\n").unwrap();
    for (args, end) in [
        (&["push", "busybox"][..], "zstd"),
        (&["commit", "c"], "zstd"),
        (&["push", "--compression-format", "gzip", "busybox"], "gzip"),
        (&["push", "--disable-compression", "busybox"], "tar"),
    ] {
        let out = sandbox.run("hoy-build").env("CONTAINERS_CONF", sandbox.path("work/c.conf")).args(args).arg("dir:d");
        out.ok();
        let manifest = fs::read(sandbox.path("work/d/manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        let fits = |layer: &serde_json::Value| layer["mediaType"].as_str().unwrap().ends_with(end);
        assert!(layers.iter().all(fits), "{args:?}: {manifest}");
    }
}
