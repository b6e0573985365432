//! `hoy-build` in buildah's words: what scripts pass to every command, and options that few builders have.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use hoy_tests::{Registry, Sandbox, User, busybox_store, need, program};
use serde_json::Value;

fn inspect(sandbox: &Sandbox, template: &str, name: &str) -> String {
    sandbox.ok("hoy-build", &["inspect", "--format", template, name])
}

fn refused(sandbox: &Sandbox, args: &[&str]) -> String {
    let output = sandbox.run("hoy-build").args(args).output();
    assert_eq!((output.status, output.stdout.as_str()), (125, ""), "{args:?}: {}", output.stderr);
    output.stderr
}

/// What wrappers put before the command, and add to it again.
#[test]
fn options_of_every_command() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let conf = sandbox.path("work/registries.conf");
    fs::write(&conf, "[[registry]]\nprefix = \"r.example\"\nlocation = \"127.0.0.1:1\"\ninsecure = true\n").unwrap();
    let conf = conf.to_str().unwrap();
    let quiet = ["--storage-driver", "vfs", "--log-level", "error", "--log-level=error"];
    let made = [&quiet[..], &["from", "--quiet", "--quiet=false", "-q", "busybox"]].concat();
    assert_eq!(sandbox.ok("hoy-build", &made), "busybox-working-container");
    let pulled = refused(&sandbox, &["--registries-conf", "/none", "--registries-conf", conf, "pull", "r.example/a"]);
    assert!(pulled.contains("127.0.0.1:1/a"), "the last counts: {pulled}");
    let policy = sandbox.path("work/policy.json");
    fs::write(&policy, "{\"default\": [{\"type\": \"reject\"}]}").unwrap();
    let layout = format!("oci:{}:x", sandbox.path("work/layout").display());
    // It is for what comes here alone.
    let policy = policy.to_str().unwrap();
    sandbox.ok("hoy-build", &["push", "--signature-policy", policy, "busybox", &layout]);
    assert!(refused(&sandbox, &["pull", "--signature-policy", policy, &layout]).contains("policy"));
    let told = sandbox.run("hoy-build").args(["--log-level", "debug", "pull", "--creds", "u:secret", "r.example/a"]);
    let told = told.output().stderr;
    assert!(told.contains("run ") && told.contains("hoy-copy") && !told.contains("secret"), "{told}");
    for (args, why) in [
        (["--storage-driver", "zfs", "images"].as_slice(), "zfs"),
        (&["--storage-opt", "overlay.mountopt=nodev", "images"], "overlay.mountopt=nodev"),
        (&["--log-level", "loud", "images"], "loud"),
        (&["build", "--cw", "type=SNP", "."], "confidential"),
        (&["build", "--layer-label", "a=b", "."], "labels"),
        (&["build", "--save-stages", "."], "--target"),
        (&["commit", "--sbom-scanner-image", "x", "c"], "none is needed"),
        (&["mkcw", "a", "b"], "confidential"),
        (&["from", "--cni-config-dir", "/x", "busybox"], "networks"),
        (&["pull", "--authfile", "/none", "busybox"], "/none"),
        (&["rmi", "none-such"], "none-such"),
    ] {
        let said = refused(&sandbox, args);
        assert!(said.contains(why), "{args:?}: {said}");
    }
}

