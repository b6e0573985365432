//! Artifacts: files that are kept as an image is, and are none (image-spec manifest.md "Guidelines for Artifact Usage").

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use hoy_layout::ImageLayout;
use hoy_oci::{Descriptor, Manifest, MediaType};

use crate::{Error, Result};

/// The configuration of what has none, and its type.
const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");
/// Pre-defined annotation key of image-spec annotations.md.
const TITLE: &str = "org.opencontainers.image.title";

/// What is said of an artifact.
#[derive(Debug, Clone, Default)]
pub struct Artifact {
    /// Its type; a word for any where nobody says one.
    pub kind: Option<String>,
    /// A file that is its configuration, which is empty otherwise.
    pub config: Option<PathBuf>,
    /// The type of its configuration.
    pub config_type: Option<String>,
    /// The type of its files.
    pub layer_type: Option<String>,
    /// Its files have their names with them.
    pub has_titles: bool,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// The image that it belongs to.
    pub subject: Option<Descriptor>,
}

impl Artifact {
    /// Writes an artifact of these files into the layout, and returns its manifest, which the index does not name.
    ///
    /// # Errors
    /// Those of reading the files, and of the layout.
    pub fn write(&self, layout: &ImageLayout, files: &[PathBuf]) -> Result<Descriptor> {
        let config = match &self.config {
            Some(path) => file(layout, path, self.config_type.as_deref().unwrap_or(EMPTY.0))?,
            None => layout.put(self.config_type.as_deref().unwrap_or(EMPTY.0), EMPTY.1)?,
        };
        let mut layers = Vec::new();
        for path in files {
            let mut layer = file(layout, path, self.layer_type.as_deref().unwrap_or("application/octet-stream"))?;
            if let (true, Some(name)) = (self.has_titles, path.file_name()) {
                layer.annotations.insert(TITLE.to_owned(), name.to_string_lossy().into_owned());
            }
            layers.push(layer);
        }
        let mut manifest = Manifest::new(MediaType::MANIFEST, config, layers);
        let kind = self.kind.clone().unwrap_or_else(|| "application/vnd.unknown.artifact.v1".to_owned());
        manifest.artifact_type = Some(kind);
        manifest.annotations.clone_from(&self.annotations);
        manifest.subject.clone_from(&self.subject);
        let bytes = serde_json::to_vec(&manifest).map_err(|source| Error::Json("manifest", source))?;
        Ok(layout.put(MediaType::MANIFEST, &bytes)?)
    }
}

fn file(layout: &ImageLayout, path: &Path, kind: &str) -> Result<Descriptor> {
    let mut content = File::open(path).map_err(Error::io("open", path))?;
    let mut writer = layout.blob_writer()?;
    std::io::copy(&mut content, &mut writer).map_err(Error::io("read", path))?;
    let (digest, size) = writer.finish()?;
    Ok(Descriptor::new(MediaType::from(kind), digest, size))
}
