//! Removing containers, with their processes where that is asked for.

use hoy_layout::Lock;

use crate::containers::LOCK;
use crate::{Engine, Entry, Error, Result, Status};

/// How long, in seconds, a `hoy run` may take from the making of a container to its lock.
const SETTLED_SECONDS: i64 = 10;

impl Engine {
    /// Removes the container that `text` means, also one that another program made, and gives its id.
    ///
    /// # Errors
    /// [`Error::Running`] without `force`; those of finding it and of `hoy-storage`.
    pub fn remove(&self, text: &str, force: bool) -> Result<String> {
        let dir = self.store.find_container(text)?;
        let id = dir.id().to_string();
        match self.container(&id) {
            Ok(entry) => self.remove_entry(&entry, force)?,
            Err(error) if error.is_not_found() => self.forget(&id, force)?,
            Err(error) => return Err(error),
        }
        Ok(id)
    }

    pub(crate) fn remove_entry(&self, entry: &Entry, force: bool) -> Result<()> {
        if entry.status == Status::Running && !force {
            return Err(Error::Running(entry.container.name.clone()));
        }
        let id = entry.id().as_str();
        if entry.status != Status::Created || force {
            self.runtime(&entry.record.runtime).and_then(|runtime| runtime.delete(id))?;
        }
        // Its watcher, if there is one, sees the end now and finishes first; it may remove the container itself.
        let lock = Lock::exclusive(&entry.dir.path().join(LOCK));
        if lock.is_err() && !entry.dir.path().exists() {
            return Ok(());
        }
        drop(lock?);
        if entry.dir.path().join("storage.json").exists() { self.forget(id, force) } else { Ok(()) }
    }

    /// Removes the container's files.
    pub(crate) fn forget(&self, id: &str, force: bool) -> Result<()> {
        let args: &[&str] = if force { &["rm", "--force", id] } else { &["rm", id] };
        self.programs.output("hoy-storage", args).map(drop)
    }

    /// Removes containers that were to be removed at their end and whose watcher did not live to do it.
    ///
    /// # Errors
    /// Those of reading the store; a container that cannot be removed stays.
    pub fn reap(&self) -> Result<()> {
        // Between the making of a container and the lock on it there is a moment without one.
        let since = (self.clock)().unix_seconds() - SETTLED_SECONDS;
        let gone = |entry: &Entry| {
            let watched = Lock::try_exclusive(&entry.dir.path().join(LOCK)).is_ok_and(|lock| lock.is_none());
            let is_settled = entry.status != Status::Created || entry.container.created.unix_seconds() < since;
            entry.record.auto_remove && entry.status != Status::Running && !watched && is_settled
        };
        for entry in self.containers()?.iter().filter(|entry| gone(entry)) {
            self.remove_entry(entry, true).unwrap_or_default();
        }
        Ok(())
    }
}
