//! What the commands of a build are given beside the image: names, standard input, control groups, devices, agents.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;

use hoy_tests::{Out, Run, Sandbox, User, busybox_store, need};

/// Builds this Containerfile without a cache.
fn build(sandbox: &Sandbox, text: &str, args: &[&str], stdin: &str) -> Out {
    fs::write(sandbox.path("work/Containerfile"), text).unwrap();
    let build = sandbox.run("hoy-build").args(["build", "--no-cache", "-t", "made"]).args(args);
    build.arg(".").stdin(stdin).output()
}

fn names_and_input(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let shows = "FROM busybox\nRUN cat /etc/resolv.conf; cat /etc/hosts; true\n";
    let dns = ["--dns=192.0.2.53", "--dns-search", "one.example", "--dns-option", "use-vc"];
    let told = build(&sandbox, shows, &dns, "").stderr;
    assert!(told.contains("\nsearch one.example\nnameserver 192.0.2.53\noptions use-vc\n"), "{user:?}: {told}");
    let none = build(&sandbox, shows, &["--network=none", "--dns-search=a"], "");
    assert!(none.status == 125 && none.stderr.contains("--dns-search option cannot be used"), "{}", none.stderr);
    let both = build(&sandbox, shows, &["--no-hosts", "--add-host=a:192.0.2.1"], "");
    assert!(both.status == 125 && both.stderr.contains("conflict"), "{}", both.stderr);
    fs::write(sandbox.path("work/hosts"), "192.0.2.9 of-the-image\n").unwrap();
    let own = "FROM busybox\nCOPY hosts /etc/hosts\nRUN cat /etc/hosts\n";
    let host = ["--network=host", "--no-hostname"];
    let told = build(&sandbox, own, &host, "").stderr;
    assert!(!told.contains("of-the-image\n"), "{user:?}: {told}");
    let told = build(&sandbox, own, &[&host[..], &["--no-hosts"]].concat(), "").stderr;
    assert!(told.contains("\n192.0.2.9 of-the-image\n"), "{user:?}: {told}");
    // What a command reads is its own business, and no cache's.
    let reads = "FROM busybox\nRUN read word; echo got-$word >/word; cat /word\n";
    assert!(build(&sandbox, reads, &[], "one\n").stderr.contains("\ngot-\n"), "{user:?}");
    let reading = |word: &str| {
        let run = sandbox.run("hoy-build").args(["build", "--stdin", "-t", "made", "."]).stdin(word);
        run.output().stderr
    };
    assert!(reading("one\n").contains("\ngot-one\n"), "{user:?}");
    assert!(reading("two\n").contains("\ngot-two\n"), "{user:?}");
    let twice = build(&sandbox, reads, &["--stdin", "-f", "-"], "FROM busybox\n");
    assert!(twice.status == 125 && twice.stderr.contains("--stdin"), "{}", twice.stderr);
}

#[test]
fn names_and_input_for_root() {
    names_and_input(User::Root);
}

#[test]
fn names_and_input_for_ordinary_users() {
    names_and_input(User::Sub);
    names_and_input(User::One);
}

/// An agent of the build's own has the keys of files, and a socket that whoever it is for may use.
fn keys(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    if !need(&["ssh-agent", "ssh-add", "ssh-keygen"]) {
        return;
    }
    let work = sandbox.path("work");
    for (file, secret) in [("key", ""), ("locked", "secret")] {
        let args = ["-q", "-t", "ed25519", "-C", "the-key-of-a-test", "-N", secret, "-f", file];
        sandbox.run("ssh-keygen").args(args).ok();
    }
    // The image has no ssh: the host's is shown to the command.
    let list = "/host/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path /host/lib/x86_64-linux-gnu /host/bin/ssh-add -l";
    let mounted = |options: &str, more: &str| {
        let text = format!("FROM busybox\nRUN --mount=type=ssh{options} {list}; {more} true\n");
        build(&sandbox, &text, &["--ssh", "default=key", "--volume", "/usr:/host:ro"], "")
    };
    for (options, more, want) in [
        ("", "", ""),
        (",id=default,dst=/agent,uid=1000,gid=1001,mode=0444", "stat -c '%a %u %g' /agent;", "\n444 1000 1001\n"),
    ] {
        let out = mounted(options, more);
        let told = &out.stderr;
        if user == User::One && !options.is_empty() {
            assert!(out.status == 125 && told.contains("cannot belong to the uid and gid"), "{told}");
            continue;
        }
        assert!(out.status == 0 && told.contains("the-key-of-a-test") && told.contains(want), "{user:?}: {told}");
    }
    let text = format!("FROM busybox\nUSER 1000\nRUN --mount=type=ssh,uid=1000 {list}\n");
    let out = build(&sandbox, &text, &["--ssh", "default=key", "--volume", "/usr:/host:ro"], "");
    assert!(user == User::One || out.stderr.contains("the-key-of-a-test"), "{user:?}, as another user: {}", out.stderr);
    let ssh = |value: &str| build(&sandbox, "FROM busybox\nRUN --mount=type=ssh true\n", &["--ssh", value], "");
    for (value, why) in [("default=locked", "passphrase"), ("default=none", "no socket of an agent, and no file")] {
        let out = ssh(value);
        assert!(out.status == 125 && out.stderr.contains(why), "{user:?} {value}: {}", out.stderr);
    }
    let left = fs::read_dir("/proc").unwrap().flatten().filter(|process| {
        let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        line.starts_with("ssh-agent")
            && fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&work))
    });
    assert_eq!(left.count(), 0, "{user:?}: no agent stays");
}

