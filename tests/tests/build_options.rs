//! Options of `hoy-build build` that say how commands run and what is read.

use std::fs;

use hoy_tests::{Out, Sandbox, User, busybox_store, need};

fn build(sandbox: &Sandbox, text: &str, args: &[&str], input: &str) -> Out {
    fs::write(sandbox.path("work/Containerfile"), text).unwrap();
    sandbox.run("hoy-build").arg("build").args(args).arg(".").stdin(input).output()
}

#[track_caller]
fn builds(sandbox: &Sandbox, text: &str, args: &[&str]) -> Out {
    let out = build(sandbox, text, args, "");
    assert_eq!(out.status, 0, "{}", out.stderr);
    out
}

#[test]
fn names_of_hosts() {
    for user in [User::Root, User::One] {
        let Some(sandbox) = busybox_store(user) else { return };
        let text = "FROM busybox\nRUN cat /etc/hosts; echo x > /x\n";
        let args = ["--add-host", "one:10.0.0.1", "--add-host=two=[fd00::2]", "-t", "a"];
        let out = builds(&sandbox, text, &args);
        for line in ["10.0.0.1\tone", "fd00::2\ttwo", "127.0.0.1\tlocalhost"] {
            assert!(out.stderr.contains(line), "{line:?} is not in {}", out.stderr);
        }
        assert!(builds(&sandbox, text, &args).stderr.contains("--> Using cache"));
        let other = builds(&sandbox, text, &["--add-host", "one:10.0.0.2", "--explain"]);
        assert!(other.stderr.contains("not cached: other options"), "{}", other.stderr);
        sandbox.ok("hoy-storage", &["create", "--name", "c", "a"]);
        assert!(!sandbox.ok("hoy-storage", &["diff", "c"]).contains("hosts"));
        let tree = sandbox.path("work/tree");
        sandbox.run("hoy-storage").arg("unpack").arg("a").arg(&tree).ok();
        assert!(!tree.join("etc/hosts").exists(), "it is no part of the image");
        for wrong in ["one", "one:", "one:ten", "o/ne:10.0.0.1", "one:10.0.0.1\nx"] {
            let out = build(&sandbox, text, &["--add-host", wrong], "");
            assert!(out.status == 125 && out.stderr.contains("NAME:ADDRESS"), "{wrong:?}: {}", out.stderr);
        }
    }
}

#[test]
fn a_shell_where_a_command_failed() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        let text = "FROM busybox\nENV SAID=so\nRUN --mount=type=tmpfs,target=/memory echo made > /made; exit 3\n";
        let out =
            build(&sandbox, text, &["--on-error", "shell"], "echo \"$(cat /made) $SAID\"; ls -d /memory; exit 9\n");
        assert_eq!(out.status, 3, "the command's own code: {}", out.stderr);
        assert_eq!(out.stdout, "", "what a shell says is no result");
        assert!(out.stderr.contains("made so") && out.stderr.contains("/memory"), "{}", out.stderr);
        let out = build(&sandbox, text, &["--on-error", "ignore"], "");
        assert_eq!(out.status, 125, "{}", out.stderr);
        let left = fs::read_dir(sandbox.path("root/containers")).unwrap().flatten();
        assert_eq!(left.filter(|entry| entry.file_name().len() == 64).count(), 0);
    }
}

/// CVE-2024-23653.
#[test]
fn privileges_are_given_by_who_builds() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let text = "FROM busybox\nRUN grep CapEff /proc/self/status\nRUN --security=insecure grep CapEff /proc/self/status; ls /dev\n";
    let out = build(&sandbox, text, &[], "");
    assert!(out.status == 125 && out.stderr.contains("--allow security.insecure"), "{}", out.stderr);
    let out = builds(&sandbox, text, &["--no-cache", "--allow", "security.insecure"]);
    let effective: Vec<_> =
        out.stderr.lines().filter_map(|line| line.split_once("CapEff:")).map(|(_, set)| set).collect();
    assert!(effective.len() == 2 && effective[0] < effective[1], "{effective:?}");
    let sandboxed =
        builds(&sandbox, "FROM busybox\nRUN --security=sandbox grep CapEff /proc/self/status\n", &["--no-cache"]);
    assert!(sandboxed.stderr.contains(effective[0].trim()), "{}", sandboxed.stderr);
}

