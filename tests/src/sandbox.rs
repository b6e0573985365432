//! A place to work in, gone afterwards.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Run, User};

/// A temporary directory with a store of its own, for one user.
///
/// Dropped, it unmounts what is mounted below it, ends the processes that keep mounts there, and removes itself.
#[derive(Debug)]
pub struct Sandbox {
    dir: Option<TempDir>,
    user: User,
}

impl Sandbox {
    /// A sandbox for whoever runs the tests.
    pub fn new() -> Self {
        Self::for_user(User::Root)
    }

    /// A sandbox that `user` owns.
    pub fn for_user(user: User) -> Self {
        let dir = tempfile::Builder::new().prefix("hoy-test-").tempdir_in("/tmp").expect("make a directory in /tmp");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("open the directory");
        let sandbox = Self { dir: Some(dir), user };
        for name in ["root", "run", "home", "work"] {
            let path = sandbox.path(name);
            fs::create_dir(&path).expect("make a directory");
            if user != User::Root {
                let (uid, gid) = user.ids().expect("the test asked whether the user is available");
                std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("give the directory to the user");
            }
        }
        sandbox
    }

    /// A path in the sandbox. `root`, `run`, `home` and `work` exist and belong to the user.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.as_ref().expect("not dropped yet").path().join(name)
    }

    /// The user it is for.
    pub fn user(&self) -> User {
        self.user
    }

    /// A program to be run as the sandbox's user, on the sandbox's store, in `work`.
    pub fn run(&self, name: &str) -> Run {
        let run = Run::new(name).user(self.user).env("HOME", self.path("home")).dir(self.path("work"));
        run.env("HOY_ROOT", self.path("root"))
            .env("HOY_RUNROOT", self.path("run"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
    }

    /// Runs one of our programs with arguments; it must succeed. Returns its standard output, trimmed.
    #[track_caller]
    pub fn ok(&self, name: &str, args: &[&str]) -> String {
        self.run(name).args(args).ok()
    }

    /// The disk space below `name`, in KiB, as du(1) counts it.
    pub fn disk_kib(&self, name: &str) -> u64 {
        let out = Run::new("du").args(["-sk", "--one-file-system"]).arg(self.path(name)).output();
        out.stdout.split_whitespace().next().and_then(|n| n.parse().ok()).expect("du prints a number")
    }

    /// Ends what its programs left running, and unmounts what is mounted below it.
    pub fn quiet(&self) {
        let path = self.path("");
        let path = path.components().as_path();
        Self::end_holders(path, self.user);
        Self::unmount_all(path);
    }

    /// Ends what the sandbox's programs left running: the process that keeps an ordinary user's mounts, and containers,
    /// which have their root file system below the sandbox. Any other process of the tests may have a copy of a mount.
    fn end_holders(path: &Path, user: User) {
        let owner = if user == User::Root { Some(0) } else { user.ids().map(|(uid, _)| uid) };
        let record = fs::read(path.join("run/holder.json")).unwrap_or_default();
        let holder = serde_json::from_slice::<serde_json::Value>(&record).ok().and_then(|r| r["pid"].as_i64());
        let below = format!("{}/", path.display());
        let is_root = |line: &str| line.split(' ').nth(4) == Some("/") && line.contains(&below);
        let Ok(processes) = fs::read_dir("/proc") else { return };
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let mounts = fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
            let is_ours = holder == Some(pid.into()) || mounts.lines().any(is_root);
            if is_ours && fs::metadata(process.path()).ok().map(|metadata| metadata.uid()) == owner {
                let pid = rustix::process::Pid::from_raw(pid).expect("a process id is not 0");
                // It may have ended by itself in between.
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap_or_default();
            }
        }
    }

    fn unmount_all(path: &Path) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = |line: &&str| line.split(' ').nth(4).is_some_and(|p| Path::new(p).starts_with(path));
        for line in mounts.lines().filter(below).collect::<Vec<_>>().iter().rev() {
            if let Some(point) = line.split(' ').nth(4) {
                rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH).unwrap_or_default();
            }
        }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let Some(dir) = self.dir.take() else { return };
        Self::end_holders(dir.path(), self.user);
        Self::unmount_all(dir.path());
        // A failing test must show its own fault, not this one's.
        if let Err(error) = dir.close() {
            eprintln!("remove the sandbox: {error}");
        }
    }
}
