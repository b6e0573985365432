//! What nothing needs, taken out of sight at once and removed when nobody has to wait for it any more.

use std::io::ErrorKind::{NotFound, PermissionDenied, QuotaExceeded, StorageFull};
use std::path::{Path, PathBuf};

use hoy_layout::Store;

use crate::directory::{TemporaryDirectory, remove_tree};
use crate::garbage::{forget_layer, remove_temporary};
use crate::{Error, Result};

/// Trees that nobody finds by their names any longer. Dropped, or killed, it leaves temporaries that prune removes.
pub(crate) struct Trash<'a> {
    store: &'a Store,
    directory: Option<TemporaryDirectory>,
    temporaries: Vec<PathBuf>,
}

impl<'a> Trash<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, directory: None, temporaries: Vec::new() }
    }

    /// Takes a layer away from its name.
    pub(crate) fn layer(&mut self, id: &str) -> Result<()> {
        forget_layer(self.store, id)?;
        let path = self.store.layers().join(id);
        match self.hide(&path, id) {
            // A full disk may have no room for another name, and a tree that may not be written to cannot be moved.
            Err(Error::Io { source, .. })
                if matches!(source.kind(), StorageFull | QuotaExceeded | PermissionDenied) =>
            {
                remove_tree(&path)
            }
            other => other,
        }
    }

    /// Remembers a temporary of a process that is gone; nobody else knows its name.
    pub(crate) fn temporary(&mut self, path: PathBuf) {
        self.temporaries.push(path);
    }

    fn hide(&mut self, path: &Path, name: &str) -> Result<()> {
        match path.symlink_metadata() {
            Err(e) if e.kind() == NotFound => return Ok(()),
            Err(e) => return Err(Error::io("look at", path)(e)),
            Ok(_) => {}
        }
        let directory = match &mut self.directory {
            Some(directory) => directory,
            none => none.insert(TemporaryDirectory::create_in(&self.store.layers())?),
        };
        std::fs::rename(path, directory.path().join(name)).map_err(Error::io("rename", path))
    }

    /// Removes it all.
    ///
    /// # Errors
    /// [`Error::Io`], with the rest left for prune.
    pub(crate) fn empty(&mut self) -> Result<()> {
        self.temporaries.drain(..).try_for_each(|path| remove_temporary(&path))?;
        self.directory.take().map_or(Ok(()), TemporaryDirectory::remove)
    }
}
