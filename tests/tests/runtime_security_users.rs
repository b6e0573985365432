//! Who a container's process is: ids, groups and capabilities, whatever the image's files say.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use hoy_tests::{Bundle, Run, Sandbox, User, busybox_root, need, need_root};
use serde_json::{Value, json};

/// A sandbox with a root file system and an image whose configuration has the user `user`.
fn image(user: &str) -> Option<Sandbox> {
    if !need_root() || !need(&["busybox"]) {
        return None;
    }
    let sandbox = Sandbox::new();
    busybox_root(&sandbox.path("work/rootfs"));
    fs::create_dir_all(sandbox.path("work/rootfs/etc")).unwrap();
    set_user(&sandbox, user);
    Some(sandbox)
}

fn set_user(sandbox: &Sandbox, user: &str) {
    let image = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "User": user},
        "rootfs": {"type": "layers", "diff_ids": []}});
    fs::write(sandbox.path("work/image.json"), image.to_string()).unwrap();
}

/// `hoy-spec`, with no more than 64 MiB of memory and ten seconds.
fn spec(sandbox: &Sandbox, args: &[&str]) -> Run {
    let limit = "ulimit -v 65536; exec timeout 10 hoy-spec --rootfs rootfs \"$@\" image.json";
    sandbox.run("sh").args(["-c", limit, "sh"]).args(args)
}

/// CVE-2016-3697, CVE-2024-40635, CVE-2026-46680: a number is never a name, and one out of range is nobody.
#[test]
fn a_number_is_a_number() {
    let Some(sandbox) = image("") else { return };
    let passwd: String = ["1000", "4294967296", "-1", "2147483648", "00", " 0", "0x0", "4294968296", "+0", "1e3"]
        .iter()
        .map(|name| format!("{name}:x:0:0::/:/bin/sh\n"))
        .collect();
    fs::write(sandbox.path("work/rootfs/etc/passwd"), passwd).unwrap();
    fs::write(sandbox.path("work/rootfs/etc/group"), "1000:x:0:\n").unwrap();
    for (user, want) in [("1000", "1000:0"), ("1000:1000", "1000:1000"), ("2147483647", "2147483647:0")] {
        set_user(&sandbox, user);
        let config: Value = serde_json::from_str(&spec(&sandbox, &[]).ok()).unwrap();
        let user = &config["process"]["user"];
        assert_eq!(format!("{}:{}", user["uid"], user["gid"]), want);
    }
    for user in ["4294967296", "-1", "2147483648", "00", "4294968296", "+0", "4294967295", "18446744073709551616"] {
        for form in [user.to_owned(), format!("1:{user}"), format!("{user}:1")] {
            set_user(&sandbox, &form);
            spec(&sandbox, &[]).fails(1, &["hoy-spec: "]);
            set_user(&sandbox, "");
            spec(&sandbox, &["--user", &form]).fails(1, &["hoy-spec: "]);
        }
    }
}

/// CVE-2026-47262, CVE-2025-4437: what the image has as /etc/passwd and /etc/group is read with bounds, if at all.
#[test]
fn files_of_users_are_read_with_bounds() {
    let Some(sandbox) = image("1000") else { return };
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.script("echo $HOME");
    fs::create_dir_all(bundle.path("rootfs/etc")).unwrap();
    for root in [sandbox.path("work/rootfs"), bundle.path("rootfs")] {
        for name in ["passwd", "group"] {
            let path = root.join("etc").join(name);
            for kind in ["sparse", "late", "lines", "long", "fifo", "zero", "device", "directory", "loop", "host"] {
                fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap_or_default();
                match kind {
                    "sparse" => fs::File::create(&path).unwrap().set_len(4 << 30).unwrap(),
                    "lines" => {
                        let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
                        (0..10_000_000).for_each(|_| file.write_all(b"a:b:1:2:c:d:e\n").unwrap());
                    }
                    "late" => {
                        let line = "app:x:1000:1000::/late:\n";
                        fs::write(&path, format!("{}{line}", "a:b:1:2:c:d:e\n".repeat(100_000))).unwrap();
                    }
                    "long" => fs::write(&path, vec![b'a'; 8 << 20]).unwrap(),
                    "fifo" => drop(Run::new("mkfifo").arg(&path).ok()),
                    "zero" => symlink("/dev/zero", &path).unwrap(),
                    "device" => drop(Run::new("mknod").arg(&path).args(["c", "1", "5"]).ok()),
                    "directory" => fs::create_dir(&path).unwrap(),
                    "loop" => symlink(name, &path).unwrap(),
                    _ => symlink("../../../../../../../../etc/passwd", &path).unwrap(),
                }
                let begun = Instant::now();
                if root.starts_with(sandbox.path("work")) {
                    let out = spec(&sandbox, &[]).output();
                    assert!([0, 1].contains(&out.status), "{name} {kind}: {} {}", out.status, out.stderr);
                    assert!(kind != "late" || out.status == 1, "{name}: more than 1 MiB was read");
                } else {
                    // Nothing of it is the container's home.
                    assert_eq!(bundle.hoy(&["run", "a"]).ok(), "/", "{name} {kind}");
                }
                assert!(begun.elapsed() < Duration::from_secs(10), "{name} {kind}: {:?}", begun.elapsed());
            }
            fs::remove_file(&path).unwrap();
        }
    }
}

