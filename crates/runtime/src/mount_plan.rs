//! What a mount of config.json means (runtime-spec config.md "Mounts", config-linux.md, mount(8)).

use std::path::PathBuf;

use hoy_sys::mount::{MountAttr, attr, propagation};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount};

use crate::bind_attributes::{self, BindAttributes};
use crate::config::Config;
use crate::program::warn;
use crate::{Error, Result, label};

/// One mount, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPlan {
    /// Where, inside the root.
    pub(crate) destination: PathBuf,
    /// What.
    pub(crate) kind: Kind,
    /// Attributes of the mount itself, where it is none that binds.
    pub(crate) attr: MountAttr,
    /// The same of a bind.
    pub(crate) bind: BindAttributes,
    /// Attributes of the mount and those below it.
    pub(crate) recursive: MountAttr,
    /// Propagation, one change after the other; `true` is recursive.
    pub(crate) propagation: Vec<(u64, bool)>,
    /// What the file system itself is told.
    pub(crate) data: Vec<(String, Option<String>)>,
    /// The directory below is copied into the new tmpfs.
    pub(crate) copy_up: bool,
    /// How ids are mapped, if they are.
    pub(crate) idmap: Option<IdMap>,
    /// A symlink at the destination is what is mounted on.
    pub(crate) is_on_link: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory or file of the caller's.
    Bind {
        /// Where it is.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
        /// What is done when it is a symlink.
        link: Link,
    },
    /// What is mounted there already, with other attributes.
    Remount {
        /// The mount alone, and not the file system.
        is_bind: bool,
    },
    /// A file system.
    Filesystem {
        /// Its type.
        fstype: String,
        /// Its device, or any text.
        source: String,
    },
    /// The control groups, as the host has them.
    Cgroup,
}

/// What is done with a source that is a symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// What it leads to is mounted.
    Follow,
    /// It is mounted itself: `src-nofollow`.
    Mount,
    /// The same symlink is made at the destination: `copy-symlink`.
    Copy,
}

/// How the ids of a mount are mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdMap {
    pub(crate) by: Mapping,
    pub(crate) recursive: bool,
}

/// What maps the ids of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// These maps, of users and of groups.
    Maps(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>),
    /// Those of the user namespace at this path.
    Namespace(PathBuf),
}

const SET: bool = true;
const CLEAR: bool = false;

/// The options that are attributes of a mount: `r` before one makes it recursive.
pub(crate) const ATTRIBUTES: &[(&str, bool, u64)] = &[
    ("ro", SET, attr::RDONLY),
    ("rw", CLEAR, attr::RDONLY),
    ("nosuid", SET, attr::NOSUID),
    ("suid", CLEAR, attr::NOSUID),
    ("nodev", SET, attr::NODEV),
    ("dev", CLEAR, attr::NODEV),
    ("noexec", SET, attr::NOEXEC),
    ("exec", CLEAR, attr::NOEXEC),
    ("noatime", SET, attr::NOATIME),
    ("strictatime", SET, attr::STRICTATIME),
    ("relatime", CLEAR, attr::ATIME),
    ("atime", CLEAR, attr::ATIME),
    ("norelatime", CLEAR, attr::ATIME),
    ("nostrictatime", CLEAR, attr::ATIME),
    ("nodiratime", SET, attr::NODIRATIME),
    ("diratime", CLEAR, attr::NODIRATIME),
    ("nosymfollow", SET, attr::NOSYMFOLLOW),
    ("symfollow", CLEAR, attr::NOSYMFOLLOW),
];

const PROPAGATIONS: &[(&str, u64)] = &[
    ("private", propagation::PRIVATE),
    ("shared", propagation::SHARED),
    ("slave", propagation::SLAVE),
    ("unbindable", propagation::UNBINDABLE),
];

/// The options that a superblock is given by a flag of its own name.
const SUPERBLOCK: &[&str] = &["sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime"];

