//! The runtime where privileges are missing: in a container of its own, with few capabilities, one id, no control groups.

use std::fs;

use hoy_tests::{Bundle, Out, Run, User, busybox_root, program};
use serde_json::{Value, json};

const FEW: [&str; 7] =
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_SETFCAP"];

/// A container whose program is this runtime, and in it another container.
struct Nest {
    outer: Bundle,
    inner: Value,
}

impl Nest {
    fn new() -> Option<Self> {
        let mut outer = Bundle::new(User::Root)?;
        let mut inner = outer.config.clone();
        inner["process"]["args"] = json!(["/bin/sh", "-c", "id -u; hostname; cat /dev/null; ls -d /proc/self/fd"]);
        inner["hostname"] = json!("inner");
        fs::create_dir_all(outer.path("rootfs/inner/rootfs")).unwrap();
        busybox_root(&outer.path("rootfs/inner/rootfs"));
        fs::copy(program("hoy-runtime"), outer.path("rootfs/bin/hoy-runtime")).unwrap();
        outer.set("/process/args", json!(["/bin/hoy-runtime", "--root", "/tmp/state", "run", "inner"]));
        outer.set("/process/cwd", json!("/inner"));
        outer.set("/process/noNewPrivileges", json!(false));
        Some(Self { outer, inner })
    }

    fn capabilities(&mut self, names: &[&str]) {
        for set in ["bounding", "effective", "permitted"] {
            self.outer.set(&format!("/process/capabilities/{set}"), json!(names));
        }
    }

    fn outer_ids(&mut self, size: u32) {
        self.outer.push("/linux/namespaces", json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 200_000, "size": size}]);
        self.outer.set("/linux/uidMappings", map.clone());
        self.outer.set("/linux/gidMappings", map);
        Run::new("chown").args(["-hR", "200000:200000"]).arg(self.outer.path("rootfs")).ok();
    }

    fn inner_ids(&mut self) {
        self.inner["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        self.inner["linux"]["uidMappings"] = map.clone();
        self.inner["linux"]["gidMappings"] = map;
    }

    fn run(&self) -> Out {
        fs::write(self.outer.path("rootfs/inner/config.json"), self.inner.to_string()).unwrap();
        self.outer.hoy(&["run", "outer"]).output()
    }

    /// What the inner container says when all is well.
    #[track_caller]
    fn works(&self) -> String {
        let out = self.run();
        assert_eq!((out.status, out.stdout.as_str()), (0, "0\ninner\n/proc/self/fd\n"), "{}", out.stderr);
        out.stderr
    }
}

fn with_admin() -> Vec<&'static str> {
    [&FEW[..], &["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_SYS_CHROOT"]].concat()
}

#[test]
fn in_a_container_of_root() {
    let Some(mut nest) = Nest::new() else { return };
    nest.capabilities(&with_admin());
    nest.works();
    nest.inner_ids();
    nest.works();
}

#[test]
fn in_a_user_namespace() {
    for size in [65536, 1] {
        let Some(mut nest) = Nest::new() else { return };
        nest.capabilities(&with_admin());
        nest.outer_ids(size);
        nest.works();
        nest.inner_ids();
        nest.works();
    }
}

#[test]
fn root_with_few_capabilities_needs_a_user_namespace() {
    for ids in [false, true] {
        let Some(mut nest) = Nest::new() else { return };
        nest.capabilities(&FEW);
        if ids {
            nest.outer_ids(65536);
        }
        let out = nest.run();
        assert!(out.status != 0 && out.stderr.contains("needs a user namespace"), "{}", out.stderr);
        nest.inner_ids();
        nest.works();
    }
}

#[test]
fn without_control_groups_one_warning_and_no_limit() {
    let Some(mut nest) = Nest::new() else { return };
    nest.capabilities(&with_admin());
    nest.outer_ids(65536);
    let mounts = nest.outer.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    let said = nest.works();
    assert_eq!(said.matches("warning").count(), 1, "{said}");
    assert!(said.contains("there are no control groups here"), "{said}");
    nest.inner["linux"]["resources"] = json!({"pids": {"limit": 5}});
    let out = nest.run();
    assert!(out.status != 0 && out.stderr.contains("pids"), "{}", out.stderr);
}

#[test]
fn limits_are_clamped_with_one_warning() {
    let Some(mut nest) = Nest::new() else { return };
    nest.capabilities(&with_admin());
    nest.outer_ids(65536);
    nest.outer.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "hard": 512, "soft": 512},
        {"type": "RLIMIT_CORE", "hard": 0, "soft": 0}]),
    );
    nest.inner["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 2048, "soft": 1024},
        {"type": "RLIMIT_CORE", "hard": 7, "soft": 7}]);
    let said = nest.works();
    assert_eq!(said.matches("warning").count(), 1, "{said}");
    assert!(said.contains("RLIMIT_NOFILE") && said.contains("RLIMIT_CORE"), "{said}");
}
