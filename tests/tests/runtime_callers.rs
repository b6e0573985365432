//! The command lines that podman, conmon, CRI-O, containerd and buildah send, each by itself, and what they read back.

use std::fs;
use std::os::fd::OwnedFd;

use hoy_tests::{Bundle, Run, User, receive_at};
use serde_json::{Value, json};

/// A bundle with a container `a` whose program sleeps.
fn sleeper() -> Option<Bundle> {
    let mut bundle = Bundle::new(User::Root)?;
    bundle.script("trap 'exit 3' TERM; while :; do sleep 0.05; done");
    Some(bundle)
}

fn status(bundle: &Bundle, id: &str) -> Value {
    let state: Value = serde_json::from_str(&bundle.hoy(&["state", id]).ok()).unwrap();
    state["status"].clone()
}

fn wait_until_stopped(bundle: &Bundle, id: &str) {
    for _ in 0..500 {
        if status(bundle, id) == "stopped" {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the container does not end");
}

#[test]
fn options_stand_anywhere_and_may_have_one_dash() {
    let Some(bundle) = sleeper() else { return };
    // conmon's order, runtime-tools' order, and the one dash that containerd sends.
    bundle.leave(&["create", "--bundle", ".", "--pid-file", "pid", "--no-pivot", "--preserve-fds", "0", "a"]);
    bundle.leave(&["create", "b", "--bundle", ".", "--pid-file=pid2"]);
    bundle.leave(&["run", "--detach", "-no-subreaper", "--bundle", ".", "c", "-pid-file", "pid3"]);
    for (id, file) in [("a", "pid"), ("b", "pid2"), ("c", "pid3")] {
        let pid = fs::read_to_string(bundle.path(file)).unwrap();
        assert!(pid.bytes().all(|byte| byte.is_ascii_digit()), "{pid:?}");
        let pids: Value = serde_json::from_str(&bundle.hoy(&["ps", "--format", "json", id]).ok()).unwrap();
        assert_eq!(pids[0].to_string(), pid);
        bundle.hoy(&["delete", "--force", id]).ok();
    }
}

#[test]
fn another_configuration() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("echo other");
    fs::write(bundle.path("other.json"), bundle.config.to_string()).unwrap();
    bundle.script("echo usual");
    assert_eq!(bundle.hoy(&["run", "-f", "other.json", "a"]).ok(), "other");
    assert_eq!(bundle.hoy(&["run", "--config=other.json", "a"]).ok(), "other");
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), "usual");
}

#[test]
fn a_descriptor_of_the_process() {
    let Some(bundle) = sleeper() else { return };
    let pid_of = |fd: &OwnedFd| {
        use std::os::fd::AsRawFd;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        info.lines().find_map(|line| line.strip_prefix("Pid:\t")).unwrap().to_owned()
    };
    let socket = receive_at(&bundle.path("s"));
    bundle.leave(&["create", "--pidfd-socket", "s", "--pid-file", "pid", "a"]);
    let (name, fd) = socket.join().unwrap();
    assert_eq!((name.as_str(), pid_of(&fd)), ("standard", fs::read_to_string(bundle.path("pid")).unwrap()));
    bundle.hoy(&["start", "a"]).ok();
    let socket = receive_at(&bundle.path("s2"));
    bundle.leave(&["exec", "-d", "--pidfd-socket", "s2", "--pid-file", "pid", "a", "sleep", "100"]);
    let (name, fd) = socket.join().unwrap();
    assert_eq!((name.as_str(), pid_of(&fd)), ("setns", fs::read_to_string(bundle.path("pid")).unwrap()));
    bundle.hoy(&["create", "--pidfd-socket", "none", "b"]).fails(1, &["send the pidfd to \"none\": no such file"]);
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "a");
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

