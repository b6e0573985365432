//! Debian's registry as a real server on loopback.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running `docker-registry` with its storage in a temporary directory; ends when dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    port: u16,
    dir: TempDir,
}

/// A loopback port that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind to loopback");
    listener.local_addr().expect("it has an address").port()
}

impl Registry {
    /// A registry over plain HTTP that lets everybody do everything.
    pub fn start() -> Self {
        Self::start_with("", "")
    }

    /// A registry with `auth` as further top-level settings and `http` as further lines of the section `http`,
    /// both in the YAML of the registry's configuration file.
    pub fn start_with(auth: &str, http: &str) -> Self {
        let dir = tempfile::tempdir().expect("make a directory");
        let port = free_port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  delete: {{enabled: true}}\n  filesystem: {{rootdirectory: {}}}\n\
             {auth}\nhttp:\n  addr: 127.0.0.1:{port}\n{http}\n",
            dir.path().join("data").display()
        );
        let path = dir.path().join("config.yml");
        fs::write(&path, config).expect("write the configuration");
        let log = fs::File::create(dir.path().join("log")).expect("make the log");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path).env("OTEL_TRACES_EXPORTER", "none").stdin(Stdio::null());
        let error_log = log.try_clone().expect("share the log");
        let child = command.stdout(log).stderr(error_log).spawn().expect("start docker-registry");
        let registry = Self { child, port, dir };
        registry.wait();
        registry
    }

    fn wait(&self) {
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(60), "docker-registry does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The registry's own directory, for files that its configuration names and for damaging its storage in `data`.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
