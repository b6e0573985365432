//! The process that keeps an ordinary user's mounts: user and mount namespaces live as long as somebody is in them.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hoy_layout::{Lock, Store, write_volatile_file};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, boot, mounts};

const RECORD: &str = "holder.json";
const LOCK: &str = "holder.lock";

/// The exit code with which a new holder says that user namespaces are not allowed.
pub const IMPOSSIBLE: u8 = 3;

/// The file `RUNROOT/holder.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    pid: i32,
    /// In clock ticks since boot: with it a process id is never taken for another's (proc_pid_stat(5)).
    start_time: u64,
    /// The boot it was started in: RUNROOT need not have vanished since.
    #[serde(default)]
    boot_id: String,
}

/// A holder that is alive.
#[derive(Debug)]
pub struct Holder {
    pid: i32,
    pidfd: OwnedFd,
}

impl Holder {
    /// The path of the holder's root directory, through which its owner sees its mounts from outside.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid))
    }

    /// Moves this process, which must have one thread only, into the holder's namespaces; false when it has just ended.
    ///
    /// # Errors
    /// [`Error::Namespace`]; [`Error::Io`] when the working directory cannot be entered again.
    pub fn join(&self) -> Result<bool> {
        let directory = std::env::current_dir();
        match hoy_sys::userns::join_user_and_mounts(self.pidfd.as_fd()) {
            Ok(()) => {}
            Err(error) if error.errno == Errno::SRCH => return Ok(false),
            Err(error) => {
                return Err(Error::Namespace { call: "join the user namespace of the holder", source: error.into() });
            }
        }
        // setns(2) went to the root directory.
        if let Ok(directory) = directory {
            std::env::set_current_dir(&directory).map_err(Error::io("enter", &directory))?;
        }
        Ok(true)
    }

    /// Ends the holder, and with it its mounts, unless a container is mounted there or somebody else is inside.
    ///
    /// # Errors
    /// [`Error::Layout`].
    pub fn end_if_unused(self, store: &Store) -> Result<()> {
        let Some(_lock) = Lock::try_exclusive(&store.runroot().join(LOCK))? else { return Ok(()) };
        let points = mounts::points_of(self.pid);
        if points.iter().any(|point| point.starts_with(store.runroot().join("images"))) {
            return Ok(());
        }
        for dir in store.all_containers()? {
            if dir.container().is_ok_and(|container| points.contains(&container.bundle.join("rootfs"))) {
                return Ok(());
            }
        }
        if has_company(self.pid) {
            return Ok(());
        }
        // It may have ended by itself.
        pidfd_send_signal(&self.pidfd, Signal::KILL).unwrap_or_default();
        std::fs::remove_file(store.runroot().join(RECORD)).unwrap_or_default();
        Ok(())
    }
}

/// Held by whoever is about to use the holder, so that nobody ends it meanwhile.
///
/// # Errors
/// [`Error::Layout`].
pub fn keep(runroot: &Path) -> Result<Lock> {
    Ok(Lock::shared(&runroot.join(LOCK))?)
}

/// The user's holder, if there is one.
pub fn find(runroot: &Path) -> Option<Holder> {
    let record: Record = serde_json::from_slice(&std::fs::read(runroot.join(RECORD)).ok()?).ok()?;
    let pidfd = pidfd_open(Pid::from_raw(record.pid)?, PidfdFlags::empty()).ok()?;
    // Asked after the descriptor was opened: the descriptor is of a process with this id at this moment.
    let is_it = start_time(record.pid)? == record.start_time && boot::id().ok()? == record.boot_id;
    is_it.then_some(Holder { pid: record.pid, pidfd })
}

/// The user's holder, started with `command` if there is none; `command` calls [`hold`].
///
/// # Errors
/// [`Error::Namespace`] where user namespaces are not allowed; [`Error::Holder`] with what the new holder said.
pub fn find_or_start(runroot: &Path, mut command: Command) -> Result<Holder> {
    let _lock = Lock::exclusive(&runroot.join("holder-start.lock"))?;
    if let Some(holder) = find(runroot) {
        return Ok(holder);
    }
    let failed = |error: std::io::Error| Error::Holder(error.to_string());
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed)?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).map_err(failed)?;
    }
    match find(runroot) {
        Some(holder) => Ok(holder),
        None => {
            let status = child.wait().map_err(failed)?;
            let said = said.trim().to_owned();
            match status.code() == Some(IMPOSSIBLE.into()) {
                true => Err(Error::Namespace { call: "keep mounts", source: std::io::Error::other(said) }),
                false if said.is_empty() => Err(Error::Holder(format!("the process for it ended with {status}"))),
                false => Err(Error::Holder(said)),
            }
        }
    }
}

/// Stays in the namespaces this process is in, with its record in `runroot`, until it is ended. Standard output is
/// closed once it is ready.
///
/// # Errors
/// Those of getting ready.
pub fn hold(runroot: &Path) -> Result<()> {
    use hoy_sys::rustix::process::{DumpableBehavior, set_dumpable_behavior};
    let failed = |call| move |errno: Errno| Error::Namespace { call, source: errno.into() };
    // Its files in /proc belong to the user, and /proc/PID/root can be walked, only while it is dumpable (proc(5)).
    set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(failed("make the holder readable"))?;
    let pid = hoy_sys::rustix::process::getpid().as_raw_pid();
    let start_time = start_time(pid).ok_or_else(|| failed("read the start time")(Errno::NOENT))?;
    let path = runroot.join(RECORD);
    let bytes = serde_json::to_vec(&Record { pid, start_time, boot_id: boot::id()? });
    // The process does not live longer than what is in memory.
    write_volatile_file(&path, &bytes.map_err(|e| Error::io("write", &path)(std::io::Error::other(e)))?)?;
    let null =
        File::options().read(true).write(true).open("/dev/null").map_err(Error::io("open", Path::new("/dev/null")))?;
    std::io::stdout().flush().unwrap_or_default();
    hoy_sys::rustix::stdio::dup2_stdout(&null).map_err(failed("close standard output"))?;
    std::env::set_current_dir("/").map_err(Error::io("enter", Path::new("/")))?;
    loop {
        std::thread::park();
    }
}

fn start_time(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the start time is the 20th field after it.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // A process that has ended and was not waited for holds nothing.
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Whether another process is in the mount namespace of `pid`.
fn has_company(pid: i32) -> bool {
    let Some(wanted) = mounts::namespace_of(pid) else { return false };
    mounts::processes().any(|other| other != pid && mounts::namespace_of(other).as_ref() == Some(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_start_time() {
        assert!(start_time(std::process::id().cast_signed()).is_some_and(|ticks| ticks > 0));
        assert_eq!(start_time(-1), None);
    }
}
