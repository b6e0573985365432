//! Images as people see them: lists, names, removal, history.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use hoy_layout::{Image, NamedImage, Store};
use hoy_oci::{Descriptor, Digest, Platform, Reference};

use crate::garbage::forget_signatures;
use crate::reach::Reachable;
use crate::trash::Trash;
use crate::{Error, Result};

/// One image of the store with all its names.
#[derive(Debug)]
pub struct ImageSummary {
    /// Its full names, in the order of the index; none when it lost them.
    pub names: Vec<String>,
    /// What the names point to: a manifest or an index.
    pub descriptor: Descriptor,
    /// The image for this machine, when it can be read.
    pub image: Option<Image>,
    /// The bytes of its blobs in the store.
    pub size: u64,
    /// The additional store that it is in, where it cannot be changed; none for the store itself.
    pub additional: Option<PathBuf>,
    /// What can be seen to be wrong with it without reading its layers.
    pub problem: Option<Error>,
}

/// What removing an image did.
#[derive(Debug, Default)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// The id of the image when its last name is gone.
    pub deleted: Option<Digest>,
    /// Why nothing but the names was removed: it is not known what other images and containers need.
    pub kept: Option<Error>,
}

/// All images, each once.
///
/// # Errors
/// [`Error::Layout`] when the index cannot be read; an image that cannot be read is listed without details.
pub fn list_images(store: &Store) -> Result<Vec<ImageSummary>> {
    let mut all: Vec<ImageSummary> = Vec::new();
    let mut known: HashMap<(Digest, Option<PathBuf>), usize> = HashMap::new();
    for NamedImage { name, descriptor, additional } in store.images()? {
        match known.get(&(descriptor.digest, additional.clone())).and_then(|at| all.get_mut(*at)) {
            Some(known) => known.names.extend(name),
            None => {
                let entry =
                    NamedImage { name: name.clone(), descriptor: descriptor.clone(), additional: additional.clone() };
                let summary = summary(store, name, descriptor, additional);
                // One that somebody has removed since the list of names was read is not damaged.
                if summary.problem.is_some() && !store.has_entry(&entry)? {
                    continue;
                }
                known.insert((entry.descriptor.digest, entry.additional), all.len());
                all.push(summary);
            }
        }
    }
    Ok(all)
}

fn summary(store: &Store, name: Option<String>, descriptor: Descriptor, additional: Option<PathBuf>) -> ImageSummary {
    let found = store.layout().image(&descriptor, &Platform::host());
    let is_alone = found.as_ref().is_ok_and(|image| image.descriptor.digest == descriptor.digest);
    let size_of = |digest: &Digest| store.layout().blob_size(digest).ok().flatten();
    let size = match &found {
        Ok(image) if is_alone => {
            let parts = image.manifest.layers.iter().chain([&image.manifest.config]);
            let distinct: BTreeSet<Digest> = parts.map(|part| part.digest).collect();
            descriptor.size + distinct.iter().filter_map(size_of).sum::<u64>()
        }
        _ => {
            let mut reachable = Reachable::default();
            reachable.follow(store, [&descriptor]);
            reachable.blobs.iter().filter_map(size_of).sum()
        }
    };
    let (image, problem) = match found {
        Ok(image) => {
            let problem = image.manifest.layers.iter().find_map(|layer| misses(store, layer).err());
            (Some(image), problem)
        }
        // Another machine's image, or something that is no image.
        Err(hoy_layout::Error::NoPlatform { .. }) => (None, None),
        Err(error) => (None, Some(error.into())),
    };
    ImageSummary { names: name.into_iter().collect(), size, descriptor, image, additional, problem }
}

