//! The directory of one container, `<root>/<id>`: `state.json`, a copy of its configuration, the fifo that starts it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use hoy_sys::rustix::fs::FlockOperation;

use crate::config::Config;
use crate::error::Doing;
use crate::state::{State, Status};
use crate::{Error, Result};

/// The file that names the control groups which are about to be made.
const GROUPS: &str = "cgroups.json";

/// The directory of one container.
#[derive(Debug, Clone)]
pub struct Container {
    dir: PathBuf,
    id: String,
}

/// Checks that `id` can be a container's: letters, digits and `_+-.`, as runc has it.
///
/// # Errors
/// [`Error::Invalid`] otherwise.
pub fn check_id(id: &str) -> Result<()> {
    let ok = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(ok) {
        return Err(Error::Invalid(format!(
            "container id \"{id}\" is not letters, digits, \"_\", \"+\", \"-\", \".\""
        )));
    }
    Ok(())
}

impl Container {
    /// The container `id` under `root`, whether it is there or not.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what can be no id.
    pub fn new(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        Ok(Self { dir: root.join(id), id: id.to_owned() })
    }

    /// Makes the directory; nobody else has it then.
    ///
    /// # Errors
    /// [`Error::Exists`] when the id is taken.
    pub fn make(&self, config: &Config) -> Result<()> {
        if let Some(root) = self.dir.parent() {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(root);
            made.doing(|| format!("make directory \"{}\"", root.display()))?;
            let owner = fs::symlink_metadata(root).doing(|| format!("look at \"{}\"", root.display()))?.uid();
            let user = hoy_sys::rustix::process::geteuid().as_raw();
            // Somebody else could change what `start` and `delete` believe.
            if owner != user && owner != 0 {
                let why = format!("it belongs to user {owner}, and this is user {user}: choose another --root");
                return Err(Error::Invalid(format!("use state directory \"{}\": {why}", root.display())));
            }
        }
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(Error::Exists(self.id.clone())),
            other => other.doing(|| format!("make directory \"{}\"", self.dir.display()))?,
        }
        let path = self.dir.join("config.json");
        fs::write(&path, &config.bytes).doing(|| format!("write \"{}\"", path.display()))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    /// Where the compiled seccomp programs of all containers are kept: a name that no container can have.
    pub(crate) fn filters(&self) -> PathBuf {
        self.dir.with_file_name("@seccomp")
    }

    /// The fifo that its process waits on until `start`.
    pub fn fifo(&self) -> PathBuf {
        self.dir.join("exec.fifo")
    }

    /// The configuration it was made with.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such container.
    pub fn config(&self) -> Result<Config> {
        if !self.exists() {
            return Err(Error::NotFound(self.id.clone()));
        }
        Config::read(&self.dir.join("config.json"))
    }

    /// Waits until no other command works on this container; the lock ends with the descriptor.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such container.
    pub fn lock(&self) -> Result<OwnedFd> {
        let dir = File::open(&self.dir).map_err(|error| self.absent(error, "open"))?;
        hoy_sys::rustix::fs::flock(&dir, FlockOperation::LockExclusive)
            .doing(|| format!("lock \"{}\"", self.dir.display()))?;
        // Who had the lock before may have deleted it.
        let same = fs::metadata(&self.dir).is_ok_and(|now| dir.metadata().is_ok_and(|then| then.ino() == now.ino()));
        if same { Ok(dir.into()) } else { Err(Error::NotFound(self.id.clone())) }
    }

