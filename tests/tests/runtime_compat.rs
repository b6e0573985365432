//! What bundles have come to rely on beyond the letter of the specification: runc does it, and images and engines know.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hoy_tests::{Bundle, Run, User, skip};
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
    // A destination may be written as the host sees it.
    let place = root.join("two").to_str().unwrap().to_owned();
    bundle.push("/mounts", json!({"destination": place, "source": source, "options": ["rbind"]}));
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

/// Without a PID namespace of its own nothing ends with a container's first process, and a kill is for all.
#[test]
fn a_kill_is_for_all_where_the_first_process_is_no_init() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    for first_goes in [false, true] {
        let mark = if first_goes { "7391" } else { "7392" };
        bundle.script(&format!("sleep {mark} & exec sleep {mark}"));
        bundle.leave(&["run", "-d", "a"]);
        let running = || Run::new("pgrep").args(["-fx", &format!("sleep {mark}")]).output().stdout.lines().count();
        while running() < 2 {
            std::thread::yield_now();
        }
        if first_goes {
            let state: serde_json::Value = serde_json::from_str(&bundle.hoy(&["state", "a"]).ok()).unwrap();
            Run::new("kill").args(["-9", &state["pid"].to_string()]).ok();
            while running() > 1 {
                std::thread::yield_now();
            }
        }
        bundle.hoy(&["kill", "a", "KILL"]).ok();
        let end = Instant::now() + Duration::from_secs(10);
        while running() > 0 {
            assert!(Instant::now() < end, "processes are left, first gone: {first_goes}");
        }
        bundle.hoy(&["delete", "a"]).ok();
    }
}

#[test]
fn lists_are_in_the_known_order_and_of_what_is_there() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("sleep 100");
    bundle.leave(&["run", "-d", "a"]);
    let list = bundle.hoy(&["list", "--format", "json"]).ok();
    let places = [
        "\"ociVersion\":",
        "\"id\":\"a\"",
        "\"pid\":",
        "\"status\":\"running\"",
        "\"bundle\":",
        "\"rootfs\":",
        "\"created\":",
    ]
    .map(|name| list.find(name).unwrap_or_else(|| panic!("{name} is not in {list}")));
    assert!(places.is_sorted(), "{list}");
    let event = bundle.hoy(&["events", "--stats", "a"]).ok();
    assert!(event.starts_with(r#"{"type":"stats","id":"a","data":{"#), "{event}");
    bundle.hoy(&["delete", "-f", "a"]).ok();
    Run::new("hoy-runtime").args(["--root", "/no/such", "list"]).fails(1, &["\"/no/such\" is not a directory"]);
}

/// While it waits for its start, the container's process holds nothing of the caller's open.
#[test]
fn who_waits_holds_nothing() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("true");
    let leaked = fs::File::open("/etc/hostname").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    bundle.leave(&["create", "a"]);
    drop(leaked);
    let state: serde_json::Value = serde_json::from_str(&bundle.hoy(&["state", "a"]).ok()).unwrap();
    let fds = fs::read_dir(format!("/proc/{}/fd", state["pid"])).unwrap().map(|entry| entry.unwrap());
    let open = fds.filter(|fd| !["0", "1", "2"].contains(&fd.file_name().to_str().unwrap()));
    for fd in open {
        let target = fs::read_link(fd.path()).unwrap().to_str().unwrap().to_owned();
        let is_needed = ["/", "/proc"].contains(&target.as_str())
            || target.starts_with("socket:")
            || target == "anon_inode:[signalfd]";
        assert!(is_needed || target.contains("/run/state/a/"), "{target}");
    }
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

/// Without pivot_root the host's /proc is not to be had again through a user namespace.
#[test]
fn no_bare_proc_without_pivot() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/noNewPrivileges", json!(false));
    let all = json!(["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP"]);
    bundle.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    bundle.script("unshare -mUrpf mount -t proc none /proc 2>&1; echo $?");
    let with = bundle.hoy(&["run", "a"]).ok();
    let without = bundle.hoy(&["run", "--no-pivot", "a"]).ok();
    assert!(with.contains("ermission denied") && with.ends_with('1'), "{with}");
    assert_eq!(with, without);
}

