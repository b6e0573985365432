//! Containers of the store: an upper directory each, mounted over the layers of an image.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use hoy_layer::OverlayXattrs;
use hoy_layout::{Container, ContainerDir, ContainerId, Image, Store};
use hoy_oci::Timestamp;
use hoy_sys::rustix::io::Errno;
use hoy_sys::words;

use crate::directory::remove_whole;
use crate::mapped::MAP_IDS;
use crate::mounts::unmount_all;
use crate::overlay::{
    MAX_LAYERS, MOUNT_OVERLAY, Overlay, VOLATILE_MARK, Writable, each_once, is_mount_point, unmount_at, why_impossible,
};
use crate::unpack::unpack_into;
use crate::userns::{IdOptions, Wanted};
use crate::{Cache, Error, Result, boot, shift, userns};

/// The record of a container that is being made: it gets its final name as the last step.
pub(crate) const CREATING: &str = "creating.json";

/// The field of a container's record that says why its root file system is a copy.
const COPIED: &str = "copied";

/// Why it is one where overlays could be mounted.
const AS_ASKED_FOR: &str = "as asked for";

/// The field that says why the files of a container belong to its own ids on disk.
const SHIFTED: &str = "shifted";

/// How a root file system comes about, and why not in the way before it.
enum Way {
    /// An overlay over the layers of the image.
    Overlay,
    /// An overlay over a copy of the image whose files belong to the container's ids; containers of the same ids share it.
    Shifted(String),
    /// A copy of the image.
    Copied(String),
}

/// How a container is made.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// The image's name; none for a container from nothing.
    pub image: Option<String>,
    /// The bundle directory; its own directory in the store when there is none.
    pub bundle: Option<PathBuf>,
    /// A name that no other container has; made from the id when there is none.
    pub name: Option<String>,
    /// It need not survive a power cut.
    pub volatile: bool,
    /// Its root file system is a plain directory and no mount.
    pub plain: bool,
    /// The ids of its user namespace.
    pub ids: IdOptions,
    /// JSON files of other programs that are in its directory from the moment it is visible: their names there, and
    /// where they are now.
    pub records: Vec<(String, PathBuf)>,
    /// When it is made.
    pub now: Option<Timestamp>,
    /// Told what a person should hear before it happens, as that something will take long.
    pub warn: fn(&str),
}

/// Makes a container and mounts its root file system at `rootfs` in the bundle.
///
/// Where overlays cannot be mounted the root file system is a copy of the image: [`why_copied`]. The container becomes
/// visible as the last step: what a killed process leaves is garbage for [`crate::prune`].
///
/// # Errors
/// [`hoy_layout::Error::NameInUse`], [`Error::Name`], those of [`Cache::unpack`], and of mounting.
pub fn create(store: &Store, xattrs: OverlayXattrs, options: &CreateOptions) -> Result<Container> {
    let _lease = store.lease()?;
    let cache = Cache::new(store, xattrs)?;
    let wanted = userns::wanted(store, &options.ids)?;
    if options.plain {
        return create_as(store, &cache, options, &wanted, Way::Copied(AS_ASKED_FOR.to_owned()));
    }
    if let Some(errno) = why_impossible(store.root()) {
        return create_as(store, &cache, options, &wanted, Way::Copied(words(&errno)));
    }
    let made = match create_as(store, &cache, options, &wanted, Way::Overlay) {
        Err(Error::Io { doing: MAP_IDS, source, .. }) if is_refusal(&source) => {
            create_as(store, &cache, options, &wanted, Way::Shifted(words(&source)))
        }
        other => other,
    };
    match made {
        // Not on every file system can an overlay lie, above all not on another overlay.
        Err(Error::Io { doing: MOUNT_OVERLAY, source, .. }) if is_refusal(&source) => {
            create_as(store, &cache, options, &wanted, Way::Copied(words(&source)))
        }
        Err(Error::Layers { count }) => {
            let reason = format!("{count} layers are more than the {MAX_LAYERS} of an overlay");
            create_as(store, &cache, options, &wanted, Way::Copied(reason))
        }
        other => other,
    }
}

