//! More of what went wrong in other builders: races between stages, images with odd settings, credentials in URLs, temporary
//! places, programs that tell others, secrets on command lines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use hoy_tests::{Out, Run, Sandbox, Tripwire, User, busybox_store, need, while_exchanging};

const SECRET: &str = "s3cr3t-on-the-way";

fn build(sandbox: &Sandbox, text: &str, args: &[&str]) -> Out {
    fs::write(sandbox.path("work/Containerfile"), text).unwrap();
    sandbox.run("hoy-build").arg("build").args(args).arg(".").output()
}

/// CVE-2024-11218, CVE-2024-23651: what a mount leads to is exchanged for a link while another stage mounts it.
#[test]
fn stages_that_race() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let tripwire = Tripwire::new(sandbox.path("victim"));
    let victim = tripwire.path().display();
    let mounts = "--mount=type=cache,id=c,target=/c";
    let swap = |at: &str| format!("mv {at}/d {at}/e; mv {at}/link {at}/d; mv {at}/d {at}/link; mv {at}/e {at}/d");
    let mut text = format!(
        "FROM busybox AS shared\nRUN mkdir /d; ln -s {victim} /link\n\
         FROM busybox AS swapper\nRUN {mounts} --mount=type=bind,from=shared,target=/s,rw mkdir -p /c/d; ln -s {victim} /c/link; \
         i=0; while test $i -lt 2000; do {}; {}; i=$((i + 1)); done; rm -r /c/*\n",
        swap("/c"),
        swap("/s")
    );
    for stage in 0..4 {
        text.push_str(&format!("FROM busybox AS s{stage}\n"));
        for step in 0..3 {
            text.push_str(&format!(
                "RUN {mounts} --mount=type=cache,id=c,source=d,target=/inner --mount=type=bind,from=shared,source=/d,target=/s,rw \
                 touch /inner/made{stage}{step} /s/made /c/d/made 2>/dev/null; test ! -e /inner/file -a ! -e /s/file\n"
            ));
        }
    }
    text.push_str("FROM scratch\n");
    for stage in ["swapper", "s0", "s1", "s2", "s3"] {
        text.push_str(&format!("COPY --from={stage} /etc/passwd /{stage}\n"));
    }
    let out = build(&sandbox, &text, &["--jobs", "5", "--no-cache"]);
    assert_eq!(out.status, 0, "{}", out.stderr);
    tripwire.check();
}

/// Names of a working container that are exchanged for links while it is copied into, copied from and committed.
#[test]
fn trees_that_change_meanwhile() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let tripwire = Tripwire::new(sandbox.path("victim"));
    let (one, other) = (sandbox.ok("hoy-build", &["from", "busybox"]), sandbox.ok("hoy-build", &["from", "busybox"]));
    let mounted = |container: &str| std::path::PathBuf::from(sandbox.ok("hoy-build", &["mount", container]));
    let (tree, taken) = (mounted(&one), mounted(&other));
    fs::create_dir(tree.join("d")).unwrap();
    std::os::unix::fs::symlink(tripwire.path(), tree.join("link")).unwrap();
    fs::write(sandbox.path("work/given"), "given").unwrap();
    sandbox.run("tar").args(["-cf", "packed.tar", "given"]).ok();
    while_exchanging(&[(tree.join("d"), tree.join("link"))], || {
        for args in [
            ["copy", "-q", &one, "given", "/d/"],
            ["copy", "-q", &one, "given", "/d/new/place"],
            ["add", "-q", &one, "packed.tar", "/d/unpacked"],
            ["copy", "-q", &other, &format!("--from={one}"), "/d"],
            ["commit", "-q", "--disable-compression", &one, "meanwhile"],
        ] {
            let out = sandbox.run("hoy-build").args(args).output();
            assert!(!out.stderr.contains("panicked"), "{args:?}: {}", out.stderr);
        }
        tripwire.check();
    });
    // What is only outside was never read.
    assert!(!taken.join("file").exists() && !taken.join("d/file").exists());
    sandbox.ok("hoy-storage", &["unpack", "meanwhile", "unpacked"]);
    assert_eq!(sandbox.run("find").args(["unpacked", "-path", "*/d/file", "-o", "-path", "*/link/file"]).ok(), "");
}