#[test]
fn limits_and_platforms() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let text =
        "FROM busybox\nRUN nproc; cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; :\n";
    let out = builds(&sandbox, text, &["--cpus", "0.5", "--cpuset-cpus", "0", "--memory", "100m"]);
    assert!(out.stderr.contains("50000") && out.stderr.lines().any(|line| line == "1"), "{}", out.stderr);
    for (option, value) in
        [("--cpus", "x"), ("--cpus", "-1"), ("--cpuset-cpus", "a"), ("--rewrite-timestamp=false", "")]
    {
        let args: Vec<&str> = [option, value].into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(build(&sandbox, text, &args, "").status, 125, "{option} {value}");
    }
    builds(
        &sandbox,
        "FROM scratch\nCOPY Containerfile /\nENV A=$TARGETARCH\n",
        &["--platform", "linux/arm64/v8", "-t", "arm"],
    );
    let config = sandbox.ok("hoy-copy", &["inspect", "--config", "--override-arch", "arm64", "store:arm"]);
    assert!(config.contains("arm64") && config.contains("\"v8\""), "{config}");
}

#[test]
fn several_containerfiles_are_one() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let work = sandbox.path("work");
    fs::write(work.join("first"), "ARG I=busybox\nFROM $I AS one\nRUN echo one > /one").unwrap();
    fs::write(work.join("second"), "FROM one\nCOPY first /\n").unwrap();
    let whole = "ARG I=busybox\nFROM $I AS one\nRUN echo one > /one\nFROM one\nCOPY first /\n";
    builds(&sandbox, whole, &["--rewrite-timestamp", "-t", "whole"]);
    sandbox.ok("hoy-build", &["build", "-f", "first", "-f", "second", "-t", "parts", "."]);
    let digest =
        |image: &str| sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &format!("store:{image}")]);
    assert_eq!(digest("whole"), digest("parts"));
    // What the base image has is defined.
    let told = builds(&sandbox, "FROM busybox\nENV A=$PATH B=$UNHEARD\n", &[]).stderr;
    assert!(told.contains("UndefinedVar") && told.contains("$UNHEARD") && !told.contains("'$PATH'"), "{told}");
}

#[test]
fn progress_in_each_form() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        let text = "FROM busybox AS one\nRUN echo told-by-the-command\nENV A=b\nRUN echo \"$A\" >&2; exit 3\n";
        fs::write(sandbox.path("work/Containerfile"), text).unwrap();
        let build = |args: &str| {
            let out = sandbox.run("sh").args(["-c", &format!("exec hoy-build build {args} . 9>events")]).output();
            assert_eq!(out.status, 3, "{user:?}: {}", out.stderr);
            out.stderr
        };
        let plain = build("--progress=plain");
        for line in
            ["STEP 1/4: FROM busybox AS one", "STEP 2/4: RUN echo told-by-the-command", "told-by-the-command", "b"]
        {
            assert!(plain.lines().any(|told| told.starts_with(line)), "{user:?} {line}: {plain}");
        }
        let none = build("--progress=none");
        assert!(!none.contains("STEP 1") && none.lines().any(|line| line == "b"), "{user:?}: {none}");
        build("--progress=json:9");
        let events = fs::read_to_string(sandbox.path("work/events")).unwrap();
        let events: Vec<serde_json::Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
        assert_eq!(
            (of("begin"), of("end"), of("output"), of("failed"), of("stopped")),
            (4, 1, 1, 1, 1),
            "{user:?}: {events:#?}"
        );
        assert!(events.iter().any(|event| event["event"] == "end" && event["cached"] == true), "{events:#?}");
        sandbox.run("hoy-build").args(["build", "--progress=json:1", "."]).fails(125, &["descriptor from 2 on"]);
        sandbox.run("hoy-build").args(["build", "--progress=json:77", "."]).fails(125, &["descriptor 77"]);
        // On a terminal: the same steps, and what the command that failed said.
        if need(&["script"]) {
            let run = sandbox.run("script").args(["-qec", "stty cols 100; hoy-build build .", "/dev/null"]);
            let shown = run.env("TERM", "xterm").output();
            for text in ["[one 2/4] RUN echo told-by-the-command CACHED", "[one 3/4] ENV A=b", "exit status 3"] {
                assert!(shown.stdout.contains(text), "{user:?} {text}: {}", shown.stdout);
            }
            assert!(!shown.stdout.contains("DONE"), "{}", shown.stdout);
        }
    }
}