fn is_refusal(error: &std::io::Error) -> bool {
    let refusals = [Errno::INVAL, Errno::PERM, Errno::ACCESS, Errno::NODEV, Errno::OPNOTSUPP, Errno::NOSYS];
    Errno::from_io_error(error).is_some_and(|errno| refusals.contains(&errno))
}

/// [`create`] in one way.
fn create_as(
    store: &Store,
    cache: &Cache<'_>,
    options: &CreateOptions,
    wanted: &Wanted,
    way: Way,
) -> Result<Container> {
    let id = ContainerId::random()?;
    let name = options.name.clone().unwrap_or_else(|| id.short().to_owned());
    check_unused(store, &name)?;
    let image = options.image.as_deref().map(|image| store.image(image)).transpose()?;
    if let Some((named, _)) = &image {
        store.layout().touch(&named.descriptor.digest);
    }
    let unpack = |image: &Image| match way {
        Way::Overlay => cache.unpack(image),
        // Its ids are not known yet.
        Way::Shifted(_) => cache.unpack(image),
        Way::Copied(_) => cache.unpack_flat(image, None).map(|name| vec![name]),
    };
    let layers = image.as_ref().map(|(_, image)| unpack(image)).transpose()?.unwrap_or_default();
    let dir = store.container_dir(id.clone());
    let bundle = match &options.bundle {
        Some(bundle) => std::path::absolute(bundle).map_err(Error::io("find", bundle))?,
        None => dir.path().to_owned(),
    };
    let full_name = |(named, image): &(hoy_layout::NamedImage, Image)| {
        named.name.clone().unwrap_or_else(|| image.descriptor.digest.to_string())
    };
    let mut container = Container {
        id,
        name: name.clone(),
        image: image.as_ref().map(full_name),
        manifest: image.as_ref().map(|(_, image)| image.descriptor.digest),
        layers,
        created: options.now.unwrap_or(Timestamp::EPOCH),
        bundle,
        id_maps: None,
        volatile: options.volatile.then(boot::id).transpose()?,
        other: match way {
            Way::Overlay => serde_json::Map::new(),
            Way::Shifted(reason) => [(SHIFTED.to_owned(), reason.into())].into_iter().collect(),
            Way::Copied(reason) => [(COPIED.to_owned(), reason.into())].into_iter().collect(),
        },
    };
    let unpacked = image.as_ref().map(|(_, image)| image);
    let made = fill(store, cache, &dir, &mut container, unpacked, options, wanted).and_then(|()| {
        dir.keep_copy(&container)?;
        // Names are given one at a time.
        let names = lock_names(store)?;
        check_unused(store, &name)?;
        let (from, to) = (dir.path().join(CREATING), dir.path().join("storage.json"));
        std::fs::rename(&from, &to).map_err(Error::io("rename to", &to))?;
        drop(names);
        if container.volatile.is_none() {
            hoy_layout::sync(dir.path())?;
            hoy_layout::sync(&store.containers())?;
        }
        Ok(())
    });
    if let Err(error) = made {
        discard(&dir, &container);
        return Err(error);
    }
    Ok(container)
}

/// Gives a container another name that no container has.
///
/// # Errors
/// [`hoy_layout::Error::NameInUse`], and those of writing the record.
pub fn rename(store: &Store, dir: &ContainerDir, name: &str) -> Result<()> {
    let _lock = dir.lock()?;
    let names = lock_names(store)?;
    check_unused(store, name)?;
    let mut container = dir.container()?;
    name.clone_into(&mut container.name);
    dir.set_container(&container)?;
    drop(names);
    Ok(())
}

/// Held while a name is looked for and given.
fn lock_names(store: &Store) -> Result<hoy_layout::Lock> {
    Ok(hoy_layout::Lock::exclusive(&store.containers().join(".names.lock"))?)
}

