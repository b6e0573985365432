//! containers.conf(5): what the machine, and its user, want for every container. Read once, before anything is made.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hoy_cli::{Context as _, Result};
use hoy_spec::Defaults;
use serde::Deserialize;

use crate::namespaces::Namespaces;

/// What holds unless options say otherwise: a file of it, or all together.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainersConf {
    containers: Containers,
    engine: Engine,
}

/// Its table `engine`, as far as it is about images that are sent elsewhere.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Engine {
    compression_format: Option<String>,
    compression_level: Option<i64>,
}

/// Its table `containers`, as far as it is about commands in containers that are built in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Containers {
    default_capabilities: List,
    default_sysctls: List,
    default_ulimits: List,
    devices: List,
    env: List,
    volumes: List,
    shm_size: Option<String>,
    cgroupns: Option<String>,
    ipcns: Option<String>,
    netns: Option<String>,
    pidns: Option<String>,
    utsns: Option<String>,
}

/// A list that a later file replaces, or adds to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
struct List(Option<Vec<Item>>);

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Item {
    Text(String),
    Attributes { append: bool },
}

impl List {
    fn then(self, later: Self) -> Self {
        let appends = |list: &[Item]| list.iter().any(|item| matches!(item, Item::Attributes { append: true }));
        match (self.0, later.0) {
            (before, None) => Self(before),
            (Some(before), Some(later)) if appends(&later) => Self(Some([before, later].concat())),
            (_, later) => Self(later),
        }
    }

    fn texts(&self) -> Vec<String> {
        let text = |item: &Item| match item {
            Item::Text(text) => Some(text.clone()),
            Item::Attributes { .. } => None,
        };
        self.0.iter().flatten().filter_map(text).collect()
    }
}

impl Containers {
    fn then(self, later: Self) -> Self {
        Self {
            default_capabilities: self.default_capabilities.then(later.default_capabilities),
            default_sysctls: self.default_sysctls.then(later.default_sysctls),
            default_ulimits: self.default_ulimits.then(later.default_ulimits),
            devices: self.devices.then(later.devices),
            env: self.env.then(later.env),
            volumes: self.volumes.then(later.volumes),
            shm_size: later.shm_size.or(self.shm_size),
            cgroupns: later.cgroupns.or(self.cgroupns),
            ipcns: later.ipcns.or(self.ipcns),
            netns: later.netns.or(self.netns),
            pidns: later.pidns.or(self.pidns),
            utsns: later.utsns.or(self.utsns),
        }
    }
}

impl Engine {
    fn then(self, later: Self) -> Self {
        Self {
            compression_format: later.compression_format.or(self.compression_format),
            compression_level: later.compression_level.or(self.compression_level),
        }
    }
}