/// A blob that is not there, or that is shorter or longer than it must be.
pub(crate) fn misses(store: &Store, blob: &Descriptor) -> Result<()> {
    let wrong = |actual| {
        let doing = format!("look at \"{}\"", store.layout().blob_file(&blob.digest).display());
        let source = hoy_oci::Error::SizeMismatch { expected: blob.digest, size: blob.size, actual };
        hoy_layout::Error::Content { doing, source }
    };
    match store.layout().blob_size(&blob.digest)? {
        None => Err(hoy_layout::Error::NoBlob { digest: blob.digest, layout: store.root().to_owned() }.into()),
        Some(size) if size != blob.size => Err(wrong(size).into()),
        Some(_) => Ok(()),
    }
}

impl ImageSummary {
    /// The digest of its configuration, by which people know an image; of its manifest when that cannot be read.
    pub fn id(&self) -> Digest {
        self.image.as_ref().map_or(self.descriptor.digest, |image| image.manifest.config.digest)
    }
}

/// Gives the image that a person calls `image` another name.
///
/// # Errors
/// [`hoy_layout::Error::NoImage`], [`hoy_layout::Error::Content`] for a text that is no name.
pub fn tag(store: &Store, image: &str, name: &str) -> Result<String> {
    // What is found now is still there when it gets its name.
    let _lease = store.lease()?;
    let found = store.find_image(image)?;
    let wrong = |source| hoy_layout::Error::Content { doing: format!("name image \"{image}\""), source };
    let name = Reference::parse_local(name).map_err(wrong)?.or_latest().to_string();
    store.layout().set_name(&name, &found.descriptor)?;
    Ok(name)
}

/// Takes names away from an image, all of them when none are given; the image stays.
///
/// # Errors
/// [`hoy_layout::Error::NoImage`].
pub fn untag(store: &Store, image: &str, names: &[String]) -> Result<Vec<String>> {
    let found = store.find_own_image(image)?;
    let mut remove = Vec::new();
    for name in names {
        remove.extend(store.find_own_image(name)?.name);
    }
    store.layout().edit_index(|index| {
        let mut removed = Vec::new();
        for entry in &mut index.manifests {
            let Some(name) = entry.ref_name().map(str::to_owned) else { continue };
            if entry.digest == found.descriptor.digest && (names.is_empty() || remove.contains(&name)) {
                entry.annotations.remove(hoy_oci::REF_NAME);
                removed.push(name);
            }
        }
        let mut seen = BTreeSet::new();
        let named: BTreeSet<Digest> =
            index.manifests.iter().filter(|m| m.ref_name().is_some()).map(|m| m.digest).collect();
        index.manifests.retain(|m| m.ref_name().is_some() || !named.contains(&m.digest) && seen.insert(m.digest));
        Ok(removed)
    })
}

/// The names of an image that `text` means: one by which it is called, or all, where it is called by its id.
///
/// # Errors
/// [`hoy_layout::Error::NoImage`].
pub fn names_meant(store: &Store, text: &str) -> Result<Vec<String>> {
    Ok(meant(store, text)?.1)
}

fn meant(store: &Store, text: &str) -> Result<(NamedImage, Vec<String>)> {
    let found = store.find_own_image(text)?;
    let is_by_name = found.name.as_deref().is_some_and(|name| {
        let candidates = Reference::candidates(text).unwrap_or_default();
        name == text || candidates.iter().any(|candidate| candidate.to_string() == name)
    });
    let names = match &found.name {
        Some(name) if is_by_name => vec![name.clone()],
        _ => {
            let all = store.layout().images()?.into_iter();
            all.filter(|other| other.descriptor.digest == found.descriptor.digest)
                .filter_map(|other| other.name)
                .collect()
        }
    };
    Ok((found, names))
}

