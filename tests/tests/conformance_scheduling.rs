//! When, where and as what a container's program runs: runtime-spec config.md "Linux Process", config-linux.md
//! "Memory policy" and "Personality".

use hoy_tests::{Bundle, User, cannot, runtime_under_test};
use serde_json::json;

/// The fields of /proc/PID/stat, of the shell itself: proc(5). Its children may be scheduled otherwise.
const STAT: &str = "read -r line </proc/$$/stat; set -- ${line##*)}";

fn bundle() -> Option<Bundle> {
    let mut bundle = Bundle::new(User::Root)?;
    bundle.set("/ociVersion", json!("1.0.2"));
    Some(bundle)
}

/// That of this test, which its containers begin with.
fn own_nice_value() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().nth(16).unwrap().to_owned()
}

#[test]
fn policy_and_nice_value() {
    if cannot(&[("crun", "1.8.1 is older than the field"), ("runc", "1.1 is older than the field")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    // Fields 19, 40 and 41 of the whole line are nice, rt_priority and policy.
    bundle.script(&format!("{STAT}; echo nice ${{17}} ${{38}} ${{39}}"));
    // The kernel leaves the nice value as it was where the policy has no use for one.
    let kept = own_nice_value();
    let cases = [
        (json!({"policy": "SCHED_OTHER", "nice": 5}), "5 0 0".to_owned()),
        (json!({"policy": "SCHED_BATCH", "nice": 19}), "19 0 3".to_owned()),
        (json!({"policy": "SCHED_IDLE"}), format!("{kept} 0 5")),
        (json!({"policy": "SCHED_RR", "priority": 7}), format!("{kept} 7 2")),
        (json!({"policy": "SCHED_FIFO", "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}), format!("{kept} 1 1")),
    ];
    for (scheduler, want) in cases {
        bundle.set("/process/scheduler", scheduler.clone());
        let out = bundle.tested(&["run", "a"]).output();
        if out.status != 0 && scheduler["priority"] != json!(null) && out.stderr.contains("ermitted") {
            hoy_tests::skip("realtime scheduling is not allowed on this machine");
            continue;
        }
        assert!(out.stdout.trim() == format!("nice {want}"), "{scheduler}: {} {}", out.stdout, out.stderr);
    }
}

#[test]
fn a_deadline() {
    if cannot(&[("crun", "1.8.1 is older than the field"), ("runc", "1.1 is older than the field")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    let scheduler = json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 20_000_000,
        "period": 20_000_000, "flags": ["SCHED_FLAG_DL_OVERRUN"]});
    bundle.set("/process/scheduler", scheduler);
    // A process with a deadline can make no other.
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/sched"]));
    let out = bundle.tested(&["run", "a"]).output();
    if out.status != 0 && (out.stderr.contains("ermitted") || out.stderr.contains("busy")) {
        return hoy_tests::skip("deadlines are not allowed on this machine");
    }
    let is_set = |line: &str| line.starts_with("dl.runtime") || line.starts_with("policy") && line.ends_with('6');
    assert!(out.stdout.lines().any(is_set), "{} {}", out.stdout, out.stderr);
}

#[test]
fn wrong_values_are_named() {
    if cannot(&[("crun", "it leaves the values to the kernel"), ("runc", "1.1 is older than the fields")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    let cases = [
        ("/process/scheduler", json!({"policy": "SCHED_FAIR"}), "SCHED_FAIR"),
        ("/process/scheduler", json!({"policy": "SCHED_ISO"}), "process.scheduler"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": -21}), "nice"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 9}), "ioPriority"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_X", "priority": 1}), "IOPRIO_CLASS_X"),
        ("/process/execCPUAffinity", json!({"initial": "a"}), "a"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "900"}), "linux.memoryPolicy"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_X"}), "MPOL_X"),
        ("/linux/personality", json!({"domain": "BSD"}), "BSD"),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}), "ADDR_NO_RANDOMIZE"),
    ];
    for (pointer, value, word) in cases {
        bundle.set(pointer, value);
        let out = bundle.tested(&["run", "a"]).output();
        assert!(out.status != 0 && out.stderr.contains(word), "{pointer} {word}: {}", out.stderr);
        bundle.set(pointer, json!(null));
    }
}

#[test]
fn class_of_disk_requests() {
    if cannot(&[("crun", "1.8.1 is older than the field"), ("runc", "1.1 is older than the field")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    bundle.script("ionice -p $$");
    for (class, priority, want) in
        [("BE", 7, "best-effort: prio 7"), ("IDLE", 0, "idle"), ("RT", 3, "realtime: prio 3")]
    {
        bundle.set("/process/ioPriority", json!({"class": format!("IOPRIO_CLASS_{class}"), "priority": priority}));
        let out = bundle.tested(&["run", "a"]).ok();
        assert!(out.starts_with(want), "{class}: {out}");
    }
}

#[test]
fn processors_of_a_joining_process() {
    if cannot(&[("crun", "1.8.1 is older than the field"), ("runc", "1.1 is older than the field")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    let list = "grep Cpus_allowed_list /proc/self/status | cut -f2";
    bundle.set("/process/execCPUAffinity", json!({"initial": "0", "final": "1"}));
    bundle.set("/process/args", json!(["/bin/sleep", "1000"]));
    bundle.leave_tested(&["run", "-d", "a"]);
    let cpus = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    if cpus.trim() == "0" {
        bundle.tested(&["delete", "-f", "a"]).ok();
        return hoy_tests::skip("this machine has one processor");
    }
    let own = bundle.tested(&["exec", "a", "sh", "-c", "grep Cpus_allowed_list /proc/1/status | cut -f2"]).ok();
    assert_ne!(own, "1", "the container's first process is not meant");
    assert_eq!(bundle.tested(&["exec", "a", "sh", "-c", list]).ok(), "1");
    let process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", list],
        "env": ["PATH=/bin"], "execCPUAffinity": {"final": "0"}});
    let file = bundle.path("process.json");
    std::fs::write(&file, process.to_string()).unwrap();
    assert_eq!(bundle.tested(&["exec", "--process", file.to_str().unwrap(), "a"]).ok(), "0");
    bundle.tested(&["delete", "-f", "a"]).ok();
}

#[test]
fn nodes_of_memory() {
    if cannot(&[("crun", "1.8.1 is older than the field"), ("runc", "1.1 is older than the field")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        return hoy_tests::skip("this kernel has no memory nodes");
    }
    bundle.script("head -n 1 /proc/self/numa_maps | cut -d' ' -f2");
    let cases = [
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}), "bind=static:0"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0-0"}), "interleave:0"),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}), "prefer (many):0"),
        (json!({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}), "weighted interleave:0"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
    ];
    for (policy, want) in cases {
        bundle.set("/linux/memoryPolicy", policy.clone());
        let out = bundle.tested(&["run", "a"]).output();
        if out.status != 0 && out.stderr.contains("WEIGHTED") {
            hoy_tests::skip("this kernel is older than MPOL_WEIGHTED_INTERLEAVE");
            continue;
        }
        assert!(out.status == 0 && want.starts_with(out.stdout.trim()), "{policy}: {} {}", out.stdout, out.stderr);
    }
    // A process that joins has it too.
    bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
    bundle.set("/process/args", json!(["/bin/sleep", "1000"]));
    bundle.leave_tested(&["run", "-d", "a"]);
    assert!(bundle.tested(&["exec", "a", "head", "-n", "1", "/proc/self/numa_maps"]).ok().contains("bind:0"));
    bundle.tested(&["delete", "-f", "a"]).ok();
}

#[test]
fn the_machine_a_program_is_told_of() {
    if cannot(&[("runc", "1.1 is older than the field")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    bundle.script("uname -m; cat /proc/self/personality");
    bundle.set("/linux/personality", json!({"domain": "LINUX"}));
    let own = bundle.tested(&["run", "a"]).ok();
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    let narrow = bundle.tested(&["run", "a"]).ok();
    assert!(narrow.ends_with("00000008") && own.ends_with("00000000"), "{}: {own} {narrow}", runtime_under_test());
    if std::env::consts::ARCH == "x86_64" {
        assert!(own.starts_with("x86_64") && narrow.starts_with("i686"), "{own} {narrow}");
    }
}
