//! What a hostile Containerfile, context or image must not reach, and what no image may hold.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use hoy_tests::{Out, Run, Sandbox, User, busybox_store};

const SECRET: &str = "s3cr3t-value-of-the-test";

fn build(sandbox: &Sandbox, text: &str, args: &[&str]) -> Out {
    fs::write(sandbox.path("work/Containerfile"), text).unwrap();
    sandbox.run("hoy-build").arg("build").args(args).arg(".").output()
}

#[track_caller]
fn builds(sandbox: &Sandbox, text: &str, args: &[&str]) -> Out {
    let out = build(sandbox, text, args);
    assert_eq!(out.status, 0, "{}", out.stderr);
    out
}

#[track_caller]
fn fails(sandbox: &Sandbox, text: &str, args: &[&str], words: &[&str]) {
    let out = build(sandbox, text, args);
    assert_ne!(out.status, 0, "{text} is built");
    assert!(words.iter().all(|word| out.stderr.contains(word)), "{words:?} is not in {}", out.stderr);
}

/// Entries of all layers of an image.
fn entries(sandbox: &Sandbox, image: &str) -> String {
    let manifest = sandbox.ok("hoy-copy", &["inspect", "--raw", &format!("store:{image}")]);
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let digests = manifest["layers"].as_array().unwrap().iter().skip(1).map(|layer| layer["digest"].as_str().unwrap());
    let blobs = sandbox.path("root/blobs/sha256");
    let list = |digest: &str| Run::new("tar").arg("-tzvf").arg(blobs.join(digest.trim_start_matches("sha256:"))).ok();
    digests.map(list).collect::<Vec<_>>().join("\n")
}

/// Files below a directory that have the secret in them, also compressed.
fn leaks(dir: &Path) -> Vec<String> {
    let script = format!(
        "find {} -type f -exec sh -c 'zcat -f \"$1\" 2>/dev/null | grep -qa {SECRET} && echo \"$1\"' - {{}} \\;",
        dir.display()
    );
    Run::new("sh").args(["-c", &script]).output().stdout.lines().map(str::to_owned).collect()
}

/// Nothing that the image keeps holds a secret, nor what mounting one needed (moby#38667, buildah PR 6233).
#[test]
fn secrets_stay_secret() {
    for user in [User::Root, User::Sub, User::One] {
        let Some(sandbox) = busybox_store(user) else { return };
        let given = sandbox.path("home/secret");
        fs::write(&given, format!("{SECRET}\n")).unwrap();
        fs::set_permissions(&given, fs::Permissions::from_mode(0o644)).unwrap();
        let secret = format!("id=s,src={}", given.display());
        let args = ["--secret", &secret, "-t", "told"];
        let text = format!(
            "FROM busybox\nRUN --mount=type=secret,id=s test \"$(cat /run/secrets/s)\" = {0}-not || true\n\
             RUN --mount=type=secret,id=s,target=/deep/new/file,mode=0444 test -s /deep/new/file && stat -c %a /deep/new/file\n\
             RUN --mount=type=secret,id=s,env=TOKEN test -n \"$TOKEN\" && echo x > /x\n\
             RUN --mount=type=secret,id=none true\n",
            "no"
        );
        builds(&sandbox, &text, &args);
        assert_eq!(leaks(&sandbox.path("root")), Vec::<String>::new(), "{user:?}");
        assert_eq!(leaks(&sandbox.path("run")), Vec::<String>::new(), "{user:?}");
        let entries = entries(&sandbox, "told");
        for stub in ["secrets", "deep"] {
            assert!(!entries.contains(stub), "what the mount needed is in the layer: {entries}");
        }
        for (leaking, place) in [
            ("RUN --mount=type=secret,id=s mkdir /d; cp /run/secrets/s /d/copy", "/d/copy"),
            ("RUN --mount=type=secret,id=s base64 /run/secrets/s > /encoded", "/encoded"),
            ("RUN --mount=type=secret,id=s (echo user; cat /run/secrets/s) | base64 > /shifted", "/shifted"),
            ("COPY leak /copied", "/copied"),
        ] {
            fs::write(sandbox.path("work/leak"), format!("x{SECRET}x")).unwrap();
            fails(&sandbox, &format!("FROM busybox\n{leaking}\n"), &args, &["the secret \"s\"", place]);
        }
        let label = format!("FROM busybox\nLABEL a={SECRET}\n");
        fails(&sandbox, &label, &args, &["the secret \"s\"", "configuration"]);
        fails(
            &sandbox,
            "FROM busybox\nRUN --mount=type=secret,id=other,required true\n",
            &args,
            &["no secret with id other found", "--secret"],
        );
        assert_eq!(leaks(&sandbox.path("root")), Vec::<String>::new(), "{user:?}");
        let left = fs::read_dir(sandbox.path("root/build")).unwrap().flatten().map(|entry| entry.file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".tmp")).collect();
        assert!(left.is_empty(), "{user:?}: {left:?}");
        // A value of an ARG is in no history.
        let arg = format!("PASSWORD={SECRET}");
        builds(
            &sandbox,
            "FROM busybox\nARG PASSWORD\nRUN test -n \"$PASSWORD\"\n",
            &["-t", "arg", "--build-arg", &arg],
        );
        let config = sandbox.ok("hoy-copy", &["inspect", "--config", "store:arg"]);
        assert!(!config.contains(SECRET), "{config}");
    }
}

