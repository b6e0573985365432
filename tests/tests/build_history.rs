//! `hoy-build history` tells of the last builds, and `from --resume` goes on where one failed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use hoy_tests::{Out, Sandbox, User, busybox_store};
use serde_json::Value;

fn build(sandbox: &Sandbox, text: &str, args: &[&str]) -> Out {
    let run = sandbox.run("hoy-build").args(["build", "-q", "--retry=0", "-f", "-"]).args(args).arg(".");
    run.stdin(text).output()
}

fn told(sandbox: &Sandbox) -> Vec<Value> {
    serde_json::from_str::<Vec<Value>>(&sandbox.ok("hoy-build", &["history", "--json"])).unwrap()
}

const HOSTILE: &str = "FROM busybox\nRUN sleep 0.3\nRUN echo '<script>alert(1)</script>\"' '\u{1b}[31m'\nLABEL a=<b>\n";

fn builds_are_told_of(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    assert_eq!(sandbox.ok("hoy-build", &["history"]), "");
    let made = build(&sandbox, HOSTILE, &["-t", "made", "--build-arg=TOKEN=s3cr3t-one"]);
    assert_eq!(made.status, 0, "{}", made.stderr);
    assert_eq!(build(&sandbox, HOSTILE, &["-t", "made"]).status, 0);
    let failed =
        build(&sandbox, "FROM busybox\nRUN echo state > /reached\nADD http://u:s3cr3t-two@127.0.0.1:1/x /x\n", &[]);
    assert_ne!(failed.status, 0);
    let builds = told(&sandbox);
    let outcomes: Vec<&str> = builds.iter().map(|build| build["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["failed", "done", "done"]);
    let steps = |at: usize| builds[at]["steps"].as_array().unwrap();
    assert_eq!((steps(0).len(), steps(1).len(), steps(2).len()), (3, 4, 4));
    assert!(steps(2)[1]["milliseconds"].as_u64().unwrap() >= 300, "{builds:?}");
    assert_eq!((&steps(2)[1]["cached"], &steps(1)[1]["cached"]), (&Value::Bool(false), &Value::Bool(true)));
    assert_eq!(builds[1]["names"][0], "localhost/made:latest");
    // As lines, which do nothing to a terminal, and of one build.
    let lines = sandbox.ok("hoy-build", &["history"]);
    assert!(lines.contains("CACHED  [0 2/4] RUN sleep 0.3") && !lines.contains('\u{1b}'), "{lines}");
    let one = sandbox.ok("hoy-build", &["history", builds[2]["id"].as_str().unwrap()]);
    assert!(one.contains("done") && one.lines().count() == 5, "{one}");
    assert_eq!(sandbox.ok("hoy-build", &["history", "-n", "1"]).lines().count(), 4);
    // As a page, in which text is text and which asks nobody for anything.
    sandbox.ok("hoy-build", &["history", "--html", "page.html"]);
    let page = fs::read_to_string(sandbox.path("work/page.html")).unwrap();
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;") && page.contains("LABEL a=&lt;b&gt;"),
        "{page}"
    );
    assert!(!page.contains("<script") && !page.contains('\u{1b}') && !page.contains("src="), "{page}");
    assert_eq!(page, sandbox.run("hoy-build").args(["history", "--html", "-"]).output().stdout);
    assert_eq!(page.matches("<div class=\"bar").count(), 11, "{page}");
    for path in fs::read_dir(sandbox.path("root/build/history")).unwrap() {
        assert!(!fs::read_to_string(path.unwrap().path()).unwrap().contains("s3cr3t"));
    }
    sandbox.run("hoy-build").args(["history", "zz"]).fails(125, &["no build has an id"]);
    // The last state of the build that failed.
    let container = sandbox.ok("hoy-build", &["from", "--resume"]);
    assert_eq!(container, "resumed-working-container");
    assert_eq!(sandbox.ok("hoy-build", &["run", &container, "--", "cat", "/reached"]), "state");
    sandbox.ok("hoy-build", &["commit", "-q", &container, "mended"]);
    let manifest = sandbox.ok("hoy-copy", &["manifest", "store:localhost/mended"]);
    assert!(manifest.contains("base.digest") && !manifest.contains("base.name"), "{manifest}");
    let id = builds[0]["id"].as_str().unwrap();
    assert_eq!(sandbox.ok("hoy-build", &["from", &format!("--resume={id}"), "--name", "own"]), "own");
    let none = format!("--resume={}", builds[1]["id"].as_str().unwrap());
    sandbox.run("hoy-build").args(["from", &none]).fails(125, &["failed after its first step"]);
    sandbox.run("hoy-build").args(["from", "--resume", "busybox"]).fails(125, &["cannot be used with"]);
    // What is damaged is left out; the whole of it is cache.
    let path = sandbox.path("root/build/history").join(format!("{id}.json"));
    fs::write(path, "{").unwrap();
    assert_eq!(told(&sandbox).len(), 2);
    sandbox.ok("hoy-build", &["rm", "--all"]);
    sandbox.ok("hoy-build", &["prune", "--all"]);
    assert_eq!(told(&sandbox).len(), 0);
    sandbox.run("hoy-build").args(["from", "--resume"]).fails(125, &["no build of this store failed"]);
}

#[test]
fn root() {
    builds_are_told_of(User::Root);
}

#[test]
fn subordinate_ids() {
    builds_are_told_of(User::Sub);
}

#[test]
fn one_id() {
    builds_are_told_of(User::One);
}

/// However often is built, and however long: what is kept is bounded.
#[test]
fn records_are_few() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    fs::create_dir_all(sandbox.path("root/build/history")).unwrap();
    for number in 0..150 {
        fs::write(sandbox.path(&format!("root/build/history/000000{number:04}.json")), "{}").unwrap();
    }
    let labels = (0..1500).map(|number| format!("LABEL l{number}={}\n", "x".repeat(500))).collect::<String>();
    assert_eq!(build(&sandbox, &format!("FROM scratch\n{labels}"), &["-t", "made"]).status, 0);
    let files: Vec<_> = fs::read_dir(sandbox.path("root/build/history")).unwrap().flatten().collect();
    assert_eq!(files.len(), 100);
    assert!(files.iter().all(|file| file.metadata().unwrap().len() < 400 << 10));
    assert!(sandbox.ok("hoy-build", &["history", "-n", "1"]).ends_with("and 501 further steps"));
}
