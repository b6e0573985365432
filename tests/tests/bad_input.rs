//! Bad input: a clear error with the culprit's name, the promised exit code, and nothing half done.

use std::fs;
use std::path::Path;

use hoy_tests::{Registry, Run, Sandbox, User, busybox_layout, free_port, need};
use serde_json::{Value, json};

const PEERS: &[&str] = &["umoci", "busybox", "python3"];

/// A sandbox with the image `busybox` in its store, and the layout it came from.
fn with_busybox() -> Option<Sandbox> {
    if !User::Root.available() || !need(PEERS) {
        return None;
    }
    let sandbox = Sandbox::new();
    busybox_layout(&sandbox.path("layout"));
    let source = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    sandbox.ok("hoy-copy", &["copy", &source, "store:busybox"]);
    Some(sandbox)
}

fn digest_path(layout: &Path, digest: &Value) -> std::path::PathBuf {
    layout.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Stores bytes as a blob and returns the descriptor.
fn put(layout: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let file = layout.join("blob");
    fs::write(&file, bytes).unwrap();
    let sum = Run::new("sha256sum").arg(&file).ok();
    let hex = sum.split(' ').next().unwrap();
    fs::rename(&file, layout.join("blobs/sha256").join(hex)).unwrap();
    json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()})
}

/// Makes the layout's image anew with changed documents: `change` gets manifest and configuration.
fn rewrite(layout: &Path, change: impl FnOnce(&mut Value, &mut Value)) {
    let mut index = read_json(&layout.join("index.json"));
    let mut manifest = read_json(&digest_path(layout, &index["manifests"][0]["digest"]));
    let mut config = read_json(&digest_path(layout, &manifest["config"]["digest"]));
    change(&mut manifest, &mut config);
    let media_type = manifest["config"]["mediaType"].as_str().unwrap().to_owned();
    manifest["config"] = put(layout, &media_type, config.to_string().as_bytes());
    let mut descriptor = put(layout, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    descriptor["annotations"] = index["manifests"][0]["annotations"].clone();
    index["manifests"] = json!([descriptor]);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

/// Puts a tar made by `script` (it writes `layer.tar`) as the only layer of the layout's image.
fn with_layer(layout: &Path, script: &str) {
    let dir = tempfile::tempdir().unwrap();
    Run::new("python3").args(["-c", script]).dir(dir.path()).ok();
    let tar = fs::read(dir.path().join("layer.tar")).unwrap();
    let layer = put(layout, "application/vnd.oci.image.layer.v1.tar", &tar);
    rewrite(layout, |manifest, config| {
        config["rootfs"]["diff_ids"] = json!([layer["digest"]]);
        config["history"] = json!([]);
        manifest["layers"] = json!([layer]);
    });
}

fn containers_and_names(sandbox: &Sandbox) -> (String, String) {
    (sandbox.ok("hoy-storage", &["containers", "-q"]), sandbox.ok("hoy-storage", &["images", "--format", "{{.Names}}"]))
}

#[test]
fn wrong_and_truncated_blobs() {
    let Some(sandbox) = with_busybox() else { return };
    let layout = sandbox.path("layout");
    let index = read_json(&layout.join("index.json"));
    let manifest = read_json(&digest_path(&layout, &index["manifests"][0]["digest"]));
    let layer = digest_path(&layout, &manifest["layers"][0]["digest"]);
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let good = fs::read(&layer).unwrap();
    let mut wrong = good.clone();
    wrong[good.len() / 2] ^= 1;
    let source = format!("oci:{}:busybox:latest", layout.display());
    let target = format!("oci:{}:x", sandbox.path("work/other").display());
    for bad in [&wrong[..], &good[..good.len() - 1]] {
        fs::write(&layer, bad).unwrap();
        sandbox.run("hoy-copy").args(["copy", &source, &target]).fails(1, &[digest]);
        assert!(!sandbox.path("work/other/blobs/sha256").join(&digest[7..]).exists(), "a wrong blob never shows");
        sandbox.run("hoy-copy").args(["inspect", &target]).fails(1, &[]);
    }
    // The same in the store itself: what was damaged on disk is named, by check and by use.
    let stored = sandbox.path("root/blobs/sha256").join(&digest[7..]);
    fs::write(&stored, &wrong).unwrap();
    sandbox.run("hoy-storage").arg("check").fails(1, &[digest]);
    sandbox.run("hoy-storage").args(["create", "busybox"]).fails(1, &[digest]);
    assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]), "");
}