/// What `from` says of commands holds for each `run`, and a run's own words win.
fn remembered(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let work = sandbox.path("work");
    fs::write(work.join("shown"), "bound").unwrap();
    let volume = format!("{}:/shown:ro", work.join("shown").display());
    let options =
        ["--volume", &volume, "--add-host", "friend:192.0.2.7", "--dns", "192.0.2.53", "--ulimit", "nofile=77"];
    sandbox.ok("hoy-build", &[&["from", "--name", "c", "--format", "docker"], &options[..], &["busybox"]].concat());
    let run = |script: &str| sandbox.ok("hoy-build", &["run", "c", "sh", "-c", script]);
    assert_eq!(run("cat /shown; ulimit -n"), "bound77", "{user:?}");
    assert_eq!(run("grep -c friend /etc/hosts; cat /etc/resolv.conf"), "1\nnameserver 192.0.2.53", "{user:?}");
    assert!(run("cat /run/.containerenv").starts_with("engine="), "{user:?}");
    let named = ["run", "--hostname", "here", "c", "sh", "-c", "cat /etc/hostname; hostname"];
    assert_eq!(sandbox.ok("hoy-build", &named), "here\nhere", "{user:?}");
    sandbox.run("hoy-build").args(["run", "--valid-exit-codes", "3,4", "c", "sh", "-c", "exit 4"]).ok();
    sandbox.ok("hoy-build", &["commit", "-q", "c", "made"]);
    let manifest: Value = serde_json::from_str(&inspect(&sandbox, "{{.Manifest}}", "made")).unwrap();
    assert!(manifest["mediaType"].as_str().unwrap().contains("docker"), "{user:?}: {manifest}");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1, "{user:?}: nothing that was mounted is in a layer");
    let wrong = refused(&sandbox, &["from", "--network", "mine", "busybox"]);
    assert!(wrong.contains("mine: network not found"), "{wrong}");
}

#[test]
fn from_remembers_as_root() {
    remembered(User::Root);
}

#[test]
fn from_remembers_as_user() {
    remembered(User::Sub);
}

/// What `commit` and `build` say of the image alone.
#[test]
fn said_of_an_image() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    sandbox.ok("hoy-build", &["from", "--name", "c", "busybox"]);
    fs::write(sandbox.path("work/config.json"), r#"{"Cmd": ["over"], "Env": null}"#).unwrap();
    let changes = ["--change", "ENV A=1 B=2", "--change", "LABEL l=$A", "-c", "WORKDIR /w", "-c", "ONBUILD ENV ON=1"];
    let others = ["--config", "config.json", "--unsetenv", "B", "--annotation", "n=v", "--manifest", "list"];
    let more = ["--metadata-file", "meta.json", "--timestamp", "0", "--created-annotation"];
    let args = [&["commit", "-q"], &changes[..], &others, &more, &["c", "store:made"]].concat();
    let id = sandbox.ok("hoy-build", &args);
    let get = |template: &str| inspect(&sandbox, template, "made");
    assert_eq!(
        get("{{.OCIv1.Config.Cmd}} {{.OCIv1.Config.WorkingDir}} {{.Docker.Config.OnBuild}}"),
        "[over] /w [ENV ON=1]"
    );
    assert!(get("{{.OCIv1.Config.Env}}").contains("A=1") && !get("{{.OCIv1.Config.Env}}").contains("B=2"));
    assert_eq!(get("{{printf \"%q\" .OCIv1.Config.Labels}}"), "map[\"l\":\"1\"]");
    assert_eq!(get("{{index .ImageAnnotations \"org.opencontainers.image.created\"}}"), "1970-01-01T00:00:00Z");
    let written: Value = serde_json::from_slice(&fs::read(sandbox.path("work/meta.json")).unwrap()).unwrap();
    assert_eq!(written["containerimage.config.digest"], format!("sha256:{id}"));
    assert!(sandbox.ok("hoy-build", &["manifest", "inspect", "list"]).contains("sha256:"));
    let wrong = refused(&sandbox, &["commit", "--change", "RUN true", "c"]);
    assert!(wrong.contains("WORKDIR"), "{wrong}");

    fs::create_dir(sandbox.path("work/b")).unwrap();
    fs::write(sandbox.path("work/b/Containerfile"), "FROM made\nRUN test \"$E\" = 5\nLABEL own=1\n").unwrap();
    let options = ["--inherit-labels=false", "--env", "E=5", "--unsetlabel", "gone", "--label", "gone=1", "--rm"];
    let files = ["--iidfile-raw", "raw", "--logfile", "log", "--os-version", "9"];
    let built = sandbox.run("hoy-build").args(["build", "-t", "again"]).args(options).args(files).arg("b").output();
    assert_eq!((built.status, built.stderr.as_str()), (0, ""), "what is done is told in the file");
    assert!(fs::read_to_string(sandbox.path("work/log")).unwrap().contains("RUN test"));
    assert_eq!(fs::read_to_string(sandbox.path("work/raw")).unwrap(), built.stdout.trim());
    assert_eq!(inspect(&sandbox, "{{printf \"%q\" .OCIv1.Config.Labels}}", "again"), "map[\"own\":\"1\"]");
    assert_eq!(inspect(&sandbox, "{{.OCIv1.OSVersion}}", "again"), "9");
    assert!(sandbox.ok("hoy-build", &["images", "-q", "--filter", "reference=ag*"]).len() == 12);
    let others = sandbox.ok("hoy-build", &["images", "--format", "{{.Name}}", "--filter", "before=again"]);
    assert!(!others.contains("again"), "{others}");
}

