//! Two directory trees that should be the same.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use hoy_sys::rustix::fs::{lgetxattr, llistxattr};
use hoy_sys::rustix::io::Errno;

use crate::{Error, Result};

/// Attributes that overlayfs keeps for itself; they say where a file was copied from.
const NOT_COMPARED: [&[u8]; 4] = [b"overlay.origin", b"overlay.impure", b"overlay.nlink", b"overlay.uuid"];

const MISSING: &str = "is missing";
const ADDED: &str = "is not in the layer";
const ANOTHER_TIME: &str = "has another time";

/// How `actual` differs from `expected`: paths within them, sorted, and what is wrong.
///
/// The times of the root directories count only where the layer says what it is like.
///
/// # Errors
/// [`Error::Io`] when a tree cannot be read.
pub(crate) fn differences(expected: &Path, actual: &Path, has_root_entry: bool) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let (one, other) = (at(expected, &path), at(actual, &path));
        let (wanted, is) = (look(&one)?, look(&other)?);
        let (Some(wanted), Some(is)) = (wanted, is) else {
            found.push((path, MISSING.to_owned()));
            continue;
        };
        let with_time = has_root_entry || !path.as_os_str().is_empty();
        if let Some(what) = difference((&one, &wanted), (&other, &is), with_time)? {
            found.push((path.clone(), what));
        }
        if wanted.is_dir() && is.is_dir() {
            let (names, there) = (names(&one)?, names(&other)?);
            found.extend(there.difference(&names).map(|name| (path.join(name), ADDED.to_owned())));
            waiting.extend(names.iter().map(|name| path.join(name)));
        }
    }
    // A name more or less is what changed the directory's time.
    let changed: BTreeSet<PathBuf> = found
        .iter()
        .filter(|(_, what)| is_name(what))
        .filter_map(|(path, _)| path.parent().map(Path::to_owned))
        .collect();
    found.retain(|(path, what)| what != ANOTHER_TIME || !changed.contains(path));
    found.sort();
    Ok(found)
}

fn is_name(what: &str) -> bool {
    what == MISSING || what == ADDED
}

fn at(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

fn look(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(Error::io("look at", path)),
    }
}

fn names(path: &Path) -> Result<BTreeSet<OsString>> {
    let entries = std::fs::read_dir(path).map_err(Error::io("read", path))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    names.collect::<std::io::Result<_>>().map_err(Error::io("read", path))
}

fn difference(
    (one, wanted): (&Path, &Metadata),
    (other, is): (&Path, &Metadata),
    with_time: bool,
) -> Result<Option<String>> {
    let differs = |what: &str| Ok(Some(format!("has another {what}")));
    if wanted.mode() & 0o170_000 != is.mode() & 0o170_000 {
        return differs("type");
    }
    // A whiteout says nothing but that it is there; overlayfs gives one many names.
    if wanted.file_type().is_char_device() && (wanted.rdev(), is.rdev()) == (0, 0) {
        return Ok(None);
    }
    if wanted.mode() != is.mode() {
        return Ok(Some(format!("has mode {:o}, not {:o}", is.mode() & 0o7777, wanted.mode() & 0o7777)));
    }
    if (wanted.uid(), wanted.gid()) != (is.uid(), is.gid()) {
        let (uid, gid) = (is.uid(), is.gid());
        return Ok(Some(format!("belongs to {uid}:{gid}, not to {}:{}", wanted.uid(), wanted.gid())));
    }
    if !wanted.is_dir() && wanted.len() != is.len() {
        return Ok(Some(format!("has {} bytes, not {}", is.len(), wanted.len())));
    }
    if wanted.rdev() != is.rdev() || wanted.is_file() && wanted.nlink() != is.nlink() {
        return differs("device number or number of links");
    }
    if with_time && (wanted.mtime(), wanted.mtime_nsec()) != (is.mtime(), is.mtime_nsec()) {
        return Ok(Some(ANOTHER_TIME.to_owned()));
    }
    if wanted.is_symlink() && std::fs::read_link(one).ok() != std::fs::read_link(other).ok() {
        return differs("target");
    }
    if wanted.is_file() && !same_bytes(one, other)? {
        return differs("content");
    }
    match attributes(one)? == attributes(other)? {
        true => Ok(None),
        false => differs("extended attribute"),
    }
}

fn same_bytes(one: &Path, other: &Path) -> Result<bool> {
    let open = |path: &Path| File::open(path).map_err(Error::io("open", path));
    let (mut first, mut second) = (open(one)?, open(other)?);
    let (mut left, mut right) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    loop {
        let count = first.read(&mut left).map_err(Error::io("read", one))?;
        let right = right.get_mut(..count).unwrap_or_default();
        second.read_exact(right).map_err(Error::io("read", other))?;
        if left.get(..count) != Some(&*right) {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn attributes(path: &Path) -> Result<BTreeSet<(Vec<u8>, Vec<u8>)>> {
    let size = match llistxattr(path, &mut [0_u8; 0]) {
        Ok(size) => size,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(Error::io("look at", path)(errno)),
    };
    let mut list = vec![0_u8; size];
    let size = if size > 0 { llistxattr(path, &mut list).map_err(Error::io("look at", path))? } else { 0 };
    let all = list.get(..size).unwrap_or_default().split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut found = BTreeSet::new();
    for name in all.filter(|name| !NOT_COMPARED.iter().any(|own| name.ends_with(own))) {
        let mut value = vec![0_u8; 64 << 10];
        let size = lgetxattr(path, OsStr::from_bytes(name), &mut value).map_err(Error::io("look at", path))?;
        value.truncate(size);
        found.insert((name.to_vec(), value));
    }
    Ok(found)
}
