//! `hoy-copy sync` from a file that lists images, beside skopeo.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use hoy_tests::{Registry, Run, Sandbox, busybox_layout, need};

/// The directories of images below `work/NAME`, sorted.
fn images(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let found = Run::new("find").dir(sandbox.path("work").join(name)).args([".", "-name", "manifest.json"]).ok();
    let mut all: Vec<String> = found.lines().map(|line| line.replace("/manifest.json", "")).collect();
    all.sort();
    all
}

#[test]
fn a_file_lists_what_is_wanted() {
    if !need(&["umoci", "busybox", "docker-registry", "skopeo"]) {
        return;
    }
    let sandbox = Sandbox::new();
    busybox_layout(&sandbox.path("work/layout"));
    let registry = Registry::start();
    let address = registry.address();
    for name in [
        "all:1",
        "all:2",
        "some:1.0",
        "some:2",
        "some:3",
        "re:a1",
        "re:b1",
        "semver:1.2.0",
        "semver:v1.3.1",
        "semver:2.0.0",
    ] {
        let to = format!("docker://{address}/team/{name}");
        sandbox.ok("hoy-copy", &["-q", "--dest-tls-verify=false", "oci:layout:busybox:latest", &to]);
    }
    let write = |text: &str| std::fs::write(sandbox.path("work/sync.yaml"), text).unwrap();
    let list = format!(
        "{address}:\n  tls-verify: false\n  images:\n    team/all: []\n    team/some:\n      - \"1.0\"\n      - '2'\n  \
         images-by-tag-regex:\n    team/re: ^a\n  images-by-semver:\n    team/semver: \">= 1.2.0, < 2.0.0\"\n"
    );
    write(&list);
    let sync = |program: &str, scoped: bool, to: &str| {
        std::fs::create_dir_all(sandbox.path("work").join(to)).unwrap();
        let run = sandbox.run(program).args(["--insecure-policy", "sync", "--src", "yaml", "--dest", "dir"]);
        run.args(scoped.then_some("--scoped")).args(["sync.yaml", to])
    };
    let wanted = ["./all:1", "./all:2", "./re:a1", "./semver:1.2.0", "./semver:v1.3.1", "./some:1.0", "./some:2"];
    sync("hoy-copy", false, "ours").ok();
    assert_eq!(images(&sandbox, "ours"), wanted);
    for scoped in [false, true] {
        sync("skopeo", scoped, &format!("theirs{scoped}")).ok();
        sync("hoy-copy", scoped, &format!("ours{scoped}")).ok();
        // Debian's skopeo does not know semver yet, and passes over it.
        let ours = images(&sandbox, &format!("ours{scoped}"));
        let ours: Vec<String> = ours.into_iter().filter(|name| !name.contains("/semver:")).collect();
        let theirs = images(&sandbox, &format!("theirs{scoped}"));
        assert_eq!(ours, theirs.into_iter().filter(|name| !name.contains("/semver:")).collect::<Vec<_>>());
    }
    let plan = sync("hoy-copy", false, "nothing").arg("--dry-run").ok();
    assert_eq!((plan.lines().count(), images(&sandbox, "nothing").len()), (7, 0));

    // What is not there stops it before anything is copied, or is told at the end.
    write(&format!("{list}  credentials: {{username: ann, password: s3cret}}\n").replace("team/all", "team/none"));
    sync("hoy-copy", false, "stopped").fails(1, &["team/none"]);
    assert_eq!(images(&sandbox, "stopped").len(), 0);
    let said = sync("hoy-copy", false, "partly").arg("--keep-going").fails(3, &["team/none", "1 of 6 images"]);
    assert!(!said.contains("s3cret"), "{said}");
    assert_eq!(images(&sandbox, "partly").len(), 5);
    for (wrong, want) in [
        ("{", "sync.yaml"),
        ("r.x:\n  image: {}\n", "image"),
        ("r.x:\n  images-by-tag-regex: {a: '('}\n", "sync.yaml"),
        ("r.x:\n  images-by-semver: {a: 'newest'}\n", "no range of versions"),
        ("r.x:\n  images: {A: ['1']}\n", "lowercase"),
        ("r.x:\n  images: &a {}\nr.x: *a\n", "sync.yaml"),
    ] {
        write(wrong);
        let out = sync("hoy-copy", false, "wrong").output();
        assert!(out.status != 0 && out.stderr.contains(want), "{wrong}: {} {}", out.status, out.stderr);
    }
}

