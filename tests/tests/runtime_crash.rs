//! The runtime killed at each of its system calls: what it leaves can be listed, and `delete --force` removes it.

use hoy_tests::{At, Bundle, Machine, Run, User, traced};
use serde_json::{Value, json};

/// Each how many-th system call is one to be killed at.
fn step() -> usize {
    std::env::var("HOY_KILL_STEP")
        .ok()
        .and_then(|step| step.parse().ok())
        .unwrap_or_else(|| if std::env::var_os("HOY_LONG").is_some() { 1 } else { 40 })
}

/// A command to be killed again and again.
struct Victim {
    bundle: Bundle,
    id: String,
    machine: Machine,
}

impl Victim {
    /// A container with all that takes steps of its own: hooks, limits, a mount with mapped ids, a group of its own.
    fn new(user: User, name: &str, grouped: bool) -> Option<Self> {
        let mut bundle = Bundle::new(user)?;
        let id = format!("kill-{name}-{}", std::process::id());
        bundle.script("exec sleep 1000");
        bundle.set(
            "/hooks",
            json!({
                "createRuntime": [{"path": "/bin/true"}],
                "createContainer": [{"path": "/bin/true"}],
                "startContainer": [{"path": "/bin/true"}],
                "poststart": [{"path": "/bin/true"}],
                "poststop": [{"path": "/bin/true"}],
            }),
        );
        if grouped {
            bundle.set("/linux/cgroupsPath", json!(format!("/hoy-{id}/{id}")));
        }
        if user == User::Root {
            let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
            bundle.push(
                "/mounts",
                json!({"destination": "/mapped", "source": "/tmp", "type": "none",
                "options": ["bind", "ro", "idmap"], "uidMappings": map, "gidMappings": map}),
            );
        }
        let machine = Machine::new(&bundle.path(".."), &id);
        Some(Self { bundle, id, machine })
    }

    fn run(&self, args: &[&str]) -> Run {
        self.bundle.hoy(args).arg(&self.id)
    }

    fn leave(&self, args: &[&str]) {
        let all: Vec<&str> = args.iter().copied().chain([self.id.as_str()]).collect();
        self.bundle.leave(&all);
    }

    /// Kills every process of `command` at its system calls, one at a time, each time from where `prepare` leads to.
    fn kill_everywhere(&self, command: &[&str], prepare: impl Fn(&Self)) {
        self.run(&["delete", "--force"]).ok();
        // Parents of groups that were given, and the directory of all states, stay.
        prepare(self);
        let seen = traced(self.run(command), None);
        self.run(&["delete", "--force"]).ok();
        self.remove_parents();
        let empty = self.machine.look();
        let mut killed = Vec::new();
        for (process, calls) in seen.calls.iter().enumerate() {
            let places = (1..=*calls).skip(process % 3).step_by(step());
            let mut count = 0;
            for call in places {
                let at = At { process, call };
                prepare(self);
                count += u32::from(traced(self.run(command), Some(at)).killed);
                self.clear(&empty, &format!("{command:?} killed at {at:?}"));
            }
            killed.push(format!("{count} of {calls}"));
        }
        eprintln!("{command:?}: killed at {}", killed.join(", "));
        // It is as if nothing had been.
        self.leave(&["create"]);
        self.run(&["start"]).ok();
    }

    fn clear(&self, empty: &std::collections::BTreeSet<String>, what: &str) {
        let list = self.bundle.hoy(&["list", "--format", "json"]).output();
        assert_eq!((list.status, list.stderr.as_str()), (0, ""), "list after {what}");
        assert!(serde_json::from_str::<Vec<Value>>(&list.stdout).is_ok(), "list after {what}: {}", list.stdout);
        let state = self.run(&["state"]).output();
        assert!(matches!(state.status, 0 | 1), "state after {what}: {state:?}");
        let delete = self.run(&["delete", "--force"]).output();
        assert_eq!((delete.status, delete.stderr.as_str()), (0, ""), "delete after {what}");
        self.remove_parents();
        self.machine.is_as(empty, what);
    }

    /// Groups above the given one are the caller's to remove.
    fn remove_parents(&self) {
        for entry in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            std::fs::remove_dir(entry.path().join(format!("hoy-{}", self.id))).unwrap_or_default();
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // A failed test leaves no container behind.
        self.run(&["delete", "--force"]).output();
        self.remove_parents();
    }
}

fn create(user: User, name: &str, grouped: bool) {
    let Some(victim) = Victim::new(user, name, grouped) else { return };
    victim.kill_everywhere(&["create"], |_| ());
}

#[test]
fn killed_create_root() {
    create(User::Root, "create", false);
}

#[test]
fn killed_create_with_a_group_of_its_own() {
    create(User::Root, "grouped", true);
}

#[test]
fn killed_create_subordinate_ids() {
    create(User::Sub, "create-sub", false);
}

#[test]
fn killed_create_one_id() {
    create(User::One, "create-one", false);
}

fn later(user: User, name: &str) {
    let Some(victim) = Victim::new(user, name, false) else { return };
    let create = |victim: &Victim| victim.leave(&["create"]);
    let running = |victim: &Victim| {
        victim.leave(&["create"]);
        victim.run(&["start"]).ok();
    };
    victim.kill_everywhere(&["start"], create);
    victim.kill_everywhere(&["delete"], create);
    victim.kill_everywhere(&["delete", "--force"], running);
    victim.kill_everywhere(&["run", "--detach"], |_| ());
}

#[test]
fn killed_later_root() {
    later(User::Root, "later");
}

#[test]
fn killed_later_subordinate_ids() {
    later(User::Sub, "later-sub");
}

#[test]
fn killed_later_one_id() {
    later(User::One, "later-one");
}
