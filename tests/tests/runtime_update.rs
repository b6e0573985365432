//! `update`: limits of a container that runs, seen in its control group.

use std::fs;
use std::path::{Path, PathBuf};

use hoy_tests::{Bundle, User, skip};
use serde_json::{Value, json};

/// A container that sleeps, deleted at the end.
struct Sleeper {
    bundle: Bundle,
    groups: Value,
}

impl Sleeper {
    fn new(resources: Value) -> Option<Self> {
        let mut bundle = Bundle::new(User::Root)?;
        bundle.set("/linux/resources", resources);
        bundle.script("sleep 1000");
        bundle.leave(&["run", "--detach", "a"]);
        let state = fs::read(bundle.path("../run/state/a/state.json")).unwrap();
        let groups = serde_json::from_slice::<Value>(&state).unwrap()["cgroups"].clone();
        Some(Self { bundle, groups })
    }

    /// The directory of its group with a controller of version 1; none, and the test skipped, where there is none.
    fn v1(&self, controller: &str) -> Option<PathBuf> {
        let groups = self.groups.as_object().unwrap();
        let found = groups.iter().find(|(names, _)| names.split(',').any(|name| name == controller));
        if found.is_none() {
            skip(&format!("no controller \"{controller}\" of version 1"));
        }
        found.map(|(_, path)| PathBuf::from(path.as_str().unwrap()))
    }

    #[track_caller]
    fn update(&self, args: &[&str]) {
        self.bundle.hoy(&[&["update"], args, &["a"]].concat()).ok();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.bundle.hoy(&["delete", "--force", "a"]).output();
    }
}

#[track_caller]
fn has(group: &Path, files: &[(&str, &str)]) {
    for (file, want) in files {
        assert_eq!(fs::read_to_string(group.join(file)).unwrap().trim(), *want, "{file}");
    }
}

#[test]
fn memory_and_swap_are_raised_and_lowered_together() {
    let Some(sleeper) = Sleeper::new(json!({"memory": {"limit": 64 << 20, "swap": 128 << 20}})) else { return };
    let Some(group) = sleeper.v1("memory") else { return };
    let limits = |memory: &str, swap: &str| {
        has(&group, &[("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", swap)]);
    };
    if !group.join("memory.memsw.limit_in_bytes").exists() {
        skip("the kernel does not count swap");
        return;
    }
    limits("67108864", "134217728");
    sleeper.update(&["--memory", "256M", "--memory-swap", "512M"]);
    limits("268435456", "536870912");
    sleeper.update(&["--memory=32m", "--memory-swap=0.0625g", "--memory-reservation", "16m"]);
    limits("33554432", "67108864");
    has(&group, &[("memory.soft_limit_in_bytes", "16777216")]);
    sleeper.update(&["--memory-swap", "-1"]);
    has(&group, &[("memory.limit_in_bytes", "33554432")]);
    assert!(fs::read_to_string(group.join("memory.memsw.limit_in_bytes")).unwrap().trim().len() > 15);
    sleeper.update(&["-m", "-1"]);
    assert!(fs::read_to_string(group.join("memory.limit_in_bytes")).unwrap().trim().len() > 15);
    has(&group, &[("memory.soft_limit_in_bytes", "16777216")]);
}

#[test]
fn a_limit_of_memory_below_what_is_in_use_is_refused() {
    let Some(sleeper) = Sleeper::new(json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}})) else { return };
    let Some(group) = sleeper.v1("memory") else { return };
    sleeper.bundle.hoy(&["exec", "a", "true"]).ok();
    let update = |json: Value| sleeper.bundle.hoy(&["update", "--resources=-", "a"]).stdin(json.to_string());
    let words = ["set memory limit: 4096 bytes are less than the ", " in use"];
    update(json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}})).fails(1, &words);
    has(&group, &[("memory.limit_in_bytes", "67108864")]);
    // What was refused is not remembered.
    sleeper.update(&["--memory-reservation", "1m"]);
    has(&group, &[("memory.limit_in_bytes", "67108864")]);
}

