//! hoy-copy's transports in their details, held against skopeo, podman and umoci.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use hoy_tests::{Registry, Run, Sandbox, busybox_layout, need};
use serde_json::{Value, json};

fn sandbox(peers: &[&str]) -> Option<Sandbox> {
    if !need(&["umoci", "busybox"]) || !need(peers) {
        return None;
    }
    let sandbox = Sandbox::new();
    busybox_layout(&sandbox.path("work/layout"));
    Some(sandbox)
}

const SOURCE: &str = "oci:layout:busybox:latest";
const INSECURE: [&str; 3] = ["-q", "--src-tls-verify=false", "--dest-tls-verify=false"];

fn copy(sandbox: &Sandbox, args: &[&str], from: &str, to: &str) -> String {
    sandbox.run("hoy-copy").args(INSECURE).args(args).args([from, to]).ok()
}

fn digest(sandbox: &Sandbox, program: &str, name: &str) -> String {
    sandbox.ok(program, &["inspect", "--tls-verify=false", "--no-tags", "--format", "{{.Digest}}", name])
}

#[test]
fn a_directory_is_skopeos_byte_for_byte() {
    let Some(sandbox) = sandbox(&["skopeo", "diff"]) else { return };
    let skopeo = ["--insecure-policy", "copy", "-q", SOURCE, "dir:theirs"];
    sandbox.ok("skopeo", &skopeo);
    copy(&sandbox, &[], SOURCE, "dir:ours");
    sandbox.ok("diff", &["-r", "theirs", "ours"]);
    // Another image in the same place leaves nothing of the first.
    sandbox.ok("umoci", &["new", "--image", "layout:empty"]);
    sandbox.ok("skopeo", &["--insecure-policy", "copy", "-q", "oci:layout:empty", "dir:theirs"]);
    copy(&sandbox, &[], "oci:layout:empty", "dir:ours");
    sandbox.ok("diff", &["-r", "theirs", "ours"]);
    std::fs::create_dir(sandbox.path("work/full")).unwrap();
    std::fs::write(sandbox.path("work/full/mine"), "").unwrap();
    sandbox.run("hoy-copy").args(["-q", SOURCE, "dir:full"]).fails(1, &["other things in it"]);
}

#[test]
fn an_image_is_picked_by_its_place() {
    let Some(sandbox) = sandbox(&[]) else { return };
    sandbox.ok("umoci", &["config", "--image", "layout:busybox:latest", "--tag", "two", "--config.user", "app"]);
    let two = digest(&sandbox, "hoy-copy", "oci:layout:two");
    let of = |at: usize| digest(&sandbox, "hoy-copy", &format!("oci:layout:@{at}"));
    assert!([of(0), of(1)].contains(&two) && of(0) != of(1));
    sandbox.run("hoy-copy").args(["inspect", "oci:layout:@2"]).fails(1, &["@2"]);
    sandbox.run("hoy-copy").args(["-q", SOURCE, "oci:new:@0"]).fails(2, &["name"]);
    sandbox.run("hoy-copy").args(["inspect", "oci:layout"]).fails(1, &["2 images"]);
    // Without a name: the layout's only image needs none.
    let written = copy(&sandbox, &[], "oci:layout:two", "oci:nameless");
    assert_eq!(digest(&sandbox, "hoy-copy", "oci:nameless"), written);
    copy(&sandbox, &[], "oci:layout:two", "oci-archive:one.tar");
    assert_eq!(digest(&sandbox, "hoy-copy", "oci-archive:one.tar:@0"), written);
    sandbox.run("hoy-copy").args(["inspect", "oci-archive:one.tar:@1"]).fails(1, &["number 1"]);
}

