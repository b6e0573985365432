//! Unpacked layers: `ROOT/layers`, a cache that can be emptied at any time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind::{AlreadyExists, DirectoryNotEmpty};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hoy_layer::{Decompressor, Flavour, Limits, OverlayXattrs, Report, Unrepresented};
use hoy_layout::{Image, Lock, Store};
use hoy_oci::{Descriptor, Digest, IdMaps};
use hoy_sys::path::open_beneath;
use hoy_sys::rustix::fs::{Mode, OFlags, syncfs};
use hoy_sys::rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::compare::differences;
use crate::directory::{TemporaryDirectory, remove_whole, temporary_name};
use crate::overlay::{Overlay, Writable, each_once, unmount_at};
use crate::{Error, Result, boot, shift};

/// Written data is on disk after this time by itself (vm.dirty_expire_centisecs), so that waiting for it costs little.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// What is known of an unpacked layer: the file `layers/<id>.json` beside its directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerRecord {
    /// The boot in which it was unpacked.
    pub boot_id: String,
    /// Its files were written to disk; without that it is believed in its own boot only.
    pub synced: bool,
    /// The length of the uncompressed layer in bytes.
    pub size: u64,
    /// Marks of overlayfs are in attributes that begin with `user.`, not `trusted.`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user_xattrs: bool,
    /// It cannot be unpacked without the layers below it, and there is no directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_parents: bool,
    /// It says what the root directory is like.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_root_entry: bool,
    /// It hides everything in the layers below it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hides_all_below: bool,
    /// Directories that it has and does not describe.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::names")]
    pub implicit: Vec<PathBuf>,
    /// What it says of files and the file system could not take in any form.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "crate::names::unrepresented")]
    pub unrepresented: BTreeMap<Vec<u8>, Unrepresented>,
}

/// The unpacked layers of a store.
#[derive(Debug)]
pub struct Cache<'a> {
    store: &'a Store,
    xattrs: OverlayXattrs,
    boot_id: String,
}

/// A layer of an image: its blob, and what it unpacks to.
#[derive(Debug, Clone)]
pub(crate) struct ImageLayer {
    pub(crate) blob: Descriptor,
    pub(crate) diff_id: Digest,
}

impl<'a> Cache<'a> {
    /// The layers of `store` as they are used by overlay mounts with these attributes.
    ///
    /// # Errors
    /// [`Error::Io`] without /proc.
    pub fn new(store: &'a Store, xattrs: OverlayXattrs) -> Result<Self> {
        Ok(Self { store, xattrs, boot_id: boot::id()? })
    }

    /// Unpacks what is missing of an image, in parallel; returns its directories' names below `ROOT/layers`, lowest first.
    ///
    /// Layers that a higher one hides entirely are left out. The caller holds a lease.
    ///
    /// # Errors
    /// [`Error::UnknownLayer`], [`Error::LayerCount`], [`Error::WrongDiffId`], [`Error::Layer`], [`Error::Io`].
    pub fn unpack(&self, image: &Image) -> Result<Vec<String>> {
        let layers = layers_of(image)?;
        let records = self.unpack_alone(&layers)?;
        let mut names: Vec<String> = Vec::new();
        let mut chain: Option<Digest> = None;
        for (layer, record) in layers.iter().zip(records) {
            let id = chain_id(chain.as_ref(), &layer.diff_id);
            chain = Some(id);
            if self.stands_on(&record, &names)? {
                self.unpack_on(layer, &id, &names)?;
                names.push(id.hex());
            } else if record.needs_parents {
                // With nothing below it is a whole image, whose name is not that of the layer on other layers.
                names.push(self.flat(std::slice::from_ref(layer), None)?);
            } else {
                if record.hides_all_below {
                    names.clear();
                }
                names.push(layer.diff_id.hex());
            }
        }
        self.settle(&names)?;
        Ok(names)
    }