/// CVE-2021-3602: variables and descriptors of whoever builds are nothing to a command.
#[test]
fn commands_see_nothing_of_their_parents() {
    for user in [User::Root, User::Sub, User::One] {
        let Some(sandbox) = busybox_store(user) else { return };
        let text = "FROM busybox\nRUN cat /proc/*/environ | tr '\\0' '\\n'; ls -l /proc/*/fd; echo looked\n";
        fs::write(sandbox.path("work/Containerfile"), text).unwrap();
        let out = sandbox.run("hoy-build").args(["build", "."]).env("CI_TOKEN", SECRET).output();
        assert!(out.status == 0 && out.stderr.contains("looked"), "{user:?}: {}", out.stderr);
        assert!(!out.stderr.contains(SECRET) && !out.stderr.contains("HOY_"), "{user:?}: {}", out.stderr);
    }
}

#[test]
fn links_lead_nowhere() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let work = sandbox.path("work");
    let victim = sandbox.path("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("kept"), "host").unwrap();
    fs::write(work.join("file"), "theirs").unwrap();
    symlink(victim.join("kept"), work.join("out")).unwrap();
    symlink("/", work.join("slash")).unwrap();
    let out = victim.display();
    let up = format!("../../../../../../../..{out}");
    // CVE-2020-10696: a destination that an earlier step made a link.
    builds(
        &sandbox,
        &format!("FROM busybox\nRUN ln -s {out} /d; ln -s {up} /u\nCOPY file /d/\nCOPY file /u/kept\n"),
        &["-t", "a"],
    );
    // Sources that lead out of the context, and names that do.
    for source in ["out", &format!("slash{out}/kept"), &format!("..{out}/kept"), &up] {
        fails(&sandbox, &format!("FROM busybox\nCOPY {source} /x\n"), &[], &["no source matches"]);
    }
    // CVE-2024-1753: the source of a mount from a stage is a link to the root of the host.
    let text = format!(
        "FROM busybox AS a\nRUN ln -s / /root-link; ln -s {up} /up-link; mkdir -p /in{out}\n\
         FROM busybox\nRUN --mount=type=bind,from=a,source=/root-link,target=/x,rw test ! -e /x{out}/kept && touch /x/made\n"
    );
    builds(&sandbox, &text, &[]);
    fails(
        &sandbox,
        "FROM busybox AS a\nRUN ln -s /../../nothing-here /l\nFROM busybox\nRUN --mount=type=bind,from=a,source=/l,target=/x true\n",
        &[],
        &["/l"],
    );
    // CVE-2024-9675: a cache is never found by a path that was typed.
    for option in [&format!("id={up}"), &format!("id={out}"), &format!("source={up}")] {
        builds(
            &sandbox,
            &format!("FROM busybox\nRUN --mount=type=cache,{option},target=/x touch /x/made && test ! -e /x/kept\n"),
            &[],
        );
    }
    // CVE-2024-9407: no option of a mount is passed on as it is.
    for option in ["bind-propagation=O", "relabel=shared", "upperdir=/"] {
        fails(
            &sandbox,
            &format!("FROM busybox\nRUN --mount=type=bind,{option},target=/x true\n"),
            &[],
            &["unexpected key"],
        );
    }
    // CVE-2025-4953: what is written into a bind of the context stays out of it.
    builds(&sandbox, "FROM busybox\nRUN --mount=type=bind,target=/x,rw echo changed > /x/file; touch /x/new\n", &[]);
    fails(&sandbox, "FROM busybox\nRUN --mount=type=bind,target=/x touch /x/new\n", &[], &["Read-only"]);
    assert_eq!(fs::read_to_string(work.join("file")).unwrap(), "theirs");
    assert!(!work.join("new").exists());
    let left: Vec<_> = fs::read_dir(&victim).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!((left.len(), fs::read_to_string(victim.join("kept")).unwrap().as_str()), (1, "host"), "{left:?}");
}

