//! Read-only mounts of images, without a container: `RUNROOT/images/<manifest>/rootfs`.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use hoy_layer::OverlayXattrs;
use hoy_layout::{Image, Lock, Store, write_volatile_file};
use hoy_oci::Digest;
use hoy_sys::words;
use serde::{Deserialize, Serialize};

use crate::container::make_directory;
use crate::directory::remove_whole;
use crate::mounts::unmount_all;
use crate::overlay::{MAX_LAYERS, MOUNT_OVERLAY, Overlay, each_once, is_mount_point, why_impossible};
use crate::unpack::unpack_into;
use crate::{Cache, Error, Result};

const RECORD: &str = "image.json";

/// A mounted image: the file `RUNROOT/images/<manifest>/image.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountedImage {
    /// Its full name when it was mounted; its digest when it had none.
    pub name: String,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Names of directories below `ROOT/layers`, lowest first.
    layers: Vec<String>,
    /// Why it is a copy and no mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied: Option<String>,
}

fn place(store: &Store, manifest: &Digest) -> PathBuf {
    store.runroot().join("images").join(manifest.hex())
}

fn lock(store: &Store, manifest: &Digest) -> Result<Lock> {
    let locks = store.runroot().join("locks");
    make_directory(&locks, 0o700)?;
    Ok(Lock::exclusive(&locks.join(format!("image-{}", manifest.hex())))?)
}

impl MountedImage {
    /// Where its root file system is.
    pub fn path(&self, store: &Store) -> PathBuf {
        place(store, &self.manifest).join("rootfs")
    }

    /// Names of directories below `ROOT/layers` that its mount shows.
    pub(crate) fn layers(&self) -> &[String] {
        &self.layers
    }

    fn is_there(&self, store: &Store) -> bool {
        self.copied.is_some() || is_mount_point(&self.path(store)).unwrap_or(false)
    }
}

/// Mounts the image that a person calls `text`, read-only, unless it is mounted, and says where.
///
/// Where no overlay can be mounted it is a copy: [`MountedImage::copied`].
///
/// # Errors
/// Those of [`Cache::unpack`], and of mounting.
pub fn mount_image(store: &Store, xattrs: OverlayXattrs, text: &str) -> Result<MountedImage> {
    let _lease = store.lease()?;
    let (named, image) = store.image(text)?;
    store.layout().touch(&named.descriptor.digest);
    let manifest = image.descriptor.digest;
    let _lock = lock(store, &manifest)?;
    if let Some(mounted) = read(&place(store, &manifest)).filter(|mounted| mounted.is_there(store)) {
        return Ok(mounted);
    }
    // What a machine that went down left of an earlier one.
    remove_whole(&place(store, &manifest))?;
    let name = named.name.unwrap_or_else(|| manifest.to_string());
    let mut mounted = MountedImage { name, manifest, layers: Vec::new(), copied: None };
    let made = match why_impossible(store.root()) {
        Some(errno) => copy(store, &mut mounted, &image, words(&errno)),
        None => match overlay(store, &Cache::new(store, xattrs)?, &mut mounted, &image) {
            Err(Error::Io { doing: MOUNT_OVERLAY, source, .. }) => copy(store, &mut mounted, &image, words(&source)),
            Err(error @ Error::Layers { .. }) => copy(store, &mut mounted, &image, error.to_string()),
            other => other,
        },
    };
    if let Err(error) = made {
        remove_whole(&place(store, &manifest)).unwrap_or_default();
        return Err(error);
    }
    Ok(mounted)
}

fn overlay(store: &Store, cache: &Cache<'_>, mounted: &mut MountedImage, image: &Image) -> Result<()> {
    mounted.layers = cache.unpack(image)?;
    // Overlayfs wants two directories; the upper one says what the root directory is like.
    let place = place(store, &mounted.manifest);
    let (top, empty) = (place.join("top"), place.join("empty"));
    for path in [&place, &top, &empty, &mounted.path(store)] {
        make_directory(path, if path == &place { 0o700 } else { 0o755 })?;
    }
    let entry = cache.root_entry(&mounted.layers)?;
    let directory = File::open(&top).map_err(Error::io("open", &top))?;
    let set = hoy_layer::set_directory(directory.as_fd(), &entry);
    set.map_err(|e| Error::io("prepare", &top)(std::io::Error::other(e)))?;
    let layers = mounted.layers.iter().rev().map(|name| cache.place(name));
    let mut lowers = each_once(std::iter::once(top).chain(layers));
    if lowers.len() == 1 {
        lowers.push(empty);
    }
    if lowers.len() > MAX_LAYERS {
        return Err(Error::Layers { count: lowers.len() });
    }
    // Written first, so that no layer is removed below a mount.
    write(store, mounted)?;
    Overlay { lowers: &lowers, writable: None, xattrs: cache.xattrs(), maps: None }.mount(&mounted.path(store))
}

fn copy(store: &Store, mounted: &mut MountedImage, image: &Image, reason: String) -> Result<()> {
    mounted.layers.clear();
    let rootfs = mounted.path(store);
    remove_whole(&rootfs)?;
    unpack_into(store, image, &rootfs)?;
    mounted.copied = Some(reason);
    write(store, mounted)
}

fn write(store: &Store, mounted: &MountedImage) -> Result<()> {
    let path = place(store, &mounted.manifest).join(RECORD);
    let bytes = serde_json::to_vec(mounted).map_err(|e| Error::io("write", &path)(std::io::Error::other(e)))?;
    Ok(write_volatile_file(&path, &bytes)?)
}

fn read(place: &Path) -> Option<MountedImage> {
    serde_json::from_slice(&std::fs::read(place.join(RECORD)).ok()?).ok()
}

/// All images that are mounted here.
pub fn mounted_images(store: &Store) -> Vec<MountedImage> {
    let places = std::fs::read_dir(store.runroot().join("images")).into_iter().flatten().flatten();
    let mut all: Vec<MountedImage> = places.filter_map(|entry| read(&entry.path())).collect();
    all.retain(|mounted| mounted.is_there(store));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The layers that mounted images need. An ordinary user's mounts are not seen from everywhere: a record is enough.
pub(crate) fn layers(store: &Store) -> impl Iterator<Item = String> + use<> {
    let places = std::fs::read_dir(store.runroot().join("images")).into_iter().flatten().flatten();
    places.filter_map(|entry| read(&entry.path())).flat_map(|mounted| mounted.layers)
}

/// Unmounts the image that a person calls `text`, also one that has lost its name meanwhile; `force` takes it from
/// processes that use it.
///
/// # Errors
/// [`hoy_layout::Error::NoImage`] for what is neither mounted nor an image, [`Error::Busy`], [`Error::Io`].
pub fn umount_image(store: &Store, text: &str, force: bool) -> Result<Digest> {
    let known = mounted_images(store).into_iter().find(|mounted| mounted.name == text);
    let manifest = match known {
        Some(mounted) => mounted.manifest,
        None => store.image(text)?.1.descriptor.digest,
    };
    let _lock = lock(store, &manifest)?;
    let place = place(store, &manifest);
    unmount_all(&place.join("rootfs"), &manifest.to_string(), force)?;
    remove_whole(&place)?;
    Ok(manifest)
}
