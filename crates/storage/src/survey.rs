//! Everything that takes the disk space of a store, and who needs it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::SystemTime;

use hoy_layout::{Container, ContainerDir, Store};
use hoy_oci::Digest;

use crate::directory::space;
use crate::garbage::{names, temporaries, unfinished};
use crate::reach::Reachable;
use crate::{Error, ImageSummary, Result, list_images};

/// A store, looked at once.
pub(crate) struct Survey {
    pub(crate) images: Vec<SurveyedImage>,
    pub(crate) containers: Vec<SurveyedContainer>,
    /// What containers and mounted images need.
    pub(crate) in_use: Reachable,
    /// Manifests of images that containers were made from, or that are mounted.
    pub(crate) used_manifests: HashSet<Digest>,
    /// The disk space of each blob, in bytes.
    pub(crate) blobs: BTreeMap<Digest, u64>,
    /// The disk space of each unpacked layer with its record, in bytes.
    pub(crate) layers: BTreeMap<String, u64>,
    /// Temporaries of processes that are gone.
    pub(crate) temporaries: Vec<PathBuf>,
    /// Containers that were never finished.
    pub(crate) unfinished: Vec<ContainerDir>,
    /// Why it is not known what is needed.
    pub(crate) unread: Vec<Error>,
}

/// An image with what it leads to.
pub(crate) struct SurveyedImage {
    pub(crate) summary: ImageSummary,
    pub(crate) reach: Reachable,
    pub(crate) last_used: Option<SystemTime>,
}

/// A container with the disk space of its directory, in bytes.
pub(crate) struct SurveyedContainer {
    pub(crate) container: Container,
    pub(crate) bytes: u64,
}

impl Survey {
    /// Looks at every file of the store, additional stores left out.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Layout`] when there is neither an index nor anything left of it.
    pub(crate) fn of(store: &Store) -> Result<Self> {
        let mut unread: Vec<Error> = store.layout().index().err().map(Error::from).into_iter().collect();
        let mut in_use = Reachable::default();
        let mut used_manifests: HashSet<Digest> =
            crate::mounted_images(store).into_iter().map(|mounted| mounted.manifest).collect();
        in_use.layers.extend(crate::image_mount::layers(store));
        let mut containers = Vec::new();
        for dir in store.all_containers()? {
            match dir.container() {
                Ok(container) => {
                    used_manifests.extend(container.manifest);
                    in_use.add_container(store, &container);
                    containers.push(SurveyedContainer { bytes: container_space(&dir), container });
                }
                Err(error) if error.is_not_found() && !dir.path().exists() => {}
                Err(error) => unread.push(error.into()),
            }
        }
        unread.append(&mut in_use.unread);
        let mut images = Vec::new();
        for summary in list_images(store)? {
            if summary.additional.is_some() {
                continue;
            }
            let mut reach = Reachable::default();
            reach.follow(store, [&summary.descriptor]);
            unread.append(&mut reach.unread);
            let last_used = store.layout().last_used(&summary.descriptor.digest);
            images.push(SurveyedImage { summary, reach, last_used });
        }
        let mut blobs = BTreeMap::new();
        for digest in store.layout().blobs()? {
            blobs.insert(digest, space(&store.layout().blob_path(&digest)));
        }
        let mut layers: BTreeMap<String, u64> = BTreeMap::new();
        for name in names(&store.layers())?.iter().filter(|name| !name.starts_with('.')) {
            let id = name.strip_suffix(".json").unwrap_or(name);
            *layers.entry(id.to_owned()).or_default() += space(&store.layers().join(name));
        }
        let (temporaries, unfinished) = (temporaries(store)?, unfinished(store)?);
        let survey =
            Self { images, containers, in_use, used_manifests, blobs, layers, temporaries, unfinished, unread };
        Ok(survey)
    }

    /// Whether a container was made from an image, or the image is mounted.
    pub(crate) fn is_used(&self, image: &SurveyedImage) -> bool {
        image.reach.blobs.iter().any(|digest| self.used_manifests.contains(digest))
    }

    /// The blobs and layers that containers, mounts and these images need.
    pub(crate) fn needed<'a>(
        &'a self,
        images: impl Iterator<Item = &'a SurveyedImage>,
    ) -> (HashSet<Digest>, BTreeSet<String>) {
        let mut needed = (self.in_use.blobs.clone(), self.in_use.layers.clone());
        for image in images {
            needed.0.extend(&image.reach.blobs);
            needed.1.extend(image.reach.layers.iter().cloned());
        }
        needed
    }
}

/// What removing a container gives back: all of its directory, but nothing that is mounted in it.
pub(crate) fn container_space(dir: &ContainerDir) -> u64 {
    space(dir.path())
}
