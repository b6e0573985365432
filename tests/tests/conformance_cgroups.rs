//! Control groups: runtime-spec config-linux.md "Control groups", seen in the kernel's files, on versions 1 and 2.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use hoy_tests::{Bundle, Run, User, cannot, runtime_under_test, skip};
use serde_json::{Value, json};

/// A container that sleeps in a group of its own, deleted at the end.
struct Limited {
    bundle: Bundle,
    pid: String,
}

fn new_group() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("/hoy-conformance-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

impl Limited {
    fn new(resources: Value) -> Option<Self> {
        let mut bundle = Bundle::new(User::Root)?;
        bundle.set("/ociVersion", json!("1.0.2"));
        bundle.set("/linux/cgroupsPath", json!(new_group()));
        bundle.set("/linux/resources", resources);
        bundle.script("sleep 1000");
        bundle.leave_tested(&["run", "--detach", "a"]);
        let state: Value = serde_json::from_str(&bundle.tested(&["state", "a"]).ok()).unwrap();
        Some(Self { bundle, pid: state["pid"].to_string() })
    }

    /// The directory of its group with a controller, whatever the version; `None` where there is no such controller.
    fn group(&self, controller: &str) -> Option<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap();
        let find = |wanted: &dyn Fn(&str) -> bool| {
            text.lines().find_map(|line| {
                let (names, path) = line.split_once(':')?.1.split_once(':')?;
                wanted(names).then(|| (names.to_owned(), path.trim_start_matches('/').to_owned()))
            })
        };
        let top = Path::new("/sys/fs/cgroup");
        if is_v2() {
            return find(&|names| names.is_empty()).map(|(_, path)| top.join(path));
        }
        find(&|names| names.split(',').any(|name| name == controller)).map(|(names, path)| top.join(names).join(path))
    }

    #[track_caller]
    fn file(&self, file: &str) -> String {
        let group = self.group(file.split('.').next().unwrap()).expect("the group is there");
        fs::read_to_string(group.join(file)).unwrap_or_else(|e| panic!("{file}: {e}")).trim().to_owned()
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.bundle.tested(&["delete", "--force", "a"]).output();
    }
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Starts a container with `resources` and holds files of its group to what is wanted on this version.
#[track_caller]
fn check(resources: Value, v1: &[(&str, &str)], v2: &[(&str, &str)]) {
    let files = if is_v2() { v2 } else { v1 };
    let Some((first, _)) = files.first() else {
        skip(&format!("version {} of control groups has no {resources}", if is_v2() { 2 } else { 1 }));
        return;
    };
    let controller = first.split('.').next().unwrap();
    let there = if is_v2() {
        let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        controllers.split_whitespace().any(|name| name == controller)
    } else {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
        groups.lines().any(|line| line.split(':').nth(1).unwrap().split(',').any(|name| name == controller))
    };
    if !there {
        skip(&format!("no controller \"{controller}\""));
        return;
    }
    let Some(limited) = Limited::new(resources.clone()) else { return };
    for (file, want) in files {
        assert_eq!(limited.file(file), *want, "{file} for {resources}");
    }
}

#[test]
fn memory() {
    let resources = json!({"memory": {"limit": 64 << 20, "reservation": 32 << 20}});
    let v1 = [("memory.limit_in_bytes", "67108864"), ("memory.soft_limit_in_bytes", "33554432")];
    check(resources, &v1, &[("memory.max", "67108864"), ("memory.low", "33554432")]);
    let resources = json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}});
    check(resources, &[("memory.memsw.limit_in_bytes", "100663296")], &[("memory.swap.max", "33554432")]);
    check(json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}}), &[], &[("memory.swap.max", "0")]);
    check(json!({"memory": {"limit": -1, "swap": -1}}), &[], &[("memory.max", "max"), ("memory.swap.max", "max")]);
    check(json!({"memory": {"swappiness": 7}}), &[("memory.swappiness", "7")], &[]);
}

#[test]
fn processor_time() {
    let resources = json!({"cpu": {"shares": 512, "quota": 30000, "period": 60000}});
    let v1 = [("cpu.shares", "512"), ("cpu.cfs_quota_us", "30000"), ("cpu.cfs_period_us", "60000")];
    check(resources, &v1, &[("cpu.max", "30000 60000")]);
    if cannot(&[("runc", "1.1.5 is older than burst and idle"), ("crun", "1.8.1 has no burst on version 1")]) {
        return;
    }
    let resources = json!({"cpu": {"quota": 30000, "burst": 9000}});
    check(resources, &[("cpu.cfs_burst_us", "9000")], &[("cpu.max.burst", "9000")]);
    check(json!({"cpu": {"idle": 1}}), &[("cpu.idle", "1")], &[("cpu.idle", "1")]);
}

#[test]
fn processors_and_nodes() {
    let files = [("cpuset.cpus", "0"), ("cpuset.mems", "0")];
    check(json!({"cpu": {"cpus": "0", "mems": "0"}}), &files, &files);
}

#[test]
fn processes() {
    check(json!({"pids": {"limit": 37}}), &[("pids.max", "37")], &[("pids.max", "37")]);
    if cannot(&[("crun", "1.8.1 writes -1, which is no limit that the kernel knows")]) {
        return;
    }
    check(json!({"pids": {"limit": -1}}), &[("pids.max", "max")], &[("pids.max", "max")]);
}

#[test]
fn huge_pages() {
    let resources = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]});
    check(resources, &[("hugetlb.2MB.limit_in_bytes", "4194304")], &[("hugetlb.2MB.max", "4194304")]);
}