/// The options of which only some file systems know, as the others always or never do it.
pub(crate) const SOMETIMES: &[&str] = &["iversion", "noiversion"];

/// The options that say what is so without them, or how the kernel's log is written.
const DEFAULTS: &[&str] = &["defaults", "silent", "loud"];

/// The options that say what kind of mount it is.
const KINDS: &[&str] = &["bind", "rbind", "remount", "idmap", "ridmap", "src-nofollow", "copy-symlink"];

/// Every option this runtime knows, for `features`.
pub(crate) fn known_options() -> Vec<String> {
    let plain = ATTRIBUTES.iter().map(|(name, ..)| *name).chain(PROPAGATIONS.iter().map(|(name, _)| *name));
    let both = plain.flat_map(|name| [name.to_owned(), format!("r{name}")]);
    let special = ["tmpcopyup", "dest-nofollow"];
    let others = SUPERBLOCK.iter().chain(SOMETIMES).chain(DEFAULTS).chain(KINDS).chain(&special);
    let others = others.map(|option| (*option).to_owned());
    let mut all: Vec<String> = both.chain(others).collect();
    all.sort();
    all.dedup();
    all
}

/// The kernel's own limit, fs.mount-max: nearing it takes minutes, and the last one fails.
const MOST: usize = 100_000;

/// Decides what every mount of the configuration means.
///
/// # Errors
/// That of the first one that means nothing, naming its destination.
pub(crate) fn plan_all(config: &Config) -> Result<Vec<MountPlan>> {
    let count = config.spec.mounts().as_ref().map_or(0, Vec::len);
    if count > MOST {
        let most = format!("a mount namespace of Linux has at most {MOST}");
        return Err(Error::Invalid(format!("config.json has {count} mounts: {most}")));
    }
    config.spec.mounts().iter().flatten().map(|mount| plan(mount, config)).collect()
}

fn plan(mount: &Mount, config: &Config) -> Result<MountPlan> {
    let options: Vec<&str> = mount.options().iter().flatten().map(String::as_str).collect();
    let mut plan = MountPlan {
        destination: mount.destination().clone(),
        kind: kind(mount, &options)?,
        attr: MountAttr::default(),
        bind: BindAttributes::default(),
        recursive: MountAttr::default(),
        propagation: Vec::new(),
        data: Vec::new(),
        copy_up: false,
        idmap: idmap(mount, &options, config)?,
        is_on_link: false,
    };
    for option in &options {
        plan.option(option);
    }
    if matches!(plan.kind, Kind::Bind { .. }) {
        plan.bind = bind_attributes::plan(&options, config.namespace(LinuxNamespaceType::User).is_some());
    }
    match &plan.kind {
        Kind::Filesystem { fstype, .. } => {
            if plan.copy_up && fstype != "tmpfs" {
                return Err(invalid(mount, "the option \"tmpcopyup\" goes with the type tmpfs only"));
            }
            if !options.iter().any(|option| option.starts_with("context=")) {
                plan.data.extend(label::mount_option(config.linux(), fstype));
            }
        }
        // The kernel would ignore them, and bundles have them.
        Kind::Bind { .. } | Kind::Remount { is_bind: true } => {
            for (name, _) in plan.data.drain(..) {
                let place = plan.destination.display();
                warn(&format!("mount on \"{place}\": the option \"{name}\" is none of a bind mount: it is left out"));
            }
        }
        _ => {}
    }
    Ok(plan)
}

