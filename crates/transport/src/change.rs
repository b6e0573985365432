//! What is done to layers on their way: they are decrypted, brought into another compression, encrypted.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::rc::Rc;

use hoy_crypt::{Decrypting, Encrypting, LayerKey, PrivateKey, PublicKey, encrypted_type, forget, plain_type};
use hoy_oci::{Descriptor, Digest, LayerCompression, Manifest};

use crate::chunked::{Annotations, Chunked, TABLE_DIGEST};
use crate::recompress::Recompressed;
use crate::{CopyOptions, Destination, Error, Format, LayerPolicy, Result, Source};

/// The annotations of layers that tell where files are in them, and hold no longer when they are compressed anew or encrypted.
const PLACES: [&str; 3] =
    ["io.github.containers.zstd-chunked.", "containerd.io/snapshot/stargz/", "io.containers.estargz."];

/// For whom layers are encrypted.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// Who can decrypt them.
    pub recipients: Vec<PublicKey>,
    /// Which ones, the lowest being 0, the uppermost -1; all when there are none.
    pub layers: Vec<i64>,
}

/// What is done to a layer, in this order.
#[derive(Clone, Default)]
pub(crate) struct Change {
    decrypt: Option<LayerKey>,
    pub(crate) compress: Option<LayerCompression>,
    /// Compressed as zstd:chunked.
    chunked: bool,
    encrypt: bool,
}

/// A blob as it is at the destination, and the annotations that tell how to read it.
pub(crate) struct Written {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The changes that an image's layers need, by their digests; those that need none are left out.
///
/// A layer that the image has twice is changed in both places.
pub(crate) fn plan(
    manifest: &Manifest,
    source: &dyn Source,
    destination: &dyn Destination,
    options: &CopyOptions,
) -> Result<HashMap<Digest, Change>> {
    let mut changes = HashMap::new();
    for layer in &manifest.layers {
        let mut layer = layer.clone();
        let mut change = Change::default();
        if let Some(plain) = plain_type(&layer.media_type)
            && !options.decryption.is_empty()
        {
            change.decrypt = Some(open_key(&layer, &options.decryption, source)?);
            layer.media_type = plain;
        }
        change.compress = compression(&layer, source, destination, options);
        change.chunked = options.chunked && change.compress == Some(LayerCompression::Zstd);
        if change.decrypt.is_some() || change.compress.is_some() {
            changes.insert(layer.digest, change);
        }
    }
    if let Some(encryption) = &options.encryption {
        let cannot = |reason| Error::Convert { name: source.name(), reason };
        for layer in chosen(manifest, &encryption.layers).map_err(cannot)? {
            changes.entry(layer.digest).or_default().encrypt = true;
        }
    }
    Ok(changes)
}

fn open_key(layer: &Descriptor, keys: &[PrivateKey], source: &dyn Source) -> Result<LayerKey> {
    let failed = |source_error| Error::Crypt { digest: layer.digest, name: source.name(), source: source_error };
    LayerKey::open(layer, keys).map_err(failed)
}

/// The layers that are to be encrypted.
fn chosen<'a>(manifest: &'a Manifest, numbers: &[i64]) -> std::result::Result<Vec<&'a Descriptor>, String> {
    let layers = &manifest.layers;
    let is_encrypted = |layer: &Descriptor| plain_type(&layer.media_type).is_some();
    let one = |number: &i64| {
        let count = i64::try_from(layers.len()).unwrap_or(i64::MAX);
        let at = usize::try_from(if *number < 0 { number + count } else { *number }).ok();
        let layer = at.and_then(|at| layers.get(at));
        let layer = layer.ok_or_else(|| format!("there is no layer {number} to be encrypted: it has {count}"))?;
        if is_encrypted(layer) { Err(format!("layer {number} is encrypted already")) } else { Ok(layer) }
    };
    let chosen: Vec<_> = match numbers {
        [] => layers.iter().filter(|layer| !is_encrypted(layer)).collect(),
        numbers => numbers.iter().map(one).collect::<std::result::Result<_, _>>()?,
    };
    match chosen.iter().find(|layer| layer.media_type.layer_compression().is_none()) {
        Some(strange) => Err(format!("what is of type {} is no layer that can be encrypted", strange.media_type)),
        None => Ok(chosen),
    }
}

