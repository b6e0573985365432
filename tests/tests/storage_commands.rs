//! Commands about a store as a whole: doctor, export, tree, reset.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use hoy_tests::{Run, Sandbox, User, busybox_store, need_root};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::Value;

fn findings(sandbox: &Sandbox, code: i32) -> Vec<(String, String)> {
    let out = sandbox.run("hoy-storage").args(["doctor", "--format", "json"]).output();
    assert_eq!(out.status, code, "{}{}", out.stdout, out.stderr);
    let rows: Vec<Value> = serde_json::from_str(&out.stdout).unwrap();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    rows.iter().for_each(|row| assert_eq!(text(row, "State") == "good", text(row, "Remedy").is_empty(), "{row}"));
    rows.iter().map(|row| (text(row, "Area"), text(row, "State"))).collect()
}

fn state<'a>(found: &'a [(String, String)], area: &str) -> Option<&'a str> {
    found.iter().find(|(of, _)| of == area).map(|(_, state)| state.as_str())
}

#[test]
fn doctor_says_what_each_user_can_do() {
    for (user, ids) in [(User::Root, None), (User::Sub, Some("good")), (User::One, Some("limited"))] {
        if !user.available() {
            return;
        }
        let sandbox = Sandbox::for_user(user);
        let found = findings(&sandbox, 0);
        assert_eq!((state(&found, "ids"), state(&found, "overlay")), (ids, Some("good")), "{user:?} {found:?}");
        let left: Vec<_> = fs::read_dir(sandbox.path("root")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("doctor")), "{left:?}");
    }
}

#[test]
fn doctor_sees_what_is_missing() {
    if !need_root() {
        return;
    }
    let sandbox = Sandbox::new();
    Run::new("mount").args(["-t", "tmpfs", "-o", "noexec,size=1m", "tmpfs"]).arg(sandbox.path("root")).ok();
    let found = findings(&sandbox, 1);
    assert_eq!((state(&found, "mount"), state(&found, "space")), (Some("missing"), Some("limited")), "{found:?}");
    let cut = sandbox.run("hoy-storage").env("PATH", "/nowhere").arg("doctor").output();
    assert!(!cut.stdout.contains("hoy-runtime"), "the suite's programs are found beside each other: {}", cut.stdout);
}

fn exported(user: User) -> Option<Vec<String>> {
    let sandbox = busybox_store(user)?;
    let id = sandbox.ok("hoy-build", &["from", "busybox"]);
    let script = "rm /bin/cat; echo new >/new; chown 7:8 /new; ln /new /newer; mkdir -m 1777 /dir";
    sandbox.ok("hoy-build", &["run", &id, "--", "sh", "-c", script]);
    sandbox.ok("hoy-build", &["umount", &id]);
    let file = sandbox.path("work/all.tar");
    sandbox.ok("hoy-storage", &["export", "--output", file.to_str().unwrap(), &id]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    let piped = sandbox.run("hoy-storage").args(["export", &id]).output().bytes;
    assert!(piped == fs::read(&file).unwrap(), "the same bytes to a pipe and to a file");
    assert!(!sandbox.ok("hoy-storage", &["mount"]).contains(&id), "the mount was for the time only");
    let listing = Run::new("tar").args(["--numeric-owner", "-tvf"]).arg(&file).ok();
    let fields = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        format!("{} {} {}", words[0], words[1], words[5..].join(" "))
    };
    Some(listing.lines().map(fields).collect())
}

#[test]
fn export_writes_what_is_there() {
    let Some(root) = exported(User::Root) else { return };
    for line in ["-rw-r--r-- 7/8 new", "hrw-r--r-- 7/8 newer link to new", "drwxrwxrwt 0/0 dir/"] {
        assert!(root.iter().any(|l| l.replace("./", "") == line), "{line} {root:#?}");
    }
    // Mount points that running made are not in it, nor is what was removed.
    let unwanted = ["/proc/", " proc/", "bin/cat", "bin/cat -> busybox"];
    let is_wrong = |line: &&String| line.contains(".wh.") || unwanted.iter().any(|end| line.ends_with(end));
    assert_eq!(root.iter().find(is_wrong), None);
    assert_eq!(exported(User::Sub), Some(root));
}

#[test]
fn tree_shows_who_shares_a_layer() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let id = sandbox.ok("hoy-build", &["from", "busybox"]);
    fs::write(format!("{}/x", sandbox.ok("hoy-build", &["mount", &id])), "x").unwrap();
    sandbox.ok("hoy-build", &["commit", &id, "two"]);
    let tree = sandbox.ok("hoy-storage", &["tree", "two"]);
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[1].contains("[localhost/two:latest]"), "{tree}");
    assert!(
        lines[4].starts_with("├── ID: ") && lines[4].ends_with("Top Layer of: [localhost/busybox:latest]"),
        "{tree}"
    );
    assert!(lines[5].starts_with("└── ID: ") && lines[5].ends_with("Top Layer of: [localhost/two:latest]"), "{tree}");
    sandbox.run("hoy-storage").args(["tree", "none"]).fails(1, &["none"]);
}

fn is_reset(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    sandbox.ok("hoy-build", &["from", "--name", "c", "busybox"]);
    sandbox.ok("hoy-build", &["mount", "c"]);
    sandbox.run("hoy-storage").arg("reset").fails(2, &["--force"]);
    fs::write(sandbox.path("root/index.json"), "{").unwrap();
    sandbox.ok("hoy-storage", &["reset", "--force"]);
    for place in ["layers", "containers", "blobs/sha256"] {
        let names = fs::read_dir(sandbox.path("root").join(place)).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| !name.to_string_lossy().ends_with(".lock")).collect();
        assert!(left.is_empty(), "{place}: {left:?}");
    }
    assert_eq!(sandbox.ok("hoy-storage", &["images", "-q"]), "");
    assert!(!sandbox.path("run/holder.json").exists());
    let layout = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    sandbox.ok("hoy-copy", &["copy", &layout, "store:busybox"]);
    assert_eq!(sandbox.ok("hoy", &["run", "--rm", "busybox", "echo", "again"]), "again");
}

#[test]
fn reset_as_root() {
    is_reset(User::Root);
}

#[test]
fn reset_as_user() {
    is_reset(User::Sub);
}

/// Programs that write into one pipe at once do not mix their lines: this pipe gives back what was written at once.
#[test]
fn a_line_is_written_whole() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let (ours, theirs) = pipe_with(PipeFlags::DIRECT).unwrap();
    let mut run = sandbox.run("hoy-storage").args(["create", "busybox"]);
    run.command().stdout(theirs);
    assert_eq!(run.output().status, 0);
    let mut written = [0; 100];
    let len = File::from(ours).read(&mut written).unwrap();
    assert_eq!((len, written[len - 1]), (65, b'\n'), "{}", String::from_utf8_lossy(&written));
}
