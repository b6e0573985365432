//! A container's life as its callers see it: runtime-spec runtime.md.

use std::fs;
use std::time::{Duration, Instant};

use hoy_tests::{Bundle, User, cannot};
use serde_json::{Value, json};

const ALL: &[User] = &[User::Root, User::Sub, User::One];

#[track_caller]
fn state(bundle: &Bundle) -> Value {
    serde_json::from_str(&bundle.tested(&["state", "a"]).ok()).expect("the state is JSON")
}

#[track_caller]
fn wait_for(bundle: &Bundle, status: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    while state(bundle)["status"] != status {
        assert!(Instant::now() < until, "never {status}: {}", state(bundle));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn fails(bundle: &Bundle, args: &[&str]) {
    let out = bundle.tested(args).output();
    assert_ne!(out.status, 0, "{args:?} {}", out.stdout);
    assert!(!out.stderr.is_empty(), "{args:?} fails without a word");
}

#[test]
fn created_running_stopped() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.script("echo began >> /log; sleep 1000");
        bundle.set("/annotations", json!({"org.example.a": "1", "org.example.b": ""}));
        bundle.leave_tested(&["create", "a"]);
        let created = state(&bundle);
        assert_eq!((&created["id"], &created["status"]), (&json!("a"), &json!("created")), "{user:?}");
        assert!(created["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{created}");
        assert_eq!(created["bundle"], json!(bundle.path("").to_str().unwrap().trim_end_matches('/')), "{user:?}");
        assert_eq!(created["annotations"]["org.example.a"], "1");
        let pid = created["pid"].as_i64().unwrap();
        assert!(fs::exists(format!("/proc/{pid}")).unwrap());
        assert!(!bundle.path("rootfs/log").exists(), "{user:?}: the program began before start");
        bundle.leave_tested(&["start", "a"]);
        wait_for(&bundle, "running");
        assert_eq!(state(&bundle)["pid"], pid);
        let until = Instant::now() + Duration::from_secs(10);
        while !bundle.path("rootfs/log").exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        fails(&bundle, &["start", "a"]);
        fails(&bundle, &["delete", "a"]);
        assert_eq!(state(&bundle)["status"], "running", "{user:?}");
        bundle.tested(&["kill", "a", "KILL"]).ok();
        wait_for(&bundle, "stopped");
        assert!(matches!(state(&bundle)["pid"].as_i64(), None | Some(0)), "{user:?}");
        fails(&bundle, &["start", "a"]);
        fails(&bundle, &["kill", "a", "TERM"]);
        bundle.tested(&["delete", "a"]).ok();
        fails(&bundle, &["state", "a"]);
        fails(&bundle, &["delete", "a"]);
        assert_eq!(fs::read_to_string(bundle.path("rootfs/log")).unwrap(), "began\n", "{user:?}");
    }
}

#[test]
fn what_is_not_there() {
    for (_, bundle) in Bundle::each(&[User::Root]) {
        for command in ["state", "start", "delete"] {
            fails(&bundle, &[command, "none"]);
        }
        fails(&bundle, &["kill", "none", "TERM"]);
        fails(&bundle, &["create"]);
        fails(&bundle, &["state"]);
        fails(&bundle, &["create", "--bundle", "/no/such/bundle", "a"]);
        // Force makes what is gone no failure.
        bundle.tested(&["delete", "--force", "none"]).ok();
    }
}

#[test]
fn ids_are_unique_and_plain() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("sleep 1000");
        bundle.leave_tested(&["create", "a"]);
        fails(&bundle, &["create", "a"]);
        fails(&bundle, &["run", "a"]);
        assert_eq!(state(&bundle)["status"], "created");
        bundle.tested(&["delete", "--force", "a"]).ok();
        for id in ["../b", "a/b", "", ".."] {
            fails(&bundle, &["create", id]);
        }
    }
}

