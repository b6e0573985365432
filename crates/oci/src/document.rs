//! Manifests and indexes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Descriptor, Digest, Error, MediaType, Platform, Result};

/// The longest manifest, index or configuration that is read: 4 MiB, as distribution-spec recommends for manifests.
pub const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// A manifest of one image (image-spec manifest.md, Docker schema 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; OCI may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The kind of artifact, where it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form annotations, sorted by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A list of images for several platforms (image-spec image-index.md, Docker manifest list).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; OCI may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The kind of artifact, where these are no images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The members.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form annotations, sorted by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a name points to.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images for several platforms.
    Index(Index),
}

impl Document {
    /// Reads the document that was announced as `media_type`.
    ///
    /// # Errors
    /// - [`Error::TooLarge`] over [`MAX_DOCUMENT_BYTES`].
    /// - [`Error::MediaType`] when `media_type` is neither manifest nor index; Docker's schema 1 is among those.
    /// - [`Error::Ambiguous`] when the document could be read as both, or calls itself something else
    ///   (CVE-2021-41190: one digest, two meanings).
    /// - [`Error::Json`] when it is not of that form.
    pub fn parse(media_type: &MediaType, bytes: &[u8]) -> Result<Self> {
        let kind = match media_type {
            t if t.is_index() => "index",
            t if t.is_manifest() => "manifest",
            t => return Err(Error::MediaType(t.to_string())),
        };
        let size = bytes.len() as u64;
        if size > MAX_DOCUMENT_BYTES {
            return Err(Error::TooLarge { kind, size, limit: MAX_DOCUMENT_BYTES });
        }
        let json = |source| Error::Json { kind, source };
        let ambiguous = |reason| Error::Ambiguous { media_type: media_type.to_string(), reason };
        let document = if kind == "index" {
            let index: Index = serde_json::from_slice(bytes).map_err(json)?;
            if ["config", "layers", "fsLayers"].iter().any(|field| index.other.contains_key(*field)) {
                return Err(ambiguous("an index must not have the fields of a manifest"));
            }
            Self::Index(index)
        } else {
            let manifest: Manifest = serde_json::from_slice(bytes).map_err(json)?;
            if ["manifests", "fsLayers"].iter().any(|field| manifest.other.contains_key(*field)) {
                return Err(ambiguous("a manifest must not have the fields of an index"));
            }
            Self::Manifest(manifest)
        };
        if document.media_type().is_some_and(|own| own != media_type) {
            return Err(ambiguous("its mediaType field says otherwise"));
        }
        if document.schema_version() != 2 {
            return Err(ambiguous("its schemaVersion is not 2"));
        }
        Ok(document)
    }

    fn media_type(&self) -> Option<&MediaType> {
        match self {
            Self::Manifest(manifest) => manifest.media_type.as_ref(),
            Self::Index(index) => index.media_type.as_ref(),
        }
    }

    fn schema_version(&self) -> u32 {
        match self {
            Self::Manifest(manifest) => manifest.schema_version,
            Self::Index(index) => index.schema_version,
        }
    }

    /// The type of a document that came without one: its own field, else what its fields make it.
    ///
    /// # Errors
    /// [`Error::Json`] when it is no JSON object; [`Error::Ambiguous`] when nothing tells.
    pub fn guess_media_type(bytes: &[u8]) -> Result<MediaType> {
        let fields: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|source| Error::Json { kind: "manifest", source })?;
        let own = fields.get("mediaType").and_then(Value::as_str);
        let guess = match (own, fields.contains_key("manifests"), fields.contains_key("layers")) {
            (Some(own), ..) => own,
            (None, true, false) => MediaType::INDEX,
            (None, false, true) => MediaType::MANIFEST,
            _ => {
                let reason = "it has no mediaType and is neither manifest nor index";
                return Err(Error::Ambiguous { media_type: String::new(), reason });
            }
        };
        Ok(MediaType::from(guess))
    }
}

impl Manifest {
    /// A manifest of the given type, with nothing but configuration and layers.
    pub fn new(media_type: &str, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::from(media_type)),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }
}

impl Index {
    /// An OCI index of `manifests`.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::from(MediaType::INDEX)),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }

    /// The member for `wanted`: the first whose platform and variant are equal, else the first that satisfies it.
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        let members = || self.manifests.iter().filter_map(|m| Some((m, m.platform.as_ref()?)));
        let fits = |p: &Platform| p.satisfies(wanted);
        members()
            .find(|(_, p)| fits(p) && p.variant == wanted.variant)
            .or_else(|| members().find(|(_, p)| fits(p)))
            .map(|(member, _)| member)
    }

    /// The member with this digest.
    pub fn member(&self, digest: &Digest) -> Option<&Descriptor> {
        self.manifests.iter().find(|m| m.digest == *digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest_json(extra: &str) -> String {
        let digest = Digest::of(b"");
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{digest}","size":0}},"layers":[]{extra}}}"#,
            MediaType::CONFIG
        )
    }

    fn parse(media_type: &str, text: &str) -> Result<Document> {
        Document::parse(&MediaType::from(media_type), text.as_bytes())
    }

    #[test]
    fn one_digest_has_one_meaning() {
        assert!(parse(MediaType::MANIFEST, &manifest_json("")).is_ok());
        assert!(parse(MediaType::MANIFEST, &manifest_json(r#","manifests":[]"#)).is_err());
        assert!(parse(MediaType::INDEX, &manifest_json(r#","manifests":[]"#)).is_err());
        assert!(parse(MediaType::MANIFEST, &manifest_json(r#","layers":[]"#)).is_err(), "duplicate key");
        let docker = format!(r#","mediaType":"{}""#, MediaType::DOCKER_MANIFEST);
        assert!(parse(MediaType::MANIFEST, &manifest_json(&docker)).is_err());
        assert!(parse(MediaType::DOCKER_MANIFEST, &manifest_json(&docker)).is_ok());
        let schema1 = "application/vnd.docker.distribution.manifest.v1+json";
        assert!(matches!(parse(schema1, "{}"), Err(Error::MediaType(_))));
    }

    #[test]
    fn index_chooses_the_exact_variant_first() {
        let member = |platform: &str| {
            let mut descriptor = Descriptor::of(MediaType::from(MediaType::MANIFEST), platform.as_bytes());
            descriptor.platform = Some(platform.parse().unwrap());
            descriptor
        };
        let index = Index::new(vec![member("linux/arm"), member("linux/arm/v7"), member("linux/amd64")]);
        let chosen = |want: &str| index.select(&want.parse().unwrap()).map(|d| d.digest);
        assert_eq!(chosen("linux/arm/v7"), Some(member("linux/arm/v7").digest));
        assert_eq!(chosen("linux/arm/v6"), Some(member("linux/arm").digest));
        assert_eq!(chosen("linux/s390x"), None);
    }
}
