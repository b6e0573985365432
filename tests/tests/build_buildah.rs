//! What buildah's users expect of `hoy-build build` and Docker's do not, or not so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use hoy_tests::{Out, Sandbox, User, busybox_store, need};

/// Builds this Containerfile in a context with a file of its own.
fn build(sandbox: &Sandbox, text: &str, args: &[&str]) -> Out {
    let context = sandbox.path("work/c");
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("Containerfile"), text).unwrap();
    fs::write(context.join("file"), "text\n").unwrap();
    sandbox.run("hoy-build").arg("build").args(args).arg("c").output()
}

fn built(sandbox: &Sandbox, text: &str, args: &[&str]) -> Out {
    let out = build(sandbox, text, args);
    assert_eq!(out.status, 0, "{args:?}: {}", out.stderr);
    out
}

fn refused(sandbox: &Sandbox, text: &str, args: &[&str], code: i32, why: &str) {
    let out = build(sandbox, text, args);
    assert!(out.status == code && out.stderr.contains(why), "{args:?} {}: {}", out.status, out.stderr);
}

fn inspect(sandbox: &Sandbox, template: &str, name: &str) -> String {
    sandbox.ok("hoy-build", &["inspect", "--format", template, name])
}

/// A Containerfile that does nothing to its base is that.
fn bases(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let id = sandbox.ok("hoy-build", &["images", "-q", "--no-trunc", "busybox"]);
    let made = built(&sandbox, "FROM busybox\n", &["-t", "same", "--manifest", "list"]);
    assert_eq!(format!("sha256:{}", made.stdout.trim()), id, "{user:?}");
    let digest = |name: &str| inspect(&sandbox, "{{.FromImageDigest}}", name);
    assert_eq!(digest("same"), digest("busybox"));
    // By its id it is the image and not the index that leads to it.
    assert_eq!(digest(made.stdout.trim()), digest("busybox"), "{user:?}");
    for other in [&["--label", "a=b"][..], &["--timestamp", "5"], &["--format", "docker"]] {
        built(&sandbox, "FROM busybox\n", &[&["-t", "other"], other].concat());
        assert_ne!(digest("other"), digest("busybox"), "{user:?} {other:?}");
    }
    // What has no name gives none to what is built on it.
    let nameless = built(&sandbox, "FROM busybox\nCOPY file /\n", &[]).stdout;
    built(&sandbox, &format!("FROM sha256:{nameless}LABEL a=b\n"), &["-t", "based"]);
    let annotation = |key| format!("{{{{index .ImageAnnotations \"org.opencontainers.image.base.{key}\"}}}}");
    assert_eq!(inspect(&sandbox, &annotation("name"), "based"), "", "{user:?}");
    assert!(inspect(&sandbox, &annotation("digest"), "based").starts_with("sha256:"), "{user:?}");
    // A context stands for a stage, by its number too.
    built(&sandbox, "FROM busybox\nRUN echo other >/word\n", &["-t", "instead"]);
    let stages = "FROM busybox AS one\nRUN echo own >/word\nFROM busybox\nCOPY --from=0 /word /\nRUN cat /word\n";
    assert!(built(&sandbox, stages, &[]).stderr.contains("\nown\n"), "{user:?}");
    let stages_by_arg = stages.replace("COPY --from=0", "ARG S\nCOPY --from=$S");
    assert!(built(&sandbox, &stages_by_arg, &["--build-arg", "S=one"]).stderr.contains("\nown\n"), "{user:?}");
    assert!(built(&sandbox, &stages_by_arg, &["--build-arg", "S=instead"]).stderr.contains("\nother\n"), "{user:?}");
    let told = built(&sandbox, stages, &["--build-context", "one=docker://instead"]).stderr;
    assert!(told.contains("\nother\n"), "{user:?}: {told}");
}

#[test]
fn bases_for_root() {
    bases(User::Root);
}

#[test]
fn bases_for_a_user() {
    bases(User::Sub);
}

