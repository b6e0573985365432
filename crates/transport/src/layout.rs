//! `oci:` and `store:` — an OCI layout on disk.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use hoy_layout::{BlobWriter, ImageLayout, Lock, Store};
use hoy_oci::{Descriptor, Digest};

use crate::{Destination, Document, Error, Format, Result, Source};

/// How much is read and written at once, in bytes.
const BUFFER_BYTES: usize = 128 << 10;

/// An image in a layout.
#[derive(Debug, Clone)]
pub struct LayoutSource {
    layout: ImageLayout,
    descriptor: Descriptor,
    name: String,
}

/// An image to be in a layout.
#[derive(Debug, Clone)]
pub struct LayoutDestination {
    layout: ImageLayout,
    reference: Option<String>,
    name: String,
}

/// An image to be in the store. While it exists, the store's garbage is not collected.
#[derive(Debug)]
pub struct StoreDestination {
    inner: LayoutDestination,
    _lease: Lock,
}

impl LayoutSource {
    /// The image that `reference` names exactly, or the only one.
    ///
    /// # Errors
    /// When there is no layout, or no such image in it.
    pub fn open(directory: PathBuf, reference: Option<&str>) -> Result<Self> {
        let layout = ImageLayout::open(directory)?;
        let descriptor = layout.resolve(reference)?;
        let mut name = format!("\"oci:{}", layout.path().display());
        name.extend(reference.iter().flat_map(|reference| [":", reference]));
        name.push('"');
        Ok(Self { layout, descriptor, name })
    }

    /// The image that a person calls `text` in the store.
    ///
    /// # Errors
    /// When there is none.
    pub fn in_store(store: &Store, text: &str) -> Result<Self> {
        let descriptor = store.find_image(text)?.descriptor;
        Ok(Self { layout: store.layout().clone(), descriptor, name: format!("\"{text}\"") })
    }
}

impl Source for LayoutSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn root(&self) -> Result<Document> {
        let mut descriptor = self.descriptor.clone();
        let bytes = self.layout.read_document(&descriptor)?;
        descriptor.annotations.clear();
        descriptor.platform = None;
        Ok(Document { descriptor, bytes })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        Ok(self.layout.read_document(descriptor)?)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let path = self.layout.blob_file(&descriptor.digest);
        match File::open(&path) {
            Ok(file) => Ok(Box::new(file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let layout = self.layout.path().to_owned();
                Err(hoy_layout::Error::NoBlob { digest: descriptor.digest, layout }.into())
            }
            Err(e) => Err(Error::io("open", &path)(e)),
        }
    }
}

impl LayoutDestination {
    /// The image `reference` of the layout at `directory`, which is made if there is none.
    ///
    /// # Errors
    /// When the directory is something else.
    pub fn create(directory: PathBuf, reference: Option<&str>) -> Result<Self> {
        let layout = ImageLayout::open_or_create(directory)?;
        let name = format!("\"oci:{}\"", layout.path().display());
        Ok(Self { layout, reference: reference.map(str::to_owned), name })
    }

    fn write(&self, content: &mut dyn Read) -> Result<BlobWriter> {
        pump(content, self.layout.blob_writer()?, self.layout.path())
    }

    fn put(&self, document: &Document) -> Result<()> {
        self.layout.put(document.descriptor.media_type.as_str(), &document.bytes)?;
        Ok(())
    }
}

/// Moves content into a blob of `directory`.
pub(crate) fn pump(content: &mut dyn Read, mut writer: BlobWriter, directory: &Path) -> Result<BlobWriter> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => return Ok(writer),
            Ok(count) => count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::Read(e)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        writer.write_all(bytes).map_err(Error::io("write a blob into", directory))?;
    }
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
        Ok(self.layout.blob_size(&descriptor.digest)? == Some(descriptor.size))
    }

    fn put_blob(&self, descriptor: &Descriptor, content: &mut dyn Read) -> Result<()> {
        Ok(self.write(content)?.finish_as(descriptor)?)
    }

    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        Ok(self.write(content)?.finish()?)
    }

    fn put_manifest(&self, document: &Document) -> Result<()> {
        self.put(document)
    }

    fn finish(&self, root: &Document) -> Result<()> {
        self.put(root)?;
        match &self.reference {
            Some(reference) => Ok(self.layout.set_name(reference, &root.descriptor)?),
            None => self.layout.edit_index(|index| {
                if index.member(&root.descriptor.digest).is_none() {
                    index.manifests.push(root.descriptor.clone());
                }
                Ok(())
            }),
        }
    }
}

impl StoreDestination {
    /// The image that will be called `name`, a full reference.
    ///
    /// # Errors
    /// When the store cannot be locked.
    pub fn create(store: &Store, name: &str) -> Result<Self> {
        let lease = store.lease()?;
        let inner = LayoutDestination {
            layout: store.layout().clone(),
            reference: Some(name.to_owned()),
            name: format!("\"{name}\""),
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

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        self.inner.has_blob(descriptor)
    }

    fn put_blob(&self, descriptor: &Descriptor, content: &mut dyn Read) -> Result<()> {
        self.inner.put_blob(descriptor, content)
    }

    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        self.inner.put_new_blob(content)
    }

    fn put_manifest(&self, document: &Document) -> Result<()> {
        self.inner.put_manifest(document)
    }

    fn finish(&self, root: &Document) -> Result<()> {
        self.inner.finish(root)
    }
}
