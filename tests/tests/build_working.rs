//! Working containers: what they are called, and what their commands have besides, of the machine and of images.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use hoy_tests::{Registry, Run, Sandbox, User, busybox_store, need};

fn inspect(sandbox: &Sandbox, template: &str, name: &str) -> String {
    sandbox.ok("hoy-build", &["inspect", "--format", template, name])
}

/// Images from directories and archives have the names that they have there, or none.
fn names(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let build = |args: &[&str]| sandbox.ok("hoy-build", args);
    for place in
        ["dir:d", "oci-archive:named.tar:app:1", "oci-archive:plain.tar", "docker-archive:docker.tar:r.x/team/app:2"]
    {
        build(&["push", "-q", "busybox", place]);
    }
    build(&["rmi", "--all"]);
    let id = build(&["pull", "-q", "dir:d"]);
    assert_eq!(build(&["images", "--format", "{{.Name}}:{{.Tag}}"]), "<none>:<none>", "{user:?}");
    for (image, want) in [
        ("dir:d", "dir-working-container"),
        ("oci-archive:plain.tar", "oci-archive-working-container"),
        (id.as_str(), &format!("{}-working-container", &id[..12])),
        ("oci-archive:named.tar", "app-working-container"),
        ("docker-archive:docker.tar", "app-working-container-1"),
    ] {
        assert_eq!(build(&["from", "-q", image]), want, "{user:?} {image}");
    }
    assert_eq!(inspect(&sandbox, "{{.FromImage}}", "dir-working-container"), "");
    assert_eq!(build(&["from", "--suffix", "box", "app:1"]), "app-box");
    let kept = build(&["images", "--format", "{{.Name}}:{{.Tag}}"]);
    assert!(kept.contains("localhost/app:1") && kept.contains("r.x/team/app:2"), "{user:?}: {kept}");
    let image = build(&["commit", "-q", "dir-working-container"]);
    let base = inspect(&sandbox, "{{index .ImageAnnotations \"org.opencontainers.image.base.name\"}}", &image);
    assert_eq!(base, "", "{user:?}: what has no name is not told of");
    build(&["push", "-q", "app:1", "oci:lay/out"]);
    build(&["pull", "-q", "oci:lay/out"]);
    // Where a layout is has no part in what is built on its image.
    build(&["push", "-q", "app:1", "oci:other/lay/out"]);
    let on = |image: &str| {
        fs::write(sandbox.path("work/Containerfile"), format!("FROM {image}\nLABEL a=b\n")).unwrap();
        build(&["build", "-q", "-t", "on", "."]);
        sandbox.ok("hoy-copy", &["digest", "store:on"])
    };
    assert_eq!(on("oci:lay/out"), on("oci:other/lay/out"), "{user:?}");
    assert!(build(&["images", "--format", "{{.Name}}"]).contains("localhost/lay/out"), "{user:?}");
    let scratch = build(&["from", "--arch", "armhf", "scratch"]);
    assert_eq!(inspect(&sandbox, "{{.Docker.Architecture}} {{.Docker.Variant}}", &scratch), "arm v7");
}

#[test]
fn names_as_root() {
    names(User::Root);
}

#[test]
fn names_as_user() {
    names(User::Sub);
}

