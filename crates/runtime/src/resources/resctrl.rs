//! Shares of cache and memory bandwidth: `linux.intelRdt`, by the kernel's resctrl file system (config-linux.md "IntelRdt").
//!
//! A group of the container's own has its id as its name, so what there is to remove is known from its configuration.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hoy_sys::rustix::fs::{FsWord, statfs};
use oci_spec::runtime::LinuxIntelRdt;

use crate::error::Doing;
use crate::{Error, Result};

const MOUNT_POINT: &str = "/sys/fs/resctrl";

/// What is done, decided; paths are below the file system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    group: PathBuf,
    /// The group is the container's own: it is new, and goes with it.
    is_own: bool,
    /// The group was made by somebody else if nothing is written to it.
    schemata: Vec<String>,
    /// How many of the lines must be so already in a group that is there.
    compared: usize,
    monitor: Option<PathBuf>,
}

/// Decides what `rdt` means for the container `id`.
///
/// # Errors
/// [`Error::Invalid`] naming the field.
pub(crate) fn plan(rdt: &LinuxIntelRdt, id: &str) -> Result<Plan> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let clos = given(rdt.clos_id());
    let is_none = |name: &&str| name.contains('/') || matches!(*name, "." | ".." | "info" | "mon_groups" | "mon_data");
    if let Some(name) = clos.as_deref().filter(|name| *name != "/").filter(is_none) {
        return Err(Error::Invalid(format!("linux.intelRdt.closID \"{name}\" is no name of a group")));
    }
    let mut schemata = Vec::new();
    for (field, prefix, line) in
        [("l3CacheSchema", "L3", rdt.l3_cache_schema()), ("memBwSchema", "MB:", rdt.mem_bw_schema())]
    {
        let Some(line) = given(line) else { continue };
        if !line.starts_with(prefix) {
            return Err(Error::Invalid(format!("linux.intelRdt.{field} \"{line}\" does not begin with \"{prefix}\"")));
        }
        schemata.push(line);
    }
    let compared = schemata.len();
    schemata.extend(rdt.schemata().clone().unwrap_or_default());
    if let Some(line) = schemata.iter().find(|line| line.contains('\n')) {
        return Err(Error::Invalid(format!("linux.intelRdt has {line:?}, which is more than a line")));
    }
    let is_own = clos.is_none();
    let group = match clos {
        Some(name) if name == "/" => PathBuf::new(),
        Some(name) => PathBuf::from(name),
        None => PathBuf::from(id),
    };
    let monitor = rdt.enable_monitoring().unwrap_or(false).then(|| group.join("mon_groups").join(id));
    Ok(Plan { group, is_own, schemata, compared, monitor })
}

/// Where the file system is mounted.
///
/// # Errors
/// [`Error::Invalid`] naming the field when it is not.
pub(crate) fn root() -> Result<PathBuf> {
    /// RDTGROUP_SUPER_MAGIC
    const MAGIC: FsWord = 0x0765_5821;
    if statfs(MOUNT_POINT).is_ok_and(|found| found.f_type == MAGIC) {
        return Ok(PathBuf::from(MOUNT_POINT));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").doing(|| "read \"/proc/self/mountinfo\"")?;
    let mounted = mounts.lines().find(|line| line.contains(" - resctrl ")).and_then(|line| line.split(' ').nth(4));
    mounted.map(PathBuf::from).ok_or_else(|| {
        let reason = "no resctrl file system is mounted, perhaps for want of a processor that has it";
        Error::Invalid(format!("linux.intelRdt: {reason}: mount one on \"{MOUNT_POINT}\""))
    })
}

/// Directories just made, removed again unless they are kept.
#[derive(Debug, Default)]
pub(crate) struct Made(Vec<PathBuf>);

impl Made {
    /// Leaves them to [`delete`].
    pub(crate) fn keep(mut self) {
        self.0.clear();
    }

