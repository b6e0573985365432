//! Sources whose blobs come in another way, and all else as it is.

use std::io::Read;

use hoy_oci::{Descriptor, Digest};
use hoy_transport::{Document, Repository, Result, Source};

/// How they come.
pub(crate) trait Way: Send + Sync {
    /// A blob from `offset` on, which `source` has too.
    fn blob<'a>(&'a self, source: &'a dyn Source, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + 'a>>;

    /// As [`Source::distrust`].
    fn distrust(&self, source: &dyn Source, blob: &Descriptor) -> Option<String> {
        source.distrust(blob)
    }
}

/// A source with another way.
pub(crate) struct By<'a, W> {
    pub(crate) source: Box<dyn Source + 'a>,
    pub(crate) way: W,
}

impl<W: Way> Source for By<'_, W> {
    fn name(&self) -> String {
        self.source.name()
    }

    fn root(&self) -> Result<Document> {
        self.source.root()
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.source.manifest(descriptor)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        self.way.blob(&*self.source, descriptor, offset)
    }

    fn distrust(&self, descriptor: &Descriptor) -> Option<String> {
        self.way.distrust(&*self.source, descriptor)
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        self.source.referrers(subject)
    }

    fn is_signed(&self, digest: &Digest) -> Result<bool> {
        self.source.is_signed(digest)
    }

    fn repository(&self) -> Option<Repository> {
        self.source.repository()
    }

    fn is_synthetic(&self) -> bool {
        self.source.is_synthetic()
    }
}