#[test]
fn what_is_said_of_arguments() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let text = "ARG BASE=none\nFROM $BASE as one\nARG WORD\nARG SET=1\nARG HTTP_PROXY TARGETARCH\nCOPY $WORD /all/\n";
    let told = built(&sandbox, text, &["--build-arg", "BASE=busybox", "-t", "all"]).stderr;
    assert!(told.contains("STEP 1/5: FROM busybox AS one\n"), "{told}");
    let missing = "missing \"WORD\" build argument. Try adding \"--build-arg WORD=<VALUE>\" to the command line";
    assert_eq!((told.matches("build argument.").count(), told.contains(missing)), (1, true), "{told}");
    // Where a variable holds nothing, the whole context is copied, as in BuildKit.
    assert!(sandbox.ok("hoy-copy", &["export", "store:all", "-"]).contains("all/file"));
    let all = ["--build-arg", "BASE=busybox", "--build-arg", "WORD=file"];
    assert!(!built(&sandbox, text, &all).stderr.contains("build argument"));
    let mount = "FROM busybox\nRUN --mount=type=bind,from=,target=/x true\n";
    refused(&sandbox, mount, &[], 125, "points to an empty value");
    // A file of patterns is beside the Containerfile, also where that is in the context.
    fs::write(sandbox.path("work/c/own"), "FROM busybox\nCOPY file /\n").unwrap();
    fs::write(sandbox.path("work/c/own.dockerignore"), "file\n").unwrap();
    refused(
        &sandbox,
        "",
        &["-f", "own"],
        125,
        &format!(
            "no source matches \"file\" (1 filtered out using {}/c/own.dockerignore)",
            sandbox.path("work").display()
        ),
    );
}

/// Scripts look for these words.
#[test]
fn what_went_wrong() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    fs::write(sandbox.path("work/second"), "# escape=|\nLABEL a=b\n").unwrap();
    fs::write(sandbox.path("work/nothing"), "").unwrap();
    fs::create_dir_all(sandbox.path("work/empty/Containerfile")).unwrap();
    let secret = "FROM busybox\nRUN --mount=type=secret,id=s,required=true true\n";
    for (text, args, code, why) in [
        ("FROM busybox\nrun exit 3\n", &[][..], 3, "building at STEP \"RUN exit 3\": exit status 3\n"),
        (
            "FROM busybox\nCOPY --chown=$A:$B file /\n",
            &[],
            125,
            "looking up UID/GID for \":\": can't find uid for user",
        ),
        ("FROM busybox\nCOPY https://r.example/a /\n", &[], 125, "source can't be a URL for COPY"),
        ("FROM busybox AS b\nCOPY --from=b /a /\n", &[], 125, "COPY --from=b: no stage or image found with that name"),
        (secret, &[], 125, "secret required but no secret with id s found"),
        ("FROM busybox\nRUN true\n", &["--runtime-flag", "wrong"], 1, "refused (exit status 2): no command was run"),
        ("FROM busybox\nRUN true\n", &["-q", "--runtime-flag", "wrong"], 1, "'--wrong'"),
        ("FROM busybox\n", &["--secret", "id=s,src"], 125, "incorrect secret flag format"),
        ("FROM r.invalid/a\n", &[], 125, "no such host"),
        ("FROM Busybox/B\n", &[], 125, "invalid reference format"),
        // Each of several Containerfiles is one by itself in what its first lines say.
        (
            "FROM busybox\n",
            &["-f", "c/Containerfile", "-f", "second"],
            125,
            "parsing additional Dockerfile second: invalid ESCAPE token \"|\": it is \\ or `\n  |\n1 | # escape=|\n  |          ^",
        ),
        ("", &[], 125, "no contents in \"Containerfile\""),
        ("FROM busybox\n", &["-f", "nothing"], 125, "no contents in \"nothing\""),
        ("FROM busybox\n", &["-f", "empty"], 125, "\"empty\" cannot be path to a directory"),
        ("FROM busybox\n", &["-f", "second/x"], 125, "open second/x: "),
        (
            "FROM busybox\n",
            &["-t", "a", "-t", "B"],
            125,
            "tag B: invalid reference format: repository name must be lowercase",
        ),
    ] {
        refused(&sandbox, text, args, code, why);
    }
    for (context, code, why) in [
        ("git:///none/such", 128, "failed while performing git fetch"),
        ("git://127.0.0.1:1/none", 128, "failed while performing git fetch"),
        ("empty", 125, "\"Containerfile\" is not a file"),
        ("empty/Containerfile", 125, "cannot find Containerfile or Dockerfile in it: no such file or directory"),
    ] {
        let out = sandbox.run("hoy-build").args(["build", context]).output();
        assert!(out.status == code && out.stderr.contains(why), "{context}: {}", out.stderr);
    }
    sandbox.ok("hoy-build", &["from", "--name", "w", "busybox"]);
    let run = sandbox.run("hoy-build").args(["run", "--runtime-flag", "wrong", "w", "true"]);
    run.fails(125, &["'--wrong'", "no command was run"]);
    for action in ["copy", "add"] {
        let out = sandbox.run("hoy-build").args([action, "--ignorefile", "second", "w", "second"]).output();
        let why = "--ignorefile option requires that you specify a context dir using --contextdir\n";
        assert!(out.status == 125 && out.stderr.ends_with(why), "{}", out.stderr);
    }
}

