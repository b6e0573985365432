//! Lists of images: filters, order, templates; held against podman's where both show the same.

use hoy_tests::{Run, Sandbox, User, busybox_store, need};
use serde_json::Value;

/// A store with an image of some steps and labels under three names, and another; and podman's store with the same.
fn both() -> Option<Sandbox> {
    let sandbox = busybox_store(User::Root)?;
    if !need(&["podman", "skopeo", "umoci"]) {
        return None;
    }
    let layout = sandbox.path("layout");
    let place = |name: &str| format!("{}:{name}", layout.display());
    let config = ["--config.label", "a=b", "--config.label", "c=", "--created", "2024-03-01T10:20:30.5Z"];
    let history = ["--history.created_by", &"a long command ".repeat(9), "--history.comment", "a comment"];
    Run::new("umoci")
        .args(["config", "--image", &place("busybox:latest")])
        .args(["--tag", "other"])
        .args(config)
        .args(history)
        .ok();
    for (from, names) in
        [("busybox:latest", &["busybox"][..]), ("other", &["other:1", "localhost/dir/other:2", "example.com/a/b"])]
    {
        for name in names {
            sandbox.ok("hoy-copy", &["copy", &format!("oci:{}", place(from)), &format!("store:{name}")]);
        }
    }
    let save = |from: &str, names: &[&str]| {
        let file = sandbox.path(&format!("{}.tar", names[0]));
        let to = format!("docker-archive:{}:localhost/{}:latest", file.display(), names[0]);
        Run::new("skopeo").args(["copy", "-q", &format!("oci:{}", place(from)), &to]).ok();
        podman(&sandbox, &["load", "-q", "-i", file.to_str().unwrap()]);
        let names: Vec<&str> = names.iter().skip(1).copied().collect();
        if !names.is_empty() {
            podman(&sandbox, &[&["tag", "other"][..], &names].concat());
        }
    };
    save("busybox:latest", &["busybox"]);
    save("other", &["other", "localhost/other:1", "localhost/dir/other:2", "example.com/a/b:latest"]);
    podman(&sandbox, &["untag", "other", "localhost/other:latest"]);
    Some(sandbox)
}

fn podman(sandbox: &Sandbox, args: &[&str]) -> String {
    let (root, runroot) = (sandbox.path("podman"), sandbox.path("podman-run"));
    let run = Run::new("podman").arg("--root").arg(root).arg("--runroot").arg(runroot);
    run.args(["--storage-driver", "vfs"]).args(args).ok()
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.sort();
    lines
}