/// What scripts for buildah give to other commands.
#[test]
fn options_of_other_commands() {
    for user in [User::Root, User::Sub, User::One] {
        let Some(sandbox) = busybox_store(user) else { continue };
        let ok = |args: &[&str]| sandbox.ok("hoy-build", args);
        let container = ok(&["from", "--name", "it", "busybox"]);
        ok(&["umount", "it"]);
        let seen = ok(&["unshare", "-m", "ROOT=it", "--mount", "it", "sh", "-c", "ls $ROOT/bin/sh; env"]);
        assert!(seen.contains("/bin/sh\n") && seen.contains("\nit=/"), "{seen}");
        assert_eq!(ok(&["mount"]), "", "and no longer");
        let path = ok(&["mount", "it"]);
        sandbox.run("hoy-build").args(["unshare", "--mount=it", "sh", "-c", "exit 7"]).fails(7, &[]);
        assert!(ok(&["mount"]).ends_with(&path), "what was mounted before stays so");
        sandbox.run("hoy-build").args(["unshare", "--mount", "A=none", "true"]).fails(125, &["none"]);
        sandbox.run("hoy-build").args(["unshare", "--mount", "=it", "true"]).fails(125, &["has no name"]);
        assert!(ok(&["info", "--debug"]).contains("buildah version") && !ok(&["info"]).contains("buildah version"));
        ok(&["push", "-q", "-D", "busybox", "oci:plain:x"]);
        let manifest = sandbox.ok("hoy-copy", &["manifest", "oci:plain:x"]);
        assert!(manifest.contains("layer.v1.tar\"") && !manifest.contains("tar+gzip"), "{manifest}");
        ok(&["push", "-q", "--compression-format=none", "busybox", "oci:plain:y"]);
        assert_eq!(sandbox.ok("hoy-copy", &["manifest", "oci:plain:y"]), manifest);
        ok(&["pull", "-q", "--remove-signatures", "oci:plain:x"]);
        let squashed = builds(&sandbox, "FROM busybox\nRUN echo x > /x\n", &["-q", "--squash-all", "-t", "one"]);
        let layers = ok(&["inspect", "-t", "image", "-f", "{{len .OCIv1.RootFS.DiffIDs}}", squashed.stdout.trim()]);
        assert_eq!(layers, "1");
        for (args, says) in [
            (&["run", "--no-pivot", &container, "true"][..], "--isolation chroot"),
            (&["run", "--no-hosts", &container, "true"], "neither file of the host"),
            (&["run", "--no-hostname", &container, "true"], "neither file of the host"),
            (&["run", "--contextdir", "x", &container, "true"], "whole path"),
            (&["commit", "--pull", &container, "x"], "no image of a scanner"),
            (&["rpc", "--listen", "x", "true"], "no command is a server"),
            (&["manifest", "add", "--artifact-type=a/b", "x", "y"], "--artifact"),
            (&["manifest", "add", "--artifact", "--artifact-config=y", "x", "y"], "--artifact-config-type"),
            (&["manifest", "add", "x", "y", "z"], "--artifact"),
            (&["manifest", "annotate", "--subject=z", "x", "y"], "refers to nothing"),
            (&["manifest", "push", "--add-compression=zstd", "x", "y"], "under two names"),
            (&["push", "-D", "--compression-format=gzip", "busybox", "oci:plain:z"], "--compression-format"),
        ] {
            sandbox.run("hoy-build").args(args).fails(125, &[says]);
        }
        ok(&["from", "--name", "other", "one"]);
        ok(&["tag", "one", "two"]);
        let id = ok(&["images", "-q", "two"]);
        sandbox.run("hoy-build").args(["rmi", &id]).fails(125, &["several names", "localhost/two:latest", "--force"]);
        ok(&["rmi", "--force", &id]);
        assert!(!ok(&["containers"]).contains("other"), "it went with its image");
        assert!(!ok(&["images"]).contains("two"), "and so did all names");
        ok(&["prune", "--all"]);
        assert!(ok(&["images", "-q"]).lines().count() >= 1, "what a container was made from stays");
        ok(&["prune", "--all", "--force"]);
        assert_eq!((ok(&["images", "-q"]), ok(&["containers", "-q"])), (String::new(), String::new()));
    }
}

