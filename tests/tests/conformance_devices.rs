//! Devices: runtime-spec config-linux.md "Devices", "Default Devices"; runtime-linux.md "Dev symbolic links".

use std::fs;

use hoy_tests::{Bundle, Run, User, cannot};
use serde_json::json;

fn bundle(user: User) -> Option<Bundle> {
    let mut bundle = Bundle::new(user)?;
    bundle.set("/ociVersion", json!("1.0.2"));
    Some(bundle)
}

const DEFAULT: &str = "for d in null zero full random urandom tty; do stat -c '%n %F %t:%T' /dev/$d; done; \
    for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; \
    cat /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x 2>/dev/null >/dev/full || echo full";

const WANT: &str = "/dev/null character special file 1:3\n/dev/zero character special file 1:5\n\
    /dev/full character special file 1:7\n/dev/random character special file 1:8\n\
    /dev/urandom character special file 1:9\n/dev/tty character special file 5:0\n\
    /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n3\n3\nfull";

#[test]
fn what_every_container_has() {
    for user in [User::Root, User::Sub, User::One] {
        if user != User::Root && cannot(&[("crun", "an ordinary user cannot hide the hybrid control groups from it")]) {
            continue;
        }
        let Some(mut bundle) = bundle(user) else { return };
        bundle.script(DEFAULT);
        assert_eq!(bundle.tested(&["run", "a"]).ok(), WANT, "{user:?}");
    }
}

#[test]
fn nodes_of_every_type_with_mode_and_owner() {
    let Some(mut bundle) = bundle(User::Root) else { return };
    bundle.set(
        "/linux/devices",
        json!([
            {"path": "/dev/one", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6},
            {"path": "/dev/two", "type": "u", "major": 1, "minor": 5},
            {"path": "/dev/deep/block", "type": "b", "major": 7, "minor": 99, "fileMode": 0o60600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 7},
            {"path": "/outside", "type": "c", "major": 1, "minor": 7, "fileMode": 0o666},
        ]),
    );
    bundle.script("stat -c '%n %F %t:%T %a %u:%g' /dev/one /dev/two /dev/deep/block /dev/pipe /outside");
    let want = "/dev/one character special file 1:3 640 5:6\n/dev/two character special file 1:5 666 0:0\n\
        /dev/deep/block block special file 7:63 600 0:0\n/dev/pipe fifo 0:0 622 7:0\n\
        /outside character special file 1:7 666 0:0";
    let out = bundle.tested(&["run", "a"]).output();
    if cannot(&[
        ("crun", "1.8.1 has its own default mode"),
        ("runc", "1.1 takes no type \"u\" and has no default mode"),
    ]) {
        return;
    }
    assert_eq!((out.status, out.stdout.trim()), (0, want), "{}", out.stderr);
}

#[test]
fn something_else_in_its_place_is_an_error() {
    let Some(mut bundle) = bundle(User::Root) else { return };
    bundle.set("/linux/devices", json!([{"path": "/there", "type": "c", "major": 1, "minor": 3}]));
    let there = bundle.path("rootfs/there");
    Run::new("mknod").arg(&there).args(["c", "1", "3"]).ok();
    bundle.script("true");
    bundle.tested(&["run", "a"]).ok();
    if cannot(&[("crun", "it leaves what is there"), ("runc", "1.1 leaves a file that is there")]) {
        return;
    }
    fs::remove_file(&there).unwrap();
    fs::write(&there, "a file").unwrap();
    let out = bundle.tested(&["run", "a"]).output();
    assert!(out.status != 0 && out.stderr.contains("/there"), "{}", out.stderr);
    assert_eq!(fs::read_to_string(&there).unwrap(), "a file");
    bundle.set("/linux/devices", json!([{"path": "/x", "type": "q", "major": 1, "minor": 3}]));
    assert_ne!(bundle.tested(&["run", "a"]).output().status, 0);
}

#[test]
fn a_user_namespace_is_given_the_callers() {
    let Some(mut bundle) = bundle(User::Root) else { return };
    Run::new("chown").args(["-hR", "200000:200000"]).arg(bundle.path("rootfs")).ok();
    bundle.push("/linux/namespaces", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    bundle.set("/linux/uidMappings", map.clone());
    bundle.set("/linux/gidMappings", map);
    bundle.set("/linux/devices", json!([{"path": "/dev/pipe", "type": "p", "fileMode": 0o622}]));
    bundle.script(&format!("{DEFAULT}; stat -c '%F %a' /dev/pipe"));
    if cannot(&[("crun", "1.8.1 looks for the fifo on the host"), ("runc", "1.1 looks for the fifo on the host")]) {
        return;
    }
    assert_eq!(bundle.tested(&["run", "a"]).ok(), format!("{WANT}\nfifo 622"));
}

#[test]
fn root_that_may_make_no_device_is_given_the_callers() {
    if cannot(&[("crun", "1.8.1 gives up"), ("runc", "1.1 gives up")]) {
        return;
    }
    let Some(mut bundle) = bundle(User::Root) else { return };
    bundle.script(DEFAULT);
    let wrapper = ["setpriv", "--bounding-set", "-mknod", "--inh-caps", "-mknod", "--"];
    if !hoy_tests::need(&["setpriv"]) {
        return;
    }
    assert_eq!(bundle.tested_within(&wrapper, &["run", "a"]).ok(), WANT);
}

#[test]
fn a_terminal_is_the_console() {
    let Some(mut bundle) = bundle(User::Root) else { return };
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/consoleSize", json!({"height": 33, "width": 77}));
    bundle.script("stat -c %F /dev/console; tty; stty size");
    if cannot(&[("crun", "without a terminal it wants a socket"), ("runc", "without a terminal it wants a socket")]) {
        return;
    }
    let out = bundle.tested(&["run", "a"]).ok().replace('\r', "");
    assert_eq!(out, "character special file\n/dev/pts/0\n33 77");
}
