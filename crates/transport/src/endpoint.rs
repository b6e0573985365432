//! The two ends of a copy.

use std::io::Read;

use hoy_oci::{Descriptor, Digest, VerifyingReader};

use crate::{Format, Result};

/// A manifest or index as it is: its descriptor and its bytes, which are those of the descriptor's digest.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Type, digest and size.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The registry, with its port if it has one.
    pub host: String,
    /// The repository within it.
    pub name: String,
}

/// What an image is read from.
pub trait Source: Send + Sync {
    /// The image as a person names it, in quotes where that helps.
    fn name(&self) -> String;

    /// The manifest or index that the name points to, verified.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    fn root(&self) -> Result<Document>;

    /// A manifest or index that an index lists, verified.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>>;

    /// A blob's bytes from `offset` on as they come; callers verify them.
    ///
    /// # Errors
    /// When there is none.
    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>>;

    /// Learns that the bytes it gave of a blob were wrong. When it has the blob from elsewhere too, that is where it takes
    /// it from now on, and tells who is asked no more.
    fn distrust(&self, _descriptor: &Descriptor) -> Option<String> {
        None
    }

    /// The manifests that name the one of this digest as their subject: signatures, lists of contents and the like.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn referrers(&self, _subject: &Digest) -> Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }

    /// Whether there are signatures of the manifest of this digest that are to go with it, and so would be lost if the
    /// digest changed.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn is_signed(&self, _digest: &Digest) -> Result<bool> {
        Ok(false)
    }

    /// The repository it is, where a registry may mount blobs from it.
    fn repository(&self) -> Option<Repository> {
        None
    }

    /// Whether the manifest was made up here, so that no digest is lost when layers are compressed.
    fn is_synthetic(&self) -> bool {
        false
    }
}

/// A blob on its way. The destination opens it, and where it needs it to begin.
pub trait Incoming {
    /// What it is.
    fn descriptor(&self) -> &Descriptor;

    /// Its bytes from `offset` on as they come, not verified.
    ///
    /// # Errors
    /// When the source has it not.
    fn open(&self, offset: u64) -> Result<Box<dyn Read + '_>>;

    /// All its bytes; reading fails at their end when they are not the descriptor's.
    ///
    /// # Errors
    /// When the source has it not.
    fn verified(&self) -> Result<VerifyingReader<Box<dyn Read + '_>>> {
        Ok(VerifyingReader::new(self.open(0)?, self.descriptor()))
    }
}

/// What an image is written to. Blobs come first, in any order and from several threads, then manifests, then the root.
pub trait Destination: Send + Sync {
    /// The image as a person names it, in quotes where that helps.
    fn name(&self) -> String;

    /// How many blobs may be on their way at once.
    fn lanes(&self) -> usize {
        6
    }

    /// The only kind of manifest it can hold, if it cannot hold every kind.
    fn format(&self) -> Option<Format> {
        None
    }

    /// The kind of manifest that suits it best, where the source has none of its own.
    fn natural_format(&self) -> Option<Format> {
        None
    }

    /// Whether its layers must be plain tars.
    fn wants_plain_layers(&self) -> bool {
        false
    }

    /// Whether layers that come without a manifest of their own are better compressed.
    fn wants_compressed_layers(&self) -> bool {
        false
    }

    /// Whether a layer that is to be fetched elsewhere may be left out.
    fn may_lack_foreign_layers(&self) -> bool {
        false
    }

    /// Whether it has a place for what has this digest.
    fn takes(&self, _digest: &Digest) -> bool {
        true
    }

    /// Whether the blob is there already.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool>;

    /// Takes the blob from another repository of the same registry; false when that is not possible.
    ///
    /// # Errors
    /// When the registry fails.
    fn mount_blob(&self, _descriptor: &Descriptor, _from: &Repository) -> Result<bool> {
        Ok(false)
    }

    /// Writes a blob, after checking that it is what its descriptor says; false when somebody else has meanwhile.
    ///
    /// # Errors
    /// When reading or writing fails; the blob is then not there.
    fn put_blob(&self, blob: &dyn Incoming) -> Result<bool>;

    /// Writes a blob whose digest is not known before.
    ///
    /// # Errors
    /// When reading or writing fails; the blob is then not there.
    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)>;

    /// Writes a manifest or index that the root will list.
    ///
    /// # Errors
    /// When writing fails.
    fn put_manifest(&self, document: &Document) -> Result<()>;

    /// Writes a manifest that refers to `subject`, which is there, so that it is found as one that does.
    ///
    /// # Errors
    /// When writing fails, or there is no place for such.
    fn put_referrer(&self, document: &Document, _subject: &Digest) -> Result<()> {
        let (name, reason) = (self.name(), format!("it has no place for the referrer {}", document.descriptor.digest));
        Err(crate::Error::Convert { name, reason })
    }

    /// Writes the root and gives it the name.
    ///
    /// # Errors
    /// When writing fails; the name is then as it was.
    fn finish(&self, root: &Document) -> Result<()>;
}
