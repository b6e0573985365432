//! Owners on paper: whose the links and pipes of a container are, where that could not be given to them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{ContainerDir, Result};

const OWNERS: &str = "owners.json";

/// A file of a container that can have no attributes, and whose it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnedInode {
    /// Its inode's number in the upper directory, or in the root file system where that is a copy.
    pub inode: u64,
    /// When it was made, in seconds since 1970 and nanoseconds: by then another file may have had the number.
    pub born: (i64, u32),
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl OwnedInode {
    /// Whether both tell of one file.
    pub fn is_of(&self, other: &Self) -> bool {
        (self.inode, self.born) == (other.inode, other.born)
    }
}

impl ContainerDir {
    /// All that are known; none where nothing was written down.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Damaged`].
    pub fn owned_inodes(&self) -> Result<Vec<OwnedInode>> {
        match self.read_json(OWNERS) {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            other => other,
        }
    }

    /// Writes down all of them, each once; for whoever runs the container.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn set_owned_inodes(&self, all: &[OwnedInode]) -> Result<()> {
        let all: BTreeSet<&OwnedInode> = all.iter().collect();
        match self.container()?.volatile {
            Some(_) => self.write_volatile_json(OWNERS, &all),
            None => self.write_json(OWNERS, &all),
        }
    }
}
