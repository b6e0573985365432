//! The systemd driver: a container is a transient scope of root's systemd, or of a user's.

use std::path::Path;

use hoy_tests::{Bundle, Run, User, cannot, in_user_unit, need_vm};
use serde_json::{Value, json};

/// A property of a unit, as systemd says it.
fn property(unit: &str, name: &str) -> String {
    Run::new("systemctl").args(["show", "--value", "--property", name, unit]).ok()
}

fn resources() -> Value {
    json!({
        "memory": {"limit": 67_108_864, "swap": 67_108_864}, "pids": {"limit": 41},
        "cpu": {"quota": 30_000, "period": 100_000, "cpus": "0"},
    })
}

#[test]
fn a_scope_of_the_machines_systemd() {
    let Some(mut bundle) = Bundle::new(User::Root).filter(|_| need_vm()) else { return };
    let unit = format!("hoytest-{}.scope", std::process::id());
    bundle.set("/ociVersion", json!("1.0.2"));
    bundle.set("/linux/cgroupsPath", json!(format!("system.slice:hoytest:{}", std::process::id())));
    bundle.set("/linux/resources", resources());
    bundle.script("sleep 1000");
    bundle.leave_tested(&["--systemd-cgroup", "run", "--detach", "a"]);
    let group = Path::new("/sys/fs/cgroup/system.slice").join(&unit);
    let file = |name: &str| std::fs::read_to_string(group.join(name)).unwrap().trim().to_owned();
    let status = Run::new("systemctl").args(["status", "--no-pager", &unit]).ok();
    assert!(status.contains("sleep 1000") && status.contains("active (running)"), "{status}");
    // What systemd knows it does not undo when it writes the limits again.
    Run::new("systemctl").arg("daemon-reload").ok();
    assert_eq!(property(&unit, "MemoryMax"), "67108864");
    assert_eq!(property(&unit, "TasksMax"), "41");
    assert_eq!(property(&unit, "Delegate"), "yes");
    assert_eq!(file("memory.max"), "67108864");
    assert_eq!(file("memory.swap.max"), "0");
    assert_eq!(file("pids.max"), "41");
    assert_eq!(file("cpu.max"), "30000 100000");
    assert_eq!(file("cpuset.cpus"), "0");
    assert_eq!(bundle.tested(&["exec", "a", "cat", "/sys/fs/cgroup/pids.max"]).ok(), "41");
    bundle.tested(&["pause", "a"]).ok();
    bundle.tested(&["resume", "a"]).ok();
    bundle.tested(&["delete", "--force", "a"]).ok();
    assert!(!group.exists());
    assert_eq!(property(&unit, "LoadState"), "not-found");
}

/// Updated limits are systemd's too: what only the files say, it would write over.
#[test]
fn an_update_lasts() {
    let Some(mut bundle) = Bundle::new(User::Root).filter(|_| need_vm()) else { return };
    let unit = format!("hoytest-update-{}.scope", std::process::id());
    bundle.set("/ociVersion", json!("1.0.2"));
    bundle.set("/linux/cgroupsPath", json!(format!("system.slice:hoytest-update:{}", std::process::id())));
    bundle.set("/linux/resources", resources());
    bundle.script("sleep 1000");
    bundle.leave_tested(&["--systemd-cgroup", "run", "--detach", "a"]);
    bundle.tested(&["--systemd-cgroup", "update", "--pids-limit", "77", "a"]).ok();
    Run::new("systemctl").arg("daemon-reload").ok();
    let group = Path::new("/sys/fs/cgroup/system.slice").join(&unit);
    assert_eq!(std::fs::read_to_string(group.join("pids.max")).unwrap(), "77\n");
    assert_eq!(property(&unit, "TasksMax"), "77");
    assert_eq!(std::fs::read_to_string(group.join("cpu.max")).unwrap(), "30000 100000\n");
    bundle.tested(&["delete", "--force", "a"]).ok();
}

