//! podman and buildah with our runtime: the commands that people type.

use std::fs;
use std::path::PathBuf;

use hoy_tests::{Run, Sandbox, User, busybox_layout, need, program};

/// A store of podman's with busybox in it, and our runtime under a name that podman knows things about.
struct Podman {
    sandbox: Sandbox,
    config: PathBuf,
}

/// Limits that this machine may not raise are given as they are; no network needs no helper programs.
const LIMITS: [&str; 6] = ["--network", "none", "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"];

impl Podman {
    fn new() -> Option<Self> {
        if !User::Root.available() || !need(&["podman", "conmon", "skopeo", "umoci", "busybox"]) {
            return None;
        }
        let sandbox = Sandbox::new();
        let config = sandbox.path("containers.conf");
        // What podman assumes of a runtime hangs on its name: this one speaks JSON and can do without control groups.
        let text = format!(
            "[engine]\nruntime_supports_json = [\"hoy-runtime\"]\nruntime_supports_nocgroup = [\"hoy-runtime\"]\n\
             cgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n[engine.runtimes]\nhoy-runtime = [\"{}\"]\n",
            program("hoy-runtime").display()
        );
        fs::write(&config, text).unwrap();
        let layout = sandbox.path("layout");
        busybox_layout(&layout);
        let podman = Self { sandbox, config };
        let archive = podman.sandbox.path("b.tar").display().to_string();
        let to = format!("oci-archive:{archive}:localhost/b:latest");
        Run::new("skopeo").args(["copy", "-q", &format!("oci:{}:busybox:latest", layout.display()), &to]).ok();
        podman.run(&["load", "-q", "-i", &archive]).ok();
        Some(podman)
    }

    fn run(&self, args: &[&str]) -> Run {
        self.program("podman").args(["--runtime", "hoy-runtime"]).args(args)
    }

    fn program(&self, name: &str) -> Run {
        let run = self.sandbox.run(name).env("CONTAINERS_CONF", &self.config);
        run.arg("--root")
            .arg(self.sandbox.path("root"))
            .arg("--runroot")
            .arg(self.sandbox.path("run"))
            .args(["--storage-driver", "vfs"])
    }

    /// Runs a container in the background.
    fn leave(&self, name: &str, script: &str) {
        self.run(&[&["run", "-d", "--name", name], &LIMITS[..], &["b", "sh", "-c", script]].concat()).ok();
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // The store goes with the sandbox, and what runs must not outlive it.
        self.run(&["rm", "-a", "-f", "-t", "0"]).output();
    }
}

#[test]
fn podman_runs_and_tells_failures_apart() {
    let Some(podman) = Podman::new() else { return };
    let run = |args: &[&str]| podman.run(&[&["run", "--rm"], &LIMITS[..], args].concat()).output();
    assert_eq!(run(&["b", "echo", "ahoy"]).stdout, "ahoy\n");
    assert_eq!(run(&["b", "sh", "-c", "exit 7"]).status, 7);
    assert_eq!(run(&["b", "sh", "-c", "kill -KILL $$; exit 1"]).status, 1, "the first process is not killed by itself");
    // podman reads these numbers out of our message.
    let missing = run(&["b", "no-such"]);
    assert_eq!(missing.status, 127, "{}", missing.stderr);
    assert!(missing.stderr.contains("executable file not found in $PATH"), "{}", missing.stderr);
    // From the log's one object, not from standard error, where our name stands before it.
    assert!(!missing.stderr.contains("hoy-runtime: hoy-runtime:"), "{}", missing.stderr);
    let denied = run(&["b", "/etc"]);
    assert_eq!(denied.status, 126, "{}", denied.stderr);
    assert_eq!(run(&["--pid", "host", "b", "echo", "shared"]).stdout, "shared\n");
    assert_eq!(
        run(&["--read-only", "--tmpfs", "/run", "b", "sh", "-c", "touch /x || touch /run/x && echo ro"]).stdout,
        "ro\n"
    );
    let without = run(&["--cgroups", "disabled", "b", "echo", "no group"]);
    assert_eq!((without.status, without.stdout.as_str()), (0, "no group\n"), "{}", without.stderr);
    let version = podman.run(&["info", "--format", "{{.Host.OCIRuntime.Version}}"]).ok();
    assert!(version.contains("hoy-runtime version "), "{version}");
}

