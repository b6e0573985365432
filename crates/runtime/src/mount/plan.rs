//! What a mount of config.json means (runtime-spec config.md "Mounts", config-linux.md, mount(8)).

use std::path::PathBuf;

use hoy_sys::mount::MountAttr;
use oci_spec::runtime::{LinuxNamespaceType, Mount};

use crate::config::Config;
use crate::mount::bind_attributes::{self, BindAttributes};
use crate::mount::idmap::{self, IdMap};
use crate::process::label;
use crate::process::program::warn;
use crate::{Error, Result};

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
        idmap: idmap::plan(mount, &options, config)?,
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

pub(crate) fn invalid(mount: &Mount, why: &str) -> Error {
    Error::Invalid(format!("mount on \"{}\": {why}", mount.destination().display()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn planned_in(json: &str, linux: &str) -> Result<MountPlan> {
        let config = format!(
            r#"{{"ociVersion":"1.2.0","root":{{"path":"r"}},"mounts":[{json}],
            "linux":{{"namespaces":[{{"type":"mount"}}{linux}}}}}"#
        );
        let mut plans = plan_all(&Config::parse(config.into_bytes()).unwrap())?;
        Ok(plans.remove(0))
    }

    pub(crate) fn planned(json: &str) -> Result<MountPlan> {
        planned_in(json, "]")
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
    fn new_file_systems_are_labelled() {
        let data = |json: &str| planned_in(json, r#"],"mountLabel":"a:b:c:s0""#).unwrap().data;
        let label = ("context".to_owned(), Some("a:b:c:s0".to_owned()));
        assert_eq!(data(r#"{"destination":"/t","type":"tmpfs"}"#), [label]);
        assert_eq!(data(r#"{"destination":"/t","type":"sysfs"}"#), []);
        assert_eq!(data(r#"{"destination":"/t","type":"tmpfs","options":["context=x"]}"#).len(), 1);
    }
}
