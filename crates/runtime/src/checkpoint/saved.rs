//! What of a container criu does not save itself: mounts from outside, joined namespaces, the standard streams.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hoy_cgroup::Hierarchies;
use oci_spec::runtime::LinuxNamespaceType;

use crate::config::Config;
use crate::error::Doing;
use crate::mount::plan::{self, Kind};
use crate::{Error, Result};

/// A mount whose content is outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct External {
    /// Where it is in the container, by which criu knows it.
    pub(crate) key: String,
    /// What is mounted, as the host names it; none for a control group, which is told on restoring.
    pub(crate) source: Source,
}

/// What is mounted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A path of the host's, or of the bundle's.
    Path(PathBuf),
    /// The container's group in this hierarchy, empty for version 2.
    Group(String),
}

/// The mounts from outside.
pub(crate) fn mounts(config: &Config) -> Result<Vec<External>> {
    let mut all = Vec::new();
    for plan in plan::plan_all(config)? {
        let key = plan.destination.to_string_lossy().into_owned();
        match plan.kind {
            Kind::Bind { source, .. } => all.push(External { key, source: Source::Path(source) }),
            Kind::Cgroup => {
                let hierarchies = Hierarchies::detect()?;
                let is_alone = hierarchies.iter().count() == 1;
                for hierarchy in hierarchies.iter() {
                    let key =
                        if is_alone && hierarchy.is_v2() { key.clone() } else { format!("{key}/{}", hierarchy.name()) };
                    all.push(External { key, source: Source::Group(hierarchy.controllers.clone()) });
                }
            }
            Kind::Filesystem { .. } | Kind::Remount { .. } => {}
        }
    }
    for path in config.linux().masked_paths().iter().flatten() {
        let rootfs = config.spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
        let is_file = path.starts_with("/proc/") && fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir());
        let is_file = is_file || fs::metadata(rootfs.join(path.trim_start_matches('/'))).is_ok_and(|m| m.is_file());
        if is_file {
            all.push(External { key: path.clone(), source: Source::Path(PathBuf::from("/dev/null")) });
        }
    }
    Ok(all)
}

/// A namespace that was joined.
pub(crate) struct Joined {
    /// criu's name of the kind.
    pub(crate) name: &'static str,
    /// The name by which it is given back.
    pub(crate) key: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) inode: u64,
}

/// The namespaces that were joined by path.
///
/// # Errors
/// [`Error::Invalid`] for a kind that criu would save as if it were the container's own.
pub(crate) fn namespaces(config: &Config) -> Result<Vec<Joined>> {
    let mut all = Vec::new();
    for namespace in config.namespaces() {
        let Some(path) = namespace.path().clone().filter(|path| !path.as_os_str().is_empty()) else { continue };
        let (name, key) = match namespace.typ() {
            LinuxNamespaceType::Network => ("net", "extRootNetNS"),
            LinuxNamespaceType::Pid => ("pid", "extRootPidNS"),
            other => {
                let reason = format!("namespace \"{other}\" is joined by path: criu gives only network and pid back");
                return Err(Error::Invalid(reason));
            }
        };
        let inode = fs::metadata(&path).doing(|| format!("look at \"{}\"", path.display()))?.ino();
        all.push(Joined { name, key, path, inode });
    }
    Ok(all)
}

/// One of the three standard streams of the first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream(pub(crate) String);

impl Stream {
    /// What criu is told about it on saving.
    pub(crate) fn external(&self) -> Option<String> {
        self.0.starts_with("file[").then(|| self.0.clone())
    }

    /// Whether the caller's own takes its place on restoring.
    pub(crate) fn is_given_back(&self) -> bool {
        self.0.starts_with("pipe:") || self.0.starts_with("file[")
    }
}

/// The streams of process `pid`: where they lead, or criu's name of a file on a mount that is not the container's.
pub(crate) fn streams(pid: i32) -> Result<Vec<Stream>> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).doing(|| "read the container's mounts")?;
    (0..3)
        .map(|number| {
            let doing = || format!("look at descriptor {number} of the container");
            let path = format!("/proc/{pid}/fd/{number}");
            let Ok(link) = fs::read_link(&path) else { return Ok(Stream(String::new())) };
            let link = link.to_string_lossy().into_owned();
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).doing(doing)?;
            let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim).unwrap_or_default();
            let is_inside = mounts.lines().any(|line| line.split(' ').next() == Some(mount));
            let metadata = fs::metadata(&path).doing(doing)?;
            if !link.starts_with('/') || is_inside || metadata.is_dir() || link.starts_with("/dev/pts/") {
                return Ok(Stream(link));
            }
            let mount: u32 = mount.parse().unwrap_or_default();
            Ok(Stream(format!("file[{mount:x}:{:x}]", metadata.ino())))
        })
        .collect()
}

/// The file that the streams are noted in, as runc calls it.
const STREAMS: &str = "descriptors.json";

/// Notes the streams beside the images.
pub(crate) fn write_streams(images: &Path, streams: &[Stream]) -> Result<()> {
    let path = images.join(STREAMS);
    let texts: Vec<&str> = streams.iter().map(|stream| stream.0.as_str()).collect();
    fs::write(&path, serde_json::json!(texts).to_string()).doing(|| format!("write \"{}\"", path.display()))
}

/// Reads them again.
pub(crate) fn read_streams(images: &Path) -> Result<Vec<Stream>> {
    let path = images.join(STREAMS);
    let bytes = fs::read(&path).doing(|| format!("read \"{}\"", path.display()))?;
    let json = |source| Error::Json { what: format!("\"{}\"", path.display()), source };
    let texts: Vec<String> = serde_json::from_slice(&bytes).map_err(json)?;
    Ok(texts.into_iter().map(Stream).collect())
}