/// A short name is the store's, then an alias's, then looked for in each registry.
#[test]
fn short_names() {
    if !need(&["docker-registry"]) {
        return;
    }
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let registry = Registry::start();
    let address = registry.address();
    sandbox.ok("hoy-build", &["push", "-q", "--tls-verify=false", "busybox", &format!("{address}/second/tool:1")]);
    let conf = sandbox.path("work/registries.conf");
    let text = format!(
        "unqualified-search-registries = [\"one.example\", \"two.example\"]\n[aliases]\nother = \"two.example/tool\"\n\
         [[registry]]\nprefix = \"one.example\"\nlocation = \"{address}/first\"\ninsecure = true\n\
         [[registry]]\nprefix = \"two.example\"\nlocation = \"{address}/second\"\ninsecure = true\n"
    );
    fs::write(&conf, text).unwrap();
    let build = |args: &[&str]| sandbox.run("hoy-build").arg("--registries-conf").arg(&conf).args(args);
    let pulled = build(&["pull", "tool:1"]).output();
    assert_eq!(pulled.status, 0, "{}", pulled.stderr);
    let tried =
        ["one.example", "two.example"].map(|host| pulled.stderr.find(&format!("Trying to pull {host}/tool:1...")));
    assert!(tried[0].is_some() && tried[0] < tried[1], "{}", pulled.stderr);
    assert_eq!(build(&["from", "-q", "other:1"]).ok(), "tool-working-container", "the alias");
    assert!(build(&["images"]).ok().contains("two.example/tool"));
    build(&["tag", "busybox", "localhost/mine"]).ok();
    let own = build(&["pull", "--policy=always", "mine"]).fails(125, &["localhost/mine"]);
    assert!(!own.contains("one.example"), "{own}");
    assert!(own.contains("initializing source docker://localhost/mine:latest: "), "{own}");
    for (base, want) in [("tool:1", "two.example/tool:1"), ("mine", ""), ("other:1", "two.example/tool:1")] {
        fs::write(sandbox.path("work/Containerfile"), format!("FROM {base}\nLABEL a=b\n")).unwrap();
        build(&["build", "-q", "-t", "made", "."]).ok();
        let name = inspect(&sandbox, "{{index .ImageAnnotations \"org.opencontainers.image.base.name\"}}", "made");
        assert_eq!(name, want, "{base}");
    }
    build(&["build", "-q", "--lock", "."]).ok();
    sandbox.ok("hoy-build", &["rmi", "--all", "--force"]);
    build(&["build", "-q", "--locked", "."]).ok();
    build(&["pull", "none-such"]).fails(125, &["one.example/none-such", "two.example/none-such"]);
    let names = sandbox.run("hoy-copy").arg("--registries-conf").arg(&conf).args(["names", "a/b"]).ok();
    assert_eq!(names, "one.example/a/b:latest\ntwo.example/a/b:latest");
    sandbox.run("hoy-copy").args(["names", "dir:x"]).fails(2, &["dir:x"]);
}

/// What containers.conf(5) says of every command, and what wins over it.
fn machine(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    fs::write(sandbox.path("work/shown"), "shown").unwrap();
    let conf = sandbox.path("work/containers.conf");
    let text = format!(
        "[containers]\ndefault_capabilities = [\"CHOWN\", \"KILL\"]\ndefault_ulimits = [\"nofile=500:500\"]\n\
         default_sysctls = [\"net.ipv4.tcp_timestamps=0\", \"kernel.shmmni=99\"]\nshm_size = \"200k\"\nenv = [\"FROM_CONF=yes\"]\n\
         volumes = [\"{0}:/shown:ro\"]\ndevices = [\"/dev/null:/dev/other:rwm\"]\nutsns = \"host\"\n",
        sandbox.path("work/shown").display()
    );
    fs::write(&conf, text).unwrap();
    let script = "grep CapEff /proc/self/status; ulimit -n; cat /proc/sys/net/ipv4/tcp_timestamps /proc/sys/kernel/shmmni; \
                  df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2; echo $FROM_CONF; cat /shown; test -c /dev/other && echo other";
    let want = "CapEff:\t0000000000000021\n500\n0\n99\n200\nyes\nshownother";
    let build = |args: &[&str]| sandbox.run("hoy-build").env("CONTAINERS_CONF", &conf).args(args);
    let namespace = |args: &[&str]| build(&[args, &["readlink", "/proc/self/ns/uts"]].concat()).ok();
    let container = build(&["from", "busybox"]).ok();
    assert_eq!(build(&["run", &container, "sh", "-c", script]).ok(), want, "{user:?}");
    let asked = ["run", "--cap-add", "setuid", "-e", "FROM_CONF=no", &container, "sh", "-c"];
    let told = build(&[&asked[..], &["grep CapEff /proc/self/status; echo $FROM_CONF"]].concat()).ok();
    assert_eq!(told, "CapEff:\t00000000000000a1\nno", "{user:?}: options win");
    let host = fs::read_link("/proc/self/ns/uts").unwrap().display().to_string();
    let of_conf = namespace(&["run", &container]);
    assert_eq!(
        (of_conf == host, namespace(&["run", "--uts", "private", &container]) == host),
        (true, false),
        "{user:?}"
    );

    fs::write(sandbox.path("work/Containerfile"), format!("FROM busybox\nRUN {script}\n")).unwrap();
    let built = build(&["build", "-t", "a", "."]).output();
    assert!(built.status == 0 && built.stderr.contains(want), "{user:?}: {}", built.stderr);
    fs::write(&conf, "[containers]\nutsns = \"host\"\nenv = [\"FROM_CONF=other\"]\n").unwrap();
    let again = build(&["build", "."]).output();
    assert!(again.stderr.contains("Using cache"), "{user:?}: the machine is no input: {}", again.stderr);
    fs::write(&conf, "[containers\n").unwrap();
    build(&["run", &container, "true"]).fails(125, &["containers.conf"]);
}

