//! `--parents`: the directories that lead to a source are made again where it goes.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use hoy_layer::Kind;
use hoy_sys::rustix::fs::fstat;

use crate::destination::Receiver;
use crate::source::{Source, SourceRoot};
use crate::tree::entry_of;
use crate::{Error, Result};

/// Where `/./` cuts a source: what comes before it is not made again, and this many names that are.
pub(crate) fn pivot(text: &str) -> usize {
    let names = |text: &str| {
        let parts = Path::new(text).components();
        parts.filter(|part| matches!(part, Component::Normal(_))).count()
    };
    text.find("/./").map_or(0, |at| names(text.get(..at).unwrap_or_default()))
}

/// Makes the directories that lead to a source, below the directory `target`; returns where it goes.
pub(crate) fn parents(
    root: &SourceRoot,
    source: &Source,
    pivot: usize,
    target: &[u8],
    to: &mut impl Receiver,
) -> Result<Vec<u8>> {
    let normal = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        _ => None,
    };
    let names: Vec<_> = source.path.components().filter_map(normal).collect();
    let mut path = PathBuf::from(if source.path.is_absolute() { "/" } else { "" });
    let mut target = target.to_vec();
    for (at, name) in names.iter().enumerate() {
        path.push(name);
        if at < pivot {
            continue;
        }
        if !target.is_empty() {
            target.push(b'/');
        }
        target.extend(name.as_bytes());
        if at + 1 < names.len() || source.is_directory {
            let directory = root.directory(&path)?;
            let stat = fstat(&directory).map_err(Error::io("look at", &path))?;
            let entry = entry_of(&directory, &stat, &target, Kind::Directory, path.as_os_str().as_bytes())?;
            to.add(entry, &mut std::io::empty())?;
        }
    }
    Ok(target)
}
