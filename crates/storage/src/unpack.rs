//! An image as a plain directory tree, without mounts.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use hoy_layer::{Entry, Kind};
use hoy_layout::{Image, Store};

use crate::cache::{layers_of, unpack_all};
use crate::directory::TemporaryDirectory;
use crate::{Error, Result};

/// Makes `directory` the root file system of the image that a person calls `image`; it must be empty or not exist.
///
/// Where it does not exist it appears whole.
///
/// Returns how many files could not be given their owner or all their attributes.
///
/// # Errors
/// [`hoy_layout::Error::NoImage`], [`Error::NotEmpty`], and those of [`crate::Cache::unpack`]. A failure removes what was
/// unpacked.
pub fn unpack_image(store: &Store, image: &str, directory: &Path) -> Result<u64> {
    // What is found now is still there when it is unpacked.
    let _lease = store.lease()?;
    let (_, image) = store.image(image)?;
    if directory.symlink_metadata().is_ok() || directory.file_name().is_none() {
        return unpack_into(store, &image, directory);
    }
    let temporary = TemporaryDirectory::create_beside(directory)?;
    let count = unpack_into(store, &image, temporary.path())?;
    if temporary.rename_to(directory)? { Ok(count) } else { Err(Error::NotEmpty(directory.to_owned())) }
}

/// [`unpack_image`] for a caller that holds a lease.
pub(crate) fn unpack_into(store: &Store, image: &Image, directory: &Path) -> Result<u64> {
    let layers = layers_of(image)?;
    hoy_layout::make_directory(directory, 0o755)?;
    let mut entries = std::fs::read_dir(directory).map_err(Error::io("read", directory))?;
    if entries.next().transpose().map_err(Error::io("read", directory))?.is_some() {
        return Err(Error::NotEmpty(directory.to_owned()));
    }
    let root = File::open(directory).map_err(Error::io("open", directory))?;
    set_base(directory, root.as_fd())?;
    Ok(unpack_all(store, &layers, root.as_fd()).inspect_err(|_| empty(directory))?.count)
}

/// Makes a root directory what it is when no layer says otherwise.
pub(crate) fn set_base(path: &Path, root: BorrowedFd<'_>) -> Result<()> {
    let set = hoy_layer::set_directory(root, &Entry::new("", Kind::Directory, 0o755));
    set.map_err(|e| Error::io("prepare", path)(std::io::Error::other(e)))
}

/// Half a root file system is of no use to anybody; what cannot be removed stays where its owner sees it.
fn empty(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => crate::directory::remove_tree(&path).unwrap_or_default(),
            false => std::fs::remove_file(&path).unwrap_or_default(),
        }
    }
}
