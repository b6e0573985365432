//! Files that an image gets on top of what its container has: `commit --add-file`, and lists of what it consists of.

use std::fs::File;
use std::path::{Path, PathBuf};

use hoy_layer::{Entry, Kind};
use hoy_layout::ImageLayout;
use hoy_oci::{Digest, History, Timestamp};

use crate::commit::{Committed, enter};
use crate::containerfile::layer::LayerWriter;
use crate::containerfile::names::Names;
use crate::containerfile::standing::{Standing, clean};
use crate::destination::{Owner, Receiver as _};
use crate::document::{self, Format, NewLayer};
use crate::sink::LayerSink;
use crate::working::image_by_manifest;
use crate::{Error, Result};

/// A file that an image gets: the superuser's, mode 644, from the time that the image says it is made at.
#[derive(Debug)]
pub struct Addition {
    /// Its path in the image.
    pub path: String,
    /// Its bytes.
    pub file: File,
}

impl Addition {
    /// `SOURCE[:PATH]`; without a path it is where the source is.
    ///
    /// # Errors
    /// [`Error::Option`] for what is no file, [`Error::Io`].
    pub fn read(text: &str) -> Result<Self> {
        let (source, path) = text.split_once(':').unwrap_or((text, text));
        let name = Path::new(path).file_name();
        if path.ends_with('/') || name.is_none() {
            return Err(Error::option(
                "--add-file",
                text,
                "its form is SOURCE[:PATH], PATH being that of the new file",
            ));
        }
        let source = PathBuf::from(source);
        // A pipe has no end to wait for.
        if !source.metadata().map_err(Error::io("look at", &source))?.is_file() {
            return Err(Error::option("--add-file", text, "that is no file"));
        }
        let file = File::open(&source).map_err(Error::io("open", &source))?;
        Ok(Self { path: path.to_owned(), file })
    }
}

/// Makes another image: that of `manifest` with one more layer, of these files. Links in their paths are followed as
/// in the image itself.
///
/// # Errors
/// [`Error::Refused`] where a directory is in the way, and those of the store.
pub fn add_files(layout: &ImageLayout, manifest: &Digest, files: Vec<Addition>, compress: bool) -> Result<Committed> {
    let image = image_by_manifest(layout, manifest)?;
    let created = image.config.created.unwrap_or(Timestamp::EPOCH);
    let is_docker = image.manifest.config.media_type.as_str() == document::config_type(Format::Docker);
    let format = if is_docker { Format::Docker } else { Format::Oci };
    let mut standing = Standing::default();
    for layer in &image.manifest.layers {
        standing.add_layer(Names::read(layout, layer)?);
    }
    let names: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    let layer = layer(LayerSink::new(layout, compress)?, &standing, files, created.unix_seconds())?;
    let (mut config, mut manifest) = (image.config, image.manifest);
    // An image that tells nothing of how it was made goes on so.
    if !config.history.is_empty() || config.rootfs.diff_ids.is_empty() {
        document::pad_history(&mut config);
        let step = format!("/bin/sh -c #(nop) ADD file:{} in {}", layer.diff_id.hex(), names.join(" "));
        config.history.push(History { created: Some(created), created_by: Some(step), ..History::default() });
    }
    config.rootfs.diff_ids.push(layer.diff_id);
    let json = |what| move |source| Error::Json(what, source);
    let config = serde_json::to_vec(&config).map_err(json("configuration"))?;
    manifest.config = layout.put(document::config_type(format), &config)?;
    manifest.layers.push(document::in_format(&layer.descriptor, format)?);
    let id = manifest.config.digest;
    let bytes = serde_json::to_vec(&manifest).map_err(json("manifest"))?;
    let media_type = manifest.media_type.as_ref().map(|t| t.as_str()).unwrap_or_default();
    let manifest = layout.put(media_type, &bytes)?;
    let is_new_and_nameless = enter(layout, None, &manifest)?;
    Ok(Committed { id, manifest, is_new_and_nameless, warnings: Vec::new() })
}

fn layer(sink: LayerSink, standing: &Standing, files: Vec<Addition>, made_at: i64) -> Result<NewLayer> {
    let owner = Owner { ids: Some((0, 0)), ..Owner::default() };
    let mut to = LayerWriter::new(sink, standing, owner, Some(made_at), made_at);
    for Addition { path, mut file } in files {
        let mut entry = Entry::new(standing.resolve(&clean(path.as_bytes()), true)?, Kind::File, 0o644);
        entry.size = file.metadata().map_err(Error::io("look at", &path))?.len();
        entry.mtime.seconds = made_at;
        to.add(entry, &mut file)?;
    }
    to.finish()?.ok_or_else(|| Error::Refused("there is no file to add".to_owned()))
}