/// A name is of the form that podman and Docker allow, and no container has it.
fn check_unused(store: &Store, name: &str) -> Result<()> {
    let is_first = |c: u8| c.is_ascii_alphanumeric();
    let is_later = |c: u8| is_first(c) || matches!(c, b'_' | b'.' | b'-');
    if !name.bytes().next().is_some_and(is_first) || !name.bytes().all(is_later) {
        return Err(Error::Name(name.to_owned()));
    }
    match store.all_containers()?.into_iter().find(|dir| dir.container().is_ok_and(|c| c.name == name)) {
        Some(dir) => Err(hoy_layout::Error::NameInUse { name: name.to_owned(), id: dir.id().to_string() }.into()),
        None => Ok(()),
    }
}

fn fill(
    store: &Store,
    cache: &Cache<'_>,
    dir: &ContainerDir,
    container: &mut Container,
    image: Option<&Image>,
    options: &CreateOptions,
    wanted: &Wanted,
) -> Result<()> {
    make_directory(dir.path(), 0o700)?;
    let _lock = dir.lock()?;
    for path in [dir.upper(), dir.work(), dir.path().join("empty")] {
        make_directory(&path, 0o755)?;
    }
    for (name, file) in &options.records {
        put(dir, name, file, container.volatile.is_none())?;
    }
    claim(store, cache, dir, container, wanted)?;
    let shifted = shift::on_disk(container)?.cloned();
    if let (Some(maps), Some(image)) = (&shifted, image) {
        if !cache.has_flat(image, Some(maps))? {
            let reason = why_shifted(container).unwrap_or_default();
            (options.warn)(&format!(
                "the kernel maps no ids of mounts here ({reason}): the image is copied for these ids, once"
            ));
        }
        container.layers = vec![cache.unpack_flat(image, Some(maps))?];
        write_record(dir, container)?;
    }
    let (upper, mut entry) = (dir.upper(), cache.root_entry(&container.layers)?);
    if let (Some(maps), None) = (&shifted, image) {
        (entry.uid, entry.gid) = (maps.host_uid(0).unwrap_or(0), maps.host_gid(0).unwrap_or(0));
    }
    let directory = File::open(&upper).map_err(Error::io("open", &upper))?;
    let set = hoy_layer::set_directory(directory.as_fd(), &entry);
    set.map_err(|e| Error::io("prepare", &upper)(std::io::Error::other(e)))?;
    if why_copied(container).is_none() {
        return mount_at(cache, dir, container);
    }
    let rootfs = container.bundle.join("rootfs");
    match image {
        Some(image) => unpack_into(store, image, &rootfs).map(drop)?,
        None => make_directory(&rootfs, 0o755)?,
    }
    match shift::maps_of(container)? {
        Some(maps) => shift::give(&rootfs, maps),
        None => Ok(()),
    }
}

/// Writes the record, and with it takes the ids that the container is to have: they are chosen one at a time.
fn claim(
    store: &Store,
    cache: &Cache<'_>,
    dir: &ContainerDir,
    container: &mut Container,
    wanted: &Wanted,
) -> Result<()> {
    let mut choosing = None;
    container.id_maps = match wanted {
        Wanted::Callers => None,
        Wanted::Maps(maps) => Some(maps.clone()),
        Wanted::Unused(auto) => {
            choosing = Some(hoy_layout::Lock::exclusive(&store.containers().join(".ids.lock"))?);
            Some(userns::choose(store, auto, || cache.highest_id(&container.layers))?)
        }
    };
    write_record(dir, container)?;
    drop(choosing);
    Ok(())
}

fn write_record(dir: &ContainerDir, container: &Container) -> Result<()> {
    match container.volatile {
        Some(_) => Ok(dir.write_volatile_json(CREATING, container)?),
        None => Ok(dir.write_json(CREATING, container)?),
    }
}