/// Volumes that are more than a mount.
fn volumes(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let work = sandbox.path("work");
    for name in ["given/sub", "lower", "upper", "over"] {
        sandbox.run("mkdir").args(["-p", name]).ok();
    }
    sandbox.run("touch").args(["given/sub/file", "lower/old"]).ok();
    let volume = |name: &str, rest: &str| format!("{}:{rest}", work.join(name).display());
    let plain = volume("lower", "/v:O");
    let text = "FROM busybox\nRUN echo new >/v/new; rm /v/old; ls /v\nRUN ls /v\n";
    let told = built(&sandbox, text, &["-v", &plain]).stderr;
    assert!(told.contains("\nnew\n") && told.contains("\nold\n"), "{user:?}: each RUN begins anew: {told}");
    assert_eq!(fs::read_dir(work.join("lower")).unwrap().count(), 1, "{user:?}");
    let kept = format!("{plain},upperdir={},workdir={}", work.join("upper").display(), work.join("over").display());
    built(&sandbox, "FROM busybox\nRUN echo kept >/v/new\nRUN cat /v/new\n", &["-v", &kept]);
    assert_eq!(fs::read_to_string(work.join("upper/new")).unwrap(), "kept\n", "{user:?}");
    refused(&sandbox, text, &["-v", "/usr:/v:U"], 125, "system needs");
    refused(&sandbox, text, &["-v", "/usr:/v:O,upperdir=/x"], 125, "together");
    let given = volume("given", "/v:U");
    let text = "FROM busybox\nUSER 88:89\nRUN touch /v/sub/new && stat -c %u:%g /v/sub/file /v/sub/new\n";
    if user == User::One {
        return refused(&sandbox, text, &["-v", &given], 125, "/etc/subuid");
    }
    let told = built(&sandbox, text, &["-v", &given]).stderr;
    assert!(told.contains("\n88:89\n88:89\n"), "{user:?}: {told}");
    let left = fs::read_dir(sandbox.path("root/build")).unwrap().flatten().map(|entry| entry.file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".tmp")), "{user:?}");
}

#[test]
fn volumes_for_root() {
    volumes(User::Root);
}

#[test]
fn volumes_for_ordinary_users() {
    volumes(User::Sub);
    volumes(User::One);
}