#[test]
fn unknown_things() {
    let Some(sandbox) = with_busybox() else { return };
    let before = containers_and_names(&sandbox);
    sandbox.run("hoy-storage").args(["create", "nowhere"]).fails(1, &["nowhere"]);
    sandbox.run("hoy").args(["run", "--rm", "nowhere", "true"]).fails(125, &["nowhere"]);
    sandbox.run("hoy-spec").args(["nowhere"]).fails(1, &["nowhere"]);
    sandbox.run("hoy-build").args(["from", "--pull-never", "nowhere"]).fails(125, &["nowhere"]);
    sandbox.run("hoy-storage").args(["rm", "nobody"]).fails(1, &["nobody"]);
    sandbox.run("hoy-storage").args(["--no-such-flag"]).fails(2, &["--no-such-flag"]);
    sandbox.run("hoy").args(["run", "--no-such-flag", "busybox"]).fails(125, &["--no-such-flag"]);
    sandbox.run("hoy").args(["run", "--rm", "busybox", "no-such-program"]).fails(127, &["no-such-program"]);
    sandbox.run("hoy").args(["run", "--rm", "busybox", "/etc/passwd"]).fails(126, &["/etc/passwd"]);
    let closed = format!("docker://127.0.0.1:{}/x", free_port());
    sandbox.run("hoy-copy").args(["inspect", "--tls-verify=false", &closed]).fails(1, &["127.0.0.1"]);
    assert_eq!(containers_and_names(&sandbox), before);
}

#[test]
fn unknown_media_type() {
    let Some(sandbox) = with_busybox() else { return };
    let layout = sandbox.path("layout");
    rewrite(&layout, |manifest, _| manifest["layers"][0]["mediaType"] = json!("application/x-strange"));
    let source = format!("oci:{}:busybox:latest", layout.display());
    sandbox.ok("hoy-copy", &["copy", &source, "store:strange"]);
    sandbox.run("hoy-storage").args(["create", "strange"]).fails(1, &["application/x-strange"]);
    assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]), "");
}

#[test]
fn bad_credentials() {
    if !need(&["docker-registry", "skopeo"]) {
        return;
    }
    // bcrypt of "secret".
    let registry_dir = tempfile::tempdir().unwrap();
    let htpasswd = registry_dir.path().join("htpasswd");
    if !need(&["htpasswd"]) {
        return;
    }
    Run::new("htpasswd").args(["-Bbc"]).arg(&htpasswd).args(["user", "secret"]).ok();
    let registry =
        Registry::start_with(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}", htpasswd.display()), "");
    let sandbox = Sandbox::new();
    let address = registry.address();
    let list = |creds: &str| {
        sandbox.run("hoy-copy").args([
            "list-tags",
            "--tls-verify=false",
            "--creds",
            creds,
            &format!("docker://{address}/x"),
        ])
    };
    let said = list("user:wrong").fails(1, &[&address, "login"]);
    assert!(!said.contains("wrong"), "a password is never shown: {said}");
    let login = |password: &str| {
        sandbox
            .run("hoy-copy")
            .args(["login", "--tls-verify=false", "-u", "user", "--password-stdin", &address])
            .stdin(password)
    };
    login("wrong").fails(1, &[&address]);
    assert!(login("secret").ok().contains("Login Succeeded"));
    sandbox
        .run("hoy-copy")
        .args(["list-tags", "--tls-verify=false", &format!("docker://{address}/x")])
        .fails(1, &["x"]);
    sandbox.ok("hoy-copy", &["logout", &address]);
}

#[test]
fn damaged_index() {
    let Some(sandbox) = with_busybox() else { return };
    sandbox.ok("hoy-storage", &["tag", "busybox", "second"]);
    let index = sandbox.path("root/index.json");
    let good = fs::read(&index).unwrap();
    fs::write(&index, &good[..good.len() / 2]).unwrap();
    // Whoever reads goes on with the index before the last change, and says so; nothing is removed.
    for args in [&["images"][..], &["create", "busybox"], &["history", "busybox"]] {
        sandbox.run("hoy-storage").args(args).fails(0, &["warning", "index.json", "hoy-storage check"]);
    }
    sandbox.run("hoy-storage").args(["prune", "--force"]).fails(1, &["index.json", "check --repair"]);
    assert!(sandbox.disk_kib("root/blobs") > 100, "a damaged index removes no blob");
    sandbox.run("hoy-storage").args(["check"]).fails(1, &["index.json"]);
    sandbox.run("hoy-storage").args(["check", "--repair"]).output();
    assert!(
        sandbox.ok("hoy-storage", &["images"]).contains("localhost/busybox"),
        "the index before the last name is back"
    );
    sandbox.ok("hoy-storage", &["check"]);
    assert_eq!(sandbox.ok("hoy", &["run", "--rm", "busybox", "echo", "afloat"]), "afloat");
}

