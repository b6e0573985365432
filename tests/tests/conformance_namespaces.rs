//! Namespaces: runtime-spec config-linux.md "Namespaces", "User namespace mappings", "Offset for Time Namespace", "Sysctl".

use std::fs;
use std::process::Child;

use hoy_tests::{Bundle, Run, User, cannot, runtime_under_test};
use serde_json::json;

/// The names in configurations, and in /proc/PID/ns.
const KINDS: [(&str, &str); 8] = [
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("uts", "uts"),
    ("ipc", "ipc"),
    ("user", "user"),
    ("pid", "pid"),
    ("network", "net"),
    ("time", "time"),
];

fn bundle() -> Option<Bundle> {
    let mut bundle = Bundle::new(User::Root)?;
    bundle.set("/ociVersion", json!("1.0.2"));
    Some(bundle)
}

/// Makes the namespace `kind` new, joined by `path`, or the caller's.
fn set(bundle: &mut Bundle, kind: &str, path: Option<Option<&str>>) {
    let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != kind);
    match path {
        Some(Some(path)) => list.push(json!({"type": kind, "path": path})),
        Some(None) => list.push(json!({"type": kind})),
        None => {}
    }
}

/// A process that keeps namespaces of its own, made by unshare(1) with these options.
struct Keeper {
    child: Child,
    pid: u32,
}

