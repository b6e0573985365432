//! `dir:` — one file for each thing, for looking at (containers-transports(5)).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hoy_layout::{BlobWriter, write_file};
use hoy_oci::{Descriptor, Digest, Document as Parsed, MAX_DOCUMENT_BYTES};

use crate::layout::pump;
use crate::{Destination, Document, Error, Result, Source};

const VERSION_FILE: &str = "version";
const VERSION: &[u8] = b"Directory Transport Version: 1.1\n";
const MANIFEST_FILE: &str = "manifest.json";

/// An image in a plain directory.
#[derive(Debug, Clone)]
pub struct DirSource(PathBuf);

/// An image to be in a plain directory, which holds no other.
#[derive(Debug, Clone)]
pub struct DirDestination(PathBuf);

impl DirSource {
    /// The image in `directory`.
    pub fn open(directory: PathBuf) -> Self {
        Self(directory)
    }
}

fn read_document(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("open", path))?;
    file.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let (size, limit) = (bytes.len() as u64, MAX_DOCUMENT_BYTES);
    if size > limit {
        return Err(Error::content(path.display())(hoy_oci::Error::TooLarge { kind: "manifest", size, limit }));
    }
    Ok(bytes)
}

impl Source for DirSource {
    fn name(&self) -> String {
        format!("\"dir:{}\"", self.0.display())
    }

    fn root(&self) -> Result<Document> {
        let bytes = read_document(&self.0.join(MANIFEST_FILE))?;
        let media_type = Parsed::guess_media_type(&bytes).map_err(Error::content(self.name()))?;
        Ok(Document { descriptor: Descriptor::of(media_type, &bytes), bytes })
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        read_document(&self.0.join(format!("{}.{MANIFEST_FILE}", descriptor.digest.hex())))
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + '_>> {
        let path = self.0.join(descriptor.digest.hex());
        Ok(Box::new(File::open(&path).map_err(Error::io("open", &path))?))
    }
}

impl DirDestination {
    /// The directory, made if there is none; an older image in it is replaced.
    ///
    /// # Errors
    /// When there are other things in it.
    pub fn create(directory: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
        let mut entries = std::fs::read_dir(&directory).map_err(Error::io("read", &directory))?;
        if entries.next().is_some() && !directory.join(VERSION_FILE).is_file() {
            let reason = "it is a directory with other things in it".to_owned();
            return Err(Error::Archive { path: directory, reason });
        }
        write_file(&directory.join(VERSION_FILE), VERSION)?;
        Ok(Self(directory))
    }
}

impl Destination for DirDestination {
    fn name(&self) -> String {
        format!("\"dir:{}\"", self.0.display())
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        let path = self.0.join(descriptor.digest.hex());
        Ok(std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() == descriptor.size))
    }

    fn put_blob(&self, descriptor: &Descriptor, content: &mut dyn Read) -> Result<()> {
        Ok(pump(content, BlobWriter::create_in(self.0.clone())?, &self.0)?.finish_as(descriptor)?)
    }

    fn put_new_blob(&self, content: &mut dyn Read) -> Result<(Digest, u64)> {
        Ok(pump(content, BlobWriter::create_in(self.0.clone())?, &self.0)?.finish()?)
    }

    fn put_manifest(&self, document: &Document) -> Result<()> {
        let name = format!("{}.{MANIFEST_FILE}", document.descriptor.digest.hex());
        Ok(write_file(&self.0.join(name), &document.bytes)?)
    }

    fn finish(&self, root: &Document) -> Result<()> {
        Ok(write_file(&self.0.join(MANIFEST_FILE), &root.bytes)?)
    }
}