/// Copies another program's record into the container's directory.
fn put(dir: &ContainerDir, name: &str, file: &Path, is_durable: bool) -> Result<()> {
    let is_plain = name.ends_with(".json") && !name.starts_with('.') && !name.contains('/');
    if !is_plain || matches!(name, CREATING | "storage.json") {
        return Err(Error::RecordName(name.to_owned()));
    }
    let to = dir.path().join(name);
    std::fs::copy(file, &to).map_err(Error::io("copy", file))?;
    if is_durable { Ok(hoy_layout::sync(&to)?) } else { Ok(()) }
}

/// Why a container's root file system is a copy of its image's and no mount; none for a mount.
pub fn why_copied(container: &Container) -> Option<&str> {
    container.other.get(COPIED).and_then(|reason| reason.as_str())
}

/// Why the files of a container belong to its own ids on disk, and are copies of its image's; none where mounts map them.
pub fn why_shifted(container: &Container) -> Option<&str> {
    container.other.get(SHIFTED).and_then(|reason| reason.as_str())
}

/// Unpacks what was lost, or what a crash made doubtful, of the layers of a container.
pub(crate) fn restore_layers(store: &Store, cache: &Cache<'_>, container: &Container) -> Result<()> {
    if container.layers.iter().all(|name| cache.usable(name).is_some()) {
        return Ok(());
    }
    let image = image_of(store, container)?;
    match (why_copied(container), shift::on_disk(container)?) {
        (Some(_), _) => cache.unpack_flat(&image, None).map(drop),
        (None, Some(maps)) => cache.unpack_flat(&image, Some(maps)).map(drop),
        (None, None) => cache.unpack(&image).map(drop),
    }
}

/// A creation that failed leaves nothing; what cannot be taken away now is garbage for prune.
fn discard(dir: &ContainerDir, container: &Container) {
    let rootfs = container.bundle.join("rootfs");
    if is_mount_point(&rootfs).unwrap_or(false) {
        unmount_at(&rootfs, true).unwrap_or_default();
    }
    match why_copied(container) {
        Some(_) => remove_whole(&rootfs).unwrap_or_default(),
        None => std::fs::remove_dir(&rootfs).unwrap_or_default(),
    }
    remove_whole(dir.path()).unwrap_or_default();
}

pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    Ok(hoy_layout::make_directory(path, mode)?)
}

fn mount_at(cache: &Cache<'_>, dir: &ContainerDir, container: &Container) -> Result<()> {
    let rootfs = container.bundle.join("rootfs");
    make_directory(&rootfs, 0o755)?;
    if is_mount_point(&rootfs)? {
        return Ok(());
    }
    let mut lowers = each_once(container.layers.iter().rev().map(|name| cache.place(name)));
    if lowers.len() > MAX_LAYERS {
        return Err(Error::Layers { count: lowers.len() });
    }
    if lowers.is_empty() {
        lowers.push(dir.path().join("empty"));
    }
    let (upper, work) = (dir.upper(), dir.work());
    let writable = Some(Writable { upper: &upper, work: &work, volatile: container.volatile.is_some() });
    let maps = shift::maps_of(container)?.filter(|_| why_shifted(container).is_none());
    Overlay { lowers: &lowers, writable, xattrs: cache.xattrs(), maps }.mount(&rootfs)
}

/// Refuses a container that need not survive a power cut, and did not: the machine was started again since it was made.
pub(crate) fn check_survived(container: &Container) -> Result<()> {
    match &container.volatile {
        Some(boot_id) if *boot_id != boot::id()? => Err(Error::Torn(container.name.clone())),
        _ => Ok(()),
    }
}

/// Mounts a container's root file system unless it is mounted, and returns where.
///
/// Layers that were lost, or that a crash made doubtful, are unpacked again.
///
/// # Errors
/// As for [`create`].
pub fn mount(store: &Store, xattrs: OverlayXattrs, dir: &ContainerDir) -> Result<PathBuf> {
    let _lease = store.lease()?;
    let _lock = dir.lock()?;
    let container = dir.container()?;
    let rootfs = container.bundle.join("rootfs");
    if is_mounted(&container)? {
        return Ok(rootfs);
    }
    check_survived(&container)?;
    check_unmounted_elsewhere(dir)?;
    if container.volatile.is_some() {
        // Nothing was lost since it was last mounted: that was in this boot.
        let mark = dir.work().join(VOLATILE_MARK);
        match std::fs::remove_dir_all(&mark) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &mark)(e)),
            _ => {}
        }
    }
    let cache = Cache::new(store, xattrs)?;
    restore_layers(store, &cache, &container)?;
    mount_at(&cache, dir, &container)?;
    Ok(rootfs)
}