    /// Unpacks all layers of an image into one directory, for where overlays cannot be mounted, or mounts not mapped:
    /// then files belong to the ids outside of these maps. Returns its name.
    ///
    /// # Errors
    /// As [`Cache::unpack`].
    pub(crate) fn unpack_flat(&self, image: &Image, maps: Option<&IdMaps>) -> Result<String> {
        self.flat(&layers_of(image)?, maps)
    }

    fn flat(&self, layers: &[ImageLayer], maps: Option<&IdMaps>) -> Result<String> {
        let name = flat_name(layers, maps);
        let _lock = self.lock(&name)?;
        if self.usable(&name).is_none() {
            self.make_room(&name)?;
            let directory = TemporaryDirectory::create_in(&self.store.layers())?;
            crate::unpack::set_base(directory.path(), directory.fd())?;
            let unrepresented = unpack_all(self.store, layers, directory.fd())?.unrepresented;
            if let Some(maps) = maps {
                shift::give(directory.path(), maps)?;
            }
            let record = LayerRecord { has_root_entry: true, needs_parents: false, unrepresented, ..self.record(None) };
            self.put(&name, directory.path(), &record)?;
        }
        Ok(name)
    }

    /// Whether [`Cache::unpack_flat`] has nothing to do.
    pub(crate) fn has_flat(&self, image: &Image, maps: Option<&IdMaps>) -> Result<bool> {
        Ok(self.usable(&flat_name(&layers_of(image)?, maps)).is_some())
    }

    /// The record of a layer whose directory can be used, here or in an additional store.
    pub fn usable(&self, name: &str) -> Option<LayerRecord> {
        self.find(name).map(|(_, record)| record)
    }

