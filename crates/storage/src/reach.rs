//! What of a store is needed: blobs and layers that names and containers lead to.

use std::collections::{BTreeSet, HashSet};

use hoy_layout::{Container, Store};
use hoy_oci::{Descriptor, Digest, Document, ImageConfig, MediaType};

use crate::{Error, Result};

/// Everything that the names of the index and the containers of a store need.
#[derive(Debug, Default)]
pub(crate) struct Reachable {
    /// Blobs, whether they are there or not.
    pub(crate) blobs: HashSet<Digest>,
    /// Directories below `ROOT/layers`.
    pub(crate) layers: BTreeSet<String>,
    /// What could not be read: what it leads to is needed too, and nobody knows what that is.
    pub(crate) unread: Vec<Error>,
}

impl Reachable {
    /// Follows these descriptors. A document that is not there leads nowhere: an index may be copied in part.
    pub(crate) fn follow<'a>(&mut self, store: &Store, roots: impl IntoIterator<Item = &'a Descriptor>) {
        let mut waiting: Vec<Descriptor> = roots.into_iter().cloned().collect();
        while let Some(descriptor) = waiting.pop() {
            if !self.blobs.insert(descriptor.digest) {
                continue;
            }
            if descriptor.media_type.is_index() || descriptor.media_type.is_manifest() {
                match self.step(store, &descriptor) {
                    Ok(more) => waiting.extend(more),
                    Err(error) => self.unread.push(error),
                }
            }
        }
    }

    /// What one document leads to.
    fn step(&mut self, store: &Store, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        if store.layout().blob_size(&descriptor.digest)?.is_none() {
            return Ok(Vec::new());
        }
        let bytes = store.layout().read_document(descriptor)?;
        let wrong = |source| hoy_layout::Error::Content { doing: format!("read {}", descriptor.digest), source };
        match Document::parse(&descriptor.media_type, &bytes).map_err(wrong)? {
            Document::Index(index) => Ok(index.manifests),
            Document::Manifest(manifest) => {
                self.add_layers(store, &manifest.config);
                Ok([manifest.config].into_iter().chain(manifest.layers).collect())
            }
        }
    }

    /// The cache is no truth: a configuration that cannot be read only costs its layers being unpacked again.
    fn add_layers(&mut self, store: &Store, config: &Descriptor) {
        let bytes = store.layout().read_document(config).unwrap_or_default();
        let Ok(config) = ImageConfig::parse(&bytes) else { return };
        let mut chain: Option<Digest> = None;
        for diff_id in &config.rootfs.diff_ids {
            let id = crate::cache::chain_id(chain.as_ref(), diff_id);
            chain = Some(id);
            self.layers.extend([diff_id.hex(), id.hex()]);
        }
    }

    /// What all containers of the store need, and those entries of the index that are not `left_out`.
    ///
    /// # Errors
    /// [`Error::Layout`] when the containers cannot be listed.
    pub(crate) fn of_all_but(store: &Store, left_out: impl Fn(&Descriptor) -> bool) -> Result<Self> {
        let mut reachable = Self::default();
        match store.layout().index() {
            Ok(index) => reachable.follow(store, index.manifests.iter().filter(|entry| !left_out(entry))),
            Err(error) => reachable.unread.push(error.into()),
        }
        reachable.add_containers(store)?;
        Ok(reachable)
    }

    /// What containers and mounted images need, even when no name leads there any more.
    ///
    /// # Errors
    /// As [`Reachable::of_all_but`].
    pub(crate) fn add_containers(&mut self, store: &Store) -> Result<()> {
        self.layers.extend(crate::image_mount::layers(store));
        for dir in store.all_containers()? {
            match dir.container() {
                Ok(container) => self.add_container(store, &container),
                // Somebody has removed it meanwhile.
                Err(error) if error.is_not_found() && !dir.path().exists() => {}
                Err(error) => self.unread.push(error.into()),
            }
        }
        Ok(())
    }

    pub(crate) fn add_container(&mut self, store: &Store, container: &Container) {
        self.layers.extend(container.layers.iter().cloned());
        match manifest_of(store, container) {
            Ok(manifest) => self.follow(store, &manifest),
            Err(error) => self.unread.push(error),
        }
    }
}

/// The manifest that a container was made from, when it is there.
pub(crate) fn manifest_of(store: &Store, container: &Container) -> Result<Option<Descriptor>> {
    let Some(digest) = container.manifest else { return Ok(None) };
    let Some(size) = store.layout().blob_size(&digest)? else { return Ok(None) };
    let mut descriptor = Descriptor::new(MediaType::from(MediaType::MANIFEST), digest, size);
    if let Ok(media_type) = Document::guess_media_type(&store.layout().read_document(&descriptor)?) {
        descriptor.media_type = media_type;
    }
    Ok(Some(descriptor))
}
