//! `hoy-build verify`: what is built again is the same, whoever builds it and where, and what is not the same is named.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use hoy_tests::{CASES, Run, Sandbox, User, busybox_layout, need, program_dir, write_context};

/// A store with the base image of the samples.
fn store(user: User, shared: &Path) -> Sandbox {
    let sandbox = Sandbox::for_user(user);
    let image = format!("oci:{}:busybox:latest", shared.join("layout").display());
    sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:localhost/base"]);
    sandbox
}

/// Root builds the samples; an ordinary user verifies them in another place, with another umask, time zone and locale.
#[test]
fn samples_are_the_same_elsewhere() {
    if !need(&["umoci", "busybox", "tar"]) || ![User::Root, User::Sub].into_iter().all(User::available) {
        return;
    }
    let shared = tempfile::Builder::new().prefix("hoy-context-").tempdir_in("/tmp").unwrap();
    let shared = shared.path();
    fs::create_dir(shared.join("one")).unwrap();
    write_context(&shared.join("one"));
    let script =
        "mkdir -p other/place; cp -a one other/place/two; touch -d 2025-02-02 other/place/two/file; chmod -R a+rX .";
    Run::new("sh").args(["-ec", script]).dir(shared).ok();
    busybox_layout(&shared.join("layout"));
    Run::new("chmod").args(["-R", "a+rX"]).arg(shared).ok();
    let (root, sub) = (store(User::Root, shared), store(User::Sub, shared));
    let path = std::env::join_paths([program_dir(), "/bin".as_ref(), "/usr/bin".as_ref()]).unwrap();
    let file = shared.join("Containerfile").display().to_string();
    let carried = format!("oci:{}:x", root.path("work/carried").display());
    let mut count = 0;
    for case in CASES.iter().filter(|case| case.is_sample) {
        fs::write(&file, case.text).unwrap();
        let within = |sandbox: &Sandbox, context: &str, script: &str, args: &[&str]| {
            let run = sandbox.run("sh").dir(shared.join(context)).env("PATH", &path).args(["-c", script, "sh"]);
            run.args(args).args(["-f", &file]).args(case.options).arg(".").output()
        };
        let built = within(&root, "one", "exec hoy-build build \"$@\"", &["-t", "x"]);
        assert_eq!(built.status, 0, "{}: {}", case.name, built.stderr);
        root.ok("hoy-copy", &["copy", "-q", "store:x", &carried]);
        Run::new("chmod").args(["-R", "a+rX"]).arg(root.path("work")).ok();
        sub.ok("hoy-copy", &["copy", "-q", &carried, "store:x"]);
        let otherwise = "umask 077; export TZ=Asia/Tokyo LC_ALL=C.UTF-8; exec hoy-build verify \"$@\"";
        let said = within(&sub, "other/place/two", otherwise, &["x"]);
        assert_eq!((said.status, said.stdout.as_str()), (0, "same\n"), "{}: {}", case.name, said.stderr);
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

/// What is done to a context, and what must be said of it.
type Planted = (&'static str, fn(&Path), &'static [&'static str]);

const COPIED: &str = " in /app\": /app/";

const PLANTED: &[Planted] = &[
    (
        "content",
        |app| {
            let mut bytes = fs::read(app.join("big")).unwrap();
            bytes[10_000] ^= 1;
            fs::write(app.join("big"), bytes).unwrap();
        },
        &["/app/big: content, first between the bytes 8192 and 12287", COPIED],
    ),
    ("size", |app| fs::write(app.join("small"), "longer").unwrap(), &["/app/small: size 5, now 6, content", COPIED]),
    (
        "mode",
        |app| fs::set_permissions(app.join("small"), fs::Permissions::from_mode(0o755)).unwrap(),
        &["/app/small: mode 0644, now 0755", COPIED],
    ),
    (
        "link",
        |app| {
            fs::remove_file(app.join("link")).unwrap();
            symlink("big", app.join("link")).unwrap();
        },
        &["/app/link: link \"small\", now \"big\"", COPIED],
    ),
    (
        "kind",
        |app| {
            fs::remove_file(app.join("link")).unwrap();
            fs::create_dir(app.join("link")).unwrap();
        },
        &["/app/link: kind symbolic link, now directory", COPIED],
    ),
    ("new file", |app| fs::write(app.join("new"), "").unwrap(), &["/app/new: new", COPIED]),
    ("missing file", |app| fs::remove_file(app.join("small")).unwrap(), &["/app/small: missing now", COPIED]),
    ("name with a newline", |app| fs::write(app.join("a\nsame"), "").unwrap(), &["/app/a\\nsame: new"]),
    (
        "what a command makes",
        |app| fs::write(app.join("../seed"), "other").unwrap(),
        &["/made: size 4, now 5, content, first between the bytes 0 and 4095", "of \"/bin/sh -c cat /seed >/made\""],
    ),
    (
        "configuration",
        |app| {
            let file = app.join("../Containerfile");
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, text.replace("COLOUR=red", "COLOUR=blue")).unwrap();
        },
        &["configuration: config.Env.1: \"COLOUR=red\", now \"COLOUR=blue\""],
    ),
    (
        "owner",
        |app| {
            let file = app.join("../Containerfile");
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, text.replace("--chown=1:2", "--chown=1:3")).unwrap();
        },
        &["/owned: owner 1:2, now 1:3"],
    ),
];

fn write_app(work: &Path) {
    let app = work.join("app");
    fs::create_dir_all(&app).unwrap();
    fs::write(app.join("big"), vec![7; 20_000]).unwrap();
    fs::write(app.join("small"), "small").unwrap();
    symlink("small", app.join("link")).unwrap();
    fs::write(work.join("seed"), "seed").unwrap();
    let text = "FROM localhost/base\nENV COLOUR=red\nCOPY app /app\nCOPY --chown=1:2 seed /owned\n\
                RUN --mount=type=bind,source=seed,target=/seed cat /seed >/made\n";
    fs::write(work.join("Containerfile"), text).unwrap();
    Run::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(work).ok();
}

#[test]
fn what_differs_is_named() {
    if !need(&["umoci", "busybox"]) || !User::Root.available() {
        return;
    }
    let shared = tempfile::Builder::new().prefix("hoy-context-").tempdir_in("/tmp").unwrap();
    busybox_layout(&shared.path().join("layout"));
    let sandbox = store(User::Root, shared.path());
    let original = sandbox.path("work/original");
    write_app(&original);
    let context = |name: &str| sandbox.path("work").join(name).display().to_string();
    sandbox.ok("hoy-build", &["build", "-q", "-t", "it", &context("original")]);
    assert_eq!(sandbox.ok("hoy-build", &["verify", "it", &context("original")]), "same");
    let images = || sandbox.ok("hoy-storage", &["images", "-a", "-q", "--no-trunc"]);
    let before = images();
    for (number, (what, change, says)) in PLANTED.iter().enumerate() {
        let name = format!("changed{number}");
        write_app(&sandbox.path("work").join(&name));
        change(&sandbox.path("work").join(&name).join("app"));
        let out = sandbox.run("hoy-build").args(["verify", "it", &context(&name)]).output();
        assert_eq!(out.status, 1, "{what}: {}{}", out.stdout, out.stderr);
        for text in *says {
            assert!(out.stdout.contains(text), "{what}: no {text:?} in {}", out.stdout);
        }
        assert!(!out.stdout.lines().any(|line| line == "same"), "{what}");
        // What was built to be compared does not stay.
        assert_eq!(images(), before, "{what}");
    }
    sandbox.run("hoy-build").args(["verify", "none", "."]).fails(125, &["none"]);
    sandbox
        .run("hoy-build")
        .args(["verify", "it", "-t", "x", "."])
        .fails(125, &["--tag", "goes nowhere", "leave --tag out"]);
    sandbox.run("hoy-build").args(["verify", "it", &context("nowhere")]).fails(125, &["build it again"]);
}

/// A base whose name means another image by now is told before what comes of it.
#[test]
fn another_base_is_told_first() {
    if !need(&["umoci", "busybox"]) || !User::Root.available() {
        return;
    }
    let shared = tempfile::Builder::new().prefix("hoy-context-").tempdir_in("/tmp").unwrap();
    busybox_layout(&shared.path().join("layout"));
    let sandbox = store(User::Root, shared.path());
    write_app(&sandbox.path("work/original"));
    let context = sandbox.path("work/original").display().to_string();
    sandbox.ok("hoy-build", &["build", "-q", "-t", "it", &context]);
    let id = sandbox.ok("hoy-build", &["from", "localhost/base"]);
    sandbox.ok("hoy-build", &["config", "--env", "NEW=1", &id]);
    sandbox.ok("hoy-build", &["commit", "-q", &id, "localhost/base"]);
    let out = sandbox.run("hoy-build").args(["verify", "it", &context]).output();
    assert_eq!(out.status, 1, "{}", out.stderr);
    assert!(out.stdout.starts_with("manifest: annotations.org.opencontainers.image.base.digest: "), "{}", out.stdout);
}
