//! What hierarchies are mounted (cgroups(7), /proc/self/cgroup, /proc/self/mountinfo).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::error::At;

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// The controllers it is mounted with, as in /proc/self/cgroup; empty for v2, `name=x` for one without any.
    pub controllers: String,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The group that is seen at the mount point.
    pub root: PathBuf,
    /// The group of this process.
    pub own: PathBuf,
}

impl Hierarchy {
    /// Whether it is the one of version 2.
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    /// The name people give its mount point: `cpu,cpuacct`, `systemd`, `unified`.
    pub fn name(&self) -> &str {
        if self.is_v2() { "unified" } else { self.controllers.strip_prefix("name=").unwrap_or(&self.controllers) }
    }

    /// The directory of the group `path`: absolute from the root of the hierarchy, relative from this process's group.
    pub fn directory(&self, path: &Path) -> PathBuf {
        let full = if path.is_absolute() { path.to_owned() } else { self.own.join(path) };
        // What is seen at the mount point may be a group itself, in a container without a cgroup namespace.
        let below = full.strip_prefix(&self.root).unwrap_or(&full);
        self.mount.join(below.strip_prefix("/").unwrap_or(below))
    }
}

/// Every mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hierarchies(Vec<Hierarchy>);

impl Hierarchies {
    /// Looks at what is mounted now.
    ///
    /// # Errors
    /// Those of reading /proc.
    pub fn detect() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).at("read", Path::new(path));
        Ok(Self::parse(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?))
    }

    /// Finds the hierarchies in the text of the two files.
    pub fn parse(cgroup: &str, mountinfo: &str) -> Self {
        let own: BTreeMap<&str, &str> =
            cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
        let mut found: Vec<Hierarchy> = Vec::new();
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            let mut fields = mount.split(' ').skip(3);
            let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
            let mut filesystem = filesystem.split(' ');
            let (kind, options) = (filesystem.next().unwrap_or_default(), filesystem.nth(1).unwrap_or_default());
            let controllers = match kind {
                "cgroup2" => Some(""),
                "cgroup" => own.keys().copied().find(|names| !names.is_empty() && mounted_with(options, names)),
                _ => None,
            };
            let Some(controllers) = controllers else { continue };
            let hierarchy = Hierarchy {
                controllers: controllers.to_owned(),
                mount: unescape(point).into(),
                root: unescape(root).into(),
                own: own.get(controllers).copied().unwrap_or("/").into(),
            };
            // The first mount counts, as it does for the C library and systemd; a later one is a bind somewhere.
            if !found.iter().any(|known| known.controllers == controllers) {
                found.push(hierarchy);
            }
        }
        Self(found)
    }

    /// The one of version 2, if it is mounted.
    pub fn v2(&self) -> Option<&Hierarchy> {
        self.0.iter().find(|h| h.is_v2())
    }

    /// The one of version 1 with `controller`.
    pub fn v1(&self, controller: &str) -> Option<&Hierarchy> {
        self.0.iter().find(|h| h.controllers.split(',').any(|name| name == controller))
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Hierarchy> {
        self.0.iter()
    }

    /// Whether no controller is on version 1.
    pub fn is_unified(&self) -> bool {
        self.0.iter().all(|h| h.is_v2() || h.controllers.starts_with("name="))
    }
}

fn mounted_with(options: &str, controllers: &str) -> bool {
    controllers.split(',').all(|name| options.split(',').any(|option| option == name))
}

/// mountinfo writes a space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 20 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/systemd rw shared:1 - cgroup cgroup rw,name=systemd
28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
29 25 0:23 /x /mnt/bind rw - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn hybrid() {
        let found = Hierarchies::parse("3:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c\n", HYBRID);
        let names: Vec<_> = found.iter().map(Hierarchy::name).collect();
        assert_eq!(names, ["cpu,cpuacct", "systemd", "unified"]);
        assert!(!found.is_unified());
        let cpu = found.v1("cpuacct").unwrap();
        assert_eq!(cpu.directory(Path::new("/hoy/x")), Path::new("/sys/fs/cgroup/cpu,cpuacct/hoy/x"));
        assert_eq!(cpu.directory(Path::new("x")), Path::new("/sys/fs/cgroup/cpu,cpuacct/a/x"));
        assert!(found.v1("memory").is_none());
    }

    #[test]
    fn unified_inside_a_container() {
        let found = Hierarchies::parse("0::/pod/c\n", "1 0 0:1 /pod/c /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
        assert!(found.is_unified());
        assert_eq!(found.v2().unwrap().directory(Path::new("x")), Path::new("/sys/fs/cgroup/x"));
    }
}