/// Hooks of files are run for each command that they are for, and those of later directories count.
#[test]
fn hooks_of_files() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { continue };
        let hook = |path: &str, when: &str, says: &str| {
            let file = sandbox.path("work").join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let script = format!("echo {says} >> {}", sandbox.path("work/ran").display());
            let text = format!(
                r#"{{"version":"1.0.0","hook":{{"path":"/bin/sh","args":["sh","-c","{script}"]}},"when":{when},"stages":["createRuntime"]}}"#
            );
            fs::write(file, text).unwrap();
        };
        fs::write(sandbox.path("work/ran"), "").unwrap();
        hoy_tests::Run::new("chmod").arg("666").arg(sandbox.path("work/ran")).ok();
        hook("one/a.json", r#"{"always":true}"#, "first");
        hook("two/a.json", r#"{"commands":["sh$"]}"#, "second");
        hook("two/b.json", r#"{"hasBindMounts":true}"#, "third");
        let text = "FROM busybox\nRUN echo x > /x\n";
        let dirs = ["--no-cache", "--hooks-dir", "one", "--hooks-dir", "two"];
        builds(&sandbox, text, &dirs);
        assert_eq!(fs::read_to_string(sandbox.path("work/ran")).unwrap(), "second\n");
        let volume = format!("{}:/two:ro", sandbox.path("work/two").display());
        builds(&sandbox, text, &[&dirs[..], &["-v", &volume]].concat());
        assert_eq!(fs::read_to_string(sandbox.path("work/ran")).unwrap(), "second\nsecond\nthird\n");
        hook("bad/a.json", r#"{"commands":["("]}"#, "x");
        fs::create_dir_all(sandbox.path("work/other")).unwrap();
        fs::write(sandbox.path("work/other/a.json"), "{").unwrap();
        for (dir, says) in [("bad", "no regular expression"), ("other", "a.json"), ("none", "none")] {
            let out = build(&sandbox, text, &["--no-cache", "--hooks-dir", dir], "");
            assert!(out.status == 125 && out.stderr.contains(says), "{dir}: {}", out.stderr);
        }
    }
}

#[test]
fn mounts_of_every_run() {
    for user in [User::Root, User::One] {
        let Some(sandbox) = busybox_store(user) else { return };
        fs::write(sandbox.path("work/word"), "hidden-word\n").unwrap();
        let text = "FROM busybox AS made\nRUN cat /run/secrets/word; echo from-a-stage > /file\nFROM busybox\n\
                    ONBUILD RUN cat /run/secrets/word /made/file\nRUN cat /run/secrets/word /made/file\n";
        let (secret, mount) = (["--secret", "id=word,src=word"], ["--mount", "type=secret,id=word"]);
        let args = [&secret[..], &mount[..], &["--target", "made"]].concat();
        assert!(builds(&sandbox, text, &args).stderr.contains("hidden-word"));
        let bind = ["--mount", "type=bind,from=made,target=/made"];
        let out = build(&sandbox, text, &[&args[..], &bind[..]].concat(), "");
        assert!(out.status != 0 && out.stderr.contains(":2:1:"), "a stage cannot need itself: {}", out.stderr);

        let text = "FROM busybox\nRUN cat /run/secrets/word; ls /kept; touch /kept/it\nRUN ls /kept\n\
                    ONBUILD RUN cat /run/secrets/word /here/Containerfile\n";
        let kept = ["--mount", "type=cache,target=/kept"];
        let args = [&secret[..], &mount[..], &kept[..], &["-t", "base"]].concat();
        let out = builds(&sandbox, text, &args);
        assert!(out.stderr.contains("hidden-word") && out.stderr.contains("\nit\n"), "{}", out.stderr);
        let here = ["--mount", "type=bind,target=/here"];
        let out = builds(&sandbox, "FROM base\n", &[&secret[..], &mount[..], &here[..]].concat());
        assert!(out.stderr.contains("hidden-word") && out.stderr.contains("FROM base"), "{}", out.stderr);
        // What its triggers are is not known before it is fetched.
        let layout = format!("oci:{}:1", sandbox.path("work/layout").display());
        sandbox.ok("hoy-copy", &["copy", "store:base", &layout]);
        sandbox.ok("hoy-build", &["rmi", "base"]);
        let out = builds(&sandbox, &format!("FROM {layout}\n"), &[&secret[..], &mount[..], &here[..]].concat());
        assert!(out.stderr.contains("hidden-word"), "{}", out.stderr);
        for wrong in ["type=nothing", "type=bind,from=$x,target=/x", "target"] {
            let out = build(&sandbox, text, &["--mount", wrong], "");
            assert!(out.status == 125 && out.stderr.contains("Containerfile:"), "{wrong:?}: {}", out.stderr);
        }
    }
}
