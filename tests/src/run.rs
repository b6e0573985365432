//! Running a program and looking at what it said.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::{User, program};

/// No run of a test takes longer than this, in seconds; one that hangs is killed and fails.
const LIMIT: Duration = Duration::from_secs(300);

/// A program about to be run.
#[derive(Debug)]
pub struct Run {
    command: Command,
    stdin: Vec<u8>,
    user: User,
    shown: String,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Out {
    /// The exit code, or 128 and the signal's number.
    pub status: i32,
    /// Standard output, with anything that is not UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Standard output as it came.
    pub bytes: Vec<u8>,
    shown: String,
}

impl Out {
    /// Steps of a build that were done, and those whose result was known.
    pub fn steps(&self) -> (usize, usize) {
        steps(&self.stderr)
    }
}

/// The same of what a build told.
pub fn steps(told: &str) -> (usize, usize) {
    let known = told.lines().filter(|line| line.contains("--> Using cache")).count();
    let headlines = told.lines().filter_map(|line| line.split_once("STEP ")?.1.split_once(": "));
    // The others only change the configuration, and are done each time.
    let is_one = |text: &str| ["RUN", "COPY", "ADD", "WORKDIR"].iter().any(|word| text.starts_with(word));
    let makes_layers = |text: &str| is_one(text) && text != "WORKDIR /";
    (headlines.filter(|(_, text)| makes_layers(text)).count() - known, known)
}

impl Run {
    /// One of our programs (`hoy…`) or a peer from PATH.
    pub fn new(name: &str) -> Self {
        let is_ours = name == "hoy" || name.starts_with("hoy-");
        let path = if is_ours { program(name).into_os_string() } else { name.into() };
        let mut command = Command::new(path);
        if is_ours {
            // What this machine wants for every container is no part of a test.
            command.env("CONTAINERS_CONF", "/dev/null");
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", crate::program_dir().display()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in
            ["HOY_ROOT", "HOY_RUNROOT", "SOURCE_DATE_EPOCH", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "REGISTRY_AUTH_FILE"]
        {
            command.env_remove(name);
        }
        Self { command, stdin: Vec::new(), user: User::Root, shown: name.to_owned() }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown += &format!(" {}", arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Gives it bytes to read.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Runs it as `user`, in that user's home and without supplementary groups.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.user = user;
        if user != User::Root {
            let (uid, gid) = user.ids().expect("the test asked whether the user is available");
            self.command.uid(uid).gid(gid).env("USER", user.name()).env("LOGNAME", user.name());
            self.command.env("HOME", format!("/home/{}", user.name())).current_dir("/");
        }
        self
    }

    /// The same run, by a shell that stops itself first and becomes the program when it is let go.
    #[must_use]
    pub(crate) fn stopped(mut self) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]).arg(self.command.get_program());
        command.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        if let Some((uid, gid)) = self.user.ids().filter(|_| self.user != User::Root) {
            command.uid(uid).gid(gid);
        }
        self.command = command;
        self
    }

    /// The command, for what this type does not offer.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Starts it and leaves it running; its output is discarded unless the command says otherwise.
    pub fn spawn(mut self) -> Child {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.command.spawn().unwrap_or_else(|e| panic!("start {}: {e}", self.shown))
    }

    /// Starts it and leaves it running; what it says goes to these files.
    pub(crate) fn spawn_to(mut self, stdout: std::fs::File, stderr: std::fs::File) -> Child {
        self.command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        self.command.spawn().unwrap_or_else(|e| panic!("start {}: {e}", self.shown))
    }

    /// Runs it to its end: its exit code, or 128 and the signal's number. What it and those it leaves behind say on
    /// standard error is added to the file `stderr`.
    ///
    /// # Panics
    /// When it takes longer than `limit`.
    pub fn status(mut self, stderr: &Path, limit: Duration) -> i32 {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(stderr).expect("open a file");
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("start {}: {e}", self.shown));
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("wait for a program") {
                return status.code().or_else(|| status.signal().map(|s| 128 + s)).expect("it ended");
            }
            if start.elapsed() > limit {
                child.kill().and_then(|()| child.wait()).expect("kill a hanging program");
                panic!("{} takes more than {limit:?}", self.shown);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs it to its end.
    pub fn output(mut self) -> Out {
        self.command.stdin(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("start {}: {e}", self.shown));
        let pid = rustix::process::Pid::from_child(&child);
        let mut pipe = child.stdin.take().expect("stdin is a pipe");
        let stdin = std::mem::take(&mut self.stdin);
        // A program that does not read its input closes the pipe; that is no fault.
        let writer = std::thread::spawn(move || pipe.write_all(&stdin).unwrap_or_default());
        let (done, finished) = mpsc::channel::<()>();
        let watcher = std::thread::spawn(move || {
            if finished.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill a hanging program");
            }
        });
        let output = child.wait_with_output().expect("wait for a program");
        drop(done);
        watcher.join().expect("the watcher ends");
        writer.join().expect("the writer ends");
        Out {
            status: output.status.code().or_else(|| output.status.signal().map(|s| 128 + s)).expect("it ended"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            bytes: output.stdout,
            shown: self.shown,
        }
    }

    /// Runs it; anything but success fails the test. Returns standard output without space at its ends.
    #[track_caller]
    pub fn ok(self) -> String {
        let out = self.output();
        assert_eq!(out.status, 0, "{}\nstdout: {}\nstderr: {}", out.shown, out.stdout, out.stderr);
        out.stdout.trim().to_owned()
    }

    /// Runs it; it must end with `code` and say each of `words` on standard error. Returns what it said there.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> String {
        let out = self.output();
        assert_eq!(out.status, code, "{}\nstdout: {}\nstderr: {}", out.shown, out.stdout, out.stderr);
        for word in words {
            assert!(out.stderr.contains(word), "{}: {word:?} is not in {:?}", out.shown, out.stderr);
        }
        out.stderr
    }
}
