//! What the runtime writes to /proc for the container: it goes to the kernel, or nowhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use hoy_tests::{Bundle, Tripwire, User, while_exchanging};
use serde_json::{Value, json};

/// The files of a false /proc, in the directory `path`, by names that the runtime writes.
fn false_proc(path: &Path) {
    for directory in
        ["self/attr/apparmor", "thread-self/attr/apparmor", "1/attr/apparmor", "sys/net/ipv4", "sys/kernel"]
    {
        fs::create_dir_all(path.join(directory)).unwrap();
    }
    let tasks = ["self", "thread-self", "1"];
    let own = ["attr/exec", "attr/apparmor/exec", "attr/current", "oom_score_adj", "setgroups", "uid_map", "gid_map"];
    let names = tasks.iter().flat_map(|task| own.map(|name| format!("{task}/{name}")));
    for name in names.chain(["sys/net/ipv4/ip_forward", "sys/kernel/shm_rmid_forced"].map(str::to_owned)) {
        fs::write(path.join(name), "").unwrap();
    }
}

/// A bundle that has a volume where its /proc would be, and the true one at /true.
fn with_false_proc() -> Option<(Bundle, Tripwire)> {
    let mut bundle = Bundle::new(User::Root)?;
    let path = bundle.path("volume/proc");
    false_proc(&path);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/proc");
    mounts.insert(0, json!({"destination": "/true", "type": "proc", "source": "proc"}));
    mounts.insert(0, json!({"destination": "/proc", "type": "bind", "source": path, "options": ["rbind", "rw"]}));
    bundle.set("/linux/maskedPaths", json!([]));
    bundle.set("/linux/readonlyPaths", json!([]));
    Some((bundle, Tripwire::new(path)))
}

fn sysctls(bundle: &mut Bundle) {
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}));
    bundle.set("/process/oomScoreAdj", json!(777));
    bundle.script("cat /true/sys/net/ipv4/ip_forward /true/sys/kernel/shm_rmid_forced /true/self/oom_score_adj");
}

/// CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-52881, CVE-2025-62596: a volume on /proc
/// takes no sysctl, no score and no label; each goes to the kernel.
#[test]
fn writes_do_not_go_to_a_volume() {
    let Some((mut bundle, volume)) = with_false_proc() else { return };
    sysctls(&mut bundle);
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), "1\n1\n777");
    volume.check();
    bundle.leave(&["create", "a"]);
    bundle.leave(&["start", "a"]);
    bundle.hoy(&["delete", "-f", "a"]).ok();
    bundle.script("sleep 1000");
    bundle.leave(&["run", "-d", "a"]);
    bundle.hoy(&["exec", "a", "cat", "/true/self/oom_score_adj"]).ok();
    volume.check();
    // No label is better than one that only seems to be there: what cannot be set is an error.
    if !Path::new("/sys/kernel/security/apparmor").exists() {
        for option in ["--apparmor", "--process-label"] {
            bundle.hoy(&["exec", option, "x", "a", "true"]).fails(255, &["\"x\""]);
        }
        volume.check();
        bundle.hoy(&["delete", "-f", "a"]).ok();
        for field in ["apparmorProfile", "selinuxLabel"] {
            bundle.set(&format!("/process/{field}"), json!("x"));
            bundle.hoy(&["run", "a"]).fails(1, &["\"x\""]);
            volume.check();
            bundle.set(&format!("/process/{field}"), Value::Null);
        }
    }
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

/// The race form of the same: the volume's parts are exchanged with links to files that must not be written.
#[test]
fn writes_are_not_redirected_in_between() {
    let Some((mut bundle, _)) = with_false_proc() else { return };
    let victim = Tripwire::new(bundle.path("victim"));
    let proc = bundle.path("volume/proc");
    let file = victim.path().join("file");
    let names =
        ["sys/net/ipv4/ip_forward", "sys/kernel/shm_rmid_forced", "self/oom_score_adj", "self/attr/exec", "sys"];
    let pairs = names.map(|name| {
        let link = proc.join(format!("{}-link", name.replace('/', "-")));
        symlink(if name == "sys" { victim.path() } else { &file }, &link).unwrap();
        (proc.join(name), link)
    });
    sysctls(&mut bundle);
    while_exchanging(&pairs, || {
        assert_eq!(bundle.hoy(&["run", "a"]).ok(), "1\n1\n777");
        victim.check();
    });
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2025-62161: /proc or /sys of the image is a symlink, also by turns.
#[test]
fn proc_and_sys_are_themselves_or_nothing() {
    for name in ["proc", "sys"] {
        for target in ["../../victim", "/bin", "/etc", "absolute"] {
            let Some(mut bundle) = Bundle::new(User::Root) else { return };
            let victim = Tripwire::new(bundle.path("victim"));
            let target = if target == "absolute" { victim.path() } else { target.as_ref() };
            let path = bundle.path("rootfs").join(name);
            fs::remove_dir(&path).unwrap_or_default();
            symlink(target, &path).unwrap();
            bundle.hoy(&["run", "a"]).fails(1, &[&format!("\"/{name}\" must be mounted on ordinary directory")]);
            victim.check();
            fs::rename(&path, bundle.path("rootfs/link")).unwrap();
            fs::create_dir(&path).unwrap();
            bundle.script("true");
            while_exchanging(&[(path.clone(), bundle.path("rootfs/link"))], || {
                bundle.hoy(&["run", "a"]).output();
                victim.check();
            });
        }
    }
}
