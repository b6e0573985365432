//! `commit`: from a working container to an image.

use hoy_layout::{ContainerDir, ImageLayout, Store};
use hoy_oci::{Descriptor, Digest};
use serde_json::Value;

use crate::document::{self, Format, NewLayer};
use crate::sink::LayerSink;
use crate::tools::answer;
use crate::working::image_by_manifest;
use crate::{Clamp, Error, Result, Said, Tools, Working, instruct};

/// How an image is made.
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// The full name it gets; none leaves it without one.
    pub name: Option<String>,
    /// In whose words its documents are.
    pub format: Format,
    /// The latest time in it.
    pub clamp: Clamp,
    /// Whether the new layer is compressed (gzip).
    pub compress: bool,
    /// One layer holds everything.
    pub squash: bool,
    /// The image tells nothing of how it was made.
    pub omit_history: bool,
    /// What is said of the image as a whole.
    pub said: Said,
    /// Instructions of a Containerfile that change its configuration.
    pub changes: Vec<String>,
    /// A configuration in Docker's JSON whose fields win over the container's.
    pub config: Option<Value>,
}

/// An image that was made.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The digest of its configuration: its id.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Descriptor,
    /// It has no name, and was not in the store before.
    pub is_new_and_nameless: bool,
    /// What the person should know.
    pub warnings: Vec<String>,
}

/// Writes the image of a working container into the store.
///
/// Only what changed becomes a layer; where nothing did, there is none. The same container gives the same bytes again.
///
/// # Errors
/// Those of `hoy-storage diff`, of the store, and [`Error::Refused`] for what the format cannot say.
pub fn commit(
    store: &Store,
    tools: &Tools,
    dir: &ContainerDir,
    working: &Working,
    options: &CommitOptions,
) -> Result<Committed> {
    let layout = store.layout();
    let lease = store.lease()?;
    let mut working = working.clone();
    if let Some(config) = &options.config {
        overlay(&mut working, config)?;
    }
    instruct(&mut working, &options.changes)?;
    options.said.apply(&mut working, Some(options.clamp.created()));
    let base = match working.from_manifest {
        Some(manifest) if !options.squash => image_by_manifest(layout, &manifest)?.manifest.layers,
        _ => Vec::new(),
    };
    if options.squash {
        working.config.rootfs.diff_ids.clear();
        working.config.history.clear();
    }
    let layer = layer(layout, tools, dir.id().as_str(), options)?;
    let mut config = document::config(&working, layer.as_ref(), options.clamp.created());
    if options.omit_history {
        config.history.clear();
    }
    if let (Format::Docker, Some(parent)) = (options.format, working.from_image_id) {
        config.other.insert("parent".to_owned(), Value::from(parent.to_string()));
    }
    let json = |what| move |source| Error::Json(what, source);
    let config = serde_json::to_vec(&config).map_err(json("configuration"))?;
    let config = layout.put(document::config_type(options.format), &config)?;
    let manifest = document::manifest(&working, options.format, config, &base, layer.as_ref())?;
    let bytes = serde_json::to_vec(&manifest).map_err(json("manifest"))?;
    let media_type = manifest.media_type.as_ref().map(|t| t.as_str()).unwrap_or_default();
    let descriptor = layout.put(media_type, &bytes)?;
    let is_new_and_nameless = enter(layout, options.name.as_deref(), &descriptor)?;
    drop(lease);
    let warnings = match options.format {
        Format::Docker if !working.annotations.is_empty() => {
            vec!["the format docker has no annotations: they are left out".to_owned()]
        }
        _ => Vec::new(),
    };
    Ok(Committed { id: manifest.config.digest, manifest: descriptor, is_new_and_nameless, warnings })
}

/// Fields of a container's configuration win over what the working container says.
fn overlay(working: &mut Working, config: &Value) -> Result<()> {
    let json = |source| Error::Json("configuration of a container", source);
    let mut own = serde_json::to_value(&working.config.config).map_err(json)?;
    if let (Some(own), Some(fields)) = (own.as_object_mut(), config.as_object()) {
        let said = fields.iter().filter(|(_, value)| !value.is_null());
        own.extend(said.map(|(key, value)| (key.clone(), value.clone())));
    }
    working.config.config = serde_json::from_value(own).map_err(json)?;
    Ok(())
}

/// Enters the image into the index; whether it is new there and has no name.
pub(crate) fn enter(layout: &ImageLayout, name: Option<&str>, descriptor: &Descriptor) -> Result<bool> {
    if let Some(name) = name {
        layout.set_name(name, descriptor)?;
        return Ok(false);
    }
    layout.edit_index(|index| {
        let is_new = index.member(&descriptor.digest).is_none();
        if is_new {
            index.manifests.push(descriptor.clone());
        }
        Ok(is_new)
    })
}

/// What changed since the image, as a layer, or none where nothing did; the whole tree where it is squashed.
fn layer(layout: &ImageLayout, tools: &Tools, id: &str, options: &CommitOptions) -> Result<Option<NewLayer>> {
    let mut args: Vec<String> =
        if options.squash { vec!["export".into()] } else { vec!["diff".into(), "--tar".into()] };
    if let Some(seconds) = options.clamp.seconds() {
        args.extend(["--clamp".to_owned(), seconds.to_string()]);
    }
    args.push(id.to_owned());
    let mut child = tools.storage_stream(args)?;
    let mut sink = LayerSink::new(layout, options.compress)?;
    let copied = match child.stdout.take() {
        Some(mut tar) => sink.copy(&mut tar),
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(Error::io("wait for", "hoy-storage"))?;
    // A child that failed says why better than the pipe that broke.
    answer("hoy-storage", output)?;
    copied.map_err(Error::io("write a layer to", layout.path()))?;
    // An empty tree is a layer too: without one an image would keep what it should not.
    if options.squash { sink.finish_always().map(Some) } else { sink.finish() }
}
