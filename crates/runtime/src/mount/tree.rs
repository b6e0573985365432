//! Detached mount trees, and the walk under the root that follows descriptors only.
//!
//! Nothing here opens a path of the container twice: a target is resolved once, by openat2 inside the root, and
//! everything after that goes through its descriptor.

use std::ffi::{CStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use hoy_sys::mount::{MountAttr, mount_setattr};
use hoy_sys::path::{open_beneath, open_in_root};
use hoy_sys::rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::Result;
use crate::error::Doing;

/// Opens a detached copy of the mount at `path`, a path of the caller's own file system.
pub(crate) fn copy_of_path(path: &Path, recursive: bool) -> std::io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, clone_flags(recursive))?)
}

/// The same, of a symlink itself when `path` is one.
pub(crate) fn copy_of_link(path: &Path, recursive: bool) -> std::io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, clone_flags(recursive) | OpenTreeFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// Opens a detached copy of what `fd` is open on.
pub(crate) fn copy_of(fd: BorrowedFd<'_>, recursive: bool) -> std::io::Result<OwnedFd> {
    Ok(open_tree(fd, "", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)?)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let base = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { base | OpenTreeFlags::AT_RECURSIVE } else { base }
}

/// Puts the detached tree `tree` onto `target`, a directory or file of this mount namespace.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> std::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", target, "", flags)?)
}

/// Changes attributes of a mount; nothing to change is no call.
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, recursive: bool, attr: MountAttr) -> std::io::Result<()> {
    if attr == MountAttr::default() {
        return Ok(());
    }
    match mount_setattr(mount, recursive, attr, None) {
        // What a more privileged namespace has locked cannot be cleared, and stays: mount_namespaces(7).
        Err(error) if error.errno == Errno::PERM && attr.clear & !attr.set != 0 => {
            let keep = MountAttr { clear: attr.clear & hoy_sys::mount::attr::ATIME, ..attr };
            let keep = if keep.set & hoy_sys::mount::attr::ATIME == 0 { MountAttr { clear: 0, ..keep } } else { keep };
            if keep == MountAttr::default() { Ok(()) } else { Ok(mount_setattr(mount, recursive, keep, None)?) }
        }
        other => Ok(other?),
    }
}

/// The container's root, as a descriptor.
pub(crate) struct Root<'a>(pub(crate) BorrowedFd<'a>);

impl Root<'_> {
    /// Opens `path` inside the root, following symlinks inside it; `None` when it is not there.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<OwnedFd>> {
        match open_in_root(self.0, path, OFlags::PATH, Mode::empty()) {
            Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
            other => other.map(Some).doing(|| format!("open \"{}\" in the container", path.display())),
        }
    }

    /// Opens the directory `path`, without any symlink on the way.
    pub(crate) fn plain_directory(&self, path: &Path) -> Result<OwnedFd> {
        let inner = clean(path);
        if inner.as_os_str().is_empty() {
            return self.directory(path);
        }
        match open_beneath(self.0, &inner, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(error) if error.errno == Errno::NOENT => self.directory(path),
            other => other.doing(|| format!("open \"{}\" in the container, a plain directory", path.display())),
        }
    }

    /// Opens the directory `path`, making what is missing.
    pub(crate) fn directory(&self, path: &Path) -> Result<OwnedFd> {
        let inner = clean(path);
        let doing = || format!("make directory \"{}\" in the container", path.display());
        let open = |p: &Path| open_in_root(self.0, p, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        if inner.as_os_str().is_empty() {
            return self.0.try_clone_to_owned().doing(doing);
        }
        match open(&inner) {
            Err(error) if error.errno == Errno::NOENT => {}
            other => return other.doing(doing),
        }
        let mut parent = self.0.try_clone_to_owned().doing(doing)?;
        for name in &self.resolve(&inner)? {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let step = |parent: &OwnedFd| open_beneath(parent, Path::new(name), flags, Mode::empty());
            parent = match step(&parent) {
                Err(error) if error.errno == Errno::NOENT => {
                    match fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                        Err(Errno::EXIST) => {}
                        other => other.doing(doing)?,
                    }
                    step(&parent).doing(doing)?
                }
                other => other.doing(doing)?,
            };
        }
        Ok(parent)
    }

    /// Where `path` leads inside the root when symlinks are followed there, also through names that do not exist:
    /// images have links to what only a running system makes, `/etc/resolv.conf` for one.
    ///
    /// The answer has no symlink in it; who uses it refuses any that appeared since.
    fn resolve(&self, path: &Path) -> Result<PathBuf> {
        let doing = || format!("follow \"{}\" in the container", path.display());
        let mut links = 0;
        let mut done = PathBuf::new();
        let mut rest = parts(path);
        while let Some(name) = rest.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            done.push(&name);
            let found = open_beneath(self.0, &done, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
            let Ok(found) = found else { continue };
            let stat = fs::fstat(&found).doing(doing)?;
            if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
                continue;
            }
            links += 1;
            if links > 40 {
                return Err(Errno::LOOP).doing(doing);
            }
            let target = fs::readlinkat(&found, "", Vec::new()).doing(doing)?;
            let target = PathBuf::from(std::ffi::OsStr::from_bytes(target.as_bytes()));
            if target.is_absolute() {
                done = PathBuf::new();
            } else {
                done.pop();
            }
            rest.extend(parts(&target));
        }
        Ok(done)
    }

    /// Opens the file `path`, making it, empty, and the directories above when they are missing.
    pub(crate) fn file(&self, path: &Path) -> Result<OwnedFd> {
        if let Some(found) = self.find(path)? {
            return Ok(found);
        }
        let doing = || format!("make file \"{}\" in the container", path.display());
        let (parent, name) = self.parent(&self.resolve(&clean(path))?)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        fs::openat(&parent, &name, flags, Mode::from_raw_mode(0o644)).doing(doing)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        open_beneath(&parent, Path::new(&name), flags, Mode::empty()).doing(doing)
    }

    /// Opens `path`, which must be there, and when it is a symlink the link itself.
    pub(crate) fn link(&self, path: &Path) -> Result<OwnedFd> {
        let (parent, name) = self.parent(path)?;
        open_beneath(parent, name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
            .doing(|| format!("open \"{}\" in the container", path.display()))
    }

    /// Makes the symlink `path` to `target`; the same link being there is no failure.
    pub(crate) fn make_link(&self, path: &Path, target: &CStr) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let is_there = |errno| {
            let same = fs::readlinkat(&parent, &name, Vec::new()).is_ok_and(|there| there.as_c_str() == target);
            if errno == Errno::EXIST && same { Ok(()) } else { Err(errno) }
        };
        fs::symlinkat(target, &parent, &name)
            .or_else(is_there)
            .doing(|| format!("make the symlink \"{}\" in the container", path.display()))
    }

    /// Opens the directory that `path` is in, making it when it is missing, and gives the name in it.
    pub(crate) fn parent(&self, path: &Path) -> Result<(OwnedFd, PathBuf)> {
        let inner = clean(path);
        let name = inner.file_name().map(PathBuf::from).unwrap_or_else(|| PathBuf::from("."));
        let parent = self.directory(inner.parent().unwrap_or(Path::new("")))?;
        Ok((parent, name))
    }
}

