//! Images to and from archives: import, save, load; podman and skopeo read what is written, and the reverse.

use std::fs;

use hoy_tests::{Run, Sandbox, User, busybox_store, listing, need};
use serde_json::Value;

fn inspect(sandbox: &Sandbox, name: &str) -> Value {
    let text = sandbox.ok("hoy-copy", &["inspect", "--config", "--raw", &format!("store:{name}")]);
    serde_json::from_str(&text).unwrap()
}

fn imported(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let id = sandbox.ok("hoy-storage", &["create", "busybox"]);
    let (plain, packed) = (sandbox.path("work/root.tar"), sandbox.path("work/root.tar.gz"));
    sandbox.ok("hoy-storage", &["export", "-o", plain.to_str().unwrap(), &id]);
    sandbox.run("sh").args(["-c", "gzip -k -1 \"$0\"", plain.to_str().unwrap()]).ok();
    let changes = ["-c", "CMD [\"/bin/sh\", \"-c\", \"echo $A\"]", "--change", "ENV A=\"it runs\"", "-m", "a comment"];
    let import = |args: &[&str]| sandbox.ok("hoy-storage", &[&["import"][..], &changes, args].concat());
    let first = import(&[plain.to_str().unwrap(), "new"]);
    assert!(first.starts_with("sha256:"), "{first}");
    // The same bytes however they come.
    assert_eq!(import(&[packed.to_str().unwrap(), "again:2"]), first);
    let script = "hoy-storage import \"$@\" - piped <root.tar.gz";
    assert_eq!(sandbox.run("sh").args(["-c", script, "-"]).args(changes).ok(), first);
    assert_eq!(sandbox.ok("hoy-storage", &["import", "-q", plain.to_str().unwrap()]).len(), 71);
    assert_eq!(sandbox.ok("hoy", &["run", "--rm", "new"]), "it runs");
    let config = inspect(&sandbox, "new");
    assert_eq!(config["history"][0]["comment"], "a comment");
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    // It unpacks to what the container had.
    let (ours, theirs) = (sandbox.path("work/ours"), sandbox.path("work/theirs"));
    sandbox.ok("hoy-storage", &["unpack", "new", ours.to_str().unwrap()]);
    sandbox.ok("hoy-storage", &["unpack", "busybox", theirs.to_str().unwrap()]);
    let inside = |name: &str| sandbox.run("hoy-storage").args(["unshare", "--", name]);
    assert_eq!(listing(&ours, inside), listing(&theirs, inside));
    let fails =
        |args: &[&str], code, words: &[&str]| sandbox.run("hoy-storage").arg("import").args(args).fails(code, words);
    fails(&["https://example.com/a.tar"], 2, &["URL", "curl"]);
    fails(&["-c", "RUN true", plain.to_str().unwrap()], 2, &["RUN true", "WORKDIR"]);
    fails(&["nothing.tar"], 1, &["nothing.tar"]);
    fails(&[plain.to_str().unwrap(), "Bad Name"], 1, &["Bad Name"]);
    let before = fs::read_dir(sandbox.path("root/blobs/sha256")).unwrap().count();
    fs::write(sandbox.path("work/torn.tar"), &fs::read(&packed).unwrap()[..5000]).unwrap();
    fails(&["torn.tar"], 1, &["torn.tar"]);
    fs::write(sandbox.path("work/no.tar"), "x".repeat(2000)).unwrap();
    fails(&["no.tar"], 1, &["no.tar", "checksum"]);
    assert_eq!(fs::read_dir(sandbox.path("root/blobs/sha256")).unwrap().count(), before, "nothing stays of it");
    sandbox.ok("hoy-storage", &["check"]);
}

#[test]
fn import_as_root() {
    imported(User::Root);
}

#[test]
fn import_as_user() {
    imported(User::Sub);
}

#[test]
fn import_with_one_id() {
    imported(User::One);
}

