//! What bundles have come to rely on beyond the letter of the specification: runc does it, and images and engines know.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use hoy_tests::{Bundle, User};
use serde_json::json;

#[test]
fn the_last_entry_of_a_name_counts_and_an_empty_home_is_none() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/args", json!(["env"]));
    bundle.set("/process/env", json!(["HOME=/a", "ONE=1", "PATH=/nowhere", "ONE=", "HOME=", "PATH=/bin"]));
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), "ONE=\nPATH=/bin\nHOME=/root");
}

/// The runtime may enter the directory before it becomes the user who may not.
#[test]
fn a_working_directory_that_is_not_the_users() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    fs::set_permissions(bundle.path("rootfs/root"), Permissions::from_mode(0o700)).unwrap();
    bundle.set("/process/cwd", json!("/root"));
    bundle.set("/process/user", json!({"uid": 42, "gid": 42}));
    bundle.script("pwd; id -u; ls 2>/dev/null || echo closed");
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), "/root\n42\nclosed");
}

#[test]
fn file_systems_fit_what_they_cover() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    fs::create_dir(bundle.path("rootfs/narrow")).unwrap();
    fs::set_permissions(bundle.path("rootfs/narrow"), Permissions::from_mode(0o710)).unwrap();
    for (path, options) in [("/narrow", json!([])), ("/new", json!([])), ("/told", json!(["mode=700"]))] {
        bundle.push("/mounts", json!({"destination": path, "type": "tmpfs", "source": "t", "options": options}));
    }
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let dev = mounts.iter_mut().find(|mount| mount["destination"] == "/dev").unwrap();
    dev["options"].as_array_mut().unwrap().push(json!("ro"));
    bundle.set("/linux/maskedPaths", json!(["/bin", "/etc", "/etc"]));
    bundle.set("/process/args", json!(["/sbin/busybox"]));
    fs::create_dir(bundle.path("rootfs/sbin")).unwrap();
    fs::copy(bundle.path("rootfs/bin/busybox"), bundle.path("rootfs/sbin/busybox")).unwrap();
    let script = "b=/sbin/busybox; $b stat -c %a /narrow /new /told; $b touch /dev/x 2>/dev/null || echo read-only; \
                  $b ls -d /dev/null /dev/pts/ptmx; $b grep -c ' /etc ' /proc/self/mountinfo";
    bundle.set("/process/args", json!(["/sbin/busybox", "sh", "-c", script]));
    let out = bundle.hoy(&["run", "a"]).ok();
    assert_eq!(out, "710\n1777\n700\nread-only\n/dev/null\n/dev/pts/ptmx\n1");
}

/// A source inside of the container's own tree is seen with what was mounted there before.
#[test]
fn a_bind_of_what_was_mounted() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let root = bundle.path("rootfs");
    bundle.push("/mounts", json!({"destination": "/one", "source": "/etc", "options": ["rbind"]}));
    let source = root.join("one").to_str().unwrap().to_owned();
    bundle.push("/mounts", json!({"destination": "/two", "source": source, "options": ["rbind"]}));
    bundle.script("cat /two/debian_version");
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), fs::read_to_string("/etc/debian_version").unwrap().trim());
}

/// A hook of the container's runs as its program would: under its filter, with its environment where it has none.
#[test]
fn start_hooks_are_confined_like_the_program() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("cat /told");
    let script = "echo $ONE $HOME > /told; grep ^Seccomp: /proc/self/status >> /told; mkdir /x 2>> /told";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("{script} || true")]});
    bundle.set("/hooks", json!({"startContainer": [hook]}));
    bundle.set("/process/env", json!(["ONE=two", "PATH=/bin"]));
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}),
    );
    let out = bundle.hoy(&["run", "a"]).ok();
    assert_eq!(out, "two /root\nSeccomp:\t2\nmkdir: can't create directory '/x': Operation not permitted");
}

/// A hook of the host's begins in the bundle, and its failure is told in its words.
#[test]
fn hooks_of_the_host_are_in_the_bundle() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let hook = |script: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    bundle.set("/hooks", json!({"createRuntime": hook("pwd > here"), "createContainer": hook("pwd >> here")}));
    bundle.script("true");
    bundle.hoy(&["run", "a"]).ok();
    let place = bundle.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    assert_eq!(fs::read_to_string(bundle.path("here")).unwrap(), format!("{place}\n{place}\n"));
    bundle.set("/hooks", json!({"createRuntime": hook("echo the disk is full >&2; exit 5")}));
    bundle.hoy(&["run", "a"]).fails(1, &["exit status: 5: the disk is full"]);
}

#[test]
fn a_process_without_a_user_is_roots() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("sleep 100");
    bundle.leave(&["run", "-d", "a"]);
    fs::write(bundle.path("process.json"), r#"{"args": ["/bin/id", "-u"], "cwd": "/"}"#).unwrap();
    assert_eq!(bundle.hoy(&["exec", "-p", "process.json", "a"]).ok(), "0");
    bundle.hoy(&["delete", "-f", "a"]).ok();
}
