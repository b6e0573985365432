//! An OCI bundle to hold a runtime against.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{Run, Sandbox, User, busybox_root, need, skip};

/// The runtime that the conformance suite holds to the specification: `RUNTIME`, or ours.
pub fn runtime_under_test() -> String {
    std::env::var("RUNTIME").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "hoy-runtime".to_owned())
}

/// Whether the runtime under test is one of the named peers that cannot do what a test is about, each with its
/// reason; the test is then recorded as skipped.
pub fn cannot(peers: &[(&str, &str)]) -> bool {
    let runtime = runtime_under_test();
    let reason = peers.iter().find(|(peer, _)| runtime.rsplit('/').next() == Some(peer));
    reason.iter().for_each(|(peer, reason)| skip(&format!("{peer}: {reason}")));
    reason.is_some()
}

/// A bundle with a root of busybox and the configuration of `hoy-runtime spec`, and containers of their own.
#[derive(Debug)]
pub struct Bundle {
    sandbox: Sandbox,
    /// The configuration, written before each run.
    pub config: Value,
}

impl Bundle {
    /// A bundle for `user`; none, and the test recorded as skipped, where the machine cannot run it.
    ///
    /// The container's root is writable, and its process has no terminal.
    pub fn new(user: User) -> Option<Self> {
        if !user.available() || !need(&["busybox"]) {
            return None;
        }
        let sandbox = Sandbox::for_user(user);
        busybox_root(&sandbox.path("work/rootfs"));
        Run::new("chown").args(["-hR", &format!("{}:", user.name())]).arg(sandbox.path("work")).ok();
        let mut spec = sandbox.run("hoy-runtime").arg("spec");
        if user != User::Root {
            spec = spec.arg("--rootless");
        }
        spec.ok();
        let bytes = std::fs::read(sandbox.path("work/config.json")).expect("spec wrote config.json");
        let config = serde_json::from_slice(&bytes).expect("config.json is JSON");
        let mut bundle = Self { sandbox, config };
        bundle.set("/process/terminal", json!(false));
        bundle.set("/root/readonly", json!(false));
        Some(bundle)
    }

    /// A path in the bundle.
    pub fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path("work").join(name)
    }

    /// Sets the value at a JSON pointer; the last name may be new.
    pub fn set(&mut self, pointer: &str, value: Value) {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
        let parent = self.config.pointer_mut(parent).expect("the parent is there");
        parent[name] = value;
    }

    /// Adds `value` to the list at a JSON pointer.
    pub fn push(&mut self, pointer: &str, value: Value) {
        let list = self.config.pointer_mut(pointer).and_then(Value::as_array_mut);
        list.expect("a list is there").push(value);
    }

    /// Makes the container's program a shell that runs `script`.
    pub fn script(&mut self, script: &str) {
        self.set("/process/args", json!(["/bin/sh", "-c", script]));
    }

    /// The runtime, or a peer, with the arguments of a command, run in the bundle with the configuration as it is now.
    pub fn runtime(&self, program: &str, args: &[&str]) -> Run {
        let path = self.path("config.json");
        std::fs::write(&path, self.config.to_string()).expect("write config.json");
        let root: &Path = &self.sandbox.path("run/state");
        if program.rsplit('/').next() != Some("crun") {
            return self.sandbox.run(program).arg("--root").arg(root).args(args);
        }
        // Debian's crun refuses a hybrid hierarchy: it is given what a container would be shown, v1 alone.
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"";
        self.sandbox
            .run("unshare")
            .args(["-m", "--propagation", "slave", "sh", "-c", script, program, "--root"])
            .arg(root)
            .args(args)
    }

    /// The runtime under test, with the arguments of a command.
    pub fn tested(&self, args: &[&str]) -> Run {
        self.runtime(&runtime_under_test(), args)
    }

    /// The runtime under test, started by the last of the words `wrapper`: `unshare -n …` for one.
    pub fn tested_within(&self, wrapper: &[&str], args: &[&str]) -> Run {
        std::fs::write(self.path("config.json"), self.config.to_string()).expect("write config.json");
        let (first, rest) = wrapper.split_first().expect("a program is named");
        let run = self.sandbox.run(first).args(rest).arg(runtime_under_test());
        run.arg("--root").arg(self.sandbox.path("run/state")).args(args)
    }

    /// `hoy-runtime ARGS`.
    pub fn hoy(&self, args: &[&str]) -> Run {
        self.runtime("hoy-runtime", args)
    }

    /// `hoy-runtime ARGS` for a container that goes on: with the null device as its standard streams, since who reads
    /// a pipe would wait for the container's end. It must succeed.
    #[track_caller]
    pub fn leave(&self, args: &[&str]) {
        let status = self.hoy(args).spawn().wait().expect("wait for the runtime");
        assert!(status.success(), "hoy-runtime {args:?}: {status}");
    }

    /// [`Bundle::leave`] for the runtime under test.
    #[track_caller]
    pub fn leave_tested(&self, args: &[&str]) {
        let status = self.tested(args).spawn().wait().expect("wait for the runtime");
        assert!(status.success(), "{} {args:?}: {status}", runtime_under_test());
    }
}