/// A stage that comes first, though nothing is taken from it.
#[test]
fn from_after() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let build = |text: &str| {
        fs::write(sandbox.path("work/Containerfile"), text).unwrap();
        sandbox.run("hoy-build").args(["build", "--jobs", "2", "."]).output()
    };
    let made = build("ARG S=one\nFROM busybox AS one\nRUN touch /here\nFROM --after=$S --after=0 busybox\nRUN true\n");
    let (first, second) = (made.stderr.find("RUN touch"), made.stderr.find("RUN true"));
    assert!(made.status == 0 && first.is_some() && first < second, "{}", made.stderr);
    let wrong = build("FROM --after=self busybox AS self\n");
    assert!(wrong.status == 125 && wrong.stderr.contains("\"self\" could not be found"), "{}", wrong.stderr);
}

/// Images of sources go to a registry and come back; every tag of a repository is fetched.
#[test]
fn sources_and_all_tags() {
    if !need(&["docker-registry"]) {
        return;
    }
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let registry = Registry::start();
    let build = |args: &[&str]| sandbox.ok("hoy-build", args);
    fs::create_dir_all(sandbox.path("work/tree/sub")).unwrap();
    fs::write(sandbox.path("work/tree/sub/a.c"), "int a;").unwrap();
    build(&["source", "create", "--author", "me", "--time-stamp=false", "src"]);
    build(&["source", "add", "--annotation", "a=b", "src", "tree"]);
    build(&["source", "add", "src", "tree/sub/a.c"]);
    let layout = sandbox.path("work/src");
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        layout.join("blobs/sha256").join(digest)
    };
    let manifest: Value = serde_json::from_slice(&fs::read(blob(&index["manifests"][0])).unwrap()).unwrap();
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.source.image.config.v1+json");
    assert_eq!(fs::read_to_string(blob(&manifest["config"])).unwrap(), "{\"author\":\"me\"}");
    let listed = |layer: usize| sandbox.run("tar").arg("tzf").arg(blob(&manifest["layers"][layer])).ok();
    assert_eq!((listed(0), listed(1)), ("sub/\nsub/a.c".to_owned(), "a.c".to_owned()));
    assert_eq!(manifest["layers"][0]["annotations"]["a"], "b");
    assert_eq!(fs::read_dir(layout.join("blobs/sha256")).unwrap().count(), 4, "older manifests are gone");
    assert!(refused(&sandbox, &["source", "create", "src"]).contains("already exists"));
    assert!(refused(&sandbox, &["source", "add", "/none", "tree"]).contains("/none"));
    let place = format!("{}/src:1", registry.address());
    build(&["source", "push", "-q", "--tls-verify=false", "src", &place]);
    build(&["source", "pull", "-q", "--tls-verify=false", &place, "back"]);
    let back: Value = serde_json::from_slice(&fs::read(sandbox.path("work/back/index.json")).unwrap()).unwrap();
    assert_eq!(back["manifests"][0]["digest"], index["manifests"][0]["digest"]);

    for tag in ["one", "two"] {
        build(&["push", "-q", "--tls-verify=false", "busybox", &format!("{}/many:{tag}", registry.address())]);
    }
    let pulled = build(&["pull", "-q", "--tls-verify=false", "--all-tags", &format!("{}/many", registry.address())]);
    assert_eq!(pulled.lines().count(), 2, "{pulled}");
    let names = build(&["images", "--format", "{{.Tag}}", "--filter", "reference=many"]);
    assert!(["one", "two"].iter().all(|tag| names.lines().any(|name| name == *tag)), "{names}");
    let archive = format!("docker-archive:{}", PathBuf::from("a.tar").display());
    build(&["push", "-q", "busybox", &archive]);
    assert_eq!(build(&["from", "-q", &archive]), "busybox-working-container", "the archive says its name");
}

