//! `ssh://`: the store of another machine, through a command that stands for ssh(1).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hoy_tests::{Run, Sandbox, User, busybox_layout, many_layers, need};

/// A script in place of ssh: it writes its arguments into `calls`, and runs the command on the "other machine", whose
/// store is in `far`, as sshd does: by a shell, with pipes.
fn fake_ssh(sandbox: &Sandbox) -> String {
    let script = sandbox.path("work/fake-ssh");
    let far = sandbox.path("work/far").display().to_string();
    let calls = sandbox.path("work/calls").display().to_string();
    std::fs::write(
        &script,
        format!(
            "#!/bin/sh\necho \"$@\" >>{calls}\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\n\
             cat | HOY_ROOT={far}/root HOY_RUNROOT={far}/run sh -c \"$*\" | cat\n"
        ),
    )
    .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    if let Some((uid, gid)) = sandbox.user().ids() {
        std::os::unix::fs::chown(&script, Some(uid), Some(gid)).unwrap();
    }
    script.display().to_string()
}

fn calls(sandbox: &Sandbox) -> Vec<String> {
    let text = std::fs::read_to_string(sandbox.path("work/calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn run(sandbox: &Sandbox, ssh: &str, args: &[&str]) -> Run {
    sandbox.run("hoy-copy").env("HOY_SSH", ssh).args(args)
}

fn images_go_over_ssh(user: User) {
    if !need(&["umoci", "busybox"]) || (user != User::Root && !user.available()) {
        return;
    }
    let sandbox = Sandbox::for_user(user);
    busybox_layout(&sandbox.path("layout"));
    let ssh = fake_ssh(&sandbox);
    let source = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    let wanted = sandbox.ok("hoy-copy", &[&source, "store:app"]);
    let far = "ssh://me@nas.example:2222/app";
    assert_eq!(run(&sandbox, &ssh, &["store:app", far]).ok(), wanted);
    assert_eq!(calls(&sandbox), ["-p 2222 -- me@nas.example hoy-copy serve"]);
    // It is there as `app`, and goes back byte for byte.
    let there = |args: &[&str]| {
        let far = sandbox.path("work/far");
        sandbox
            .run("hoy-copy")
            .arg("--root")
            .arg(far.join("root"))
            .arg("--runroot")
            .arg(far.join("run"))
            .args(args)
            .ok()
    };
    assert_eq!(there(&["digest", "store:localhost/app:latest"]), wanted);
    assert_eq!(run(&sandbox, &ssh, &[far, "oci:back:x"]).ok(), wanted);
    assert!(sandbox.ok("hoy-copy", &["validate", "oci:back:x"]).starts_with("PASS"));
    for args in [["digest", far], ["inspect", far], ["list-tags", "ssh://nas/app"], ["delete", far]] {
        run(&sandbox, &ssh, &args).ok();
    }
    let said = run(&sandbox, &ssh, &["digest", far]).fails(1, &["ssh://me@nas.example:2222", "no such image"]);
    assert!(!said.contains("localhost"), "{said}");
}

#[test]
fn as_root() {
    images_go_over_ssh(User::Root);
}

#[test]
fn as_a_user() {
    images_go_over_ssh(User::Sub);
    images_go_over_ssh(User::One);
}

#[test]
fn only_what_is_missing_travels() {
    let sandbox = Sandbox::new();
    let ssh = fake_ssh(&sandbox);
    many_layers(&sandbox.path("work/layout"), 4);
    run(&sandbox, &ssh, &["-q", "oci:layout:many", "ssh://nas/a:1"]).ok();
    let debug = run(&sandbox, &ssh, &["--debug", "-q", "oci:layout:many", "ssh://nas/b:1"]).output();
    assert_eq!(debug.status, 0, "{}", debug.stderr);
    assert_eq!(debug.stderr.matches("debug: PUT").count(), 1, "the manifest alone: {}", debug.stderr);
    assert!(!debug.stderr.contains("POST"), "{}", debug.stderr);
    assert_eq!(calls(&sandbox).len(), 2, "one ssh a copy");
    // A name of another registry keeps its host; Docker's short names are found.
    run(&sandbox, &ssh, &["-q", "oci:layout:many", "ssh://nas/docker.io/library/many:2"]).ok();
    run(&sandbox, &ssh, &["digest", "ssh://nas/many:2"]).ok();
}

#[test]
fn what_is_no_host_never_reaches_ssh() {
    let sandbox = Sandbox::new();
    let ssh = fake_ssh(&sandbox);
    for name in [
        "ssh://-oProxyCommand=touch${IFS}x/app",
        "ssh://me@-oProxyCommand=x/app",
        "ssh://-l@nas/app",
        "ssh://nas;touch x/app",
        "ssh://nas/$(touch x)",
        "ssh://nas/a;touch x",
        "ssh://nas/--help",
        "ssh://nas",
    ] {
        run(&sandbox, &ssh, &["digest", name]).fails(2, &["ssh:"]);
    }
    assert!(calls(&sandbox).is_empty() && !Path::new(&sandbox.path("work/x")).exists());
    // What is run may be missing, or end at once, or speak another language.
    run(&sandbox, "no-such-ssh", &["digest", "ssh://nas/app"]).fails(1, &["ssh://nas", "no-such-ssh"]);
    run(&sandbox, "false", &["digest", "ssh://nas/app"]).fails(1, &["ssh://nas"]);
    run(&sandbox, "sh -c echo${IFS}hello", &["digest", "ssh://nas/app"]).fails(1, &["ssh://nas"]);
    let flag = sandbox.run("hoy-copy").args(["--ssh", "no-such-ssh", "digest", "ssh://nas/app"]);
    flag.fails(1, &["no-such-ssh"]);
}

/// sshd of this test alone: on a port of the loopback, with keys and rules in the sandbox. Ended when dropped.
struct Sshd {
    child: std::process::Child,
    command: String,
    port: u16,
}

impl Sshd {
    fn start(sandbox: &Sandbox) -> Option<Self> {
        if !need(&["ssh", "ssh-keygen", "/usr/sbin/sshd"]) {
            return None;
        }
        // Where sshd goes when it has no privileges; the system makes it when it starts its own.
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let dir = sandbox.path("work/ssh");
        sandbox.ok("mkdir", &["-m", "700", "ssh"]);
        for key in ["host", "user"] {
            let file = dir.join(key).display().to_string();
            sandbox.ok("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &file]);
        }
        let port = hoy_tests::free_port();
        let (at, far) = (dir.display(), sandbox.path("work/far").display().to_string());
        let bin = hoy_tests::program("hoy-copy").parent().unwrap().display().to_string();
        let rules = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/user.pub\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n\
             SetEnv HOY_ROOT={far}/root HOY_RUNROOT={far}/run PATH={bin}:/usr/bin:/bin\n"
        );
        std::fs::write(dir.join("rules"), rules).unwrap();
        let known = std::fs::read_to_string(dir.join("host.pub")).unwrap();
        std::fs::write(dir.join("known"), format!("[127.0.0.1]:{port} {known}")).unwrap();
        let mut sshd = sandbox.run("/usr/sbin/sshd").args(["-D", "-e", "-f"]).arg(dir.join("rules"));
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = sshd.command().stderr(log).spawn().unwrap();
        let command = format!("ssh -F none -i {at}/user -o UserKnownHostsFile={at}/known -o BatchMode=yes");
        let sshd = Self { child, command, port };
        for _ in 0..100 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(sshd);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("sshd does not listen: {}", std::fs::read_to_string(dir.join("log")).unwrap());
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Copies there and back through ssh and sshd themselves.
fn images_go_over_a_real_ssh(user: User) {
    if !need(&["umoci", "busybox"]) || !user.available() {
        return;
    }
    let sandbox = Sandbox::for_user(user);
    let Some(sshd) = Sshd::start(&sandbox) else { return };
    busybox_layout(&sandbox.path("layout"));
    let source = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    let far = format!("ssh://{}@127.0.0.1:{}/app", user.name(), sshd.port);
    let wanted = run(&sandbox, &sshd.command, &["-q", &source, &far]).ok();
    assert_eq!(run(&sandbox, &sshd.command, &["-q", &far, "oci:back:x"]).ok(), wanted);
    assert!(sandbox.ok("hoy-copy", &["validate", "oci:back:x"]).starts_with("PASS"));
    assert!(sandbox.path("work/far/root/index.json").exists(), "the other side's store");
    // What ssh says is passed on, and a host that is not known is none.
    let stranger = sshd.command.replace("/known", "/unknown");
    run(&sandbox, &stranger, &["digest", &far]).fails(1, &["127.0.0.1", "Host key verification failed"]);
    run(&sandbox, &sshd.command, &["digest", &far.replace("/app", "/none")]).fails(1, &["no such image"]);
}

#[test]
fn a_real_ssh_as_root() {
    images_go_over_a_real_ssh(User::Root);
}

#[test]
fn a_real_ssh_as_a_user() {
    images_go_over_a_real_ssh(User::Sub);
}
