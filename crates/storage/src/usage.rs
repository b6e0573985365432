//! What takes the store's disk space.

use std::collections::{BTreeSet, HashMap};

use hoy_layout::{Container, Store};
use hoy_oci::Digest;

use crate::directory::space;
use crate::survey::{Survey, SurveyedImage, container_space};
use crate::{Error, ImageSummary, Result};

/// Things of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many there are.
    pub total: usize,
    /// How many of them a container needs.
    pub active: usize,
    /// Their disk space in bytes.
    pub bytes: u64,
    /// Bytes of disk space that removing what is not active gives back.
    pub reclaimable: u64,
}

/// What takes the store's disk space.
#[derive(Debug)]
pub struct DiskUsage {
    /// Blobs that images lead to.
    pub images: Usage,
    /// Directories of containers, with all that was written in them.
    pub containers: Usage,
    /// Unpacked layers of images and containers.
    pub layers: Usage,
    /// What nothing leads to.
    pub garbage: Usage,
    /// Each image.
    pub each_image: Vec<ImageUsage>,
    /// Each container, with the disk space of its directory in bytes.
    pub each_container: Vec<(Container, u64)>,
    /// What could not be read; what it leads to is counted as garbage and is not removed.
    pub unread: Vec<Error>,
}

/// An image with what it takes.
#[derive(Debug)]
pub struct ImageUsage {
    /// The image.
    pub summary: ImageSummary,
    /// Bytes of its blobs and unpacked layers that other images have too.
    pub shared: u64,
    /// Bytes that it alone has.
    pub unique: u64,
    /// How many containers were made from it.
    pub containers: usize,
}

/// Looks at every file of the store.
///
/// # Errors
/// [`Error::Layout`], [`Error::Io`].
pub fn disk_usage(store: &Store) -> Result<DiskUsage> {
    let survey = Survey::of(store)?;
    let (blobs, layers) = survey.needed(survey.images.iter());
    let used: BTreeSet<&Digest> =
        survey.images.iter().filter(|image| survey.is_used(image)).flat_map(|image| &image.reach.blobs).collect();
    let mut images = Usage { total: survey.images.len(), ..Usage::default() };
    images.active = survey.images.iter().filter(|image| survey.is_used(image)).count();
    let (mut unpacked, mut garbage) = (Usage::default(), Usage::default());
    for (digest, bytes) in &survey.blobs {
        if !blobs.contains(digest) {
            garbage.add_garbage(*bytes);
            continue;
        }
        images.bytes += bytes;
        if !used.contains(digest) && !survey.in_use.blobs.contains(digest) {
            images.reclaimable += bytes;
        }
    }
    for (name, bytes) in &survey.layers {
        if !layers.contains(name) {
            garbage.add_garbage(*bytes);
            continue;
        }
        let is_active = survey.in_use.layers.contains(name);
        unpacked.total += 1;
        unpacked.active += usize::from(is_active);
        unpacked.bytes += bytes;
        unpacked.reclaimable += if is_active { 0 } else { *bytes };
    }
    survey.temporaries.iter().for_each(|path| garbage.add_garbage(space(path)));
    survey.unfinished.iter().for_each(|dir| garbage.add_garbage(container_space(dir)));
    let mounted = |container: &Container| crate::is_mounted(container).unwrap_or(false);
    let mut containers = Usage { total: survey.containers.len(), ..Usage::default() };
    for found in &survey.containers {
        let is_active = mounted(&found.container);
        containers.active += usize::from(is_active);
        containers.bytes += found.bytes;
        containers.reclaimable += if is_active { 0 } else { found.bytes };
    }
    let each_image = each(&survey);
    let Survey { unread, images: surveyed, containers: all, .. } = survey;
    let image_usage = |(image, (shared, unique, containers)): (SurveyedImage, _)| ImageUsage {
        summary: image.summary,
        shared,
        unique,
        containers,
    };
    Ok(DiskUsage {
        images,
        containers,
        layers: unpacked,
        garbage,
        each_image: surveyed.into_iter().zip(each_image).map(image_usage).collect(),
        each_container: all.into_iter().map(|found| (found.container, found.bytes)).collect(),
        unread,
    })
}

impl Usage {
    fn add_garbage(&mut self, bytes: u64) {
        self.total += 1;
        self.bytes += bytes;
        self.reclaimable += bytes;
    }
}

/// What each image shares with others and has alone, and how many containers it has, in the order of the images.
fn each(survey: &Survey) -> Vec<(u64, u64, usize)> {
    let mut count: HashMap<&Digest, usize> = HashMap::new();
    survey.images.iter().flat_map(|image| &image.reach.blobs).for_each(|digest| *count.entry(digest).or_default() += 1);
    let usage = |image: &SurveyedImage| {
        let size = |is_shared: bool| -> u64 {
            let blobs = image.reach.blobs.iter().filter(|digest| (count.get(digest) > Some(&1)) == is_shared);
            blobs.filter_map(|digest| survey.blobs.get(digest)).sum()
        };
        let is_from = |manifest: &Digest| image.reach.blobs.contains(manifest);
        let made = survey.containers.iter().filter(|found| found.container.manifest.as_ref().is_some_and(is_from));
        (size(true), size(false), made.count())
    };
    survey.images.iter().map(usage).collect()
}