#[test]
fn programs_are_told_and_bytes_take_their_time() {
    if !need(&["umoci", "busybox"]) {
        return;
    }
    let sandbox = Sandbox::new();
    busybox_layout(&sandbox.path("work/layout"));
    for name in ["in/a", "in/b"] {
        sandbox.ok("hoy-copy", &["-q", "oci:layout:busybox:latest", &format!("dir:{name}")]);
    }
    let layers = sandbox.ok("hoy-copy", &["layers", "dir:in/a"]);
    let size: u64 = layers.lines().map(|l| l.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum();
    let sync =
        |more: &[&str]| sandbox.run("hoy-copy").args(["sync", "-s", "dir", "-d", "dir"]).args(more).args(["in", "out"]);
    let start = std::time::Instant::now();
    let out = sync(&["--progress", "json", "--limit-rate", &size.to_string()]).output();
    let took = start.elapsed();
    assert_eq!(out.status, 0, "{}", out.stderr);
    assert!(took > std::time::Duration::from_millis(1700), "two images at one a second took {took:?}");
    let events: Vec<serde_json::Value> = out.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let images: Vec<_> = events.iter().filter(|event| event["event"] == "image").map(|event| &event["to"]).collect();
    assert_eq!(images, ["dir:out/a", "dir:out/b"]);
    sandbox.ok("diff", &["-r", "in", "out"]);
    sync(&["--limit-rate", "fast"]).fails(2, &["500K"]);
}

#[test]
fn what_the_source_lost_is_pruned() {
    if !need(&["umoci", "busybox", "docker-registry"]) {
        return;
    }
    let sandbox = Sandbox::new();
    busybox_layout(&sandbox.path("work/layout"));
    let registry = Registry::start();
    let at = |name: &str| format!("{}/{name}", registry.address());
    let put = |name: &str, label: &str| {
        let to = format!("docker://{}", at(name));
        let label = format!("a={label}");
        let mutate = ["mutate", "--tls-verify=false", "--label", &label, "-t", &to];
        sandbox.run("hoy-copy").args(mutate).arg("oci:layout:busybox:latest").ok();
    };
    put("src/app:1", "1");
    put("src/app:2", "2");
    put("dst/app:old", "old");
    let sync = |more: &[&str]| {
        let run = sandbox.run("hoy-copy").args(["sync", "-s", "docker", "-d", "docker", "--prune"]);
        run.args(["--src-tls-verify=false", "--dest-tls-verify=false"]).args(more).args([at("src/app"), at("dst")])
    };
    let tags = || sandbox.ok("hoy-copy", &["list-tags", "--tls-verify=false", &format!("docker://{}", at("dst/app"))]);
    let plan = sync(&["--dry-run"]).ok();
    assert!(plan.lines().count() == 3 && plan.contains("(old)") && tags().contains("old"), "{plan}");
    assert!(sync(&[]).ok().contains("deleted"));
    assert!(!tags().contains("old") && tags().contains('1') && tags().contains('2'), "{}", tags());
    // A tag that shares its image with one that stays cannot go alone.
    put("dst/app:same", "1");
    sync(&[]).fails(1, &["same", "the tag \"1\" has the same image"]);
    assert!(tags().contains("same"));
    sandbox.run("hoy-copy").args(["sync", "-s", "docker", "-d", "dir", "--prune", "x", "y"]).fails(2, &["--prune"]);
}