/// Where it is told what is done, and what it cost.
#[test]
fn files_of_what_is_told() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let read = |name: &str| fs::read_to_string(sandbox.path("work").join(name)).unwrap();
    let text = "FROM scratch\nCOPY file /\n";
    let both = ["--platform=linux/arm64,linux/amd64", "--logfile", "log", "--logsplit"];
    assert_eq!(built(&sandbox, text, &both).stderr, "");
    for platform in ["arm64", "amd64"] {
        let told = read(&format!("log_linux_{platform}"));
        assert!(told.starts_with(&format!("[linux/{platform}] STEP 1/2: FROM scratch\n")), "{told}");
    }
    refused(&sandbox, text, &["--logsplit"], 125, "--logfile");
    built(&sandbox, text, &["--log-rusage", "--rusage-logfile", "used"]);
    let used = read("used");
    let fields = ["s(system) ", "s(user) ", "s(elapsed) ", " input ", " output"];
    assert_eq!(used.lines().count(), 2, "of the step and of all: {used}");
    assert!(used.lines().all(|line| fields.iter().all(|field| line.contains(field))), "{used}");
    let told = built(&sandbox, text, &["--log-rusage"]).stderr;
    assert!(told.contains("(elapsed)"), "{told}");
    let debug = sandbox.run("hoy-build").args(["--log-level=debug", "build", "--cache-ttl=0", "c"]).output();
    let id = format!("level=debug msg=\"created new image ID \\\"{}\\\"\"", debug.stdout.trim());
    assert!(debug.stderr.contains("Setting --no-cache=true") && debug.stderr.contains(&id), "{}", debug.stderr);
    assert!(!debug.stderr.contains("cache hit"), "{}", debug.stderr);
    let again = sandbox.run("hoy-build").args(["--log-level=debug", "build", "c"]).output().stderr;
    assert!(again.contains("cache hit in the first iteration"), "{again}");
}

/// An image that goes elsewhere, and blobs that are kept beside the store.
fn elsewhere(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let work = sandbox.path("work");
    let to = |name: &str| format!("dir:{}", work.join(name).display());
    let listed = || sandbox.ok("hoy-build", &["images", "-q", "--no-trunc"]);
    let before = listed();
    let made = built(&sandbox, "FROM busybox\nCOPY file /\n", &["-t", &to("sent"), "--blob-cache", "blobs"]);
    assert_eq!(listed(), before, "{user:?}: it does not stay");
    refused(&sandbox, "FROM busybox\nCOPY file /\n", &["-t", &to("c/file/under")], 125, "send the image to");
    assert_eq!(listed(), before, "{user:?}: nor where that fails");
    let blobs = fs::read_dir(work.join("blobs")).unwrap().flatten();
    let mut blobs: Vec<String> = blobs.map(|entry| entry.file_name().into_string().unwrap()).collect();
    blobs.sort();
    let config = format!("sha256:{}.config", made.stdout.trim());
    assert!(blobs.len() == 4 && blobs.contains(&config), "{user:?}: two layers, configuration, manifest: {blobs:?}");
    for blob in &blobs {
        let digest = blob.trim_start_matches("sha256:").trim_end_matches(".config");
        let name = if work.join("sent").join(digest).exists() { digest } else { "manifest.json" };
        assert_eq!(fs::read(work.join("blobs").join(blob)).unwrap(), fs::read(work.join("sent").join(name)).unwrap());
    }
    // A blob that the source has lost is taken from there; one with other bytes is asked of the source.
    sandbox.ok("hoy-storage", &["prune", "--all", "--force"]);
    let layers: Vec<&String> = blobs.iter().filter(|blob| !blob.ends_with(".config")).collect();
    let manifest = fs::read_to_string(work.join("sent/manifest.json")).unwrap();
    let layer = layers.iter().find(|blob| manifest.contains(blob.as_str())).unwrap();
    let file = work.join("sent").join(layer.trim_start_matches("sha256:"));
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let pull = |args: &[&str]| sandbox.run("hoy-build").arg("pull").args(args).arg(to("sent")).output();
    sandbox.run("hoy-build").args(["rmi", "--all", "--force"]).ok();
    assert_ne!(pull(&[]).status, 0, "{user:?}: the layer is gone");
    let pulled = pull(&["--blob-cache", "blobs"]);
    assert_eq!((pulled.status, pulled.stdout.as_str()), (0, made.stdout.as_str()), "{user:?}: {}", pulled.stderr);
    sandbox.run("hoy-build").args(["rmi", "--all", "--force"]).ok();
    fs::write(&file, &bytes).unwrap();
    fs::write(work.join("blobs").join(layer), vec![0; bytes.len()]).unwrap();
    let pulled = pull(&["--blob-cache", "blobs"]);
    assert!(pulled.status == 0 && pulled.stderr.contains("wrong bytes"), "{user:?}: {}", pulled.stderr);
    sandbox.ok("hoy-storage", &["check"]);
}