impl ContainersConf {
    /// Reads the files that there are; a later one wins. `environment` is asked where they are.
    ///
    /// # Errors
    /// A file that is no TOML, and one that is named and cannot be read.
    pub(crate) fn read(is_root: bool, environment: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let named = |name: &str| environment(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let mut all = match named("CONTAINERS_CONF") {
            Some(only) => vec![text(&only)?],
            None => {
                let home = || Some(named("HOME")?.join(".config"));
                let own = named("XDG_CONFIG_HOME").or_else(home).filter(|_| !is_root);
                let own = own.map(|dir| dir.join("containers"));
                let places = ["/usr/share/containers", "/etc/containers"].map(PathBuf::from).into_iter().chain(own);
                let files = places.flat_map(|place| files(&place));
                files.map(|path| text(&path)).collect::<Result<_>>()?
            }
        };
        all.extend(named("CONTAINERS_CONF_OVERRIDE").map(|path| text(&path)).transpose()?);
        all.into_iter().try_fold(Self::default(), |before, (path, text)| {
            let later: Self = toml::from_str(&text).context(|| format!("read \"{}\"", path.display()))?;
            Ok(Self { containers: before.containers.then(later.containers), engine: before.engine.then(later.engine) })
        })
    }

    /// What containers have.
    pub(crate) fn defaults(&self) -> Defaults {
        let capabilities = self.containers.default_capabilities.texts();
        Defaults {
            capabilities: (!capabilities.is_empty()).then_some(capabilities),
            devices: self.containers.devices.texts(),
            env: self.containers.env.texts(),
            sysctls: self.containers.default_sysctls.texts(),
            ulimits: self.containers.default_ulimits.texts(),
            volumes: self.containers.volumes.texts(),
            shm_size: self.containers.shm_size.clone(),
        }
    }

    /// The namespaces that are the host's; of all others each command has its own anyway.
    pub(crate) fn namespaces(&self) -> Namespaces {
        Namespaces {
            pid: shared(&self.containers.pidns),
            ipc: shared(&self.containers.ipcns),
            uts: shared(&self.containers.utsns),
            cgroupns: shared(&self.containers.cgroupns),
        }
    }

    /// How layers are compressed that are sent elsewhere, and how much; none where they stay as they are.
    pub(crate) fn compression(&self) -> (Option<String>, Option<String>) {
        // They have that already.
        let format = self.engine.compression_format.clone().filter(|format| !["", "gzip"].contains(&format.as_str()));
        let level = self.engine.compression_level.filter(|_| format.is_some()).map(|level| level.to_string());
        (format, level)
    }

    /// The host's network, if that is what commands have.
    pub(crate) fn network(&self) -> Option<String> {
        shared(&self.containers.netns)
    }
}

fn shared(mode: &Option<String>) -> Option<String> {
    mode.clone().filter(|mode| mode == "host")
}

/// The file of a directory, and those of the directory beside it, as far as they are there.
fn files(place: &Path) -> Vec<PathBuf> {
    let more = std::fs::read_dir(place.join("containers.conf.d")).into_iter().flatten().flatten();
    let mut more: Vec<PathBuf> =
        more.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    more.sort();
    std::iter::once(place.join("containers.conf")).filter(|path| path.exists()).chain(more).collect()
}

fn text(path: &Path) -> Result<(PathBuf, String)> {
    let text = std::fs::read_to_string(path).context(|| format!("read \"{}\"", path.display()))?;
    Ok((path.to_owned(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_win() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            OsString::from(path)
        };
        let home = directory.path().as_os_str().to_owned();
        write("containers/containers.conf", "[containers]\nenv = [\"A=1\"]\nvolumes = [\"/a:/a\"]\npidns = \"host\"\n");
        write("containers/containers.conf.d/b.conf", "[containers]\nenv = [\"B=2\", {append = true}]\n");
        write(
            "containers/containers.conf.d/c.conf",
            "[containers]\nvolumes = []\nshm_size = \"1k\"\n[engine]\ncompression_level = 5\n",
        );
        let user = |name: &str| (name == "XDG_CONFIG_HOME").then(|| home.clone());
        let read = ContainersConf::read(false, user).unwrap();
        let defaults = read.defaults();
        assert_eq!((defaults.env, defaults.volumes), (vec!["A=1".to_owned(), "B=2".to_owned()], vec![]));
        assert_eq!((defaults.shm_size.as_deref(), read.namespaces().pid.as_deref()), (Some("1k"), Some("host")));
        assert_eq!((read.namespaces().uts, read.compression()), (None, (None, None)));

        let only = write("only.conf", "[containers]\ndefault_ulimits = [\"core=1\"]\nnetns = \"private\"\n");
        let over = write("over.conf", "[containers]\nnetns = \"host\"\n[engine]\ncompression_format = \"zstd\"\n");
        let named = |name: &str| match name {
            "CONTAINERS_CONF" => Some(only.clone()),
            "CONTAINERS_CONF_OVERRIDE" => Some(over.clone()),
            _ => None,
        };
        let read = ContainersConf::read(true, named).unwrap();
        assert_eq!(
            (read.defaults().ulimits, read.compression().0.as_deref()),
            (vec!["core=1".to_owned()], Some("zstd"))
        );
        assert_eq!((read.network().as_deref(), read.defaults().capabilities), (Some("host"), None));
        for (path, says) in
            [(write("bad.conf", "[containers"), "bad.conf"), (OsString::from("/none.conf"), "/none.conf")]
        {
            let error = ContainersConf::read(true, |name| (name == "CONTAINERS_CONF").then(|| path.clone()));
            assert!(error.unwrap_err().to_string().contains(says), "{says}");
        }
    }
}