/// CVE-2022-36109, CVE-2022-2989, CVE-2022-2990, CVE-2022-2995, CVE-2023-25173: the primary group is among the
/// supplementary ones, so that a set-id program cannot shed it to get past a file that it is denied.
#[test]
fn the_primary_group_stays() {
    let Some(sandbox) = image("") else { return };
    fs::write(sandbox.path("work/rootfs/etc/passwd"), "app:x:1000:50::/:\nroot:x:0:0::/:\n").unwrap();
    fs::write(sandbox.path("work/rootfs/etc/group"), "staff:x:50:\nmore:x:60:app\n").unwrap();
    for (user, want) in [("app", json!([50, 60])), ("1000", json!([50, 60])), ("1000:7", json!([7])), ("5", json!([0]))]
    {
        set_user(&sandbox, user);
        let config: Value = serde_json::from_str(&spec(&sandbox, &[]).ok()).unwrap();
        assert_eq!(config["process"]["user"]["additionalGids"], want, "{user}");
    }
    // The runtime gives what it is told: seen from inside, in the files' own terms.
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/user", json!({"uid": 1000, "gid": 50, "additionalGids": [50, 60]}));
    let denied = bundle.path("rootfs/denied");
    fs::write(&denied, "x").unwrap();
    Run::new("chgrp").arg("50").arg(&denied).ok();
    Run::new("chmod").arg("0604").arg(&denied).ok();
    // A copy that is set-gid to another group.
    fs::copy("/bin/busybox", bundle.path("rootfs/cat")).unwrap();
    Run::new("chgrp").arg("70").arg(bundle.path("rootfs/cat")).ok();
    Run::new("chmod").arg("2755").arg(bundle.path("rootfs/cat")).ok();
    bundle.set("/process/noNewPrivileges", json!(false));
    bundle.script("grep Groups: /proc/self/status; /cat /denied; echo $?");
    let out = bundle.hoy(&["run", "a"]).output();
    assert_eq!(out.stdout, "Groups:\t50 60 \n1\n", "{}", out.stderr);
}

/// CVE-2026-30892: every form of `exec --user` is the numbers that it says, or an error.
#[test]
fn exec_takes_numbers() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("sleep 1000");
    bundle.leave(&["run", "-d", "a"]);
    let id = |user: &str| bundle.hoy(&["exec", &format!("--user={user}"), "a", "sh", "-c", "echo $(id -u):$(id -g)"]);
    for (user, want) in
        [("1", "1:0"), ("1:2", "1:2"), ("0", "0:0"), ("1000:5", "1000:5"), ("4294967294", "4294967294:0")]
    {
        assert_eq!(id(user).ok(), want);
    }
    let bad = [
        ":2",
        "name",
        "name:grp",
        "",
        "-1",
        "1x",
        "4294967296",
        "4294967295",
        "1:",
        "1:-1",
        "1:x",
        " 1",
        "+1",
        "0x1",
        "1:2:3",
    ];
    for user in bad {
        id(user).fails(255, &["is not UID or UID:GID"]);
    }
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

/// CVE-2022-29162, CVE-2022-24769, CVE-2022-27649 to -27652, GHSA-c9cp: nothing is inheritable or ambient unless the
/// configuration says so; CVE-2025-27612: `exec --cap` adds nothing beyond what the container may have.
#[test]
fn capabilities_are_what_the_configuration_says() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let show = "echo $(grep ^Cap /proc/self/status | cut -f 2)";
    let none = "0000000000000000";
    let some = "0000000020000420";
    for uid in [0, 1000] {
        bundle.set("/process/user", json!({"uid": uid, "gid": 0}));
        bundle.script(&format!("exec sh -c '{show}'"));
        // A program that is started by one who is not root has no capability but the ambient ones.
        let after = |want: &str| if uid == 0 { want.to_owned() } else { none.to_owned() };
        let want = format!("{none} {} {} {some} {none}", after(some), after(some));
        assert_eq!(bundle.hoy(&["run", "a"]).ok(), want);
        bundle.script("sleep 1000");
        bundle.leave(&["run", "-d", "a"]);
        let exec = |args: &[&str]| bundle.hoy(&[&["exec"], args, &["a", "sh", "-c", show]].concat()).ok();
        assert_eq!(exec(&[]), want);
        let beyond = ["--cap", "CAP_SYS_ADMIN", "--cap", "CAP_KILL", "--cap", "CAP_SETUID", "--cap", "CAP_SYS_PTRACE"];
        assert_eq!(exec(&beyond), want, "{uid}");
        // The sets of a process of its own are the caller's to say, and what is not said is empty.
        let process = json!({"args": ["sh", "-c", show], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": uid, "gid": 0},
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}});
        fs::write(bundle.path("process.json"), process.to_string()).unwrap();
        let kill = "0000000000000020";
        let want = format!("{none} {} {} {kill} {none}", after(kill), after(kill));
        assert_eq!(bundle.hoy(&["exec", "--process", "process.json", "a"]).ok(), want);
        bundle.hoy(&["delete", "-f", "a"]).ok();
    }
    // What is made for an image has none either.
    let Some(sandbox) = image("1000") else { return };
    for args in [&[][..], &["--user", "0", "--cap-add", "sys_admin"], &["--privileged"]] {
        let config: Value = serde_json::from_str(&spec(&sandbox, args).ok()).unwrap();
        let caps = &config["process"]["capabilities"];
        assert!(caps["inheritable"].as_array().is_none_or(Vec::is_empty), "{args:?} {caps}");
    }
}

/// An unknown capability is left out with a warning.
#[test]
fn an_unknown_capability_is_left_out() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/capabilities", json!({"bounding": ["CAP_CHOWN", "CAP_FLY"]}));
    bundle.script("grep CapBnd /proc/self/status");
    let out = bundle.hoy(&["run", "a"]).output();
    assert_eq!(out.stdout, "CapBnd:\t0000000000000001\n");
    assert!(out.stderr.contains("unknown capability \"CAP_FLY\" is left out"), "{}", out.stderr);
}