    fn directory(&mut self, path: &Path) -> Result<()> {
        fs::create_dir(path).doing(|| format!("make linux.intelRdt group \"{}\"", path.display()))?;
        self.0.push(path.to_owned());
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // What went wrong is told already.
            fs::remove_dir(path).unwrap_or_default();
        }
    }
}

/// Makes or finds the groups in the file system at `root`, and moves process `pid` to them.
pub(crate) fn apply(root: &Path, plan: &Plan, pid: i32) -> Result<Made> {
    let group = root.join(&plan.group);
    let mut made = Made::default();
    let is_there = group.is_dir();
    if !is_there && !plan.is_own && plan.schemata.is_empty() {
        let reason = "there is no such group, and no schema to make one with";
        return Err(Error::Invalid(format!("linux.intelRdt.closID \"{}\": {reason}", plan.group.display())));
    }
    if is_there && !plan.is_own {
        compare(&group, plan)?;
    } else {
        made.directory(&group)?;
        if !plan.is_own {
            // It is for others as well, from now on.
            made.0.clear();
        }
    }
    let to_write = if is_there { plan.schemata.get(plan.compared..) } else { plan.schemata.get(..) };
    if let Some(lines) = to_write.filter(|lines| !lines.is_empty()) {
        write(root, &group.join("schemata"), &format!("{}\n", lines.join("\n")))?;
    }
    write(root, &group.join("tasks"), &pid.to_string())?;
    if let Some(monitor) = plan.monitor.as_ref().map(|monitor| root.join(monitor)) {
        made.directory(&monitor)?;
        write(root, &monitor.join("tasks"), &pid.to_string())?;
    }
    Ok(made)
}

/// Moves another process of the container to its groups.
pub(crate) fn join(root: &Path, plan: &Plan, pid: i32) -> Result<()> {
    let groups = std::iter::once(&plan.group).chain(&plan.monitor);
    groups.map(|group| root.join(group).join("tasks")).try_for_each(|tasks| write(root, &tasks, &pid.to_string()))
}

/// Removes what was made for the container `id`; what has gone, or the whole file system, is no failure.
pub(crate) fn delete(rdt: &LinuxIntelRdt, id: &str) -> Result<()> {
    root().map_or(Ok(()), |root| remove(&root, &plan(rdt, id)?))
}

fn remove(root: &Path, plan: &Plan) -> Result<()> {
    // The monitoring group goes with a group of the container's own.
    let directory = if plan.is_own { Some(&plan.group) } else { plan.monitor.as_ref() };
    let Some(path) = directory.map(|directory| root.join(directory)) else { return Ok(()) };
    match fs::remove_dir(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.doing(|| format!("remove linux.intelRdt group \"{}\"", path.display())),
    }
}

fn write(root: &Path, path: &Path, text: &str) -> Result<()> {
    let Err(error) = fs::write(path, text) else { return Ok(()) };
    let said = fs::read_to_string(root.join("info/last_cmd_status")).unwrap_or_default();
    Err(error).doing(|| format!("set linux.intelRdt: write {text:?} to \"{}\" ({})", path.display(), said.trim()))
}

/// Others are in that group too: its shares are theirs, and must be what the configuration says.
fn compare(group: &Path, plan: &Plan) -> Result<()> {
    let path = group.join("schemata");
    let wanted = plan.schemata.get(..plan.compared).unwrap_or_default();
    if wanted.is_empty() {
        return Ok(());
    }
    let there = fs::read_to_string(&path).doing(|| format!("read \"{}\"", path.display()))?;
    let has = |wanted: &String| {
        let (name, shares) = shares(wanted);
        there.lines().map(self::shares).any(|(other, has)| other == name && shares.iter().all(|s| has.contains(s)))
    };
    match wanted.iter().find(|line| !has(line)) {
        Some(line) => {
            let name = plan.group.display();
            Err(Error::Invalid(format!("linux.intelRdt: group \"{name}\" is there and does not have \"{line}\"")))
        }
        None => Ok(()),
    }
}

