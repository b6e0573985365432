//! `oci-archive:` — a tar of an OCI layout.

use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hoy_oci::{Descriptor, Digest, Index, REF_NAME};

use crate::archive::Archive;
use crate::archive_writer::ArchiveWriter;
use crate::{Destination, Document, Error, Format, Incoming, Pick, Result, Source};

/// An image in a tar of an OCI layout.
#[derive(Debug)]
pub struct OciArchiveSource {
    archive: Archive,
    descriptor: Descriptor,
    listed: Vec<Descriptor>,
}

/// An image to be in a tar of an OCI layout, which holds no other.
#[derive(Debug)]
pub struct OciArchiveDestination {
    writer: Mutex<ArchiveWriter>,
    reference: Option<String>,
    name: String,
    /// What the index lists beside the image.
    referrers: Mutex<Vec<Descriptor>>,
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}", digest.path())
}

/// The names of the images in the archive. A pipe is kept in `spool` meanwhile.
///
/// # Errors
/// When it is no such archive.
pub fn oci_archive_names(file: &Path, spool: &Path) -> Result<Vec<String>> {
    let index = index(&Archive::open(file, spool)?)?;
    Ok(index.manifests.iter().filter_map(|image| image.ref_name().map(str::to_owned)).collect())
}

fn index(archive: &Archive) -> Result<Index> {
    serde_json::from_slice(&archive.document("index.json")?).map_err(|e| archive.wrong(format!("its index.json: {e}")))
}

impl OciArchiveSource {
    /// The image `reference` of the archive, or its only one. A pipe is kept in `spool` meanwhile.
    ///
    /// # Errors
    /// When it is no such archive, or has no such image.
    pub fn open(file: &Path, pick: &Pick, spool: &Path) -> Result<Self> {
        let archive = Archive::open(file, spool)?;
        let index = index(&archive)?;
        let count = index.manifests.len();
        let mut all = index.manifests.iter();
        let found = match pick {
            Pick::Only if count > 1 => {
                return Err(archive.wrong(format!("it has {count} images: add the name of one, or its place as @N")));
            }
            Pick::Only => all.next(),
            Pick::Named(name) => all.find(|m| m.ref_name() == Some(name)),
            Pick::At(at) => all.nth(*at),
        };
        let missing = || match pick {
            Pick::Only => "it has no image".to_owned(),
            Pick::Named(name) => format!("it has no image named \"{name}\""),
            Pick::At(at) => format!("it has no image number {at}"),
        };
        let descriptor = found.ok_or_else(|| archive.wrong(missing()))?.clone();
        Ok(Self { archive, descriptor, listed: index.manifests })
    }
}

impl Source for OciArchiveSource {
    fn name(&self) -> String {
        format!("\"oci-archive:{}\"", self.archive.path().display())
    }

    fn root(&self) -> Result<Document> {
        let mut descriptor = self.descriptor.clone();
        let bytes = self.manifest(&descriptor)?;
        let (actual, size) = (descriptor.digest.again(&bytes), bytes.len() as u64);
        if actual != descriptor.digest || size != descriptor.size {
            let source = hoy_oci::Error::DigestMismatch { expected: descriptor.digest, actual };
            return Err(Error::content(self.name())(source));
        }
        descriptor.annotations.clear();
        descriptor.platform = None;
        Ok(Document { descriptor, bytes })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.archive.document(&blob_name(&descriptor.digest))
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.archive.section_from(&blob_name(&descriptor.digest), offset)?))
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let refers = |m: &&Descriptor| {
            let bytes = self.archive.document(&blob_name(&m.digest));
            bytes.is_ok_and(|bytes| crate::referrers::subject(&bytes).is_some_and(|own| own.digest == *subject))
        };
        Ok(self.listed.iter().filter(refers).cloned().collect())
    }
}

impl OciArchiveDestination {
    /// An archive that will be at `file`; `-` is standard output.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(file: &Path, reference: Option<&str>, spool: &Path) -> Result<Self> {
        let mut writer = ArchiveWriter::create(file, spool)?;
        // Tools that unpack the archive as an ordinary user fail at directories that only follow from their members.
        for directory in ["blobs/", "blobs/sha256/"] {
            writer.put_directory(directory)?;
        }
        let writer = Mutex::new(writer);
        let name = format!("\"oci-archive:{}\"", file.display());
        Ok(Self { writer, reference: reference.map(str::to_owned), name, referrers: Mutex::default() })
    }

    fn writer(&self) -> MutexGuard<'_, ArchiveWriter> {
        // There is one lane, so nobody else can have died within.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Destination for OciArchiveDestination {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn lanes(&self) -> usize {
        1
    }

    fn natural_format(&self) -> Option<Format> {
        Some(Format::Oci)
    }

    fn wants_compressed_layers(&self) -> bool {
        true
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.writer().size(&blob_name(&descriptor.digest)) == Some(descriptor.size))
    }

    fn put_blob(&self, blob: &dyn Incoming) -> Result<bool> {
        let descriptor = blob.descriptor();
        self.writer().put(&blob_name(&descriptor.digest), descriptor.size, &mut blob.verified()?)?;
        Ok(true)
    }

    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        self.writer().put_new(content, blob_name)
    }

    fn put_manifest(&self, document: &Document) -> Result<()> {
        if self.has_blob(&document.descriptor)? {
            return Ok(());
        }
        self.writer().put_bytes(&blob_name(&document.descriptor.digest), &document.bytes)
    }

    fn put_referrer(&self, document: &Document, _: &Digest) -> Result<()> {
        self.put_manifest(document)?;
        self.referrers.lock().unwrap_or_else(PoisonError::into_inner).push(document.descriptor.clone());
        Ok(())
    }

    fn finish(&self, root: &Document) -> Result<()> {
        self.put_manifest(root)?;
        let mut descriptor = root.descriptor.clone();
        descriptor.annotations.extend(self.reference.clone().map(|name| (REF_NAME.to_owned(), name)));
        let mut listed = vec![descriptor];
        listed.append(&mut self.referrers.lock().unwrap_or_else(PoisonError::into_inner));
        let index = serde_json::to_vec(&Index::new(listed));
        let index = index.map_err(|e| Error::Convert { name: self.name(), reason: e.to_string() })?;
        let mut writer = self.writer();
        writer.put_bytes("index.json", &index)?;
        writer.put_bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        writer.finish()
    }
}