#[test]
fn blobs_are_shared_between_layouts() {
    let Some(sandbox) = sandbox(&["skopeo"]) else { return };
    let wrote = copy(&sandbox, &["--dest-shared-blob-dir", "shared"], SOURCE, "oci:thin:x");
    let count = |name: &str| std::fs::read_dir(sandbox.path(name)).unwrap().count();
    assert_eq!((count("work/shared/sha256"), count("work/thin/blobs")), (3, 0), "manifest, configuration, layer");
    let back = ["--insecure-policy", "copy", "-q", "--src-shared-blob-dir", "shared", "oci:thin:x", "dir:theirs"];
    sandbox.ok("skopeo", &back);
    copy(&sandbox, &["--src-shared-blob-dir", "shared"], "oci:thin:x", "oci:fat:x");
    assert_eq!(digest(&sandbox, "hoy-copy", "oci:fat:x"), wrote);
    sandbox.run("hoy-copy").args(["-q", "oci:thin:x", "oci:none:x"]).fails(1, &["missing"]);
    let theirs = ["--insecure-policy", "copy", "-q", "--dest-shared-blob-dir", "pool", SOURCE, "oci:skopeos:x"];
    sandbox.ok("skopeo", &theirs);
    assert_eq!(copy(&sandbox, &["--src-shared-blob-dir", "pool"], "oci:skopeos:x", "oci:fat:y"), wrote);
}

#[test]
fn tars_become_an_image() {
    let Some(sandbox) = sandbox(&["skopeo", "tar", "gzip"]) else { return };
    sandbox
        .ok("sh", &["-c", "mkdir -p a b; echo one >a/x; echo two >b/y; tar -C a -cf a.tar .; tar -C b -czf b.tgz ."]);
    let first = copy(&sandbox, &[], "tarball:a.tar:b.tgz", "oci:made:x");
    assert_eq!(digest(&sandbox, "skopeo", "oci:made:x"), first);
    sandbox.ok("umoci", &["unpack", "--rootless", "--image", "made:x", "bundle"]);
    for (name, want) in [("x", "one\n"), ("y", "two\n")] {
        assert_eq!(std::fs::read_to_string(sandbox.path("work/bundle/rootfs").join(name)).unwrap(), want);
    }
    let script = format!("cat a.tar | {} -q tarball:- dir:piped", hoy_tests::program("hoy-copy").display());
    sandbox.ok("sh", &["-c", &script]);
    assert_eq!(copy(&sandbox, &[], "tarball:a.tar:b.tgz", "oci:made:again"), first, "the same tars, the same image");
    let config = sandbox.ok("hoy-copy", &["--override-arch", "s390x", "inspect", "--config", "tarball:a.tar"]);
    assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["architecture"], "s390x");
    sandbox.run("hoy-copy").args(["-q", SOURCE, "tarball:x.tar"]).fails(2, &["reading"]);
    sandbox.run("hoy-copy").args(["-q", "tarball:none.tar", "dir:x"]).fails(1, &["none.tar"]);
}

#[test]
fn an_archive_of_several_images() {
    let Some(sandbox) = sandbox(&["skopeo", "podman"]) else { return };
    let root = sandbox.path("work/podman").display().to_string();
    let podman = |args: &[&str]| {
        let fixed = ["--root", &root, "--runroot", &root, "--storage-driver", "vfs"];
        sandbox.run("podman").args(fixed).args(args).ok()
    };
    copy(&sandbox, &[], SOURCE, "docker-archive:one.tar:localhost/one:1");
    copy(&sandbox, &[], SOURCE, "oci-archive:two.tar:localhost/two:1");
    sandbox.ok("umoci", &["config", "--image", "layout:busybox:latest", "--tag", "b", "--config.user", "app"]);
    copy(&sandbox, &["--additional-tag", "localhost/other:9"], "oci:layout:b", "docker-archive:b.tar:localhost/b:1");
    podman(&["load", "-q", "-i", "one.tar"]);
    podman(&["load", "-q", "-i", "b.tar"]);
    podman(&["save", "-q", "-m", "-o", "both.tar", "localhost/one:1", "localhost/b:1"]);
    let user = |name: &str| {
        let text = sandbox.ok("hoy-copy", &["inspect", "--config", name]);
        serde_json::from_str::<Value>(&text).unwrap()["config"]["User"].as_str().unwrap_or_default().to_owned()
    };
    let (zero, one) = (user("docker-archive:both.tar:@0"), user("docker-archive:both.tar:@1"));
    assert_eq!([zero.as_str(), one.as_str()].iter().filter(|user| **user == "app").count(), 1);
    assert_eq!(user("docker-archive:both.tar:localhost/b:1"), "app");
    assert_eq!(user("docker-archive:b.tar:localhost/other:9"), "app");
    let tags = sandbox.ok("hoy-copy", &["list-tags", "docker-archive:both.tar"]);
    assert_eq!(tags, sandbox.ok("skopeo", &["list-tags", "docker-archive:both.tar"]));
    sandbox.run("hoy-copy").args(["inspect", "docker-archive:both.tar"]).fails(1, &["images"]);
}

