//! What the program of a container is given: runtime-spec config.md "Process".

use std::fs;
use std::os::unix::fs::PermissionsExt;

use hoy_tests::{Bundle, User, cannot};
use serde_json::{Value, json};

const ALL: &[User] = &[User::Root, User::Sub, User::One];

#[test]
fn arguments_environment_and_directory() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.script("echo \"$0 $1\"; echo $FOO; pwd");
        bundle.push("/process/args", json!("zero"));
        bundle.push("/process/args", json!("one word"));
        bundle.push("/process/env", json!("FOO=bar=baz"));
        bundle.set("/process/cwd", json!("/bin"));
        assert_eq!(bundle.tested(&["run", "a"]).ok(), "zero one word\nbar=baz\n/bin", "{user:?}");
    }
}

#[test]
fn the_environment_is_the_configurations() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.set("/process/env", json!(["PATH=/bin", "A=1", "B=x y", "C="]));
        bundle.set("/process/args", json!(["/bin/busybox", "env"]));
        let out = bundle.tested(&["run", "a"]).env("OUTSIDE", "1").ok();
        // HOME is the one that runtimes add where it is missing.
        let mut lines: Vec<&str> = out.lines().filter(|line| !line.starts_with("HOME=")).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["A=1", "B=x y", "C=", "PATH=/bin"], "{user:?}");
    }
}

#[test]
fn the_program_is_found_by_the_containers_path() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        fs::create_dir(bundle.path("rootfs/own")).unwrap();
        for (name, mode) in [("tool", 0o755), ("text", 0o644)] {
            let path = bundle.path("rootfs/own").join(name);
            fs::write(&path, "#!/bin/sh\necho own\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        bundle.set("/process/env", json!(["PATH=/nowhere:/own:/bin"]));
        bundle.set("/process/args", json!(["tool"]));
        assert_eq!(bundle.tested(&["run", "a"]).ok(), "own");
        for missing in ["no-such-program", "/no/such/program", "text", "/own/text", "/own", ""] {
            bundle.set("/process/args", json!([missing]));
            let out = bundle.tested(&["run", "a"]).output();
            assert!(out.status != 0 && out.stdout.is_empty() && !out.stderr.is_empty(), "{missing}");
        }
        for args in [json!([]), Value::Null] {
            bundle.set("/process/args", args);
            assert_ne!(bundle.tested(&["run", "a"]).output().status, 0);
        }
    }
}

#[test]
fn a_directory_that_is_missing_is_made() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.set("/process/cwd", json!("/made/deep"));
        bundle.script("pwd");
        assert_eq!(bundle.tested(&["run", "a"]).ok(), "/made/deep", "{user:?}");
    }
}

#[test]
fn the_directory_is_absolute() {
    if cannot(&[("crun", "1.8.1 takes a relative process.cwd")]) {
        return;
    }
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.set("/process/cwd", json!("bin"));
        assert_ne!(bundle.tested(&["run", "a"]).output().status, 0);
    }
}

#[test]
fn exit_codes_are_the_programs() {
    for (user, mut bundle) in Bundle::each(ALL) {
        for (script, want) in
            [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)]
        {
            // The first process of a PID namespace is not killed by itself.
            let script = format!("sh -c '{script}'; exit $?");
            bundle.script(&script);
            assert_eq!(bundle.tested(&["run", "a"]).output().status, want, "{user:?} {script}");
        }
    }
}

#[test]
fn standard_streams_are_the_callers() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.script("cat; echo error >&2; [ -t 0 ] || [ -t 1 ] || echo no terminal");
        let out = bundle.tested(&["run", "a"]).stdin("input\n").output();
        assert_eq!(out.stdout, "input\nno terminal\n", "{user:?} {}", out.stderr);
        assert!(out.stderr.contains("error\n"), "{user:?} {}", out.stderr);
    }
}

#[test]
fn standard_streams_can_be_opened_again() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("echo out > /dev/stdout; echo error > /dev/stderr; cat /dev/stdin");
        for uid in [0, 1000] {
            bundle.set("/process/user", json!({"uid": uid, "gid": 0}));
            let out = bundle.tested(&["run", "a"]).stdin("input\n").output();
            assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\ninput\n", "error\n"), "{uid}");
        }
    }
}

#[test]
fn no_new_privileges() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.script("grep NoNewPrivs: /proc/self/status");
        for (given, want) in [(json!(true), 1), (json!(false), 0), (Value::Null, 0)] {
            bundle.set("/process/noNewPrivileges", given);
            assert_eq!(bundle.tested(&["run", "a"]).ok(), format!("NoNewPrivs:\t{want}"), "{user:?}");
        }
    }
}

#[test]
fn a_set_id_program_gains_nothing_with_no_new_privileges() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        fs::copy("/bin/busybox", bundle.path("rootfs/id")).unwrap();
        fs::set_permissions(bundle.path("rootfs/id"), fs::Permissions::from_mode(0o4755)).unwrap();
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        bundle.set("/process/args", json!(["/id", "-u"]));
        for (given, want) in [(true, "1000"), (false, "0")] {
            bundle.set("/process/noNewPrivileges", json!(given));
            let out = bundle.tested(&["run", "a"]).ok();
            // busybox gives the right up itself, and says whom it was started as only by its effective user.
            assert!(out == want || !given, "{given}: {out}");
        }
    }
}

#[test]
fn the_score_of_the_out_of_memory_killer() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.script("cat /proc/self/oom_score_adj");
        for score in [500, 1000] {
            bundle.set("/process/oomScoreAdj", json!(score));
            assert_eq!(bundle.tested(&["run", "a"]).ok(), score.to_string(), "{user:?}");
        }
        bundle.set("/process/oomScoreAdj", json!(1001));
        let out = bundle.tested(&["run", "a"]).output();
        assert_ne!(out.status, 0, "{user:?}: {}", out.stdout);
    }
}

#[test]
fn descriptors_are_kept_when_asked() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("ls /proc/self/fd | tr '\\n' ' '; [ -e /proc/self/fd/4 ] && cat <&4");
        fs::write(bundle.path("kept"), "kept").unwrap();
        let run = |args: &[&str]| {
            let command = bundle.tested(args);
            let shown: Vec<String> = {
                let mut command = command;
                let command = command.command();
                std::iter::once(command.get_program())
                    .chain(command.get_args())
                    .map(|part| part.to_string_lossy().into_owned())
                    .collect()
            };
            // The shell opens two descriptors and becomes the runtime.
            hoy_tests::Run::new("sh")
                .args(["-c", "exec 3< kept 4< kept; exec \"$0\" \"$@\""])
                .args(shown)
                .dir(bundle.path("."))
                .output()
        };
        let none = run(&["run", "a"]);
        assert!(!none.stdout.contains("kept") && none.status != 0, "{} {}", none.stdout, none.stderr);
        let two = run(&["run", "--preserve-fds", "2", "a"]);
        assert_eq!(
            (two.stdout.trim_start_matches("0 1 2 3 4 ").ends_with("kept"), two.status),
            (true, 0),
            "{}",
            two.stderr
        );
    }
}
