//! `tarball:` — tars of file trees as the layers of a new image.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hoy_layer::{Compression, Decompressor};
use hoy_oci::{Descriptor, Digest, Hasher, History, ImageConfig, LayerCompression, Manifest, MediaType, Platform};

use crate::archive::{open_input, spooled};
use crate::hashed::{At, Hashed};
use crate::{Document, Error, Format, Result, Source};

/// Tars of file trees, as an image that is made up here. The same tars give the same image: it has no date.
#[derive(Debug)]
pub struct TarballSource {
    document: Document,
    config: (Digest, Vec<u8>),
    layers: Vec<(Digest, File, PathBuf)>,
}

impl TarballSource {
    /// An image for `platform` of the layers in `files`, the lowest first; `-` is standard input, which is kept in `spool`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(files: &[PathBuf], platform: &Platform, spool: &Path) -> Result<Self> {
        let mut config = ImageConfig::new(&platform.os, &platform.architecture);
        config.variant.clone_from(&platform.variant);
        let mut layers = Vec::new();
        let mut descriptors = Vec::new();
        for path in files {
            let file = seekable(path, spool)?;
            let (descriptor, diff_id) = describe(&file).map_err(Error::io("read", path))?;
            config.rootfs.diff_ids.push(diff_id);
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            config.history.push(History { created_by: Some(format!("tarball {name}")), ..History::default() });
            layers.push((descriptor.digest, file, path.clone()));
            descriptors.push(descriptor);
        }
        let wrong = |e: serde_json::Error| Error::Convert { name: "tarball".to_owned(), reason: e.to_string() };
        let bytes = serde_json::to_vec(&config).map_err(wrong)?;
        let config = Descriptor::of(MediaType::from(MediaType::CONFIG), &bytes);
        let digest = config.digest;
        let manifest = serde_json::to_vec(&Manifest::new(MediaType::MANIFEST, config, descriptors)).map_err(wrong)?;
        let descriptor = Descriptor::of(MediaType::from(MediaType::MANIFEST), &manifest);
        Ok(Self { document: Document { descriptor, bytes: manifest }, config: (digest, bytes), layers })
    }
}

/// The file as it is, or what comes through a pipe in a nameless file in `spool`. What is compressed as no layer may be
/// is uncompressed there.
fn seekable(path: &Path, spool: &Path) -> Result<File> {
    let mut input = open_input(path)?;
    if !input.metadata().map_err(Error::io("look at", path))?.is_file() {
        let mut output = tempfile::tempfile_in(spool).map_err(Error::io("make a temporary file in", spool))?;
        io::copy(&mut input, &mut output).map_err(Error::io("keep", path))?;
        input = output;
    }
    match compression(&input).map_err(Error::io("read", path))? {
        Compression::Bzip2 | Compression::Xz => spooled(At { file: &input, offset: 0 }, path, spool),
        _ => Ok(input),
    }
}

fn compression(file: &File) -> io::Result<Compression> {
    let mut start = Vec::new();
    At { file, offset: 0 }.take(10).read_to_end(&mut start)?;
    Ok(Compression::of(&start))
}

/// What a layer is, and its diff ID.
fn describe(file: &File) -> io::Result<(Descriptor, Digest)> {
    let compression = match compression(file)? {
        Compression::Gzip => LayerCompression::Gzip,
        Compression::Zstd => LayerCompression::Zstd,
        _ => LayerCompression::None,
    };
    let mut raw = Hashed::new(At { file, offset: 0 });
    let mut plain = Hasher::new();
    if compression == LayerCompression::None {
        io::copy(&mut raw, &mut io::sink())?;
    } else {
        io::copy(&mut Decompressor::detect(&mut raw)?, &mut plain)?;
    }
    let (digest, size) = raw.finish();
    let diff_id = if compression == LayerCompression::None { digest } else { plain.finish() };
    // Every format of OCI has a word for each compression.
    let media_type = Format::Oci.layer(compression).unwrap_or_else(|| MediaType::from(MediaType::LAYER));
    Ok((Descriptor::new(media_type, digest, size), diff_id))
}

impl Source for TarballSource {
    fn name(&self) -> String {
        let files: Vec<String> = self.layers.iter().map(|(_, _, path)| path.display().to_string()).collect();
        format!("\"tarball:{}\"", files.join(":"))
    }

    fn root(&self) -> Result<Document> {
        Ok(self.document.clone())
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        Err(Error::Convert { name: self.name(), reason: format!("it has no manifest {}", descriptor.digest) })
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let (digest, bytes) = &self.config;
        if *digest == descriptor.digest {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            return Ok(Box::new(bytes.get(at..).unwrap_or_default()));
        }
        let layer = self.layers.iter().find(|(digest, ..)| *digest == descriptor.digest);
        match layer {
            Some((_, file, _)) => Ok(Box::new(At { file, offset })),
            None => Err(Error::Convert { name: self.name(), reason: format!("it has no blob {}", descriptor.digest) }),
        }
    }

    fn is_synthetic(&self) -> bool {
        true
    }
}