#[test]
fn podman_keeps_a_container() {
    let Some(podman) = Podman::new() else { return };
    podman.leave("c", "trap 'exit 4' TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done");
    let ok = |args: &[&str]| podman.run(args).ok();
    let status = || ok(&["inspect", "--format", "{{.State.Status}}", "c"]);
    assert_eq!(status(), "running");
    let first = ok(&["inspect", "--format", "{{.Id}}", "c"]);
    assert_eq!(ok(&["exec", "c", "echo", "inside"]), "inside");
    assert_eq!(podman.run(&["exec", "c", "sh", "-c", "exit 9"]).output().status, 9);
    assert_eq!(podman.run(&["exec", "c", "no-such"]).output().status, 127);
    assert_eq!(podman.run(&["exec", "c", "/etc"]).output().status, 126);
    assert_eq!(podman.run(&["exec", "-i", "c", "cat"]).stdin("data").ok(), "data");
    assert_eq!(
        ok(&["exec", "--user", "1000:50", "-e", "A=b", "-w", "/tmp", "c", "sh", "-c", "id -u; echo $A; pwd"]),
        "1000\nb\n/tmp"
    );
    ok(&["exec", "-d", "c", "touch", "/tmp/made"]);
    let made = || podman.run(&["exec", "c", "test", "-e", "/tmp/made"]).output().status == 0;
    assert!((0..100).any(|_| made()), "a detached exec does nothing");
    assert!(ok(&["logs", "c"]).contains("line 1"));
    ok(&["pause", "c"]);
    assert_eq!(status(), "paused");
    assert_ne!(podman.run(&["exec", "c", "true"]).output().status, 0);
    ok(&["unpause", "c"]);
    ok(&["update", "--memory", "64m", "c"]);
    let limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null";
    assert_eq!(podman.run(&["exec", "c", "sh", "-c", limit]).output().stdout, "67108864\n");
    assert!(ok(&["top", "c"]).contains("sleep"));
    ok(&["stop", "-t", "20", "c"]);
    assert_eq!(ok(&["wait", "c"]), "4");
    ok(&["start", "c"]);
    ok(&["kill", "-s", "KILL", "c"]);
    assert_eq!(ok(&["wait", "c"]), "137");
    ok(&["rm", "c"]);
    let second = ok(&[&["create", "--name", "d"], &LIMITS[..], &["b", "sleep", "1000"]].concat());
    ok(&["init", "d"]);
    ok(&["start", "d"]);
    ok(&["pause", "d"]);
    ok(&["rm", "-f", "-t", "0", "d"]);
    assert_eq!(ok(&["ps", "-a", "-q"]), "");
    // Other tests have theirs there at the same time.
    let left = Run::new("hoy-runtime").args(["list", "-q"]).ok();
    assert!(!left.lines().any(|id| id == first || id == second), "the runtime still has {left}");
}

#[test]
fn podman_gives_a_terminal() {
    let Some(podman) = Podman::new() else { return };
    if !need(&["script"]) {
        return;
    }
    podman.leave("c", "sleep 1000");
    let prefix = format!(
        "podman --root {} --runroot {} --storage-driver vfs --runtime hoy-runtime",
        podman.sandbox.path("root").display(),
        podman.sandbox.path("run").display()
    );
    let run = format!("run -it --rm {} b", LIMITS.join(" "));
    for what in [run.as_str(), "exec -it c"] {
        let command = format!("{prefix} {what} sh -c 'test -t 0 && tty; read word; echo got $word; exit 3'");
        let script = podman.sandbox.run("script").env("CONTAINERS_CONF", &podman.config);
        let out = script.args(["-q", "-e", "-c", &command, "/dev/null"]).stdin("typed\n").output();
        assert!(out.stdout.contains("/dev/pts/0") && out.stdout.contains("got typed"), "{what}: {out:?}");
        assert_eq!(out.status, 3, "{what}: {out:?}");
    }
}

#[test]
fn buildah_runs_steps() {
    let Some(podman) = Podman::new() else { return };
    if !need(&["buildah"]) {
        return;
    }
    let buildah = |args: &[&str]| podman.program("buildah").args(args);
    let container = buildah(&["from", "--pull=never", "localhost/b:latest"]).ok();
    let runtime = program("hoy-runtime").display().to_string();
    let run = |words: &[&str]| {
        let args = ["run", "--isolation", "oci", "--runtime", &runtime, "--network", "none", &container, "--"];
        buildah(&[&args[..], words].concat()).output()
    };
    let made = run(&["sh", "-c", "echo made > /made; echo said"]);
    assert_eq!((made.status, made.stdout.as_str()), (0, "said\n"), "{}", made.stderr);
    assert_eq!(run(&["cat", "/made"]).stdout, "made\n");
    assert_eq!(run(&["sh", "-c", "exit 7"]).status, 7);
    let missing = run(&["no-such"]);
    assert!(missing.status != 0 && missing.stderr.contains("executable file not found"), "{missing:?}");
    buildah(&["rm", &container]).ok();
}
