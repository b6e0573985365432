//! AppArmor, which this kernel must have: the profile of the configuration is the one that the program is under.

use hoy_tests::{Bundle, Run, User, need_vm};
use serde_json::json;

/// Loads profiles that allow anything but reading /secret. Each test has its own: one that is replaced while a program is
/// executed under it refuses that.
fn load(names: &[&str]) {
    let profile = |name: &&str| {
        format!(
            "profile {name} flags=(attach_disconnected, mediate_deleted) {{\n file,\n capability,\n network,\n mount,\n \
             umount,\n pivot_root,\n signal,\n ptrace,\n unix,\n deny /secret r,\n}}\n"
        )
    };
    let text: String = names.iter().map(profile).collect();
    Run::new("apparmor_parser").args(["--replace", "--skip-cache"]).stdin(text).ok();
}

#[test]
fn a_profile_holds_for_run_and_exec() {
    let Some(mut bundle) = Bundle::new(User::Root).filter(|_| need_vm()) else { return };
    let names = ["hoy-test-one", "hoy-test-two"];
    load(&names);
    std::fs::write(bundle.path("rootfs/secret"), "secret").unwrap();
    bundle.set("/ociVersion", json!("1.0.2"));
    bundle.set("/process/apparmorProfile", json!(names[0]));
    bundle.script("cat /proc/self/attr/current; cat /secret; sleep 0");
    let out = bundle.tested(&["run", "a"]).output();
    assert_eq!(out.stdout, "hoy-test-one (enforce)\n");
    assert!(out.stderr.contains("Permission denied"), "{}", out.stderr);

    bundle.script("sleep 1000");
    bundle.leave_tested(&["run", "-d", "a"]);
    let show = "cat /proc/self/attr/current; cat /secret";
    let out = bundle.tested(&["exec", "a", "sh", "-c", show]).output();
    assert_eq!(out.stdout, "hoy-test-one (enforce)\n", "{}", out.stderr);
    assert!(out.stderr.contains("Permission denied"), "{}", out.stderr);
    let out = bundle.tested(&["exec", "--apparmor", names[1], "a", "sh", "-c", show]).output();
    assert_eq!(out.stdout, "hoy-test-two (enforce)\n", "{}", out.stderr);
    bundle.tested(&["delete", "--force", "a"]).ok();
}

/// The label takes effect at exec, with no_new_privs and without.
#[test]
fn a_profile_holds_with_no_new_privileges() {
    let Some(mut bundle) = Bundle::new(User::Root).filter(|_| need_vm()) else { return };
    load(&["hoy-test-new"]);
    bundle.set("/ociVersion", json!("1.0.2"));
    bundle.set("/process/apparmorProfile", json!("hoy-test-new"));
    bundle.script("cat /proc/self/attr/current");
    for no_new_privileges in [true, false] {
        bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        assert_eq!(bundle.tested(&["run", "a"]).ok(), "hoy-test-new (enforce)");
    }
}

#[test]
fn a_profile_that_is_not_loaded_is_an_error() {
    let Some(mut bundle) = Bundle::new(User::Root).filter(|_| need_vm()) else { return };
    bundle.set("/process/apparmorProfile", json!("hoy-no-such-profile"));
    bundle.script("echo ran");
    let out = bundle.hoy(&["run", "a"]).output();
    assert_eq!((out.status, out.stdout.as_str()), (1, ""));
    assert!(out.stderr.contains("hoy-no-such-profile"), "{}", out.stderr);
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "");
}

#[test]
fn an_ordinary_users_container_has_its_profile() {
    let Some(mut bundle) = Bundle::new(User::Sub).filter(|_| need_vm()) else { return };
    load(&["hoy-test-user"]);
    bundle.set("/process/apparmorProfile", json!("hoy-test-user"));
    bundle.script("cat /proc/self/attr/current");
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), "hoy-test-user (enforce)");
}