#[test]
fn layers_stay_in_their_root() {
    let Some(sandbox) = with_busybox() else { return };
    let victim = sandbox.path("victim");
    fs::write(&victim, "untouched").unwrap();
    let tar = |entries: &str| {
        format!(
            "import tarfile, io\nt = tarfile.open('layer.tar', 'w', format=tarfile.PAX_FORMAT)\n\
             def f(name, data=b'evil', **k):\n    i = tarfile.TarInfo(name); i.size = len(data)\n    for a, b in k.items(): setattr(i, a, b)\n    t.addfile(i, io.BytesIO(data))\n\
             def link(name, to, kind):\n    i = tarfile.TarInfo(name); i.type = kind; i.linkname = to; t.addfile(i)\n\
             victim = {victim:?}\n{entries}\nt.close()\n",
            victim = victim.to_str().unwrap()
        )
    };
    let up = "../".repeat(12);
    let cases = [
        ("dots", format!("f('{up}' + victim[1:])"), Some("../")),
        ("hardlink", "link('h', victim, tarfile.LNKTYPE); f('h')".to_owned(), Some("h")),
        ("hardlink-dots", format!("link('h', '{up}' + victim[1:], tarfile.LNKTYPE)"), Some("h")),
        ("symlink", "link('s', victim, tarfile.SYMTYPE); f('s')".to_owned(), None),
        ("symlink-dir", "import os\nlink('d', os.path.dirname(victim), tarfile.SYMTYPE); f('d/victim')".to_owned(), None),
        ("chmod", "import os\nlink('d', victim, tarfile.SYMTYPE)\ni = tarfile.TarInfo('d'); i.type = tarfile.DIRTYPE; i.mode = 0o777; t.addfile(i)".to_owned(), None),
    ];
    for (name, entries, culprit) in cases {
        let layout = sandbox.path("layout");
        with_layer(&layout, &tar(&entries));
        sandbox
            .ok("hoy-copy", &["copy", &format!("oci:{}:busybox:latest", layout.display()), &format!("store:{name}")]);
        let plain = sandbox.path(&format!("work/{name}"));
        for args in [vec!["create", name], vec!["unpack", name, plain.to_str().unwrap()]] {
            let out = sandbox.run("hoy-storage").args(&args).output();
            match culprit {
                Some(culprit) => {
                    assert!(out.status == 1 && out.stderr.contains(culprit), "{name}: {} {}", out.status, out.stderr)
                }
                None => assert!(out.status <= 1, "{name}: {}", out.stderr),
            }
            assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{name}");
            assert_eq!(fs::metadata(&victim).unwrap().len(), 9);
        }
    }
}

#[test]
fn users_and_directories_that_do_not_exist() {
    let Some(sandbox) = with_busybox() else { return };
    let layout = sandbox.path("layout");
    for (name, field, value, words) in [
        ("ghost", "User", "ghost", ["ghost", "passwd"]),
        ("overflow", "User", "4294967296", ["4294967296", ""]),
        ("leak", "WorkingDir", "/proc/self/fd/7", ["/proc/self/fd/7", ""]),
    ] {
        rewrite(&layout, |_, config| {
            config["config"]["User"] = json!("");
            config["config"]["WorkingDir"] = json!("");
            config["config"][field] = json!(value);
        });
        sandbox
            .ok("hoy-copy", &["copy", &format!("oci:{}:busybox:latest", layout.display()), &format!("store:{name}")]);
        let out = sandbox.run("hoy").args(["run", "--rm", name, "pwd"]).output();
        assert!(matches!(out.status, 125..=127), "{name}: {} {}", out.status, out.stderr);
        assert!(words.iter().all(|word| out.stderr.contains(word)), "{name}: {}", out.stderr);
    }
    assert_eq!(sandbox.ok("hoy-storage", &["containers", "-q"]), "", "a container that could not start leaves nothing");
}

#[test]
fn full_disk() {
    let Some(sandbox) = with_busybox() else { return };
    let small = sandbox.path("small");
    fs::create_dir(&small).unwrap();
    Run::new("mount").args(["-t", "tmpfs", "-o", "size=1200k", "none"]).arg(&small).ok();
    let source = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    let on_small = |name: &str| sandbox.run(name).env("HOY_ROOT", small.join("root"));
    let copied = on_small("hoy-copy").args(["copy", &source, "store:busybox"]).output();
    let used = match copied.status {
        // The blobs fit, the unpacked layer does not.
        0 => on_small("hoy-storage").args(["create", "busybox"]).fails(1, &["no space left on device"]),
        _ => copied.stderr,
    };
    assert!(used.contains("no space left on device"), "{used}");
    assert_eq!(on_small("hoy-storage").args(["containers", "-q"]).ok(), "");
    on_small("hoy-storage").args(["prune", "--force"]).ok();
    Run::new("umount").arg(&small).ok();
}
