//! Where in a container's groups another process of it goes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::apply::is_unified;
use crate::error::At;
use crate::{Error, Hierarchies, Result};

/// The groups for another process: those of the container, or groups below as `below` names them, each a path or
/// `CONTROLLER[,CONTROLLER]:PATH`.
///
/// On version 2 a group that hands controllers down can have no processes: with nothing in `below` the process then goes
/// where the container's first process `first` is.
///
/// # Errors
/// [`Error::Below`] for a path that leads out or a controller that is not there; [`Error::File`] for a group that is not.
pub fn place(
    directories: &BTreeMap<String, PathBuf>,
    below: &[String],
    first: i32,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut out = directories.clone();
    if below.is_empty() {
        if let Some(group) = out.get_mut("").filter(|_| is_unified(directories)) {
            let path = group.join("cgroup.subtree_control");
            if fs::read_to_string(&path).is_ok_and(|text| !text.trim().is_empty()) {
                *group = own_group(first, group)?;
            }
        }
        return Ok(out);
    }
    for text in below {
        let (controllers, path) = text.split_once(':').map_or((None, text.as_str()), |(c, path)| (Some(c), path));
        for name in controllers.unwrap_or_default().split(',') {
            let matches = |names: &String| match controllers {
                None => true,
                Some(_) => names.split(',').any(|part| part == name || part.strip_prefix("name=") == Some(name)),
            };
            let mut found = false;
            for (_, group) in out.iter_mut().filter(|(names, _)| matches(names)) {
                *group = join(group, path)?;
                found = true;
            }
            if !found {
                let text = format!("unknown controller \"{name}\": the container has no control group with it");
                return Err(Error::Below(text));
            }
        }
    }
    Ok(out)
}

fn join(group: &Path, path: &str) -> Result<PathBuf> {
    let mut out = group.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::Below(format!("bad sub cgroup path \"{path}\": it is not in the control group")));
            }
        }
    }
    fs::metadata(&out).at("look, before adding pid to cgroup, at", &out)?;
    Ok(out)
}

/// The group of version 2 of the process `pid`, which is `group` or below it.
fn own_group(pid: i32, group: &Path) -> Result<PathBuf> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = fs::read_to_string(&path).at("read", &path)?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let hierarchies = Hierarchies::detect()?;
    let directory = hierarchies.v2().map(|v2| v2.directory(Path::new(own)));
    Ok(directory.filter(|directory| directory.starts_with(group)).unwrap_or_else(|| group.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_below() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for path in ["cpu/a", "memory/a/b", "systemd"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        let of = |name: &str, path: &str| (name.to_owned(), at(path));
        let groups = BTreeMap::from([of("cpu,cpuacct", "cpu"), of("memory", "memory"), of("name=systemd", "systemd")]);
        let go = |below: &[&str]| {
            let below: Vec<String> = below.iter().map(|text| (*text).to_owned()).collect();
            place(&groups, &below, 1)
        };
        assert_eq!(go(&[]).unwrap(), groups);
        assert_eq!(go(&["/"]).unwrap(), groups);
        let want =
            BTreeMap::from([of("cpu,cpuacct", "cpu/a"), of("memory", "memory/a/b"), of("name=systemd", "systemd")]);
        assert_eq!(go(&["cpu:a", "memory:/a/./b"]).unwrap(), want);
        assert_eq!(go(&["systemd,cpuacct:/", "memory:a/b", "cpu:a"]).unwrap(), want);
        for (below, text) in [
            ("cpu:../x", "bad sub cgroup path \"../x\": it is not in the control group"),
            ("nosuch:a", "unknown controller \"nosuch\": the container has no control group with it"),
            ("cpu:b", &format!("look, before adding pid to cgroup, at \"{}\"", at("cpu/b").display())),
        ] {
            assert_eq!(go(&[below]).unwrap_err().to_string(), text);
        }
    }
}
