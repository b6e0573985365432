//! containerd's shim `io.containerd.runc.v2` with our runtime for its binary.

use std::fs;
use std::process::Child;

use hoy_tests::{Out, Run, Sandbox, User, busybox_layout, need, program};

const IMAGE: &str = "localhost/b:latest";

/// A containerd of our own: its own directories and sockets, and busybox for its image.
struct Containerd {
    sandbox: Sandbox,
    namespace: String,
    daemon: Child,
}

impl Containerd {
    fn new() -> Option<Self> {
        let peers = ["containerd", "ctr", "containerd-shim-runc-v2", "skopeo", "umoci", "busybox"];
        if !User::Root.available() || !need(&peers) {
            return None;
        }
        let sandbox = Sandbox::new();
        let config = sandbox.path("config.toml");
        let at = |name: &str| sandbox.path(name).display().to_string();
        let plugins = ["grpc.v1.cri", "snapshotter.v1.btrfs", "snapshotter.v1.zfs", "internal.v1.opt"];
        let disabled: Vec<String> = plugins.iter().map(|name| format!("\"io.containerd.{name}\"")).collect();
        let text = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [{}]\n[grpc]\naddress = \"{}\"\n\
             [ttrpc]\naddress = \"{}\"\n",
            at("root"),
            at("run/state"),
            disabled.join(", "),
            at("run/c.sock"),
            at("run/t.sock")
        );
        fs::write(&config, text).unwrap();
        let daemon = sandbox.run("containerd").arg("--config").arg(&config).spawn();
        let containerd = Self { sandbox, namespace: format!("hoy-test-{}", std::process::id()), daemon };
        let is_up = |_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            containerd.ctr(&["version"]).status == 0
        };
        assert!((0..200).any(is_up), "containerd does not answer");
        let layout = containerd.sandbox.path("layout");
        busybox_layout(&layout);
        let archive = containerd.sandbox.path("b.tar");
        let to = format!("oci-archive:{}:{IMAGE}", archive.display());
        Run::new("skopeo").args(["copy", "-q", &format!("oci:{}:busybox:latest", layout.display()), &to]).ok();
        containerd.ok(&["image", "import", archive.to_str().unwrap()]);
        Some(containerd)
    }

    fn run(&self, args: &[&str]) -> Run {
        let ctr = self.sandbox.run("ctr").arg("--address").arg(self.sandbox.path("run/c.sock"));
        ctr.args(["--namespace", &self.namespace]).args(args)
    }

    fn ctr(&self, args: &[&str]) -> Out {
        self.run(args).output()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// `ctr run` with our runtime behind the shim, its state in the sandbox.
    fn start(&self, options: &[&str], id: &str, words: &[&str]) -> Out {
        let (binary, root) = (program("hoy-runtime"), self.sandbox.path("run/runtime"));
        let group = format!("/{}/{id}", self.namespace);
        let own = ["--runc-binary", binary.to_str().unwrap(), "--runc-root", root.to_str().unwrap()];
        let usual = ["--snapshotter", "native", "--cgroup", &group];
        self.ctr(&[&["run"], options, &own, &usual, &[IMAGE, id], words].concat())
    }

    fn status(&self, id: &str) -> String {
        let list = self.ok(&["task", "ls"]);
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(id));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or_default().to_owned()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in self.ctr(&["container", "ls", "-q"]).stdout.lines() {
            self.ctr(&["task", "rm", "--force", id]);
            self.ctr(&["container", "rm", id]);
        }
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        let mounts = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        for group in mounts.chain(["/sys/fs/cgroup".into()]) {
            // Not every hierarchy has it.
            fs::remove_dir(group.join(&self.namespace)).unwrap_or_default();
        }
    }
}

#[test]
fn containerd_runs_and_keeps_containers() {
    let Some(containerd) = Containerd::new() else { return };
    let hello = containerd.start(&["--rm"], "a", &["echo", "hello"]);
    assert_eq!((hello.status, hello.stdout.as_str()), (0, "hello\n"), "{}", hello.stderr);
    let failed = containerd.start(&["--rm"], "a", &["sh", "-c", "exit 7"]);
    assert_eq!(failed.status, 7, "{}", failed.stderr);
    let missing = containerd.start(&["--rm"], "a", &["no-such"]);
    // The shim has this from the log's last object.
    assert!(
        missing.stderr.contains("OCI runtime create failed: exec \"no-such\": executable file"),
        "{}",
        missing.stderr
    );

    let script = "trap 'exit 4' TERM; while :; do sleep 0.05; done";
    let started = containerd.start(&["-d", "--memory-limit", "50000000"], "b", &["sh", "-c", script]);
    assert_eq!(started.status, 0, "{}", started.stderr);
    assert_eq!(containerd.status("b"), "RUNNING");
    let exec = |words: &[&str]| containerd.ctr(&[&["task", "exec", "--exec-id", "e", "b"], words].concat());
    let inside = exec(&["sh", "-c", "echo in; exit 9"]);
    assert_eq!((inside.status, inside.stdout.as_str()), (9, "in\n"), "{}", inside.stderr);
    let missing = exec(&["no-such"]);
    assert!(missing.stderr.contains("OCI runtime exec failed: exec \"no-such\""), "{}", missing.stderr);
    containerd.ok(&["task", "pause", "b"]);
    assert_eq!(containerd.status("b"), "PAUSED");
    containerd.ok(&["task", "resume", "b"]);
    assert_eq!(containerd.status("b"), "RUNNING");
    assert!(containerd.ok(&["task", "ps", "b"]).lines().count() >= 2);
    containerd.ok(&["task", "kill", "-s", "SIGTERM", "b"]);
    for _ in 0..100 {
        if containerd.status("b") == "STOPPED" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(containerd.status("b"), "STOPPED");
    // containerd takes "container not running" for "not found".
    let late = containerd.ctr(&["task", "kill", "-s", "TERM", "b"]);
    assert!(late.status != 0 && late.stderr.contains("not found"), "{}", late.stderr);
    assert_eq!(containerd.ctr(&["task", "delete", "b"]).status, 0);
    containerd.ok(&["container", "rm", "b"]);
    assert_eq!(containerd.ok(&["task", "ls", "-q"]), "");
    let root = containerd.sandbox.path("run/runtime").join(&containerd.namespace);
    assert_eq!(fs::read_dir(root).map_or(0, Iterator::count), 0, "the runtime still has containers");
}

#[test]
fn containerd_gives_a_terminal() {
    let Some(containerd) = Containerd::new() else { return };
    if !need(&["script"]) {
        return;
    }
    assert_eq!(containerd.start(&["-d"], "c", &["sleep", "1000"]).status, 0);
    let command = format!(
        "ctr --address {} --namespace {} task exec -t --exec-id e c sh -c 'tty; read word; echo got $word; exit 3'",
        containerd.sandbox.path("run/c.sock").display(),
        containerd.namespace
    );
    let script = containerd.sandbox.run("script").args(["-q", "-e", "-c", &command, "/dev/null"]);
    let out = script.stdin("typed\n").output();
    assert!(out.stdout.contains("/dev/pts/0") && out.stdout.contains("got typed"), "{out:?}");
    assert_eq!(out.status, 3, "{out:?}");
    containerd.ok(&["task", "kill", "-s", "KILL", "c"]);
}