#[test]
fn elsewhere_for_root() {
    elsewhere(User::Root);
}

#[test]
fn elsewhere_for_ordinary_users() {
    elsewhere(User::Sub);
    elsewhere(User::One);
}

/// What is signed when it is made stays so on its way, and the signatures are gone with the image.
fn signed(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    if !need(&["gpg", "gpgv"]) {
        return;
    }
    let key = "%no-protection\nKey-Type: RSA\nKey-Length: 2048\nName-Email: a@localhost\n%commit\n";
    sandbox.run("sh").args(["-c", "mkdir -m 700 $HOME/.gnupg; gpg --batch --quiet --gen-key"]).stdin(key).ok();
    let text = "FROM busybox\nCOPY file /\n";
    built(&sandbox, text, &["-t", "one", "-t", "two", "--sign-by", "a@localhost"]);
    let signatures = |name: &str, args: &[&str]| {
        let to = format!("dir:{}", sandbox.path("work").join(name).display());
        sandbox.ok("hoy-build", &[&["push", "-q"], args, &["one", &to]].concat());
        let files = fs::read_dir(sandbox.path("work").join(name)).unwrap().flatten();
        files.filter(|file| file.file_name().to_string_lossy().starts_with("signature-")).count()
    };
    assert_eq!(signatures("kept", &[]), 2, "{user:?}: one for each name");
    assert_eq!(signatures("lost", &["--remove-signatures"]), 0, "{user:?}");
    let changed = format!("dir:{}", sandbox.path("work/changed").display());
    let changed = sandbox.run("hoy-build").args(["push", "-q", "-D", "one", &changed]).output();
    assert!(changed.status == 125 && changed.stderr.contains("--remove-signatures"), "{}", changed.stderr);
    let before = sandbox.ok("hoy-build", &["images", "-a", "--no-trunc"]);
    let other = "FROM busybox\nCOPY file /other\n";
    refused(&sandbox, other, &["--sign-by", "a@localhost"], 125, "a signature is for a name");
    assert_eq!(sandbox.ok("hoy-build", &["images", "-a", "--no-trunc"]), before, "{user:?}: nothing was built");
    refused(&sandbox, text, &["-t", "x", "--sign-by", "nobody@localhost"], 125, "nobody@localhost");
    // A working container's image, too.
    sandbox.ok("hoy-build", &["from", "--name", "c", "busybox"]);
    sandbox.ok("hoy-build", &["run", "c", "touch", "/made"]);
    sandbox.ok("hoy-build", &["commit", "-q", "--sign-by", "a@localhost", "c", "one"]);
    assert_eq!(signatures("committed", &[]), 1, "{user:?}");
    let all = || fs::read_dir(sandbox.path("root/signatures")).map_or(0, |entries| entries.count());
    assert_eq!(all(), 2, "{user:?}");
    sandbox.ok("hoy-build", &["rm", "c"]);
    sandbox.ok("hoy-storage", &["check"]);
    sandbox.run("hoy-build").args(["rmi", "--all", "--force"]).ok();
    sandbox.ok("hoy-storage", &["prune", "--all", "--force"]);
    assert_eq!(all(), 0, "{user:?}");
    // They come back with the image, unless that is not wanted.
    let pull = |args: &[&str]| {
        let from = format!("dir:{}", sandbox.path("work/kept").display());
        sandbox.ok("hoy-build", &[&["pull", "-q"], args, &[&from]].concat());
        all()
    };
    assert_eq!((pull(&[]), pull(&["--remove-signatures"])), (1, 0), "{user:?}");
    sandbox.run("gpgconf").args(["--kill", "all"]).output();
}

#[test]
fn signed_by_root() {
    signed(User::Root);
}

#[test]
fn signed_by_a_user() {
    signed(User::Sub);
}
