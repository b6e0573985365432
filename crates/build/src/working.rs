//! What is recorded of a working container: `build.json`.

use std::collections::BTreeMap;

use hoy_layout::{ContainerDir, Image, ImageLayout, Lock, Store};
use hoy_oci::{Digest, History, ImageConfig, Platform};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// The file that `hoy-build` alone writes in a container's directory.
const FILE: &str = "build.json";
/// Held while that file is changed.
const LOCK: &str = ".build.lock";

/// A working container's future image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Working {
    /// The full name of the image it came from; empty for one made from nothing.
    #[serde(default)]
    pub from_image: String,
    /// The digest of that image's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_image_id: Option<Digest>,
    /// The digest of that image's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_manifest: Option<Digest>,
    /// The configuration as it would be committed, with the layers and history of the image it came from.
    pub config: ImageConfig,
    /// Annotations of the manifest to be.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Steps recorded with `--add-history`; the time is that of the commit.
    #[serde(default)]
    pub history: Vec<History>,
    /// How the layer to be came about, in the words of `config --created-by`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A remark on that layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_comment: Option<String>,
    /// What commands in it have and use, as the options of `from` said it; null where they said nothing.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub surroundings: Value,
    /// In whose words its image is, if `from` said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Working {
    /// A container made from nothing, for this machine's platform.
    pub fn from_scratch(platform: &Platform) -> Self {
        let mut config = ImageConfig::new(&platform.os, &platform.architecture);
        config.variant.clone_from(&platform.variant);
        Self {
            from_image: String::new(),
            from_image_id: None,
            from_manifest: None,
            config,
            annotations: BTreeMap::new(),
            history: Vec::new(),
            created_by: None,
            history_comment: None,
            surroundings: Value::Null,
            format: None,
            other: Map::new(),
        }
    }

    /// A container made from `image`, known as `name`.
    pub fn from_image(name: &str, image: &Image) -> Self {
        Self {
            from_image: name.to_owned(),
            from_image_id: Some(image.manifest.config.digest),
            from_manifest: Some(image.descriptor.digest),
            config: image.config.clone(),
            annotations: image.manifest.annotations.clone(),
            ..Self::from_scratch(&Platform::host())
        }
    }

    /// The image it came from has no name.
    pub(crate) fn stands_on_nameless(&mut self) {
        self.from_image.clear();
        self.annotations.remove("org.opencontainers.image.base.name");
    }

    /// The working container that a person calls `text`, with its directory.
    ///
    /// # Errors
    /// [`hoy_layout::Error::NoContainer`]; [`Error::NotWorking`] for somebody else's container.
    pub fn find(store: &Store, text: &str) -> Result<(ContainerDir, Self)> {
        let dir = store.find_container(text)?;
        let working = Self::read(&dir)?.ok_or_else(|| Error::NotWorking(text.to_owned()))?;
        Ok((dir, working))
    }

    /// The directory of the working container with this name, id or unique beginning of an id, whatever its record says.
    ///
    /// # Errors
    /// `NoContainer` and the like of the layout; [`Error::NotWorking`] for a container of somebody else's.
    pub fn find_directory(store: &Store, text: &str) -> Result<ContainerDir> {
        let dir = store.find_container(text)?;
        if Self::is_in(&dir) { Ok(dir) } else { Err(Error::NotWorking(text.to_owned())) }
    }

    /// Whether `dir` is a working container's.
    pub fn is_in(dir: &ContainerDir) -> bool {
        dir.path().join(FILE).exists()
    }

    /// The record in `dir`; none where there is none.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn read(dir: &ContainerDir) -> Result<Option<Self>> {
        match dir.read_json(FILE) {
            Ok(working) => Ok(Some(working)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the record.
    ///
    /// # Errors
    /// Those of writing it.
    pub fn write(&self, dir: &ContainerDir) -> Result<()> {
        Ok(dir.write_json(FILE, self)?)
    }

    /// Changes the record under the container's lock; nothing is written when `change` fails.
    ///
    /// # Errors
    /// Those of `change` and of reading and writing.
    pub fn edit(dir: &ContainerDir, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let lock = Lock::exclusive(&dir.path().join(LOCK))?;
        let mut working = Self::read(dir)?.ok_or_else(|| Error::NotWorking(dir.id().to_string()))?;
        change(&mut working)?;
        working.write(dir)?;
        drop(lock);
        Ok(())
    }

    /// Adds a step that has no layer of its own to the history.
    pub fn remember(&mut self, created_by: impl Into<String>) {
        let step = History { created_by: Some(created_by.into()), empty_layer: true, ..History::default() };
        self.history.push(step);
    }
}

/// Reads the image whose manifest has this digest.
pub(crate) fn image_by_manifest(layout: &ImageLayout, digest: &Digest) -> Result<Image> {
    let missing = || hoy_layout::Error::NoBlob { digest: *digest, layout: layout.path().to_owned() };
    let descriptor = layout.manifest(digest)?.ok_or_else(missing)?;
    Ok(layout.image(&descriptor, &Platform::host())?)
}
