//! `hoy-build run`: exit codes, signals, what the command sees, and what it leaves behind.

use std::fs;
use std::time::{Duration, Instant};

use hoy_tests::{Run, Sandbox, User, busybox_layout, need};

/// A working container of busybox, and its name.
fn busybox(user: User) -> Option<(Sandbox, String)> {
    if !user.available() || !need(&["umoci", "busybox"]) {
        return None;
    }
    let sandbox = Sandbox::for_user(user);
    let layout = sandbox.path("layout");
    busybox_layout(&layout);
    Run::new("chmod").args(["-R", "a+rX"]).arg(&layout).ok();
    let image = format!("oci:{}:busybox:latest", layout.display());
    let container = sandbox.ok("hoy-build", &["from", "-q", &image]);
    assert_eq!(container, "layout-working-container");
    Some((sandbox, container))
}

fn exit_codes(user: User) {
    let Some((sandbox, container)) = busybox(user) else { return };
    fs::write(sandbox.path("work/plain"), "not a program").unwrap();
    sandbox.run("hoy-build").args(["copy", "-q", "--chmod", "755", &container, "plain", "/plain"]).ok();
    for (command, want) in [
        (&["true"][..], 0),
        (&["false"], 1),
        (&["sh", "-c", "exit 126"], 126),
        (&["sh", "-c", "exit 200"], 200),
        (&["no-such-command"], 127),
        (&["/etc"], 126),
        (&["/etc/passwd"], 126),
    ] {
        let out = sandbox.run("hoy-build").args(["run", &container, "--"]).args(command).output();
        assert_eq!(out.status, want, "{command:?}: {}", out.stderr);
    }
    let see = |args: &[&str]| sandbox.run("hoy-build").arg("run").args(args).ok();
    let script = |text: &str| see(&[&container, "--", "sh", "-c", text]);
    assert_eq!(script("grep -h ^CapInh /proc/self/status"), "CapInh:\t0000000000000000");
    assert_eq!(script("ls /proc/self/fd | wc -l"), "4", "0, 1, 2 and the one for the directory");
    assert_eq!(script("cat /proc/1/environ | tr '\\0' '\\n' | grep -c ^HOY_ || true"), "0", "nothing of ours leaks in");
    assert_eq!(
        see(&["-e", "A=b", "--user", "app", "--workingdir", "/tmp", &container, "sh", "-c", "echo $A; id -un; pwd"]),
        "b\napp\n/tmp"
    );
    assert_eq!(see(&["--hostname", "host", &container, "hostname"]), "host");
    let interfaces = script("cat /proc/net/dev | grep -c :");
    assert_eq!(interfaces, "1", "no network but loopback");
    sandbox.run("hoy-build").args(["run", "--network", "bridge", &container, "true"]).fails(125, &["bridge", "host"]);
    sandbox.run("hoy-build").args(["run", "--user", "nobody-here", &container, "true"]).fails(125, &["nobody-here"]);
    let bad = ["run", "--workingdir", "/proc/self/fd/7", &container, "true"];
    sandbox.run("hoy-build").args(bad).fails(125, &["/proc/self/fd/7"]);
    assert_eq!(sandbox.ok("hoy-storage", &["diff", &container]), "A /plain");
    sandbox.ok("hoy-build", &["rm", &container]);
}

#[test]
fn exit_codes_as_root() {
    exit_codes(User::Root);
}

#[test]
fn exit_codes_as_user() {
    exit_codes(User::Sub);
}

fn signals_reach_the_command(user: User) {
    let Some((sandbox, container)) = busybox(user) else { return };
    let script = "trap 'exit 9' TERM; touch /ready; sleep 60 & wait";
    let child = sandbox.run("hoy-build").args(["run", &container, "--", "sh", "-c", script]).spawn();
    let pid = rustix::process::Pid::from_child(&child);
    let start = Instant::now();
    while sandbox.ok("hoy-storage", &["diff", &container]).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "the command does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut child = child;
    assert_eq!(child.wait().unwrap().code(), Some(9));
    let left = fs::read_dir(sandbox.path("run")).unwrap().flatten().filter(|e| e.file_name().len() == 64).count();
    assert_eq!(left, 0, "the run's bundle is gone");
}

#[test]
fn signals_reach_the_command_as_root() {
    signals_reach_the_command(User::Root);
}

#[test]
fn signals_reach_the_command_as_user() {
    signals_reach_the_command(User::Sub);
}

#[test]
fn history_names_what_was_done_only_when_asked() {
    let Some((sandbox, container)) = busybox(User::Root) else { return };
    fs::write(sandbox.path("work/file"), "x").unwrap();
    let history = |image: &str| {
        let format = "{{range .history}}{{.created_by}}\n{{end}}";
        sandbox.ok("hoy-copy", &["inspect", "--config", "--format", format, &format!("store:{image}")])
    };
    sandbox.ok("hoy-build", &["run", &container, "--", "sh", "-c", "echo hunter2 > /secret-was-here"]);
    sandbox.ok("hoy-build", &["config", "--env", "A=b", &container]);
    sandbox.ok("hoy-build", &["commit", "-q", &container, "quiet"]);
    assert!(!history("quiet").contains("hunter2"), "what is not asked for is not told");
    sandbox.ok("hoy-build", &["config", "--add-history", "--label", "c=d", &container]);
    let digest = sandbox.run("hoy-build").args(["copy", "--add-history", &container, "file", "/file"]).ok();
    sandbox.ok("hoy-build", &["run", "--add-history", &container, "--", "touch", "/touched"]);
    sandbox.ok("hoy-build", &["commit", "-q", &container, "told"]);
    let told = history("told");
    for step in ["LABEL c=d", &format!("COPY file:{digest} in /file"), "/bin/sh -c touch /touched"] {
        assert!(told.contains(step), "{step:?} is not in {told:?}");
    }
}
