//! Hostile containers against what enters them: descriptors, /proc of the entering process, the runtime's own file.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use hoy_tests::{Bundle, Run, User, is_long, program};
use serde_json::json;

/// Waits until `path` has the text `text`.
#[track_caller]
fn wait_for(path: &Path, text: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while !fs::read_to_string(path).unwrap_or_default().contains(text) {
        assert!(Instant::now() < until, "{} never has {text:?}", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// CVE-2024-21626: a working directory that a leaked descriptor leads out to.
#[test]
fn no_working_directory_through_a_descriptor() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    for up in ["", "/..", "/../../.."] {
        for fd in 3..64 {
            bundle.set("/process/cwd", json!(format!("/proc/self/fd/{fd}{up}")));
            bundle.hoy(&["run", "a"]).fails(1, &["enter working directory"]);
        }
    }
    bundle.set("/process/cwd", json!("/"));
    bundle.script("sleep 1000");
    bundle.leave(&["run", "-d", "a"]);
    for fd in 3..64 {
        let cwd = format!("/proc/self/fd/{fd}");
        bundle.hoy(&["exec", "--cwd", &cwd, "a", "true"]).fails(255, &["enter working directory"]);
    }
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

/// CVE-2024-21626: a program, an interpreter or a hook's interpreter that a leaked descriptor leads out to.
#[test]
fn no_program_through_a_descriptor() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    fs::create_dir(bundle.path("host")).unwrap();
    let echo = bundle.path("host/echo");
    fs::copy("/bin/busybox", &echo).unwrap();
    let out = |fd: i32| format!("/proc/self/fd/{fd}{}{}", "/..".repeat(12), echo.display());
    let script = bundle.path("rootfs/script");
    for fd in 3..64 {
        bundle.set("/process/args", json!([out(fd), "REACHED"]));
        let ended = bundle.hoy(&["run", "a"]).output();
        assert!(ended.status == 1 && ended.stdout.is_empty(), "{fd}: {} {}", ended.status, ended.stdout);
        bundle.set("/process/args", json!(["/script"]));
        executable(&script, &format!("#!{} REACHED\n", out(fd)));
        let ended = bundle.hoy(&["run", "a"]).output();
        assert!(ended.status == 1 && ended.stdout.is_empty(), "{fd}: {} {}", ended.status, ended.stdout);
        bundle.set("/hooks", json!({"startContainer": [{"path": "/script"}]}));
        bundle.set("/process/args", json!(["/bin/true"]));
        let ended = bundle.hoy(&["run", "a"]).output();
        assert!(ended.status == 1 && ended.stdout.is_empty(), "{fd}: {} {}", ended.status, ended.stdout);
        bundle.set("/hooks", json!({}));
    }
    bundle.script("sleep 1000");
    bundle.leave(&["run", "-d", "a"]);
    for fd in 3..64 {
        executable(&script, &format!("#!{} REACHED\n", out(fd)));
        // What the caller does not hold open cannot be kept open either.
        for (program, kept) in [(out(fd).as_str(), "0"), ("/script", "16")] {
            let ended = bundle.hoy(&["exec", "--preserve-fds", kept, "a", program, "REACHED"]).output();
            assert!(ended.status == 255 && ended.stdout.is_empty(), "{fd}: {} {}", ended.status, ended.stdout);
        }
    }
    bundle.hoy(&["delete", "-f", "a"]).ok();
}

/// In the container: what any process but the container's own lets others see of it, into /seen.
const LOOK: &str = "echo > /seen; while [ ! -e /stop ]; do ls -l /proc/[0-9]*/exe /proc/[0-9]*/fd; done 2>/dev/null \
    | grep -e '->' | grep -v -e '-> /bin/busybox' -e '-> pipe:' -e '-> /dev/null' -e '-> /proc/[0-9]*/fd' \
    -e '-> /seen' >> /seen; echo done >> /seen; sleep 1000";

fn seen(bundle: &Bundle) -> String {
    fs::write(bundle.path("rootfs/stop"), "").unwrap();
    wait_for(&bundle.path("rootfs/seen"), "done");
    fs::read_to_string(bundle.path("rootfs/seen")).unwrap().replace("done", "").trim().to_owned()
}

/// CVE-2016-9962, CVE-2020-14298: who enters the container cannot be looked at, or traced, before it is the program.
#[test]
fn who_enters_is_hidden() {
    for with_userns in [false, true] {
        let Some(mut bundle) = Bundle::new(User::Root) else { return };
        if with_userns {
            bundle.push("/linux/namespaces", json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
            bundle.set("/linux/uidMappings", map.clone());
            bundle.set("/linux/gidMappings", map);
        }
        bundle.script(LOOK);
        bundle.leave(&["run", "-d", "a"]);
        wait_for(&bundle.path("rootfs/seen"), "\n");
        for _ in 0..if is_long() { 2000 } else { 60 } {
            let mut exec = bundle.hoy(&["exec", "a", "true"]).spawn();
            assert!(exec.wait().unwrap().success());
        }
        let seen = seen(&bundle);
        assert!(seen.is_empty(), "user namespace: {with_userns}: {}", seen.chars().take(800).collect::<String>());
        bundle.hoy(&["delete", "-f", "a"]).ok();
    }
}

/// CVE-2016-9962: the same for a container that is made in the PID namespace of another.
#[test]
fn who_is_born_beside_is_hidden() {
    for with_userns in [false, true] {
        let (Some(mut bundle), Some(mut beside)) = (Bundle::new(User::Root), Bundle::new(User::Root)) else { return };
        bundle.script(LOOK);
        bundle.leave(&["run", "-d", "a"]);
        wait_for(&bundle.path("rootfs/seen"), "\n");
        let state: serde_json::Value = serde_json::from_str(&bundle.hoy(&["state", "a"]).ok()).unwrap();
        let namespaces = beside.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        namespaces.push(json!({"type": "pid", "path": format!("/proc/{}/ns/pid", state["pid"])}));
        if with_userns {
            beside.push("/linux/namespaces", json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
            beside.set("/linux/uidMappings", map.clone());
            beside.set("/linux/gidMappings", map);
            // A new /proc may not be mounted for another user namespace's PID namespace.
            beside.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "proc");
        }
        beside.set("/process/args", json!(["/bin/true"]));
        for _ in 0..if is_long() { 1000 } else { 40 } {
            let mut run = beside.hoy(&["run", "b"]).spawn();
            assert!(run.wait().unwrap().success());
        }
        let seen = seen(&bundle);
        assert!(seen.is_empty(), "user namespace: {with_userns}: {}", seen.chars().take(800).collect::<String>());
        bundle.hoy(&["delete", "-f", "a"]).ok();
    }
}

/// A container that waits for its start holds no descriptor of the host's, for whoever may look at all processes there.
#[test]
fn who_waits_holds_nothing() {
    for user in [User::Root, User::Sub, User::One] {
        let Some(mut bundle) = Bundle::new(user) else { return };
        bundle.push("/mounts", json!({"destination": "/host", "source": "/etc", "options": ["rbind", "ro"]}));
        bundle.leave(&["create", "a"]);
        let state: serde_json::Value = serde_json::from_str(&bundle.hoy(&["state", "a"]).ok()).unwrap();
        let root = fs::metadata(format!("/proc/{}/root", state["pid"])).unwrap();
        let mut kinds = Vec::new();
        for fd in fs::read_dir(format!("/proc/{}/fd", state["pid"])).unwrap().map(|entry| entry.unwrap().path()) {
            let (link, metadata) = (fs::read_link(&fd).unwrap(), fs::metadata(&fd).unwrap());
            // Standard streams, the channel, what it waits at and by, and its own root.
            let is_stream = ["/dev/null", "pipe:", "socket:", "anon_inode:[signalfd]"]
                .iter()
                .any(|name| link.to_str().unwrap().starts_with(name));
            let is_root = (metadata.dev(), metadata.ino()) == (root.dev(), root.ino());
            if !is_stream && !is_root && !metadata.file_type().is_fifo() {
                kinds.push(link);
            }
        }
        assert!(kinds.is_empty(), "{user:?} {kinds:?}");
        bundle.hoy(&["delete", "-f", "a"]).ok();
    }
}

/// A pipe that takes no byte more.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let size = rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    assert_eq!(rustix::io::write(&writer, &vec![b'x'; size]).unwrap(), size);
    (reader, writer)
}

/// CVE-2019-5736, CVE-2020-14300: the file that the runtime runs from cannot be written from inside, neither while it
/// enters (`/proc/PID/exe`) nor when it is made to run there by `#!/proc/self/exe`, held open, and written later.
#[test]
fn the_runtime_is_out_of_reach() {
    for user in [User::Root, User::Sub] {
        let Some(mut bundle) = Bundle::new(user) else { return };
        // A copy: should it be reached, it is not what the other tests run.
        let copy = bundle.path("runtime");
        fs::copy(program("hoy-runtime"), &copy).unwrap();
        Run::new("chown").arg(user.name()).arg(&copy).ok();
        let before = fs::read(&copy).unwrap();
        executable(&bundle.path("rootfs/again"), "#!/proc/self/exe --help\n");
        let all: Vec<String> =
            ["CHOWN", "DAC_OVERRIDE", "SYS_PTRACE", "SYS_ADMIN", "KILL", "FOWNER"].map(|c| format!("CAP_{c}")).to_vec();
        bundle.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
        bundle.script(
            "echo ready > /seen; while [ ! -e /stop ]; do for p in /proc/[0-9]*; do \
            case $(readlink $p/exe) in /bin/busybox | '') ;; *) ( exec 3< $p/exe; \
            echo held >> /seen; kill -9 ${p#/proc/}; sleep 0.2; \
            { echo x > /proc/self/fd/3; } && echo WRITTEN >> /seen; { echo x >> /proc/self/fd/3; } && echo WRITTEN >> /seen; \
            mount -o remount,rw /proc/self/fd/3 && echo REMOUNTED >> /seen; \
            ); esac; done; done 2>/dev/null; echo done >> /seen; sleep 1000",
        );
        let runtime = copy.to_str().unwrap();
        let started = bundle.runtime(runtime, &["run", "-d", "a"]).spawn().wait().unwrap();
        assert!(started.success());
        let seen = bundle.path("rootfs/seen");
        wait_for(&seen, "ready");
        for _ in 0..if is_long() { 500 } else { 40 } {
            bundle.runtime(runtime, &["exec", "a", "true"]).spawn().wait().unwrap();
        }
        // It hangs in there: what it writes to is full.
        let (_reader, writer) = full_pipe();
        let mut exec = bundle.runtime(runtime, &["exec", "a", "/again"]);
        let mut exec = exec.command().stdout(writer.try_clone().unwrap()).stderr(Stdio::null()).spawn().unwrap();
        wait_for(&seen, "held");
        exec.wait().unwrap();
        fs::write(bundle.path("rootfs/stop"), "").unwrap();
        wait_for(&seen, "done");
        let said = fs::read_to_string(&seen).unwrap();
        assert!(!said.contains("WRITTEN") && !said.contains("REMOUNTED"), "{user:?}: {said}");
        bundle.runtime(runtime, &["delete", "-f", "a"]).ok();
        assert!(fs::read(&copy).unwrap() == before, "{user:?}: the runtime was changed");
        // The same with the container's own first program.
        bundle.set("/process/args", json!(["/again"]));
        let mut run = bundle.runtime(runtime, &["run", "b"]);
        let mut run = run.command().stdout(writer).stderr(Stdio::null()).spawn().unwrap();
        let state = (0..200).find_map(|_| {
            std::thread::sleep(Duration::from_millis(300));
            let out = bundle.runtime(runtime, &["state", "b"]).output();
            serde_json::from_str::<serde_json::Value>(&out.stdout).ok()
        });
        let exe = format!("/proc/{}/exe", state.expect("b is made within a minute")["pid"]);
        let held = fs::File::open(&exe).unwrap();
        bundle.runtime(runtime, &["delete", "-f", "b"]).ok();
        run.wait().unwrap();
        let again = format!("/proc/self/fd/{}", held.as_raw_fd());
        assert!(fs::write(again, "x").is_err(), "{user:?}: the runtime could be written");
        assert!(fs::read(&copy).unwrap() == before, "{user:?}: the runtime was changed");
    }
}
