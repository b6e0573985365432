//! The program's terminal: runtime-spec config.md "process.terminal", "consoleSize".

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use hoy_tests::{Bundle, User, cannot};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

/// Who waits at the console socket: gets the payload and the one descriptor.
fn receiver(bundle: &Bundle, user: User) -> JoinHandle<(String, fs::File)> {
    let path = bundle.path("console");
    let listener = UnixListener::bind(&path).unwrap();
    let (uid, gid) = user.ids().unwrap();
    std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 4096];
        let got =
            recvmsg(&stream, &mut [std::io::IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty()).unwrap();
        let fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        let [master] = <[OwnedFd; 1]>::try_from(fds).expect("one descriptor comes");
        (String::from_utf8_lossy(&bytes[..got.bytes]).into_owned(), master.into())
    })
}

fn screen(mut master: fs::File) -> String {
    let mut bytes = Vec::new();
    // The end of a terminal is an error.
    master.read_to_end(&mut bytes).map(drop).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

#[test]
fn the_master_goes_to_the_socket() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::Sub, User::One]) {
        bundle.set("/process/terminal", json!(true));
        bundle.set("/process/consoleSize", json!({"height": 31, "width": 77}));
        bundle.script(
            "tty; stty size; [ -c /dev/console ] && echo console; echo to-console > /dev/console; read x; echo got $x",
        );
        let receiver = receiver(&bundle, user);
        bundle.leave_tested(&["create", "--console-socket", "console", "a"]);
        let (name, mut master) = receiver.join().unwrap();
        assert!(!name.is_empty(), "{user:?}");
        let size = rustix::termios::tcgetwinsize(&master).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (31, 77), "{user:?}");
        bundle.leave_tested(&["start", "a"]);
        master.write_all(b"typed\n").unwrap();
        let shown = screen(master);
        for want in ["/dev/pts/0\n", "31 77\n", "console\n", "to-console\n", "got typed\n"] {
            assert!(shown.contains(want), "{user:?} {want:?}: {shown}");
        }
        bundle.tested(&["delete", "--force", "a"]).ok();
    }
}

#[test]
fn the_terminal_is_the_users() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.set("/process/terminal", json!(true));
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        bundle.script("stat -L -c %u:%a /proc/self/fd/0; echo again > $(tty) && echo opened");
        let receiver = receiver(&bundle, User::Root);
        bundle.leave_tested(&["create", "--console-socket", "console", "a"]);
        let (_, master) = receiver.join().unwrap();
        bundle.leave_tested(&["start", "a"]);
        assert_eq!(screen(master), "1000:620\nagain\nopened\n");
        bundle.tested(&["delete", "--force", "a"]).ok();
    }
}

#[test]
fn another_program_gets_one_of_its_own() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::One]) {
        bundle.script("sleep 1000");
        bundle.leave_tested(&["run", "-d", "a"]);
        let receiver = receiver(&bundle, user);
        bundle.leave_tested(&[
            "exec",
            "--detach",
            "--tty",
            "--console-socket",
            "console",
            "a",
            "sh",
            "-c",
            "tty; [ -t 2 ] && echo two",
        ]);
        let (_, master) = receiver.join().unwrap();
        assert_eq!(screen(master), "/dev/pts/0\ntwo\n", "{user:?}");
        bundle.tested(&["delete", "--force", "a"]).ok();
    }
}

#[test]
fn a_socket_and_a_terminal_belong_together() {
    if cannot(&[("crun", "1.8.1 passes over a socket that no terminal needs")]) {
        return;
    }
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        let listener = UnixListener::bind(bundle.path("console")).unwrap();
        bundle.script("true");
        assert_ne!(bundle.tested(&["create", "--console-socket", "console", "a"]).output().status, 0);
        bundle.set("/process/terminal", json!(true));
        assert_ne!(bundle.tested(&["create", "a"]).output().status, 0);
        drop(listener);
    }
}
