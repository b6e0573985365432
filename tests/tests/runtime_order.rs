//! The last steps before the program, in the order that lets a narrow configuration work.

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
            bundle.set("/process/args", json!(["/bin/busybox", "grep", "-E", "^(CapEff|Seccomp):", "/proc/self/status"]));
            let out = bundle.hoy(&["run", "a"]).ok();
            let effective = if uid == 0 { "0000000020000420" } else { "0000000000000000" };
            assert_eq!(out, format!("CapEff:\t{effective}\nSeccomp:\t2"), "{uid} {no_new_privileges}");
        }
    }
}
