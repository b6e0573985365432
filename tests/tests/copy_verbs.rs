//! hoy-copy's further verbs: looking at one thing, making images from others, artifacts, indexes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use hoy_tests::{Registry, Sandbox, busybox_layout, need};
use serde_json::{Value, json};

const SOURCE: &str = "oci:layout:busybox:latest";

struct Place {
    sandbox: Sandbox,
    registry: Registry,
}

impl Place {
    /// A sandbox with busybox in `work/layout`, and a registry that has it as `app:1`.
    fn new(peers: &[&str]) -> Option<Self> {
        if !need(&["umoci", "busybox", "docker-registry"]) || !need(peers) {
            return None;
        }
        let place = Self { sandbox: Sandbox::new(), registry: Registry::start() };
        busybox_layout(&place.sandbox.path("work/layout"));
        place.ok(&["copy", "-q", "--dest-tls-verify=false", SOURCE, &place.docker("app:1")]);
        Some(place)
    }

    fn docker(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.registry.address())
    }

    fn ok(&self, args: &[&str]) -> String {
        self.sandbox.ok("hoy-copy", args)
    }

    /// A verb on an image at the registry.
    fn at(&self, verb: &[&str], name: &str, more: &[&str]) -> String {
        self.ok(&[verb, &["--tls-verify=false", &self.docker(name)], more].concat())
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    fn config(&self, name: &str) -> Value {
        serde_json::from_str(&self.at(&["config"], name, &[])).unwrap()
    }
}

#[test]
fn one_thing_of_an_image() {
    let Some(place) = Place::new(&["skopeo", "sha256sum"]) else { return };
    let digest = place.at(&["digest"], "app:1", &[]);
    assert_eq!(place.ok(&["digest", SOURCE]), digest);
    // Without a transport a name is one of a registry.
    let bare = format!("{}/app:1", place.registry.address());
    assert_eq!(place.ok(&["digest", "--tls-verify=false", &bare]), digest);
    let theirs = ["inspect", "--raw", "--tls-verify=false", &place.docker("app:1")];
    assert_eq!(place.at(&["manifest"], "app:1", &[]), place.sandbox.ok("skopeo", &theirs));
    let theirs = ["inspect", "--config", "--raw", "--tls-verify=false", &place.docker("app:1")];
    assert_eq!(place.at(&["config"], "app:1", &[]), place.sandbox.ok("skopeo", &theirs));
    let layers = place.at(&["layers"], "app:1", &[]);
    let (layer, size) = layers.split_once(' ').map(|(digest, rest)| (digest, rest.split(' ').next().unwrap())).unwrap();
    let hoy_copy = hoy_tests::program("hoy-copy").display().to_string();
    for from in [
        format!("{} {layer}", SOURCE),
        place.docker(&format!("app@{layer}")),
        format!("{} {layer}", place.docker("app:1")),
    ] {
        let script = format!("{hoy_copy} blob --tls-verify=false {from} >blob; sha256sum <blob; wc -c <blob");
        let out = place.sandbox.ok("sh", &["-c", &script]);
        assert_eq!(out.split_whitespace().collect::<Vec<_>>(), [&layer[7..], "-", size], "{from}");
    }
    let none = format!("sha256:{}", "0".repeat(64));
    place.sandbox.run("hoy-copy").args(["blob", SOURCE, &none]).fails(1, &[&none]);
    place.sandbox.run("hoy-copy").args(["blob", SOURCE]).fails(2, &["which blob"]);
    place.sandbox.run("hoy-copy").args(["digest", "oci:layout:none"]).fails(1, &["none"]);
    assert_eq!(place.ok(&["catalog", "--tls-verify=false", &place.registry.address()]), "app");
    let full = place.ok(&["catalog", "--tls-verify=false", "--full-ref", &place.registry.address()]);
    assert_eq!(full, format!("{}/app", place.registry.address()));
    assert!(place.at(&["validate"], "app:1", &[]).starts_with("PASS"));
    assert!(place.ok(&["validate", "--fast", SOURCE]).starts_with("PASS"));
}

