//! Mounts that show other ids than their files have: `idmap`, `ridmap`, `uidMappings` (config.md "POSIX-platform Mounts").

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount};

use crate::Result;
use crate::config::Config;
use crate::mount::plan::invalid;

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

/// The mount's own maps, or those of the container's user namespace.
pub(crate) fn plan(mount: &Mount, options: &[&str], config: &Config) -> Result<Option<IdMap>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::plan::tests::planned_in;

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
}
