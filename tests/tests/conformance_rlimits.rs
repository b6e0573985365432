//! Limits of the program's resources: runtime-spec config.md "POSIX process" rlimits, setrlimit(2).

use hoy_tests::{Bundle, User, cannot};
use serde_json::json;

/// Name, the title and divisor of /proc/PID/limits, and values that any machine allows, soft and hard.
const LIMITS: [(&str, &str, u64, u64); 15] = [
    ("RLIMIT_CPU", "Max cpu time", 1000, 2000),
    ("RLIMIT_FSIZE", "Max file size", 100_000, 200_000),
    ("RLIMIT_DATA", "Max data size", 100_000_000, 200_000_000),
    ("RLIMIT_STACK", "Max stack size", 4_000_000, 8_000_000),
    ("RLIMIT_CORE", "Max core file size", 0, 0),
    ("RLIMIT_RSS", "Max resident set", 100_000_000, 200_000_000),
    ("RLIMIT_NPROC", "Max processes", 900, 1000),
    ("RLIMIT_NOFILE", "Max open files", 200, 300),
    ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
    ("RLIMIT_AS", "Max address space", 100_000_000, 200_000_000),
    ("RLIMIT_LOCKS", "Max file locks", 10, 20),
    ("RLIMIT_SIGPENDING", "Max pending signals", 30, 40),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size", 1000, 2000),
    ("RLIMIT_NICE", "Max nice priority", 0, 0),
    ("RLIMIT_RTTIME", "Max realtime timeout", 1000, 2000),
];

#[test]
fn every_limit() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::Sub, User::One]) {
        bundle.script("cat /proc/self/limits");
        let limit = |(name, _, soft, hard): &(&str, &str, u64, u64)| json!({"type": name, "soft": soft, "hard": hard});
        bundle.set("/process/rlimits", LIMITS.iter().map(limit).collect());
        let out = bundle.tested(&["run", "a"]).ok();
        for (name, title, soft, hard) in LIMITS {
            let line = out.lines().find_map(|line| line.strip_prefix(title)).unwrap_or_default();
            let values: Vec<&str> = line.split_whitespace().take(2).collect();
            assert_eq!(values, [soft.to_string(), hard.to_string()], "{user:?} {name}");
        }
    }
}

#[test]
fn one_alone_leaves_the_others() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("ulimit -n; ulimit -H -n; cat /proc/self/limits | grep 'cpu time'");
        bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 117, "hard": 119}]));
        let out = bundle.tested(&["run", "a"]).ok();
        assert!(out.starts_with("117\n119\n") && out.contains("unlimited"), "{out}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::One]) {
        bundle.script("true");
        for (name, soft, hard) in [("RLIMIT_NOFILE", 20, 10), ("RLIMIT_UNKNOWN", 1, 1)] {
            bundle.set("/process/rlimits", json!([{"type": name, "soft": soft, "hard": hard}]));
            assert_ne!(bundle.tested(&["run", "a"]).output().status, 0, "{user:?} {name}");
        }
    }
}

#[test]
fn one_kind_twice_is_refused() {
    if cannot(&[("crun", "1.8.1 takes the last of two"), ("runc", "1.1.5 takes the last of two")]) {
        return;
    }
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        let limit = json!({"type": "RLIMIT_NOFILE", "soft": 10, "hard": 10});
        bundle.set("/process/rlimits", json!([limit, limit]));
        bundle.script("true");
        assert_ne!(bundle.tested(&["run", "a"]).output().status, 0);
    }
}
