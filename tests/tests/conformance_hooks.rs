//! Programs of the host's at points of a container's life: runtime-spec config.md "POSIX-platform Hooks", runtime.md
//! "Lifecycle".

use std::fs;

use hoy_tests::{Bundle, User, cannot};
use serde_json::{Value, json};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook of the kind `kind` that runs `script`, with the file of what was seen as `$LOG`.
fn hook(bundle: &Bundle, kind: &str, script: &str) -> Value {
    let log = if kind == "startContainer" { "/log".into() } else { bundle.path("rootfs/log") };
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": [format!("LOG={}", log.display()), "PATH=/usr/bin:/bin"]})
}

fn hooks(bundle: &mut Bundle, script: impl Fn(&str) -> String) {
    let all = KINDS.iter().map(|kind| ((*kind).to_owned(), json!([hook(bundle, kind, &script(kind))]))).collect();
    bundle.set("/hooks", Value::Object(all));
}

fn log(bundle: &Bundle) -> String {
    fs::read_to_string(bundle.path("rootfs/log")).unwrap_or_default()
}

#[test]
fn each_kind_at_its_moment() {
    if cannot(&[("runc", "1.1.5 runs the poststart hooks at create")]) {
        return;
    }
    for (user, mut bundle) in Bundle::each(&[User::Root, User::Sub, User::One]) {
        hooks(&mut bundle, |kind| format!("cat > /dev/null; echo {kind} >> $LOG"));
        // Two of a kind come in the order they are listed.
        let second = hook(&bundle, "prestart", "cat > /dev/null; echo second >> $LOG");
        bundle.push("/hooks/prestart", second);
        bundle.script("echo program >> /log; sleep 1000");
        bundle.leave_tested(&["create", "a"]);
        assert_eq!(log(&bundle), "prestart\nsecond\ncreateRuntime\ncreateContainer\n", "{user:?}");
        bundle.leave_tested(&["start", "a"]);
        for _ in 0..100 {
            if log(&bundle).contains("program") && log(&bundle).contains("poststart") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let text = log(&bundle);
        let at = |name: &str| {
            text.lines().position(|line| line == name).unwrap_or_else(|| panic!("{user:?} {name}: {text}"))
        };
        assert_eq!((text.lines().count(), at("startContainer") < at("program")), (7, true), "{user:?} {text}");
        // The program and the hook after its start run side by side.
        let is_crun = hoy_tests::runtime_under_test().ends_with("crun");
        assert!(at("startContainer") < at("poststart") || is_crun, "{user:?} {text}");
        bundle.tested(&["kill", "a", "KILL"]).ok();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!log(&bundle).contains("poststop"), "{user:?}");
        bundle.tested(&["delete", "a"]).ok();
        assert!(log(&bundle).ends_with("poststop\n"), "{user:?}");
    }
}

#[test]
fn the_state_comes_on_standard_input() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        hooks(&mut bundle, |kind| format!("echo \"{kind}=$(tr -d '\\n')\" >> $LOG"));
        bundle.set("/annotations", json!({"org.example.key": "value"}));
        bundle.script("true");
        bundle.leave_tested(&["run", "a"]);
        let statuses = [
            ["creating", "created"],
            ["creating", "created"],
            ["creating", "created"],
            ["created", "created"],
            ["running", "running"],
            ["stopped", "stopped"],
        ];
        for (kind, statuses) in KINDS.iter().zip(statuses) {
            let text = log(&bundle);
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{kind}=")))
                .unwrap_or_else(|| panic!("{kind}: {text}"));
            let state: Value = serde_json::from_str(line).unwrap();
            assert_eq!(state["id"], "a", "{kind}");
            let is_crun = hoy_tests::runtime_under_test().ends_with("crun");
            // Debian's crun has lost it by then.
            let lost = is_crun && *kind == "startContainer";
            assert!(
                lost || state["bundle"] == json!(bundle.path("").to_str().unwrap().trim_end_matches('/')),
                "{kind} {state}"
            );
            assert_eq!(state["annotations"]["org.example.key"], "value", "{kind}");
            assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{kind}");
            let status = state["status"].as_str().unwrap();
            let is_peer = !is_ours();
            // Peers of that age say "created" or even "running" before it is so.
            assert!(statuses.contains(&status) || is_peer, "{kind}: {status}");
            if ["prestart", "createRuntime", "poststart"].contains(kind) {
                assert!(state["pid"].as_i64().is_some_and(|pid| pid > 1), "{kind}: {state}");
            }
        }
    }
}

/// Whether our own runtime is the one under test.
fn is_ours() -> bool {
    hoy_tests::runtime_under_test() == "hoy-runtime"
}

#[test]
fn each_kind_in_its_namespaces() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        hooks(&mut bundle, |kind| {
            format!(
                "cat > /dev/null; echo {kind} $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/uts) $(ls -d /host-only 2>/dev/null) >> $LOG"
            )
        });
        // Named by a file that is in the container alone.
        fs::write(bundle.path("rootfs/host-only"), "").unwrap();
        bundle.script("readlink /proc/self/ns/mnt; readlink /proc/self/ns/uts");
        let inside: Vec<String> = bundle.tested(&["run", "a"]).ok().lines().map(str::to_owned).collect();
        let own =
            ["mnt", "uts"].map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string());
        let text = log(&bundle);
        let line = |kind: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(&format!("{kind} ")));
            line.unwrap_or_else(|| panic!("{kind}: {text}")).split(' ').skip(1).map(str::to_owned).collect()
        };
        let is_crun = hoy_tests::runtime_under_test().ends_with("crun");
        for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
            // Debian's crun is run in a mount namespace of its own.
            assert!(line(kind)[1] == own[1] && (is_crun || line(kind)[0] == own[0]), "{kind}: {text}");
        }
        assert_eq!(line("createContainer"), inside, "{text}");
        assert_eq!(line("startContainer"), [inside.as_slice(), &["/host-only".to_owned()]].concat(), "{text}");
    }
}