#[test]
fn ids_by_expression() {
    let Some(bundle) = sleeper() else { return };
    for id in ["pod1", "pod2", "other"] {
        bundle.leave(&["run", "-d", id]);
    }
    bundle.hoy(&["kill", "--regex", "^pod[0-9]$", "KILL"]).ok();
    wait_until_stopped(&bundle, "pod1");
    wait_until_stopped(&bundle, "pod2");
    assert_eq!(status(&bundle, "other"), "running");
    bundle.hoy(&["delete", "--regex", "pod(1|2)"]).ok();
    assert_eq!(bundle.hoy(&["list", "--quiet"]).ok(), "other");
    bundle.hoy(&["delete", "--regex", "("]).fails(1, &["read expression \"(\""]);
    bundle.hoy(&["delete", "--regex", "--force", "."]).ok();
    assert_eq!(bundle.hoy(&["list", "--format=json"]).ok(), "[]");
}

#[test]
fn signals_by_name_and_number() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle
        .script("trap 'exit 5' TERM; trap 'exit 6' USR1; trap 'exit 7' 37; echo > ready; while :; do sleep 0.05; done");
    let cases: [(&[&str], i32); 7] = [
        (&["kill", "a"], 5),
        (&["kill", "a", "15"], 5),
        (&["kill", "a", "SIGTERM"], 5),
        (&["kill", "a", "usr1"], 6),
        (&["kill", "a", "RTMIN+3"], 7),
        (&["kill", "-a", "a", "37"], 7),
        (&["kill", "--all", "a", "KILL"], 137),
    ];
    for (args, want) in cases {
        fs::remove_file(bundle.path("rootfs/ready")).unwrap_or_default();
        let mut container = bundle.hoy(&["run", "a"]).spawn();
        while !bundle.path("rootfs/ready").exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        bundle.hoy(args).ok();
        assert_eq!(container.wait().unwrap().code(), Some(want), "{args:?}");
    }
}

#[test]
fn a_failure_is_one_object_in_the_log() {
    let Some(bundle) = Bundle::new(User::Root) else { return };
    let failures: [&[&str]; 6] = [
        &["start", "none"],
        &["state", "none"],
        &["kill", "none", "9"],
        &["exec", "none", "true"],
        &["pause", "none"],
        &["delete", "none"],
    ];
    for (number, failure) in failures.into_iter().enumerate() {
        let log = format!("log{number}");
        let args = [&["--log", &log, "--log-format=json"], failure].concat();
        bundle.hoy(&args).fails(if failure[0] == "exec" { 255 } else { 1 }, &["container \"none\" does not exist"]);
        // podman reads the whole file as one object.
        let told: Value = serde_json::from_slice(&fs::read(bundle.path(&log)).unwrap()).unwrap();
        assert_eq!((&told["level"], &told["msg"]), (&json!("error"), &json!("container \"none\" does not exist")));
    }
    // A file that is there is added to, not replaced.
    bundle.hoy(&["--log", "log0", "--log-format=json", "state", "none"]).fails(1, &[]);
    assert_eq!(fs::read_to_string(bundle.path("log0")).unwrap().lines().count(), 2);
    let success = ["--log", "quiet", "--log-format", "json", "delete", "--force", "none"];
    assert_eq!(bundle.hoy(&success).ok(), "");
    assert!(fs::read(bundle.path("quiet")).unwrap_or_default().is_empty());
}

#[test]
fn probes() {
    let version = Run::new("hoy-runtime").arg("--version").ok();
    let lines: Vec<&str> = version.lines().collect();
    // go-runc takes a first line that does not begin with "runc version" for an unknown version, and goes on.
    assert!(lines[0].starts_with("hoy-runtime version ") && lines[1].starts_with("spec: 1."), "{version}");
    let features: Value = serde_json::from_str(&Run::new("hoy-runtime").arg("features").ok()).unwrap();
    assert!(features["ociVersionMax"].as_str().is_some_and(|version| version.starts_with("1.")), "{features}");
}