#[test]
fn processor_time() {
    let Some(sleeper) = Sleeper::new(json!({"cpu": {"quota": 50000, "period": 100000}})) else { return };
    let Some(group) = sleeper.v1("cpu") else { return };
    sleeper.update(&["--cpu-quota", "20000"]);
    has(&group, &[("cpu.cfs_quota_us", "20000"), ("cpu.cfs_period_us", "100000")]);
    sleeper.update(&["--cpu-burst", "15000", "--cpu-share", "512"]);
    has(&group, &[("cpu.cfs_burst_us", "15000"), ("cpu.shares", "512")]);
    // The quota may never be below the burst, nor the burst above the quota.
    sleeper.update(&["--cpu-quota", "5000", "--cpu-burst", "4000", "--cpu-period", "10000"]);
    has(&group, &[("cpu.cfs_quota_us", "5000"), ("cpu.cfs_burst_us", "4000"), ("cpu.cfs_period_us", "10000")]);
    sleeper.update(&["--cpu-quota", "90000", "--cpu-burst", "80000", "--cpu-period", "100000"]);
    has(&group, &[("cpu.cfs_quota_us", "90000"), ("cpu.cfs_burst_us", "80000")]);
    sleeper.update(&["--cpu-burst", "0", "--cpu-quota", "-1"]);
    has(&group, &[("cpu.cfs_quota_us", "-1"), ("cpu.shares", "512")]);
    sleeper.update(&["--cpu-idle", "1"]);
    has(&group, &[("cpu.idle", "1")]);
    sleeper.update(&["--cpu-period", "50000"]);
    sleeper.update(&["--cpu-idle", "0", "--cpu-share", "256"]);
    has(&group, &[("cpu.idle", "0"), ("cpu.shares", "256"), ("cpu.cfs_period_us", "50000")]);
}

#[test]
fn processors_processes_and_files_of_resources() {
    let Some(sleeper) = Sleeper::new(json!({"pids": {"limit": 20}})) else { return };
    let (Some(pids), Some(cpuset)) = (sleeper.v1("pids"), sleeper.v1("cpuset")) else { return };
    has(&pids, &[("pids.max", "20")]);
    sleeper.update(&["--pids-limit", "-1", "--cpuset-cpus", "0", "--cpuset-mems", "0"]);
    has(&pids, &[("pids.max", "max")]);
    has(&cpuset, &[("cpuset.cpus", "0"), ("cpuset.mems", "0")]);
    let resources = json!({"pids": {"limit": 33}, "memory": {}, "devices": null, "cpu": {"cpus": ""}}).to_string();
    fs::write(sleeper.bundle.path("resources.json"), &resources).unwrap();
    let both = ["update", "--resources=resources.json", "--pids-limit", "44", "a"];
    sleeper.bundle.hoy(&both).fails(2, &["--resources is given beside other limits"]);
    sleeper.update(&["--resources=resources.json"]);
    has(&pids, &[("pids.max", "33")]);
    // The two ways in which containerd and CRI-O write it.
    for (flags, limit) in [(["--resources", "-"].as_slice(), 34), (&["--resources=-"], 35)] {
        let json = json!({"pids": {"limit": limit}}).to_string();
        sleeper.bundle.hoy(&[&["update"], flags, &["a"]].concat()).stdin(json).ok();
        has(&pids, &[("pids.max", &limit.to_string())]);
    }
    sleeper.bundle.hoy(&["update", "a", "--pids-limit=36"]).ok();
    has(&pids, &[("pids.max", "36")]);
}

#[test]
fn what_cannot_be_changed_is_said() {
    let Some(sleeper) = Sleeper::new(json!({})) else { return };
    let fails =
        |args: &[&str], words: &[&str]| sleeper.bundle.hoy(&[&["update"], args, &["a"]].concat()).fails(1, words);
    fails(&["--l3-cache-schema", "L3:0=f"], &["change schemata: the container has no linux.intelRdt"]);
    fails(&["--resources", "/no/such"], &["read \"/no/such\""]);
    sleeper.bundle.hoy(&["update", "-r", "-", "a"]).stdin("{").fails(1, &["read resources"]);
    sleeper.bundle.hoy(&["update", "--memory", "lots", "a"]).fails(2, &["is not a size"]);
    sleeper.bundle.hoy(&["update", "--pids-limit", "5", "b"]).fails(1, &["container \"b\" does not exist"]);
    let out = sleeper.bundle.hoy(&["update", "--kernel-memory", "9m", "a"]).output();
    assert!(out.status == 0 && out.stderr.contains("counts with the rest"), "{}", out.stderr);
    if sleeper.v1("cpu").is_some() {
        let unified = json!({"unified": {"memory.high": "9"}}).to_string();
        let words = ["\"unified\" needs control groups of version 2"];
        sleeper.bundle.hoy(&["update", "-r", "-", "a"]).stdin(unified).fails(1, &words);
    }
    sleeper.bundle.hoy(&["kill", "a", "KILL"]).ok();
    let mut tries = 0;
    while !sleeper.bundle.hoy(&["state", "a"]).ok().contains("stopped") {
        tries += 1;
        assert!(tries < 500, "the container does not end");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    fails(&["--pids-limit", "5"], &["container not running"]);
}
