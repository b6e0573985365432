//! Going into groups by oneself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use crate::Result;
use crate::error::At;

/// Open files through which a process puts itself into groups, once it is made.
///
/// A process that is moved by another holds up the birth and end of threads on the whole machine, for which the kernel
/// first waits milliseconds (an RCU grace period); a thread that moves itself holds up nobody.
#[derive(Debug, Default)]
pub struct Door(Vec<(PathBuf, File)>);

impl Door {
    /// Opens the door to the groups `directories`; `except_v2` where the process is born in that one.
    ///
    /// # Errors
    /// Those of opening the files.
    pub fn open(directories: &BTreeMap<String, PathBuf>, except_v2: bool) -> Result<Self> {
        let mut files = Vec::with_capacity(directories.len());
        for (controllers, directory) in directories.iter().filter(|(names, _)| !(except_v2 && names.is_empty())) {
            let path = directory.join(if controllers.is_empty() { "cgroup.procs" } else { "tasks" });
            let file = File::options().write(true).open(&path).at("open", &path)?;
            files.push((path, file));
        }
        Ok(Self(files))
    }

    /// Puts the calling process, which has one thread, into the groups.
    ///
    /// # Errors
    /// Those of writing the files.
    pub fn enter(&self) -> Result<()> {
        self.0.iter().try_for_each(|(path, file)| (&mut &*file).write_all(b"0").at("write", path))
    }
}
