//! Places that a mount needs and the root file system lacks: they are made for it and must never reach a layer.

use std::fs::File;
use std::path::Path;

use hoy_spec::Mount;
use hoy_sys::path::open_in_root;
use hoy_sys::rustix::fs::{Mode, OFlags};
use hoy_sys::rustix::io::Errno;

use crate::{Error, Result};

/// The destinations of `mounts` that do not exist below `rootfs`; one inside another mount is that mount's affair.
pub(crate) fn missing(rootfs: &Path, mounts: &[Mount]) -> Result<Vec<String>> {
    let root = File::open(rootfs).map_err(Error::io("open", rootfs))?;
    let mut found = Vec::new();
    for mount in mounts {
        let is_inside = |other: &Mount| {
            mount.destination.strip_prefix(other.destination.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        if mounts.iter().any(is_inside) {
            continue;
        }
        match open_in_root(&root, &mount.destination, OFlags::PATH, Mode::empty()) {
            Ok(_) => {}
            Err(error) if error.errno == Errno::NOENT => found.push(mount.destination.clone()),
            Err(error) => return Err(Error::io("look up", Path::new(&mount.destination))(std::io::Error::from(error))),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::os::unix::fs::symlink("/dev", root.path().join("link")).unwrap();
        let mounts = ["/dev", "/dev/pts", "/proc", "/link", "/proc2", "/a/b"]
            .map(|place| Mount { destination: place.to_owned(), ..Mount::default() });
        assert_eq!(missing(root.path(), &mounts).unwrap(), ["/proc", "/proc2", "/a/b"]);
    }
}
