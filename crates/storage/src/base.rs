//! The image below a container: its merged layers and what the root directory was like.

use std::fs::File;
use std::os::fd::AsFd;

use hoy_layer::{Entry, Kind, Lower};

use crate::{Cache, Error, Result};

impl Cache<'_> {
    /// What the root directory of these layers, lowest first, is like: the highest layer that says so knows.
    pub(crate) fn root_entry(&self, names: &[String]) -> Result<Entry> {
        for name in names.iter().rev() {
            if self.usable(name).is_some_and(|record| record.has_root_entry) {
                let path = self.path(name);
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
            let path = self.path(name);
            File::open(&path).map(Into::into).map_err(Error::io("open", &path))
        };
        Ok(Lower::new(names.iter().rev().map(open).collect::<Result<_>>()?))
    }
}
