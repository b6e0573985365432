//! Labels and shares that this kernel may not have: runtime-spec config.md "Linux Process", config-linux.md "Mount Label",
//! "IntelRdt". What the kernel cannot honour is an error that names the field.

use std::path::Path;

use hoy_tests::{Bundle, User, cannot, runtime_under_test};
use serde_json::json;

fn bundle() -> Option<Bundle> {
    let mut bundle = Bundle::new(User::Root)?;
    bundle.set("/ociVersion", json!("1.0.2"));
    Some(bundle)
}

fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

#[test]
fn a_profile_of_apparmor() {
    let Some(mut bundle) = bundle() else { return };
    bundle.set("/process/apparmorProfile", json!("no-such-profile"));
    if cannot(&[("crun", "without AppArmor it leaves the field out in silence")]) {
        return;
    }
    let out = bundle.tested(&["run", "a"]).output();
    assert_ne!(out.status, 0, "there is no such profile");
    assert!(out.stderr.to_lowercase().contains("apparmor"), "{}", out.stderr);
    if runtime_under_test() == "hoy-runtime" {
        assert!(out.stderr.contains("apparmorProfile \"no-such-profile\""), "{}", out.stderr);
        bundle.set("/process/apparmorProfile", json!("unconfined"));
        bundle.script("cat /proc/self/attr/apparmor/current 2>/dev/null || echo none");
        let want = if has_apparmor() { "unconfined" } else { "none" };
        assert_eq!(bundle.tested(&["run", "a"]).ok(), want);
        // A process that joins is looked at alike.
        bundle.set("/process/args", json!(["/bin/sleep", "1000"]));
        bundle.leave_tested(&["run", "-d", "a"]);
        let out = bundle.tested(&["exec", "--apparmor", "no-such-profile", "a", "true"]).output();
        assert!(out.status != 0 && out.stderr.contains("no-such-profile"), "{}", out.stderr);
        bundle.tested(&["delete", "-f", "a"]).ok();
    }
}

#[test]
fn labels_of_selinux() {
    if Path::new("/sys/fs/selinux/enforce").exists() {
        return hoy_tests::skip("this kernel has SELinux, and a policy that this test does not know");
    }
    for (pointer, field) in
        [("/process/selinuxLabel", "process.selinuxLabel"), ("/linux/mountLabel", "linux.mountLabel")]
    {
        let theirs =
            [("crun", "without SELinux it leaves the field out"), ("runc", "without SELinux it mounts unlabelled")];
        if cannot(&theirs) {
            return;
        }
        let Some(mut bundle) = bundle() else { return };
        bundle.set(pointer, json!("system_u:system_r:container_t:s0"));
        let out = bundle.tested(&["run", "a"]).output();
        assert!(out.status != 0 && out.stderr.contains(field) && out.stderr.contains("SELinux"), "{}", out.stderr);
        bundle.set(pointer, json!(""));
        bundle.tested(&["run", "a"]).ok();
    }
}

#[test]
fn shares_of_the_cache() {
    if std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| mounts.contains(" - resctrl ")) {
        return hoy_tests::skip("this machine has resctrl, and groups of it that are not the test's");
    }
    let Some(mut bundle) = bundle() else { return };
    bundle.set("/linux/intelRdt", json!({"closID": "group", "l3CacheSchema": "L3:0=f"}));
    if cannot(&[("runc", "1.1 leaves the field out where there is no resctrl"), ("crun", "1.8.1 does too")]) {
        return;
    }
    let out = bundle.tested(&["run", "a"]).output();
    assert!(out.status != 0 && out.stderr.contains("linux.intelRdt"), "{}", out.stderr);
    for (value, word) in [(json!({"closID": "a/b"}), "closID"), (json!({"memBwSchema": "L3:0=1"}), "memBwSchema")] {
        bundle.set("/linux/intelRdt", value);
        let out = bundle.tested(&["run", "a"]).output();
        assert!(out.status != 0 && out.stderr.contains(word), "{}", out.stderr);
    }
}

#[test]
fn versions_of_the_specification() {
    let old = cannot(&[("crun", "1.8.1 takes 1.0 alone")]);
    let Some(mut bundle) = bundle() else { return };
    bundle.script("echo ran");
    let versions = ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.3.0", "1.99.0", "1.3.0-rc.1"];
    for version in versions.into_iter().filter(|version| !old || version.starts_with("1.0")) {
        bundle.set("/ociVersion", json!(version));
        bundle.set("/fieldOfTheFuture", json!({"a": [1]}));
        bundle.set("/linux/anotherOne", json!(true));
        assert_eq!(bundle.tested(&["run", "a"]).ok(), "ran", "{version}");
    }
    if cannot(&[("runc", "1.1 looks at no version")]) {
        return;
    }
    for version in ["2.0.0", "0.9.0", "", "one"] {
        bundle.set("/ociVersion", json!(version));
        assert_ne!(bundle.tested(&["run", "a"]).output().status, 0, "{version}");
    }
}