/// What podman and buildah send to a registry, in either format, goes into the store and back unchanged.
#[test]
fn images_that_podman_and_buildah_send() {
    let Some(sandbox) = sandbox(&["skopeo", "podman", "buildah", "docker-registry"]) else { return };
    let (registry, root) = (Registry::start(), sandbox.path("work/theirs").display().to_string());
    let theirs = |program: &str, args: &[&str]| {
        let fixed = ["--root", &root, "--runroot", &format!("{root}-run"), "--storage-driver", "vfs"];
        sandbox.run(program).args(fixed).args(args).ok()
    };
    for (program, format) in [("podman", "oci"), ("podman", "v2s2"), ("buildah", "oci"), ("buildah", "v2s2")] {
        let id = theirs(program, &["pull", "-q", SOURCE]);
        let place = |name: &str| format!("docker://{}/{program}-{format}:{name}", registry.address());
        theirs(program, &["push", "-q", "--tls-verify=false", "--format", format, &id, &place("sent")]);
        let sent = digest(&sandbox, "skopeo", &place("sent"));
        assert_eq!(copy(&sandbox, &[], &place("sent"), "store:sent"), sent);
        assert_eq!(copy(&sandbox, &[], "store:sent", &place("back")), sent);
        assert_eq!(digest(&sandbox, "skopeo", &place("back")), sent, "{program} {format}");
        assert_eq!(sandbox.ok("hoy", &["run", "--rm", "sent", "echo", "runs"]), "runs");
        theirs(program, &["pull", "-q", "--tls-verify=false", &place("back")]);
    }
}

#[test]
fn images_are_added_to_an_archive() {
    let Some(sandbox) = sandbox(&["skopeo", "podman", "tar", "gzip"]) else { return };
    sandbox.ok("umoci", &["config", "--image", "layout:busybox:latest", "--tag", "b", "--config.user", "app"]);
    let config = |name: &str| sandbox.run("hoy-copy").args(["inspect", "--config", "--raw", name]).output();
    let (one, two) = (config(SOURCE).stdout, config("oci:layout:b").stdout);
    copy(&sandbox, &[], SOURCE, "docker-archive:all.tar:localhost/a:1");
    copy(&sandbox, &[], "oci:layout:b", "docker-archive:all.tar:localhost/b:1");
    // Another name for an image that is there, and a name that passes to another image.
    copy(&sandbox, &[], SOURCE, "docker-archive:all.tar:localhost/c:1");
    let names = |archive: &str| sandbox.ok("skopeo", &["list-tags", &format!("docker-archive:{archive}")]);
    assert_eq!(sandbox.ok("hoy-copy", &["list-tags", "docker-archive:all.tar"]), names("all.tar"));
    assert!(["a:1", "b:1", "c:1"].iter().all(|name| names("all.tar").contains(name)), "{}", names("all.tar"));
    sandbox.run("hoy-copy").args(["inspect", "docker-archive:all.tar:@2"]).fails(1, &["number 2"]);
    for (name, want) in [("a", &one), ("b", &two), ("c", &one)] {
        assert_eq!(config(&format!("docker-archive:all.tar:localhost/{name}:1")).stdout, *want, "{name}");
    }
    copy(&sandbox, &[], "oci:layout:b", "docker-archive:all.tar:localhost/a:1");
    assert_eq!(config("docker-archive:all.tar:localhost/a:1").stdout, two);
    // The layer that both share is there once, and podman loads all of it.
    let members = sandbox.ok("tar", &["tf", "all.tar"]);
    assert_eq!(members.lines().count(), 4, "a layer, two configurations and the list: {members}");
    let root = sandbox.path("work/podman").display().to_string();
    let loaded = ["--root", &root, "--runroot", &root, "--storage-driver", "vfs", "load", "-q", "-i", "all.tar"];
    let loaded = sandbox.ok("podman", &loaded);
    assert!(["a:1", "b:1", "c:1"].iter().all(|name| loaded.contains(&format!("localhost/{name}"))), "{loaded}");
    // What cannot be added to stays as it is.
    let add =
        |archive: &str| sandbox.run("hoy-copy").args([SOURCE, &format!("docker-archive:{archive}:localhost/d:1")]);
    sandbox.ok("gzip", &["-k", "all.tar"]);
    add("all.tar.gz").fails(1, &["compressed"]);
    copy(&sandbox, &[], SOURCE, "oci-archive:oci.tar:x");
    add("oci.tar").fails(1, &["oci-archive"]);
    std::fs::write(sandbox.path("work/text"), vec![b'x'; 2048]).unwrap();
    add("text").fails(1, &["text"]);
    // Nor is a layer that is not what its name says carried over, to pass for one of the new image.
    let mut damaged = std::fs::read(sandbox.path("work/all.tar")).unwrap();
    damaged[512 + 1000] ^= 1;
    std::fs::write(sandbox.path("work/bad.tar"), &damaged).unwrap();
    add("bad.tar").fails(1, &["bad.tar", "damaged"]);
    assert!(std::fs::read(sandbox.path("work/bad.tar")).unwrap() == damaged);
    let left = std::fs::read_dir(sandbox.path("work")).unwrap().flatten();
    assert!(!left.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().contains("archive-")));
}