#[test]
fn damage_is_found() {
    let Some(place) = Place::new(&[]) else { return };
    let layer = place.ok(&["layers", SOURCE]).split(' ').next().unwrap().to_owned();
    let path = place.sandbox.path(&format!("work/layout/blobs/sha256/{}", &layer[7..]));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    place.sandbox.run("hoy-copy").args(["validate", SOURCE]).fails(1, &["FAIL", &layer]);
    place.ok(&["validate", "--fast", SOURCE]);
    place.sandbox.run("hoy-copy").args(["export", SOURCE, "out.tar"]).fails(1, &[]);
}

/// Three layers with everything that hides something, as tars.
fn hiding(sandbox: &Sandbox) {
    let script = r#"
        mkdir -p 1/dir/sub 1/opaque 1/gone 1/was-dir 2/dir 2/opaque 3
        echo one >1/file; echo one >1/dir/a; echo one >1/dir/sub/b; echo one >1/opaque/old; echo one >1/gone/x
        echo one >1/was-dir/x; echo linked >1/first; ln 1/first 1/second; ln 1/first 1/third; ln -s file 1/link
        chmod 751 1/dir; chmod 4755 1/dir/a
        echo two >2/file; echo two >2/opaque/new; touch 2/opaque/.wh..wh..opq 2/.wh.gone; echo two >2/was-dir
        echo three >3/file; touch 3/.wh.first 3/dir-not; mkdir 3/dir; touch 3/dir/.wh.sub; echo back >3/first.new
        for n in 1 2 3; do tar --sort=name -C $n -cf $n.tar .; done
    "#;
    sandbox.ok("sh", &["-ec", script]);
}

#[test]
fn an_export_is_what_a_container_sees() {
    let Some(place) = Place::new(&["tar", "diff"]) else { return };
    hiding(&place.sandbox);
    place.ok(&["append", "-f", "1.tar,2.tar", "-f", "3.tar", "-t", "oci:hiding:x"]);
    place.ok(&["validate", "oci:hiding:x"]);
    place.sandbox.ok("umoci", &["unpack", "--image", "hiding:x", "bundle"]);
    let hoy_copy = hoy_tests::program("hoy-copy").display().to_string();
    place
        .sandbox
        .ok("sh", &["-ec", &format!("mkdir flat; {hoy_copy} export oci:hiding:x | tar -xp --numeric-owner -C flat")]);
    place.sandbox.ok("diff", &["-r", "--no-dereference", "bundle/rootfs", "flat"]);
    let list = |dir: &str| {
        place
            .sandbox
            .ok("sh", &["-ec", &format!("cd {dir}; find . -mindepth 1 -printf '%p %y %m %U %G %n %l %T@\\n' | sort")])
    };
    assert_eq!(list("flat"), list("bundle/rootfs"));
    // From a registry the same, and flattened the same again, by umoci's reading.
    place.ok(&["copy", "-q", "--dest-tls-verify=false", "oci:hiding:x", &place.docker("hiding:1")]);
    place.at(&["export"], "hiding:1", &["far.tar"]);
    place.ok(&["export", "oci:hiding:x", "near.tar"]);
    place.sandbox.ok("cmp", &["far.tar", "near.tar"]);
    let before = place.config("hiding:1");
    place.at(&["flatten"], "hiding:1", &["-t", &place.docker("hiding:flat")]);
    place.at(&["validate"], "hiding:flat", &[]);
    assert_eq!(place.at(&["layers"], "hiding:flat", &[]).lines().count(), 1);
    assert_eq!(place.config("hiding:flat")["architecture"], before["architecture"]);
    place.at(&["export"], "hiding:flat", &["again.tar"]);
    place.sandbox.ok("cmp", &["again.tar", "near.tar"]);
    // Files with holes, in both forms that tar writes.
    let script = "mkdir s; echo start >s/sparse; truncate -s 200K s/sparse; echo end >>s/sparse
        tar -C s -S --format=gnu -cf gnu.tar sparse; tar -C s -S --format=posix -cf posix.tar sparse";
    place.sandbox.ok("sh", &["-ec", script]);
    for form in ["gnu", "posix"] {
        place.ok(&["append", "-f", &format!("{form}.tar"), "-t", &format!("oci:{form}:x")]);
        let script = format!(
            "mkdir out-{form}; {hoy_copy} export oci:{form}:x | tar -x -C out-{form}; cmp s/sparse out-{form}/sparse"
        );
        place.sandbox.ok("sh", &["-ec", &script]);
    }
}

