//! What of a store is needed: blobs and layers that names and containers lead to.

use std::collections::{BTreeSet, HashSet};

use hoy_layout::{Container, Store};
use hoy_oci::{Descriptor, Digest, Document, ImageConfig, MediaType};

use crate::Result;

/// Everything that the names of the index and the containers of a store need.
#[derive(Debug, Default)]
pub(crate) struct Reachable {
    /// Blobs, whether they are there or not.
    pub(crate) blobs: HashSet<Digest>,
    /// Directories below `ROOT/layers`.
    pub(crate) layers: BTreeSet<String>,
}

impl Reachable {
    /// Follows these descriptors. A document that is not there leads nowhere: an index may be copied in part.
    ///
    /// # Errors
    /// Those of reading a document that is there and damaged: what it leads to is then unknown.
    pub(crate) fn follow<'a>(&mut self, store: &Store, roots: impl IntoIterator<Item = &'a Descriptor>) -> Result<()> {
        let mut waiting: Vec<Descriptor> = roots.into_iter().cloned().collect();
        while let Some(descriptor) = waiting.pop() {
            if !self.blobs.insert(descriptor.digest) || store.layout().blob_size(&descriptor.digest)?.is_none() {
                continue;
            }
            let is_document = descriptor.media_type.is_index() || descriptor.media_type.is_manifest();
            if !is_document {
                continue;
            }
            let bytes = store.layout().read_document(&descriptor)?;
            let wrong = |source| hoy_layout::Error::Content { doing: format!("read {}", descriptor.digest), source };
            match Document::parse(&descriptor.media_type, &bytes).map_err(wrong)? {
                Document::Index(index) => waiting.extend(index.manifests),
                Document::Manifest(manifest) => {
                    self.add_layers(store, &manifest.config);
                    waiting.push(manifest.config);
                    waiting.extend(manifest.layers);
                }
            }
        }
        Ok(())
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

    /// What all names and containers of the store need.
    pub(crate) fn of(store: &Store) -> Result<Self> {
        let mut reachable = Self::default();
        reachable.follow(store, &store.layout().index()?.manifests)?;
        reachable.add_containers(store)?;
        Ok(reachable)
    }

    /// What containers need, even when no name leads there any more.
    pub(crate) fn add_containers(&mut self, store: &Store) -> Result<()> {
        self.layers.extend(crate::image_mount::layers(store));
        for dir in store.all_containers()? {
            let container = dir.container()?;
            self.layers.extend(container.layers.iter().cloned());
            self.follow(store, manifest_of(store, &container)?.as_ref())?;
        }
        Ok(())
    }
}

fn manifest_of(store: &Store, container: &Container) -> Result<Option<Descriptor>> {
    let Some(digest) = container.manifest else { return Ok(None) };
    let Some(size) = store.layout().blob_size(&digest)? else { return Ok(None) };
    let mut descriptor = Descriptor::new(MediaType::from(MediaType::MANIFEST), digest, size);
    if let Ok(media_type) = Document::guess_media_type(&store.layout().read_document(&descriptor)?) {
        descriptor.media_type = media_type;
    }
    Ok(Some(descriptor))
}
