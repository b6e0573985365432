//! What a cache that travels says: which layers steps made, as the configuration of an artifact whose layers they are.
//!
//! Of a step it names the digest of what it depends on and nothing else: neither variables nor paths travel.

use std::collections::BTreeMap;

use hoy_layout::ImageLayout;
use hoy_oci::{Descriptor, Digest, Manifest, MediaType};
use serde::{Deserialize, Serialize};

use crate::document::{NewLayer, layer_type};
use crate::{Error, Result};

/// The kind of the artifact, and of the document that is its configuration.
const ARTIFACT: &str = "application/vnd.hoy.build.cache.v1+json";
/// Its documents of this form alone are understood.
const VERSION: u32 = 1;

/// What is said, by digests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Claims {
    hoy_build_cache: u32,
    /// What steps made, by what they depend on.
    pub(crate) steps: BTreeMap<Digest, Step>,
    /// Fingerprints of files that cannot change, by what names them.
    pub(crate) contents: BTreeMap<Digest, Digest>,
}

/// What a step made: nothing, where it has no layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Step {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<Blob>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Blob {
    digest: Digest,
    size: u64,
    diff_id: Digest,
}

impl Default for Claims {
    fn default() -> Self {
        Self { hoy_build_cache: VERSION, steps: BTreeMap::new(), contents: BTreeMap::new() }
    }
}

impl Step {
    pub(crate) fn of(layer: Option<&NewLayer>) -> Self {
        let blob = |layer: &NewLayer| Blob {
            digest: layer.descriptor.digest,
            size: layer.descriptor.size,
            diff_id: layer.diff_id,
        };
        Self { layer: layer.map(blob) }
    }

    pub(crate) fn layer(&self) -> Option<NewLayer> {
        self.layer.as_ref().map(|blob| NewLayer {
            // What is not compressed has one digest.
            descriptor: Descriptor::new(layer_type(blob.digest != blob.diff_id), blob.digest, blob.size),
            diff_id: blob.diff_id,
        })
    }
}

impl Claims {
    /// Reads the configuration of an artifact.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let claims: Self = serde_json::from_str(text).map_err(|error| format!("it is no build cache ({error})"))?;
        match claims.hoy_build_cache {
            VERSION => Ok(claims),
            other => Err(format!("it has version {other} of build caches, and this program reads {VERSION}")),
        }
    }

    pub(crate) fn layers(&self) -> BTreeMap<Digest, NewLayer> {
        self.steps.values().filter_map(Step::layer).map(|layer| (layer.descriptor.digest, layer)).collect()
    }

    /// Enters the artifact under the name `name` into `layout`, which has its layers.
    pub(crate) fn put(&self, layout: &ImageLayout, name: &str) -> Result<()> {
        let failed = |source| Error::Json("build cache", source);
        let config = layout.put(ARTIFACT, &serde_json::to_vec(self).map_err(failed)?)?;
        let mut layers: Vec<Descriptor> = self.layers().into_values().map(|layer| layer.descriptor).collect();
        if layers.is_empty() {
            // An artifact has one layer at least.
            layers.push(layout.put("application/vnd.oci.empty.v1+json", b"{}")?);
        }
        let mut manifest = Manifest::new(MediaType::MANIFEST, config, layers);
        manifest.artifact_type = Some(ARTIFACT.to_owned());
        let bytes = serde_json::to_vec(&manifest).map_err(failed)?;
        Ok(layout.set_name(name, &layout.put(MediaType::MANIFEST, &bytes)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let layer = |compressed: bool| NewLayer {
            descriptor: Descriptor::of(layer_type(compressed), b"a"),
            diff_id: Digest::of(if compressed { b"b" } else { b"a" }),
        };
        let mut claims = Claims::default();
        claims.steps.insert(Digest::of(b"1"), Step::of(None));
        claims.steps.insert(Digest::of(b"2"), Step::of(Some(&layer(true))));
        claims.steps.insert(Digest::of(b"3"), Step::of(Some(&layer(false))));
        claims.contents.insert(Digest::of(b"4"), Digest::of(b"5"));
        let text = serde_json::to_string(&claims).unwrap();
        let read = Claims::parse(&text).unwrap();
        assert_eq!(read, claims);
        assert_eq!(read.steps[&Digest::of(b"2")].layer(), Some(layer(true)));
        assert_eq!(read.steps[&Digest::of(b"3")].layer(), Some(layer(false)));
        for (from, to, want) in [
            (":1,", ":2,", "version 2"),
            ("sha256:", "sha256:zz", "no build cache"),
            ("\"size\":1", "\"size\":-1", "no build cache"),
            ("\"steps\"", "\"stepz\"", "no build cache"),
            ("{", "[", "no build cache"),
        ] {
            let error = Claims::parse(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