/// What scripts find in the words of a build, and pass to it.
fn build_speaks(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let build = |args: &[&str]| {
        let output = sandbox.run("hoy-build").arg("build").args(args).output();
        assert_eq!(output.status, 0, "{user:?} {args:?}: {}", output.stderr);
        (output.stdout.trim().to_owned(), output.stderr)
    };
    fs::create_dir(sandbox.path("work/c")).unwrap();
    fs::write(sandbox.path("work/c/Containerfile"), "FROM none-such\nRUN echo raw >/a; cat /a\n").unwrap();
    // The first FROM is another, and the Containerfile is named where a context is.
    let (id, told) = build(&["--from", "busybox", "-t", "named", "-t", "docker.io/short", "c/Containerfile"]);
    for line in [
        "STEP 1/2: FROM busybox",
        "STEP 2/2: RUN echo raw >/a; cat /a",
        "raw",
        "COMMIT named",
        &format!("--> {}", &id[..11]),
        "Successfully tagged localhost/named:latest",
        "Successfully tagged docker.io/library/short:latest",
    ] {
        assert!(told.lines().any(|known| known == line), "{user:?} {line:?}: {told}");
    }
    let (again, told) = build(&["--from=busybox", "--pull=false", "-t", "named", "c"]);
    assert!(again == id && told.lines().any(|line| line.starts_with("--> Using cache ")), "{user:?}: {told}");
    assert!(!build(&["--from=busybox", "--cache-ttl=0", "c"]).1.contains("Using cache"));
    assert_eq!(build(&["--from=busybox", "--quiet", "c"]).1, "", "{user:?}");
    // Stages that the target does not need, with each line's stage before it.
    let stages = "FROM busybox AS one\nRUN echo of-one\nFROM busybox\nRUN echo of-two\n";
    fs::write(sandbox.path("work/stages"), stages).unwrap();
    let told = build(&["-f", "stages", "c"]).1;
    assert!(told.contains("[2/2] STEP 2/2: RUN echo of-two\n") && !told.contains("STEP 1/2: FROM busybox AS one"));
    let told = build(&["-f", "stages", "--skip-unused-stages=false", "c"]).1;
    assert!(told.contains("[1/2] STEP 2/2: RUN echo of-one\n"), "{told}");
    // Lines of the last headline's step are plain, others have their step before them.
    assert!(told.contains("\nof-one\n") || told.contains("\n[one 2/2] of-one\n"), "{told}");
    let told = build(&["-f", "stages", "--target=one", "c"]).1;
    assert!(told.starts_with("STEP 1/2: FROM busybox AS one\n") && told.contains("\n--> Using cache"), "{told}");
    // A template asks for a label that is not there; a field has to be.
    assert_eq!(inspect(&sandbox, "{{.OCIv1.Config.Labels.none}}", "named"), "<no value>");
    refused(&sandbox, &["inspect", "--format", "{{.OCIv1.Config.None}}", "named"]);
    let layers = |args: &[&str]| {
        let directory = sandbox.path("work/dir");
        let to = format!("dir:{}", directory.display());
        sandbox.ok("hoy-build", &[&["push", "-q"], args, &["named", &to]].concat());
        let manifest: Value = serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap();
        fs::remove_dir_all(directory).unwrap();
        manifest["layers"][1]["mediaType"].as_str().unwrap().to_owned()
    };
    assert_eq!(layers(&["-D"]), "application/vnd.oci.image.layer.v1.tar");
    assert!(layers(&[]).ends_with("tar+gzip"));
    let removed = sandbox.ok("hoy-build", &["rmi", "docker.io/short"]);
    assert_eq!(removed, "untagged: docker.io/library/short:latest", "{user:?}");
    let removed = sandbox.ok("hoy-build", &["rmi", "named"]);
    assert_eq!(removed, format!("untagged: localhost/named:latest\n{id}"), "{user:?}");
}

