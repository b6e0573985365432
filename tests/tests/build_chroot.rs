//! `--isolation chroot`: commands in a changed root directory, for where nothing else can be had.

use std::fs;

use hoy_tests::{Out, Sandbox, User, busybox_store, need};

fn build(sandbox: &Sandbox, text: &str, args: &[&str]) -> Out {
    fs::write(sandbox.path("work/Containerfile"), text).unwrap();
    sandbox.run("hoy-build").args(["build", "--isolation", "chroot", "--no-cache"]).args(args).arg(".").output()
}

#[test]
fn mounts_are_there_for_the_time() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    fs::write(sandbox.path("work/file"), "context").unwrap();
    let text = "FROM busybox AS other\nRUN mkdir /d && echo x > /d/x && chown 5:6 /d/x && ln -s / /up\n\
        FROM busybox\nRUN mkdir -p /etc /full && echo mine > /etc/hosts && echo kept > /full/kept && ln -s /../../full /link\n\
        RUN --mount=type=cache,target=/link/cache --mount=type=tmpfs,target=/full/t --mount=type=bind,target=/c,rw \
        --mount=type=bind,from=other,source=/d,target=/full/d touch /full/cache/made /full/t/x && \
        test \"$(cat /c/file)\" = context && test \"$(stat -c %u:%g /full/d/x)\" = 5:6 && echo changed > /c/file\n\
        RUN --mount=type=cache,target=/link/cache test -e /full/cache/made && test \"$(cat /etc/hosts)\" != mine\n\
        RUN --mount=type=tmpfs,target=/full test ! -e /full/kept; cat /dev/null > /copied && cat </proc/self/status >/dev/null\n\
        RUN <<EOF\n#!/bin/sh\ntest \"$(cat /full/kept)\" = kept && printf '%s' done > /dev/stdout\nEOF\n\
        USER 1000:1000\nRUN echo x >/dev/null && test \"$(id -u)\" = 1000 && ! touch /etc/x\n";
    let out = build(&sandbox, text, &["-t", "built"]);
    assert_eq!(out.status, 0, "{}", out.stderr);
    assert_eq!(fs::read_to_string(sandbox.path("work/file")).unwrap(), "context", "a copy was changed");
    sandbox.ok("hoy-storage", &["unpack", "built", "tree"]);
    let tree = sandbox.path("work/tree");
    assert_eq!(fs::read_to_string(tree.join("etc/hosts")).unwrap(), "mine\n");
    let names = |path: &str| {
        let entries = fs::read_dir(tree.join(path)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((names("full"), names("dev"), names("proc")), (vec!["kept".to_owned()], vec![], vec![]));
    assert!(!tree.join("c").exists() && fs::metadata(tree.join("copied")).unwrap().len() == 0);
}

/// CVE-2021-3602, where nothing but the root directory keeps them apart.
#[test]
fn commands_get_out_of_nothing_and_leave_nobody() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    // A number that no other test waits for.
    let seconds = 1_000_000 + std::process::id();
    let text = format!(
        "FROM busybox\nRUN (setsid sleep {seconds}1 &); (sleep {seconds}2 &); cat /proc/self/status; \
        cat /proc/$PPID/environ /proc/self/environ /proc/1/root/etc/passwd /dev/../etc/shadow; ls /proc/self/root; \
        chroot / true; echo told\n"
    );
    fs::write(sandbox.path("work/Containerfile"), text).unwrap();
    let run = sandbox.run("hoy-build").args(["build", "--isolation", "chroot", "."]).env("CI_TOKEN", "s3cret-of-ci");
    let out = run.output();
    assert_eq!(out.status, 0, "{}", out.stderr);
    assert!(out.stderr.contains("told") && !out.stderr.contains("s3cret-of-ci"), "{}", out.stderr);
    let bounding = out.stderr.lines().find_map(|line| line.split_once("CapBnd:")).unwrap().1.trim().to_owned();
    let bounding = u64::from_str_radix(&bounding, 16).unwrap();
    // CAP_SYS_CHROOT, CAP_SYS_PTRACE, CAP_SYS_ADMIN.
    assert_eq!(bounding & (1 << 18 | 1 << 19 | 1 << 21), 0, "{bounding:x}");
    assert!(out.stderr.contains("Operation not permitted"), "no second root directory: {}", out.stderr);
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        assert!(!line.starts_with(&format!("sleep\0{seconds}")), "{line:?} is left");
    }
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    fs::write(sandbox.path("work/s"), "hidden-value").unwrap();
    let secret = ["--secret", "id=s,src=s"];
    let run = |line: &str, args: &[&str], words: &[&str]| {
        let out = build(&sandbox, &format!("FROM busybox\nRUN {line}\n"), args);
        assert!(out.status == 125 && words.iter().all(|word| out.stderr.contains(word)), "{line}: {}", out.stderr);
    };
    run("--mount=type=secret,id=s true", &secret, &["the secret \"s\"", "env="]);
    run("--mount=type=tmpfs,target=/t,size=1m true", &[], &["/t", "size"]);
    run("--network=none true", &[], &["--network=none"]);
    run("--security=insecure true", &["--allow", "security.insecure"], &["insecure"]);
    for option in [
        "--userns=private",
        "--memory=1g",
        "--cpus=1",
        "--ulimit=nofile=9",
        "--volume=/a:/b",
        "--device=/dev/null",
        "--shm-size=1m",
    ] {
        run("true", &[option], &[option.split('=').next().unwrap_or_default(), "chroot"]);
    }
    let out = build(&sandbox, "FROM busybox\nRUN --mount=type=secret,id=s,env=S test ${#S} = 12\n", &secret);
    assert_eq!(out.status, 0, "{}", out.stderr);
    let container = sandbox.ok("hoy-build", &["from", "-q", "busybox"]);
    for (command, want) in
        [(&["true"][..], 0), (&["sh", "-c", "exit 9"], 9), (&["no-such-command"], 127), (&["/etc"], 126)]
    {
        let out =
            sandbox.run("hoy-build").args(["run", "--isolation", "chroot", &container, "--"]).args(command).output();
        assert_eq!(out.status, want, "{command:?}: {}", out.stderr);
    }
    assert_eq!(sandbox.ok("hoy-storage", &["diff", &container]), "");
    let mapped = sandbox.ok("hoy-build", &["from", "-q", "--userns-uid-map=0:1000:9", "busybox"]);
    sandbox
        .run("hoy-build")
        .args(["run", "--isolation", "chroot", &mapped, "true"])
        .fails(125, &["--userns", "chroot"]);
    if let Some(sandbox) = busybox_store(User::Sub) {
        let out = build(&sandbox, "FROM busybox\nRUN true\n", &[]);
        assert!(out.status == 125 && out.stderr.contains("only root"), "{}", out.stderr);
    }
}

