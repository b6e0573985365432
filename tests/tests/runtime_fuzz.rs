//! Broken configurations, states and command lines given to the program: an error or a container, never a panic, a hang
//! or half a container.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use hoy_tests::{Bundle, Machine, User, broken, cases, full_config};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

/// No command on a broken document takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// A bundle that is broken again and again.
struct Victim {
    bundle: Bundle,
    id: String,
    machine: Machine,
    stderr: PathBuf,
}

impl Victim {
    fn new(user: User, name: &str) -> Option<Self> {
        let mut bundle = Bundle::new(user)?;
        let id = format!("fuzz-{name}-{}", std::process::id());
        let machine = Machine::new(&bundle.path(".."), &id).without("work");
        let stderr = bundle.path("../stderr");
        fs::write(&stderr, "").unwrap();
        enrich(&mut bundle, user);
        Some(Self { bundle, id, machine, stderr })
    }

    /// Runs a command on the container: its exit code and what was said.
    fn run(&self, args: &[&str]) -> (i32, String) {
        fs::write(&self.stderr, "").unwrap();
        let status = self.bundle.hoy(args).arg(&self.id).status(&self.stderr, LIMIT);
        (status, fs::read_to_string(&self.stderr).unwrap())
    }

    fn is_clean(&self, before: &BTreeSet<String>, what: &str) {
        self.machine.is_as(before, what);
    }

    /// Makes a container, starts and removes it; whether there was one.
    fn live(&self, before: &BTreeSet<String>) -> bool {
        // A case that failed may have left one.
        self.run(&["delete", "--force"]);
        let (status, said) = self.run(&["create"]);
        assert!(matches!(status, 0 | 1) && !said.contains("panicked"), "create: {status}, {said}");
        assert_eq!(
            status == 1,
            said.lines().any(|line| line.starts_with("hoy-runtime: ") && !is_warning(line)),
            "{said}"
        );
        if status == 1 {
            self.is_clean(before, &format!("create: {said}"));
            return false;
        }
        let (_, said) = self.run(&["start"]);
        assert!(!said.contains("panicked"), "start: {said}");
        let (status, said) = self.run(&["delete", "--force"]);
        assert!(status == 0 && !said.contains("panicked"), "delete: {said}");
        self.is_clean(before, "delete");
        true
    }
}

fn is_warning(line: &str) -> bool {
    line.starts_with("hoy-runtime: warning: ")
}

/// Gives the bundle more of what can be broken.
fn enrich(bundle: &mut Bundle, user: User) {
    let full = full_config();
    for pointer in ["/hooks", "/annotations", "/linux/seccomp"] {
        bundle.set(pointer, full.pointer(pointer).unwrap().clone());
    }
    bundle.set("/process/args", json!(["/bin/true", "a"]));
    bundle.set("/process/ioPriority", full["process"]["ioPriority"].clone());
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    bundle.set("/linux/seccomp/defaultAction", json!("SCMP_ACT_ALLOW"));
    bundle.set("/linux/timeOffsets", full["linux"]["timeOffsets"].clone());
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.push("/mounts", json!({"destination": "/data", "source": "/tmp", "options": ["rbind", "ro", "rslave"]}));
    if user != User::Root {
        bundle.push("/linux/namespaces", json!({"type": "network"}));
    } else {
        bundle.set(
            "/linux/resources",
            json!({
                "pids": {"limit": 100}, "cpu": {"shares": 512, "cpus": "0"}, "memory": {"limit": 100_000_000},
                "devices": full["linux"]["resources"]["devices"],
            }),
        );
        bundle.set("/linux/devices", full["linux"]["devices"].clone());
    }
}

fn broken_configurations(user: User, name: &str) {
    let Some(victim) = Victim::new(user, name) else { return };
    // The directory of states stays from now on.
    assert_eq!(victim.run(&["create"]), (0, String::new()));
    assert_eq!(victim.run(&["delete", "--force"]), (0, String::new()));
    let before = victim.machine.look();
    // What is outside of the container stays in the sandbox.
    let kept = ["/root/path", "/linux/cgroupsPath"];
    let strategy = broken(&victim.bundle.config, &kept);
    let whole = victim.bundle.config.clone();
    let counts = RefCell::new((0, 0));
    let victim = RefCell::new(victim);
    let config = ProptestConfig { max_shrink_iters: 30, ..cases(100) };
    let result = TestRunner::new(config).run(&strategy, |document| {
        let mut victim = victim.borrow_mut();
        victim.bundle.config = document;
        let made = victim.live(&before);
        let mut counts = counts.borrow_mut();
        *counts = (counts.0 + u32::from(made), counts.1 + 1);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let mut victim = victim.into_inner();
    victim.bundle.config = whole;
    assert!(victim.live(&before));
    let (made, all) = counts.into_inner();
    eprintln!("{made} containers of {all} configurations");
    assert!(made > 0 && made < all, "{made} of {all}");
}

#[test]
fn broken_configurations_root() {
    broken_configurations(User::Root, "root");
}

#[test]
fn broken_configurations_subordinate_ids() {
    broken_configurations(User::Sub, "sub");
}

#[test]
fn broken_configurations_one_id() {
    broken_configurations(User::One, "one");
}