#[test]
fn the_lists_are_podmans() {
    let Some(sandbox) = both() else { return };
    let ours = |args: &[&str]| sandbox.ok("hoy-storage", args);
    let same = |args: &[&str]| assert_eq!(sorted(&ours(args)), sorted(&podman(&sandbox, args)), "{args:?}");
    let name = "{{.Repository}}:{{.Tag}}";
    let fields = "{{.ID}} {{.Id}} {{.CreatedAt}} {{.CreatedTime}} {{.CreatedSince}} {{.Created}} {{.Labels}} {{.Dangling}} \
        {{.ReadOnly}} {{.Containers}}";
    same(&["images", "--format", &format!("{name} {fields}")]);
    same(&["images", "-q"]);
    same(&["images", "--quiet", "--no-trunc"]);
    same(&["images", "-n", "--format", "table {{.Repository}}\\t{{.Tag}}"]);
    same(&["images", "--format", "table {{.Repository}}\t{{.Tag}}\t{{.ID}}"]);
    for filter in [
        "reference=other",
        "reference=other:*",
        "reference=*other*",
        "reference=localhost/*",
        "reference=localhost/dir/*",
        "reference=nothing",
        "label=a",
        "label=a=b",
        "label=a=x",
        "label=c",
        "label!=a",
        "before=other:1",
        "since=busybox",
        "after=busybox",
        "since=other:1",
        "dangling=true",
        "dangling=false",
        "readonly=true",
        "readonly=false",
        "containers=true",
        "containers=false",
        "intermediate=false",
        "until=2024-02-01T00:00:00Z",
        "until=24h",
        "manifest=true",
    ] {
        // Of an image with several names this podman shows all when one fits, later ones only that.
        let shown = if filter.starts_with("reference") { "{{.ID}}" } else { name };
        let args = ["images", "--format", shown, "--filter", filter];
        let lines = |text: String| sorted(&text).into_iter().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(lines(ours(&args)), lines(podman(&sandbox, &args)), "{filter}");
    }
    same(&["images", "--format", name, "busybox"]);
    same(&["images", "--format", name, "nothing"]);
    for by in ["id", "created", "repository"] {
        // Among equals any order will do.
        let order = |text: String| -> Vec<String> {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.dedup();
            lines
        };
        let field = if by == "repository" { "{{.Repository}}" } else { "{{.ID}}" };
        let args = ["images", "--sort", by, "--format", field];
        assert_eq!(order(ours(&args)), order(podman(&sandbox, &args)), "{by}");
    }
    let history = ["history", "--format", "{{.CreatedAt}} {{.CreatedBy}} {{.Comment}}", "other:1"];
    same(&history);
    same(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "other:1"]);
    same(&["history", "-q", "busybox"]);
    let keys = |text: String| -> Vec<Vec<String>> {
        let all: Vec<Value> = serde_json::from_str(&text).unwrap();
        all.iter().map(|row| row.as_object().unwrap().keys().cloned().collect()).collect()
    };
    let images = ["images", "--format", "json", "busybox"];
    // An image of the specification has no parent, and what is shared is said by df.
    let mut theirs = keys(podman(&sandbox, &images));
    theirs.iter_mut().for_each(|row| row.retain(|key| !matches!(key.as_str(), "ParentId" | "SharedSize")));
    assert_eq!(keys(ours(&images)), theirs);
    let history = ["history", "--format", "json", "busybox"];
    let without_tags = |rows: Vec<Vec<String>>| -> Vec<Vec<String>> {
        rows.into_iter().map(|row| row.into_iter().filter(|key| key != "tags").collect()).collect()
    };
    assert_eq!(without_tags(keys(ours(&history))), without_tags(keys(podman(&sandbox, &history))));
}

#[test]
fn what_podman_has_not() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let list = |args: &[&str]| {
        sandbox.ok("hoy-storage", &[&["images", "--format", "{{.Repository}}:{{.Tag}}"][..], args].concat())
    };
    let busybox = "localhost/busybox:latest";
    let digest = sandbox.ok("hoy-storage", &["images", "--format", "{{.Digest}}"]);
    let id = sandbox.ok("hoy-storage", &["images", "-q"]);
    assert_eq!(list(&["--filter", &format!("digest={}", &digest[..20])]), busybox);
    assert_eq!(list(&["--filter", &format!("id={id}"), "--filter", "digest=sha256:0000"]), "");
    assert_eq!(list(&["busy*"]), busybox);
    assert_eq!(
        list(&["--filter", "reference=nothing", "--filter", "reference=busybox"]),
        busybox,
        "one of the patterns"
    );
    // A container's image; one without a name on which another lies.
    let container = sandbox.ok("hoy-build", &["from", "busybox"]);
    assert_eq!(list(&["--filter", "containers=true"]), busybox);
    let root = sandbox.ok("hoy-build", &["mount", &container]);
    std::fs::write(format!("{root}/x"), "x").unwrap();
    sandbox.ok("hoy-build", &["commit", &container, "second"]);
    sandbox.ok("hoy-storage", &["untag", "busybox"]);
    assert_eq!(list(&["--filter", "intermediate=true"]), "<none>:<none>");
    assert_eq!(list(&["--filter", "intermediate=false"]), "localhost/second:latest");
    sandbox.ok("hoy-storage", &["tag", "second", "third"]);
    let history = sandbox.ok("hoy-storage", &["images", "--history", "third"]);
    assert!(history.ends_with("localhost/third:latest, localhost/second:latest"), "{history}");
    for (filter, says) in
        [("nonsense=1", "reference"), ("dangling=perhaps", "true"), ("x", "KEY=VALUE"), ("until=never", "24h")]
    {
        sandbox.run("hoy-storage").args(["images", "--filter", filter]).fails(2, &[filter, says]);
    }
    sandbox.run("hoy-storage").args(["images", "--filter", "before=nothing"]).fails(1, &["nothing"]);
    sandbox.run("hoy-storage").args(["images", "--sort", "colour"]).fails(2, &["colour", "repository"]);
    sandbox.run("hoy-storage").args(["images", "-q", "--format", "x"]).fails(2, &["--format"]);
}
