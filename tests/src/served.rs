//! Our own registry, on a socket that is passed to it as systemd does.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::{Sandbox, program};

/// A running `hoy-copy serve`; ends when dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    port: u16,
}

impl Served {
    /// Serves in the sandbox, with these arguments, whoever connects to a loopback port.
    pub fn start(sandbox: &Sandbox, args: &[&str]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind to loopback");
        let port = listener.local_addr().expect("it has an address").port();
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve \"$@\"";
        let mut run = sandbox.run("sh").args(["-c", script]).arg(program("hoy-copy")).args(args);
        run.command().stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null()).stderr(Stdio::inherit());
        Self { child: run.command().spawn().expect("start hoy-copy serve"), port }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Whether it ends by itself within `limit`.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < limit {
            if self.child.try_wait().expect("wait for hoy-copy serve").is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// The largest that the process has been, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("read its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