#[test]
fn keys_for_root() {
    keys(User::Root);
}

#[test]
fn keys_for_ordinary_users() {
    keys(User::Sub);
    keys(User::One);
}

#[test]
fn devices_of_a_directory() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let directory = sandbox.path("work/devices");
    fs::create_dir_all(directory.join("deep")).unwrap();
    for (name, minor) in [("none", "3"), ("deep/zero", "5")] {
        Run::new("mknod").arg(directory.join(name)).args(["c", "1", minor]).ok();
    }
    let shown = format!("{}:/dev/some", directory.display());
    let text = "FROM busybox\nRUN head -c 3 /dev/some/deep/zero | wc -c; ls -R /dev/some\n";
    let out = build(&sandbox, text, &["--device", &shown], "");
    assert!(out.status == 0 && out.stderr.contains("\n3\n") && out.stderr.contains("\nnone\n"), "{}", out.stderr);
    let empty = build(&sandbox, text, &["--device", "/etc/ssl:/dev/some"], "");
    assert!(empty.status == 125 && empty.stderr.contains("no device in the directory"), "{}", empty.stderr);
}

/// Those of containers, for root alone.
#[test]
fn capabilities() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    if u64::from_str_radix(own.trim(), 16).unwrap() & 0x880c05fb != 0x880c05fb {
        return hoy_tests::skip("this process may not have all capabilities of a build");
    }
    let text = "FROM busybox\nRUN mknod /null c 1 3; echo text >/null; grep Cap /proc/self/status\n";
    let told = build(&sandbox, text, &["--cap-add=mknod"], "").stderr;
    assert!(told.contains("\nCapEff:\t00000000880405fb\nCapBnd:\t00000000880405fb\n"), "{told}");
    let user = "FROM busybox\nUSER 7\nRUN grep Cap /proc/self/status\n";
    let told = build(&sandbox, user, &["--cap-add=sys_ptrace"], "").stderr;
    assert!(told.contains("\nCapEff:\t0000000000000000\nCapBnd:\t00000000800c05fb\n"), "{told}");
    let told = build(&sandbox, user, &["--cap-drop=cap_chown,cap_dac_override,cap_fowner"], "").stderr;
    assert!(told.contains("\nCapBnd:\t00000000800405f0\n"), "{told}");
    sandbox.ok("hoy-build", &["from", "--name", "c", "busybox"]);
    let run = sandbox.ok("hoy-build", &["run", "c", "grep", "CapBnd", "/proc/self/status"]);
    assert_eq!(run, "CapBnd:\t00000000800405fb");
}

#[test]
fn a_control_group_for_commands() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let text = "FROM busybox\nRUN cat /proc/self/cgroup\n";
    let parent = format!("hoy-test-{}", std::process::id());
    let args = ["--cgroupns=host", "--cgroup-parent", &parent];
    let out = build(&sandbox, text, &args, "");
    if out.status != 0 && out.stderr.contains("read-only file system") {
        return hoy_tests::skip("no control group can be made here");
    }
    assert!(out.status == 0 && out.stderr.contains(&format!("/{parent}/")), "{}", out.stderr);
    let plain = build(&sandbox, text, &args[..1], "").stderr;
    assert!(!plain.contains(&parent), "{plain}");
    sandbox.ok("hoy-build", &[&["from", "--name", "c"][..], &args, &["busybox"]].concat());
    let ran = sandbox.ok("hoy-build", &["run", "c", "cat", "/proc/self/cgroup"]);
    assert!(ran.contains(&format!("/{parent}/")), "{ran}");
    // The parent stays, as every runtime leaves it, and is empty.
    let left = Run::new("find").args(["/sys/fs/cgroup", "-maxdepth", "2", "-name", &parent]).output().stdout;
    assert!(!left.is_empty() && left.lines().all(|group| fs::remove_dir(group).is_ok()), "{left}");
    let chroot = build(&sandbox, text, &["--isolation=chroot", "--cgroup-parent", &parent], "");
    assert!(chroot.status == 125 && chroot.stderr.contains("--cgroup-parent cannot be had"), "{}", chroot.stderr);
    let none = build(&sandbox, text, &["--isolation=chroot", "--network=none"], "");
    assert!(none.stderr.contains("cannot set --network other than host with --isolation chroot"), "{}", none.stderr);
}