/// Removes a name; with the last one also the image, as far as nothing else needs it. An id removes all names.
///
/// # Errors
/// [`Error::InUse`] by a container unless `force`, [`hoy_layout::Error::NoImage`].
pub fn remove_image(store: &Store, text: &str, force: bool) -> Result<Removed> {
    let (found, names) = meant(store, text)?;
    let all = store.layout().images()?;
    let same = all.iter().filter(|other| other.descriptor.digest == found.descriptor.digest);
    let is_last = same.filter_map(|other| other.name.as_ref()).all(|name| names.contains(name));
    let image = store.layout().image(&found.descriptor, &Platform::host()).ok();
    // What an additional store has stays for whoever uses it.
    let is_elsewhere = store
        .images()?
        .iter()
        .any(|other| other.additional.is_some() && other.descriptor.digest == found.descriptor.digest);
    let is_needed = is_last && !is_elsewhere;
    let manifest = image.as_ref().map(|image| image.descriptor.digest);
    let mounted = crate::mounted_images(store).into_iter().find(|mounted| Some(mounted.manifest) == manifest);
    if let Some(mounted) = mounted.filter(|_| is_needed) {
        return Err(Error::Mounted { image: text.to_owned(), path: mounted.path(store) });
    }
    if is_needed && !force {
        let user = user_of(store, &found.descriptor, image.as_ref())?;
        if let Some(container) = user {
            return Err(Error::InUse { image: text.to_owned(), container });
        }
    }
    if !is_last {
        for name in &names {
            store.layout().remove_name(name)?;
        }
        return Ok(Removed { untagged: names, deleted: None, kept: None });
    }
    let mut own = Reachable::default();
    // Of a damaged image only the name and what can be reached is removed; prune finds the rest.
    own.follow(store, [&found.descriptor]);
    let digest = found.descriptor.digest;
    let (lock, mut trash) = (store.try_exclude_leases()?, Trash::new(store));
    if let Err(error) = store.layout().remove_digest(&digest) {
        // A full disk has no room for a shorter list of names either, before something is removed.
        if !error.is_full_disk() || lock.is_none() {
            return Err(error.into());
        }
        remove_unneeded(store, &own, &digest, &mut trash)?;
        trash.empty()?;
        store.layout().remove_digest(&digest)?;
    }
    let id = image.map_or(digest, |image| image.manifest.config.digest);
    // While somebody brings blobs in, these may be among them: prune removes them later.
    let kept = match lock {
        Some(_) => remove_unneeded(store, &own, &digest, &mut trash)?,
        None => None,
    };
    drop(lock);
    trash.empty()?;
    Ok(Removed { untagged: names, deleted: Some(id), kept })
}

fn user_of(store: &Store, descriptor: &Descriptor, image: Option<&Image>) -> Result<Option<String>> {
    let digests = [Some(descriptor.digest), image.map(|image| image.descriptor.digest)];
    for dir in store.all_containers()? {
        // One whose record is lost, and its copy too, cannot say what it was made from.
        let Ok(container) = dir.container() else { continue };
        if container.manifest.is_some() && digests.contains(&container.manifest) {
            return Ok(Some(container.name));
        }
    }
    Ok(None)
}

/// Removes what an image has and nothing else needs; when that is not known, nothing, and says why.
fn remove_unneeded(store: &Store, own: &Reachable, image: &Digest, trash: &mut Trash<'_>) -> Result<Option<Error>> {
    let mut needed = Reachable::of_all_but(store, |entry| entry.digest == *image)?;
    if let Some(error) = needed.unread.pop() {
        return Ok(Some(error));
    }
    for digest in own.blobs.difference(&needed.blobs) {
        forget_signatures(store, digest)?;
        let path = store.layout().blob_path(digest);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(e)),
            _ => {}
        }
    }
    for name in own.layers.difference(&needed.layers) {
        trash.layer(name)?;
    }
    Ok(None)
}

/// The steps of an image with the size of the layer that each made, newest first.
pub fn history(image: &Image) -> Vec<(hoy_oci::History, u64)> {
    let mut layers = image.manifest.layers.iter();
    let mut steps: Vec<(hoy_oci::History, u64)> = Vec::new();
    for step in &image.config.history {
        let size = if step.empty_layer { 0 } else { layers.next().map_or(0, |layer| layer.size) };
        steps.push((step.clone(), size));
    }
    // Layers that no step explains.
    steps.extend(layers.map(|layer| (hoy_oci::History::default(), layer.size)));
    steps.reverse();
    steps
}