#[test]
fn build_speaks_to_root() {
    build_speaks(User::Root);
}

#[test]
fn build_speaks_to_a_user() {
    build_speaks(User::Sub);
}

/// A comment is nothing to cpp, and other errors are.
#[test]
fn comments_before_cpp() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !need(&["cpp"]) {
        return;
    }
    let text = "#This is a comment\nFROM busybox\n#ifdef MORE\nENV more=yes\n#endif\n";
    fs::write(sandbox.path("work/Containerfile.in"), text).unwrap();
    let build = sandbox.run("hoy-build").args(["build", "-t", "a", "-f", "Containerfile.in", "."]);
    let told = build.env("BUILDAH_CPPFLAGS", "-DMORE").output();
    assert!(told.status == 0 && told.stderr.contains("Ignoring <stdin>:1"), "{}", told.stderr);
    fs::create_dir(sandbox.path("work/c")).unwrap();
    fs::write(sandbox.path("work/c/Containerfile"), "FROM none-such\n").unwrap();
    assert!(inspect(&sandbox, "{{.OCIv1.Config.Env}}", "a").contains("more=yes"));
    let features = ["--os-feature", "gone", "--os-feature=win32k", "--os-feature", "gone-"];
    sandbox.ok("hoy-build", &[&["build", "-t", "b", "--from", "a"], &features[..], &["c"]].concat());
    assert_eq!(inspect(&sandbox, "{{.OCIv1.OSFeatures}}", "b"), "[win32k]");
    // As buildah: what the preprocessor complains of is told, unless it had to stop.
    let told = |more: &str| {
        fs::write(sandbox.path("work/Containerfile.in"), format!("{text}{more}\n")).unwrap();
        sandbox.run("hoy-build").args(["build", "-q", "-f", "Containerfile.in", "."]).output()
    };
    let error = told("#error not that");
    assert!(error.status == 0 && error.stderr.contains("error: #error not that"), "{}", error.stderr);
    let fatal = told("#include \"none-such\"");
    assert!(fatal.status == 125 && fatal.stderr.contains("none-such"), "{}", fatal.stderr);
}

/// As buildah, `from` carries out what the image's ONBUILD says, once.
fn triggers(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    fs::create_dir(sandbox.path("work/c")).unwrap();
    fs::write(sandbox.path("work/file"), "text").unwrap();
    let build = |name: &str, text: &str| {
        fs::write(sandbox.path("work/c/Containerfile"), text).unwrap();
        sandbox.ok("hoy-build", &["build", "-q", "-t", name, "c"]);
    };
    let text =
        "FROM busybox\nENV D=/d\nONBUILD COPY file $D/\nONBUILD RUN echo $D >/made; pwd >>/made\nONBUILD WORKDIR /w\n";
    build("triggers", text);
    let out = sandbox.run("hoy-build").args(["from", "triggers"]).output();
    assert_eq!((out.status, out.stdout.as_str()), (0, "triggers-working-container\n"), "{user:?}: {}", out.stderr);
    assert!(out.stderr.contains("STEP 1: COPY file $D/\nSTEP 2: RUN echo $D >/made"), "{user:?}: {}", out.stderr);
    let seen = ["run", "triggers-working-container", "sh", "-c", "cat /d/file /made; pwd"];
    assert_eq!(sandbox.ok("hoy-build", &seen), "text/d\n/\n/w", "{user:?}");
    sandbox.ok("hoy-build", &["commit", "-q", "triggers-working-container", "done"]);
    assert_eq!(inspect(&sandbox, "{{.Docker.Config.OnBuild}} {{.Docker.Config.WorkingDir}}", "done"), "[] /w");
    for (trigger, why) in [("RUN exit 3", "code 3"), ("RUN --network=none true", "use a Containerfile")] {
        build("wrong", &format!("FROM busybox\nONBUILD {trigger}\n"));
        let said = refused(&sandbox, &["from", "--quiet", "wrong"]);
        assert!(said.contains(why) && said.contains(&format!("ONBUILD {trigger}")), "{user:?}: {said}");
    }
    let left = sandbox.ok("hoy-build", &["containers", "-q"]);
    assert_eq!(left.lines().count(), 1, "{user:?}: one whose trigger fails is gone: {left}");
}

