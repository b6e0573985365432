//! Control groups of version 2 with every controller, as they are in the virtual machine alone: limits that can be read back,
//! and that hold.

use std::fs;
use std::path::{Path, PathBuf};

use hoy_tests::{Bundle, User, cannot, need_vm, runtime_under_test};
use serde_json::{Value, json};

/// A bundle for root, with a group of its own in a group of this test's process, and that group's directory.
fn bundle(name: &str) -> Option<(Bundle, PathBuf)> {
    let mut bundle = Bundle::new(User::Root).filter(|_| need_vm())?;
    let path = format!("/hoy-test-{}/{name}", std::process::id());
    bundle.set("/ociVersion", json!("1.0.2"));
    bundle.set("/linux/cgroupsPath", json!(path));
    Some((bundle, Path::new("/sys/fs/cgroup").join(&path[1..])))
}

/// Runs a container that prints `files` of its group, and compares with what is wanted of them.
fn holds(name: &str, resources: Value, want: &[(&str, &str)]) {
    let Some((mut bundle, directory)) = bundle(name) else { return };
    bundle.set("/linux/resources", resources);
    let files: Vec<&str> = want.iter().map(|(file, _)| *file).collect();
    bundle.script(&format!("cd /sys/fs/cgroup; for f in {}; do echo \"$f $(cat $f)\"; done", files.join(" ")));
    let lines: Vec<String> = want.iter().map(|(file, value)| format!("{file} {value}")).collect();
    let out = bundle.tested(&["run", "a"]).output();
    assert_eq!(
        (out.status, out.stdout.lines().collect::<Vec<_>>()),
        (0, lines.iter().map(String::as_str).collect()),
        "{}",
        out.stderr
    );
    assert!(!directory.exists(), "{} is left", directory.display());
}

#[test]
fn memory() {
    let memory = json!({"memory": {"limit": 104_857_600, "swap": 157_286_400, "reservation": 52_428_800}});
    let want = [("memory.max", "104857600"), ("memory.swap.max", "52428800"), ("memory.low", "52428800")];
    holds("memory", memory, &want);
    let want = [("memory.max", "104857600"), ("memory.swap.max", "max")];
    holds("memory-swap", json!({"memory": {"limit": 104_857_600, "swap": -1}}), &want);
}

#[test]
fn processor() {
    let cpu = json!({"cpu": {"shares": 2048, "quota": 20_000, "period": 50_000, "cpus": "1", "mems": "0"}});
    let want = [("cpu.max", "20000 50000"), ("cpuset.cpus", "1"), ("cpuset.mems", "0"), ("cpuset.cpus.effective", "1")];
    holds("cpu", cpu, &want);
    if !cannot(&[("crun", "1.8.1 knows neither burst nor idle"), ("runc", "1.1.5 knows no burst")]) {
        let want = [("cpu.max", "20000 50000"), ("cpu.max.burst", "10000")];
        holds("cpu-burst", json!({"cpu": {"quota": 20_000, "period": 50_000, "burst": 10_000}}), &want);
        holds("cpu-idle", json!({"cpu": {"idle": 1}}), &[("cpu.idle", "1")]);
    }
}

#[test]
fn processes_and_huge_pages() {
    let resources = json!({"pids": {"limit": 77}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
    holds("pids", resources, &[("pids.max", "77"), ("hugetlb.2MB.max", "4194304")]);
}

#[test]
fn block_devices() {
    let (major, minor) = root_device();
    let throttle = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let block = json!({"blockIO": {
        "throttleReadBpsDevice": throttle(1_048_576), "throttleWriteBpsDevice": throttle(2_097_152),
        "throttleReadIOPSDevice": throttle(300), "throttleWriteIOPSDevice": throttle(400),
    }});
    let want = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=300 wiops=400");
    holds("io", block, &[("io.max", &want)]);
}

fn root_device() -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata("/").unwrap().dev();
    (rustix::fs::major(device).into(), rustix::fs::minor(device).into())
}

#[test]
fn any_file_by_its_name() {
    let unified =
        json!({"unified": {"memory.high": "94371840", "pids.max": "55", "cpu.weight": "321", "memory.oom.group": "1"}});
    let want = [("memory.high", "94371840"), ("pids.max", "55"), ("cpu.weight", "321"), ("memory.oom.group", "1")];
    holds("unified", unified, &want);
}

#[test]
fn what_the_kernel_does_not_have_is_refused_by_name() {
    let peers = [
        ("crun", "its words are its own, and it leaves the group"),
        ("runc", "its words are its own, and it leaves the group"),
    ];
    let Some((mut bundle, directory)) = bundle("refused").filter(|_| !cannot(&peers)) else { return };
    for (resources, words) in [
        (json!({"unified": {"memory.no_such": "1"}}), ["memory", "memory.no_such"]),
        (json!({"unified": {"nothing.max": "1"}}), ["nothing", "this machine"]),
        (json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}), ["hugetlb", "hugetlb.3MB.max"]),
        (json!({"cpu": {"realtimeRuntime": 1000}}), ["cpu", "real-time"]),
        (json!({"cpu": {"cpus": "99"}}), ["cpuset.cpus", "a"]),
    ] {
        bundle.set("/linux/resources", resources);
        let stderr = bundle.tested(&["run", "a"]).fails(1, &words);
        assert!(!stderr.contains("permission denied"), "{stderr}");
        assert!(!directory.exists(), "{} is left", directory.display());
    }
}

