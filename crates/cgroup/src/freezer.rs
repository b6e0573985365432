//! Freezing the processes of a group (kernel cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst "cgroup.freeze").

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hoy_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use hoy_sys::rustix::io::Errno;

use crate::error::{At, put};
use crate::{Error, Result};

/// A process that the kernel holds uninterruptibly, waiting for a disk or a network file system, cannot be frozen: how
/// long it is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a group is frozen.
enum Freezer {
    V1(PathBuf),
    V2(PathBuf),
}

impl Freezer {
    fn of(directories: &BTreeMap<String, PathBuf>) -> Option<Self> {
        let v1 = directories.iter().find(|(controllers, _)| controllers.split(',').any(|c| c == "freezer"));
        let v1 = v1.map(|(_, directory)| Self::V1(directory.clone()));
        v1.or_else(|| directories.get("").map(|directory| Self::V2(directory.clone())))
    }
}

/// Whether the processes of the group are frozen, or are being frozen.
pub fn is_frozen(directories: &BTreeMap<String, PathBuf>) -> bool {
    let reads =
        |path: PathBuf, states: [&str; 2]| fs::read_to_string(path).is_ok_and(|state| states.contains(&state.trim()));
    match Freezer::of(directories) {
        Some(Freezer::V1(group)) => reads(group.join("freezer.state"), ["FROZEN", "FREEZING"]),
        Some(Freezer::V2(group)) => reads(group.join("cgroup.freeze"), ["1", "1"]),
        None => false,
    }
}

/// Freezes the processes of the group and waits until they are, or lets them go on.
///
/// # Errors
/// [`Error::Unavailable`] where the group has no freezer, and when one of them does not freeze: all then go on.
pub fn freeze(directories: &BTreeMap<String, PathBuf>, frozen: bool) -> Result<()> {
    let freezer = Freezer::of(directories).ok_or_else(|| unavailable("the container has no control group"))?;
    let (path, yes, no) = match &freezer {
        Freezer::V1(group) => (group.join("freezer.state"), "FROZEN", "THAWED"),
        Freezer::V2(group) => (group.join("cgroup.freeze"), "1", "0"),
    };
    put(&path, if frozen { yes } else { no }).at("write", &path)?;
    if !frozen {
        return Ok(());
    }
    let until = Instant::now() + PATIENCE;
    let is_done = match &freezer {
        Freezer::V1(_) => wait_v1(&path, until),
        Freezer::V2(group) => wait_v2(&group.join("cgroup.events"), until),
    };
    match is_done {
        Ok(true) => Ok(()),
        other => {
            // Half a container that stands still helps nobody.
            put(&path, no).at("write", &path)?;
            other?;
            Err(unavailable("a process does not stop: it waits for a disk or a network, and the container goes on"))
        }
    }
}

fn unavailable(reason: &str) -> Error {
    Error::Unavailable { controller: "freezer".to_owned(), reason: reason.to_owned() }
}

fn wait_v1(path: &Path, until: Instant) -> Result<bool> {
    for attempt in 0.. {
        if fs::read_to_string(path).at("read", path)?.trim() == "FROZEN" {
            return Ok(true);
        }
        if Instant::now() >= until {
            break;
        }
        sleep(Duration::from_micros(50 << (attempt / 20).min(8)));
        // One that was born while the others froze is caught by writing again.
        put(path, "FROZEN").at("write", path)?;
    }
    Ok(false)
}

fn wait_v2(path: &Path, until: Instant) -> Result<bool> {
    let mut events = File::open(path).at("open", path)?;
    loop {
        let mut text = String::new();
        events.rewind().and_then(|()| events.read_to_string(&mut text)).at("read", path)?;
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(true);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // The kernel tells of each change of the file.
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(std::io::Error::from(error)).at("watch", path),
        }
    }
}