#[test]
fn a_daemon_gives_and_takes_images() {
    let Some(sandbox) = sandbox(&["podman"]) else { return };
    let socket = sandbox.path("work/api.sock");
    let host = format!("unix://{}", socket.display());
    let missing = ["-q", SOURCE, "docker-daemon:localhost/app:1", "--dest-daemon-host", &host];
    sandbox.run("hoy-copy").args(missing).fails(1, &["daemon", "connect"]);
    let root = sandbox.path("work/podman").display().to_string();
    let fixed =
        ["--root", &root, "--runroot", &root, "--storage-driver", "vfs", "system", "service", "--time=0", &host];
    let mut service = sandbox.run("podman").args(fixed).spawn();
    let start = std::time::Instant::now();
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(start.elapsed() < std::time::Duration::from_secs(120), "podman's service does not answer");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        sandbox.run("hoy-copy").args(missing).ok();
        let from =
            |name: &str| sandbox.run("hoy-copy").env("DOCKER_HOST", &host).args(["inspect", "--config", name]).ok();
        assert_eq!(from("docker-daemon:localhost/app:1"), sandbox.ok("hoy-copy", &["inspect", "--config", SOURCE]));
        // hoy-build has it from there, and gives it back under another name.
        let build = |args: &[&str]| sandbox.run("hoy-build").env("DOCKER_HOST", &host).args(args).ok();
        build(&["pull", "-q", "docker-daemon:localhost/app:1"]);
        build(&["push", "-q", "localhost/app:1", "docker-daemon:localhost/back:1"]);
        assert_eq!(from("docker-daemon:localhost/back:1"), from("docker-daemon:localhost/app:1"));
        let none = ["inspect", "--daemon-host", &host, "docker-daemon:localhost/none:1"];
        sandbox.run("hoy-copy").args(none).fails(1, &["404"]);
    }));
    service.kill().unwrap();
    service.wait().unwrap();
    work.unwrap();
    sandbox.run("hoy-copy").args(["-q", SOURCE, "docker-daemon:app"]).fails(2, &["tag"]);
}