/// The resource that a line is about, and the share of each cache, without the zeros that the kernel pads with.
fn shares(line: &str) -> (&str, Vec<(&str, String)>) {
    let (name, shares) = line.split_once(':').unwrap_or((line, ""));
    let bare = |text: &str| text.trim().trim_start_matches('0').to_ascii_lowercase();
    let shares = shares.split(';').filter_map(|share| share.split_once('=')).map(|(id, n)| (id.trim(), bare(n)));
    (name.trim(), shares.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<Plan> {
        plan(&serde_json::from_str(json).unwrap(), "c1")
    }

    #[test]
    fn what_is_meant() {
        let own = planned(r#"{"memBwSchema":"MB:0=20","l3CacheSchema":"L3:0=f","schemata":["L2:0=f"]}"#).unwrap();
        assert_eq!((own.group.as_path(), own.is_own, own.compared), (Path::new("c1"), true, 2));
        assert_eq!(own.schemata, ["L3:0=f", "MB:0=20", "L2:0=f"]);
        let top = planned(r#"{"closID":"/","enableMonitoring":true}"#).unwrap();
        assert_eq!((top.group, top.monitor), (PathBuf::new(), Some("mon_groups/c1".into())));
        for (bad, word) in [
            (r#"{"closID":"a/b"}"#, "closID"),
            (r#"{"closID":".."}"#, "closID"),
            (r#"{"memBwSchema":"L3:0=1"}"#, "memBwSchema"),
            (r#"{"schemata":["L3:0=1\nMB:0=1"]}"#, "more than a line"),
        ] {
            assert!(planned(bad).unwrap_err().to_string().contains(word), "{bad}");
        }
    }

    #[test]
    fn a_group_of_its_own_comes_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let plan = planned(r#"{"l3CacheSchema":"L3:0=f"}"#).unwrap();
        apply(root.path(), &plan, 42).unwrap().keep();
        let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
        assert_eq!((read("c1/schemata").as_str(), read("c1/tasks").as_str()), ("L3:0=f\n", "42"));
        join(root.path(), &plan, 43).unwrap();
        assert_eq!(read("c1/tasks"), "43");
        assert!(apply(root.path(), &plan, 42).is_err(), "somebody else's group is not taken");
        // A real group goes with its files.
        for name in ["c1/schemata", "c1/tasks"] {
            fs::remove_file(root.path().join(name)).unwrap();
        }
        remove(root.path(), &plan).unwrap();
        remove(root.path(), &plan).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_named_group_is_shared() {
        let root = tempfile::tempdir().unwrap();
        let missing = planned(r#"{"closID":"g"}"#).unwrap();
        assert!(apply(root.path(), &missing, 1).unwrap_err().to_string().contains("no such group"));
        let plan = planned(r#"{"closID":"g","memBwSchema":"MB:0=20;1=70"}"#).unwrap();
        apply(root.path(), &plan, 1).unwrap();
        assert!(root.path().join("g/tasks").exists(), "it stays when it is not kept");
        fs::write(root.path().join("g/schemata"), "    L3:0=0f\n    MB:0= 20;1=070\n").unwrap();
        apply(root.path(), &plan, 2).unwrap().keep();
        let other = planned(r#"{"closID":"g","memBwSchema":"MB:0=30"}"#).unwrap();
        assert!(apply(root.path(), &other, 2).unwrap_err().to_string().contains("MB:0=30"));
        remove(root.path(), &plan).unwrap();
        assert!(root.path().join("g").is_dir());
    }

    #[test]
    fn monitoring_has_a_group_of_the_container() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("mon_groups")).unwrap();
        let plan = planned(r#"{"closID":"/","enableMonitoring":true}"#).unwrap();
        let made = apply(root.path(), &plan, 7).unwrap();
        let tasks = root.path().join("mon_groups/c1/tasks");
        assert_eq!(fs::read_to_string(&tasks).unwrap(), "7");
        fs::remove_file(tasks).unwrap();
        drop(made);
        assert!(!root.path().join("mon_groups/c1").exists());
    }
}
