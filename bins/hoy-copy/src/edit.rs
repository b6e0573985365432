//! `hoy-copy append`, `mutate`, `rebase`, `flatten`: images made from others.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use hoy_cli::{Context, Error, Result, print_line};
use hoy_oci::{Descriptor, ImageConfig, LayerCompression, Manifest, MediaType, Platform, Reference, Timestamp};
use hoy_transport::{CopyOptions, Document, Draft, Edited, ImageName, MultiArch, NewLayer, Source};

use crate::access::Access;
use crate::args::Global;
use crate::edit_args::{AppendArgs, FlattenArgs, MutateArgs, RebaseArgs};
use crate::look::one_image;
use crate::look_args::Reach;
use crate::progress::Watcher;
use crate::{endpoint, export, names};

/// Where what is made goes, and how both ends are reached.
pub(crate) struct Target {
    name: ImageName,
    access: Access,
    retry: hoy_registry::Retry,
}

impl Target {
    /// The image `tag`; without it the repository that `image` is in, by digest.
    pub(crate) fn new(global: &Global, tag: Option<&str>, image: &str, reach: Reach) -> Result<Self> {
        let (access, retry) = reach.split();
        let name = match (tag, names::to_write(global, tag.unwrap_or(image))?) {
            (Some(_), name) => name,
            (None, ImageName::Docker(reference)) => ImageName::Docker(Reference::parse(&reference.name())?),
            (None, _) => return Err(Error::msg("say where the new image goes, with --tag").with_code(2)),
        };
        Ok(Self { name, access, retry })
    }

    /// Opens an image for reading, in the same way.
    pub(crate) fn open(&self, global: &Global, image: &str) -> Result<Box<dyn Source>> {
        let name = names::to_read(global, image, &self.access, self.retry)?;
        endpoint::source(global, &name, &self.access, self.retry)
    }

    /// Copies what was made to where it goes, and prints its digest.
    pub(crate) fn write(&self, global: &Global, made: &dyn Source) -> Result<()> {
        let destination = endpoint::destination(global, &self.name, &self.access, self.retry, &[], false)?;
        let options = CopyOptions { multi_arch: MultiArch::All, retry: self.retry, ..CopyOptions::default() };
        // Little is copied, and often from within a script.
        let watcher = Watcher::new(!std::io::stderr().is_terminal());
        let copied = hoy_transport::copy(made, &*destination, &options, &watcher)?;
        if endpoint::is_stdout(&self.name) { Ok(()) } else { print_line(copied.descriptor.digest) }
    }
}

/// What `draft` describes, with layers of its own, made from `bases`.
fn made<'a>(bases: Vec<&'a dyn Source>, draft: Draft, layers: Vec<NewLayer>) -> Result<Edited<'a>> {
    let (root, config) = draft.finish()?;
    Ok(layers.into_iter().fold(Edited::new(bases, root).with_bytes(config), Edited::with_layer))
}

fn draft(global: &Global, source: &dyn Source, platform: Option<&Platform>) -> Result<Draft> {
    Ok(Draft::of(source, &one_image(global, source, platform)?)?)
}

/// Adds tars as layers.
fn add_tars(global: &Global, draft: &mut Draft, files: &[PathBuf]) -> Result<Vec<NewLayer>> {
    let mut layers = Vec::new();
    for path in files {
        let doing = || format!("read \"{}\"", path.display());
        let input: Box<dyn Read> = if path == Path::new("-") {
            Box::new(std::io::stdin())
        } else {
            Box::new(File::open(path).context(doing)?)
        };
        let layer = NewLayer::receive(input, LayerCompression::Gzip, &endpoint::spool(global)).context(doing)?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        draft.add_layer(&layer, &format!("append {name}"));
        layers.push(layer);
    }
    Ok(layers)
}

/// An image without layers.
fn empty(platform: &Platform) -> Result<(Document, Vec<u8>)> {
    let mut config = ImageConfig::new(&platform.os, &platform.architecture);
    config.variant.clone_from(&platform.variant);
    let config = serde_json::to_vec(&config)?;
    let manifest =
        Manifest::new(MediaType::MANIFEST, Descriptor::of(MediaType::from(MediaType::CONFIG), &config), Vec::new());
    let bytes = serde_json::to_vec(&manifest)?;
    Ok((Document { descriptor: Descriptor::of(MediaType::from(MediaType::MANIFEST), &bytes), bytes }, config))
}

pub(crate) fn append(global: &Global, args: AppendArgs) -> Result<()> {
    let target = Target::new(global, Some(&args.new_tag), &args.new_tag, args.reach)?;
    let base: Box<dyn Source> = match &args.base {
        Some(base) => target.open(global, base)?,
        None => {
            let (root, config) = empty(&args.platform.clone().unwrap_or(endpoint::platform(global)))?;
            Box::new(Edited::new(Vec::new(), root).with_bytes(config))
        }
    };
    let mut draft = draft(global, &*base, args.platform.as_ref())?;
    let layers = add_tars(global, &mut draft, &args.new_layer)?;
    target.write(global, &made(vec![&*base], draft, layers)?)
}

