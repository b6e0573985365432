//! Giving back the space of everything that nothing needs, and of images that were not used for long.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use hoy_layout::{Lock, Store};
use hoy_oci::{Digest, Timestamp};

use crate::directory::space;
use crate::garbage::{forget_signatures, remove_temporary};
use crate::survey::{Survey, SurveyedImage, container_space};
use crate::trash::Trash;
use crate::{Error, ImageSummary, Result};

/// What is pruned beside garbage.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// All images that no container was made from, and not only those without a name.
    pub unused_images: bool,
    /// Unpacked layers that no container has, although an image does.
    pub unused_layers: bool,
    /// Of the images above, those that this is true of.
    pub filter: ImageFilter,
    /// Images that no container was made from, those first that were not used for longest, until blobs and unpacked layers
    /// take no more than so many bytes of disk space.
    pub max_bytes: Option<u64>,
    /// Told when somebody who adds to the store has to be waited for.
    pub waiting: Option<fn()>,
}

/// Which images are meant; each condition that is there must be true.
#[derive(Debug, Clone, Default)]
pub struct ImageFilter {
    /// Made before this moment.
    pub until: Option<Timestamp>,
    /// Labels that it has, with their values where one is given.
    pub labels: Vec<(String, Option<String>)>,
    /// Labels that it does not have.
    pub without_labels: Vec<(String, Option<String>)>,
}

impl ImageFilter {
    fn accepts(&self, summary: &ImageSummary) -> bool {
        let config = summary.image.as_ref().map(|image| &image.config);
        let created = config.and_then(|config| config.created);
        // An image of which nothing is known was not made before anything.
        let is_old = self.until.is_none_or(|until| created.is_some_and(|created| created < until));
        let has = |(key, value): &(String, Option<String>)| {
            let found = config.and_then(|config| config.config.labels.get(key));
            found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        is_old && self.labels.iter().all(has) && !self.without_labels.iter().any(has)
    }
}

/// What was removed.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Bytes of disk space.
    pub bytes: u64,
    /// Files and trees.
    pub count: u64,
    /// Names of images that are gone.
    pub untagged: Vec<String>,
    /// The ids of these images.
    pub deleted: Vec<Digest>,
    /// Why blobs, layers and images are still there: it is not known what is needed.
    pub unread: Vec<Error>,
}

impl Pruned {
    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.count += 1;
    }
}

/// Removes temporaries of processes that are gone, unfinished containers, blobs and layers that nothing leads to, and
/// images as the options say.
///
/// Waits until nobody adds to the store. It works with a full disk.
///
/// # Errors
/// [`Error::Layout`], [`Error::Io`]; what was removed until then is gone.
pub fn prune(store: &Store, options: &PruneOptions) -> Result<Pruned> {
    let lock = exclude(store, options)?;
    let mut trash = Trash::new(store);
    let pruned = take_away(store, options, &mut trash);
    drop(lock);
    trash.empty().and(pruned)
}

/// Does all but to remove trees, which may take long, while others wait for the lock.
fn take_away(store: &Store, options: &PruneOptions, trash: &mut Trash<'_>) -> Result<Pruned> {
    let survey = Survey::of(store)?;
    let mut pruned = Pruned::default();
    remove_leftovers(store, &survey, &mut pruned, trash)?;
    if !survey.unread.is_empty() {
        pruned.unread = survey.unread;
        return Ok(pruned);
    }
    let doomed = choose(&survey, options);
    let kept = survey.images.iter().filter(|image| !doomed.contains(&image.summary.descriptor.digest));
    let (blobs, layers) = survey.needed(kept);
    let layers = if options.unused_layers { &survey.in_use.layers } else { &layers };
    for (name, bytes) in survey.layers.iter().filter(|(name, _)| !layers.contains(*name)) {
        pruned.add(*bytes);
        trash.layer(name)?;
    }
    let is_doomed = |image: &&SurveyedImage| doomed.contains(&image.summary.descriptor.digest);
    if let Err(error) = forget(store, &doomed) {
        // A full disk has no room for a shorter list of names either, before something is removed.
        let own: HashSet<Digest> = survey.images.iter().filter(is_doomed).flat_map(|i| i.reach.blobs.clone()).collect();
        if !error.is_full_disk() {
            return Err(error);
        }
        trash.empty()?;
        remove_blobs(store, &survey.blobs, |digest| own.contains(digest) && !blobs.contains(digest), &mut pruned)?;
        forget(store, &doomed)?;
    }
    for image in survey.images.iter().filter(is_doomed) {
        pruned.untagged.extend(image.summary.names.iter().cloned());
        pruned.deleted.push(image.summary.id());
    }
    remove_blobs(store, &survey.blobs, |digest| !blobs.contains(digest), &mut pruned)?;
    Ok(pruned)
}

fn exclude(store: &Store, options: &PruneOptions) -> Result<Lock> {
    if let Some(lock) = store.try_exclude_leases()? {
        return Ok(lock);
    }
    if let Some(tell) = options.waiting {
        tell();
    }
    Ok(store.exclude_leases()?)
}

