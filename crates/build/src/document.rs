//! The configuration and manifest of an image to be: pure, so that one input gives one text.

use std::str::FromStr;

use hoy_oci::{Descriptor, Digest, History, ImageConfig, Manifest, MediaType, Timestamp};

use crate::{Error, Result, Working};

/// In whose words the documents are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// image-spec 1.1.
    #[default]
    Oci,
    /// Docker image manifest version 2, schema 2.
    Docker,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Oci => "oci",
            Self::Docker => "docker",
        })
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "oci" => Ok(Self::Oci),
            "docker" | "v2s2" => Ok(Self::Docker),
            _ => Err(Error::option("--format", text, "a format is oci or docker")),
        }
    }
}

/// A layer that a commit adds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewLayer {
    /// The blob.
    pub(crate) descriptor: Descriptor,
    /// The digest of its tar.
    pub(crate) diff_id: Digest,
}

/// The configuration of the image: what the working container says, the new layer, and its history.
pub(crate) fn config(working: &Working, layer: Option<&NewLayer>, created: Timestamp) -> ImageConfig {
    let mut config = working.config.clone();
    config.created = Some(created);
    "layers".clone_into(&mut config.rootfs.kind);
    pad_history(&mut config);
    let steps = working.history.iter().map(|step| History { created: Some(created), ..step.clone() });
    config.history.extend(steps);
    config.history.push(History {
        created: Some(created),
        created_by: Some(working.created_by.clone().unwrap_or_else(|| "/bin/sh".to_owned())),
        author: config.author.clone(),
        comment: working.history_comment.clone(),
        empty_layer: layer.is_none(),
    });
    config.rootfs.diff_ids.extend(layer.map(|layer| layer.diff_id));
    config
}

/// Gives layers without a history an entry each, so that entries and layers still belong together.
pub(crate) fn pad_history(config: &mut ImageConfig) {
    let told = config.history.iter().filter(|step| !step.empty_layer).count();
    let missing = config.rootfs.diff_ids.len().saturating_sub(told);
    config.history.extend(std::iter::repeat_n(History::default(), missing));
}

/// Pre-defined annotation key of image-spec annotations.md.
const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// The manifest: `base` layers below the new one.
pub(crate) fn manifest(
    working: &Working,
    format: Format,
    config: Descriptor,
    base: &[Descriptor],
    layer: Option<&NewLayer>,
) -> Result<Manifest> {
    let all = base.iter().chain(layer.map(|layer| &layer.descriptor));
    let layers: Result<Vec<Descriptor>> = all.map(|layer| in_format(layer, format)).collect();
    let media_type = match format {
        Format::Oci => MediaType::MANIFEST,
        Format::Docker => MediaType::DOCKER_MANIFEST,
    };
    let mut manifest = Manifest::new(media_type, config, layers?);
    if format == Format::Oci {
        manifest.annotations.clone_from(&working.annotations);
        if let Some(digest) = working.from_manifest {
            manifest.annotations.insert("org.opencontainers.image.base.digest".to_owned(), digest.to_string());
            // That of the base image's own base is another's, a digest is no name, and one of this machine alone, which
            // a path may be in, is none elsewhere.
            manifest.annotations.remove(BASE_NAME);
            let is_no_name =
                |name: &str| name.is_empty() || ["sha256:", "localhost/"].iter().any(|start| name.starts_with(start));
            let name = Some(&working.from_image).filter(|name| !is_no_name(name));
            manifest.annotations.extend(name.map(|name| (BASE_NAME.to_owned(), name.clone())));
        }
    }
    Ok(manifest)
}

/// The same layer under the format's name for its kind.
pub(crate) fn in_format(layer: &Descriptor, format: Format) -> Result<Descriptor> {
    let pairs = [
        (MediaType::LAYER, MediaType::DOCKER_LAYER),
        (MediaType::LAYER_GZIP, MediaType::DOCKER_LAYER_GZIP),
        (MediaType::LAYER_ZSTD, "application/vnd.docker.image.rootfs.diff.tar.zstd"),
    ];
    let from = layer.media_type.as_str();
    let known = pairs.into_iter().find(|(oci, docker)| from == *oci || from == *docker);
    let mut renamed = layer.clone();
    match (format, known) {
        (Format::Oci, Some((oci, _))) => renamed.media_type = MediaType::from(oci),
        (Format::Docker, Some((MediaType::LAYER_ZSTD, _))) => {
            return Err(Error::Refused(format!(
                "layer {} is compressed with zstd, which the format docker does not have: use --format oci",
                layer.digest
            )));
        }
        (Format::Docker, Some((_, docker))) => {
            renamed.media_type = MediaType::from(docker);
            renamed.annotations.clear();
        }
        (_, None) => {}
    }
    Ok(renamed)
}

/// The media type of a configuration in this format.
pub(crate) fn config_type(format: Format) -> &'static str {
    match format {
        Format::Oci => MediaType::CONFIG,
        Format::Docker => MediaType::DOCKER_CONFIG,
    }
}

/// The media type of a layer that this program writes.
pub(crate) fn layer_type(compressed: bool) -> MediaType {
    MediaType::from(if compressed { MediaType::LAYER_GZIP } else { MediaType::LAYER })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoy_oci::Platform;

    fn working() -> Working {
        let mut working = Working::from_scratch(&Platform::new("linux", "amd64", None));
        working.config.rootfs.diff_ids = vec![Digest::of(b"base")];
        working.remember("/bin/sh -c #(nop) ENV A=b");
        working
    }

    fn layer() -> NewLayer {
        NewLayer { descriptor: Descriptor::of(layer_type(true), b"blob"), diff_id: Digest::of(b"tar") }
    }

    #[test]
    fn history_and_layers_belong_together() {
        for (layer, entries, layers) in [(Some(layer()), 3, 2), (None, 3, 1)] {
            let config = config(&working(), layer.as_ref(), Timestamp::EPOCH);
            assert_eq!(config.history.len(), entries);
            assert_eq!(config.rootfs.diff_ids.len(), layers);
            assert_eq!(config.history.iter().filter(|step| !step.empty_layer).count(), layers);
            assert_eq!(config.history.last().unwrap().created, Some(Timestamp::EPOCH));
        }
    }

    #[test]
    fn each_format_has_its_types() {
        let base = [Descriptor::of(MediaType::from(MediaType::LAYER), b"base")];
        let types = |format, base: &[Descriptor]| {
            let config = Descriptor::of(MediaType::from(config_type(format)), b"{}");
            let manifest = manifest(&working(), format, config, base, Some(&layer()))?;
            let types = manifest.layers.iter().map(|l| l.media_type.to_string()).collect::<Vec<_>>();
            Ok::<_, Error>((manifest.media_type.unwrap().to_string(), types))
        };
        let (own, layers) = types(Format::Docker, &base).unwrap();
        assert_eq!(own, MediaType::DOCKER_MANIFEST);
        assert_eq!(layers, [MediaType::DOCKER_LAYER, MediaType::DOCKER_LAYER_GZIP]);
        let (own, layers) = types(Format::Oci, &base).unwrap();
        assert_eq!(own, MediaType::MANIFEST);
        assert_eq!(layers, [MediaType::LAYER, MediaType::LAYER_GZIP]);
        let zstd = [Descriptor::of(MediaType::from(MediaType::LAYER_ZSTD), b"base")];
        assert!(types(Format::Docker, &zstd).unwrap_err().to_string().contains("zstd"));
    }
}
