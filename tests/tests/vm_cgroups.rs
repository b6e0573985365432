//! Control groups of version 2 alone: updates, groups inside the container, freezing and killing, what is not delegated.

use std::fs;
use std::path::{Path, PathBuf};

use hoy_tests::{Bundle, Run, User, skip};
use serde_json::{Value, json};

fn need_v2() -> bool {
    let is_there = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if !is_there {
        skip("control groups of version 2 are not alone");
    }
    is_there
}

/// A container in the group `/hoytest/NAME`, deleted at the end.
struct Sleeper {
    bundle: Bundle,
    group: PathBuf,
}

impl Sleeper {
    fn new(name: &str, resources: Value) -> Option<Self> {
        if !need_v2() {
            return None;
        }
        let mut bundle = Bundle::new(User::Root)?;
        let path = format!("/hoytest/{name}");
        bundle.set("/linux/cgroupsPath", json!(path));
        bundle.set("/linux/resources", resources);
        bundle.script("sleep 1000 & sleep 1000");
        bundle.leave(&["run", "--detach", "a"]);
        Some(Self { bundle, group: Path::new("/sys/fs/cgroup").join(&path[1..]) })
    }

    #[track_caller]
    fn update(&self, args: &[&str], files: &[(&str, &str)]) {
        self.bundle.hoy(&[&["update"], args, &["a"]].concat()).ok();
        for (file, want) in files {
            assert_eq!(fs::read_to_string(self.group.join(file)).unwrap().trim(), *want, "{file} after {args:?}");
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.bundle.hoy(&["delete", "--force", "a"]).output();
    }
}

#[test]
fn updates() {
    let resources = json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}, "cpu": {"quota": 20000, "period": 50000}});
    let Some(sleeper) = Sleeper::new("updates", resources) else { return };
    // The limit of memory and swap together stays: that of swap alone gives way.
    sleeper.update(&["--memory", "80m"], &[("memory.max", "83886080"), ("memory.swap.max", "16777216")]);
    sleeper.update(&["--memory=-1"], &[("memory.max", "max"), ("memory.swap.max", "max")]);
    sleeper.update(&["--cpu-period", "100000"], &[("cpu.max", "20000 100000")]);
    sleeper.update(&["--cpu-burst", "15000"], &[("cpu.max.burst", "15000")]);
    sleeper.update(&["--cpu-quota", "5000", "--cpu-burst", "4000"], &[("cpu.max", "5000 100000")]);
    sleeper.update(&["--cpu-quota", "90000", "--cpu-burst", "80000"], &[("cpu.max.burst", "80000")]);
    sleeper.update(&["--cpu-share", "2048"], &[("cpu.weight", "79")]);
    sleeper.update(&["--cpu-idle", "1"], &[("cpu.idle", "1")]);
    sleeper.update(&["--cpu-idle", "0", "--cpu-share", "1024"], &[("cpu.idle", "0"), ("cpu.weight", "39")]);
    sleeper.update(&["--cpuset-cpus", "0", "--cpuset-mems", "0"], &[("cpuset.cpus", "0"), ("cpuset.mems", "0")]);
    sleeper.update(
        &["--pids-limit", "44", "--memory-reservation", "1m"],
        &[("pids.max", "44"), ("memory.low", "1048576")],
    );
    let check = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}}).to_string();
    let words = ["set memory limit: 4096 bytes are less than the "];
    sleeper.bundle.hoy(&["update", "-r", "-", "a"]).stdin(check).fails(1, &words);
    let unified = json!({"unified": {"memory.high": "50331648"}}).to_string();
    sleeper.bundle.hoy(&["update", "-r", "-", "a"]).stdin(unified).ok();
    sleeper.update(&["--pids-limit", "-1"], &[("pids.max", "max"), ("memory.high", "50331648")]);
}