    /// Writes the state, whole or not at all.
    ///
    /// # Errors
    /// Those of writing into the directory.
    pub fn write(&self, state: &State) -> Result<()> {
        let temporary = self.dir.join("state.json.tmp");
        let json = |source| Error::Json { what: "state".to_owned(), source };
        let bytes = serde_json::to_vec(state).map_err(json)?;
        fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, self.dir.join("state.json")))
            .doing(|| format!("write \"{}/state.json\"", self.dir.display()))
    }

    /// Whether something is written of its state.
    pub(crate) fn has_state(&self) -> bool {
        self.dir.join("state.json").exists()
    }

    /// Reads the state; `None` while the container is being made.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such container.
    pub fn read(&self) -> Result<Option<State>> {
        let path = self.dir.join("state.json");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.exists() => return Ok(None),
            other => other.map_err(|error| self.absent(error, "read"))?,
        };
        let json = |source| Error::Json { what: format!("\"{}\"", path.display()), source };
        serde_json::from_slice(&bytes).map(Some).map_err(json)
    }

    /// Reads the state of a container that has been made.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::State`] while it is being made.
    pub fn state(&self, doing: &'static str) -> Result<State> {
        let reason = "it is still being created, or its creation was interrupted: \"delete --force\" removes it";
        self.read()?.filter(|state| !state.creating).ok_or_else(|| Error::State {
            doing,
            id: self.id.clone(),
            reason: reason.to_owned(),
        })
    }

    /// What it is doing now.
    pub fn status(&self, state: Option<&State>) -> Status {
        let Some(state) = state.filter(|state| !state.creating) else { return Status::Creating };
        if !state.is_alive() {
            Status::Stopped
        } else if self.fifo().exists() {
            Status::Created
        } else if hoy_cgroup::is_frozen(&state.cgroups) {
            Status::Paused
        } else {
            Status::Running
        }
    }

    /// Notes the control groups that are about to be made for the container.
    pub(crate) fn note_groups(&self, groups: &BTreeMap<String, PathBuf>) -> Result<()> {
        let json = |source| Error::Json { what: "control groups".to_owned(), source };
        fs::write(self.dir.join(GROUPS), serde_json::to_vec(groups).map_err(json)?).doing(|| "note the control groups")
    }

    /// The control groups that were made for it and are not among the `known` ones: its state could not tell.
    pub(crate) fn lost_groups(&self, known: &BTreeMap<String, PathBuf>) -> BTreeMap<String, PathBuf> {
        let bytes = fs::read(self.dir.join(GROUPS)).unwrap_or_default();
        // Half a note was written before any group was made.
        let mut noted: BTreeMap<String, PathBuf> = serde_json::from_slice(&bytes).unwrap_or_default();
        let user = hoy_sys::rustix::process::geteuid().as_raw();
        // What this user could not make may have been made by another since.
        let is_own = |directory: &Path| fs::symlink_metadata(directory).is_ok_and(|found| found.uid() == user);
        noted.retain(|_, directory| !known.values().any(|known| known == directory) && is_own(directory));
        noted
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// Those of removing it.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.doing(|| format!("remove \"{}\"", self.dir.display())),
        }
    }

    fn absent(&self, error: std::io::Error, verb: &str) -> Error {
        match error.kind() {
            ErrorKind::NotFound => Error::NotFound(self.id.clone()),
            _ => Error::System { doing: format!("{verb} \"{}\"", self.dir.display()), source: error },
        }
    }
}

/// The ids of the containers under `root`, sorted.
///
/// # Errors
/// Those of reading the directory; one that is not there holds none.
pub fn list(root: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing(|| format!("read \"{}\"", root.display()))?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ids: Vec<String> = names.filter(|name| check_id(name).is_ok() && !name.starts_with('.')).collect();
    ids.sort();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for (id, ok) in [
            ("a", true),
            ("A_b+c-d.9", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("@seccomp", false),
        ] {
            assert_eq!(check_id(id).is_ok(), ok, "{id:?}");
        }
    }

    #[test]
    fn life_of_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let container = Container::new(root.path(), "a").unwrap();
        let json = r#"{"ociVersion":"1.2.0","root":{"path":"r"},"linux":{"namespaces":[{"type":"mount"}]}}"#;
        let config = Config::parse(json.as_bytes().to_vec()).unwrap();
        assert!(container.read().unwrap_err().is_not_found());
        assert!(container.lock().unwrap_err().is_not_found());
        container.make(&config).unwrap();
        assert!(matches!(container.make(&config), Err(Error::Exists(_))));
        assert!(container.read().unwrap().is_none());
        assert_eq!(container.status(None), Status::Creating);
        assert_eq!(list(root.path()).unwrap(), ["a"]);
        container.remove().unwrap();
        container.remove().unwrap();
        assert!(list(&root.path().join("none")).unwrap().is_empty());
    }
}