/// A group that has somebody else's processes, or would stop whoever enters it, is no container's.
#[test]
fn a_control_group_in_use_is_refused() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let path = format!("/hoy-test-{}", std::process::id());
    bundle.set("/linux/cgroupsPath", json!(path));
    bundle.script("sleep 100");
    bundle.leave(&["run", "-d", "a"]);
    bundle.hoy(&["run", "b"]).fails(1, &["container's cgroup is not empty"]);
    bundle.hoy(&["create", "b"]).fails(1, &["container's cgroup is not empty"]);
    assert_eq!(bundle.hoy(&["list", "-q"]).ok(), "a");
    bundle.hoy(&["delete", "-f", "a"]).ok();
    let freezer = Path::new("/sys/fs/cgroup/freezer").join(path.trim_start_matches('/'));
    if !freezer.parent().unwrap().is_dir() {
        return skip("no freezer of version 1");
    }
    fs::create_dir(&freezer).unwrap();
    fs::write(freezer.join("freezer.state"), "FROZEN").unwrap();
    let refused = bundle.hoy(&["run", "b"]).output();
    fs::remove_dir(&freezer).unwrap();
    assert!(refused.status == 1 && refused.stderr.contains("container's cgroup unexpectedly frozen"), "{refused:?}");
}

/// What a program writes to its terminal comes out of a pipe as it wrote it.
#[test]
fn lines_of_a_terminal_end_as_they_were_written() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/terminal", json!(true));
    bundle.script("tty; echo one");
    assert_eq!(bundle.hoy(&["run", "a"]).output().stdout, "/dev/pts/0\none\n");
    bundle.set("/process/terminal", json!(false));
    bundle.script("sleep 100");
    bundle.leave(&["run", "-d", "a"]);
    assert_eq!(bundle.hoy(&["exec", "-t", "a", "echo", "two"]).output().stdout, "two\n");
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

/// An ambient capability that cannot be is told of, and one that is added by hand joins those it can.
#[test]
fn ambient_capabilities_need_the_inheritable() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let three = json!(["CAP_KILL", "CAP_CHOWN", "CAP_SYSLOG"]);
    let sets = json!({"bounding": three, "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
        "inheritable": ["CAP_KILL", "CAP_SYSLOG"], "ambient": ["CAP_KILL", "CAP_CHOWN"]});
    bundle.set("/process/capabilities", sets);
    bundle.script("grep ^CapAmb /proc/self/status");
    let out = bundle.hoy(&["run", "a"]).output();
    assert_eq!(out.stdout, "CapAmb:\t0000000000000020\n");
    assert!(out.stderr.contains("can't raise ambient capability CAP_CHOWN: "), "{out:?}");
    bundle.script("sleep 100");
    bundle.leave(&["run", "-d", "a"]);
    let exec = ["exec", "--cap", "CAP_SYSLOG", "a", "grep", "^CapAmb", "/proc/self/status"];
    assert_eq!(bundle.hoy(&exec).output().stdout, "CapAmb:\t0000000400000020\n");
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

/// The processors that the caller happens to be bound to are not the container's.
#[test]
fn a_container_is_not_bound_where_its_caller_is() {
    let own = |status: &str| status.lines().find(|l| l.starts_with("Cpus_allowed_list:")).unwrap().to_owned();
    let all = own(&fs::read_to_string("/proc/self/status").unwrap());
    if all.ends_with("\t0") {
        return skip("one processor alone");
    }
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let arguments = ["grep", "Cpus_allowed_list:", "/proc/self/status"];
    bundle.set("/process/args", json!(arguments));
    let bound = ["taskset", "-c", "0"];
    assert_eq!(bundle.tested_within(&bound, &["run", "a"]).ok(), all);
    bundle.script("sleep 100");
    bundle.leave(&["run", "-d", "a"]);
    let exec = [&["exec", "a"], &arguments[..]].concat();
    assert_eq!(bundle.tested_within(&bound, &exec).ok(), all);
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

/// A container that was not started yet can be asked to end.
#[test]
fn a_created_container_ends_when_asked() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.script("true");
    bundle.leave(&["create", "a"]);
    let status = || {
        let state: serde_json::Value = serde_json::from_str(&bundle.hoy(&["state", "a"]).ok()).unwrap();
        state["status"].as_str().unwrap().to_owned()
    };
    bundle.hoy(&["kill", "a", "USR1"]).ok();
    assert_eq!(status(), "created");
    bundle.hoy(&["kill", "a", "TERM"]).ok();
    let end = Instant::now() + Duration::from_secs(10);
    while status() != "stopped" {
        assert!(Instant::now() < end, "it is {}", status());
    }
    bundle.hoy(&["delete", "a"]).ok();
}

