//! What comes out of a build: indexes for several platforms, archives, directories, a description; and what goes in
//! through a preprocessor.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use hoy_tests::{Registry, Run, Sandbox, User, busybox_store, need};
use serde_json::Value;

fn context(sandbox: &Sandbox, text: &str) {
    fs::create_dir_all(sandbox.path("work/c")).unwrap();
    fs::write(sandbox.path("work/c/Containerfile"), text).unwrap();
    fs::write(sandbox.path("work/c/file"), "text\n").unwrap();
    // Whatever the umask of the tests is.
    Run::new("chmod").args(["-R", "a+rX"]).arg(sandbox.path("work/c")).ok();
}

/// Two platforms, and what says which one an image is for.
const TWO: &str = "FROM scratch\nARG TARGETARCH\nENV FOR=$TARGETARCH\nCOPY file /\n";

fn platforms_make_an_index(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    context(&sandbox, TWO);
    let platforms = |name: &str| {
        let listed = sandbox.ok("hoy-copy", &["index", "list", &format!("store:{name}")]);
        listed.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect::<Vec<_>>().join(" ")
    };
    let build = |args: &[&str]| sandbox.ok("hoy-build", &[&["build"], args, &["c"]].concat());
    let digest = build(&["--platform", "linux/amd64,linux/arm64", "--platform", "linux/riscv64", "-t", "multi"]);
    assert_eq!(platforms("multi"), "linux/amd64 linux/arm64 linux/riscv64", "{user:?}");
    assert_eq!(sandbox.ok("hoy-copy", &["digest", "store:multi"]), format!("sha256:{digest}"));
    let config = sandbox.ok("hoy-copy", &["config", "--platform", "linux/arm64", "store:multi"]);
    assert!(config.contains("FOR=arm64"), "{user:?}: {config}");
    // The members have no entries of their own.
    let index: Value = serde_json::from_str(&fs::read_to_string(sandbox.path("root/index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{user:?}: {index:#}");
    assert_eq!(build(&["--platform", "linux/amd64,linux/arm64", "--platform", "linux/riscv64", "-t", "multi"]), digest);
    // An index grows, and a platform has one image in it.
    build(&["--manifest", "list"]);
    build(&["--manifest", "list", "--platform", "linux/s390x", "-t", "single"]);
    build(&["--manifest", "list", "--label", "other=1"]);
    assert_eq!(platforms("list").split(' ').count(), 2, "{user:?}: {}", platforms("list"));
    assert!(sandbox.ok("hoy-copy", &["config", "store:list"]).contains("\"other\""));
    sandbox.run("hoy-build").args(["build", "--manifest", "single", "c"]).fails(125, &["one image, and no index"]);
    // One that nobody named is there under its digest.
    let nameless = build(&["--platform", "linux/amd64,/arm64"]);
    let listed = sandbox.ok("hoy-copy", &["index", "list", &format!("store:{nameless}")]);
    assert!(listed.contains("linux/amd64") && listed.contains("linux/arm64"), "{user:?}: {listed}");
    sandbox.run("hoy-build").args(["build", "--platform", "linux", "c"]).fails(125, &["--platform"]);
    // What the base image is for.
    context(&sandbox, "FROM localhost/multi\nCOPY file /other\n");
    build(&["--all-platforms", "-t", "all"]);
    assert_eq!(platforms("all"), "linux/amd64 linux/arm64 linux/riscv64", "{user:?}");
    let config = sandbox.ok("hoy-copy", &["config", "--platform", "linux/riscv64", "store:all"]);
    assert!(config.contains("FOR=riscv64"), "{user:?}: {config}");
    context(&sandbox, "FROM scratch\nCOPY file /other\n");
    sandbox
        .run("hoy-build")
        .args(["build", "--all-platforms", "-t", "x", "c"])
        .fails(125, &["name them with --platform"]);
    let left = sandbox.run("hoy-storage").args(["prune", "--force"]).output();
    assert_eq!(left.status, 0, "{}", left.stderr);
    assert_eq!(sandbox.run("hoy-copy").args(["validate", "store:all"]).output().status, 0);
}

#[test]
fn platforms_make_an_index_for_root() {
    platforms_make_an_index(User::Root);
}

#[test]
fn platforms_make_an_index_for_ordinary_users() {
    platforms_make_an_index(User::Sub);
    platforms_make_an_index(User::One);
}

#[test]
fn a_command_for_another_processor_needs_an_interpreter() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if std::path::Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        return hoy_tests::skip("this machine runs programs for s390x");
    }
    // The beginning of a program for s390x: elf(5).
    let program = [b"\x7fELF\x02\x02\x01".as_slice(), &[0; 9], &[0, 2, 0, 22, 0, 0, 0, 1], &[0; 40]].concat();
    context(&sandbox, "FROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN true\n");
    fs::write(sandbox.path("work/c/sh"), program).unwrap();
    let run = sandbox.run("hoy-build").args(["build", "--platform", "linux/s390x", "c"]);
    run.fails(126, &["no interpreter for s390x", "qemu-user-static"]);
    // A stage of this machine's own platform needs none, and the image is for the other one all the same.
    context(&sandbox, "FROM --platform=$BUILDPLATFORM busybox\nRUN echo for $TARGETARCH >/made\n");
    sandbox.ok("hoy-build", &["build", "--platform", "linux/s390x", "-t", "cross", "c"]);
    let config = sandbox.ok("hoy-build", &["inspect", "--format", "{{.OCIv1.Architecture}} {{.Docker.OS}}", "cross"]);
    assert_eq!(config, "s390x linux");
}