#[test]
fn an_image_is_changed_and_keeps_what_is_not() {
    let Some(place) = Place::new(&["skopeo", "tar"]) else { return };
    let before = place.config("app:1");
    let changes = [
        "--label",
        "a=b",
        "--env",
        "X=1",
        "--env",
        "PATH=/bin",
        "--entrypoint",
        "/bin/sh,-c",
        "--cmd",
        "true",
        "--user",
        "app",
        "--workdir",
        "/tmp",
        "--exposed-ports",
        "80,53/udp",
        "--annotation",
        "note=this",
        "--time",
        "2020-01-01T00:00:00Z",
        "--set-platform",
        "linux/arm64/v8",
        "-t",
        &place.docker("app:2"),
    ];
    let digest = place.at(&["mutate"], "app:1", &changes);
    assert_eq!(place.at(&["mutate"], "app:1", &changes), digest, "the same change makes the same image");
    let theirs = [
        "inspect",
        "--tls-verify=false",
        "--override-arch",
        "arm64",
        "--format",
        "{{.Digest}}",
        &place.docker("app:2"),
    ];
    assert_eq!(place.sandbox.ok("skopeo", &theirs), digest);
    let after = place.config("app:2");
    let config = &after["config"];
    assert_eq!((&config["Labels"], &config["User"]), (&json!({"a": "b"}), &json!("app")));
    assert_eq!(config["Env"], json!(["PATH=/bin", "X=1"]));
    assert_eq!((&config["Entrypoint"], &config["Cmd"]), (&json!(["/bin/sh", "-c"]), &json!(["true"])));
    assert_eq!(config["ExposedPorts"], json!({"53/udp": {}, "80/tcp": {}}));
    assert_eq!((&after["architecture"], &after["variant"]), (&json!("arm64"), &json!("v8")));
    assert_eq!((&after["created"], &after["rootfs"]), (&json!("2020-01-01T00:00:00Z"), &before["rootfs"]));
    let manifest: Value = serde_json::from_str(&place.at(&["manifest"], "app:2", &[])).unwrap();
    assert_eq!(manifest["annotations"]["note"], "this");
    // Without a new name it goes to the repository by its digest, and the tag stays.
    let nameless = place.at(&["mutate"], "app:1", &["--user", "root"]);
    assert_eq!(place.at(&["digest"], &format!("app@{nameless}"), &[]), nameless);
    assert_eq!(place.config("app:1"), before);
    place.sandbox.run("hoy-copy").args(["mutate", SOURCE, "--user", "x"]).fails(2, &["--tag"]);
    place.sandbox.run("hoy-copy").args(["mutate", SOURCE, "-t", "oci:o:x", "--label", "x"]).fails(2, &["NAME=VALUE"]);
    place.sandbox.run("hoy-copy").args(["mutate", SOURCE, "-t", "oci:o:x", "--time", "now"]).fails(2, &["now"]);
}

#[test]
fn an_image_moves_to_another_base() {
    let Some(place) = Place::new(&["tar"]) else { return };
    hiding(&place.sandbox);
    place.ok(&["append", "-f", "1.tar", "-t", "oci:bases:old"]);
    place.ok(&["append", "-f", "2.tar,3.tar", "-t", "oci:bases:new"]);
    let hoy_copy = hoy_tests::program("hoy-copy").display().to_string();
    let script = format!("tar -C 3 -cf - ./file | {hoy_copy} append -b oci:bases:old -f - -t oci:bases:app");
    place.sandbox.ok("sh", &["-ec", &script]);
    let args = ["--old-base", "oci:bases:old", "--new-base", "oci:bases:new", "-t", "oci:bases:moved"];
    place.ok(&[&["rebase", "oci:bases:app"], &args[..]].concat());
    place.ok(&["validate", "oci:bases:moved"]);
    let diff_ids = |name: &str| place.json(&["config", name])["rootfs"]["diff_ids"].as_array().unwrap().clone();
    let (app, new) = (diff_ids("oci:bases:app"), diff_ids("oci:bases:new"));
    assert_eq!(diff_ids("oci:bases:moved"), [&new[..], &app[1..]].concat());
    let wrong = ["--old_base", "oci:bases:new", "--new_base", "oci:bases:old", "-t", "oci:bases:no"];
    place.sandbox.run("hoy-copy").args(["rebase", "oci:bases:app"]).args(wrong).fails(1, &["does not stand"]);
}

