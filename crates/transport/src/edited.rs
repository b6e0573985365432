//! An image made from others: documents and layers of its own before those of the images it is made from.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use hoy_layer::Compressor;
use hoy_oci::{
    Descriptor, Digest, Document as Parsed, Hasher, History, ImageConfig, LayerCompression, Manifest, MediaType,
    VerifyingReader,
};

use crate::hashed::{At, Hashed};
use crate::{Document, Error, Format, Repository, Result, Source};

/// An image that is not anywhere yet. Copying it writes it.
pub struct Edited<'a> {
    bases: Vec<&'a dyn Source>,
    root: Document,
    own: HashMap<Digest, Vec<u8>>,
    files: HashMap<Digest, File>,
}

impl<'a> Edited<'a> {
    /// The manifest or index `root`; what it refers to and is not given is taken from `bases`.
    pub fn new(bases: Vec<&'a dyn Source>, root: Document) -> Self {
        Self { bases, root, own: HashMap::new(), files: HashMap::new() }
    }

    /// Has these bytes too, as a manifest or a blob.
    #[must_use]
    pub fn with_bytes(mut self, bytes: Vec<u8>) -> Self {
        self.own.insert(Digest::of(&bytes), bytes);
        self
    }

    /// Has this layer too.
    #[must_use]
    pub fn with_layer(mut self, layer: NewLayer) -> Self {
        self.files.insert(layer.descriptor.digest, layer.file);
        self
    }

    fn missing(&self, digest: &Digest) -> Error {
        Error::Convert { name: self.name(), reason: format!("there is no {digest}") }
    }
}

impl Source for Edited<'_> {
    fn name(&self) -> String {
        self.bases.first().map_or_else(|| "the new image".to_owned(), |base| base.name())
    }

    fn root(&self) -> Result<Document> {
        Ok(self.root.clone())
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if let Some(bytes) = self.own.get(&descriptor.digest) {
            return Ok(bytes.clone());
        }
        let mut failure = self.missing(&descriptor.digest);
        for base in &self.bases {
            // The root of a base need not be listed there by any index.
            let found = match base.root() {
                Ok(root) if root.descriptor.digest == descriptor.digest => Ok(root.bytes),
                _ => base.manifest(descriptor),
            };
            match found {
                Ok(bytes) => return Ok(bytes),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        if let Some(bytes) = self.own.get(&descriptor.digest) {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            return Ok(Box::new(bytes.get(at..).unwrap_or_default()));
        }
        if let Some(file) = self.files.get(&descriptor.digest) {
            return Ok(Box::new(At { file, offset }));
        }
        let mut failure = self.missing(&descriptor.digest);
        for base in &self.bases {
            match base.blob(descriptor, offset) {
                Ok(content) => return Ok(content),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn repository(&self) -> Option<Repository> {
        self.bases.first()?.repository()
    }
}

/// A layer in a nameless file.
#[derive(Debug)]
pub struct NewLayer {
    /// The layer as it is, with OCI's media type.
    pub descriptor: Descriptor,
    /// The digest of its tar; of one that was fetched, that of the layer.
    pub diff_id: Digest,
    file: File,
}

impl NewLayer {
    /// The layer whose tar, compressed or not, `input` gives, in compression `to`; it is kept in `spool`.
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn receive(input: impl Read, to: LayerCompression, spool: &Path) -> Result<Self> {
        Self::as_is(hoy_layer::Decompressor::detect(input).map_err(Error::Read)?, to, spool)
    }

    /// What `input` gives as it is, in compression `to`; it is kept in `spool`.
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn as_is(input: impl Read, to: LayerCompression, spool: &Path) -> Result<Self> {
        Self::make(to, spool, |output| {
            let mut input = Hashed::new(input);
            std::io::copy(&mut input, output).map_err(Error::Read)?;
            Ok(input.finish().0)
        })
    }

    /// The layer whose tar `write` writes.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn write(
        to: LayerCompression,
        spool: &Path,
        write: impl FnOnce(&mut dyn std::io::Write) -> Result<()>,
    ) -> Result<Self> {
        Self::make(to, spool, |output| {
            let mut both = Tee { hasher: Hasher::new(), output };
            write(&mut both)?;
            Ok(both.hasher.finish())
        })
    }

    /// The layer `descriptor` of `source` as it is, for reading more than once.
    ///
    /// # Errors
    /// When reading or writing fails, or it is not what the descriptor says.
    pub fn fetch(source: &dyn Source, descriptor: &Descriptor, spool: &Path) -> Result<Self> {
        let mut file = tempfile::tempfile_in(spool).map_err(Error::io("make a temporary file in", spool))?;
        let mut content = VerifyingReader::new(source.blob(descriptor, 0)?, descriptor);
        std::io::copy(&mut content, &mut file).map_err(Error::Read)?;
        Ok(Self { descriptor: descriptor.clone(), diff_id: descriptor.digest, file })
    }

    fn make(
        to: LayerCompression,
        spool: &Path,
        fill: impl FnOnce(&mut dyn std::io::Write) -> Result<Digest>,
    ) -> Result<Self> {
        let file = tempfile::tempfile_in(spool).map_err(Error::io("make a temporary file in", spool))?;
        let writing = |e: std::io::Error| Error::io("write a temporary file in", spool)(e);
        let mut output = &file;
        let mut compressor =
            Compressor::new(to, Tee { hasher: Hasher::new(), output: &mut output }).map_err(writing)?;
        let diff_id = fill(&mut compressor)?;
        let digest = compressor.finish().map_err(writing)?.hasher.finish();
        let size = file.metadata().map_err(writing)?.len();
        let media_type = Format::Oci.layer(to).unwrap_or_else(|| MediaType::from(MediaType::LAYER));
        Ok(Self { descriptor: Descriptor::new(media_type, digest, size), diff_id, file })
    }
}

/// Writes and hashes.
struct Tee<'a> {
    hasher: Hasher,
    output: &'a mut dyn std::io::Write,
}

impl std::io::Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}

/// Manifest and configuration of one image, to be changed together.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The manifest; its configuration's descriptor is filled in at the end.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
    media_type: MediaType,
}

