//! A process beside a build that outlives it if it is killed: it ends what the build ran, and removes what it left.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hoy_layout::{ContainerId, Store, write_volatile_file};
use hoy_sys::rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::containerfile::prune::remove_build;
use crate::{Error, Result, Tools};

/// What the names of the records of running commands begin with, in a build's own directory.
const RUNNING: &str = "running-";

/// The process; dropped, it is no longer needed and ends.
#[derive(Debug)]
pub(crate) struct Keeper(Child);

impl Keeper {
    /// Starts it for the build whose own directory is `scratch`.
    pub(crate) fn start(tools: &Tools, scratch: &Path) -> Result<Self> {
        let mut command = tools.command("hoy-build");
        // What a terminal or a shell sends to the build's group is not for it.
        command.arg("keep").arg(scratch).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).map_err(crate::tools::no_program("hoy-build"))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Killed before its input ends, it does nothing.
        self.0.kill().unwrap_or_default();
        drop(self.0.wait());
    }
}

/// Waits for the end of `input`, which is that of the build, and then removes all of it.
///
/// # Errors
/// Those of removing something that is there.
pub fn keep(store: &Store, tools: &Tools, scratch: &Path, mut input: impl Read) -> Result<()> {
    std::io::copy(&mut input, &mut std::io::sink()).map_err(Error::io("read", "standard input"))?;
    let lock = File::open(scratch).map_err(Error::io("open", scratch))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(Error::io("lock", scratch))?;
    remove_build(store, tools, scratch)?;
    drop(lock);
    Ok(())
}

/// A command that a build runs now.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) id: ContainerId,
    pub(crate) runtime: String,
    pub(crate) flags: Vec<String>,
    /// Where the runtime's state is.
    pub(crate) root: PathBuf,
}

impl Running {
    /// Writes down that it runs, before it does.
    pub(crate) fn remember(&self, scratch: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|source| Error::Json("record", source))?;
        Ok(write_volatile_file(&record(scratch, self.id.as_str()), &bytes)?)
    }

    /// The command that ends it at once.
    pub(crate) fn kill(&self, tools: &Tools) -> Command {
        let mut kill = tools.command(&self.runtime);
        kill.args(&self.flags).arg("--root").arg(&self.root).args(["delete", "--force", self.id.as_str()]);
        kill
    }

    /// It runs no longer.
    pub(crate) fn forget(scratch: &Path, id: &str) {
        // One that stays names a container that is gone.
        std::fs::remove_file(record(scratch, id)).unwrap_or_default();
    }
}

fn record(scratch: &Path, id: &str) -> PathBuf {
    scratch.join(format!("{RUNNING}{id}.json"))
}

/// Ends everything that the build in `scratch` still runs.
pub(crate) fn end_running(tools: &Tools, scratch: &Path) {
    let entries = std::fs::read_dir(scratch).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(RUNNING)) {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        if let Ok(running) = serde_json::from_slice::<Running>(&bytes) {
            // It may have ended by itself.
            drop(running.kill(tools).output());
        }
    }
}
