//! checkpoint and restore through criu: `CRIU` names another program than the one in PATH.

use std::fs;

use hoy_tests::{Bundle, Run, User, has, skip};

fn counter() -> Option<Bundle> {
    let mut bundle = Bundle::new(User::Root)?;
    bundle.script("i=0; while :; do i=$((i+1)); echo $i > /tmp/n.new; mv /tmp/n.new /tmp/n; sleep 0.05; done");
    Some(bundle)
}

fn number(bundle: &Bundle) -> u32 {
    fs::read_to_string(bundle.path("rootfs/tmp/n")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn wait_beyond(bundle: &Bundle, start: u32) {
    let is_beyond = |_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        number(bundle) > start
    };
    assert!((0..200).any(is_beyond), "it does not count beyond {start}");
}

/// A criu that works on this kernel.
fn criu() -> Option<String> {
    let program = std::env::var("CRIU").unwrap_or_else(|_| "criu".to_owned());
    if !program.contains('/') && !has(&program) {
        skip("criu not installed");
        return None;
    }
    let check = Run::new(&program).arg("check").output();
    if check.status != 0 {
        skip(&format!("criu does not work here: {}", check.stderr.lines().next().unwrap_or_default()));
    }
    (check.status == 0).then_some(program)
}

/// The arguments with the program's name before the command.
fn with<'a>(criu: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["--criu", criu], args].concat()
}

#[test]
fn a_container_goes_on_from_its_images() {
    let (Some(bundle), Some(criu)) = (counter(), criu()) else { return };
    bundle.leave(&["run", "-d", "a"]);
    wait_beyond(&bundle, 3);
    bundle.hoy(&with(&criu, &["checkpoint", "--image-path", "first", "--leave-running", "a"])).ok();
    let before = number(&bundle);
    wait_beyond(&bundle, before);
    bundle.hoy(&with(&criu, &["checkpoint", "--image-path", "images", "--work-path", "work", "a"])).ok();
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "");
    let saved = number(&bundle);
    assert!(bundle.path("work/dump.log").exists() && bundle.path("images/descriptors.json").exists());
    // The way containerd asks for it.
    bundle.leave(&with(
        &criu,
        &[
            "restore",
            "--image-path",
            "images",
            "--work-path",
            "work",
            "--detach",
            "--pid-file",
            "pid",
            "--no-pivot",
            "-no-subreaper",
            "--bundle",
            ".",
            "a",
        ],
    ));
    wait_beyond(&bundle, saved);
    let state: serde_json::Value = serde_json::from_str(&bundle.hoy(&["state", "a"]).ok()).unwrap();
    assert_eq!(
        (state["status"].as_str(), state["pid"].to_string()),
        (Some("running"), fs::read_to_string(bundle.path("pid")).unwrap())
    );
    assert_eq!(bundle.hoy(&["exec", "a", "echo", "inside"]).ok(), "inside");
    bundle.hoy(&["kill", "a", "KILL"]).ok();
    bundle.hoy(&["delete", "--force", "a"]).ok();
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("criu-root"));
}

#[test]
fn what_is_missing_is_said_and_nothing_changes() {
    let Some(bundle) = counter() else { return };
    bundle.leave(&["run", "-d", "a"]);
    wait_beyond(&bundle, 0);
    let checkpoint = ["--criu", "/no/criu", "checkpoint", "--image-path", "images", "a"];
    bundle.hoy(&checkpoint).fails(1, &["program \"/no/criu\" is not there: install criu"]);
    let before = number(&bundle);
    wait_beyond(&bundle, before);
    fs::write(bundle.path("images/descriptors.json"), "[]").unwrap();
    let restore = ["--criu", "/no/criu", "restore", "--image-path", "images", "b"];
    bundle.hoy(&restore).fails(1, &["program \"/no/criu\" is not there: install criu"]);
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "a");
    bundle.hoy(&["delete", "-f", "a"]).ok();
    bundle.hoy(&["checkpoint", "none"]).fails(1, &["container \"none\" does not exist"]);
}

#[test]
fn the_probes_of_podman() {
    Run::new("hoy-runtime").args(["checkpoint", "--help"]).ok();
    Run::new("hoy-runtime").args(["restore", "--lsm-mount-context"]).fails(2, &["requires an argument"]);
}