#[test]
fn no_process_more_than_allowed() {
    let Some((mut bundle, _)) = bundle("forks") else { return };
    bundle.set("/linux/resources", json!({"pids": {"limit": 10}}));
    bundle.script("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 60 & done; echo no refusal");
    let out = bundle.tested(&["run", "a"]).output();
    assert!(out.stderr.contains("can't fork") && out.stdout.is_empty(), "{} {}", out.stdout, out.stderr);
}

#[test]
fn no_memory_more_than_allowed() {
    let Some((mut bundle, _)) = bundle("oom") else { return };
    bundle.set("/linux/resources", json!({"memory": {"limit": 16_777_216, "swap": 16_777_216}}));
    bundle.script("exec tail -c 200m /dev/zero");
    assert_eq!(bundle.tested(&["run", "a"]).output().status, 137);
    // Without a limit it gets as far as it is let.
    bundle.set("/linux/resources", json!({}));
    bundle.script("head -c 33554432 /dev/zero | tail -c 33554432 | wc -c");
    assert_eq!(bundle.tested(&["run", "a"]).ok(), "33554432");
}

#[test]
fn devices_by_access() {
    let Some((mut bundle, _)) = bundle("devices") else { return };
    let (major, minor) = root_device();
    bundle.set("/linux/devices", json!([{"path": "/dev/disk", "type": "b", "major": major, "minor": minor}]));
    let deny = json!({"allow": false, "access": "rwm"});
    let read = json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": "r"});
    bundle.set("/linux/resources", json!({"devices": [deny, read]}));
    bundle.script("head -c 512 /dev/disk | wc -c; (echo >>/dev/disk) || echo no writing; mknod /x b 1 1 || echo no making; echo >/dev/null");
    let out = bundle.tested(&["run", "a"]).output();
    assert_eq!(out.stdout, "512\nno writing\nno making\n", "{}", out.stderr);
    bundle.set("/linux/resources", json!({"devices": [deny]}));
    bundle.script("head -c 512 /dev/disk");
    let out = bundle.tested(&["run", "a"]).output();
    assert!(out.stdout.is_empty() && out.stderr.contains("Operation not permitted"), "{}", out.stderr);
}

#[test]
fn a_paused_container_does_nothing() {
    let Some((mut bundle, directory)) = bundle("pause") else { return };
    bundle.script("while :; do echo >>/ticks; sleep 0.05; done");
    bundle.leave_tested(&["run", "--detach", "a"]);
    let size = || fs::metadata(bundle.path("rootfs/ticks")).map_or(0, |metadata| metadata.len());
    let wait = || std::thread::sleep(std::time::Duration::from_millis(1000));
    bundle.tested(&["pause", "a"]).ok();
    assert!(fs::read_to_string(directory.join("cgroup.events")).unwrap().contains("frozen 1"));
    let before = size();
    wait();
    assert_eq!(size(), before);
    bundle.tested(&["resume", "a"]).ok();
    wait();
    assert!(size() > before);
    bundle.tested(&["delete", "--force", "a"]).ok();
    assert!(!directory.exists());
}

/// A container may divide its group as systemd does; a group with groups that have limits can have no process itself.
#[test]
fn a_container_divides_its_group() {
    let Some((mut bundle, directory)) = bundle("divided") else { return };
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["rw"]);
        }
    }
    bundle.set("/linux/resources", json!({"pids": {"limit": 50}}));
    bundle.script("cd /sys/fs/cgroup; mkdir init; echo 1 >init/cgroup.procs; echo +pids >cgroup.subtree_control; echo >/ready; sleep 1000");
    bundle.leave_tested(&["run", "--detach", "a"]);
    for _ in 0..500 {
        if bundle.path("rootfs/ready").exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(bundle.tested(&["exec", "a", "cat", "/proc/self/cgroup"]).ok(), "0::/init");
    assert_eq!(bundle.tested(&["exec", "a", "cat", "/sys/fs/cgroup/pids.max"]).ok(), "50");
    bundle.tested(&["delete", "--force", "a"]).ok();
    assert!(!directory.exists());
}

/// Root here has what it lacks in a container: CAP_SYS_RESOURCE.
#[test]
fn what_needs_more_privilege() {
    let Some((mut bundle, _)) = bundle("privilege") else { return };
    bundle.set("/process/oomScoreAdj", json!(-500));
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "hard": 1_000_000, "soft": 900_000}]));
    bundle.script("cat /proc/self/oom_score_adj; ulimit -Sn; ulimit -Hn");
    let out = bundle.tested(&["run", "a"]).output();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("-500\n900000\n1000000\n", ""), "{}", runtime_under_test());
}
