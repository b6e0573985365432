//! Writing limits into a group that is there.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hoy_sys::rustix::io::Errno;
use oci_spec::runtime::LinuxResources;

use crate::error::{At, put};
use crate::limits::{Write, unavailable};
use crate::{Error, Hierarchies, Result, delegate, limits, memory};

/// Whether the groups have no controller of version 1.
pub(crate) fn is_unified(directories: &BTreeMap<String, PathBuf>) -> bool {
    directories.keys().all(|controllers| controllers.is_empty() || controllers.starts_with("name="))
}

/// The directory with the files of `controller`.
pub(crate) fn directory<'a>(directories: &'a BTreeMap<String, PathBuf>, controller: &str) -> Option<&'a PathBuf> {
    let v1 = directories.iter().find(|(names, _)| names.split(',').any(|name| name == controller));
    v1.map(|(_, directory)| directory).or_else(|| directories.get("").filter(|_| is_unified(directories)))
}

/// Changes the limits of a container's group to those of `resources`, device rules excepted. Gives warnings.
///
/// # Errors
/// [`Error::Unavailable`] for a limit that cannot be set, or that is below what is in use with `checkBeforeUpdate`.
pub fn update(directories: &BTreeMap<String, PathBuf>, resources: &LinuxResources) -> Result<Vec<String>> {
    let v2 = is_unified(directories);
    let mut writes = limits::plan(resources, v2)?;
    if let Some(memory) = resources.memory() {
        if !v2 && memory.disable_oom_killer() == Some(false) {
            writes.push(limits::write("memory", "memory.oom_control", 0));
        }
        let limit = memory.limit().and_then(|n| u64::try_from(n).ok()).filter(|n| *n != 0);
        if let Some(limit) = limit.filter(|_| memory.check_before_update() == Some(true)) {
            check_usage(directories, limit)?;
        }
    }
    if let Some(group) = directories.get("").filter(|_| v2) {
        let hierarchies = Hierarchies::detect()?;
        if let Some(hierarchy) = hierarchies.v2() {
            delegate::hand_down(&hierarchy.mount, group, &delegate::controllers(&writes))?;
        }
    }
    write_all(directories, &writes)
}

/// Refuses a limit of memory that is below what is in use.
pub(crate) fn check_usage(directories: &BTreeMap<String, PathBuf>, limit: u64) -> Result<()> {
    let file = if is_unified(directories) { "memory.current" } else { "memory.usage_in_bytes" };
    let used = directory(directories, "memory").and_then(|group| number(&group.join(file)));
    match used {
        Some(used) if used > limit => {
            Err(unavailable("memory", &format!("{limit} bytes are less than the {used} in use")))
        }
        _ => Ok(()),
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Writes every limit, in order. Gives warnings.
///
/// The kernel holds files against each other (memory and swap, quota and period and burst): one that is refused is tried
/// again once another has been written, so that limits can be raised and lowered together.
pub(crate) fn write_all(directories: &BTreeMap<String, PathBuf>, writes: &[Write]) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let mut left: Vec<&Write> = writes.iter().collect();
    loop {
        let count = left.len();
        let mut refused = None;
        left.retain(|limit| match write_one(directories, limit) {
            Ok(warning) => {
                warnings.extend(warning);
                false
            }
            Err(error) => {
                refused.get_or_insert(error);
                true
            }
        });
        match refused {
            None => return Ok(warnings),
            Some(error) if left.len() == count || !error.is_invalid() => return Err(error),
            Some(_) => {}
        }
    }
}

fn write_one(directories: &BTreeMap<String, PathBuf>, limit: &Write) -> Result<Option<String>> {
    let Write { controller, file, value } = limit;
    if file == memory::KERNEL {
        let reason = "kernel memory has no limit of its own since Linux 5.16: it counts with the rest";
        return Ok(Some(reason.to_owned()));
    }
    let missing = || unavailable(controller, "the container has no control group with this controller");
    let directory = directory(directories, controller).ok_or_else(missing)?;
    let path = directory.join(file);
    let Err(error) = put(&path, value) else { return Ok(None) };
    match error.kind() {
        // Weights exist only with certain schedulers, and no runtime holds a container back for them.
        ErrorKind::NotFound if file.contains(".bfq.weight") => Ok(None),
        ErrorKind::NotFound if file.contains("weight") => {
            let bfq = directory.join(file.replacen('.', ".bfq.", 1));
            Ok((!bfq.exists()).then(|| format!("this kernel has no \"{file}\": the weight is left out")))
        }
        // A kernel without swap accounting cannot count it, and the memory limit holds without.
        ErrorKind::NotFound if matches!(file.as_str(), "memory.memsw.limit_in_bytes" | "memory.swap.max") => {
            Ok(Some(format!("this kernel has no \"{file}\": the swap limit is left out")))
        }
        ErrorKind::NotFound => Err(unavailable(controller, &format!("there is no \"{}\"", path.display()))),
        ErrorKind::ResourceBusy if file == "memory.limit_in_bytes" => {
            let used = number(&directory.join("memory.usage_in_bytes")).unwrap_or_default();
            Err(unavailable(controller, &format!("{value} bytes are less than the {used} in use")))
        }
        _ => Err(error).at("write", &path),
    }
}

impl Error {
    /// Whether the kernel found a value wrong for now.
    fn is_invalid(&self) -> bool {
        matches!(self, Self::File { source, .. } if Errno::from_io_error(source) == Some(Errno::INVAL))
    }
}