/// CVE-2024-23652: what was made to be mounted on is not removed by a path that leads elsewhere by now.
#[test]
fn places_of_mounts_are_no_paths_of_the_host() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let tripwire = Tripwire::new(sandbox.path("victim"));
    let text = format!(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/a/directory --mount=type=bind,source=Containerfile,target=/a/file \
         --mount=type=cache,target=/a/other mv /a /c && ln -s {} /a\n",
        tripwire.path().display()
    );
    let out = build(&sandbox, &text, &["-t", "moved"]);
    assert_eq!(out.status, 0, "{}", out.stderr);
    tripwire.check();
}

/// Settings of an image that nobody checked: each build works or says what is wrong, and reaches nothing.
#[test]
fn images_with_odd_settings() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let tripwire = Tripwire::new(sandbox.path("victim"));
    let victim = tripwire.path().display().to_string();
    let env = |entries: &str| format!(r#"{{"Env":[{entries},"PATH=/bin"]}}"#);
    let user = |user: &str| format!(r#"{{"User":"{user}"}}"#);
    let workdir = |path: &str| format!(r#"{{"WorkingDir":"{path}"}}"#);
    for (number, (config, said)) in [
        // A name alone imports nothing: CVE-2026-57231.
        (env(r#""IMPORTED","IMPORT*","=x","A=b\nC=d""#), ""),
        (env(r#""HOME=/x\u0000y""#), "a NUL byte"),
        (user("4294967296"), "a number from 0 to"),
        (user("-1"), "unknown user"),
        (user("0:0:0"), "neither a name nor an id"),
        (user("../../etc/passwd"), "does not have it"),
        (workdir("/proc/self/fd/7"), "a directory of /proc"),
        (workdir("/proc/self/cwd/../../../../.."), ""),
        (workdir(&format!("../../../../../../../..{victim}")), "not an absolute path"),
        (workdir(&format!("/../../../../../../../..{victim}")), ""),
        (format!(r#"{{"Volumes":{{"../../../../..{victim}":{{}}, "":{{}}}}}}"#), ""),
        (r#"{"Labels":{"io.podman.annotations.privileged":"TRUE","run.oci.handler":"x"}}"#.to_owned(), ""),
        (r#"{"OnBuild":["FROM other"]}"#.to_owned(), "ONBUILD"),
        (r#"{"OnBuild":["ONBUILD RUN x"]}"#.to_owned(), "ONBUILD"),
        (r#"{"OnBuild":["COPY ../../../../etc/shadow /x"]}"#.to_owned(), "no source matches"),
        (r#"{"StopSignal":"9999999999","ExposedPorts":{"x":{},"99999/tcp":{}}}"#.to_owned(), ""),
    ]
    .iter()
    .enumerate()
    {
        let layout = sandbox.path(&format!("odd{number}"));
        let source = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
        Run::new("skopeo").args(["copy", "-q", &source]).arg(format!("oci:{}:odd:1", layout.display())).ok();
        with_config(&layout, config);
        let from = format!("oci:{}:odd:1", layout.display());
        sandbox.ok("hoy-copy", &["copy", "-q", &from, &format!("store:odd{number}")]);
        let text = format!(
            "FROM odd{number}\nRUN touch made; env; grep -E 'Uid|CapBnd' /proc/self/status\nCOPY Containerfile .\n\
             WORKDIR rel\nRUN ln -s {victim} link\nWORKDIR link/deep\nRUN touch made\n"
        );
        fs::write(sandbox.path("work/Containerfile"), text).unwrap();
        let out = sandbox.run("hoy-build").args(["build", "--no-cache", "."]).env("IMPORTED", SECRET).output();
        let has = |words: &str| out.stderr.contains(words);
        assert!(!has("panicked") && !has(SECRET), "{config}: {}", out.stderr);
        if said.is_empty() {
            assert!(out.status == 0 && has("CapBnd:\t00000000800405fb"), "{config}: {}", out.stderr);
        } else {
            assert!(out.status == 125 && has(said) && !has("CapBnd:"), "{config}: {}", out.stderr);
        }
        tripwire.check();
    }
}

/// Gives the one image of a layout another `config`, and right digests.
fn with_config(layout: &std::path::Path, inner: &str) {
    let script = "cd \"$0\"/blobs/sha256; sum() { sha256sum \"$1\" | cut -d' ' -f1; }; \
        manifest=$(jq -r '.manifests[0].digest[7:]' ../../index.json); config=$(jq -r '.config.digest[7:]' $manifest); \
        jq -c --argjson new \"$1\" '.config = ({Env: [\"PATH=/bin\"]} + $new)' $config > new; new=$(sum new); mv new $new; \
        jq -c --arg digest sha256:$new --argjson size $(stat -c %s $new) '.config.digest = $digest | .config.size = $size' $manifest > m; \
        to=$(sum m); mv m $to; jq -c --arg digest sha256:$to --argjson size $(stat -c %s $to) \
        '.manifests[0].digest = $digest | .manifests[0].size = $size' ../../index.json > ../../i; mv ../../i ../../index.json";
    Run::new("sh").args(["-ec", script]).arg(layout).arg(inner).ok();
}

/// CVE-2026-33747, CVE-2024-23650, GHSA-7236-3392-c5c6: no frontend is fetched or run; a command has the sandbox that it is
/// said to have, and neither a Containerfile nor an image takes that away.
#[test]
fn no_frontend_and_the_whole_sandbox() {
    for user in [User::Root, User::Sub, User::One] {
        let Some(sandbox) = busybox_store(user) else { return };
        let text = "# syntax=no-such-host.invalid/evil:latest\nFROM busybox\n\
            RUN cat /proc/self/status; cat /proc/sys/kernel/core_pattern > /dev/null; ls /proc/acpi /sys/firmware; \
            touch /proc/sys/kernel/x /sys/x 2>&1; cat /proc/net/dev\n";
        let out = build(&sandbox, text, &["--no-cache"]);
        assert_eq!(out.status, 0, "{user:?}: {}", out.stderr);
        let has = |line: &str| out.stderr.lines().any(|told| told.replace('\t', " ").contains(line));
        assert!(has("Seccomp: 2") && !has("CapEff: 000001ff"), "{user:?}: {}", out.stderr);
        // CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_NET_ADMIN, CAP_SYS_MODULE.
        let bounding = out.stderr.lines().find_map(|line| line.split_once("CapBnd:")).unwrap().1.trim().to_owned();
        let bounding = u64::from_str_radix(&bounding, 16).unwrap();
        assert_eq!(bounding & (1 << 21 | 1 << 19 | 1 << 12 | 1 << 16), 0, "{user:?}: {bounding:x}");
        assert!(!has("eth0") && has("lo:"), "{user:?}: {}", out.stderr);
        let insecure = "RUN --security=insecure cat /proc/self/status";
        let base = build(&sandbox, &format!("FROM busybox\nONBUILD {insecure}\n"), &["-t", "base"]);
        assert_eq!(base.status, 0, "{user:?}: {}", base.stderr);
        for text in [format!("FROM busybox\n{insecure}\n"), "FROM base\n".to_owned()] {
            let out = build(&sandbox, &text, &[]);
            let is_refused = out.status == 125 && out.stderr.contains("--allow security.insecure");
            assert!(is_refused && !out.stderr.contains("Seccomp:"), "{user:?} {text}: {}", out.stderr);
        }
    }
}

/// CVE-2025-0495: a build that fetches nothing speaks to nobody.
#[test]
fn nobody_is_told_of_a_build() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    if !need(&["strace"]) {
        return;
    }
    fs::write(sandbox.path("work/Containerfile"), "FROM busybox\nRUN echo a > /a\nCOPY Containerfile /\n").unwrap();
    let log = sandbox.path("log");
    let own = hoy_tests::program("hoy-build");
    let traced = sandbox.run("strace").args(["-f", "-qq", "-e", "trace=connect,sendto,sendmsg,socket", "-o"]).arg(&log);
    let out = traced.arg(own).args(["build", "."]).output();
    assert_eq!(out.status, 0, "{}", out.stderr);
    let calls = fs::read_to_string(&log).unwrap();
    let told: Vec<&str> = calls.lines().filter(|call| call.contains("AF_INET") && !call.contains("NETLINK")).collect();
    assert!(told.iter().all(|call| call.contains("socket(")), "{told:#?}");
}

/// CVE-2020-27534: where a build works, nobody else can look or put anything before it.
#[test]
fn temporary_places_are_private() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        let text = "FROM busybox\nRUN --mount=type=bind,target=/c --mount=type=cache,target=/d sleep 103\n";
        fs::write(sandbox.path("work/Containerfile"), text).unwrap();
        let mut child = sandbox.run("sh").args(["-c", "umask 0; exec hoy-build build ."]).spawn();
        let start = Instant::now();
        let temporary = || {
            let entries = fs::read_dir(sandbox.path("root/build")).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.path())
                .find(|path| path.join("0").exists() && sandbox.path("root/build/mounts").exists())
        };
        let found = loop {
            match temporary() {
                Some(path) => break path,
                None => assert!(start.elapsed() < Duration::from_secs(60), "no build begins"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&found), mode(&sandbox.path("root/build/mounts"))), (0o700, 0o700), "{user:?}");
        let name = found.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.trim_start_matches(".tmp-").len() >= 12, "{name} could be guessed");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Secrets are on no command line and in no file while a build runs, and in none afterwards.
#[test]
fn secrets_are_on_no_command_line() {
    // Another run of this test looks for its own.
    let hidden = &format!("{SECRET}-{}", std::process::id());
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        fs::write(sandbox.path("home/secret"), hidden).unwrap();
        fs::set_permissions(sandbox.path("home/secret"), fs::Permissions::from_mode(0o644)).unwrap();
        let secret = format!("id=s,src={}", sandbox.path("home/secret").display());
        let text = "FROM busybox\nARG TOKEN\nRUN --mount=type=secret,id=s --mount=type=secret,id=e,env=E touch /begun; sleep 4; test -n \"$E\"\n";
        fs::write(sandbox.path("work/Containerfile"), text).unwrap();
        let run = sandbox.run("hoy-build").args(["build", "--secret", &secret, "--secret", "id=e,env=GIVEN", "."]);
        let mut child = run.env("GIVEN", hidden).spawn();
        let (start, mut looks) = (Instant::now(), 0);
        while child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "it does not end");
            for process in fs::read_dir("/proc").unwrap().flatten() {
                let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                assert!(!String::from_utf8_lossy(&line).contains(hidden), "{}", String::from_utf8_lossy(&line));
            }
            let found =
                Run::new("grep").args(["-rlaF", hidden]).arg(sandbox.path("root")).arg(sandbox.path("run")).output();
            // The value of a variable is in the command's configuration, which lies in memory that only the build sees.
            assert_eq!(found.stdout, "", "{user:?}");
            looks += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(looks > 10);
        assert!(child.wait().unwrap().success());
        let found =
            Run::new("grep").args(["-rlaF", hidden]).arg(sandbox.path("root")).arg(sandbox.path("run")).output();
        assert_eq!(found.stdout, "", "{user:?}");
    }
}
