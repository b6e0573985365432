//! The image below a container: its merged layers and what the root directory was like.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use hoy_layer::{Entry, Kind, Lower};
use hoy_sys::path::open_beneath;
use hoy_sys::rustix::fs::{Mode, OFlags};

use crate::{Cache, Error, Result};

/// The most that is read of an image's list of users.
const MAX_ACCOUNTS_BYTES: u64 = 1 << 20;

/// The id of `nobody`, and the first that no image's users need.
const NOBODY: u32 = 65_534;

impl Cache<'_> {
    /// What the root directory of these layers, lowest first, is like: the highest layer that says so knows.
    pub(crate) fn root_entry(&self, names: &[String]) -> Result<Entry> {
        for name in names.iter().rev() {
            if self.usable(name).is_some_and(|record| record.has_root_entry) {
                let path = self.place(name);
                let directory = File::open(&path).map_err(Error::io("open", &path))?;
                let entry = hoy_layer::directory_entry(directory.as_fd());
                return entry.map_err(|e| Error::io("look at", &path)(std::io::Error::other(e)));
            }
        }
        Ok(Entry::new("", Kind::Directory, 0o755))
    }

    /// The layers as one tree.
    pub(crate) fn lower(&self, names: &[String]) -> Result<Lower> {
        let open = |name: &String| {
            let path = self.place(name);
            File::open(&path).map(Into::into).map_err(Error::io("open", &path))
        };
        Ok(Lower::new(names.iter().rev().map(open).collect::<Result<_>>()?))
    }

    /// One more than the highest id that the users and groups of these layers, lowest first, have; `nobody` does not count.
    pub(crate) fn highest_id(&self, names: &[String]) -> u32 {
        let read = |file: &str| {
            names.iter().rev().find_map(|name| {
                let root = File::open(self.place(name)).ok()?;
                let opened = open_beneath(&root, file, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).ok()?;
                let mut text = String::new();
                File::from(opened).take(MAX_ACCOUNTS_BYTES).read_to_string(&mut text).ok()?;
                Some(text)
            })
        };
        let files = [(read("etc/passwd"), 2..4), (read("etc/group"), 2..3)];
        let ids = files.iter().flat_map(|(text, fields)| {
            let lines = text.as_deref().unwrap_or_default().lines();
            lines
                .flat_map(|line| line.split(':').skip(fields.start).take(fields.len()).filter_map(|id| id.parse().ok()))
        });
        ids.filter(|id: &u32| *id < NOBODY).max().map_or(0, |highest| highest + 1)
    }
}
