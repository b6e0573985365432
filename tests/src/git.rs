//! A Git repository on loopback.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::{Run, free_port, need};

/// A repository that `git daemon` serves on loopback; it ends when dropped.
#[derive(Debug)]
pub struct Repository {
    daemon: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Repository {
    /// One with a few files, links that lead out, the tags `v1` and `v2` and the branch `other`; none without git.
    pub fn start() -> Option<Self> {
        if !need(&["git"]) {
            return None;
        }
        let dir = tempfile::tempdir().expect("make a repository");
        let port = free_port();
        for (name, text) in [
            ("Containerfile", "FROM scratch\nCOPY . /\n"),
            ("run", "#!/bin/sh\n"),
            ("sub/Containerfile", "FROM scratch\nCOPY file /from-sub\n"),
            ("sub/file", "one\n"),
        ] {
            let path = dir.path().join("work.git").join(name);
            fs::create_dir_all(path.parent().expect("make a repository")).expect("make a repository");
            fs::write(path, text).expect("make a repository");
        }
        Run::new("chmod").arg("755").arg(dir.path().join("work.git/run")).ok();
        symlink("..", dir.path().join("work.git/up")).expect("make a repository");
        symlink("/etc", dir.path().join("work.git/etc")).expect("make a repository");
        // The program itself: killing git would leave it.
        let daemon = Command::new(format!("{}/git-daemon", Run::new("git").arg("--exec-path").ok()))
            .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", dir.path().display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("make a repository");
        let repository = Self { daemon, port, dir };
        repository.git("git init -q -b main . && git add -A && git commit -q -m one && git tag v1");
        repository.git("echo two > sub/file && git commit -qam two && git tag -am text v2 && git branch other");
        let start = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed().as_secs() < 20, "git daemon does not answer");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(repository)
    }

    /// Where its files are.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("work.git")
    }

    /// Runs a script there, in which `git` is somebody.
    pub fn git(&self, script: &str) -> String {
        let identity = ["-c", "user.name=n", "-c", "user.email=e@example.invalid", "-c", "protocol.file.allow=always"];
        let script = script.replace("git ", &format!("git {} ", identity.join(" ")));
        Run::new("sh").args(["-ec", &script]).dir(self.path()).ok()
    }

    /// How it is fetched.
    pub fn url(&self) -> String {
        format!("git://127.0.0.1:{}/work.git", self.port)
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.daemon.kill().unwrap_or_default();
        self.daemon.wait().map(drop).unwrap_or_default();
    }
}