#[test]
fn every_controller_is_handed_down() {
    let Some(sleeper) = Sleeper::new("down/deep/er", json!({})) else { return };
    let words = |file: &str| {
        let text = fs::read_to_string(file).unwrap();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let here = sleeper.group.join("cgroup.controllers").to_string_lossy().into_owned();
    assert_eq!(words(&here), words("/sys/fs/cgroup/cgroup.controllers"));
}

#[test]
fn exec_goes_where_the_first_process_is() {
    let Some(sleeper) = Sleeper::new("inner", json!({"memory": {"limit": 64 << 20}})) else { return };
    let inner = sleeper.group.join("inner");
    fs::create_dir(&inner).unwrap();
    loop {
        let pids = fs::read_to_string(sleeper.group.join("cgroup.procs")).unwrap();
        // One that has ended meanwhile is not there to be moved.
        pids.lines().for_each(|pid| fs::write(inner.join("cgroup.procs"), pid).unwrap_or_default());
        if pids.is_empty() {
            break;
        }
    }
    fs::write(sleeper.group.join("cgroup.subtree_control"), "+memory").unwrap();
    let own =
        |args: &[&str]| sleeper.bundle.hoy(&[&["exec"], args, &["a", "cat", "/proc/self/cgroup"]].concat()).output();
    assert_eq!(own(&[]).stdout, "0::/inner\n");
    assert_eq!(own(&["--cgroup", "inner"]).stdout, "0::/inner\n");
    assert_ne!(own(&["--cgroup", "/"]).status, 0);
    assert!(own(&["--cgroup", "../x"]).stderr.contains("bad sub cgroup path"));
    sleeper.bundle.hoy(&["kill", "--all", "a", "KILL"]).ok();
    sleeper.bundle.hoy(&["delete", "--force", "a"]).ok();
    assert!(!sleeper.group.exists());
}

#[test]
fn frozen_processes_are_killed() {
    let Some(sleeper) = Sleeper::new("frozen", json!({})) else { return };
    sleeper.bundle.hoy(&["pause", "a"]).ok();
    assert!(fs::read_to_string(sleeper.group.join("cgroup.events")).unwrap().contains("frozen 1"));
    sleeper.bundle.hoy(&["kill", "a", "KILL"]).ok();
    for _ in 0..500 {
        if sleeper.bundle.hoy(&["state", "a"]).ok().contains("stopped") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    sleeper.bundle.hoy(&["delete", "a"]).ok();
    assert!(!sleeper.group.exists());
}

#[test]
fn what_is_not_there_or_not_delegated_is_named() {
    if !need_v2() {
        return;
    }
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("true");
    bundle.set("/linux/cgroupsPath", json!("/hoytest/named"));
    let cases = [
        (json!({"unified": {"nosuch.max": "1"}}), "set nosuch limit: the control groups of this machine do not hand"),
        (
            json!({"unified": {"memory.nosuch": "1"}}),
            "set memory limit: there is no \"/sys/fs/cgroup/hoytest/named/memory.nosuch\"",
        ),
        (json!({"cpu": {"realtimeRuntime": 5}}), "set cpu limit: control groups of version 2 have no real-time limits"),
        (json!({"network": {"classID": 5}}), "set network limit: control groups of version 2 have no network classes"),
    ];
    for (resources, want) in cases {
        bundle.set("/linux/resources", resources);
        bundle.hoy(&["run", "a"]).fails(1, &[want]);
    }
    assert!(!Path::new("/sys/fs/cgroup/hoytest/named").exists());
    // A group with a process of its own hands nothing down.
    let busy = Path::new("/sys/fs/cgroup/hoytest-busy");
    fs::create_dir(busy).unwrap();
    let mut inside = Run::new("sleep").arg("1000").spawn();
    fs::write(busy.join("cgroup.procs"), inside.id().to_string()).unwrap();
    bundle.set("/linux/cgroupsPath", json!("/hoytest-busy/a"));
    bundle.set("/linux/resources", json!({"memory": {"limit": 64 << 20}}));
    let words = ["set memory limit: \"/sys/fs/cgroup/hoytest-busy\" has processes of its own", "another cgroupsPath"];
    bundle.hoy(&["run", "a"]).fails(1, &words);
    inside.kill().unwrap();
    inside.wait().unwrap();
    for _ in 0..100 {
        if fs::remove_dir(busy).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_limit_that_a_user_may_not_set() {
    if !need_v2() {
        return;
    }
    let Some(mut bundle) = Bundle::new(User::Sub) else { return };
    bundle.script("true");
    bundle.hoy(&["run", "a"]).ok();
    bundle.set("/linux/resources", json!({"pids": {"limit": 5}}));
    bundle.hoy(&["run", "a"]).fails(1, &["set pids limit: this user may not make", "--systemd-cgroup"]);
}