pub(crate) fn flatten(global: &Global, args: FlattenArgs) -> Result<()> {
    let target = Target::new(global, args.tag.as_deref(), &args.image, args.reach)?;
    let source = target.open(global, &args.image)?;
    let mut draft = draft(global, &*source, args.platform.as_ref())?;
    let layers = std::mem::take(&mut draft.manifest.layers);
    draft.clear_layers();
    let spool = endpoint::spool(global);
    let mut failure = None;
    let flat = NewLayer::write(LayerCompression::Gzip, &spool, |mut output| {
        // The program's own error says more than one of the library can hold.
        failure = export::flat(global, &*source, &layers, &mut output).err();
        Ok(())
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    draft.add_layer(&flat, "flatten");
    target.write(global, &made(vec![&*source], draft, vec![flat])?)
}

pub(crate) fn rebase(global: &Global, args: RebaseArgs) -> Result<()> {
    let target = Target::new(global, args.tag.as_deref(), &args.image, args.reach)?;
    let [image, old, new] = [&args.image, &args.old_base, &args.new_base].map(|name| target.open(global, name));
    let (image, old, new) = (image?, old?, new?);
    let platform = args.platform.as_ref();
    let mut changed = draft(global, &*image, platform)?;
    let (old, above) = (draft(global, &*old, platform)?, draft(global, &*new, platform)?);
    changed.rebase(&old, &above).map_err(|reason| Error::msg(format!("rebase {}: {reason}", image.name())))?;
    target.write(global, &made(vec![&*image, &*new], changed, Vec::new())?)
}

pub(crate) fn mutate(global: &Global, args: MutateArgs) -> Result<()> {
    let time = args.time.as_deref().map(parse_time).transpose()?;
    let target = Target::new(global, args.tag.as_deref(), &args.image, args.reach)?;
    let source = target.open(global, &args.image)?;
    let mut draft = draft(global, &*source, args.platform.as_ref())?;
    for (name, value) in pairs(&args.annotation)? {
        set(&mut draft.manifest.annotations, name, value);
    }
    let layers = add_tars(global, &mut draft, &args.append)?;
    let config = &mut draft.config.config;
    for (name, value) in pairs(&args.label)? {
        set(&mut config.labels, name, value);
    }
    for (name, value) in pairs(&args.env)? {
        let place = config.env.iter().position(|have| have.split('=').next() == Some(name));
        let text = format!("{name}={value}");
        match (place.and_then(|at| config.env.get_mut(at)), value) {
            (Some(_), "") => config.env.retain(|have| have.split('=').next() != Some(name)),
            (Some(have), _) => *have = text,
            (None, "") => {}
            (None, _) => config.env.push(text),
        }
    }
    if !args.entrypoint.is_empty() {
        // A command is arguments to the entry point it was written for.
        (config.entrypoint, config.cmd) = (Some(args.entrypoint), None);
    }
    if !args.cmd.is_empty() {
        config.cmd = Some(args.cmd);
    }
    if let Some(user) = args.user {
        config.user = user;
    }
    if let Some(directory) = args.workdir {
        config.working_dir = directory;
    }
    if !args.exposed_ports.is_empty() {
        let port = |port: &String| if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
        config.exposed_ports = args.exposed_ports.iter().map(|p| (port(p), serde_json::json!({}))).collect();
    }
    if let Some(platform) = args.set_platform {
        (draft.config.os, draft.config.architecture, draft.config.variant) =
            (platform.os, platform.architecture, platform.variant);
    }
    if time.is_some() {
        draft.config.created = time;
        draft.config.history.iter_mut().for_each(|step| step.created = time);
    }
    target.write(global, &made(vec![&*source], draft, layers)?)
}

fn parse_time(text: &str) -> Result<Timestamp> {
    let seconds = text.parse().ok().and_then(Timestamp::from_unix);
    seconds.map_or_else(|| text.parse().map_err(|e| Error::from(e).with_code(2)), Ok)
}

/// `NAME=VALUE` of each.
pub(crate) fn pairs(texts: &[String]) -> Result<Vec<(&str, &str)>> {
    let pair = |text: &String| Error::msg(format!("\"{text}\" is not of the form NAME=VALUE")).with_code(2);
    texts
        .iter()
        .map(|text| text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| pair(text)))
        .collect()
}

fn set(map: &mut std::collections::BTreeMap<String, String>, name: &str, value: &str) {
    match value {
        "" => drop(map.remove(name)),
        value => drop(map.insert(name.to_owned(), value.to_owned())),
    }
}
