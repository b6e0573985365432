//! `manifest add --artifact`: files that go into an index as an artifact.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};
use hoy_build::Artifact;
use hoy_cli::{Context as _, Result};
use hoy_layout::Store;
use hoy_oci::{Descriptor, Digest, Document, Hasher};

use crate::said::pair;

#[derive(Debug, Args)]
pub(crate) struct ArtifactArgs {
    /// Make an artifact of files, and add that
    #[arg(long)]
    pub(crate) artifact: bool,
    /// Type of the artifact (default: application/vnd.unknown.artifact.v1)
    #[arg(long, value_name = "TYPE", requires = "artifact")]
    artifact_type: Option<String>,
    /// A file that is its configuration
    #[arg(long, value_name = "FILE", requires_all = ["artifact", "artifact_config_type"])]
    artifact_config: Option<PathBuf>,
    /// Type of its configuration
    #[arg(long, value_name = "TYPE", requires = "artifact")]
    artifact_config_type: Option<String>,
    /// Type of its files (default: application/octet-stream)
    #[arg(long, value_name = "TYPE", requires = "artifact")]
    artifact_layer_type: Option<String>,
    /// Set an annotation of its manifest
    #[arg(long, value_name = "NAME=VALUE", requires = "artifact")]
    artifact_annotation: Vec<String>,
    /// The image of the store that it belongs to
    #[arg(long, value_name = "IMAGE", requires = "artifact")]
    artifact_subject: Option<String>,
    /// Leave the names of files out
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    artifact_exclude_titles: bool,
}

impl ArtifactArgs {
    /// Writes an artifact of the files into the store; its index does not name it yet.
    pub(crate) fn write(&self, store: &Store, files: &[String]) -> Result<Descriptor> {
        let subject = |image: &String| {
            let found = store.find_image(image).context(|| format!("use the image \"{image}\""))?.descriptor;
            Ok::<_, hoy_cli::Error>(Descriptor::new(found.media_type, found.digest, found.size))
        };
        let artifact = Artifact {
            kind: self.artifact_type.clone(),
            config: self.artifact_config.clone(),
            config_type: self.artifact_config_type.clone(),
            layer_type: self.artifact_layer_type.clone(),
            has_titles: !self.artifact_exclude_titles,
            annotations: self.artifact_annotation.iter().map(|text| pair(text)).collect(),
            subject: self.artifact_subject.as_ref().map(subject).transpose()?,
        };
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        artifact.write(store.layout(), &files).context(|| "make an artifact")
    }
}

/// The artifact of an index that has this file, if one has.
pub(crate) fn holding(store: &Store, index: &Descriptor, file: &str) -> Result<Option<Digest>> {
    if !Path::new(file).is_file() {
        return Ok(None);
    }
    let mut hasher = Hasher::new();
    let read = File::open(file).and_then(|mut content| std::io::copy(&mut content, &mut hasher));
    read.context(|| format!("read \"{file}\""))?;
    let digest = hasher.finish();
    let document = |of: &Descriptor| -> Result<Document> {
        Ok(Document::parse(&of.media_type, &store.layout().read_document(of)?)?)
    };
    let Document::Index(index) = document(index)? else { return Ok(None) };
    for member in index.manifests.iter().filter(|member| member.artifact_type.is_some()) {
        if let Document::Manifest(artifact) = document(member)?
            && artifact.layers.iter().any(|layer| layer.digest == digest)
        {
            return Ok(Some(member.digest));
        }
    }
    Ok(None)
}
