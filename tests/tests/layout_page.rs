//! hoy-layout(5) says enough to read a store: `layout_reader.py` was written from that page alone.

use std::fs;

use hoy_tests::{Run, Sandbox, User, busybox_store, need, workspace};

/// Changes of every kind that a layer can say: new, changed, deleted and replaced names, hard links, an opaque directory.
const CHANGES: &[&str] = &[
    "mkdir -p srv/a/b tmp/gone && echo 1 > srv/a/b/one && ln srv/a/b/one srv/two && chmod 4711 srv/two && ln -s nowhere srv/link \
     && echo x > etc/os-release && chown 7:8 srv/a && mkfifo srv/pipe && touch -d @7.25 srv/a/b",
    "rm -r srv/a && mkdir srv/a && echo new > srv/a/new && rm bin/vi srv/link && mkdir srv/link && rmdir tmp/gone && chmod 700 srv",
];

fn reader(sandbox: &Sandbox, args: &[&str]) -> Run {
    let script = workspace().join("tests/tests/layout_reader.py");
    let run = sandbox.run("hoy-storage").args(["unshare", "--", "python3"]).arg(script);
    run.arg(sandbox.path("root")).args(args)
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.sort();
    lines
}

/// A store with the image `changed`, of three layers, and the container `last` with the last changes.
fn store(user: User) -> Option<Sandbox> {
    let sandbox = need(&["python3"]).then(|| busybox_store(user)).flatten()?;
    let change = |container: &str, script: &str| {
        let root = sandbox.ok("hoy-storage", &["mount", container]);
        let script = format!("cd {root} && {script}");
        sandbox.ok("hoy-storage", &["unshare", "--", "sh", "-ec", &script]);
    };
    for (from, script, image) in [("busybox", CHANGES[0], "middle"), ("middle", CHANGES[1], "changed")] {
        let container = sandbox.ok("hoy-build", &["from", from]);
        // An ordinary user with one id can give files to nobody else.
        let script = if user == User::One { script.replace("chown 7:8", "true") } else { script.to_owned() };
        change(&container, &script);
        sandbox.ok("hoy-build", &["commit", &container, image]);
    }
    sandbox.ok("hoy-storage", &["create", "--name", "last", "changed"]);
    change("last", "rm srv/two && echo more >> etc/passwd && mkdir srv/dir && echo f > srv/dir/file");
    Some(sandbox)
}

fn page(user: User) {
    let Some(sandbox) = store(user) else { return };
    let format = ["images", "--no-trunc", "--digests", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}} {{.ID}}"];
    assert_eq!(sorted(&reader(&sandbox, &["images"]).ok()), sorted(&sandbox.ok("hoy-storage", &format)));
    assert_eq!(
        sorted(&reader(&sandbox, &["changes", "last"]).ok()),
        sorted(&sandbox.ok("hoy-storage", &["diff", "last"]))
    );
    let root = sandbox.path("work/root");
    sandbox.ok("hoy-storage", &["unpack", "changed", root.to_str().expect("UTF-8")]);
    let find = format!(
        "cd {} && find . -mindepth 1 -printf '/%P %y %m %U:%G %T@ %l\\n' && find . -type f -exec sha256sum {{}} +",
        root.display()
    );
    let ours = sandbox.ok("hoy-storage", &["unshare", "--", "sh", "-c", &find]).replace("  ./", " ./");
    assert!(ours.contains("/srv/a/new f"), "{ours}");
    assert_eq!(sorted(&reader(&sandbox, &["tree", "localhost/changed:latest"]).ok()), sorted(&ours));
}

#[test]
fn a_store_is_read_from_its_page() {
    page(User::Root);
}

#[test]
fn a_store_of_an_ordinary_user_is_read_from_its_page() {
    page(User::Sub);
}

#[test]
fn a_store_of_one_id_is_read_from_its_page() {
    page(User::One);
}

/// What the page says of damage, of locks, and of stores beside one's own.
#[test]
fn the_rest_of_the_page() {
    let Some(sandbox) = store(User::Root) else { return };
    let script = fs::read_to_string(workspace().join("tests/tests/layout_reader.py")).expect("read");
    assert!(script.lines().count() <= 100, "a page that needs more is not exact enough");
    let images = || sorted(&reader(&sandbox, &["images"]).ok());
    let changes = || reader(&sandbox, &["changes", "last"]).ok();
    let (all, changed) = (images(), changes());
    // Something changes the index once more, so that the one before it has all names.
    sandbox.ok("hoy-storage", &["tag", "busybox", "one-more"]);
    let id = sandbox.ok("hoy-storage", &["containers", "-q", "--no-trunc"]);
    let container = sandbox.path("root/containers").join(
        id.lines()
            .find(|id| {
                fs::read_to_string(sandbox.path("root/containers").join(id).join("storage.json"))
                    .expect("read")
                    .contains("\"last\"")
            })
            .expect("it is there"),
    );
    fs::write(sandbox.path("root/index.json"), "{").expect("damage");
    fs::remove_file(container.join("storage.json")).expect("damage");
    assert_eq!((images(), changes()), (all.clone(), changed));
    // Locks of a command that waits for its input.
    let mut waiting = sandbox.run("hoy-storage").args(["import", "-"]);
    let mut waiting = waiting.command().stdin(std::process::Stdio::piped()).spawn().expect("start");
    let locks = || reader(&sandbox, &["locks"]).ok();
    let start = std::time::Instant::now();
    while locks() != ".lease.lock" {
        assert!(start.elapsed().as_secs() < 20, "{}", locks());
    }
    drop(waiting.stdin.take());
    waiting.wait().expect("wait");
    assert_eq!(locks(), "");
    // An empty store beside this one.
    let other = Sandbox::new();
    other.ok("hoy-storage", &["images"]);
    let script = workspace().join("tests/tests/layout_reader.py");
    let read = |args: &[&str]| {
        let run = Run::new("python3").arg(&script).arg(other.path("root")).args(args);
        sorted(&run.env("HOY_ADDITIONAL_STORES", sandbox.path("root")).ok())
    };
    assert_eq!(read(&["images"]), all);
    assert_eq!(
        read(&["tree", "localhost/changed:latest"]),
        sorted(&reader(&sandbox, &["tree", "localhost/changed:latest"]).ok())
    );
}

#[test]
fn the_reader_finds_damage() {
    let Some(sandbox) = store(User::Root) else { return };
    let blobs = sandbox.path("root/blobs/sha256");
    let largest = fs::read_dir(&blobs).expect("blobs").flatten().max_by_key(|e| e.metadata().expect("size").len());
    let path = largest.expect("a blob").path();
    let mut bytes = fs::read(&path).expect("read");
    bytes[1000] ^= 1;
    fs::write(&path, bytes).expect("damage");
    reader(&sandbox, &["images"]).fails(1, &["is damaged", path.to_str().expect("UTF-8")]);
}