/// Who may not mount, and is in a changed root directory, in which the kernel makes no user namespace: what is left is
/// chosen, and told.
#[test]
fn it_is_chosen_where_there_is_no_other() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !need(&["unshare", "setpriv"]) {
        return;
    }
    let text = "FROM busybox\nRUN id -u > /made; chown 7:8 /made; grep CapBnd /proc/self/status\n";
    fs::write(sandbox.path("work/Containerfile"), text).unwrap();
    let confined = |args: &str| {
        let script = format!(
            "mkdir -p root && mount --rbind / root && exec chroot root setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \
             sh -c 'cd {} && exec {} build --no-cache {args} .'",
            sandbox.path("work").display(),
            hoy_tests::program("hoy-build").display()
        );
        sandbox.run("unshare").args(["-m", "sh", "-ec", &script]).output()
    };
    let out = confined("-t chosen");
    assert_eq!(out.status, 0, "{}", out.stderr);
    assert!(out.stderr.contains("isolation chroot, for there is no other here"), "{}", out.stderr);
    let out = confined("--isolation oci");
    assert!(
        out.status != 0 && out.stderr.contains("user namespace"),
        "what is asked for is not exchanged: {}",
        out.stderr
    );
    let out = sandbox.run("hoy-build").args(["build", "--no-cache", "-t", "best", "."]).output();
    assert!(out.status == 0 && !out.stderr.contains("isolation chroot"), "{}", out.stderr);
    let digest =
        |image: &str| sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &format!("store:{image}")]);
    assert_eq!(digest("chosen"), digest("best"));
}

/// Where there is one id besides, owners and devices are written down, and the image is root's.
#[test]
fn owners_and_devices_are_on_paper_where_there_is_one_id() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !need(&["unshare", "setpriv"]) {
        return;
    }
    let text = "FROM busybox\nRUN mkdir /d && mknod -m 640 /d/disk b 8 1 && chown 7:8 /d /d/disk && mknod /d/pipe p\n";
    fs::write(sandbox.path("work/Containerfile"), text).unwrap();
    let script = format!(
        "exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin {} build --isolation chroot --cap-add MKNOD \
         --no-cache -t alone .",
        hoy_tests::program("hoy-build").display()
    );
    sandbox.run("unshare").args(["-rm", "sh", "-ec", &script]).ok();
    sandbox.ok("hoy-build", &["build", "-q", "--no-cache", "--cap-add", "MKNOD", "-t", "root", "."]);
    let digest =
        |image: &str| sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &format!("store:{image}")]);
    assert_eq!(digest("alone"), digest("root"));
}
