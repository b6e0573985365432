//! `events`: what a container uses, and when the kernel kills in it for want of memory, in runc's shape.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hoy_cgroup::OomWatch;
use hoy_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use hoy_sys::rustix::io::Errno;
use serde::Serialize;
use serde_json::{Value, json};

use crate::container::Container;
use crate::error::Doing;
use crate::state::State;
use crate::{Error, Result};

/// Something that is told of a container, its fields in the order that everybody knows.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl Display for Event {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// What `container` uses now: an event of the type `stats`.
///
/// # Errors
/// [`Error::State`] when it does not run.
pub fn stats(container: &Container) -> Result<Event> {
    let state = container.state("watch")?;
    if !state.is_alive() {
        return Err(not_running(container));
    }
    Ok(event(&state))
}

/// Gives what `container` uses to `tell` at each `interval`, and each kill for want of memory at once, until it ends.
///
/// # Errors
/// [`Error::State`] when it does not run; the first of `tell`, as it is.
pub fn watch<E: From<Error>>(
    container: &Container,
    interval: Duration,
    mut tell: impl FnMut(&Event) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let state = container.state("watch")?;
    let pidfd = state.pidfd().ok_or_else(|| not_running(container))?;
    let mut oom = OomWatch::new(&state.cgroups).map_err(Error::from)?;
    let mut next = Instant::now() + interval;
    loop {
        let left = Timespec::try_from(next.saturating_duration_since(Instant::now())).ok();
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        fds.extend(oom.as_ref().map(|oom| PollFd::from_borrowed_fd(oom.as_fd(), PollFlags::IN)));
        match poll(&mut fds, left.as_ref()) {
            Err(Errno::INTR) => continue,
            other => other.doing(|| "wait for events")?,
        };
        let ended = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        if let Some(oom) = &mut oom {
            for _ in 0..oom.killed().map_err(Error::from)? {
                tell(&Event { kind: "oom", id: state.id.clone(), data: None })?;
            }
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            tell(&event(&state))?;
            next = Instant::now() + interval;
        }
    }
}

fn not_running(container: &Container) -> Error {
    Error::State { doing: "watch", id: container.id().to_owned(), reason: "container not running".to_owned() }
}

fn event(state: &State) -> Event {
    let mut data = hoy_cgroup::stats(&state.cgroups);
    let network = fs::read_to_string(format!("/proc/{}/net/dev", state.pid)).unwrap_or_default();
    if let Some(data) = data.as_object_mut() {
        data.insert("network_interfaces".to_owned(), interfaces(&network));
    }
    Event { kind: "stats", id: state.id.clone(), data: Some(data) }
}

/// The interfaces of /proc/PID/net/dev (proc_pid_net(5)) but for the loopback.
fn interfaces(text: &str) -> Value {
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
        (name.trim() != "lo").then(|| {
            json!({
                "Name": name.trim(), "RxBytes": at(0), "RxPackets": at(1), "RxErrors": at(2), "RxDropped": at(3),
                "TxBytes": at(8), "TxPackets": at(9), "TxErrors": at(10), "TxDropped": at(11),
            })
        })
    };
    text.lines().skip(2).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_the_file() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
                    eth0: 10 2 0 1 0 0 0 0 20 3 4 5 0 0 0 0\n";
        let want = json!([{"Name": "eth0", "RxBytes": 10, "RxPackets": 2, "RxErrors": 0, "RxDropped": 1,
            "TxBytes": 20, "TxPackets": 3, "TxErrors": 4, "TxDropped": 5}]);
        assert_eq!(interfaces(text), want);
        assert_eq!(interfaces(""), json!([]));
    }
}