impl Draft {
    /// The image whose manifest is `document` of `source`.
    ///
    /// # Errors
    /// When it is no image, or the configuration cannot be read.
    pub fn of(source: &dyn Source, document: &Document) -> Result<Self> {
        let wrong = |e| Error::content(source.name())(e);
        let media_type = document.descriptor.media_type.clone();
        let Parsed::Manifest(manifest) = Parsed::parse(&media_type, &document.bytes).map_err(wrong)? else {
            return Err(Error::Convert { name: source.name(), reason: "it is an index".to_owned() });
        };
        if !manifest.config.media_type.is_image_config() {
            let reason = format!("its configuration is of type {}, so it is no image", manifest.config.media_type);
            return Err(Error::Convert { name: source.name(), reason });
        }
        let bytes = read_small(source, &manifest.config)?;
        Ok(Self { manifest, config: ImageConfig::parse(&bytes).map_err(wrong)?, media_type })
    }

    /// The same image without any layer.
    pub fn clear_layers(&mut self) {
        self.manifest.layers.clear();
        self.config.rootfs.diff_ids.clear();
        self.config.history.clear();
    }

    /// Puts a layer on top.
    pub fn add_layer(&mut self, layer: &NewLayer, created_by: &str) {
        let mut descriptor = layer.descriptor.clone();
        let compression = descriptor.media_type.layer_compression();
        let own = compression.and_then(|compression| Format::of(&self.media_type).layer(compression));
        descriptor.media_type = own.unwrap_or(descriptor.media_type);
        self.manifest.layers.push(descriptor);
        self.config.rootfs.diff_ids.push(layer.diff_id);
        let created_by = Some(created_by.to_owned());
        self.config.history.push(History { created: self.config.created, created_by, ..History::default() });
    }

    /// The manifest as it is now, and the configuration's bytes.
    ///
    /// # Errors
    /// None that anybody has seen: both are plain documents.
    pub fn finish(mut self) -> Result<(Document, Vec<u8>)> {
        let wrong = |e: serde_json::Error| Error::Convert { name: "the new image".to_owned(), reason: e.to_string() };
        let config = serde_json::to_vec(&self.config).map_err(wrong)?;
        let media_type = self.manifest.config.media_type.clone();
        self.manifest.config = Descriptor::of(media_type, &config);
        let bytes = serde_json::to_vec(&self.manifest).map_err(wrong)?;
        Ok((Document { descriptor: Descriptor::of(self.media_type, &bytes), bytes }, config))
    }

    /// This image with the layers it has above `old` put on `new` instead.
    ///
    /// # Errors
    /// When `old` is not what this image stands on.
    pub fn rebase(&mut self, old: &Self, new: &Self) -> std::result::Result<(), String> {
        let (own, below) = (&self.config.rootfs.diff_ids, &old.config.rootfs.diff_ids);
        if !own.starts_with(below) || self.manifest.layers.len() != own.len() {
            return Err("it does not stand on the layers of the old base".to_owned());
        }
        if new.manifest.layers.len() != new.config.rootfs.diff_ids.len() {
            return Err("the new base has another number of layers than its configuration says".to_owned());
        }
        let format = Format::of(&self.media_type);
        let convert = |layer: &Descriptor| {
            let media_type = layer.media_type.layer_compression().and_then(|compression| format.layer(compression));
            Descriptor { media_type: media_type.unwrap_or(layer.media_type.clone()), ..layer.clone() }
        };
        let layers = new.manifest.layers.iter().map(convert);
        self.manifest.layers.splice(..below.len(), layers);
        self.config.rootfs.diff_ids.splice(..below.len(), new.config.rootfs.diff_ids.iter().copied());
        // Steps without a layer count too; what cannot be told apart is left out.
        let steps = old.config.history.len().min(self.config.history.len());
        self.config.history.splice(..steps, new.config.history.iter().cloned());
        self.config.architecture.clone_from(&new.config.architecture);
        self.config.os.clone_from(&new.config.os);
        self.config.variant.clone_from(&new.config.variant);
        Ok(())
    }
}

/// All of a small blob, verified.
///
/// # Errors
/// When it is missing, large or wrong.
pub fn read_small(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    if descriptor.size > hoy_oci::MAX_DOCUMENT_BYTES {
        let (size, limit) = (descriptor.size, hoy_oci::MAX_DOCUMENT_BYTES);
        return Err(Error::content(source.name())(hoy_oci::Error::TooLarge { kind: "document", size, limit }));
    }
    let mut bytes = Vec::new();
    VerifyingReader::new(source.blob(descriptor, 0)?, descriptor).read_to_end(&mut bytes).map_err(Error::Read)?;
    Ok(bytes)
}

/// The digest of a layer's tar, found by reading all of it.
///
/// # Errors
/// When the layer is missing, damaged, or not what its descriptor says.
pub fn diff_id(source: &dyn Source, layer: &Descriptor) -> Result<Digest> {
    let content = VerifyingReader::new(source.blob(layer, 0)?, layer);
    let mut plain = Hashed::new(hoy_layer::Decompressor::detect(content).map_err(Error::Read)?);
    std::io::copy(&mut plain, &mut std::io::sink()).map_err(Error::Read)?;
    Ok(plain.finish().0)
}