/// Annotations are properties of the unit; one that is none of a scope is refused, and nothing is left.
#[test]
fn properties_from_annotations() {
    let Some(mut bundle) = Bundle::new(User::Root).filter(|_| need_vm()) else { return };
    let unit = format!("hoytest-note-{}.scope", std::process::id());
    bundle.set("/ociVersion", json!("1.0.2"));
    bundle.set("/linux/cgroupsPath", json!(format!("system.slice:hoytest-note:{}", std::process::id())));
    bundle.set(
        "/annotations",
        json!({"org.systemd.property.Description": "'told so'", "org.systemd.property.TimeoutStopUSec": "uint64 7000000"}),
    );
    bundle.script("sleep 1000");
    bundle.leave_tested(&["--systemd-cgroup", "run", "--detach", "a"]);
    assert_eq!(property(&unit, "Description"), "told so");
    assert_eq!(property(&unit, "TimeoutStopUSec"), "7s");
    bundle.tested(&["delete", "--force", "a"]).ok();
    if cannot(&[("crun", "its words are its own"), ("runc", "its words are its own")]) {
        return;
    }
    bundle.set("/annotations", json!({"org.systemd.property.NoSuchThing": "'x'"}));
    bundle.hoy(&["--systemd-cgroup", "run", "a"]).fails(1, &["NoSuchThing"]);
    assert_eq!(property(&unit, "LoadState"), "not-found");
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "");
}

/// The first process's end is the scope's.
#[test]
fn no_scope_is_left_by_a_program_that_ends() {
    let Some(mut bundle) = Bundle::new(User::Root).filter(|_| need_vm()) else { return };
    let unit = format!("hoytest-short-{}.scope", std::process::id());
    bundle.set("/ociVersion", json!("1.0.2"));
    bundle.set("/linux/cgroupsPath", json!(format!("system.slice:hoytest-short:{}", std::process::id())));
    for script in ["exit 3", "sleep 1000 & exit 3", "sleep 0.5; exit 3"] {
        bundle.script(script);
        assert_eq!(bundle.tested(&["--systemd-cgroup", "run", "a"]).output().status, 3, "{script}");
        assert_eq!(property(&unit, "LoadState"), "not-found", "{script}");
    }
}

fn of_a_user(user: User) {
    let Some(mut bundle) = Bundle::new(user).filter(|_| need_vm()) else { return };
    let (uid, _) = user.ids().unwrap();
    let unit = format!("hoytest-{}.scope", std::process::id());
    bundle.set("/linux/cgroupsPath", json!(format!("user.slice:hoytest:{}", std::process::id())));
    bundle.set("/linux/resources", resources());
    bundle.script(
        "cd /sys/fs/cgroup; cat memory.max memory.swap.max pids.max cpu.max cpuset.cpus; sleep 1; cat /proc/self/cgroup",
    );
    let out = in_user_unit(user, bundle.hoy(&["--systemd-cgroup", "run", "a"])).output();
    assert_eq!((out.status, out.stdout.as_str()), (0, "67108864\n0\n41\n30000 100000\n0\n0::/\n"), "{}", out.stderr);
    let group = format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/{unit}");
    assert!(!Path::new(&group).exists());

    // Its life in steps, by commands of one unit of the user's.
    bundle.script("sleep 1000");
    let mut runtime = bundle.hoy(&["--systemd-cgroup"]);
    let command = runtime.command();
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
    let script = format!(
        "\"$@\" run -d a </dev/null >/dev/null && cat {group}/pids.max && systemctl --user show --value -p TasksMax {unit} && \
         \"$@\" exec a cat /sys/fs/cgroup/pids.max && \"$@\" update --pids-limit 55 a && cat {group}/pids.max && \
         \"$@\" pause a && \"$@\" resume a && \"$@\" delete -f a && systemctl --user show --value -p LoadState {unit}"
    );
    let shell = Run::new("sh").args(["-c", &script, "sh"]).args(words).dir(bundle.path(""));
    let out = in_user_unit(user, shell).output();
    assert_eq!((out.status, out.stdout.as_str()), (0, "41\n41\n41\n55\nnot-found\n"), "{}", out.stderr);
    assert!(!Path::new(&group).exists());
}

#[test]
fn a_scope_of_a_user_with_subordinate_ids() {
    of_a_user(User::Sub);
}

#[test]
fn a_scope_of_a_user_with_one_id() {
    of_a_user(User::One);
}
