//! `build --provenance` and `--attest`: what is said of an image is the same whoever builds it, goes where the image
//! goes, and lets nobody in anywhere.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use hoy_tests::{Registry, Run, Sandbox, User, Web, busybox_store, need};
use serde_json::{Value, json};

const STATEMENT: &str = "application/vnd.in-toto+json";

/// The statement that refers to an image.
fn statement(sandbox: &Sandbox, image: &str, options: &[&str]) -> String {
    let listed =
        sandbox.run("hoy-copy").args(["referrers", "--artifact-type", STATEMENT]).args(options).arg(image).ok();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let found = listed["manifests"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{listed}");
    let artifact = match image.split_once("//") {
        Some((_, name)) => format!("{}@{}", name.rsplit_once(':').unwrap().0, found[0]["digest"].as_str().unwrap()),
        None => format!("store:{}", &found[0]["digest"].as_str().unwrap()["sha256:".len()..]),
    };
    let manifest = sandbox.run("hoy-copy").arg("manifest").args(options).arg(&artifact).ok();
    assert!(manifest.contains("\"in-toto.io/predicate-type\":\"https://slsa.dev/provenance/v1\""), "{manifest}");
    sandbox.run("hoy-copy").args(["pull", "-o", "pulled"]).args(options).arg(artifact).ok();
    fs::read_to_string(sandbox.path("work/pulled/provenance.json")).unwrap()
}

/// The sandbox with a context of its own, at another place for each user.
fn place(sandbox: &Sandbox, text: &str) -> String {
    let directory = format!("of-{:?}", sandbox.user());
    fs::create_dir_all(sandbox.path("work").join(&directory)).unwrap();
    fs::write(sandbox.path("work").join(&directory).join("Containerfile"), text).unwrap();
    Run::new("chmod").args(["-R", "a+rX"]).arg(sandbox.path("work")).ok();
    directory
}

const ARGS: [&str; 8] = [
    "--build-arg=VERSION=7",
    "--build-arg=DB_PASSWORD=s3cr3t-one",
    "--build-arg=HTTP_PROXY=http://me:s3cr3t-two@127.0.0.1:1/",
    "--secret=id=key,env=S3",
    "--label=l=m",
    "-t",
    "localhost/it",
    "-q",
];

#[test]
fn it_is_the_same_for_everybody_and_has_no_secret() {
    let Some(first) = busybox_store(User::Root) else { return };
    let site = tempfile::tempdir().unwrap();
    fs::write(site.path().join("file"), "one\n").unwrap();
    let web = Web::files(site.path());
    let with = web.address.replace("http://", "http://me:s3cr3t-three@");
    let text = format!(
        "FROM busybox\nARG VERSION DB_PASSWORD\nADD {with}/file?token=s3cr3t-four /f\nRUN --mount=type=secret,id=key test -s /run/secrets/key\n"
    );
    for mode in ["mode=min", "mode=max"] {
        let mut all = Vec::new();
        for (user, umask) in [(User::Root, "022"), (User::Sub, "077"), (User::One, "002")] {
            if !user.available() {
                continue;
            }
            let sandbox = Sandbox::for_user(user);
            let image = format!("oci:{}:busybox:latest", first.path("layout").display());
            sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:busybox"]);
            let script = format!("umask {umask}; exec hoy-build build \"$@\"");
            let run = sandbox.run("sh").env("S3", "s3cr3t-five").args(["-c", &script, "sh"]).args(ARGS);
            run.arg(format!("--provenance={mode}")).arg(place(&sandbox, &text)).ok();
            all.push(statement(&sandbox, "store:localhost/it", &[]));
        }
        assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
        assert!(!all[0].contains("s3cr3t") && !all[0].contains("/tmp") && !all[0].contains("of-"), "{}", all[0]);
        let read: Value = serde_json::from_str(&all[0]).unwrap();
        assert_eq!(read["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(read["subject"][0]["name"], "localhost/it:latest");
        let definition = &read["predicate"]["buildDefinition"];
        let parameters = &definition["externalParameters"];
        let args = match mode {
            "mode=max" => json!({"DB_PASSWORD": "redacted", "HTTP_PROXY": "http://127.0.0.1:1/", "VERSION": "7"}),
            _ => json!({"DB_PASSWORD": null, "HTTP_PROXY": null, "VERSION": null}),
        };
        assert_eq!(parameters["buildArgs"], args);
        assert_eq!((&parameters["secrets"], &parameters["labels"]), (&json!(["key"]), &json!({"l": "m"})));
        let used = definition["resolvedDependencies"].as_array().unwrap();
        let uris: Vec<&str> = used.iter().map(|one| one["uri"].as_str().unwrap()).collect();
        let image = "pkg:docker/docker.io/library/busybox@latest?platform=linux%2F";
        assert!(
            uris.len() == 2 && uris[0].starts_with(image) && uris[1] == format!("{}/file", web.address),
            "{uris:?}"
        );
        assert!(used.iter().all(|one| one["digest"]["sha256"].as_str().unwrap().len() == 64));
        let source = read["predicate"]["runDetails"]["byproducts"][0]["content"].is_string();
        assert_eq!(source, mode == "mode=max");
    }
}

fn it_goes_where_the_image_goes(user: User) {
    if !need(&["docker-registry"]) {
        return;
    }
    let Some(sandbox) = busybox_store(user) else { return };
    let registry = Registry::start();
    let name = format!("{}/it:1", registry.address());
    let directory = place(&sandbox, "FROM busybox\nRUN true\nLABEL a=b\n");
    let output = format!("--output=type=registry,name={name}");
    let args =
        ["build", "-q", "--tls-verify=false", "--attest=type=provenance", "--attest=type=sbom", &output, &directory];
    sandbox.ok("hoy-build", &args);
    let here = statement(&sandbox, &format!("store:{name}"), &[]);
    let there = statement(&sandbox, &format!("docker://{name}"), &["--tls-verify=false"]);
    assert_eq!(here, there);
    let list =
        ["referrers", "--artifact-type", "application/spdx+json", "--tls-verify=false", &format!("docker://{name}")];
    assert!(sandbox.ok("hoy-copy", &list).contains("application/spdx+json"));
    // Built again it is attached once.
    sandbox.ok("hoy-build", &args);
    assert_eq!(statement(&sandbox, &format!("store:{name}"), &[]), here);
    sandbox.ok("hoy-storage", &["check", "--deep"]);
    // An index and each image of it are what it speaks of.
    let several =
        ["build", "-q", "--provenance", "--platform=linux/amd64,linux/arm64", "-t", "localhost/two", "-f", "-", "."];
    sandbox.run("hoy-build").args(several).stdin("FROM scratch\nLABEL a=b\n").ok();
    let read: Value = serde_json::from_str(&statement(&sandbox, "store:localhost/two", &[])).unwrap();
    assert_eq!(read["subject"].as_array().unwrap().len(), 3);
    let parameters = &read["predicate"]["buildDefinition"]["externalParameters"];
    assert_eq!(parameters["platforms"], json!(["linux/amd64", "linux/arm64"]));
    // A secret of the build that was written where all may read it.
    for (option, code) in [("--provenance=mode=max", 125), ("--provenance=mode=min", 0)] {
        let text = "FROM scratch\n# not-for-everybody\nLABEL a=b\n";
        let args = ["build", "-q", "--secret=id=key,env=S3", option, "-t", "localhost/it", "-f", "-", "."];
        let out = sandbox.run("hoy-build").env("S3", "not-for-everybody").args(args).stdin(text).output();
        assert_eq!((out.status, out.stderr.contains("is in the provenance")), (code, code == 125), "{}", out.stderr);
    }
    for (option, word) in [
        ("--attest=type=x", "type=provenance"),
        ("--attest=mode=max", "type=provenance"),
        ("--provenance=all", "no mode: min or max"),
    ] {
        sandbox.run("hoy-build").args(["build", option, &directory]).fails(125, &[word]);
    }
}

#[test]
fn root() {
    it_goes_where_the_image_goes(User::Root);
}

#[test]
fn subordinate_ids() {
    it_goes_where_the_image_goes(User::Sub);
}
