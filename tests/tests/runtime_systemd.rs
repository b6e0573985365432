//! `--systemd-cgroup`: containers as units of a systemd that runs here, the machine's and a user's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoy_tests::{Bundle, Run, User, skip};
use serde_json::{Value, json};

/// Whether systemd is the first process and control groups are of version 2; where not, the test is skipped.
fn need_systemd() -> bool {
    let is_there =
        Path::new("/run/systemd/private").exists() && Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if !is_there {
        skip("no systemd with control groups of version 2");
    }
    is_there
}

/// A container in a unit, its program asleep.
struct Unit {
    bundle: Bundle,
    user: User,
    name: String,
}

impl Unit {
    fn new(user: User, name: &str, config: &[(&str, Value)]) -> Option<Self> {
        if !need_systemd() {
            return None;
        }
        let mut bundle = Bundle::new(user)?;
        if user != User::Root {
            let uid = user.ids()?.0;
            Run::new("systemctl").args(["start", &format!("user@{uid}.service")]).ok();
            let socket = format!("/run/user/{uid}/systemd/private");
            for _ in 0..100 {
                if Path::new(&socket).exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        bundle.script("sleep 1000");
        config.iter().for_each(|(pointer, value)| bundle.set(pointer, value.clone()));
        let unit = Self { bundle, user, name: name.to_owned() };
        let mut run = unit.hoy(&["--systemd-cgroup", "run", "--detach", "a"]);
        let null = || fs::File::options().read(true).write(true).open("/dev/null").unwrap();
        let errors = unit.bundle.path("errors");
        let status = run.command().stdin(null()).stdout(null()).stderr(fs::File::create(&errors).unwrap()).status();
        assert!(status.unwrap().success(), "{}", fs::read_to_string(errors).unwrap());
        Some(unit)
    }

    fn hoy(&self, args: &[&str]) -> Run {
        let run = self.bundle.hoy(args);
        match self.user.ids() {
            Some((uid, _)) if self.user != User::Root => run.env("XDG_RUNTIME_DIR", format!("/run/user/{uid}")),
            _ => run,
        }
    }

    fn show(&self, property: &str) -> String {
        let run = Run::new("systemctl").user(self.user);
        let run = match self.user.ids() {
            Some((uid, _)) if self.user != User::Root => {
                run.env("XDG_RUNTIME_DIR", format!("/run/user/{uid}")).arg("--user")
            }
            _ => run,
        };
        run.args(["show", "--value", "-p", property, &self.name]).ok()
    }

    fn group(&self) -> PathBuf {
        Path::new("/sys/fs/cgroup").join(self.show("ControlGroup").trim_start_matches('/'))
    }

    #[track_caller]
    fn has(&self, files: &[(&str, &str)]) {
        let group = self.group();
        for (file, want) in files {
            assert_eq!(fs::read_to_string(group.join(file)).unwrap().trim(), *want, "{file} of {}", group.display());
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.hoy(&["delete", "--force", "a"]).output();
    }
}

fn resources() -> Value {
    json!({
        "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 16 << 20}, "pids": {"limit": 50},
        "cpu": {"shares": 1024, "quota": 25000, "period": 50000},
    })
}

fn life(user: User, path: &str, name: &str, slice: &str) {
    let config = [
        ("/linux/resources", resources()),
        ("/linux/cgroupsPath", json!(path)),
        ("/annotations", json!({"org.systemd.property.TimeoutStopSec": "7", "other": "x"})),
    ];
    let Some(unit) = Unit::new(user, name, &config) else { return };
    assert_eq!(unit.show("ActiveState"), "active");
    assert_eq!((unit.show("Slice"), unit.show("Delegate")), (slice.to_owned(), "yes".to_owned()));
    assert_eq!((unit.show("MemoryMax"), unit.show("TasksMax")), ("67108864".to_owned(), "50".to_owned()));
    assert_eq!((unit.show("CPUQuotaPerSecUSec"), unit.show("TimeoutStopUSec")), ("500ms".to_owned(), "7s".to_owned()));
    unit.has(&[
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "16777216"),
        ("pids.max", "50"),
    ]);
    let state: Value =
        serde_json::from_slice(&fs::read(unit.bundle.path("../run/state/a/state.json")).unwrap()).unwrap();
    let pids = fs::read_to_string(unit.group().join("cgroup.procs")).unwrap();
    assert!(pids.lines().any(|pid| state["pid"].to_string().as_str() == pid), "{pids:?}");
    unit.hoy(&["update", "--memory", "128m", "--memory-swap", "256m", "--pids-limit", "60", "a"]).ok();
    assert_eq!((unit.show("MemoryMax"), unit.show("TasksMax")), ("134217728".to_owned(), "60".to_owned()));
    unit.has(&[("memory.max", "134217728"), ("memory.swap.max", "134217728"), ("pids.max", "60")]);
    let event: Value = serde_json::from_str(&unit.hoy(&["events", "--stats", "a"]).ok()).unwrap();
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 134_217_728);
    // With a cgroup namespace its root is the unit.
    let inside = unit.hoy(&["exec", "a", "sh", "-c", "echo $$; cat /proc/self/cgroup"]).ok();
    assert!(inside.ends_with("0::/"), "{inside}");
    unit.hoy(&["pause", "a"]).ok();
    assert!(unit.hoy(&["state", "a"]).ok().contains("paused"));
    unit.hoy(&["resume", "a"]).ok();
    let group = unit.group();
    unit.hoy(&["delete", "--force", "a"]).ok();
    assert_eq!(unit.show("LoadState"), "not-found");
    assert!(!group.exists());
}

#[test]
fn a_scope_of_the_machine() {
    life(User::Root, "hoytest.slice:hoy:one", "hoy-one.scope", "hoytest.slice");
}

#[test]
fn a_scope_of_a_user() {
    life(User::Sub, "user.slice:hoy:two", "hoy-two.scope", "user.slice");
}

#[test]
fn exec_goes_into_the_scope_and_devices_are_limited() {
    let config = [("/linux/cgroupsPath", json!(":hoy:three")), ("/linux/resources", json!({}))];
    let Some(unit) = Unit::new(User::Root, "hoy-three.scope", &config) else { return };
    assert!(unit.hoy(&["exec", "a", "cat", "/proc/self/cgroup"]).ok().starts_with("0::/"));
    assert_eq!(unit.show("DevicePolicy"), "strict");
    assert!(unit.show("DeviceAllow").contains("char-pts rwm"), "{}", unit.show("DeviceAllow"));
    unit.hoy(&["exec", "a", "sh", "-c", "mknod /tmp/kmsg c 1 11 2>/dev/null; : >/dev/null"]).ok();
    // What systemd writes again leaves the container's own rules alone.
    Run::new("systemctl").arg("daemon-reload").ok();
    unit.hoy(&["exec", "a", "sh", "-c", ": >/dev/null"]).ok();
}

#[test]
fn over_the_bus_where_its_own_socket_is_not() {
    if !need_systemd() {
        return;
    }
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/linux/cgroupsPath", json!(":hoy:five"));
    bundle.set("/linux/resources", json!({"pids": {"limit": 30}}));
    bundle.script("exit 6");
    fs::write(bundle.path("config.json"), bundle.config.to_string()).unwrap();
    // Without its own socket, and then without both.
    let program = hoy_tests::program("hoy-runtime");
    let run = |hide: &str| {
        let script = format!("{hide}; exec \"$0\" --root run --systemd-cgroup run a");
        Run::new("unshare").dir(bundle.path("")).args(["-m", "sh", "-ec", &script]).arg(&program)
    };
    let hide = "mount --bind /dev/null /run/systemd/private";
    assert_eq!(run(hide).output().status, 6);
    assert_eq!(Run::new("systemctl").args(["show", "--value", "-p", "LoadState", "hoy-five.scope"]).ok(), "not-found");
    let words = ["ask systemd: connect to \"/run/dbus/system_bus_socket\"", "is systemd running?"];
    run(&format!("{hide}; mount --bind /dev/null /run/dbus/system_bus_socket")).fails(1, &words);
}

#[test]
fn a_controller_that_a_user_was_not_given_is_named() {
    let config = [("/linux/cgroupsPath", json!(":hoy:six"))];
    let Some(mut unit) = Unit::new(User::Sub, "hoy-six.scope", &config) else { return };
    unit.hoy(&["delete", "--force", "a"]).ok();
    // systemd hands huge pages to nobody.
    unit.bundle.set("/linux/resources", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}));
    unit.bundle.script("true");
    let error = unit.hoy(&["--systemd-cgroup", "run", "a"]).fails(1, &["set hugetlb limit: "]);
    assert!(error.contains("delegate") || error.contains("do not hand this controller"), "{error}");
    assert_eq!(unit.show("LoadState"), "not-found");
    assert_eq!(unit.hoy(&["list", "-q"]).ok(), "");
}