#[test]
fn files_are_attached_found_and_fetched() {
    let Some(place) = Place::new(&[]) else { return };
    std::fs::write(place.sandbox.path("work/list.json"), "{\"packages\":[]}").unwrap();
    let args = ["list.json:application/json", "--artifact-type", "text/sbom", "--annotation", "by=me"];
    let list = place.at(&["attach"], "app:1", &args);
    let signature = place.at(&["attach"], &format!("app@{list}"), &["--artifact-type", "text/signature"]);
    let index: Value = serde_json::from_str(&place.at(&["referrers"], "app:1", &[])).unwrap();
    assert_eq!(
        (&index["manifests"][0]["digest"], &index["manifests"][0]["artifactType"]),
        (&json!(list), &json!("text/sbom"))
    );
    assert_eq!(index["manifests"][0]["annotations"], json!({"by": "me"}));
    let tree = place.at(&["discover"], "app:1", &[]);
    let digest = place.at(&["digest"], "app:1", &[]);
    assert_eq!(tree, format!("{digest}\n  {list} text/sbom\n    {signature} text/signature"));
    let other: Value = serde_json::from_str(&place.at(&["referrers"], "app:1", &["--artifact-type", "x"])).unwrap();
    assert_eq!(other["manifests"], json!([]));
    let pulled = place.at(&["pull"], &format!("app@{list}"), &["-o", "out"]);
    assert_eq!(pulled, "out/list.json");
    assert_eq!(std::fs::read_to_string(place.sandbox.path("work/out/list.json")).unwrap(), "{\"packages\":[]}");
    let again = ["pull", "--tls-verify=false", "-k", "-o", "out", &place.docker(&format!("app@{list}"))];
    place.sandbox.run("hoy-copy").args(again).fails(1, &["exists"]);
    place.at(&["validate"], &format!("app@{list}"), &[]);
    // In a layout the same.
    let said = ["--annotation", "by=me", "--annotation", "org.opencontainers.image.ref.name=1"];
    let args = [&["attach", SOURCE, "list.json", "--artifact-type", "text/sbom"], &said[..]].concat();
    let list = place.ok(&args);
    assert!(place.ok(&["discover", SOURCE]).contains(&list));
    let (found, root) = (place.json(&["referrers", SOURCE]), place.ok(&["digest", SOURCE]));
    assert_eq!(found["manifests"][0]["annotations"], json!({"by": "me"}), "and it takes no name from another");
    assert_ne!(root, list);
    place.sandbox.run("hoy-copy").args(["attach", SOURCE, "none", "--artifact-type", "x"]).fails(1, &["none"]);
    place.sandbox.run("hoy-copy").args(["pull", SOURCE]).fails(1, &["no files"]);
}