    /// Where a layer is that can be used: its own place when nowhere.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.find(name).map_or_else(|| self.path(name), |(place, _)| place)
    }

    fn find(&self, name: &str) -> Option<(PathBuf, LayerRecord)> {
        let own = self.usable_in(&self.store.layers(), name);
        own.or_else(|| self.store.additional_layers().find_map(|layers| self.usable_elsewhere(&layers, name)))
    }

    fn usable_in(&self, layers: &Path, name: &str) -> Option<(PathBuf, LayerRecord)> {
        let bytes = std::fs::read(layers.join(format!("{name}.json"))).ok()?;
        let record: LayerRecord = serde_json::from_slice(&bytes).ok()?;
        let is_believed = record.synced || record.boot_id == self.boot_id;
        let directory = layers.join(name);
        let is_there = record.needs_parents || directory.is_dir();
        (is_believed && is_there).then_some((directory, record))
    }

    /// A layer of an additional store serves only those for whom its files have the right owners, whom that store
    /// belongs to, and who keep the marks of overlayfs in the same attributes.
    fn usable_elsewhere(&self, layers: &Path, name: &str) -> Option<(PathBuf, LayerRecord)> {
        let owner = std::fs::metadata(layers).ok()?.uid();
        let (directory, record) = self.usable_in(layers, name)?;
        let is_alike = record.user_xattrs == (self.xattrs == OverlayXattrs::User);
        (owner == geteuid().as_raw() && is_alike).then_some((directory, record))
    }

    /// The store whose layers they are.
    pub(crate) fn store(&self) -> &'a Store {
        self.store
    }

    /// What these layers, lowest first, say of files and the file system could not take.
    pub(crate) fn unrepresented(&self, names: &[String]) -> BTreeMap<Vec<u8>, Unrepresented> {
        names.iter().filter_map(|name| self.usable(name)).flat_map(|record| record.unrepresented).collect()
    }

    /// The attributes of the overlay mounts.
    pub(crate) fn xattrs(&self) -> OverlayXattrs {
        self.xattrs
    }

    /// The directory of a layer.
    pub fn path(&self, name: &str) -> PathBuf {
        self.store.layers().join(name)
    }

    fn record_path(&self, name: &str) -> PathBuf {
        self.store.layers().join(format!("{name}.json"))
    }

    /// Written without fsync: a record that a crash tears is one of an earlier boot, or of none.
    fn write_record(&self, name: &str, record: &LayerRecord) -> Result<()> {
        let path = self.record_path(name);
        let temporary = temporary_name(&self.store.layers());
        let write = || {
            std::fs::write(&temporary, serde_json::to_vec(record)?).and_then(|()| std::fs::rename(&temporary, &path))
        };
        write().map_err(Error::io("write", &path))
    }

    /// The lock of a layer's directory and record.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock> {
        let locks = self.store.runroot().join("locks");
        std::fs::create_dir_all(&locks).map_err(Error::io("create", &locks))?;
        Ok(Lock::exclusive(&locks.join(name))?)
    }

    /// Each layer by itself, on as many threads as there are processors.
    fn unpack_alone(&self, layers: &[ImageLayer]) -> Result<Vec<LayerRecord>> {
        let known: Vec<Option<LayerRecord>> = layers.iter().map(|layer| self.usable(&layer.diff_id.hex())).collect();
        let missing: Vec<usize> = (0..layers.len()).filter(|at| matches!(known.get(*at), Some(None))).collect();
        if !missing.is_empty() {
            crate::garbage::old_temporaries(&self.store.layers())?;
        }
        let next = AtomicUsize::new(0);
        let done = Mutex::new(known);
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let work = || {
            while let Some(at) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let Some(layer) = layers.get(*at) else { return };
                match self.unpack_one(layer) {
                    Ok(record) => {
                        if let Some(slot) = done.lock().unwrap_or_else(|e| e.into_inner()).get_mut(*at) {
                            *slot = Some(record);
                        }
                    }
                    Err(error) => {
                        next.store(layers.len(), Ordering::Relaxed);
                        failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
                    }
                }
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(missing.len());
        std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
        match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(error) => Err(error),
            None => Ok(done.into_inner().unwrap_or_else(|e| e.into_inner()).into_iter().flatten().collect()),
        }
    }

    fn unpack_one(&self, layer: &ImageLayer) -> Result<LayerRecord> {
        let name = layer.diff_id.hex();
        let _lock = self.lock(&name)?;
        if let Some(record) = self.usable(&name) {
            return Ok(record);
        }
        self.make_room(&name)?;
        let directory = TemporaryDirectory::create_in(&self.store.layers())?;
        let flavour = Flavour::Overlay(self.xattrs);
        let report = match unpack_blob(self.store, layer, directory.fd(), flavour) {
            Err(Error::Layer { source, .. }) if source.needs_parents() => None,
            other => Some(other?),
        };
        let record = self.record(report.as_ref());
        match report {
            Some(_) => self.put(&name, directory.path(), &record)?,
            None => self.write_record(&name, &record)?,
        }
        Ok(record)
    }

    /// Removes what cannot be used any more. A tree whose record alone is lost stays for now: containers may run on it.
    fn make_room(&self, name: &str) -> Result<()> {
        let bytes = std::fs::read(self.record_path(name)).unwrap_or_default();
        match serde_json::from_slice::<LayerRecord>(&bytes) {
            Ok(_) => remove_whole(&self.path(name)),
            Err(_) => Ok(()),
        }
    }

    /// Puts a tree that was just made in its place, unless the same is there already.
    fn put(&self, name: &str, tree: &Path, record: &LayerRecord) -> Result<()> {
        let target = self.path(name);
        let is_there = target.is_dir()
            && differences(tree, &target, record.has_root_entry).is_ok_and(|differences| differences.is_empty());
        if !is_there {
            remove_whole(&target)?;
        }
        self.write_record(name, record)?;
        if is_there {
            return Ok(());
        }
        match std::fs::rename(tree, &target) {
            // Somebody else's is there by now.
            Err(e) if matches!(e.kind(), DirectoryNotEmpty | AlreadyExists) => Ok(()),
            other => other.map_err(Error::io("rename to", &target)),
        }
    }

    fn record(&self, report: Option<&Report>) -> LayerRecord {
        LayerRecord {
            boot_id: self.boot_id.clone(),
            synced: false,
            size: report.map_or(0, |report| report.size),
            user_xattrs: self.xattrs == OverlayXattrs::User,
            needs_parents: report.is_none(),
            has_root_entry: report.is_some_and(|report| report.has_root_entry),
            hides_all_below: report.is_some_and(|report| report.hides_all_below),
            implicit: report.map(|report| report.implicit.clone()).unwrap_or_default(),
            unrepresented: report.map(|report| report.unrepresented.clone()).unwrap_or_default(),
        }
    }

    /// Whether a layer is unpacked on top of those below it, and not by itself.
    pub(crate) fn stands_on(&self, record: &LayerRecord, below: &[String]) -> Result<bool> {
        Ok(!below.is_empty() && (record.needs_parents || self.overlaps(record, below)?))
    }

    /// A directory that the layer does not describe is in a layer below, which knows what it is like.
    fn overlaps(&self, record: &LayerRecord, below: &[String]) -> Result<bool> {
        if record.implicit.is_empty() {
            return Ok(false);
        }
        for name in below {
            let path = self.place(name);
            let directory = File::open(&path).map_err(Error::io("open", &path))?;
            let is_there = |implicit: &PathBuf| {
                let found = open_beneath(&directory, implicit, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
                !matches!(found, Err(error) if error.errno == hoy_sys::rustix::io::Errno::NOENT)
            };
            if record.implicit.iter().any(is_there) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn unpack_on(&self, layer: &ImageLayer, id: &Digest, below: &[String]) -> Result<()> {
        let name = id.hex();
        let _lock = self.lock(&name)?;
        if self.usable(&name).is_some() {
            return Ok(());
        }
        self.make_room(&name)?;
        let (_directory, upper, record) = self.make_on(layer, below)?;
        self.put(&name, &upper, &record)
    }

    /// Unpacks a layer into an overlay of those below it: the kernel copies up what the layer touches. Returns where it
    /// is, in a temporary directory, and its record.
    pub(crate) fn make_on(
        &self,
        layer: &ImageLayer,
        below: &[String],
    ) -> Result<(TemporaryDirectory, PathBuf, LayerRecord)> {
        let directory = TemporaryDirectory::create_in(&self.store.layers())?;
        let part = |part: &str| {
            let path = directory.path().join(part);
            std::fs::create_dir(&path).map(|()| path.clone()).map_err(Error::io("create", &path))
        };
        let (upper, work, merged, empty) = (part("upper")?, part("work")?, part("merged")?, part("empty")?);
        let mut lowers = each_once(below.iter().rev().map(|name| self.place(name)));
        if lowers.is_empty() {
            lowers.push(empty);
        }
        self.copy_root(&upper, below)?;
        let writable = Some(Writable { upper: &upper, work: &work, volatile: true });
        Overlay { lowers: &lowers, writable, xattrs: self.xattrs, maps: None }.mount(&merged)?;
        let root = File::open(&merged).map_err(Error::io("open", &merged));
        let report = root.and_then(|root| unpack_blob(self.store, layer, root.as_fd(), Flavour::Plain));
        unmount_at(&merged, true).map_err(Error::io("unmount", &merged))?;
        let mut record = self.record(Some(&report?));
        // The upper directory has the root's description from below or from the layer itself.
        record.has_root_entry = true;
        record.implicit = Vec::new();
        Ok((directory, upper, record))
    }

    fn copy_root(&self, upper: &std::path::Path, below: &[String]) -> Result<()> {
        let entry = self.root_entry(below)?;
        let directory = File::open(upper).map_err(Error::io("open", upper))?;
        hoy_layer::set_directory(directory.as_fd(), &entry)
            .map_err(|e| Error::io("prepare", upper)(std::io::Error::other(e)))
    }

    /// Marks layers of this boot as safe once their data had time to reach the disk.
    fn settle(&self, names: &[String]) -> Result<()> {
        let is_old = |name: &&String| {
            let age = std::fs::metadata(self.record_path(name)).and_then(|m| m.modified()).ok();
            age.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > SETTLED_AFTER)
        };
        let unmarked = |name: &&String| self.usable(name).is_some_and(|record| !record.synced);
        let due: Vec<&String> = names.iter().filter(is_old).filter(unmarked).collect();
        if !due.is_empty() {
            self.mark_synced(&due)?;
        }
        Ok(())
    }

    fn mark_synced(&self, names: &[&String]) -> Result<()> {
        let path = self.store.layers();
        let directory = File::open(&path).map_err(Error::io("open", &path))?;
        syncfs(&directory).map_err(Error::io("sync", &path))?;
        for name in names {
            let _lock = self.lock(name)?;
            if let Some(record) = self.usable(name) {
                self.write_record(name, &LayerRecord { synced: true, ..record })?;
            }
        }
        Ok(())
    }
}

/// The name of all layers of an image in one directory.
pub(crate) fn flat_name(layers: &[ImageLayer], maps: Option<&IdMaps>) -> String {
    let chain = layers.iter().fold(None, |below, layer| Some(chain_id(below.as_ref(), &layer.diff_id)));
    let ids = maps.map(|maps| format!("-{}", shift::name_of(maps))).unwrap_or_default();
    format!("flat-{}{ids}", chain.map_or_else(|| "empty".to_owned(), |chain| chain.hex()))
}

/// An image's layers, lowest first, checked against its configuration.
pub(crate) fn layers_of(image: &Image) -> Result<Vec<ImageLayer>> {
    let (layers, diff_ids) = (&image.manifest.layers, &image.config.rootfs.diff_ids);
    if let Some(strange) = layers.iter().find(|layer| layer.media_type.layer_compression().is_none()) {
        let media_type = strange.media_type.to_string();
        return Err(Error::UnknownLayer { layer: strange.digest, media_type });
    }
    if layers.len() != diff_ids.len() {
        let image = image.descriptor.digest;
        return Err(Error::LayerCount { image, layers: layers.len(), diff_ids: diff_ids.len() });
    }
    let pairs = layers.iter().zip(diff_ids);
    Ok(pairs.map(|(blob, diff_id)| ImageLayer { blob: blob.clone(), diff_id: *diff_id }).collect())
}

/// Unpacks one layer, its blob's digest and its diff ID checked as the bytes pass.
pub(crate) fn unpack_blob(
    store: &Store,
    layer: &ImageLayer,
    root: std::os::fd::BorrowedFd<'_>,
    flavour: Flavour,
) -> Result<Report> {
    let wrong = |source| Error::Layer { layer: layer.blob.digest, source };
    let blob = store.layout().open_blob(&layer.blob)?;
    let input = Decompressor::detect(blob).map_err(|e| wrong(hoy_layer::Error::Read(e)))?;
    let report = hoy_layer::unpack(input, root, flavour, Limits::default()).map_err(wrong)?;
    if report.diff_id != layer.diff_id {
        return Err(Error::WrongDiffId { layer: layer.blob.digest, expected: layer.diff_id, actual: report.diff_id });
    }
    Ok(report)
}

/// What of an image could not be represented in a tree of it.
#[derive(Default)]
pub(crate) struct Lost {
    pub(crate) unrepresented: BTreeMap<Vec<u8>, Unrepresented>,
    /// How many owners and attributes could not be set.
    pub(crate) count: u64,
}

/// Unpacks layers on top of each other.
pub(crate) fn unpack_all(store: &Store, layers: &[ImageLayer], root: std::os::fd::BorrowedFd<'_>) -> Result<Lost> {
    let mut lost = Lost::default();
    for layer in layers {
        let report = unpack_blob(store, layer, root, Flavour::Plain)?;
        let owners = report.unrepresented.values().filter(|file| file.owner.is_some()).count();
        lost.count += owners as u64 + report.refused_xattrs;
        lost.unrepresented.extend(report.unrepresented);
    }
    Ok(lost)
}

/// The identity of a layer on top of those below it (image-spec config.md "Layer ChainID").
pub(crate) fn chain_id(below: Option<&Digest>, diff_id: &Digest) -> Digest {
    match below {
        None => *diff_id,
        Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
    }
}