#[test]
fn all_platforms_are_those_of_the_registry() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    context(&sandbox, TWO);
    sandbox.ok("hoy-build", &["build", "--platform", "linux/amd64,linux/arm64", "-t", "multi", "c"]);
    let base = format!("{}/base:1", registry.address());
    sandbox.ok("hoy-copy", &["copy", "--all", "--dest-tls-verify=false", "store:multi", &format!("docker://{base}")]);
    context(&sandbox, &format!("FROM {base}\nCOPY file /other\n"));
    let pushed = format!("{}/made:1", registry.address());
    let output = format!("type=image,name={pushed},push=true");
    sandbox.ok("hoy-build", &["build", "--tls-verify=false", "--all-platforms", "--output", &output, "c"]);
    let listed = sandbox.ok("hoy-copy", &["index", "list", "--tls-verify=false", &format!("docker://{pushed}")]);
    assert!(listed.contains("linux/amd64") && listed.contains("linux/arm64"), "{listed}");
}

fn outputs(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    context(
        &sandbox,
        "FROM busybox AS big\nRUN echo made > /made\nFROM scratch\nCOPY file /dir/\nCOPY --from=big /made /\n",
    );
    let build = |args: &[&str]| {
        let out = sandbox.run("hoy-build").args(["build", "-t", "app"]).args(args).arg("c").output();
        assert_eq!(out.status, 0, "{user:?} {args:?}: {}", out.stderr);
        out
    };
    let id = build(&[]).stdout;
    let metadata = ["--metadata-file", "about.json", "--iidfile", "id"];
    let all = [
        "-o",
        "out",
        "-o",
        "type=tar,dest=out.tar",
        "--output",
        "type=oci,dest=oci.tar",
        "-o",
        "type=docker,dest=docker.tar",
    ];
    assert_eq!(build(&[&all[..], &metadata[..]].concat()).stdout, id);
    for file in ["out/dir/file", "out/made"] {
        assert!(sandbox.path("work").join(file).exists(), "{user:?} {file}");
    }
    let listed = sandbox.run("tar").args(["-tf", "out.tar"]).ok();
    assert!(listed.lines().any(|line| line == "dir/file"), "{user:?}: {listed}");
    let id = id.trim();
    for archive in ["oci-archive:oci.tar", "docker-archive:docker.tar"] {
        let config = sandbox.ok("hoy-copy", &["inspect", "--raw", archive]);
        assert!(config.contains(id), "{user:?} {archive}: {config}");
    }
    let about: Value = serde_json::from_str(&fs::read_to_string(sandbox.path("work/about.json")).unwrap()).unwrap();
    assert_eq!(about["containerimage.config.digest"], format!("sha256:{id}"));
    assert_eq!(about["containerimage.digest"], sandbox.ok("hoy-copy", &["digest", "store:app"]));
    assert_eq!(about["image.name"], "localhost/app:latest");
    // Standard output is the archive, and nothing else.
    let script = "hoy-build build -o - c | tar -tf - && hoy-build build -o type=oci,dest=- c > a.tar && hoy-copy digest oci-archive:a.tar";
    let out = sandbox.run("sh").args(["-ec", script]).output();
    assert_eq!(out.status, 0, "{user:?}: {}", out.stderr);
    assert!(out.stdout.starts_with("dir/\ndir/file\nmade\nsha256:"), "{user:?}: {}", out.stdout);
    for (output, said) in [
        ("type=oci", "missing required key \"dest\""),
        ("type=cacheonly", "no type cacheonly"),
        ("type=tar,dest=/dev/null/x.tar", "write the output"),
        ("/dev/null/x", "create"),
    ] {
        sandbox.run("hoy-build").args(["build", "-o", output, "c"]).fails(125, &[said]);
    }
}

#[test]
fn outputs_of_root() {
    outputs(User::Root);
}

#[test]
fn outputs_of_ordinary_users() {
    outputs(User::Sub);
    outputs(User::One);
}

#[test]
fn a_preprocessor_goes_first() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !need(&["cpp"]) {
        return;
    }
    context(&sandbox, "");
    fs::write(sandbox.path("work/c/common"), "LABEL common=yes\n").unwrap();
    let text =
        "#define WHO world\nFROM scratch\n#include \"common\"\n#ifdef EXTRA\nLABEL extra=WHO\n#endif\nCOPY file /\n";
    fs::write(sandbox.path("work/c/Containerfile.in"), text).unwrap();
    let label = |args: &[&str]| {
        sandbox.ok("hoy-build", &[&["build", "-t", "in", "-f", "c/Containerfile.in"], args, &["c"]].concat());
        sandbox.ok("hoy-copy", &["inspect", "--format", "{{json .Labels}}", "store:in"])
    };
    assert_eq!(label(&[]), "{\"common\":\"yes\"}");
    assert_eq!(label(&["--cpp-flag=-DEXTRA"]), "{\"common\":\"yes\",\"extra\":\"world\"}");
    fs::write(sandbox.path("work/c/Bad.in"), "#include \"missing\"\n").unwrap();
    sandbox.run("hoy-build").args(["build", "-f", "c/Bad.in", "c"]).fails(125, &["preprocess \"c/Bad.in\"", "missing"]);
}