#[test]
fn triggers_for_root() {
    triggers(User::Root);
}

#[test]
fn triggers_for_ordinary_users() {
    triggers(User::Sub);
    triggers(User::One);
}

/// Called by the name buildah it reads options and tells failures as that does, in a user namespace too.
fn called_buildah(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let link = sandbox.path("work/buildah");
    std::os::unix::fs::symlink(program("hoy-build"), &link).unwrap();
    let link = link.to_str().unwrap();
    let run = |args: &[&str]| sandbox.run(link).args(args).env("CONTAINERS_CONF", "/dev/null").output();
    for name in ["c", "d"] {
        assert_eq!(run(&["from", "--name", name, "busybox"]).stdout.trim(), name, "{user:?}");
    }
    for (args, want) in [
        ("rm none -a", "no options (-a) can be specified after the image or container name"),
        ("commit c -f=docker --quiet", "no options (-f=docker) can be specified after the image or container name"),
        ("images --filtr x", "unknown flag: --filtr\nhint: perhaps \"--filter\" is meant"),
        ("build -Z", "unknown shorthand flag: 'Z' in -Z"),
        ("frm", "unknown command \"frm\" for \"buildah\"\nhint: perhaps \"from\" is meant"),
        ("build -c", "flag needs an argument: 'c' in -c"),
        ("build --cpu-shares", "flag needs an argument: --cpu-shares"),
        // What follows is the value, whatever it looks like.
        (
            "build -c --tag a",
            "invalid argument \"--tag\" for \"-c, --cpu-shares\" flag: parsing \"--tag\": invalid syntax",
        ),
        (
            "build --cpu-shares=99999999999999999999 .",
            "invalid argument \"99999999999999999999\" for \"-c, --cpu-shares\" flag: \
             parsing \"99999999999999999999\": value out of range",
        ),
        ("mount --json=maybe", "invalid argument \"maybe\" for \"--json\" flag: parsing \"maybe\": invalid syntax"),
        ("inspect -t x c", "invalid argument \"x\" for \"-t, --type\" flag: it is one of container, image, manifest"),
        ("commit --squash=false --add-file a c", "when using the --squash switch, you may not use --add-file switch"),
        ("build . other", "accepts at most 1 arg(s), received 2"),
        ("rename c", "accepts 2 arg(s), received 1"),
        ("rm", "requires at least 1 arg(s), only received 0"),
        ("rm -a c", "when using the --all switch, you may not pass any containers names or IDs"),
        ("rmi -a x", "when using the --all switch, you may not pass any images names or IDs"),
        ("rmi -a -p", "when using the --all switch, you may not use --prune switch"),
        (
            "--log-level x images",
            "unable to parse log level: not a valid logrus Level: \"x\"\n\
             hint: it is one of trace, debug, info, warn, warning, error, fatal, panic",
        ),
        ("rename c c", "renaming a container with the same name as its current name"),
        ("copy --ignorefile i c x", "--ignorefile option requires that you specify a context dir using --contextdir"),
        ("images --filter x", "invalid image filter \"x\": must be in the format \"filter=value or filter!=value\""),
        ("run c --", "run in \"c\": command must be specified\nhint: it is never the image's own Entrypoint and Cmd"),
        (
            "config --env NONE_SUCH c",
            "configure \"c\": setting env \"NONE_SUCH\": no value given, and no variable here has that name",
        ),
        (
            "config --healthcheck-interval x c",
            "configure \"c\": parsing --healthcheck-interval \"x\": time: invalid duration \"x\": one is like 1m30s",
        ),
        (
            "config --cmd \"x c",
            "configure \"c\": parsing --cmd \"\\\"x\": invalid command line string: its quotes or brackets do not match",
        ),
        (
            "run --user nobody-such c true",
            "run in \"c\": unknown user error: \"nobody-such\": the image's /etc/passwd does not have it",
        ),
    ] {
        let out = run(&args.split(' ').collect::<Vec<_>>());
        assert_eq!((out.status, out.stderr), (125, format!("Error: {want}\n")), "{user:?} {args}");
    }
    let out = run(&["rm", "none", "other"]);
    let unknown = |name| format!("removing container \"{name}\": container not known\n");
    assert_eq!((out.status, out.stderr), (125, unknown("none") + "Error: " + &unknown("other")), "{user:?}");
    let own = refused(&sandbox, &["rm", "none", "other"]);
    assert_eq!(own, format!("hoy-build: {}hoy-build: {}", unknown("none"), unknown("other")), "{user:?}");
    let out = run(&["rmi", "one", "other"]).stderr;
    assert!(out.starts_with("Error: 2 errors occurred:\n\t* ") && out.lines().count() == 3, "{user:?}: {out}");
    assert!(refused(&sandbox, &["rename", "c", "d"]).contains("the name \"d\" is already in use by"), "{user:?}");
    let out = run(&["copy", "c", "none-such", "/x"]).stderr;
    assert!(out.starts_with("Error: copy to \"c\": "), "{user:?}: {out}");
    for (filter, count) in [("reference!=busy*", 0), ("dangling!=true", 1), ("label!=none", 1)] {
        assert_eq!(run(&["images", "-q", "--filter", filter]).stdout.lines().count(), count, "{user:?} {filter}");
    }
    fs::write(sandbox.path("work/Containerfile"), "FROM busybox\nARG foo\n").unwrap();
    let out = run(&["build", "."]).stderr;
    assert!(out.contains("level=warning msg=\"missing \\\"foo\\\" build argument. "), "{user:?}: {out}");
    let (help, none) = (run(&["manifest", "--help"]), run(&["manifest"]));
    assert_eq!((none.status, &none.stdout, &run(&["help", "manifest"]).stdout), (0, &help.stdout, &help.stdout));
    assert!(help.stdout.contains("\nUsage:\n  buildah manifest [command]\n\nAvailable Commands:\n"), "{}", help.stdout);
    assert!(run(&["help", "rm"]).stdout.contains("\n  buildah rm [CONTAINERS]... [flags]\n"), "{user:?}");
    // Under its own name options stand where they like.
    sandbox.ok("hoy-build", &["config", "c", "--author", "me"]);
}

