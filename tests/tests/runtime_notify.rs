//! Readiness of a container, told to the service manager: sd_notify(3).

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

use hoy_tests::{Bundle, User, need};
use serde_json::json;

/// A bundle whose program, an ordinary user, says that it is ready, and a socket that this user could not reach.
fn bundle(user: User) -> Option<(Bundle, PathBuf, UnixDatagram)> {
    if !need(&["python3"]) {
        return None;
    }
    let mut bundle = Bundle::new(user)?;
    // Python of the host: nothing in busybox can send to such a socket.
    for name in ["lib", "lib64"] {
        if !bundle.path("rootfs").join(name).exists() {
            symlink(format!("usr/{name}"), bundle.path("rootfs").join(name)).unwrap();
        }
    }
    bundle.push("/mounts", json!({"destination": "/usr", "source": "/usr", "options": ["rbind", "ro"]}));
    let script = "import os, socket, sys, time\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
        s.connect(os.environ['NOTIFY_SOCKET'])\n\
        s.send(b'STATUS=soon')\n\
        s.send(b'READY=1\\nSTATUS=ready')\n\
        time.sleep(float(sys.argv[1]))\n";
    bundle.set("/process/args", json!(["/usr/bin/python3", "-c", script, "0.2"]));
    if user == User::Root {
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    }
    let directory = bundle.path("private");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    if let Some((uid, gid)) = user.ids() {
        std::os::unix::fs::chown(&directory, Some(uid), Some(gid)).unwrap();
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    Some((bundle, path, socket))
}

/// What is said until the barrier, whose descriptor is let go.
fn listen(socket: UnixDatagram) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let mut buffer = [0; 999];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {said:?} so far"));
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            // Its descriptor has gone already: nobody took it.
            if text == "BARRIER=1" {
                return said;
            }
            said.push(text);
        }
    })
}

#[test]
fn a_container_in_the_foreground_says_that_it_is_ready() {
    for user in [User::Root, User::Sub, User::One] {
        let Some((bundle, path, socket)) = bundle(user) else { return };
        let listener = listen(socket);
        bundle.hoy(&["run", "a"]).env("NOTIFY_SOCKET", path).ok();
        assert_eq!(listener.join().unwrap(), ["READY=1"], "{user:?}");
    }
}

#[test]
fn start_and_a_detached_run_wait_until_it_is_ready() {
    let Some((mut bundle, path, socket)) = bundle(User::Root) else { return };
    let last = bundle.config["process"]["args"].as_array().unwrap().len() - 1;
    bundle.config["process"]["args"][last] = json!("1000");
    let second = socket.try_clone().unwrap();
    let listener = listen(socket);
    let spawned = |args: &[&str]| {
        let status = bundle.hoy(args).env("NOTIFY_SOCKET", &path).spawn().wait().unwrap();
        assert!(status.success(), "{args:?}");
    };
    spawned(&["create", "--pid-file", "pid", "a"]);
    spawned(&["start", "a"]);
    let pid = fs::read_to_string(bundle.path("pid")).unwrap();
    assert_eq!(listener.join().unwrap(), [format!("READY=1\nMAINPID={pid}")]);
    bundle.hoy(&["delete", "-f", "a"]).ok();
    let listener = listen(second);
    spawned(&["run", "-d", "--pid-file", "pid", "b"]);
    let pid = fs::read_to_string(bundle.path("pid")).unwrap();
    assert_eq!(listener.join().unwrap(), [format!("READY=1\nMAINPID={pid}")]);
    bundle.hoy(&["delete", "-f", "b"]).ok();
}

#[test]
fn a_program_that_ends_is_not_waited_for() {
    let Some((mut bundle, path, _socket)) = bundle(User::Root) else { return };
    bundle.script("exit 0");
    assert!(bundle.hoy(&["run", "-d", "a"]).env("NOTIFY_SOCKET", &path).spawn().wait().unwrap().success());
    bundle.hoy(&["delete", "-f", "a"]).ok();
    // Nor is anybody who does not listen.
    let out = bundle.hoy(&["run", "b"]).env("NOTIFY_SOCKET", "/nowhere").output();
    assert!(out.status == 0 && out.stderr.contains("NOTIFY_SOCKET"), "{}", out.stderr);
}

#[test]
fn a_socket_without_a_file_is_told_too() {
    let Some((bundle, _, _)) = bundle(User::Root) else { return };
    let name = format!("hoy-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let listener = listen(socket);
    bundle.hoy(&["run", "a"]).env("NOTIFY_SOCKET", format!("@{name}")).ok();
    assert_eq!(listener.join().unwrap(), ["READY=1"]);
}