fn kind(mount: &Mount, options: &[&str]) -> Result<Kind> {
    let has = |name: &str| options.contains(&name);
    let fstype = mount.typ().as_deref().unwrap_or_default();
    let is_bind = fstype == "bind" || has("bind") || has("rbind");
    let source = mount.source().clone();
    if has("remount") {
        return Ok(Kind::Remount { is_bind });
    }
    if is_bind {
        let source = source.ok_or_else(|| invalid(mount, "a bind mount needs a source"))?;
        let link = match (has("copy-symlink"), has("src-nofollow")) {
            (true, _) if has("src-nofollow") || has("dest-nofollow") => {
                return Err(invalid(
                    mount,
                    "\"copy-symlink\" goes neither with \"src-nofollow\" nor \"dest-nofollow\"",
                ));
            }
            (true, _) => Link::Copy,
            (false, true) => Link::Mount,
            (false, false) => Link::Follow,
        };
        return Ok(Kind::Bind { source, recursive: has("rbind"), link });
    }
    if let Some(option) = ["copy-symlink", "src-nofollow", "dest-nofollow"].iter().find(|option| has(option)) {
        return Err(invalid(mount, &format!("the option \"{option}\" goes with a bind mount only")));
    }
    match fstype {
        "cgroup" => Ok(Kind::Cgroup),
        "" => Err(invalid(mount, "it has neither a type nor the option \"bind\"")),
        fstype => {
            let source = source.map_or_else(|| fstype.to_owned(), |s| s.to_string_lossy().into_owned());
            Ok(Kind::Filesystem { fstype: fstype.to_owned(), source })
        }
    }
}

fn invalid(mount: &Mount, why: &str) -> Error {
    Error::Invalid(format!("mount on \"{}\": {why}", mount.destination().display()))
}

/// The mount's own maps, or those of the container's user namespace.
fn idmap(mount: &Mount, options: &[&str], config: &Config) -> Result<Option<IdMap>> {
    let uids = mount.uid_mappings().clone().unwrap_or_default();
    let gids = mount.gid_mappings().clone().unwrap_or_default();
    let asked = options.iter().any(|o| matches!(*o, "idmap" | "ridmap"));
    let by = match (uids.is_empty(), gids.is_empty()) {
        (true, true) if !asked => return Ok(None),
        (true, true) => of_container(config).ok_or_else(|| {
            invalid(mount, "the option \"idmap\" needs uidMappings and gidMappings, or a user namespace that has them")
        })?,
        (false, false) => Mapping::Maps(uids, gids),
        _ => return Err(invalid(mount, "uidMappings and gidMappings are needed together")),
    };
    let is_bind = mount.typ().as_deref() == Some("bind") || options.iter().any(|o| matches!(*o, "bind" | "rbind"));
    if !is_bind || options.contains(&"remount") {
        return Err(invalid(mount, "only the ids of a bind mount can be mapped"));
    }
    Ok(Some(IdMap { by, recursive: options.contains(&"ridmap") }))
}

fn of_container(config: &Config) -> Option<Mapping> {
    let namespace = config.namespace(LinuxNamespaceType::User)?;
    if let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
        return Some(Mapping::Namespace(path.clone()));
    }
    let linux = config.linux();
    Some(Mapping::Maps(linux.uid_mappings().clone()?, linux.gid_mappings().clone()?))
}

impl MountPlan {
    fn option(&mut self, option: &str) {
        if DEFAULTS.contains(&option) || KINDS.contains(&option) {
        } else if SUPERBLOCK.contains(&option) || SOMETIMES.contains(&option) {
            // What the caller's file system does is its own affair: a bind leaves it.
            if !matches!(self.kind, Kind::Bind { .. } | Kind::Remount { is_bind: true }) {
                self.data.push((option.to_owned(), None));
            }
        } else if option == "tmpcopyup" {
            self.copy_up = true;
        } else if option == "dest-nofollow" {
            self.is_on_link = true;
        } else if let Some((_, set, bits)) = ATTRIBUTES.iter().find(|(name, ..)| *name == option) {
            change(&mut self.attr, *set, *bits);
        } else if let Some(&(_, kind)) = PROPAGATIONS.iter().find(|(name, _)| *name == option) {
            self.propagation.push((kind, false));
        } else if option.strip_prefix('r').is_some_and(|rest| self.recursive_option(rest)) {
        } else if let Some((key, value)) = option.split_once('=') {
            self.data.push((key.to_owned(), Some(value.to_owned())));
        } else {
            self.data.push((option.to_owned(), None));
        }
    }

