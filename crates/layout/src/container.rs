//! Container directories: `ROOT/containers/<id>/`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hoy_oci::{Digest, IdMaps, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::atomic::random_hex;
use crate::{Error, Lock, Result, write_file, write_volatile_file};

/// A container's name for programs: 64 lowercase hexadecimal digits, safe to join to a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// A new id that nothing else has.
    ///
    /// # Errors
    /// [`Error::Io`] without a source of randomness.
    pub fn random() -> Result<Self> {
        random_hex(32).map(Self)
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, for tables.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::NoContainer(text.to_owned()))
        }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ContainerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ContainerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What `hoy-storage` records of a container: the file `storage.json`, which it alone writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its id, also the name of its directory.
    pub id: ContainerId,
    /// Its name for people.
    pub name: String,
    /// The full name of the image it was made from; none for one made from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The digest of that image's manifest at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// Names of directories below `ROOT/layers`, lowest first.
    pub layers: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// The bundle directory in which its root file system appears as `rootfs`.
    pub bundle: PathBuf,
    /// The ids of its user namespace, which no other container has unless that was asked for; none when it has the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_maps: Option<IdMaps>,
    /// The boot in which it was made, for one that need not survive a power cut: what was written in it may be torn after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volatile: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The record; once more, for when that is damaged; and while the container is being made.
const RECORD: &str = "storage.json";
const COPY: &str = ".storage.json";
const CREATING: &str = "creating.json";

/// The directory of one container: an OCI bundle with `upper`, `work`, and one JSON file per owning program.
#[derive(Debug, Clone)]
pub struct ContainerDir {
    id: ContainerId,
    path: PathBuf,
}

impl ContainerDir {
    pub(crate) fn new(containers: &Path, id: ContainerId) -> Self {
        Self { path: containers.join(id.as_str()), id }
    }

    /// The container's id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its creation was finished, even when its record is damaged. A power cut leaves the record of a container that need
    /// not survive one empty, without a copy.
    ///
    /// # Errors
    /// [`Error::Io`] when that cannot be found out: what may be a container is not garbage.
    pub fn is_whole(&self) -> Result<bool> {
        let has = |name: &str| {
            let path = self.path.join(name);
            match std::fs::metadata(&path) {
                Ok(metadata) => Ok(metadata.len() > 0),
                Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                    Ok(false)
                }
                Err(e) => Err(Error::io("look at", &path)(e)),
            }
        };
        Ok(has(RECORD)? || has(COPY)? && !has(CREATING)?)
    }

    /// The overlay's upper directory: everything that changed since the image.
    pub fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    /// The overlay's work directory.
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// What `hoy-storage` records of the container, from the copy when the record itself is damaged.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn container(&self) -> Result<Container> {
        match self.record() {
            Err(error) if error.is_damage() && !self.path.join(CREATING).exists() => {
                self.read_json(COPY).map_err(|_| self.or_gone(error))
            }
            other => other,
        }
    }

    /// Somebody has removed the container since it was found.
    fn or_gone(&self, error: Error) -> Error {
        if error.is_not_found() && !self.path.exists() { Error::NoContainer(self.id.to_string()) } else { error }
    }

    /// The record itself.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn record(&self) -> Result<Container> {
        self.read_json(RECORD)
    }

    /// Writes `storage.json`; for `hoy-storage` alone.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set_container(&self, container: &Container) -> Result<()> {
        self.write_json(RECORD, container)?;
        self.keep_copy(container)
    }

    /// Writes the copy of the record, which helps against damage; a container that need not survive a power cut has none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep_copy(&self, container: &Container) -> Result<()> {
        match container.volatile {
            Some(_) => Ok(()),
            None => self.write_json(COPY, container),
        }
    }

    /// Reads a program's JSON file, such as `build.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn read_json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T> {
        let path = self.path.join(name);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path, source })
    }

    /// Writes the calling program's own JSON file, atomically.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let (path, bytes) = self.as_json(name, value)?;
        write_file(&path, &bytes)
    }

    /// Writes the calling program's own JSON file as [`write_volatile_file`] does: for what need not survive a power cut.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_volatile_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let (path, bytes) = self.as_json(name, value)?;
        write_volatile_file(&path, &bytes)
    }

    fn as_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(PathBuf, Vec<u8>)> {
        let path = self.path.join(name);
        match serde_json::to_vec(value) {
            Ok(bytes) => Ok((path, bytes)),
            Err(source) => Err(Error::Damaged { path, source }),
        }
    }

    /// The container's lock for whoever reads what was written in it: nobody unmounts or removes it meanwhile.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::NoContainer`] when it was removed.
    pub fn share(&self) -> Result<Lock> {
        Lock::shared(&self.path.join(".lock")).map_err(|error| self.or_gone(error))
    }

    /// The container's lock: exclusive for whoever mounts, runs or removes it.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::NoContainer`] when it was removed.
    pub fn lock(&self) -> Result<Lock> {
        Lock::exclusive(&self.path.join(".lock")).map_err(|error| self.or_gone(error))
    }

    /// The container's lock if nobody has it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn try_lock(&self) -> Result<Option<Lock>> {
        Lock::try_exclusive(&self.path.join(".lock"))
    }
}