#[test]
fn machine_as_root() {
    machine(User::Root);
}

#[test]
fn machine_as_user() {
    machine(User::Sub);
}

/// Files that every command has a copy of, what it is told of itself, and the image's volumes.
fn surroundings(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let work = sandbox.path("work");
    fs::create_dir_all(work.join("secrets/sub")).unwrap();
    fs::write(work.join("elsewhere"), "key").unwrap();
    symlink(work.join("elsewhere"), work.join("secrets/sub/link")).unwrap();
    fs::write(work.join("mounts.conf"), format!("{}:/run/secrets\n/none/such\n", work.join("secrets").display()))
        .unwrap();
    let given = ["--default-mounts-file", "mounts.conf"];
    let made = sandbox.run("hoy-build").args(given).args(["from", "--name", "c", "busybox"]).output();
    assert_eq!(made.status, 0, "{}", made.stderr);
    let run = |script: &str| sandbox.run("hoy-build").args(["run", "c", "sh", "-c", script]).output();
    let told = run("cat /run/secrets/sub/link; echo x > /run/secrets/sub/link");
    assert_eq!((told.stdout.trim(), told.status), ("key", 0), "{user:?}: {}", told.stderr);
    assert!(told.stderr.contains("/none/such"), "{}", told.stderr);
    assert_eq!(fs::read_to_string(work.join("elsewhere")).unwrap(), "key", "{user:?}: it was a copy");
    fs::write(work.join("Containerfile"), "FROM busybox\nRUN cat /run/secrets/sub/link\n").unwrap();
    let built = sandbox.run("hoy-build").args(given).args(["build", "-t", "b", "."]).output();
    assert!(built.status == 0 && built.stderr.contains("key"), "{user:?}: {}", built.stderr);
    sandbox.run("hoy-build").args(["--default-mounts-file", "/none", "run", "c", "true"]).fails(125, &["/none"]);

    let env = run(". /run/.containerenv; echo $engine, $name, $image, $rootless").stdout;
    let rootless = u8::from(user != User::Root);
    assert!(env.contains("buildah") && env.ends_with(&format!(", c, localhost/busybox:latest, {rootless}\n")), "{env}");
    let hosts = run("cat /etc/hosts && echo x >> /etc/hosts && hostname").stdout;
    assert!(hosts.lines().any(|line| line.starts_with("127.0.0.1\t") && line.ends_with(" c")), "{user:?}: {hosts}");
    let none = sandbox.run("hoy-build").args(["run", "--network", "none", "c", "cat", "/etc/hosts"]).output();
    assert!(!none.stdout.contains(" c\n"), "{user:?}: {}", none.stdout);
    sandbox.ok("hoy-build", &["run", "--network", "container", "c", "true"]);

    sandbox.ok("hoy-build", &["config", "--volume", "/data/deep", "--volume", "/data/../x", "c"]);
    assert_eq!(run("ls -d /data/deep /x").stdout, "/data/deep\n", "{user:?}");
    sandbox.ok("hoy-build", &["commit", "-q", "--format", "docker", "c", "made"]);
    let base = inspect(&sandbox, "{{.FromImageID}}", "c");
    assert_eq!(inspect(&sandbox, "{{.Docker.Parent}}", "made"), format!("sha256:{base}"));
    let changed = sandbox.ok("hoy-storage", &["diff", "c"]);
    assert_eq!(changed, "A /data\nA /data/deep", "{user:?}: nothing that was mounted");
}

#[test]
fn surroundings_as_root() {
    surroundings(User::Root);
}

#[test]
fn surroundings_as_user() {
    surroundings(User::Sub);
}

