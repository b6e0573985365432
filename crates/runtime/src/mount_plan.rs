//! What a mount of config.json means (runtime-spec config.md "Mounts", config-linux.md, mount(8)).

use std::path::PathBuf;

use hoy_sys::mount::{MountAttr, attr, propagation};
use oci_spec::runtime::{LinuxIdMapping, Mount};

use crate::{Error, Result};

/// One mount, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPlan {
    /// Where, inside the root.
    pub(crate) destination: PathBuf,
    /// What.
    pub(crate) kind: Kind,
    /// Attributes of the mount itself.
    pub(crate) attr: MountAttr,
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

/// How the ids of a mount are mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdMap {
    pub(crate) uids: Vec<LinuxIdMapping>,
    pub(crate) gids: Vec<LinuxIdMapping>,
    pub(crate) recursive: bool,
}

const SET: bool = true;
const CLEAR: bool = false;

/// The options that are attributes of a mount: `r` before one makes it recursive.
const ATTRIBUTES: &[(&str, bool, u64)] = &[
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
const SUPERBLOCK: &[&str] = &["sync", "async", "dirsync", "mand", "lazytime", "nolazytime"];

/// The options that say what is so without them.
const DEFAULTS: &[&str] = &["defaults", "remount", "bind", "rbind", "silent", "loud", "iversion", "noiversion"];

/// Every option this runtime knows, for `features`.
pub(crate) fn known_options() -> Vec<String> {
    let plain = ATTRIBUTES.iter().map(|(name, ..)| *name).chain(PROPAGATIONS.iter().map(|(name, _)| *name));
    let both = plain.flat_map(|name| [name.to_owned(), format!("r{name}")]);
    let others = SUPERBLOCK.iter().chain(DEFAULTS).chain(&["tmpcopyup", "idmap", "ridmap"]).map(|s| (*s).to_owned());
    let mut all: Vec<String> = both.chain(others).collect();
    all.sort();
    all.dedup();
    all
}

/// Decides what `mount` means.
///
/// # Errors
/// A mount without a source or type that needs one, or ids mapped on one side only.
pub(crate) fn plan(mount: &Mount) -> Result<MountPlan> {
    let options: Vec<&str> = mount.options().iter().flatten().map(String::as_str).collect();
    let fstype = mount.typ().as_deref().unwrap_or_default();
    let destination = mount.destination().clone();
    let source = mount.source().clone();
    let is_bind = fstype == "bind" || options.iter().any(|o| matches!(*o, "bind" | "rbind"));
    let kind = if is_bind {
        let source = source.ok_or_else(|| invalid(mount, "a bind mount needs a source"))?;
        Kind::Bind { source, recursive: options.contains(&"rbind") }
    } else if fstype == "cgroup" {
        Kind::Cgroup
    } else if fstype.is_empty() {
        return Err(invalid(mount, "it has neither a type nor the option \"bind\""));
    } else {
        let source = source.map_or_else(|| fstype.to_owned(), |s| s.to_string_lossy().into_owned());
        Kind::Filesystem { fstype: fstype.to_owned(), source }
    };
    let mut plan = MountPlan {
        destination,
        kind,
        attr: MountAttr::default(),
        recursive: MountAttr::default(),
        propagation: Vec::new(),
        data: Vec::new(),
        copy_up: false,
        idmap: idmap(mount, &options)?,
    };
    for option in options {
        plan.option(option);
    }
    Ok(plan)
}

fn invalid(mount: &Mount, why: &str) -> Error {
    Error::Invalid(format!("mount on \"{}\": {why}", mount.destination().display()))
}

fn idmap(mount: &Mount, options: &[&str]) -> Result<Option<IdMap>> {
    let uids = mount.uid_mappings().clone().unwrap_or_default();
    let gids = mount.gid_mappings().clone().unwrap_or_default();
    let asked = options.iter().any(|o| matches!(*o, "idmap" | "ridmap"));
    match (uids.is_empty(), gids.is_empty()) {
        (true, true) if asked => Err(invalid(mount, "option \"idmap\" needs uidMappings and gidMappings")),
        (true, true) => Ok(None),
        (false, false) => Ok(Some(IdMap { uids, gids, recursive: options.contains(&"ridmap") })),
        _ => Err(invalid(mount, "uidMappings and gidMappings are needed together")),
    }
}

impl MountPlan {
    fn option(&mut self, option: &str) {
        if DEFAULTS.contains(&option) || matches!(option, "idmap" | "ridmap") {
        } else if SUPERBLOCK.contains(&option) {
            // What the caller's file system does is its own affair: a bind leaves it.
            if !matches!(self.kind, Kind::Bind { .. }) {
                self.data.push((option.to_owned(), None));
            }
        } else if option == "tmpcopyup" {
            self.copy_up = true;
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
fn change(attr_of: &mut MountAttr, set: bool, bits: u64) {
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

    fn planned(json: &str) -> Result<MountPlan> {
        plan(&serde_json::from_str(json).unwrap())
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
        assert_eq!(bind.kind, Kind::Bind { source: "/s".into(), recursive: true });
        assert_eq!(planned(r#"{"destination":"/t","type":"cgroup"}"#).unwrap().kind, Kind::Cgroup);
        assert!(planned(r#"{"destination":"/t"}"#).is_err());
        assert!(planned(r#"{"destination":"/t","options":["bind"]}"#).is_err());
        assert!(planned(r#"{"destination":"/t","source":"/s","options":["bind","idmap"]}"#).is_err());
    }
}
