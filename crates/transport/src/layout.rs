//! `oci:` and `store:` — an OCI layout on disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use hoy_layout::{BlobWriter, ImageLayout, Lock, Store};
use hoy_oci::{Descriptor, Digest, MAX_DOCUMENT_BYTES, VerifyingReader};

use crate::{Destination, Document, Error, Format, Incoming, Pick, Result, Source};

/// How much is read and written at once, in bytes.
const BUFFER_BYTES: usize = 128 << 10;

/// An image in a layout.
#[derive(Debug, Clone)]
pub struct LayoutSource {
    layout: ImageLayout,
    descriptor: Descriptor,
    name: String,
    shared: Option<PathBuf>,
}

/// An image to be in a layout.
#[derive(Debug, Clone)]
pub struct LayoutDestination {
    layout: ImageLayout,
    reference: Option<String>,
    name: String,
    shared: Option<PathBuf>,
}

/// An image to be in the store. While it exists, the store's garbage is not collected.
#[derive(Debug)]
pub struct StoreDestination {
    inner: LayoutDestination,
    _lease: Lock,
}

impl LayoutSource {
    /// The image that `pick` names exactly, or the only one. Blobs are looked for in `shared` too, a directory with
    /// another one for each algorithm.
    ///
    /// # Errors
    /// When there is no layout, or no such image in it.
    pub fn open(directory: PathBuf, pick: &Pick, shared: Option<PathBuf>) -> Result<Self> {
        let layout = ImageLayout::open(directory)?;
        let descriptor = match pick {
            Pick::Only => layout.resolve(None)?,
            Pick::Named(name) => layout.resolve(Some(name))?,
            Pick::At(at) => layout.entry(*at)?,
        };
        let name = format!("\"oci:{}{pick}\"", layout.path().display());
        Ok(Self { layout, descriptor, name, shared })
    }

    /// The image that a person calls `text` in the store.
    ///
    /// # Errors
    /// When there is none.
    pub fn in_store(store: &Store, text: &str) -> Result<Self> {
        let descriptor = store.find_image(text)?.descriptor;
        Ok(Self { layout: store.layout().clone(), descriptor, name: format!("\"{text}\""), shared: None })
    }
}

impl Source for LayoutSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn root(&self) -> Result<Document> {
        let mut descriptor = self.descriptor.clone();
        let bytes = self.manifest(&descriptor)?;
        descriptor.annotations.clear();
        descriptor.platform = None;
        Ok(Document { descriptor, bytes })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if self.shared.is_none() || descriptor.size > MAX_DOCUMENT_BYTES {
            return Ok(self.layout.read_document(descriptor)?);
        }
        let mut bytes = Vec::new();
        VerifyingReader::new(self.blob(descriptor, 0)?, descriptor).read_to_end(&mut bytes).map_err(Error::Read)?;
        Ok(bytes)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        if let Some(shared) = &self.shared {
            let path = shared.join(descriptor.digest.path());
            if path.is_file() {
                return open_at(&path, offset).map_err(Error::io("open", &path));
            }
        }
        let path = self.layout.blob_file(&descriptor.digest);
        match open_at(&path, offset) {
            Ok(file) => Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let layout = self.layout.path().to_owned();
                Err(hoy_layout::Error::NoBlob { digest: descriptor.digest, layout }.into())
            }
            Err(e) => Err(Error::io("open", &path)(e)),
        }
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let mut found: Vec<Descriptor> = Vec::new();
        for mut descriptor in self.layout.index()?.manifests {
            let is_new = found.iter().all(|other| other.digest != descriptor.digest);
            // What the index lists may be missing, and is then nobody's referrer.
            let Ok(bytes) = self.layout.read_document(&descriptor) else { continue };
            if is_new && crate::referrers::subject(&bytes).is_some_and(|own| own.digest == *subject) {
                descriptor.annotations.remove(hoy_oci::REF_NAME);
                found.push(descriptor);
            }
        }
        Ok(found)
    }
}

/// The file at `path` from `offset` on.
pub(crate) fn open_at(path: &Path, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}

impl LayoutDestination {
    /// The image `reference` of the layout at `directory`, which is made if there is none. With `shared`, all blobs
    /// go to that directory, which has another one for each algorithm.
    ///
    /// # Errors
    /// When the directory is something else.
    pub fn create(directory: PathBuf, reference: Option<&str>, shared: Option<PathBuf>) -> Result<Self> {
        let layout = ImageLayout::open_or_create(directory)?;
        let name = format!("\"oci:{}\"", layout.path().display());
        if let Some(shared) = &shared {
            std::fs::create_dir_all(shared.join("sha256")).map_err(Error::io("create", shared))?;
            // What is not needed is not there, unless it has blobs from before.
            std::fs::remove_dir(layout.path().join("blobs/sha256")).unwrap_or_default();
        }
        Ok(Self { layout, reference: reference.map(str::to_owned), name, shared })
    }

    /// The directory of blobs with digests of this algorithm.
    fn blobs(&self, algorithm: &str) -> PathBuf {
        self.shared.clone().unwrap_or_else(|| self.layout.path().join("blobs")).join(algorithm)
    }