#[test]
fn a_hook_has_its_arguments_and_environment_alone() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        let file = bundle.path("seen");
        let script =
            format!("tr '\\0' ' ' < /proc/$$/cmdline > {0}; tr '\\0' '\\n' < /proc/$$/environ >> {0}", file.display());
        let hook =
            json!({"path": "/bin/sh", "args": ["zeroth", "-c", script, "one", "t w o"], "env": ["A=1", "B=2 3"]});
        bundle.set("/hooks", json!({"createRuntime": [hook]}));
        bundle.script("true");
        bundle.tested(&["run", "a"]).env("OUTSIDE", "1").ok();
        let seen = fs::read_to_string(&file).unwrap();
        assert!(seen.starts_with("zeroth -c ") && seen.contains(" one t w o "), "{seen}");
        assert!(seen.ends_with("one t w o A=1\nB=2 3\n"), "{seen}");
    }
}

/// What fails before the start is a failure of the command, and what was made is gone.
#[test]
fn failures_before_the_start_end_it() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::One]) {
        for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
            let failing = hook(&bundle, kind, "cat > /dev/null; exit 3");
            let never = hook(&bundle, kind, "cat > /dev/null; echo second >> $LOG");
            bundle.set("/hooks", json!({kind: [failing, never]}));
            bundle.script("echo program >> /log");
            let out = bundle.tested(&["run", "a"]).output();
            assert_ne!(out.status, 0, "{user:?} {kind}");
            assert_eq!(log(&bundle), "", "{user:?} {kind}");
            bundle.tested(&["delete", "-f", "a"]).output();
            assert_ne!(bundle.tested(&["state", "a"]).output().status, 0, "{user:?} {kind}");
        }
    }
}

/// runtime-spec 1.3 runtime.md "Lifecycle" step 10: a failing poststart hook is an error, and the container is stopped.
#[test]
fn a_failure_after_the_start_stops_it() {
    if cannot(&[
        ("crun", "1.8.1 only warns, as specifications before 1.3 said"),
        ("runc", "1.1.5 leaves the container running"),
    ]) {
        return;
    }
    for (user, mut bundle) in Bundle::each(&[User::Root, User::One]) {
        let failing = hook(&bundle, "poststart", "cat > /dev/null; exit 3");
        bundle.set("/hooks", json!({"poststart": [failing]}));
        bundle.script("sleep 1000");
        bundle.leave_tested(&["create", "a"]);
        assert_ne!(bundle.tested(&["start", "a"]).output().status, 0, "{user:?}");
        let mut status = Value::Null;
        for _ in 0..100 {
            let out = bundle.tested(&["state", "a"]).output();
            status = serde_json::from_str::<Value>(&out.stdout).map_or(json!("gone"), |state| state["status"].clone());
            if status != "running" {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(status == "stopped" || status == "gone", "{user:?} {status}");
        bundle.tested(&["delete", "-f", "a"]).output();
    }
}

/// A failing poststop hook is told of, and the others run: the container is gone whatever they say.
#[test]
fn a_failure_after_the_end_is_a_warning() {
    if cannot(&[("runc", "1.1.5 leaves out the poststop hooks after one that fails")]) {
        return;
    }
    for (user, mut bundle) in Bundle::each(&[User::Root, User::One]) {
        let failing = hook(&bundle, "poststop", "cat > /dev/null; exit 3");
        let second = hook(&bundle, "poststop", "cat > /dev/null; echo second >> $LOG");
        bundle.set("/hooks", json!({"poststop": [failing, second]}));
        bundle.script("true");
        bundle.leave_tested(&["create", "a"]);
        bundle.tested(&["kill", "a", "KILL"]).ok();
        while !bundle.tested(&["state", "a"]).ok().contains("stopped") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        bundle.tested(&["delete", "a"]).output();
        assert_eq!(log(&bundle), "second\n", "{user:?}");
        assert_ne!(bundle.tested(&["state", "a"]).output().status, 0, "{user:?}");
    }
}

#[test]
fn a_hook_that_takes_too_long_is_ended() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.set("/hooks", json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}]}));
        bundle.script("echo program");
        let begun = std::time::Instant::now();
        let out = bundle.tested(&["run", "a"]).output();
        assert!(out.status != 0 && out.stdout.is_empty(), "{}", out.stderr);
        assert!(begun.elapsed().as_secs() < 30);
        bundle.tested(&["delete", "-f", "a"]).output();
    }
}

#[test]
fn a_hook_that_is_not_there_is_an_error() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("echo program");
        for path in ["/no/such/hook", "relative", ""] {
            bundle.set("/hooks", json!({"createRuntime": [{"path": path}]}));
            let out = bundle.tested(&["run", "a"]).output();
            assert!(out.status != 0 && out.stdout.is_empty(), "{path:?} {}", out.stderr);
            bundle.tested(&["delete", "-f", "a"]).output();
        }
    }
}