fn sorted_once(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

#[test]
fn saved_and_loaded() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !need(&["podman", "skopeo"]) {
        return;
    }
    let storage = |args: &[&str]| sandbox.ok("hoy-storage", args);
    let id = storage(&["images", "-q", "--no-trunc"]);
    let podman = |args: &[&str]| {
        let run = Run::new("podman").arg("--root").arg(sandbox.path("podman")).arg("--runroot");
        run.arg(sandbox.path("podman-run")).args(["--storage-driver", "vfs"]).args(args).ok()
    };
    storage(&["save", "-q", "-o", "docker.tar", "busybox", "other:2"]);
    storage(&["save", "-q", "--format", "oci-archive", "--output", "oci.tar", "busybox"]);
    storage(&["save", "-q", "--format", "oci-dir", "--output", "oci", "busybox"]);
    let path = |name: &str| sandbox.path("work").join(name).display().to_string();
    for file in ["docker.tar", "oci.tar"] {
        podman(&["load", "-q", "-i", &path(file)]);
        assert_eq!(sorted_once(&podman(&["images", "-q", "--no-trunc"])), std::slice::from_ref(&id), "{file}");
        podman(&["rmi", "-a", "-f"]);
    }
    Run::new("skopeo").args(["inspect", &format!("oci:{}:localhost/busybox:latest", path("oci"))]).ok();
    sandbox.run("hoy-storage").args(["save", "-o", "docker.tar", "busybox"]).fails(1, &["docker.tar"]);
    sandbox.run("hoy-storage").args(["save", "nothing"]).fails(1, &["nothing"]);
    // From files, a compressed one, a pipe; the image is the same.
    storage(&["rmi", "--all"]);
    assert_eq!(
        storage(&["load", "-q", "-i", "docker.tar"]),
        "Loaded image: localhost/busybox:latest\nLoaded image: localhost/other:2"
    );
    assert_eq!(storage(&["images", "-q", "--no-trunc"]), id);
    storage(&["rmi", "--all"]);
    sandbox.run("sh").args(["-c", "gzip oci.tar && hoy-storage load -q <oci.tar.gz"]).ok();
    assert_eq!(storage(&["images", "-q", "--no-trunc"]), id);
    assert_eq!(sandbox.ok("hoy", &["run", "--rm", "busybox", "echo", "it runs"]), "it runs");
    sandbox.run("sh").args(["-c", "hoy-storage save busybox | hoy-storage load"]).ok();
    // Several images, one without a name, of podman's.
    for name in ["busybox", "second"] {
        let to = format!("docker-archive:{}:localhost/{name}:latest", path(&format!("{name}.tar")));
        Run::new("skopeo")
            .args(["copy", "-q", &format!("oci:{}:busybox:latest", sandbox.path("layout").display()), &to])
            .ok();
        podman(&["load", "-q", "-i", &path(&format!("{name}.tar"))]);
    }
    Run::new("tar").args(["-cf", &path("x.tar"), "-C", &path("oci"), "oci-layout"]).ok();
    podman(&["import", "-q", &path("x.tar"), "third"]);
    podman(&["save", "-q", "-m", "-o", &path("several.tar"), "busybox", "third"]);
    let said = storage(&["load", "-q", "-i", "several.tar"]);
    assert!(said.contains("localhost/busybox:latest") && said.contains("localhost/third:latest"), "{said}");
    let shown = podman(&["images", "-q", "--no-trunc", "third"]);
    // The other way round, to a file and to a pipe; what fails leaves nothing.
    podman(&["rmi", "-a", "-f"]);
    storage(&["save", "-q", "-m", "-o", "both.tar", "busybox", "third"]);
    sandbox.run("sh").args(["-c", "hoy-storage save -m busybox third >piped.tar"]).ok();
    for file in ["both.tar", "piped.tar"] {
        let loaded = podman(&["load", "-q", "-i", &path(file)]);
        assert!(loaded.contains("localhost/busybox:latest") && loaded.contains("localhost/third:latest"), "{loaded}");
        podman(&["rmi", "busybox"]);
    }
    let fails = |words: &[&str], code, says| {
        sandbox.run("hoy-storage").args(["save", "-m", "-o", "half.tar"]).args(words).fails(code, &[says]);
        assert!(!sandbox.path("work/half.tar").exists());
    };
    fails(&["busybox", "nothing"], 1, "nothing");
    fails(&["--format", "oci-archive", "busybox", "third"], 2, "--format docker-archive");
    podman(&["save", "-q", "-o", &path("nameless.tar"), shown.trim()]);
    storage(&["rmi", "--all"]);
    assert_eq!(storage(&["load", "-q", "-i", "nameless.tar"]), format!("Loaded image: {}", shown.trim()));
    assert_eq!(storage(&["images", "--format", "{{.Repository}}"]), "<none>");
    fs::write(sandbox.path("work/no.tar"), "no archive").unwrap();
    sandbox.run("hoy-storage").args(["load", "-i", "no.tar"]).fails(1, &["no.tar"]);
    sandbox.run("hoy-storage").args(["load", "-i", "x.tar"]).fails(1, &["x.tar", "manifest.json"]);
}