#[test]
fn what_systemd_refuses_is_told_and_leaves_nothing() {
    if !need_systemd() {
        return;
    }
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/linux/cgroupsPath", json!(":hoy:four"));
    bundle.set("/annotations", json!({"org.systemd.property.NoSuchProperty": "true"}));
    let words = ["ask systemd: StartTransientUnit: ", "NoSuchProperty"];
    bundle.hoy(&["--cgroup-manager", "systemd", "run", "a"]).fails(1, &words);
    bundle.set("/annotations", json!({"org.systemd.property.Nice": "much"}));
    bundle.hoy(&["--cgroup-manager=systemd", "run", "a"]).fails(1, &["set \"Nice\" to \"much\""]);
    bundle.set("/linux/cgroupsPath", json!("/a/b"));
    bundle.hoy(&["--systemd-cgroup", "run", "a"]).fails(1, &["is not of the form \"slice:prefix:name\""]);
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "");
    assert_eq!(Run::new("systemctl").args(["show", "--value", "-p", "LoadState", "hoy-four.scope"]).ok(), "not-found");
}

#[test]
fn without_systemd_it_says_so() {
    if Path::new("/run/systemd/private").exists() || Path::new("/run/dbus/system_bus_socket").exists() {
        skip("there is a systemd");
        return;
    }
    let Some(bundle) = Bundle::new(User::Root) else { return };
    let words = ["ask systemd: connect to \"/run/dbus/system_bus_socket\"", "is systemd running?"];
    bundle.hoy(&["--systemd-cgroup", "run", "a"]).fails(1, &words);
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "");
}

#[test]
fn disabled_control_groups() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/linux/resources", json!({}));
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap();
    bundle.script("sleep 1000");
    bundle.leave(&["--cgroup-manager", "disabled", "run", "--detach", "a"]);
    let state: Value = serde_json::from_str(&bundle.hoy(&["state", "a"]).ok()).unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap(), cgroup);
    bundle.hoy(&["update", "--pids-limit", "5", "a"]).fails(1, &["has no control group to limit"]);
    bundle.hoy(&["delete", "--force", "a"]).ok();
    bundle.set("/linux/resources", json!({"pids": {"limit": 5}}));
    bundle.script("exit 3");
    let out = bundle.hoy(&["--cgroup-manager", "disabled", "run", "a"]).output();
    assert!(out.status == 3 && out.stderr.contains("limits in linux.resources are left out"), "{}", out.stderr);
}
