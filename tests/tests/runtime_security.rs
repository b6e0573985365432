//! The runtime against hostile images and configurations: the rows of this field's known vulnerabilities.

use std::fs;
use std::os::fd::AsRawFd;

use hoy_tests::{Bundle, User};
use serde_json::json;

/// A listener gets the descriptor of notifications, and answers them.
#[test]
fn seccomp_notifications_reach_their_listener() {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let path = bundle.path("listener");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "mine",
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}]}),
    );
    bundle.script("hostname y; echo $?");
    let receiver = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; 65536];
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        let got = recvmsg(&stream, &mut parts, &mut control, RecvFlags::empty()).unwrap();
        let fds = control.drain().filter_map(|m| match m {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds.count()),
            _ => None,
        });
        let count: usize = fds.sum();
        (count, serde_json::from_slice::<serde_json::Value>(&bytes[..got.bytes]).unwrap())
    });
    // The descriptor is dropped without an answer: the call fails with ENOSYS.
    let out = bundle.hoy(&["run", "a"]).output();
    let (count, message) = receiver.join().unwrap();
    assert_eq!((count, &message["metadata"], &message["fds"]), (1, &json!("mine"), &json!(["seccompFd"])));
    assert_eq!(out.stdout, "1\n", "{}", out.stderr);
}

/// What is masked is empty, and what is read-only cannot be written.
#[test]
fn masked_and_readonly_paths() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("cat /proc/keys /proc/timer_list | wc -c; echo x > /proc/sys/kernel/core_pattern; ls /proc/acpi");
    let out = bundle.hoy(&["run", "a"]).output();
    assert_eq!(out.stdout, "0\n", "{}", out.stderr);
    assert!(out.stderr.contains("Read-only file system"), "{}", out.stderr);
}

/// No descriptor of the caller's reaches the program but those it asked for.
#[test]
fn no_descriptor_leaks() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let leak = fs::File::open("/etc").unwrap();
    let kept = rustix::io::dup(&leak).unwrap();
    assert!(kept.as_raw_fd() > 2);
    bundle.script("cd /proc/self/fd; for fd in *; do readlink $fd; done | grep -v -e '^pipe:' -e '^/proc/'; true");
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), "");
    bundle.script("sleep 100");
    bundle.leave(&["run", "-d", "a"]);
    let list =
        "cd /proc/self/fd; for fd in *; do readlink $fd; done | grep -v -e '^pipe:' -e '^/proc/' -e '^socket:'; true";
    assert_eq!(bundle.hoy(&["exec", "a", "sh", "-c", list]).ok(), "");
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

#[test]
fn seccomp_filters_what_the_profile_says() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/noNewPrivileges", json!(false));
    let calls = json!([
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71},
        {"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"}
    ]);
    bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls}));
    bundle.script("mkdir /x; sh -c 'hostname y'; echo $?; grep Seccomp: /proc/self/status");
    for no_new_privileges in [true, false] {
        bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        let out = bundle.hoy(&["run", "a"]).output();
        assert!(out.stderr.contains("Protocol error"), "{}", out.stderr);
        assert_eq!(out.stdout, "159\nSeccomp:\t2\n");
    }
}

#[test]
fn limits_that_may_not_be_raised_are_clamped() {
    let Some(mut bundle) = Bundle::new(User::One) else { return };
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "hard": 99_999_999, "soft": 99_999_999}]));
    let out = bundle.hoy(&["run", "a"]).output();
    assert_eq!(out.status, 0, "{}", out.stderr);
    assert_eq!(out.stderr.matches("RLIMIT_NOFILE may not be raised").count(), 1, "{}", out.stderr);
}