    /// The same for what has this digest; it is made if there is none.
    fn blobs_like(&self, digest: &Digest) -> Result<PathBuf> {
        let directory = self.blobs(digest.algorithm());
        if !digest.is_sha256() {
            std::fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
        }
        Ok(directory)
    }

    /// Has the index list a manifest without a name, unless it does already.
    fn list(&self, descriptor: &Descriptor) -> Result<()> {
        self.layout.edit_index(|index| {
            if index.member(&descriptor.digest).is_none() {
                index.manifests.push(descriptor.clone());
            }
            Ok(())
        })
    }

    fn put(&self, document: &Document) -> Result<()> {
        let digest = &document.descriptor.digest;
        if !digest.is_sha256() {
            hoy_layout::write_file(&self.blobs_like(digest)?.join(digest.hex()), &document.bytes)?;
        } else if self.shared.is_none() {
            self.layout.put(document.descriptor.media_type.as_str(), &document.bytes)?;
        } else if !self.has_blob(&document.descriptor)? {
            receive_new(&mut document.bytes.as_slice(), self.blobs("sha256"))?;
        }
        Ok(())
    }
}

/// Writes a blob into `directory` under its digest, taking up what an earlier process left of it; false when another
/// process has written it meanwhile.
pub(crate) fn receive(blob: &dyn Incoming, directory: PathBuf) -> Result<bool> {
    let wanted = blob.descriptor();
    let Some(mut writer) = BlobWriter::resume_in(directory.clone(), wanted)? else { return Ok(false) };
    if writer.size() == wanted.size && !writer.is(wanted) {
        writer.begin_anew()?;
    }
    let resumed_at = writer.size();
    if !writer.is(wanted) {
        pump(blob.open(resumed_at)?, &mut writer, &directory, wanted.size)?;
    }
    if resumed_at > 0 && writer.size() == wanted.size && !writer.is(wanted) {
        // A power cut, or a source that lied, has spoilt what was there before.
        writer.begin_anew()?;
        pump(blob.open(0)?, &mut writer, &directory, wanted.size)?;
    }
    writer.finish_as(wanted)?;
    Ok(true)
}

/// Writes a blob of unknown digest into `directory`.
pub(crate) fn receive_new(content: &mut dyn Read, directory: PathBuf) -> Result<(Digest, u64)> {
    let mut writer = BlobWriter::create_in(directory.clone())?;
    pump(content, &mut writer, &directory, u64::MAX)?;
    Ok(writer.finish()?)
}

/// Moves content into a blob of `directory`, until it ends or there is more than `limit`.
fn pump(mut content: impl Read, writer: &mut BlobWriter, directory: &Path, limit: u64) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    while writer.size() <= limit {
        let count = match content.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::Read(e)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        writer.write_all(bytes).map_err(Error::io("write a blob into", directory))?;
    }
    Ok(())
}

impl Destination for LayoutDestination {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn natural_format(&self) -> Option<Format> {
        Some(Format::Oci)
    }

    fn wants_compressed_layers(&self) -> bool {
        true
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        let path = self.blobs(descriptor.digest.algorithm()).join(descriptor.digest.hex());
        Ok(std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() == descriptor.size))
    }

    fn put_blob(&self, blob: &dyn Incoming) -> Result<bool> {
        receive(blob, self.blobs_like(&blob.descriptor().digest)?)
    }

    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        receive_new(content, self.blobs("sha256"))
    }

    fn put_manifest(&self, document: &Document) -> Result<()> {
        self.put(document)
    }

    fn put_referrer(&self, document: &Document, _: &Digest) -> Result<()> {
        self.put(document)?;
        self.list(&document.descriptor)
    }

    fn finish(&self, root: &Document) -> Result<()> {
        self.put(root)?;
        match &self.reference {
            Some(reference) => Ok(self.layout.set_name(reference, &root.descriptor)?),
            None => self.list(&root.descriptor),
        }
    }
}

impl StoreDestination {
    /// The image that will be called `name`, a full reference, or have no name.
    ///
    /// # Errors
    /// When the store cannot be locked.
    pub fn create(store: &Store, name: Option<&str>) -> Result<Self> {
        let lease = store.lease()?;
        let inner = LayoutDestination {
            layout: store.layout().clone(),
            reference: name.map(str::to_owned),
            name: name.map_or_else(|| "the store".to_owned(), |name| format!("\"{name}\"")),
            shared: None,
        };
        Ok(Self { inner, _lease: lease })
    }
}

impl Destination for StoreDestination {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn natural_format(&self) -> Option<Format> {
        Some(Format::Oci)
    }

    fn wants_compressed_layers(&self) -> bool {
        true
    }

    fn takes(&self, digest: &Digest) -> bool {
        digest.is_sha256()
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        self.inner.has_blob(descriptor)
    }

    fn put_blob(&self, blob: &dyn Incoming) -> Result<bool> {
        self.inner.put_blob(blob)
    }

    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        self.inner.put_new_blob(content)
    }

    fn put_manifest(&self, document: &Document) -> Result<()> {
        self.inner.put_manifest(document)
    }

    fn put_referrer(&self, document: &Document, subject: &Digest) -> Result<()> {
        self.inner.put_referrer(document, subject)
    }

    fn finish(&self, root: &Document) -> Result<()> {
        self.inner.finish(root)
    }
}
