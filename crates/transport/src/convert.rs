//! The same image in the words of OCI or of Docker.

use hoy_oci::{LayerCompression, Manifest, MediaType};

/// In whose words a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI image-spec.
    Oci,
    /// Docker schema 2.
    V2s2,
}

impl Format {
    /// The format of a manifest or index of this type.
    pub fn of(media_type: &MediaType) -> Self {
        if media_type.is_docker() { Self::V2s2 } else { Self::Oci }
    }

    /// The type of an index.
    pub(crate) fn index(self) -> MediaType {
        MediaType::from(if self == Self::Oci { MediaType::INDEX } else { MediaType::DOCKER_LIST })
    }

    fn manifest(self) -> MediaType {
        MediaType::from(if self == Self::Oci { MediaType::MANIFEST } else { MediaType::DOCKER_MANIFEST })
    }

    /// The type of a layer with this compression; none where the format has no word for it.
    pub(crate) fn layer(self, compression: LayerCompression) -> Option<MediaType> {
        let text = match (self, compression) {
            (Self::Oci, LayerCompression::None) => MediaType::LAYER,
            (Self::Oci, LayerCompression::Gzip) => MediaType::LAYER_GZIP,
            (Self::Oci, LayerCompression::Zstd) => MediaType::LAYER_ZSTD,
            (Self::V2s2, LayerCompression::None) => MediaType::DOCKER_LAYER,
            (Self::V2s2, LayerCompression::Gzip) => MediaType::DOCKER_LAYER_GZIP,
            (Self::V2s2, LayerCompression::Zstd) => return None,
        };
        Some(MediaType::from(text))
    }
}

/// Turns a manifest into the other format; the reason why not otherwise.
///
/// Configuration and layers keep their bytes: both formats have the same ones under different names. What Docker has no
/// place for, annotations and a subject, is left out.
pub(crate) fn convert(mut manifest: Manifest, to: Format) -> Result<Manifest, String> {
    if !manifest.config.media_type.is_image_config() {
        return Err(format!("its configuration is of type {}, so it is no image", manifest.config.media_type));
    }
    manifest.media_type = Some(to.manifest());
    manifest.config.media_type =
        MediaType::from(if to == Format::Oci { MediaType::CONFIG } else { MediaType::DOCKER_CONFIG });
    for layer in &mut manifest.layers {
        let compression = layer.media_type.layer_compression();
        let compression = compression.ok_or_else(|| match hoy_crypt::plain_type(&layer.media_type) {
            Some(_) => "it has encrypted layers, for which there is no place: add --decryption-key KEY".to_owned(),
            None => format!("unknown layer type {}", layer.media_type),
        })?;
        layer.media_type =
            to.layer(compression).ok_or("Docker's format has no zstd layers: add --dest-compress-format gzip")?;
        if to == Format::V2s2 {
            layer.annotations.clear();
        }
    }
    if to == Format::V2s2 {
        manifest.annotations.clear();
        manifest.config.annotations.clear();
        (manifest.subject, manifest.artifact_type) = (None, None);
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoy_oci::Descriptor;

    #[test]
    fn there_and_back() {
        let of = |media_type: &str| Descriptor::of(MediaType::from(media_type), media_type.as_bytes());
        let layers = vec![of(MediaType::LAYER), of(MediaType::LAYER_GZIP)];
        let oci = Manifest::new(MediaType::MANIFEST, of(MediaType::CONFIG), layers);
        let docker = convert(oci.clone(), Format::V2s2).unwrap();
        assert_eq!(docker.layers[1].media_type.as_str(), MediaType::DOCKER_LAYER_GZIP);
        assert_eq!(docker.config.digest, oci.config.digest);
        assert_eq!(convert(docker, Format::Oci).unwrap(), oci);
        let zstd = Manifest::new(MediaType::MANIFEST, of(MediaType::CONFIG), vec![of(MediaType::LAYER_ZSTD)]);
        assert!(convert(zstd, Format::V2s2).is_err());
        let artifact = Manifest::new(MediaType::MANIFEST, of("application/vnd.x"), vec![]);
        assert!(convert(artifact, Format::V2s2).is_err());
    }
}