#[test]
fn signals_by_name_and_number() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::One]) {
        let names = ["HUP", "SIGINT", "USR1", "SIGUSR2", "TERM", "10", "15"];
        bundle.script(
            "for s in HUP INT USR1 USR2 TERM; do trap \"echo $s >> /log\" $s; done; echo ready >> /log; \
            while :; do sleep 0.05; done",
        );
        bundle.leave_tested(&["run", "-d", "a"]);
        let log = || fs::read_to_string(bundle.path("rootfs/log")).unwrap_or_default();
        let wait = |want: &str| {
            let until = Instant::now() + Duration::from_secs(10);
            while log() != want {
                assert!(Instant::now() < until, "{user:?} {:?} {want:?}", log());
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        let mut want = "ready\n".to_owned();
        wait(&want);
        for (name, got) in names.iter().zip(["HUP", "INT", "USR1", "USR2", "TERM", "USR1", "TERM"]) {
            bundle.tested(&["kill", "a", name]).ok();
            want += &format!("{got}\n");
            wait(&want);
        }
        for bad in ["NOSUCH", "99", "1x"] {
            if !cannot(&[("crun", "1.8.1 sends another signal than the one that does not exist")]) {
                fails(&bundle, &["kill", "a", bad]);
            }
        }
        assert_eq!(log(), want, "{user:?}");
        bundle.tested(&["delete", "--force", "a"]).ok();
    }
}

#[test]
fn a_created_container_can_be_killed_and_deleted() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.script("echo began >> /log");
        bundle.leave_tested(&["create", "a"]);
        bundle.tested(&["kill", "a", "KILL"]).ok();
        wait_for(&bundle, "stopped");
        bundle.tested(&["delete", "a"]).ok();
        bundle.leave_tested(&["create", "a"]);
        bundle.tested(&["delete", "--force", "a"]).ok();
        fails(&bundle, &["state", "a"]);
        assert!(!bundle.path("rootfs/log").exists(), "{user:?}");
    }
}

#[test]
fn the_end_of_the_program_stops_it() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.script("true");
        bundle.leave_tested(&["create", "a"]);
        bundle.leave_tested(&["start", "a"]);
        wait_for(&bundle, "stopped");
        bundle.tested(&["delete", "a"]).ok();
        // A run that ends leaves nothing.
        bundle.tested(&["run", "a"]).ok();
        fails(&bundle, &["state", "a"]);
        assert_eq!(bundle.tested(&["list", "-q"]).ok(), "", "{user:?}");
    }
}

#[test]
fn the_configuration_is_read_once() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("echo first >> /log");
        bundle.leave_tested(&["create", "a"]);
        bundle.script("echo second >> /log");
        bundle.set("/hooks", json!({"poststart": [{"path": "/bin/false"}]}));
        bundle.leave_tested(&["start", "a"]);
        wait_for(&bundle, "stopped");
        assert_eq!(fs::read_to_string(bundle.path("rootfs/log")).unwrap(), "first\n");
        bundle.tested(&["delete", "a"]).ok();
    }
}

#[test]
fn every_process_ends_with_the_container() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.script("for i in 1 2 3; do (trap '' TERM HUP; sleep 1000) & done; echo ready > /log; wait");
        bundle.leave_tested(&["run", "-d", "a"]);
        while !bundle.path("rootfs/log").exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let init = state(&bundle)["pid"].as_i64().unwrap();
        let namespace = fs::read_link(format!("/proc/{init}/ns/pid")).unwrap();
        bundle.tested(&["delete", "--force", "a"]).ok();
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let left =
                processes.filter(|p| fs::read_link(p.path().join("ns/pid")).is_ok_and(|n| n == namespace)).count();
            if left == 0 {
                break;
            }
            assert!(Instant::now() < until, "{user:?}: {left} processes are left");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn versions_of_the_specification() {
    if cannot(&[("crun", "1.8.1 knows 1.0 alone")]) {
        return;
    }
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("true");
        for version in ["1.0.0", "1.0.2", "1.1.0", "1.2.1", "1.3.0", "1.9.0", "1.0.2-dev"] {
            bundle.set("/ociVersion", json!(version));
            bundle.tested(&["run", "a"]).ok();
        }
        for version in ["2.0.0", "0.9.0", "one", ""] {
            if version == "0.9.0" || cannot(&[("runc", "1.1.5 takes any text for a version")]) {
                continue;
            }
            bundle.set("/ociVersion", json!(version));
            fails(&bundle, &["run", "a"]);
        }
    }
}

#[test]
fn broken_documents() {
    for (_, bundle) in Bundle::each(&[User::Root]) {
        for text in ["", "{", "[]", "null", "{}", "\"x\"", "{\"ociVersion\":\"1.0.2\"}"] {
            let run = bundle.tested(&["run", "a"]);
            fs::write(bundle.path("config.json"), text).unwrap();
            let out = run.output();
            assert!(out.status != 0 && !out.stderr.is_empty(), "{text:?}");
        }
        // There may not even be a directory of containers yet.
        assert_eq!(bundle.tested(&["list", "-q"]).output().stdout, "");
    }
}

#[test]
fn the_file_of_the_pid() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.script("sleep 1000");
        bundle.leave_tested(&["create", "--pid-file", "pid", "a"]);
        let text = fs::read_to_string(bundle.path("pid")).unwrap();
        assert_eq!(text, state(&bundle)["pid"].to_string(), "{user:?}");
        bundle.leave_tested(&["start", "a"]);
        bundle.tested(&["delete", "--force", "a"]).ok();
    }
}