impl Keeper {
    fn new(options: &[&str]) -> Self {
        let child = Run::new("unshare").args(options).args(["sleep", "1000"]).spawn();
        let mut keeper = Self { pid: child.id(), child };
        let is_sleep = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
        for _ in 0..500 {
            // With --fork the one inside is the child.
            let outer = keeper.child.id();
            let below = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap_or_default();
            keeper.pid = below.split_whitespace().next().and_then(|pid| pid.parse().ok()).unwrap_or(outer);
            if is_sleep(keeper.pid) {
                return keeper;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("unshare {options:?} made nothing");
    }

    /// The same with a user namespace, whose ids are mapped.
    fn mapped(options: &[&str]) -> Self {
        let keeper = Self::new(options);
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{file}", keeper.pid), "0 200000 65536").unwrap();
        }
        keeper
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/ns/{file}", self.pid)
    }

    fn link(&self, file: &str) -> String {
        fs::read_link(self.path(file)).unwrap().to_str().unwrap().to_owned()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if self.pid != self.child.id() {
            Run::new("kill").args(["-9", &self.pid.to_string()]).output();
        }
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}

#[test]
fn new_ones_are_not_the_callers() {
    let Some(mut bundle) = bundle() else { return };
    let old = cannot(&[("crun", "1.8.1 has no time namespaces"), ("runc", "1.1 has no time namespaces")]);
    let kinds = KINDS.into_iter().filter(|(kind, _)| *kind != "user" && !(old && *kind == "time"));
    let files: Vec<&str> = kinds.clone().map(|(_, file)| file).collect();
    for (kind, _) in kinds {
        set(&mut bundle, kind, Some(None));
    }
    let script = format!("for n in {}; do readlink /proc/self/ns/$n; done", files.join(" "));
    bundle.script(&script);
    let out = bundle.tested(&["run", "a"]).ok();
    assert_eq!(out.lines().count(), files.len());
    for (file, link) in files.iter().zip(out.lines()) {
        let own = fs::read_link(format!("/proc/self/ns/{file}")).unwrap();
        assert_ne!(own.to_str(), Some(link), "{file}");
    }
}

#[test]
fn those_not_listed_are_the_callers() {
    let Some(mut bundle) = bundle() else { return };
    bundle.set("/hostname", json!(null));
    for kind in ["uts", "ipc", "network", "cgroup"] {
        set(&mut bundle, kind, None);
    }
    bundle.script("for n in uts ipc net cgroup; do readlink /proc/self/ns/$n; done");
    let out = bundle.tested(&["run", "a"]).ok();
    for (file, link) in ["uts", "ipc", "net", "cgroup"].iter().zip(out.lines()) {
        assert_eq!(fs::read_link(format!("/proc/self/ns/{file}")).unwrap().to_str(), Some(link));
    }
}

#[test]
fn each_kind_is_joined_by_its_path() {
    let options = [
        ("cgroup", &["--cgroup"][..]),
        ("uts", &["--uts"]),
        ("ipc", &["--ipc"]),
        ("pid", &["--pid", "--fork"]),
        ("network", &["--net"]),
        ("time", &["--time", "--boottime", "1000", "--fork"]),
        ("mount", &["--mount"]),
    ];
    let old = cannot(&[("crun", "1.8.1 has no time namespaces"), ("runc", "1.1 has no time namespaces")]);
    for (kind, options) in options {
        if old && kind == "time" {
            continue;
        }
        let Some(mut bundle) = bundle() else { return };
        let keeper = Keeper::new(options);
        let file = KINDS.iter().find(|(name, _)| *name == kind).unwrap().1;
        set(&mut bundle, kind, Some(Some(&keeper.path(file))));
        fs::write(bundle.path("rootfs/mark"), "").unwrap();
        bundle.script(&format!("readlink /proc/self/ns/{file}; ls /mark"));
        let out = bundle.tested(&["run", "a"]).output();
        let root = format!("/proc/{}/root/", keeper.pid);
        let want = format!("{}\n/mark\n", keeper.link(file));
        assert_eq!((out.status, out.stdout.as_str()), (0, want.as_str()), "{kind}: {}", out.stderr);
        let theirs = [("crun", "it changes the root of all there"), ("runc", "it changes the root of all there")];
        if kind != "mount" || !cannot(&theirs) {
            assert!(!fs::exists(format!("{root}mark")).unwrap(), "{kind}: who was there keeps his root");
        }
    }
}

#[test]
fn a_user_namespace_is_joined_with_what_it_owns() {
    if cannot(&[("runc", "1.1 wants id maps for a user namespace that it joins")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    let keeper = Keeper::mapped(&["--user", "--net", "--uts", "--ipc"]);
    Run::new("chown").args(["-hR", "200000:200000"]).arg(bundle.path("rootfs")).ok();
    for (kind, file) in [("user", "user"), ("network", "net"), ("uts", "uts"), ("ipc", "ipc")] {
        set(&mut bundle, kind, Some(Some(&keeper.path(file))));
    }
    bundle.script("for n in user net uts ipc; do readlink /proc/self/ns/$n; done; id -u");
    let out = bundle.tested(&["run", "a"]).output();
    let links = ["user", "net", "uts", "ipc"].map(|file| keeper.link(file));
    assert_eq!((out.status, out.stdout), (0, format!("{}\n0\n", links.join("\n"))), "{}", out.stderr);
}

#[test]
fn a_new_user_namespace_and_a_joined_network() {
    if cannot(&[("crun", "1.8.1 joins with the rights of the new namespace alone")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    let keeper = Keeper::new(&["--net"]);
    Run::new("chown").args(["-hR", "200000:200000"]).arg(bundle.path("rootfs")).ok();
    set(&mut bundle, "user", Some(None));
    let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    bundle.set("/linux/uidMappings", map.clone());
    bundle.set("/linux/gidMappings", map);
    set(&mut bundle, "network", Some(Some(&keeper.path("net"))));
    // A sysfs shows a network, and only who owns that may mount one.
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| mount["type"] != "sysfs" && mount["type"] != "cgroup");
    bundle.script("readlink /proc/self/ns/net; cat /proc/self/uid_map | tr -s ' '");
    let out = bundle.tested(&["run", "a"]).output();
    assert_eq!(out.stdout, format!("{}\n 0 200000 65536\n", keeper.link("net")), "{}", out.stderr);
}

#[test]
fn a_joined_user_namespace_and_a_network_that_it_does_not_own() {
    if cannot(&[("runc", "1.1 wants id maps for a user namespace that it joins")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    let (user, other) = (Keeper::mapped(&["--user"]), Keeper::new(&["--net"]));
    Run::new("chown").args(["-hR", "200000:200000"]).arg(bundle.path("rootfs")).ok();
    set(&mut bundle, "user", Some(Some(&user.path("user"))));
    set(&mut bundle, "network", Some(Some(&other.path("net"))));
    // A sysfs shows a network, and only who owns that may mount one.
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "sysfs" && mount["type"] != "cgroup");
    bundle.set("/process/args", json!(["/bin/sleep", "1000"]));
    bundle.leave_tested(&["run", "-d", "a"]);
    let script =
        "readlink /proc/self/ns/user; readlink /proc/1/ns/user; readlink /proc/self/ns/net; readlink /proc/1/ns/net";
    let out = bundle.tested(&["exec", "a", "sh", "-c", script]).output();
    let (user, other) = (user.link("user"), other.link("net"));
    assert_eq!(out.stdout, format!("{user}\n{user}\n{other}\n{other}\n"), "{}", out.stderr);
    bundle.tested(&["delete", "-f", "a"]).ok();
}

#[test]
fn what_is_no_namespace_of_the_kind_is_named() {
    let Some(mut bundle) = bundle() else { return };
    set(&mut bundle, "network", Some(Some("/proc/self/ns/uts")));
    let out = bundle.tested(&["run", "a"]).output();
    assert_ne!(out.status, 0, "a uts namespace is no network");
    set(&mut bundle, "network", Some(Some("/none")));
    let out = bundle.tested(&["run", "a"]).output();
    assert!(out.status != 0 && out.stderr.contains("/none"), "{}", out.stderr);
    set(&mut bundle, "network", Some(None));
    for (namespace, word) in [(json!({"type": "dreams"}), "dreams"), (json!({"type": "uts"}), "uts")] {
        if word == "uts" && cannot(&[("crun", "1.8.1 takes the last of two")]) {
            continue;
        }
        bundle.push("/linux/namespaces", namespace);
        let out = bundle.tested(&["run", "a"]).output();
        assert_ne!(out.status, 0, "{word}");
        if runtime_under_test() == "hoy-runtime" {
            assert!(out.stderr.contains(word), "{}", out.stderr);
        }
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().pop();
    }
}

#[test]
fn ids_of_a_new_user_namespace() {
    let Some(mut bundle) = bundle() else { return };
    Run::new("chown").args(["-hR", "200000:300000"]).arg(bundle.path("rootfs")).ok();
    set(&mut bundle, "user", Some(None));
    bundle.set(
        "/linux/uidMappings",
        json!([{"containerID": 0, "hostID": 200_000, "size": 10},
        {"containerID": 10, "hostID": 250_000, "size": 20}]),
    );
    bundle.set("/linux/gidMappings", json!([{"containerID": 0, "hostID": 300_000, "size": 30}]));
    bundle.set("/process/user", json!({"uid": 5, "gid": 6, "additionalGids": [7]}));
    bundle.script(
        "tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map; id -u; id -g; id -G; stat -c %u:%g /bin",
    );
    let want = "0 200000 10\n 10 250000 20\n 0 300000 30\n5\n6\n6 7\n0:0";
    assert_eq!(bundle.tested(&["run", "a"]).ok(), want);
}

#[test]
fn ids_of_an_ordinary_user() {
    if cannot(&[("crun", "an ordinary user cannot hide the hybrid control groups from it")]) {
        return;
    }
    for (user, ids) in [(User::Sub, true), (User::One, false)] {
        let Some(mut bundle) = Bundle::new(user) else { return };
        bundle.set("/ociVersion", json!("1.0.2"));
        bundle.script("id -u; tr -s ' ' </proc/self/uid_map");
        let (uid, gid) = user.ids().unwrap();
        let mut want = format!("0\n 0 {uid} 1");
        if ids {
            let entry = |file: &str| {
                let text = fs::read_to_string(file).unwrap();
                let line = text.lines().find(|line| line.starts_with("hoyuser:")).unwrap().to_owned();
                line.split(':').nth(1).unwrap().parse::<u32>().unwrap()
            };
            let map = |own: u32, first: u32| json!([{"containerID": 0, "hostID": own, "size": 1}, {"containerID": 1, "hostID": first, "size": 100}]);
            let first = entry("/etc/subuid");
            bundle.set("/linux/uidMappings", map(uid, first));
            bundle.set("/linux/gidMappings", map(gid, entry("/etc/subgid")));
            want += &format!("\n 1 {first} 100");
        }
        assert_eq!(bundle.tested(&["run", "a"]).ok(), want, "{user:?}");
    }
}

#[test]
fn names_of_the_container() {
    let Some(mut bundle) = bundle() else { return };
    bundle.set("/hostname", json!("one.example"));
    bundle.script("hostname; cat /proc/sys/kernel/domainname");
    assert_eq!(bundle.tested(&["run", "a"]).ok(), "one.example\n(none)");
    if !cannot(&[("crun", "1.8.1 is older than domainname"), ("runc", "1.1 is older than domainname")]) {
        bundle.set("/domainname", json!("example.net"));
        assert_eq!(bundle.tested(&["run", "a"]).ok(), "one.example\nexample.net");
    }
}

#[test]
fn clocks_of_the_container() {
    if cannot(&[("crun", "1.8.1 has no time namespaces"), ("runc", "1.1 has no time namespaces")]) {
        return;
    }
    let Some(mut bundle) = bundle() else { return };
    set(&mut bundle, "time", Some(None));
    bundle
        .set("/linux/timeOffsets", json!({"monotonic": {"secs": 7}, "boottime": {"secs": 1_000_000, "nanosecs": 500}}));
    bundle.script("tr -s ' ' </proc/self/timens_offsets; cut -d. -f1 /proc/uptime");
    let out = bundle.tested(&["run", "a"]).ok();
    let (offsets, uptime) = out.rsplit_once('\n').unwrap();
    assert_eq!(offsets, "monotonic 7 0\nboottime 1000000 500");
    assert!(uptime.parse::<u64>().unwrap() >= 1_000_000, "{uptime}");
    // Who joins has the same clocks.
    bundle.set("/process/args", json!(["/bin/sleep", "1000"]));
    bundle.leave_tested(&["run", "-d", "b"]);
    let uptime = bundle.tested(&["exec", "b", "cut", "-d.", "-f1", "/proc/uptime"]).ok();
    bundle.tested(&["delete", "-f", "b"]).ok();
    assert!(uptime.parse::<u64>().unwrap() >= 1_000_000, "{uptime}");
    bundle.set("/linux/timeOffsets", json!({"realtime": {"secs": 7}}));
    let out = bundle.tested(&["run", "a"]).output();
    assert!(out.status != 0 && out.stderr.contains("realtime"), "{}", out.stderr);
}

#[test]
fn kernel_parameters() {
    let Some(mut bundle) = bundle() else { return };
    let slashes = cannot(&[("crun", "1.8.1 wants dots"), ("runc", "1.1 wants dots")]);
    let all = json!({"net.ipv4.ip_forward": "1", "kernel.shmmax": "123456", "fs.mqueue.msg_max": "7",
        "net.ipv4.ip_local_port_range": "2000 3000"});
    bundle.set("/linux/sysctl", all);
    if !slashes {
        bundle.config["linux"]["sysctl"] = json!({"net/ipv4/ip_forward": "1", "kernel/shmmax": "123456",
            "fs.mqueue.msg_max": "7", "net.ipv4.ip_local_port_range": "2000 3000"});
    }
    bundle.script(
        "cd /proc/sys; cat net/ipv4/ip_forward kernel/shmmax fs/mqueue/msg_max net/ipv4/ip_local_port_range | tr '\\t' ' '",
    );
    assert_eq!(bundle.tested(&["run", "a"]).ok(), "1\n123456\n7\n2000 3000");
    let cases = [("vm.swappiness", "1"), ("kernel.panic", "1"), ("net.ipv4.no_such_thing", "1")];
    for (name, value) in cases {
        bundle.set("/linux/sysctl", json!({name: value}));
        let out = bundle.tested(&["run", "a"]).output();
        assert_ne!(out.status, 0, "{name}");
        if runtime_under_test() == "hoy-runtime" {
            assert!(out.stderr.contains(name), "{}", out.stderr);
        }
    }
    // Without a network namespace of its own the parameter is the host's.
    set(&mut bundle, "network", None);
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    assert_ne!(bundle.tested(&["run", "a"]).output().status, 0);
    set(&mut bundle, "network", Some(Some("/proc/self/ns/net")));
    assert!(cannot(&[("crun", "it takes any path")]) || bundle.tested(&["run", "a"]).output().status != 0);
}