/// An image for two platforms at `name`, made of the layout's image.
fn multi(sandbox: &Sandbox, name: &str) -> (String, Value) {
    sandbox.ok("umoci", &["config", "--image", "layout:busybox:latest", "--tag", "arm", "--architecture", "arm64"]);
    let mut members = Vec::new();
    for (tag, arch) in [("busybox:latest", "amd64"), ("arm", "arm64")] {
        let source = format!("oci:layout:{tag}");
        let digest = copy(sandbox, &[], &source, "dir:index");
        let path = sandbox.path("work/index");
        let size = std::fs::metadata(path.join("manifest.json")).unwrap().len();
        std::fs::copy(path.join("manifest.json"), sandbox.path(&format!("work/{arch}.json"))).unwrap();
        sandbox.ok(
            "sh",
            &["-c", &format!("mkdir -p all; cp index/* all; mv all/manifest.json all/{}.manifest.json", &digest[7..])],
        );
        members.push(json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": arch}}));
    }
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": members});
    std::fs::write(sandbox.path("work/all/manifest.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    (copy(sandbox, &["--all"], "dir:all", name), index)
}

#[test]
fn chosen_platforms_make_a_sparse_index() {
    let Some(sandbox) = sandbox(&["skopeo"]) else { return };
    let (whole, index) = multi(&sandbox, "oci:multi:x");
    let arm = index["manifests"][1]["digest"].as_str().unwrap();
    let sparse = copy(&sandbox, &["--multi-arch", "linux/arm64"], "oci:multi:x", "dir:sparse");
    assert_eq!(sparse, whole, "the index stays as it is");
    let has = |dir: &str, digest: &Value| {
        sandbox.path(&format!("work/{dir}/{}.manifest.json", &digest.as_str().unwrap()[7..])).exists()
    };
    assert!(has("sparse", &index["manifests"][1]["digest"]) && !has("sparse", &index["manifests"][0]["digest"]));
    let args = ["--multi-arch", "linux/arm64", "--strip-removed-platforms"];
    assert_ne!(copy(&sandbox, &args, "oci:multi:x", "oci:stripped:x"), whole);
    let raw: Value = serde_json::from_str(&sandbox.ok("hoy-copy", &["inspect", "--raw", "oci:stripped:x"])).unwrap();
    assert_eq!(raw["manifests"], json!([index["manifests"][1]]));
    let chosen = ["--override-arch", "arm64"];
    assert_eq!(copy(&sandbox, &chosen, "dir:sparse", "oci:one:x"), arm);
    let refused = |args: &[&str], code: i32, word: &str| {
        sandbox.run("hoy-copy").args(args).args(["oci:multi:x", "dir:never"]).fails(code, &[word]);
    };
    refused(&["--multi-arch", "linux/mips"], 1, "architecture mips");
    refused(&["--multi-arch", "some"], 2, "none of system");
    refused(&["--multi-arch", "all", "--strip-removed-platforms"], 2, "lists platforms");
    refused(
        &["--preserve-digests", "--multi-arch", "linux/arm64", "--strip-removed-platforms"],
        1,
        "--preserve-digests",
    );
}

/// Puts an artifact that refers to `subject` (digest and size) into the layout `work/multi`; returns its digest.
fn attach(sandbox: &Sandbox, subject: &str, size: u64) -> String {
    let blobs = sandbox.path("work/multi/blobs/sha256");
    let put = |bytes: &[u8]| {
        let file = sandbox.path("work/blob");
        std::fs::write(&file, bytes).unwrap();
        let hex = Run::new("sha256sum").arg(&file).ok().split(' ').next().unwrap().to_owned();
        std::fs::rename(&file, blobs.join(&hex)).unwrap();
        (format!("sha256:{hex}"), bytes.len())
    };
    let (empty, _) = put(b"{}");
    let (file, length) = put(b"what is in it\n");
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "text/plain",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [{"mediaType": "text/plain", "digest": file, "size": length}],
        "subject": {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": subject, "size": size}});
    let (digest, length) = put(&serde_json::to_vec(&manifest).unwrap());
    let path = sandbox.path("work/multi/index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": length});
    index["manifests"].as_array_mut().unwrap().push(entry);
    std::fs::write(&path, serde_json::to_vec(&index).unwrap()).unwrap();
    digest
}

#[test]
fn referrers_travel_along_when_asked_for() {
    let Some(sandbox) = sandbox(&["docker-registry"]) else { return };
    let registry = Registry::start();
    let (whole, index) = multi(&sandbox, "oci:multi:x");
    let length = serde_json::to_vec(&index).unwrap().len() as u64;
    let referrer = attach(&sandbox, &whole, length);
    let second = attach(&sandbox, &referrer, 1);
    let docker = |name: &str| format!("docker://{}/{name}", registry.address());
    let has = |name: &str| {
        sandbox.run("hoy-copy").args(["inspect", "--raw", "--tls-verify=false", name]).output().status == 0
    };
    copy(&sandbox, &["--all"], "oci:multi:x", &docker("plain:1"));
    assert!(!has(&docker(&format!("plain@{referrer}"))), "not asked for");
    // Debian's registry has no referrers API: the tag stands in, and is found again.
    assert_eq!(copy(&sandbox, &["--all", "--with-referrers"], "oci:multi:x", &docker("full:1")), whole);
    for (at, target) in
        [docker("again:1"), "oci:back:x".to_owned(), "oci-archive:back.tar".to_owned()].iter().enumerate()
    {
        assert_eq!(copy(&sandbox, &["--all", "--with-referrers"], &docker("full:1"), target), whole);
        for digest in [&referrer, &second] {
            let found = match at {
                0 => has(&docker(&format!("again@{digest}"))),
                1 => sandbox.path(&format!("work/back/blobs/sha256/{}", &digest[7..])).exists(),
                _ => sandbox.ok("tar", &["-tf", "back.tar"]).contains(&digest[7..]),
            };
            assert!(found, "{digest} in {target}");
        }
    }
    assert_eq!(copy(&sandbox, &["--all", "--with-referrers"], "oci-archive:back.tar:@0", &docker("third:1")), whole);
    assert!(has(&docker(&format!("third@{second}"))));
    let changed = ["-q", "--all", "--with-referrers", "--format", "v2s2", "oci:multi:x", "dir:never"];
    sandbox.run("hoy-copy").args(changed).fails(1, &["--with-referrers"]);
}

#[test]
fn compression_has_levels_and_digests_can_be_known_before() {
    let Some(sandbox) = sandbox(&["docker-registry"]) else { return };
    let registry = Registry::start();
    let size = |name: &str| {
        let text = sandbox.ok("hoy-copy", &["inspect", "--raw", "--tls-verify=false", name]);
        serde_json::from_str::<Value>(&text).unwrap()["layers"][0]["size"].as_u64().unwrap()
    };
    copy(&sandbox, &["--dest-decompress"], SOURCE, "oci:l:plain");
    for (kind, low, high) in [("gzip", "1", "9"), ("zstd", "1", "19")] {
        for level in [low, high] {
            let args = ["--dest-compress-format", kind, "--dest-compress-level", level];
            copy(&sandbox, &args, "oci:l:plain", &format!("oci:l:{kind}{level}"));
        }
        assert!(size(&format!("oci:l:{kind}{low}")) > size(&format!("oci:l:{kind}{high}")), "{kind}");
    }
    let image = format!("docker://{}/a:1", registry.address());
    let push = || {
        let args = ["--debug", "--dest-tls-verify=false", "--dest-compress", "--dest-precompute-digests"];
        let out = sandbox.run("hoy-copy").args(args).args(["oci:l:plain", &image]).output();
        assert_eq!(out.status, 0, "{}", out.stderr);
        out.stderr.lines().filter(|line| line.contains("POST")).count()
    };
    assert_eq!((push(), push()), (2, 0), "what is there is not sent again");
    copy(&sandbox, &["--additional-tag", "2,3"], &image, &image);
    let tags = sandbox.ok("hoy-copy", &["list-tags", "--tls-verify=false", image.strip_suffix(":1").unwrap()]);
    let tags = serde_json::from_str::<Value>(&tags).unwrap()["Tags"].as_array().unwrap().len();
    assert_eq!(tags, 3);
    let refused = |args: &[&str], code, word| sandbox.run("hoy-copy").args(args).fails(code, &[word]);
    refused(&["--sign-by-sigstore=x", "--sign-identity=r.x/a:1", SOURCE, "dir:never"], 1, "\"x\"");
    refused(&["--tls-details=x", SOURCE, "dir:never"], 2, "--tls-details");
    refused(&["delete", "--daemon-host=x", SOURCE], 2, "--daemon-host");
    refused(&["delete", "--shared-blob-dir=x", "dir:x"], 2, "--shared-blob-dir");
}

#[test]
fn a_trust_policy_decides() {
    let Some(sandbox) = sandbox(&[]) else { return };
    let policy = |text: &str| std::fs::write(sandbox.path("work/policy.json"), text).unwrap();
    let run = || sandbox.run("hoy-copy").args(["-q", "--policy", "policy.json", SOURCE, "dir:out"]);
    policy(r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    run().ok();
    policy(r#"{"default":[{"type":"reject"}]}"#);
    run().fails(1, &["policy.json", "is rejected by policy"]);
    policy(
        r#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"oci":{"":[{"type":"signedBy","keyType":"GPGKeys","keyData":""}]}}}"#,
    );
    run().fails(1, &["asks for a signature"]);
    policy(r#"{"default":[{"type":"insecureAcceptAnything"}],"unknown":1}"#);
    run().fails(1, &["unknown field"]);
    // Nobody can be fooled by a file that is not there.
    std::fs::remove_file(sandbox.path("work/policy.json")).unwrap();
    run().fails(1, &["policy.json"]);
    sandbox.run("hoy-copy").args(["-q", "--insecure-policy", SOURCE, "dir:out"]).ok();
}

#[test]
fn a_program_is_told_how_far_a_copy_is() {
    let Some(sandbox) = sandbox(&[]) else { return };
    let shell = |script: &str| {
        Run::new("sh").dir(sandbox.path("work")).args(["-c", script]).arg(hoy_tests::program("hoy-copy"))
    };
    let raw = sandbox.ok("hoy-copy", &["inspect", "--raw", SOURCE]);
    let manifest: Value = serde_json::from_str(&raw).unwrap();
    let out = shell("exec \"$0\" --progress json:7 oci:layout:busybox:latest oci:told:a 7>events").output();
    assert_eq!((out.status, out.stderr.as_str()), (0, ""));
    let read = |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let events = read(&std::fs::read_to_string(sandbox.path("work/events")).unwrap());
    let sizes = [&manifest["layers"][0]["size"], &manifest["config"]["size"]].map(|size| size.as_u64().unwrap());
    assert_eq!(events[0], json!({"event": "expect", "blobs": 2, "size": sizes[0] + sizes[1]}));
    let of = |name: &str| -> Vec<&Value> { events.iter().filter(|event| event["event"] == name).collect() };
    assert_eq!((of("begin").len(), of("end").len(), of("manifest").len()), (2, 2, 1), "{events:?}");
    assert!(of("begin").iter().any(|event| event["digest"] == manifest["layers"][0]["digest"]));
    assert!(of("end").iter().all(|event| event["outcome"] == "copied"));
    assert_eq!(of("manifest")[0]["digest"], out.stdout.trim());
    // Again, on standard error; and for a reader that is away, or a descriptor that is not there.
    let out = shell("exec \"$0\" --progress json oci:layout:busybox:latest oci:told:a").output();
    assert!(out.status == 0 && read(&out.stderr).iter().any(|event| event["outcome"] == "present"), "{}", out.stderr);
    let gone = shell("{ sleep 0.1; \"$0\" --progress json:7 oci:layout:busybox:latest oci:gone:a 7>&1 >digest; } | :")
        .output();
    assert_eq!(gone.status, 0);
    assert_eq!(std::fs::read_to_string(sandbox.path("work/digest")).unwrap(), out.stdout);
    shell("exec \"$0\" --progress json:77 oci:layout:busybox:latest oci:no:a").fails(2, &["descriptor 77"]);
    sandbox.run("hoy-copy").args(["--progress", "json:1", SOURCE, "oci:no:a"]).fails(2, &["json:FD"]);
    assert!(!sandbox.path("work/no").exists());
}
