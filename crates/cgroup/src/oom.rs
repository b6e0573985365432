//! Being told when the kernel kills for want of memory (kernel cgroup-v1/memory.rst "OOM Control"; cgroup-v2.rst).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoy_sys::rustix::event::{EventfdFlags, eventfd};
use hoy_sys::rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use hoy_sys::rustix::io::{Errno, read};

use crate::Result;
use crate::apply::{directory, is_unified};
use crate::error::{At, put};

/// Tells when a process of a group was killed for want of memory.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    /// The group's directory.
    group: PathBuf,
    /// The count of kills so far, where the kernel gives one.
    count: Option<u64>,
}

impl OomWatch {
    /// Begins to watch; `None` where memory is not controlled.
    ///
    /// # Errors
    /// Those of the group's files.
    pub fn new(directories: &BTreeMap<String, PathBuf>) -> Result<Option<Self>> {
        let Some(group) = directory(directories, "memory").cloned() else { return Ok(None) };
        if !is_unified(directories) {
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from);
            let fd = fd.at("watch", &group)?;
            let path = group.join("memory.oom_control");
            let control = fs::File::open(&path).at("open", &path)?;
            let path = group.join("cgroup.event_control");
            put(&path, &format!("{} {}", fd.as_raw_fd(), control.as_raw_fd())).at("write", &path)?;
            return Ok(Some(Self { fd, group, count: None }));
        }
        let path = group.join("memory.events");
        if !path.exists() {
            return Ok(None);
        }
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).and_then(|fd| {
            inotify::add_watch(&fd, &path, WatchFlags::MODIFY)?;
            Ok(fd)
        });
        let fd = watch.map_err(io::Error::from).at("watch", &path)?;
        let count = Some(kills(&path));
        Ok(Some(Self { fd, group, count }))
    }

    /// How many processes were killed since the last call; readable when there may be some.
    ///
    /// # Errors
    /// Those of reading the descriptor.
    pub fn killed(&mut self) -> Result<u64> {
        let mut buffer = [0; 4096];
        match read(&self.fd, &mut buffer) {
            Ok(_) => {}
            Err(Errno::AGAIN) => return Ok(0),
            Err(error) => return Err(io::Error::from(error)).at("watch", &self.group),
        }
        let Some(before) = self.count else {
            // The group's removal is told in the same way.
            return Ok(u64::from(self.group.exists()));
        };
        let now = kills(&self.group.join("memory.events"));
        self.count = Some(now.max(before));
        Ok(now.saturating_sub(before))
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn kills(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}