#[test]
fn network() {
    check(json!({"network": {"classID": 1_048_577}}), &[("net_cls.classid", "1048577")], &[]);
}

#[test]
fn real_time() {
    if cannot(&[("crun", "it shares its group of version 1 with no runtime for real time above")]) {
        return;
    }
    // The groups above have no time for it, so it can only be refused: by the kernel, and told.
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/linux/cgroupsPath", json!(new_group()));
    bundle.set("/linux/resources", json!({"cpu": {"realtimeRuntime": 2_000_000, "realtimePeriod": 1_000_000}}));
    let out = bundle.tested(&["run", "a"]).output();
    assert_ne!(out.status, 0);
    assert!(out.stderr.contains("real-time") || out.stderr.contains("rt_runtime"), "{}", out.stderr);
}

#[test]
fn block_devices() {
    let disks = fs::read_dir("/sys/block").unwrap().flatten();
    let number = disks.filter_map(|disk| fs::read_to_string(disk.path().join("dev")).ok()).next();
    let Some(number) = number.map(|text| text.trim().to_owned()) else {
        skip("no block device");
        return;
    };
    let (major, minor) = number.split_once(':').unwrap();
    let rate = |rate: u32| json!([{"major": major.parse::<u32>().unwrap(), "minor": minor.parse::<u32>().unwrap(), "rate": rate}]);
    let resources = json!({"blockIO": {"throttleReadBpsDevice": rate(1 << 20), "throttleWriteIOPSDevice": rate(77)}});
    let (bytes, operations) = (format!("{number} 1048576"), format!("{number} 77"));
    let v1 =
        [("blkio.throttle.read_bps_device", bytes.as_str()), ("blkio.throttle.write_iops_device", operations.as_str())];
    check(resources, &v1, &[("io.max", &format!("{number} rbps=1048576 wbps=max riops=max wiops=77"))]);
}

#[test]
fn unified() {
    let resources = json!({"unified": {"memory.high": "50331648", "pids.max": "41", "cgroup.max.descendants": "9"}});
    if is_v2() {
        let files = [("memory.high", "50331648"), ("pids.max", "41"), ("cgroup.max.descendants", "9")];
        return check(resources, &[], &files);
    }
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/linux/cgroupsPath", json!(new_group()));
    bundle.set("/linux/resources", resources);
    assert_ne!(bundle.tested(&["run", "a"]).output().status, 0);
}

#[test]
fn devices() {
    let mut rules = vec![
        json!({"allow": false, "access": "rwm"}),
        json!({"allow": true, "type": "c", "major": 240, "minor": 1, "access": "r"}),
        json!({"allow": true, "type": "b", "major": 241, "access": "rw"}),
    ];
    // Version 1 has no such exception from an exception.
    let last = if is_v2() { "1" } else { "0" };
    if is_v2() {
        rules.push(json!({"allow": false, "type": "b", "major": 241, "minor": 7, "access": "w"}));
    }
    let Some(limited) = Limited::new(json!({"devices": rules})) else { return };
    let root = limited.bundle.path("rootfs");
    for (name, kind, major, minor) in
        [("one", "c", "240", "1"), ("two", "c", "240", "2"), ("disk", "b", "241", "9"), ("seven", "b", "241", "7")]
    {
        Run::new("mknod").arg(root.join(name)).args([kind, major, minor]).ok();
    }
    // There are no such devices: who may use them is told that, and who may not is told so.
    let mut script = String::new();
    for (device, mode) in
        [("one", "<"), ("one", ">"), ("two", "<"), ("disk", "<"), ("disk", ">"), ("seven", "<"), ("seven", ">")]
    {
        script += &format!("(: {mode}/{device}) 2>&1 | grep -c 'not permitted'; ");
    }
    script += "(: >/dev/null) 2>&1 | wc -l";
    let out = limited.bundle.tested(&["exec", "a", "sh", "-c", &script]).ok();
    assert_eq!(out.split_whitespace().collect::<Vec<_>>().join(" "), format!("0 1 1 0 0 0 {last} 0"));
}

#[test]
fn a_group_of_its_own_that_goes_with_it() {
    let Some(limited) = Limited::new(json!({"pids": {"limit": 9}})) else { return };
    let group = limited.group("pids").unwrap();
    assert!(fs::read_to_string(group.join("cgroup.procs")).unwrap().lines().any(|pid| pid == limited.pid));
    limited.bundle.tested(&["exec", "a", "sh", "-c", "true"]).ok();
    let below = group.join("made-in-it");
    fs::create_dir(&below).unwrap();
    limited.bundle.tested(&["delete", "--force", "a"]).ok();
    assert!(!group.exists(), "{} left \"{}\"", runtime_under_test(), group.display());
}

#[test]
fn pause_and_resume() {
    let Some(limited) = Limited::new(json!({})) else { return };
    let status = || {
        let state: Value = serde_json::from_str(&limited.bundle.tested(&["state", "a"]).ok()).unwrap();
        state["status"].as_str().unwrap().to_owned()
    };
    limited.bundle.tested(&["pause", "a"]).ok();
    assert_eq!(status(), "paused");
    let file = if is_v2() { "cgroup.events" } else { "freezer.state" };
    let frozen = limited.file(file);
    assert!(frozen == "FROZEN" || frozen.contains("frozen 1"), "{frozen}");
    limited.bundle.tested(&["resume", "a"]).ok();
    assert_eq!(status(), "running");
}
