//! Source images: an OCI layout whose one image has archives of sources as its layers, and no root file system.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read};
use std::os::fd::AsFd;
use std::path::Path;

use hoy_containerfile::Ignore;
use hoy_layer::{Entry, TarWriter};
use hoy_layout::ImageLayout;
use hoy_oci::{Descriptor, Document, Timestamp};
use serde_json::{Value, json};

use crate::destination::Receiver;
use crate::sink::LayerSink;
use crate::tree::TreeReader;
use crate::{Error, Result};

/// The type of its configuration, as buildah has it.
const CONFIG_TYPE: &str = "application/vnd.oci.source.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Makes an empty source image in a new directory.
///
/// # Errors
/// [`Error::Refused`] where something is there already.
pub fn create_source(path: &Path, author: Option<&str>, created: Option<Timestamp>) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::Refused(format!("\"{}\" already exists", path.display())));
    }
    let layout = ImageLayout::open_or_create(path)?;
    let mut config = json!({});
    if let Some(fields) = config.as_object_mut() {
        fields.extend(author.map(|author| ("author".to_owned(), Value::from(author))));
        fields.extend(created.map(|created| ("created".to_owned(), Value::from(created.to_string()))));
    }
    let config = layout.put(CONFIG_TYPE, &bytes(&config)?)?;
    write(&layout, &json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": []}))
}

/// Adds the file or directory `artifact`, as a compressed archive, to the source image at `path`.
///
/// # Errors
/// [`Error::Refused`] for a layout that is no source image.
pub fn add_source(path: &Path, artifact: &Path, annotations: BTreeMap<String, String>) -> Result<()> {
    let layout = ImageLayout::open(path)?;
    let mut manifest = read(&layout)?;
    let mut layer = archive(&layout, artifact)?;
    layer.annotations = annotations;
    let layer = serde_json::to_value(&layer).map_err(|source| Error::Json("descriptor", source))?;
    let layers = manifest.get_mut("layers").and_then(Value::as_array_mut);
    layers.ok_or_else(|| not_one(path))?.push(layer);
    write(&layout, &manifest)
}

fn not_one(path: &Path) -> Error {
    Error::Refused(format!("\"{}\" is no source image: make one with hoy-build source create", path.display()))
}

/// The manifest of the one image, as it is written.
fn read(layout: &ImageLayout) -> Result<Value> {
    let index = layout.index()?;
    let [descriptor] = index.manifests.as_slice() else { return Err(not_one(layout.path())) };
    let text = layout.read_document(descriptor)?;
    let is_source = matches!(Document::parse(&descriptor.media_type, &text), Ok(Document::Manifest(manifest))
        if manifest.config.media_type.as_str() == CONFIG_TYPE);
    if !is_source {
        return Err(not_one(layout.path()));
    }
    serde_json::from_slice(&text).map_err(|source| Error::Json("manifest", source))
}

/// Writes the manifest, and makes it the layout's one image; the one before it goes.
fn write(layout: &ImageLayout, manifest: &Value) -> Result<()> {
    let descriptor = layout.put(MANIFEST_TYPE, &bytes(manifest)?)?;
    let old =
        layout.edit_index(|index| Ok::<_, Error>(std::mem::replace(&mut index.manifests, vec![descriptor.clone()])))?;
    for old in old.iter().filter(|old| old.digest != descriptor.digest) {
        let file = layout.blob_path(&old.digest);
        std::fs::remove_file(&file).map_err(Error::io("remove", &file))?;
    }
    Ok(())
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Json("document of a source image", source))
}

/// Entries as they are, but of nobody in particular.
struct Sources(TarWriter<BufWriter<LayerSink>>);

impl Receiver for Sources {
    fn add(&mut self, mut entry: Entry, mut data: &mut dyn Read) -> Result<()> {
        (entry.uid, entry.gid) = (0, 0);
        Ok(self.0.append(&entry, &mut data)?)
    }
}

/// Writes a file, or what is in a directory, as a compressed archive.
fn archive(layout: &ImageLayout, artifact: &Path) -> Result<Descriptor> {
    let mut sources = Sources(TarWriter::new(BufWriter::new(LayerSink::new(layout, true)?)));
    let opened = File::open(artifact).map_err(Error::io("open", artifact))?;
    let is_directory = opened.metadata().map_err(Error::io("look at", artifact))?.is_dir();
    let everything = Ignore::default();
    let mut reader = TreeReader::new(&everything);
    if is_directory {
        reader.directory(opened.as_fd(), b"", b"", &mut sources)?;
    } else {
        let name = artifact.file_name().unwrap_or_default().as_encoded_bytes();
        reader.file(opened.into(), name, name, &mut sources)?;
    }
    let sink = sources.0.finish()?.into_inner();
    let sink = sink.map_err(|error| hoy_layer::Error::Write(error.into_error()))?;
    Ok(sink.finish_always()?.descriptor)
}
