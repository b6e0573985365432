//! An ordinary user whose systemd has been given control groups: limits without root.

use hoy_tests::{Bundle, User, in_user_unit, need_vm};
use serde_json::json;

fn limits(user: User) {
    let Some(mut bundle) = Bundle::new(user).filter(|_| need_vm()) else { return };
    let (uid, _) = user.ids().unwrap();
    let delegated = format!("/user.slice/user-{uid}.slice/user@{uid}.service");
    let path = format!("{delegated}/hoy-test-{}/a", std::process::id());
    bundle.set("/linux/cgroupsPath", json!(path));
    bundle.set(
        "/linux/resources",
        json!({"memory": {"limit": 33_554_432, "swap": 33_554_432}, "pids": {"limit": 20}, "cpu": {"quota": 30_000, "period": 100_000, "cpus": "0"}}),
    );
    bundle.script(
        "cd /sys/fs/cgroup; cat memory.max memory.swap.max pids.max cpu.max cpuset.cpus; cat /proc/self/cgroup",
    );
    let out = in_user_unit(user, bundle.hoy(&["run", "a"])).output();
    assert_eq!(out.stdout, "33554432\n0\n20\n30000 100000\n0\n0::/\n", "{}", out.stderr);
    bundle.script("exec tail -c 200m /dev/zero");
    assert_eq!(in_user_unit(user, bundle.hoy(&["run", "a"])).output().status, 137);
    assert!(!std::path::Path::new("/sys/fs/cgroup").join(&path[1..]).exists());
}

#[test]
fn limits_of_a_user_with_subordinate_ids() {
    limits(User::Sub);
}

#[test]
fn limits_of_a_user_with_one_id() {
    limits(User::One);
}

/// Nobody named a group: one is made beside the caller's own, which has processes and so can have no groups with limits.
#[test]
fn limits_in_a_group_that_nobody_named() {
    let Some(mut bundle) = Bundle::new(User::Sub).filter(|_| need_vm()) else { return };
    bundle.set("/linux/resources", json!({"pids": {"limit": 20}}));
    bundle.script("cat /sys/fs/cgroup/pids.max");
    let out = in_user_unit(User::Sub, bundle.hoy(&["run", "a"])).output();
    assert_eq!((out.status, out.stdout.as_str()), (0, "20\n"), "{}", out.stderr);
}

#[test]
fn a_user_pauses_and_resumes() {
    let Some(mut bundle) = Bundle::new(User::Sub).filter(|_| need_vm()) else { return };
    bundle.script("sleep 1000");
    let mut runtime = bundle.hoy(&[]);
    let command = runtime.command();
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
    let script = "\"$@\" run -d a </dev/null >/dev/null 2>&1 && \"$@\" pause a && \"$@\" state a && \"$@\" resume a && \
        \"$@\" exec a echo hello && \"$@\" delete -f a && \"$@\" list -q";
    let shell = hoy_tests::Run::new("sh").args(["-c", script, "sh"]).args(words).dir(bundle.path(""));
    let out = in_user_unit(User::Sub, shell).output();
    assert!(out.status == 0 && out.stdout.contains("\"paused\"") && out.stdout.ends_with("}\nhello\n"), "{out:?}");
}