#[test]
fn archives_as_contexts_stay_inside() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let victim = sandbox.path("victim");
    fs::write(&victim, "FROM scratch\nLABEL read=host\n").unwrap();
    let make = |script: &str| {
        let dir = tempfile::tempdir().unwrap();
        let tar = dir.path().join("context.tar");
        let script = script.replace("VICTIM", &victim.display().to_string());
        Run::new("sh").args(["-ec", &script]).dir(dir.path()).ok();
        fs::read(tar).unwrap()
    };
    let build =
        |tar: Vec<u8>, args: &[&str]| sandbox.run("hoy-build").arg("build").args(args).arg("-").stdin(tar).output();
    // CVE-2026-44517, CVE-2026-28406: links as the Containerfile, names that lead out, an archive that ends too early.
    for script in [
        "ln -s VICTIM Containerfile; tar -cf context.tar Containerfile",
        "ln -s VICTIM Dockerfile; tar -cf context.tar Dockerfile",
        "echo x > x; tar -P --transform 's,x,../../../../../../..VICTIM,' -cf context.tar x",
        "ln -s / d; tar -cf context.tar d; mkdir e; echo x > e/x; tar -P --transform 's,e/x,dVICTIM,' -rf context.tar e/x",
        "head -c 100000 /dev/urandom > Containerfile; tar -cf whole Containerfile; head -c 5000 whole > context.tar",
    ] {
        let out = build(make(script), &[]);
        assert_ne!(out.status, 0, "{script}");
        assert!(!out.stderr.contains("panicked"), "{}", out.stderr);
    }
    assert!(fs::read_to_string(&victim).unwrap().starts_with("FROM scratch"), "the host's file is as it was");
    let left = fs::read_dir(sandbox.path("root/build")).unwrap().flatten();
    let left: Vec<_> =
        left.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().starts_with(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// CVE-2024-24557: nothing but the very same layers below and the very same instruction is a hit.
#[test]
fn a_history_is_no_key() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    builds(&sandbox, "FROM busybox\nRUN echo good > /file\n", &["-t", "good"]);
    let config = sandbox.ok("hoy-copy", &["inspect", "--config", "store:good"]);
    assert!(config.contains("echo good"));
    let container = sandbox.ok("hoy-build", &["from", "scratch"]);
    sandbox.ok("hoy-build", &["config", "--created-by", "/bin/sh -c echo good > /file", &container]);
    fs::write(sandbox.path("work/file"), "evil\n").unwrap();
    sandbox.ok("hoy-build", &["copy", "-q", &container, "file", "/file"]);
    sandbox.ok("hoy-build", &["commit", "-q", &container, "evil"]);
    let tree = |name: &str| {
        sandbox.run("hoy-storage").arg("unpack").arg("built").arg(sandbox.path(name)).ok();
        fs::read_to_string(sandbox.path(name).join("file")).unwrap()
    };
    builds(&sandbox, "FROM busybox\nRUN echo good > /file\n", &["-t", "built"]);
    assert_eq!(tree("one"), "good\n");
    // The same instruction above other layers is another step.
    let out = builds(&sandbox, "FROM busybox\nCOPY file /other\nRUN echo good > /file\n", &[]);
    assert!(!out.stderr.contains("--> Using cache"), "{}", out.stderr);
    // A record that somebody damaged, or that names another step, is none.
    for entry in fs::read_dir(sandbox.path("root/build/cache")).unwrap().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap();
        fs::write(entry.path(), text.replace("good", "evil")).unwrap();
    }
    let out = builds(&sandbox, "FROM busybox\nRUN echo good > /file\n", &["-t", "built"]);
    assert!(!out.stderr.contains("--> Using cache"), "{}", out.stderr);
    for entry in fs::read_dir(sandbox.path("root/build/cache")).unwrap().flatten() {
        fs::write(entry.path(), "{").unwrap();
    }
    let out = builds(&sandbox, "FROM busybox\nRUN echo good > /file\n", &["-t", "built"]);
    assert!(!out.stderr.contains("--> Using cache"), "{}", out.stderr);
}

/// Names of layers go with their layers.
#[test]
fn names_go_with_their_layers() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let names = || fs::read_dir(sandbox.path("root/build/names")).unwrap().count();
    builds(&sandbox, "FROM busybox\nCOPY Containerfile /x/\n", &[]);
    assert!(names() > 0);
    sandbox.ok("hoy-build", &["prune", "--all"]);
    assert_eq!(names(), 0);
}
