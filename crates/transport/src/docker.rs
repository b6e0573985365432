//! `docker:` — a registry.

use std::io::Read;

use hoy_oci::{Descriptor, Digest, Reference};
use hoy_registry::Registry;

use crate::{Destination, Document, Repository, Result, Source};

/// An image at a registry.
#[derive(Debug, Clone)]
pub struct DockerSource {
    registry: Registry,
    reference: Reference,
}

/// An image to be at a registry.
#[derive(Debug, Clone)]
pub struct DockerDestination {
    registry: Registry,
    reference: Reference,
}

/// What a manifest is asked for by: the digest if there is one, which pins it.
fn key(reference: &Reference) -> String {
    let digest = reference.digest().map(Digest::to_string);
    digest.or_else(|| reference.tag().map(str::to_owned)).unwrap_or_else(|| "latest".to_owned())
}

impl DockerSource {
    /// The image `reference` at its registry.
    pub fn new(registry: Registry, reference: Reference) -> Self {
        Self { registry, reference }
    }
}

impl Source for DockerSource {
    fn name(&self) -> String {
        format!("\"{}\"", self.reference)
    }

    fn root(&self) -> Result<Document> {
        let fetched = self.registry.manifest(self.reference.repository(), &key(&self.reference))?;
        Ok(Document { descriptor: fetched.descriptor, bytes: fetched.bytes })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        Ok(self.registry.manifest(self.reference.repository(), &descriptor.digest.to_string())?.bytes)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.registry.blob(self.reference.repository(), descriptor)?))
    }

    fn repository(&self) -> Option<Repository> {
        let (host, name) = (self.reference.host().to_owned(), self.reference.repository().to_owned());
        Some(Repository { host, name })
    }
}

impl DockerDestination {
    /// The image `reference` at its registry.
    pub fn new(registry: Registry, reference: Reference) -> Self {
        Self { registry, reference }
    }
}

impl Destination for DockerDestination {
    fn name(&self) -> String {
        format!("\"{}\"", self.reference)
    }

    fn wants_compressed_layers(&self) -> bool {
        true
    }

    fn may_lack_foreign_layers(&self) -> bool {
        true
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        let size = self.registry.blob_size(self.reference.repository(), &descriptor.digest)?;
        Ok(size == Some(descriptor.size))
    }

    fn mount_blob(&self, descriptor: &Descriptor, from: &Repository) -> Result<bool> {
        let here = self.reference.repository();
        if from.host != self.reference.host() || from.name == here {
            return Ok(false);
        }
        Ok(self.registry.mount_blob(here, &descriptor.digest, &from.name)?)
    }

    fn put_blob(&self, descriptor: &Descriptor, content: &mut dyn Read) -> Result<()> {
        Ok(self.registry.put_blob(self.reference.repository(), descriptor, content)?)
    }

    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        Ok(self.registry.put_new_blob(self.reference.repository(), content)?)
    }

    fn put_manifest(&self, document: &Document) -> Result<()> {
        let digest = document.descriptor.digest.to_string();
        self.put(&digest, document)
    }

    fn finish(&self, root: &Document) -> Result<()> {
        let pinned = self.reference.digest().filter(|digest| **digest != root.descriptor.digest);
        if let Some(expected) = pinned {
            let source = hoy_oci::Error::DigestMismatch { expected: *expected, actual: root.descriptor.digest };
            return Err(crate::Error::Content { doing: format!("write {}", self.name()), source });
        }
        let key = self.reference.tag().map_or_else(|| root.descriptor.digest.to_string(), str::to_owned);
        self.put(&key, root)
    }
}

impl DockerDestination {
    fn put(&self, key: &str, document: &Document) -> Result<()> {
        let media_type = &document.descriptor.media_type;
        Ok(self.registry.put_manifest(self.reference.repository(), key, media_type, &document.bytes)?)
    }
}