fn remove_leftovers(store: &Store, survey: &Survey, pruned: &mut Pruned, trash: &mut Trash<'_>) -> Result<()> {
    let mut remove = |path: &Path| {
        pruned.add(space(path));
        remove_temporary(path)
    };
    // Whoever changes the index has a name there without a lock on it.
    let is_beside_index = |path: &&std::path::PathBuf| path.parent() == Some(store.root());
    if survey.temporaries.iter().any(|path| is_beside_index(&path)) {
        store.layout().edit_index::<_, Error>(|_| {
            survey.temporaries.iter().filter(is_beside_index).try_for_each(|path| remove(path))
        })?;
    }
    for path in survey.temporaries.iter().filter(|path| !is_beside_index(path)) {
        pruned.add(space(path));
        trash.temporary(path.clone());
    }
    for dir in &survey.unfinished {
        pruned.add(container_space(dir));
        crate::rm(dir, true)?;
    }
    Ok(())
}

/// The images that go.
fn choose(survey: &Survey, options: &PruneOptions) -> BTreeSet<Digest> {
    let mut doomed = BTreeSet::new();
    let unused = || survey.images.iter().filter(|image| !survey.is_used(image));
    for image in unused().filter(|image| options.filter.accepts(&image.summary)) {
        let is_wanted = match options.max_bytes {
            // Asked for a size, images with names go for the sake of that only.
            None => options.unused_images || image.summary.names.is_empty(),
            Some(_) => image.summary.names.is_empty(),
        };
        if is_wanted {
            doomed.insert(image.summary.descriptor.digest);
        }
    }
    let Some(max_bytes) = options.max_bytes else { return doomed };
    let mut oldest: Vec<&SurveyedImage> = unused().filter(|image| options.filter.accepts(&image.summary)).collect();
    oldest.retain(|image| !doomed.contains(&image.summary.descriptor.digest));
    oldest.sort_by_key(|image| image.last_used);
    let mut size = Sizes::of(survey, &doomed);
    for image in oldest {
        if size.bytes <= max_bytes {
            break;
        }
        size.remove(survey, image);
        doomed.insert(image.summary.descriptor.digest);
    }
    doomed
}

/// How many images and containers need each blob and layer, and the bytes that all of these take.
struct Sizes<'a> {
    blobs: BTreeMap<&'a Digest, usize>,
    layers: BTreeMap<&'a str, usize>,
    bytes: u64,
}

impl<'a> Sizes<'a> {
    fn of(survey: &'a Survey, doomed: &BTreeSet<Digest>) -> Self {
        let mut sizes = Self { blobs: BTreeMap::new(), layers: BTreeMap::new(), bytes: 0 };
        let kept = survey.images.iter().filter(|image| !doomed.contains(&image.summary.descriptor.digest));
        for reach in kept.map(|image| &image.reach).chain([&survey.in_use]) {
            reach.blobs.iter().for_each(|digest| *sizes.blobs.entry(digest).or_default() += 1);
            reach.layers.iter().for_each(|name| *sizes.layers.entry(name).or_default() += 1);
        }
        let blobs = sizes.blobs.keys().filter_map(|digest| survey.blobs.get(digest));
        let layers = sizes.layers.keys().filter_map(|name| survey.layers.get(*name));
        sizes.bytes = blobs.chain(layers).sum();
        sizes
    }

    fn remove(&mut self, survey: &Survey, image: &SurveyedImage) {
        for digest in &image.reach.blobs {
            let count = self.blobs.get_mut(digest).map(|count| {
                *count -= 1;
                *count
            });
            if count == Some(0) {
                self.bytes -= survey.blobs.get(digest).copied().unwrap_or_default();
            }
        }
        for name in &image.reach.layers {
            let count = self.layers.get_mut(name.as_str()).map(|count| {
                *count -= 1;
                *count
            });
            if count == Some(0) {
                self.bytes -= survey.layers.get(name).copied().unwrap_or_default();
            }
        }
    }
}

fn forget(store: &Store, doomed: &BTreeSet<Digest>) -> Result<()> {
    if doomed.is_empty() {
        return Ok(());
    }
    store.layout().edit_index(|index| {
        index.manifests.retain(|entry| !doomed.contains(&entry.digest));
        Ok(())
    })
}

fn remove_blobs(
    store: &Store,
    blobs: &BTreeMap<Digest, u64>,
    is_unneeded: impl Fn(&Digest) -> bool,
    pruned: &mut Pruned,
) -> Result<()> {
    for (digest, bytes) in blobs.iter().filter(|(digest, _)| is_unneeded(digest)) {
        forget_signatures(store, digest)?;
        let path = store.layout().blob_path(digest);
        match std::fs::remove_file(&path) {
            Ok(()) => pruned.add(*bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("remove", &path)(e)),
        }
    }
    Ok(())
}
