//! `build --lock` and `--locked`: what a build takes from elsewhere is what it was when the lock was made, or nothing is built.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use hoy_tests::{Out, Registry, Repository, Run, Sandbox, User, Web, busybox_store, need};
use serde_json::Value;

fn build(sandbox: &Sandbox, args: &[&str]) -> Out {
    sandbox.run("hoy-build").args(["build", "-q", "--tls-verify=false", "--retry=0", "-t", "made"]).args(args).output()
}

/// Pushes an image with the label `n`.
fn push(sandbox: &Sandbox, name: &str, n: &str) {
    fs::create_dir_all(sandbox.path("work/base")).unwrap();
    fs::write(sandbox.path("work/base/Containerfile"), format!("FROM busybox\nLABEL n={n}\n")).unwrap();
    sandbox.ok("hoy-build", &["build", "-q", "-t", "localhost/pushed", "base"]);
    sandbox.ok("hoy-build", &["push", "-q", "--tls-verify=false", "localhost/pushed", &format!("docker://{name}")]);
}

fn what_moves_stays_where_it_was(user: User) {
    if !need(&["docker-registry"]) {
        return;
    }
    let Some(sandbox) = busybox_store(user) else { return };
    let Some(repository) = Repository::start() else { return };
    let pusher = busybox_store(User::Root).unwrap();
    let registry = Registry::start();
    let base = format!("{}/base:1", registry.address());
    push(&pusher, &base, "one");
    let site = tempfile::tempdir().unwrap();
    fs::write(site.path().join("file"), "one\n").unwrap();
    let web = Web::files(site.path());
    let with = web.address.replace("http://", "http://user:s3cr3t@");
    fs::create_dir_all(sandbox.path("work/c")).unwrap();
    let file = sandbox.path("work/c/Containerfile");
    let text = format!(
        "FROM {base} AS a\nRUN true\nFROM {base}\nADD {with}/file /file\nADD {}#other:sub /src\nCOPY --from=a /bin/busybox /b\n",
        repository.url()
    );
    fs::write(&file, &text).unwrap();
    Run::new("chmod").args(["-R", "a+rwX"]).arg(sandbox.path("work/c")).ok();
    let first = build(&sandbox, &["--lock", "c"]);
    assert_eq!(first.status, 0, "{user:?}: {}", first.stderr);
    let lock = sandbox.path("work/c/Containerfile.lock");
    let written = fs::read_to_string(&lock).unwrap();
    let read: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(read["images"][&base].as_object().unwrap().len(), 1, "{written}");
    assert_eq!(read["repositories"].as_object().unwrap().len(), 1, "{written}");
    assert!(read["files"][format!("{}/file", web.address)].is_string() && !written.contains("s3cr3t"), "{written}");
    // Made again, cached or not, by somebody else too, it is the same byte for byte.
    for args in [&["--lock=again", "c"][..], &["--no-cache", "--lock=again", "c"]] {
        assert_eq!(build(&sandbox, args).status, 0);
        assert_eq!(fs::read_to_string(sandbox.path("work/again")).unwrap(), written);
    }
    // Image and branch move: with the lock nothing does, in this store and in an empty one.
    push(&pusher, &base, "two");
    repository.git("git checkout -q other; echo three > sub/file; git commit -qam three; git checkout -q main");
    let cold = Sandbox::for_user(user);
    fs::create_dir_all(cold.path("work/c")).unwrap();
    fs::copy(&file, cold.path("work/c/Containerfile")).unwrap();
    fs::copy(&lock, cold.path("work/c/Containerfile.lock")).unwrap();
    Run::new("chmod").args(["-R", "a+rwX"]).arg(cold.path("work/c")).ok();
    let others = build(&cold, &["--locked", "c"]);
    assert_eq!((others.status, &others.stdout), (0, &first.stdout), "{user:?}: {}", others.stderr);
    let again = build(&sandbox, &["--locked", "--pull=always", "--no-cache", "c"]);
    assert_eq!((again.status, &again.stdout), (0, &first.stdout), "{user:?}: {}", again.stderr);
    let moved = build(&sandbox, &["--pull=always", "c"]);
    assert!(moved.status == 0 && moved.stdout != first.stdout, "{user:?}: {}", moved.stderr);
    // A file has no older form to be had.
    fs::write(site.path().join("file"), "two\n").unwrap();
    let changed = build(&cold, &["--locked", "--no-cache", "c"]);
    let words = ["/file\" is sha256:", "now, and sha256:", "in the lock \"c/Containerfile.lock\": build with --lock"];
    assert_eq!(changed.status, 125);
    assert!(words.iter().all(|word| changed.stderr.contains(word)), "{}", changed.stderr);
    // What the lock does not have is not used.
    for (line, word) in [
        (format!("ADD {}/other /", web.address), "/other\" is not in the lock"),
        (format!("ADD {}#v1 /", repository.url()), "#v1\" is not in the lock"),
        (format!("COPY --from={}/none /x /", registry.address()), "/none:latest\" for linux/"),
    ] {
        fs::write(&file, format!("FROM {base}\n{line}\n")).unwrap();
        let before = web.seen().len();
        let out = build(&sandbox, &["--locked", "c"]);
        assert!(out.status == 125 && out.stderr.contains(word), "{line}: {}", out.stderr);
        assert!(out.stderr.contains("build with --lock to add it"), "{line}: {}", out.stderr);
        assert_eq!(web.seen().len(), before, "it was fetched: {line}");
    }
}

