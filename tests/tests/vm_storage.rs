//! Overlays on Debian's kernel, 6.1: older than "lowerdir+", and than layers that are mounted nowhere.

use hoy_tests::{Run, Sandbox, User, many_layers, need_vm};

/// A sandbox with `many`, an image of `count` layers, and `busybox`, one of a static program.
fn store(user: User, count: usize) -> Option<Sandbox> {
    if !need_vm() || !user.available() {
        return None;
    }
    let sandbox = Sandbox::for_user(user);
    many_layers(&sandbox.path("layout"), count);
    let source = format!("oci:{}:many", sandbox.path("layout").display());
    sandbox.ok("hoy-copy", &["copy", "-q", &source, "store:many"]);
    let container = sandbox.ok("hoy-build", &["from", "scratch"]);
    sandbox.ok("hoy-build", &["copy", "-q", &container, "/bin/busybox", "/bin/sh"]);
    sandbox.ok("hoy-build", &["commit", "-q", &container, "busybox"]);
    Some(sandbox)
}

fn created(sandbox: &Sandbox, args: &[&str]) -> String {
    let made = sandbox.run("hoy-storage").arg("create").args(args).output();
    assert_eq!((made.status, made.stderr.as_str()), (0, ""), "no copy");
    sandbox.ok("hoy-storage", &["mount", made.stdout.trim()])
}

#[test]
fn five_hundred_layers() {
    assert!(
        !need_vm() || Run::new("uname").arg("-r").ok().starts_with("6.1."),
        "another kernel than the one this is for"
    );
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = store(user, 500) else { return };
        for options in [&["many"][..], &["--volatile", "many"]] {
            let root = created(&sandbox, options);
            let read = |name: &str| sandbox.run("cat").arg(format!("{root}/{name}")).ok();
            assert_eq!((read("top"), read("file0")), ("499".into(), "0".into()));
            sandbox.run("sh").args(["-c", "echo new >\"$1/top\"", "-", &root]).ok();
        }
        let root = sandbox.ok("hoy-storage", &["mount", "--image", "busybox"]);
        sandbox.run("touch").arg(format!("{root}/new")).fails(1, &["Read-only"]);
    }
}

#[test]
fn ids_of_its_own() {
    let Some(sandbox) = store(User::Root, 3) else { return };
    let root = created(&sandbox, &["--userns=auto", "busybox"]);
    assert_eq!(sandbox.run("stat").args(["-c", "%u", &format!("{root}/bin/sh")]).ok(), "524288");
    let out = sandbox.ok(
        "hoy",
        &[
            "run",
            "--name",
            "own",
            "--userns=auto",
            "busybox",
            "/bin/sh",
            "-c",
            "echo $UID >/new; cat /proc/self/uid_map",
        ],
    );
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["0", "589824", "65536"]);
    let list = sandbox.run("sh").args(["-c", "hoy-storage diff --tar own | tar tvf - --numeric-owner"]).ok();
    assert!(list.contains("0/0") && list.contains("new"), "{list}");
    let root = created(&sandbox, &["--userns=auto", "many"]);
    assert_eq!(sandbox.run("stat").args(["-c", "%u", &format!("{root}/top")]).ok(), "655360");
}