/// Refuses a second overlay with the same upper directory, which is not defined (overlayfs.rst "Sharing and copying
/// layers"): the first may live on in the mount namespace of a process when it is gone from this one.
fn check_unmounted_elsewhere(dir: &ContainerDir) -> Result<()> {
    match crate::mounts::rooted_in(&dir.upper()) {
        Some(pid) => Err(Error::Held { id: dir.id().to_string(), pid }),
        None => Ok(()),
    }
}

/// The image a container was made from, which its own record keeps even when its name went to another.
pub(crate) fn image_of(store: &Store, container: &Container) -> Result<Image> {
    let none = || hoy_layout::Error::NoImage {
        name: container.image.clone().unwrap_or_else(|| container.id.to_string()),
        layout: store.root().to_owned(),
    };
    let digest = container.manifest.ok_or_else(none)?;
    let size = store.layout().blob_size(&digest)?.ok_or_else(none)?;
    let mut descriptor = hoy_oci::Descriptor::new(hoy_oci::MediaType::from(hoy_oci::MediaType::MANIFEST), digest, size);
    let bytes = store.layout().read_document(&descriptor)?;
    if let Ok(media_type) = hoy_oci::Document::guess_media_type(&bytes) {
        descriptor.media_type = media_type;
    }
    Ok(store.layout().image(&descriptor, &hoy_oci::Platform::host())?)
}

/// Whether a container's root file system is mounted in this mount namespace, or needs no mount.
///
/// # Errors
/// [`Error::Io`].
pub fn is_mounted(container: &Container) -> Result<bool> {
    Ok(why_copied(container).is_some() || is_mount_point(&container.bundle.join("rootfs"))?)
}

/// Unmounts a container's root file system; `force` takes it from processes that use it.
///
/// # Errors
/// [`Error::Busy`], [`Error::Io`].
pub fn umount(dir: &ContainerDir, force: bool) -> Result<()> {
    let _lock = dir.lock()?;
    let container = dir.container()?;
    unmount_all(&container.bundle.join("rootfs"), dir.id().as_str(), force)
}

/// Removes a container: its mount, what was written in it, and its directory.
///
/// # Errors
/// [`Error::Busy`] unless `force`, [`Error::Io`].
pub fn rm(dir: &ContainerDir, force: bool) -> Result<()> {
    let lock = dir.lock()?;
    // One whose writes a reboot makes worthless need not be durably gone.
    let is_durable = match dir.container() {
        Ok(container) => {
            let rootfs = container.bundle.join("rootfs");
            unmount_all(&rootfs, dir.id().as_str(), force)?;
            // Somebody else's bundle directory keeps what else is in it.
            match why_copied(&container) {
                Some(_) => remove_whole(&rootfs)?,
                None => std::fs::remove_dir(&rootfs).unwrap_or_default(),
            }
            container.volatile.is_none()
        }
        // One that was never finished: what is known of it says where it may be mounted.
        Err(_) => {
            let unfinished = dir.read_json::<Container>(CREATING);
            let bundle = unfinished.as_ref().map_or(dir.path(), |container| container.bundle.as_path());
            let rootfs = bundle.join("rootfs");
            unmount_all(&rootfs, dir.id().as_str(), force)?;
            if unfinished.as_ref().is_ok_and(|container| why_copied(container).is_some()) {
                remove_whole(&rootfs)?;
            }
            false
        }
    };
    remove_whole(dir.path())?;
    if is_durable {
        hoy_layout::sync(dir.path().parent().unwrap_or(dir.path()))?;
    }
    drop(lock);
    Ok(())
}