    /// Applies what follows the `r` of an option; `false` when the option is something else.
    fn recursive_option(&mut self, rest: &str) -> bool {
        if let Some((_, set, bits)) = ATTRIBUTES.iter().find(|(name, ..)| *name == rest) {
            change(&mut self.recursive, *set, *bits);
        } else if let Some(&(_, kind)) = PROPAGATIONS.iter().find(|(name, _)| *name == rest) {
            self.propagation.push((kind, true));
        } else {
            return false;
        }
        true
    }
}

/// The last of two contradicting options counts. To set an access-time mode, the kernel wants all its bits cleared.
pub(crate) fn change(attr_of: &mut MountAttr, set: bool, bits: u64) {
    let bits_cleared = if bits & attr::ATIME != 0 { attr::ATIME } else { bits };
    attr_of.set &= !bits_cleared;
    attr_of.clear &= !bits_cleared;
    if set {
        attr_of.set |= bits;
        attr_of.clear |= bits_cleared & attr::ATIME;
    } else {
        attr_of.clear |= bits_cleared;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned_in(json: &str, linux: &str) -> Result<MountPlan> {
        let config = format!(
            r#"{{"ociVersion":"1.2.0","root":{{"path":"r"}},"mounts":[{json}],
            "linux":{{"namespaces":[{{"type":"mount"}}{linux}}}}}"#
        );
        let mut plans = plan_all(&Config::parse(config.into_bytes()).unwrap())?;
        Ok(plans.remove(0))
    }

    fn planned(json: &str) -> Result<MountPlan> {
        planned_in(json, "]")
    }

    #[test]
    fn options_become_attributes() {
        let cases: &[(&str, MountAttr, MountAttr)] = &[
            ("[]", MountAttr::default(), MountAttr::default()),
            (r#"["ro","rw"]"#, MountAttr { clear: 1, ..MountAttr::default() }, MountAttr::default()),
            (r#"["rw","ro","nosuid"]"#, MountAttr { set: 3, ..MountAttr::default() }, MountAttr::default()),
            (r#"["rro","rnoexec"]"#, MountAttr::default(), MountAttr { set: 9, ..MountAttr::default() }),
            (r#"["noatime"]"#, MountAttr { set: 0x10, clear: 0x70, propagation: 0 }, MountAttr::default()),
            (r#"["noatime","relatime"]"#, MountAttr { clear: 0x70, ..MountAttr::default() }, MountAttr::default()),
            (
                r#"["nodev","dev","nosymfollow"]"#,
                MountAttr { set: 0x20_0000, clear: 4, propagation: 0 },
                MountAttr::default(),
            ),
        ];
        for (options, own, recursive) in cases {
            let plan = planned(&format!(r#"{{"destination":"/t","type":"tmpfs","options":{options}}}"#)).unwrap();
            assert_eq!((plan.attr, plan.recursive, plan.data), (*own, *recursive, vec![]), "{options}");
        }
    }

    #[test]
    fn the_rest_goes_to_the_file_system() {
        let plan =
            planned(r#"{"destination":"/t","type":"tmpfs","options":["size=1k","rslave","tmpcopyup","noswap"]}"#);
        let plan = plan.unwrap();
        let size = ("size".to_owned(), Some("1k".to_owned()));
        assert_eq!(plan.data, [size, ("noswap".to_owned(), None)]);
        assert_eq!(plan.propagation, [(propagation::SLAVE, true)]);
        assert!(plan.copy_up);
    }

    #[test]
    fn kinds() {
        let bind = planned(r#"{"destination":"/t","source":"/s","options":["rbind","ro"]}"#).unwrap();
        assert_eq!(bind.kind, Kind::Bind { source: "/s".into(), recursive: true, link: Link::Follow });
        let link = planned(r#"{"destination":"/t","source":"/s","options":["bind","src-nofollow","dest-nofollow"]}"#);
        let link = link.unwrap();
        assert_eq!(link.kind, Kind::Bind { source: "/s".into(), recursive: false, link: Link::Mount });
        assert!(link.is_on_link);
        assert_eq!(planned(r#"{"destination":"/t","type":"cgroup"}"#).unwrap().kind, Kind::Cgroup);
        let again = planned(r#"{"destination":"/t","type":"tmpfs","options":["remount","size=1k"]}"#).unwrap();
        assert_eq!((again.kind, again.data.len()), (Kind::Remount { is_bind: false }, 1));
    }

    #[test]
    fn what_means_nothing() {
        let cases = [
            (r#"{"destination":"/t"}"#, "neither a type"),
            (r#"{"destination":"/t","options":["bind"]}"#, "needs a source"),
            (r#"{"destination":"/t","source":"/s","options":["bind","idmap"]}"#, "idmap"),
            (r#"{"destination":"/t","source":"/s","options":["bind","copy-symlink","dest-nofollow"]}"#, "copy-symlink"),
            (r#"{"destination":"/t","type":"tmpfs","options":["src-nofollow"]}"#, "src-nofollow"),
            (r#"{"destination":"/t","type":"proc","options":["tmpcopyup"]}"#, "tmpcopyup"),
        ];
        for (json, want) in cases {
            let error = planned(json).unwrap_err().to_string();
            assert!(error.starts_with("mount on \"/t\"") && error.contains(want), "{json}: {error}");
        }
    }

    #[test]
    fn ids_are_mapped_as_the_mount_or_the_container_says() {
        let maps = r#""uidMappings":[{"containerID":0,"hostID":7,"size":1}],"gidMappings":[{"containerID":0,"hostID":8,"size":1}]"#;
        let new = format!(r#",{{"type":"user"}}],{maps}"#);
        let joined = r#",{"type":"user","path":"/u"}]"#;
        let bind = |options: &str, maps: &str| {
            format!(r#"{{"destination":"/t","source":"/s","options":["bind",{options}]{maps}}}"#)
        };
        let of = |json: String, linux: &str| planned_in(&json, linux).map(|plan| plan.idmap);
        let mapped = |plan: Option<IdMap>| match plan.unwrap().by {
            Mapping::Maps(uids, gids) => (uids[0].host_id(), gids[0].host_id()),
            Mapping::Namespace(_) => (0, 0),
        };
        assert_eq!(mapped(of(bind(r#""idmap""#, ""), &new).unwrap()), (7, 8));
        assert_eq!(mapped(of(bind(r#""idmap""#, &format!(",{maps}")), "]").unwrap()), (7, 8));
        let by = Mapping::Namespace("/u".into());
        assert_eq!(of(bind(r#""ridmap""#, ""), joined).unwrap(), Some(IdMap { by, recursive: true }));
        assert_eq!(of(bind(r#""ro""#, ""), joined).unwrap(), None);
        let tmpfs = format!(r#"{{"destination":"/t","type":"tmpfs","options":["idmap"],{maps}}}"#);
        assert!(of(tmpfs, "]").is_err());
    }

    #[test]
    fn new_file_systems_are_labelled() {
        let data = |json: &str| planned_in(json, r#"],"mountLabel":"a:b:c:s0""#).unwrap().data;
        let label = ("context".to_owned(), Some("a:b:c:s0".to_owned()));
        assert_eq!(data(r#"{"destination":"/t","type":"tmpfs"}"#), [label]);
        assert_eq!(data(r#"{"destination":"/t","type":"sysfs"}"#), []);
        assert_eq!(data(r#"{"destination":"/t","type":"tmpfs","options":["context=x"]}"#).len(), 1);
    }
}