#[test]
fn root() {
    what_moves_stays_where_it_was(User::Root);
}

#[test]
fn subordinate_ids() {
    what_moves_stays_where_it_was(User::Sub);
}

#[test]
fn one_id() {
    what_moves_stays_where_it_was(User::One);
}

/// A whole context from elsewhere has its place in the lock, and so have images of this store.
#[test]
fn contexts_and_local_images() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let Some(repository) = Repository::start() else { return };
    let url = format!("{}#other", repository.url());
    let first = build(&sandbox, &["--lock=l", &url]);
    assert_eq!(first.status, 0, "{}", first.stderr);
    repository.git("git checkout -q other; echo three > sub/file; git commit -qam three; git checkout -q main");
    let again = build(&sandbox, &["--locked=l", "--no-cache", &url]);
    assert_eq!((again.status, &again.stdout), (0, &first.stdout), "{}", again.stderr);
    assert_ne!(build(&sandbox, &[&url]).stdout, first.stdout);
    push_nothing(&sandbox, "one");
    let file = "FROM localhost/own\nLABEL x=y\n";
    fs::write(sandbox.path("work/F"), file).unwrap();
    assert_eq!(build(&sandbox, &["-f", "F", "--lock", "."]).status, 0);
    assert_eq!(build(&sandbox, &["-f", "F", "--locked", "."]).status, 0);
    push_nothing(&sandbox, "two");
    let out = build(&sandbox, &["-f", "F", "--locked", "."]);
    assert_eq!(out.status, 0, "the image is still there, by its digest: {}", out.stderr);
    sandbox.ok("hoy-storage", &["prune", "--all", "--force"]);
    sandbox.ok("hoy-build", &["rmi", "--all", "--force"]);
    sandbox.ok(
        "hoy-copy",
        &["copy", "-q", &format!("oci:{}:busybox:latest", sandbox.path("layout").display()), "store:busybox"],
    );
    push_nothing(&sandbox, "three");
    let out = build(&sandbox, &["-f", "F", "--locked", "."]);
    assert!(out.status == 125 && out.stderr.contains("build with --lock to take what it is now"), "{}", out.stderr);
    for (args, word) in [
        (&["--locked=none", "-f", "F", "."][..], "make it with --lock"),
        (&["--locked=F", "-f", "F", "."], "as a lock of builds"),
        (&["--lock", "-f", "-", "."], "name one with --lock=FILE"),
        (&["--lock", "--locked", "."], "cannot be used with"),
        (&["--lock=/proc/none/x", "-f", "F", "."], "write the lock"),
    ] {
        let out = build(&sandbox, args);
        assert!(out.status == 125 && out.stderr.contains(word), "{args:?}: {}", out.stderr);
    }
}

/// An image of this store alone.
fn push_nothing(sandbox: &Sandbox, n: &str) {
    fs::write(sandbox.path("work/own"), format!("FROM busybox\nLABEL n={n}\n")).unwrap();
    sandbox.ok("hoy-build", &["build", "-q", "-t", "localhost/own", "-f", "own", "."]);
}
