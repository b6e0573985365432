//! The example programs of the libraries, run: what other people's programs would do with them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;

use hoy_tests::{Registry, Sandbox, busybox_layout, need, skip};

/// An example that cargo built with the tests.
fn example(name: &str) -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent()?.parent()?.join("examples").join(name);
    if !path.exists() {
        skip(&format!("the example \"{name}\" is not built: cargo build --examples"));
        return None;
    }
    Some(path)
}

#[test]
fn tags_are_listed_and_mirrored() {
    let (Some(tags), Some(mirror)) = (example("tags"), example("mirror")) else { return };
    if !need(&["docker-registry", "umoci", "busybox"]) {
        return;
    }
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    busybox_layout(&sandbox.path("layout"));
    let source = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    let address = registry.address();
    let mut digests = Vec::new();
    for tag in ["1", "2"] {
        let image = format!("docker://{address}/team/app:{tag}");
        digests.push(sandbox.ok("hoy-copy", &["-q", "--dest-tls-verify=false", &source, &image]));
    }
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let listed = sandbox.run(tags.to_str().unwrap()).args([&address, "team/app"]).ok();
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, [format!("1 {} {kind}", digests[0]), format!("2 {} {kind}", digests[1])]);
    let moved = sandbox.run(mirror.to_str().unwrap()).args([&address, "team/app", "here"]).ok();
    let bytes = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    let total: Vec<u64> = moved.lines().map(bytes).collect();
    assert!(total[0] > 100_000 && total[1] == 0, "what both share travels once: {moved}");
    assert_eq!(sandbox.ok("hoy-copy", &["digest", "oci:here:2"]), digests[1]);
    let fails = sandbox.run(tags.to_str().unwrap()).args([&address, "none"]).output();
    assert_eq!((fails.status, fails.stdout.as_str()), (1, ""));
}