/// Whether `fd` is open on a directory.
pub(crate) fn is_directory(fd: impl AsFd) -> std::io::Result<bool> {
    let stat = fs::fstat(fd)?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// Whether the character device `fd` is open on has this number.
pub(crate) fn is_character_device(fd: impl AsFd, major: u32, minor: u32) -> bool {
    fs::fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == fs::makedev(major, minor)
    })
}

/// Removes the non-directory `name` in `dir`; one that is not there is no failure.
pub(crate) fn unlink(dir: impl AsFd, name: &Path) -> std::result::Result<(), Errno> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// The names in `path`, the last one first; `..` is one.
fn parts(path: &Path) -> Vec<OsString> {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    names.map(|part| part.as_os_str().to_owned()).rev().collect()
}

/// `path` as it is below a root: relative, without `.` and `..`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut inner = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inner.push(name),
            Component::ParentDir => {
                inner.pop();
            }
            _ => {}
        }
    }
    inner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_a_root() {
        for (path, want) in [("/a/./b/../c", "a/c"), ("../../x", "x"), ("/", ""), ("a//b/", "a/b")] {
            assert_eq!(clean(Path::new(path)), Path::new(want), "{path}");
        }
    }

    #[test]
    fn making_stays_inside() {
        let temporary = tempfile::tempdir().unwrap();
        let outside = temporary.path().join("outside");
        let inside = temporary.path().join("root");
        std::fs::create_dir(&outside).unwrap();
        std::fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("abs")).unwrap();
        std::os::unix::fs::symlink("../outside", inside.join("rel")).unwrap();
        let dir = std::fs::File::open(&inside).unwrap();
        let root = Root(dir.as_fd());
        // A symlink is taken as from the root, and what it names is made there.
        root.directory(Path::new("abs/x")).unwrap();
        root.file(Path::new("rel/y/f")).unwrap();
        let inner = inside.join(outside.strip_prefix("/").unwrap());
        assert!(inner.join("x").is_dir() && inside.join("outside/y/f").is_file());
        std::os::unix::fs::symlink("loop", inside.join("loop")).unwrap();
        assert!(root.directory(Path::new("loop/x")).is_err());
        std::os::unix::fs::symlink("/run/resolv.conf", inside.join("resolv.conf")).unwrap();
        root.file(Path::new("/resolv.conf")).unwrap();
        assert!(inside.join("run/resolv.conf").is_file());
        root.directory(Path::new("/p/q/r")).unwrap();
        root.file(Path::new("/p/f")).unwrap();
        assert!(inside.join("p/q/r").is_dir() && inside.join("p/f").is_file());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert!(root.plain_directory(Path::new("/abs")).is_err());
        assert!(root.find(Path::new("none")).unwrap().is_none());
    }
}