/// The compression that a layer is to be brought into; none when it stays as it is.
fn compression(
    layer: &Descriptor,
    source: &dyn Source,
    destination: &dyn Destination,
    options: &CopyOptions,
) -> Option<LayerCompression> {
    let have = layer.media_type.layer_compression()?;
    let compress_plain = |to| (have == LayerCompression::None).then_some(to);
    let wanted = match options.layers {
        _ if destination.wants_plain_layers() => Some(LayerCompression::None),
        LayerPolicy::All(to) => Some(to),
        LayerPolicy::CompressPlain(to) => compress_plain(to),
        LayerPolicy::Keep if source.is_synthetic() && destination.wants_compressed_layers() => {
            compress_plain(LayerCompression::Gzip)
        }
        LayerPolicy::Keep | LayerPolicy::Leave => None,
    };
    let lacks_table = options.chunked && !layer.annotations.contains_key(TABLE_DIGEST);
    wanted.filter(|to| *to != have || *to == LayerCompression::Zstd && lacks_table)
}

impl Change {
    /// Whether it needs OCI's format, the one that has words for it.
    pub(crate) fn needs_oci(&self) -> bool {
        self.encrypt || self.compress == Some(LayerCompression::Zstd)
    }

    /// What the layer is called after all but the last of it.
    pub(crate) fn describe(&self, layer: &mut Descriptor, own: Format) {
        if self.decrypt.is_some() {
            layer.media_type = plain_type(&layer.media_type).unwrap_or(layer.media_type.clone());
            forget(&mut layer.annotations);
        }
        if let Some(to) = self.compress {
            layer.media_type = own.layer(to).or(Format::Oci.layer(to)).unwrap_or(layer.media_type.clone());
        }
        if self.compress.is_some() || self.encrypt {
            layer.annotations.retain(|name, _| !PLACES.iter().any(|place| name.starts_with(place)));
        }
    }

    /// What the layer is called in the end.
    pub(crate) fn seal(&self, layer: &mut Descriptor) {
        if self.encrypt {
            layer.media_type = encrypted_type(&layer.media_type);
        }
    }

    /// The digest that the layer will have, where that is known before.
    pub(crate) fn outcome(&self) -> Option<Digest> {
        self.decrypt.as_ref().filter(|_| self.compress.is_none() && !self.encrypt)?.plain()
    }

    /// Writes the layer that `input` reads, changed.
    pub(crate) fn write(
        &self,
        input: Box<dyn Read + '_>,
        destination: &dyn Destination,
        options: &CopyOptions,
    ) -> Result<Written> {
        let input: Box<dyn Read> = match &self.decrypt {
            Some(key) => Box::new(Decrypting::new(input, key.clone())),
            None => input,
        };
        let table = Rc::new(RefCell::new(Annotations::new()));
        let mut content: Box<dyn Read> = match self.compress {
            Some(_) if self.chunked => {
                let plain = hoy_layer::Decompressor::detect(input).map_err(Error::Read)?;
                Box::new(Chunked::new(plain, options.level, table.clone()).map_err(Error::Read)?)
            }
            Some(to) => Box::new(Recompressed::new(input, to, options.level).map_err(Error::Read)?),
            None => input,
        };
        let recipients = options.encryption.as_ref().filter(|_| self.encrypt).map(|to| to.recipients.as_slice());
        let Some(recipients) = recipients else {
            let (digest, size) = destination.put_new_blob(&mut *content)?;
            return Ok(Written { digest, size, annotations: table.take() });
        };
        let mut sealed = Encrypting::new(content).map_err(Error::Encrypt)?;
        let (digest, size) = destination.put_new_blob(&mut sealed)?;
        Ok(Written { digest, size, annotations: sealed.finish(recipients).map_err(Error::Encrypt)? })
    }
}
