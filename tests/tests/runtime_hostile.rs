//! States changed by somebody else, command lines of any kind, documents of any size: an error that names what is wrong.

use std::cell::RefCell;
use std::fs;
use std::time::{Duration, Instant};

use hoy_tests::{Bundle, Machine, User, broken, cases, damaged, full_config};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// Tries `property` with cases of `strategy`.
#[track_caller]
fn check<S: Strategy>(count: u32, strategy: &S, property: impl Fn(S::Value)) {
    let config = ProptestConfig { max_shrink_iters: 30, ..cases(count) };
    let result = TestRunner::new(config).run(strategy, |value| {
        property(value);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Runs `hoy-runtime ARGS`, which must end with 0, 1 or 2, or with 255 for exec, in time and without panic.
#[track_caller]
fn calm(bundle: &Bundle, args: &[&str]) -> (i32, String) {
    let stderr = bundle.path("../stderr");
    fs::write(&stderr, "").unwrap();
    let status = bundle.hoy(args).status(&stderr, LIMIT);
    let said = fs::read_to_string(stderr).unwrap();
    assert!(matches!(status, 0..=2 | 255) && !said.contains("panicked"), "{args:?}: {status}, {said}");
    (status, said)
}

#[test]
fn broken_states() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let id = format!("state-{}", std::process::id());
    let machine = Machine::new(&bundle.path(".."), &id).without("work");
    bundle.script("exec sleep 1000");
    bundle.leave(&["run", "--detach", "other"]);
    bundle.leave(&["create", &id]);
    let path = bundle.path(&format!("../run/state/{id}/state.json"));
    let state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    bundle.hoy(&["delete", "--force", &id]).ok();
    fs::write(bundle.path("../stderr"), "").unwrap();
    let before = machine.look();
    // What other directories it names is as true as the directory that it is in.
    let strategy = prop_oneof![broken(&state, &["/cgroups"]).prop_map(|s| s.to_string().into_bytes()), damaged(&state)];
    check(30, &strategy, |bytes| {
        bundle.leave(&["create", &id]);
        let now: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        // The process of the time when the cases were made is not this container's.
        let text = String::from_utf8_lossy(&bytes).replace(&state["pid"].to_string(), &now["pid"].to_string());
        let text = text.replace(&state["startTime"].to_string(), &now["startTime"].to_string());
        fs::write(&path, &text).unwrap();
        let (status, said) = calm(&bundle, &["list", "--quiet"]);
        assert_eq!(status, 0, "{said}");
        let (status, said) = calm(&bundle, &["state", &id]);
        assert!(status == 0 || said.contains(&id), "{said}");
        calm(&bundle, &["kill", &id, "0"]);
        calm(&bundle, &["pause", &id]);
        // What a state says is believed, where it says anything.
        if serde_json::from_str::<Value>(&text).is_err() {
            let (status, said) = calm(&bundle, &["delete", &id]);
            assert!(status == 1 && said.contains(&format!("{id}/state.json")), "{said}");
        }
        let (status, said) = calm(&bundle, &["delete", "--force", &id]);
        assert_eq!(status, 0, "{text}: {said}");
        machine.is_as(&before, &format!("a state {text}"));
    });
    bundle.hoy(&["delete", "--force", "other"]).ok();
}

#[test]
fn an_unreadable_state_is_named() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("exec sleep 1000");
    bundle.leave(&["run", "--detach", "a"]);
    bundle.leave(&["run", "--detach", "b"]);
    let path = bundle.path("../run/state/a/state.json");
    fs::write(&path, "{\"pid\":").unwrap();
    let list = bundle.hoy(&["list", "-q"]).output();
    assert_eq!((list.status, list.stdout.trim()), (0, "b"));
    for command in [&["state", "a"][..], &["kill", "a"], &["delete", "a"], &["exec", "a", "true"], &["start", "a"]] {
        let out = bundle.hoy(command).output();
        assert!(out.status != 0 && out.stderr.contains("/a/state.json"), "{command:?}: {}", out.stderr);
    }
    assert!(list.stderr.contains("/a/state.json"), "{}", list.stderr);
    let machine = Machine::new(&bundle.path("../run/state/a"), "none");
    bundle.hoy(&["delete", "--force", "a"]).ok();
    machine.is_as(&std::collections::BTreeSet::new(), "delete --force");
    bundle.leave(&["create", "a"]);
    bundle.hoy(&["delete", "--force", "a"]).ok();
    bundle.hoy(&["delete", "--force", "b"]).ok();
}

#[test]
fn hostile_command_lines() {
    let Some(bundle) = Bundle::new(User::One) else { return };
    let long = "x".repeat(5000);
    let words = [
        "create",
        "start",
        "state",
        "kill",
        "delete",
        "list",
        "exec",
        "pause",
        "resume",
        "ps",
        "spec",
        "features",
        "run",
        "update",
        "checkpoint",
        "restore",
        "--bundle",
        "-b",
        "--force",
        "-f",
        "--all",
        "-a",
        "--process",
        "-p",
        "--user",
        "-u",
        "--format",
        "json",
        "table",
        "--pid-file",
        "--console-socket",
        "--preserve-fds",
        "4294967295",
        "-1",
        "0",
        "9",
        "99999999999999999999",
        "KILL",
        "SIGNOSUCH",
        "--",
        "-",
        "",
        "..",
        ".",
        "a/b",
        "a",
        "é",
        "\u{1}",
        "--no-such",
        "=",
        "--root=",
        "--resources",
        "/dev/null",
        "/proc/self/mem",
        "/no/such",
        "--help",
        "-h",
        "--version",
        "--cwd",
        "--env",
        "--cap",
        "CAP_X",
        "1:2:3",
        "--detach",
        "--keep",
        "--tty",
        "--log",
        "/dev/full",
        "--log-format",
        &long,
    ];
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    check(150, &prop::collection::vec(select(words), 0..6), |words| {
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        calm(&bundle, &args);
    });
}

#[test]
fn broken_processes_of_exec() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("exec sleep 1000");
    bundle.leave(&["run", "--detach", "a"]);
    let mut process = bundle.config["process"].clone();
    let full = full_config();
    for name in ["ioPriority", "scheduler", "rlimits", "oomScoreAdj", "execCPUAffinity"] {
        process[name] = full["process"][name].clone();
    }
    process["args"] = json!(["/bin/true"]);
    let counts = RefCell::new((0, 0));
    check(60, &broken(&process, &["/args"]), |process| {
        fs::write(bundle.path("process.json"), process.to_string()).unwrap();
        let (status, said) = calm(&bundle, &["exec", "--process", "process.json", "a"]);
        assert!(status == 0 || said.contains("hoy-runtime: "), "{status} {said}");
        let mut counts = counts.borrow_mut();
        *counts = (counts.0 + u32::from(status == 0), counts.1 + 1);
    });
    let (done, all) = counts.into_inner();
    eprintln!("{done} processes of {all} documents");
    let pids: Vec<i32> = serde_json::from_str(&bundle.hoy(&["ps", "--format", "json", "a"]).ok()).unwrap();
    assert_eq!(pids.len(), 1);
    bundle.hoy(&["delete", "--force", "a"]).ok();
}

