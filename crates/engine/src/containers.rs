//! The engine's containers and how they are.

use hoy_layout::{Container, ContainerDir, ContainerId, Lock};

use crate::{Engine, Phase, Record, Result, RuntimeState};

/// Held by the `hoy run` that watches a container, so that its death is seen at once and by everybody.
pub(crate) const LOCK: &str = ".hoy.lock";

/// How a container is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Made and not started.
    Created,
    /// It has a process.
    Running,
    /// Its process ended, with this code unless nobody was there to see it.
    Exited(Option<u8>),
}

/// A container of the engine's.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its directory.
    pub dir: ContainerDir,
    /// What `hoy-storage` records of it.
    pub container: Container,
    /// What the engine records of it.
    pub record: Record,
    /// How it is now.
    pub status: Status,
}

impl Entry {
    /// Its id.
    pub fn id(&self) -> &ContainerId {
        self.dir.id()
    }
}

impl Engine {
    /// All containers that the engine made, the newest first; one that vanishes meanwhile is left out.
    ///
    /// # Errors
    /// Those of reading the store.
    pub fn containers(&self) -> Result<Vec<Entry>> {
        let all = self.store.all_containers()?;
        let mut found: Vec<Entry> = all.into_iter().filter_map(|dir| self.read(dir).ok().flatten()).collect();
        found.sort_by(|a, b| b.container.created.cmp(&a.container.created).then_with(|| a.id().cmp(b.id())));
        Ok(found)
    }

    /// The container with this id, unique id prefix, or name.
    ///
    /// # Errors
    /// `NoContainer` of the layout, also for containers that the engine did not make.
    pub fn container(&self, text: &str) -> Result<Entry> {
        let dir = self.store.find_container(text)?;
        Ok(self.read(dir)?.ok_or_else(|| hoy_layout::Error::NoContainer(text.to_owned()))?)
    }

    fn read(&self, dir: ContainerDir) -> Result<Option<Entry>> {
        let Some(record) = Record::read(&dir)? else { return Ok(None) };
        let status = self.status(&dir, &record)?;
        Ok(Some(Entry { container: dir.container()?, dir, record, status }))
    }

    fn status(&self, dir: &ContainerDir, record: &Record) -> Result<Status> {
        let exited = Status::Exited(record.exit_code);
        if Lock::try_exclusive(&dir.path().join(LOCK))?.is_none() {
            return Ok(match record.phase {
                Phase::Created => Status::Created,
                Phase::Running => Status::Running,
                Phase::Exited => exited,
            });
        }
        // Nobody watches it: its watcher is done or was killed, and then the process may live on.
        Ok(match record.phase {
            Phase::Created => Status::Created,
            Phase::Exited => exited,
            Phase::Running if self.state(dir, record).is_some_and(|state| state.is_alive()) => Status::Running,
            Phase::Running => exited,
        })
    }

    /// What the container's runtime says of it; none when it does not know it.
    pub(crate) fn state(&self, dir: &ContainerDir, record: &Record) -> Option<RuntimeState> {
        self.runtime(&record.runtime).ok()?.state(dir.id().as_str())
    }

    /// The process id of the container's init in the caller's PID namespace; none when it has ended.
    pub fn pid(&self, entry: &Entry) -> Option<i32> {
        let state = self.state(&entry.dir, &entry.record).filter(RuntimeState::is_alive)?;
        Some(state.pid).filter(|pid| *pid > 0)
    }
}