/// Volumes that are given away, or only read; caches and images as mounts.
fn mounts(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let work = sandbox.path("work");
    for name in ["given/sub", "lower", "upper", "over"] {
        fs::create_dir_all(work.join(name)).unwrap();
    }
    fs::write(work.join("given/sub/file"), "x").unwrap();
    fs::write(work.join("outside"), "x").unwrap();
    symlink(work.join("outside"), work.join("given/link")).unwrap();
    fs::write(work.join("lower/old"), "old").unwrap();
    Run::new("chmod").args(["-R", "a+rwX"]).args(["given", "lower", "upper", "over"].map(|name| work.join(name))).ok();
    if let Some((uid, gid)) = user.ids() {
        Run::new("chown").arg("-R").arg(format!("{uid}:{gid}")).arg(&work).ok();
    }
    sandbox.ok("hoy-build", &["from", "--name", "c", "busybox"]);
    let volume = |name: &str, rest: &str| format!("{}:{rest}", work.join(name).display());
    let run = |options: &[&str], script: &str| {
        let output = sandbox.run("hoy-build").arg("run").args(options).args(["c", "sh", "-c", script]).output();
        assert_eq!(output.status, 0, "{user:?} {options:?}: {}", output.stderr);
        output.stdout.trim().to_owned()
    };
    let before = fs::metadata(work.join("outside")).unwrap().uid();
    let given = volume("given", "/v:z,U");
    let told = run(&["--user", "88:89", "-v", &given], "touch /v/sub/new && stat -c %u:%g /v /v/sub/file /v/sub/new");
    assert_eq!(told, "88:89\n88:89\n88:89", "{user:?}");
    assert_eq!(fs::metadata(work.join("outside")).unwrap().uid(), before, "{user:?}: no link was followed");
    let plain = volume("lower", "/v:O");
    assert_eq!(run(&["-v", &plain], "cat /v/old; echo new > /v/new; rm /v/old; ls /v"), "oldnew", "{user:?}");
    let kept = format!("{},upperdir={},workdir={}", plain, work.join("upper").display(), work.join("over").display());
    assert_eq!(run(&["-v", &kept], "echo new > /v/new; ls /v"), "new\nold", "{user:?}");
    assert_eq!(fs::read_dir(work.join("lower")).unwrap().count(), 1, "{user:?}");
    assert_eq!(fs::read_to_string(work.join("upper/new")).unwrap(), "new\n", "{user:?}");

    let cache = ["--mount", "type=cache,target=/cache,z"];
    run(&cache, "echo kept > /cache/file");
    assert_eq!(run(&cache, "cat /cache/file"), "kept", "{user:?}");
    assert_eq!(run(&["--mount", "type=cache,target=/cache,id=other"], "ls /cache"), "", "{user:?}");
    let image = ["--mount", "type=bind,from=busybox,source=/bin,target=/of-image"];
    assert_eq!(run(&image, "test -e /of-image/sh && ! touch /of-image/x 2>/dev/null && echo read"), "read", "{user:?}");
    assert_eq!(sandbox.ok("hoy-build", &["containers", "-q"]).lines().count(), 1, "{user:?}: none is left");
    for (options, says) in [
        (["-v", "/usr:/v:U"], "system needs"),
        (["-v", "/usr:/v:O,upperdir=/x"], "together"),
        (["--mount", "type=bind,from=busybox,target=/x,rw"], "only read"),
        (["--mount", "type=bind,from=busybox,source=/none,target=/x"], "/none"),
        (["--mount", "type=bind,from=none-such/x,target=/x"], "none-such"),
        (["--mount", "type=cache,from=busybox,target=/x"], "begins with nothing"),
        (["--mount", "type=cache,target=/"], "target"),
    ] {
        sandbox.run("hoy-build").arg("run").args(options).args(["c", "true"]).fails(125, &[says]);
    }
    assert_eq!(sandbox.ok("hoy-build", &["containers", "-q"]).lines().count(), 1, "{user:?}: none is left");
}

#[test]
fn mounts_as_root() {
    mounts(User::Root);
}

