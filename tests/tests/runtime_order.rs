//! What depends on the order in which the runtime does its work.

use hoy_tests::{Bundle, User};
use serde_json::json;

/// A filter is the program's: what the runtime itself needs to enter the directory or to become the user is done
/// before it holds.
#[test]
fn the_runtime_is_not_in_the_way_of_a_filter() {
    let denied = ["openat2", "fchdir", "chdir", "getcwd", "setresuid", "setgroups", "prctl", "umask", "rt_sigaction"];
    for uid in [0, 1000] {
        for no_new_privileges in [false, true] {
            let Some(mut bundle) = Bundle::new(User::Root) else { return };
            bundle.set("/process/user", json!({"uid": uid, "gid": uid}));
            bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
            bundle.set(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": denied, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}),
            );
            bundle
                .set("/process/args", json!(["/bin/busybox", "grep", "-E", "^(CapEff|Seccomp):", "/proc/self/status"]));
            let out = bundle.hoy(&["run", "a"]).ok();
            let effective = if uid == 0 { "0000000020000420" } else { "0000000000000000" };
            assert_eq!(out, format!("CapEff:\t{effective}\nSeccomp:\t2"), "{uid} {no_new_privileges}");
        }
    }
}

/// The kernel's list of mounts has those of the configuration in their order, binds among file systems.
#[test]
fn mounts_are_made_in_the_order_of_the_configuration() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let names = ["first", "second", "third", "fourth"];
    for (name, fstype) in names.iter().zip(["tmpfs", "bind", "tmpfs", "bind"]) {
        let options = if fstype == "bind" { json!(["bind", "nosuid"]) } else { json!(["nosuid"]) };
        let destination = format!("/mnt/{name}");
        let mount = json!({"destination": destination, "type": fstype, "source": "/etc", "options": options});
        bundle.push("/mounts", mount);
    }
    bundle.script("awk '$5 ~ \"^/mnt/\" { print $5 }' /proc/self/mountinfo");
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), names.map(|name| format!("/mnt/{name}")).join("\n"));
}

/// A hook at the end that fails is told of, and the next one runs; a prestart hook sees a container that is created.
#[test]
fn hooks_go_on_after_the_end() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let log = bundle.path("log");
    let hook = |script: String| json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    let ends = json!([hook("exit 4".to_owned()), hook(format!("echo after >> {}", log.display()))]);
    let told = hook(format!("grep -o '\"status\":\"[a-z]*\"' >> {}", log.display()));
    bundle.set("/hooks", json!({"prestart": [told.clone()], "createRuntime": [told], "poststop": ends}));
    bundle.script("true");
    bundle.hoy(&["run", "a"]).fails(0, &["poststop hook #0: \"/bin/sh\" failed: exit status: 4"]);
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log, "\"status\":\"created\"\n\"status\":\"creating\"\nafter\n");
}