/// A low limit on open files is the program's: what the runtime has open does not count.
#[test]
fn few_files_are_enough() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    for n in 0..16 {
        let mut mount = json!({"destination": format!("/mnt/{n}"), "source": "/etc", "options": ["bind"]});
        mount["uidMappings"] = json!([{"containerID": 0, "hostID": 5000, "size": 1}]);
        mount["gidMappings"] = mount["uidMappings"].clone();
        bundle.push("/mounts", mount);
    }
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 12, "hard": 12}]));
    bundle.script("ulimit -n; stat -c %u /mnt/15");
    assert_eq!(bundle.hoy(&["run", "a"]).ok(), "12\n5000");
}

/// Callers compare the whole line, which is the container's.
#[test]
fn a_program_that_the_kernel_refuses() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    for (name, text, why) in
        [("/script", "#!/none\n", "no such file or directory"), ("/data", "\u{1}", "exec format error")]
    {
        fs::write(bundle.path(&format!("rootfs{name}")), text).unwrap();
        fs::set_permissions(bundle.path(&format!("rootfs{name}")), Permissions::from_mode(0o755)).unwrap();
        bundle.set("/process/args", json!([name]));
        let line = format!("exec {name}: {why}\n");
        assert_eq!(bundle.hoy(&["run", "a"]).fails(1, &[]), line);
        bundle.set("/process/args", json!(["sleep", "99"]));
        bundle.leave(&["run", "--detach", "a"]);
        assert_eq!(bundle.hoy(&["exec", "a", name]).fails(255, &[]), line);
        bundle.hoy(&["delete", "--force", "a"]).ok();
    }
}

/// The steps are told in words that runc's users look for.
#[test]
fn the_steps_are_told() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/process/args", json!(["true"]));
    bundle.set("/process/execCPUAffinity", json!({"initial": "0"}));
    let told = |bundle: &Bundle, args: &[&str]| {
        let out = bundle.hoy(args).output();
        assert_eq!(out.status, 0, "{out:?}");
        assert!(out.stderr.lines().all(|line| line.contains(" level=debug msg=\"")), "{out:?}");
        out.stderr
    };
    let run = told(&bundle, &["--debug", "run", "b"]);
    for word in ["control groups: ", "nsexec container setup: new namespaces mnt,", "child process in init()"] {
        assert!(run.contains(word), "{word}: {run}");
    }
    assert!(run.contains("init: closing the pipe to signal completion: exec \\\"/bin/true\\\""), "{run}");
    bundle.set("/process/args", json!(["sleep", "99"]));
    bundle.leave(&["run", "--detach", "a"]);
    let exec = told(&bundle, &["--debug", "exec", "a", "true"]);
    for word in ["nsexec: affinity: 0x1\"", "child process in init()", "setns_init: about to exec"] {
        assert!(exec.contains(word), "{word}: {exec}");
    }
    bundle.hoy(&["delete", "--force", "a"]).ok();
}

#[test]
fn help_has_the_form_of_runcs() {
    let Some(bundle) = Bundle::new(User::Root) else { return };
    let first = |args: &[&str]| bundle.hoy(args).ok().lines().take(2).collect::<Vec<_>>().join("");
    assert_eq!(first(&["-h"]), "NAME:   hoy-runtime - Open Container Initiative runtime");
    assert_eq!(first(&["list", "--help"]), "NAME:   hoy-runtime list - List the containers");
    bundle.hoy(&["foo", "-h"]).fails(2, &["No help topic for 'foo'"]);
}

/// An option of a file system is left out of a bind, and told of.
#[test]
fn a_bind_with_options_of_a_file_system() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    let options = json!(["bind", "mode=755", "size=1k"]);
    bundle.push("/mounts", json!({"destination": "/mnt", "source": "/etc", "options": options}));
    bundle.script("test -f /mnt/hostname && echo there");
    let out = bundle.hoy(&["run", "a"]).output();
    assert_eq!((out.status, out.stdout.trim()), (0, "there"), "{out:?}");
    assert!(out.stderr.contains("the option \"mode\" is none of a bind mount"), "{out:?}");
}