#[test]
fn called_buildah_by_root() {
    called_buildah(User::Root);
}

#[test]
fn called_buildah_by_a_user() {
    called_buildah(User::Sub);
}

/// Removes images beside one whose needs are not known, for it is damaged.
fn beside_damage(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    sandbox.ok("hoy-build", &["from", "--name", "c", "busybox"]);
    sandbox.ok("hoy-build", &["config", "--author", "me", "c"]);
    sandbox.ok("hoy-build", &["commit", "-q", "c", "other"]);
    sandbox.ok("hoy-build", &["rm", "c"]);
    let digest = sandbox.ok("hoy-build", &["images", "--format", "{{.Digest}}", "other"]);
    let manifest = sandbox.path("root/blobs/sha256").join(digest.trim_start_matches("sha256:"));
    fs::write(&manifest, [fs::read(&manifest).unwrap(), b" ".to_vec()].concat()).unwrap();
    // A warning is no failure.
    let words = ["hoy-build: warning: \"busybox\" has lost its names only", "hoy-build: none: image not known"];
    sandbox.run("hoy-build").args(["rmi", "busybox", "none"]).fails(125, &words);
}

#[test]
fn images_beside_a_damaged_one() {
    beside_damage(User::Root);
    beside_damage(User::Sub);
}
