//! What kind of content a descriptor points to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A media type of OCI, Docker or anybody else, kept as received.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(String);

/// How a layer's tar is compressed, as its media type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerCompression {
    /// A plain tar.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl MediaType {
    /// OCI image manifest.
    pub const MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    pub const CONFIG: &'static str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, plain tar.
    pub const LAYER: &'static str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const LAYER_GZIP: &'static str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const LAYER_ZSTD: &'static str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker schema 2 manifest.
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &'static str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &'static str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, plain tar.
    pub const DOCKER_LAYER: &'static str = "application/vnd.docker.image.rootfs.diff.tar";

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An index of images: OCI index or Docker manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::INDEX | Self::DOCKER_LIST)
    }

    /// A manifest of one image: OCI or Docker schema 2.
    pub fn is_manifest(&self) -> bool {
        matches!(self.as_str(), Self::MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// A configuration of an image, as opposed to that of some other artifact.
    pub fn is_image_config(&self) -> bool {
        matches!(self.as_str(), Self::CONFIG | Self::DOCKER_CONFIG)
    }

    /// One of Docker's own types.
    pub fn is_docker(&self) -> bool {
        self.as_str().starts_with("application/vnd.docker.")
    }

    /// How a layer of this type is compressed; none when it is not a layer this version can unpack.
    ///
    /// Non-distributable layers are layers like any other (image-spec layer.md "Non-Distributable Layers").
    pub fn layer_compression(&self) -> Option<LayerCompression> {
        let distributable = self.0.replace("layer.nondistributable.v1", "layer.v1");
        match distributable.replace("rootfs.foreign.diff", "rootfs.diff").as_str() {
            Self::LAYER | Self::DOCKER_LAYER => Some(LayerCompression::None),
            Self::LAYER_GZIP | Self::DOCKER_LAYER_GZIP => Some(LayerCompression::Gzip),
            Self::LAYER_ZSTD | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(LayerCompression::Zstd),
            _ => None,
        }
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers() {
        for (text, want) in [
            (MediaType::LAYER, Some(LayerCompression::None)),
            (MediaType::DOCKER_LAYER_GZIP, Some(LayerCompression::Gzip)),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Some(LayerCompression::Zstd)),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some(LayerCompression::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+lz4", None),
            (MediaType::CONFIG, None),
        ] {
            assert_eq!(MediaType::from(text).layer_compression(), want, "{text}");
        }
    }
}
