//! An image from a tar of a root file system.

use std::io::{BufReader, Read, Write};

use hoy_layer::{Archive, Compressor, Decompressor};
use hoy_layout::{BlobWriter, Store};
use hoy_oci::{Descriptor, Digest, Hasher, History, ImageConfig, LayerCompression, Manifest, MediaType, Reference};

use crate::{Error, Result};

/// Passes on what it reads, and hashes and compresses it.
struct Tee<R> {
    input: R,
    hasher: Hasher,
    output: Compressor<BlobWriter>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        self.hasher.update(bytes);
        self.output.write_all(bytes)?;
        Ok(count)
    }
}

/// Makes an image whose only layer is the archive `input`, compressed or not, and returns its id.
///
/// `config` says everything else; the layer and the step that made it, with `comment`, are added. The same archive and
/// configuration give the same image.
///
/// # Errors
/// [`Error::Archive`] for what is no tar archive, [`hoy_layout::Error::Content`] for a text that is no name; nothing is kept then.
pub fn import(
    store: &Store,
    input: impl Read,
    mut config: ImageConfig,
    comment: Option<String>,
    name: Option<&str>,
) -> Result<Digest> {
    let _lease = store.lease()?;
    let wrong = |source| hoy_layout::Error::Content { doing: "name the image".to_owned(), source };
    let name = name.map(|name| Reference::parse_local(name).map_err(wrong)).transpose()?;
    let layout = store.layout();
    let (layer, diff_id) = take(store, input)?;
    config.rootfs.diff_ids = vec![diff_id];
    let created_by = Some(format!("/bin/sh -c #(nop) ADD file:{} in /", diff_id.hex()));
    config.history = vec![History { created: config.created, created_by, comment, ..History::default() }];
    let json = |e| Error::io("write", layout.path())(std::io::Error::other::<serde_json::Error>(e));
    let config = layout.put(MediaType::CONFIG, &serde_json::to_vec(&config).map_err(json)?)?;
    let id = config.digest;
    let manifest = Manifest::new(MediaType::MANIFEST, config, vec![layer]);
    let manifest = layout.put(MediaType::MANIFEST, &serde_json::to_vec(&manifest).map_err(json)?)?;
    match name {
        Some(name) => layout.set_name(&name.or_latest().to_string(), &manifest)?,
        None => layout.edit_index::<_, Error>(|index| {
            if index.member(&manifest.digest).is_none() {
                index.manifests.push(manifest);
            }
            Ok(())
        })?,
    }
    Ok(id)
}

/// Stores the archive as a layer.
fn take(store: &Store, input: impl Read) -> Result<(Descriptor, Digest)> {
    let failed = Error::Archive;
    let input = Decompressor::detect(input).map_err(|e| failed(hoy_layer::Error::Read(e)))?;
    let blobs = store.root().join("blobs/sha256");
    let output = Compressor::new(LayerCompression::Gzip, store.layout().blob_writer()?);
    let output = output.map_err(Error::io("compress a layer in", &blobs))?;
    let mut tee = Tee { input, hasher: Hasher::new(), output };
    {
        let mut archive = Archive::new(BufReader::with_capacity(128 << 10, &mut tee));
        while archive.next_entry().map_err(failed)?.is_some() {}
        archive.drain().map_err(failed)?;
    }
    let writer = tee.output.finish().map_err(Error::io("write a layer in", &blobs))?;
    let (digest, size) = writer.finish()?;
    Ok((Descriptor::new(MediaType::from(MediaType::LAYER_GZIP), digest, size), tee.hasher.finish()))
}