#[test]
fn indexes_are_made_and_changed() {
    let Some(place) = Place::new(&["skopeo"]) else { return };
    for (tag, platform) in [("amd", "linux/amd64"), ("arm", "linux/arm64"), ("s390", "linux/s390x")] {
        place.at(&["mutate"], "app:1", &["--set-platform", platform, "-t", &place.docker(&format!("app:{tag}"))]);
    }
    let image = |tag: &str| place.docker(&format!("app:{tag}"));
    let create = [&image("multi"), &image("amd"), &image("arm")];
    let made = place.ok(&["index", "create", "--tls-verify=false", create[0], create[1], create[2]]);
    let theirs = ["inspect", "--tls-verify=false", "--override-arch", "arm64", "--format", "{{.Digest}}", create[0]];
    assert_eq!(place.sandbox.ok("skopeo", &theirs), made);
    let list = |tag: &str| -> Vec<String> {
        let out = place.at(&["index", "list"], &format!("app:{tag}"), &[]);
        out.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!(list("multi"), ["linux/amd64", "linux/arm64"]);
    place.at(&["index", "add"], "app:multi", &["-m", &image("s390")]);
    assert_eq!(list("multi"), ["linux/amd64", "linux/arm64", "linux/s390x"]);
    place.at(&["index", "filter"], "app:multi", &["--platform", "linux/arm64,linux/s390x", "-t", &image("few")]);
    assert_eq!(list("few"), ["linux/arm64", "linux/s390x"]);
    let arm = place.at(&["digest"], "app:arm", &[]);
    place.at(&["index", "remove"], "app:few", &["--digest", &arm]);
    assert_eq!(list("few"), ["linux/s390x"]);
    let run = |args: &[&str], word: &str| {
        place.sandbox.run("hoy-copy").args(args).fails(1, &[word]);
    };
    run(
        &["index", "remove", "--tls-verify=false", &image("few"), "--platform", "linux/s390x"],
        "nothing would be left",
    );
    run(&["index", "remove", "--tls-verify=false", &image("few"), "--platform", "linux/mips"], "nothing to take out");
    run(&["index", "list", "--tls-verify=false", &image("arm")], "no index");
    // An index of images of another place brings them along.
    place.ok(&["index", "create", "--tls-verify=false", "oci:new:x", &image("arm"), SOURCE]);
    place.ok(&["validate", "oci:new:x"]);
}

#[test]
fn skopeo_is_replaced_by_a_link() {
    let Some(place) = Place::new(&["skopeo"]) else { return };
    let link = place.sandbox.path("work/skopeo");
    std::os::unix::fs::symlink(hoy_tests::program("hoy-copy"), &link).unwrap();
    let script = |program: &str| {
        format!(
            "set -e; {program} --insecure-policy copy -q --dest-tls-verify=false --src-tls-verify=false {0} dir:d-{1} >/dev/null
             {program} inspect --tls-verify=false --format '{{{{.Name}}}} {{{{.Digest}}}}' {0}
             {program} list-tags --tls-verify=false {2}; {program} manifest-digest d-{1}/manifest.json
             {program} inspect --raw dir:d-{1}",
            place.docker("app:1"),
            program.len(),
            place.docker("app"),
        )
    };
    let ours = place.sandbox.ok("sh", &["-c", &script("./skopeo")]);
    assert_eq!(ours, place.sandbox.ok("sh", &["-c", &script("skopeo")]));
}

#[test]
fn a_file_is_fetched() {
    let sandbox = hoy_tests::Sandbox::new();
    std::fs::create_dir(sandbox.path("work/site")).unwrap();
    std::fs::write(sandbox.path("work/site/a"), "content\n").unwrap();
    let web = hoy_tests::Web::files(sandbox.path("work/site"));
    let url = format!("{}/a", web.address);
    let facts: Value = serde_json::from_str(&sandbox.ok("hoy-copy", &["fetch", &url, "here"])).unwrap();
    assert_eq!((&facts["size"], &facts["modified"]), (&8.into(), &1_234_567_890.into()));
    let digest = facts["digest"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(sandbox.path("work/here")).unwrap(), "content\n");
    assert_eq!(sandbox.ok("hoy-copy", &["fetch", "--checksum", digest, &url, "-"]), "content");
    let told = sandbox.run("hoy-copy").args(["fetch", "-", "told"]).stdin(format!("{url}\n")).output();
    assert_eq!(told.status, 0, "{}", told.stderr);
    // Whole or not at all; a link at its place is replaced and not followed.
    std::os::unix::fs::symlink("here", sandbox.path("work/link")).unwrap();
    sandbox.ok("hoy-copy", &["fetch", &url, "link"]);
    assert!(sandbox.path("work/link").symlink_metadata().unwrap().is_file());
    for (args, said) in [
        (
            &["--checksum", "sha256:0000000000000000000000000000000000000000000000000000000000000000"][..],
            "its digest is",
        ),
        (&["--max-size", "7"], "longer than 7 bytes"),
    ] {
        sandbox.run("hoy-copy").arg("fetch").args(args).args([&url, "none"]).fails(1, &[said]);
    }
    sandbox.run("hoy-copy").args(["fetch", &format!("{url}x"), "none"]).fails(1, &["404", "no such file"]);
    sandbox.run("hoy-copy").args(["fetch", "ftp://127.0.0.1/x", "none"]).fails(1, &["no http or https"]);
    sandbox.run("hoy-copy").args(["fetch", "--max-size", "0", &url, "none"]).fails(2, &["want bytes"]);
    let mut left: Vec<_> = std::fs::read_dir(sandbox.path("work")).unwrap().flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["here", "link", "site", "told"]);
}