#[test]
fn broken_resources_of_update() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("exec sleep 1000");
    bundle.leave(&["run", "--detach", "a"]);
    let strategy = broken(&full_config()["linux"]["resources"], &[]);
    check(60, &strategy, |resources| {
        fs::write(bundle.path("resources.json"), resources.to_string()).unwrap();
        let (status, said) = calm(&bundle, &["update", "--resources", "resources.json", "a"]);
        assert!(status == 0 || said.starts_with("hoy-runtime: "), "{status} {said}");
    });
    // A limit may have ended it; it can be removed in any case.
    bundle.hoy(&["delete", "--force", "a"]).ok();
}

#[test]
fn huge_documents_take_bounded_time() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/args", json!(["/bin/true"]));
    let config = bundle.config.clone();
    let factor = if std::env::var_os("HOY_LONG").is_some() { 10 } else { 1 };
    let mount = json!({"destination": "/x", "type": "tmpfs", "source": "t"});
    let wrong = json!({"destination": "/x", "type": "no-such", "source": "t"});
    let cases = [
        ("/annotations", json!({"a": "x".repeat(10_000_000 * factor)}), 0),
        ("/process/env", json!((0..10_000 * factor).map(|n| format!("N{n}=1")).collect::<Vec<_>>()), 0),
        ("/process/env", json!(["x".repeat(10_000_000)]), 1),
        ("/process/args", json!(vec!["/bin/true"; 1_000_000]), 1),
        ("/mounts", json!(vec![wrong; 10_000 * factor]), 1),
        ("/mounts", json!(vec![mount.clone(); 2_000]), 0),
        ("/mounts", json!(vec![mount; 100_000 * factor + 1]), 1),
        ("/linux/maskedPaths", json!(vec!["/no/such"; 100_000 * factor]), 0),
        ("/linux/devices", json!(vec![json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3}); 100_000]), 0),
        ("/process/user/additionalGids", json!(vec![1; 100_000 * factor]), 1),
    ];
    for (pointer, value, want) in cases {
        bundle.config = config.clone();
        bundle.set(pointer, value);
        let start = Instant::now();
        let (status, said) = calm(&bundle, &["run", "a"]);
        let said: String = said.chars().take(300).collect();
        eprintln!("{pointer}: {status} after {:?}, {said}", start.elapsed());
        assert_eq!(status, want, "{pointer}: {said}");
        assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "");
    }
}