#[test]
fn one_id_gives_nothing_away() {
    let Some(sandbox) = busybox_store(User::One) else { return };
    fs::create_dir(sandbox.path("work/given")).unwrap();
    sandbox.ok("hoy-build", &["from", "--name", "c", "busybox"]);
    let given = format!("{}:/v:U", sandbox.path("work/given").display());
    let run = sandbox.run("hoy-build").args(["run", "--user", "88:89", "-v", &given, "c", "true"]);
    run.fails(125, &["88:89", "/etc/subuid"]);
    let overlay = format!("{}:/v:O", sandbox.path("work/given").display());
    sandbox.ok("hoy-build", &["run", "-v", &overlay, "--mount", "type=cache,target=/c", "c", "touch", "/v/x", "/c/x"]);
    assert_eq!(fs::read_dir(sandbox.path("work/given")).unwrap().count(), 0);
}

#[test]
fn mounts_as_user() {
    mounts(User::Sub);
}

/// Words of buildah that say what cannot be, and where an image goes.
#[test]
fn words() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let build = |args: &[&str]| sandbox.ok("hoy-build", args);
    for (args, says) in [
        (&["from", "--userns-gid-map=0:10000:65536", "busybox"][..], "can not be used without"),
        (&["from", "--userns-uid-map", "16", "busybox"], "uint32:uint32:uint32"),
        (&["from", "--isolation", "chroot", "--name", "x", "--suffix", "y", "busybox"], "--suffix"),
    ] {
        sandbox.run("hoy-build").args(args).fails(125, &[says]);
    }
    build(&["from", "--isolation", "chroot", "--name", "c", "--format", "docker", "busybox"]);
    assert_eq!(inspect(&sandbox, "{{.Isolation}}", "c"), "chroot");
    let network = ["run", "--network", "none", "c", "true"];
    sandbox
        .run("hoy-build")
        .args(network)
        .fails(125, &["cannot set --network other than host with --isolation chroot"]);
    sandbox.run("hoy-build").args(["config", "--env", "NONE_SUCH", "c"]).fails(125, &["NONE_SUCH", "no value given"]);
    let health = ["--healthcheck", "CMD /x", "--healthcheck-timeout=1m30s", "--healthcheck-retries=7", "--add-history"];
    build(&[&["config"][..], &health, &["c"]].concat());
    build(&["commit", "-q", "c", "made"]);
    let history = inspect(&sandbox, "{{range .Docker.History}}{{println .CreatedBy}}{{end}}", "made");
    assert!(history.contains("HEALTHCHECK --retries=7 --timeout=1m30s CMD /x"), "{history}");
    let both = "{{.Docker.Config.Healthcheck.Timeout}} {{printf \"%d\" .Docker.Config.Healthcheck.Timeout}}";
    assert_eq!(inspect(&sandbox, both, "made"), "1m30s 90000000000");
    let other = format!("containers-storage:[vfs@{0}+{0}-run]app", sandbox.path("other").display());
    build(&["commit", "-q", "c", &other]);
    assert!(!build(&["images"]).contains("app"));
    let root = sandbox.path("other").display().to_string();
    assert_eq!(build(&["--root", &root, "images", "--format", "{{.Name}}"]), "localhost/app");
    assert_eq!(build(&["from", "-q", &other]), "app-working-container");
    let list = build(&["manifest", "create", "list"]);
    assert_eq!(build(&["manifest", "create", "--amend", "list"]), list);
    let added = sandbox.run("hoy-build").args(["manifest", "add", "list", "busybox"]).output();
    assert_eq!((added.stderr.as_str(), added.stdout.lines().count()), ("", 1));
    let text = "FROM busybox\nARG A\nARG OVER\nENV OVER=env\nARG HTTP_PROXY\nRUN true\n";
    fs::write(sandbox.path("work/Containerfile"), text).unwrap();
    build(&[
        "build",
        "-q",
        "-t",
        "args",
        "--build-arg",
        "A=b",
        "--build-arg",
        "OVER=x",
        "--build-arg",
        "HTTP_PROXY=p",
        ".",
    ]);
    let history = inspect(&sandbox, "{{range .Docker.History}}{{println .CreatedBy}}{{end}}", "args");
    assert!(history.contains("|2 A HTTP_PROXY /bin/sh -c true") && !history.contains("A=b"), "{history}");
    let told = sandbox.run("hoy-build").args(["--log-level=debug", "images", "-q"]).output().stderr;
    assert!(told.contains("level=debug msg="), "{told}");
}
