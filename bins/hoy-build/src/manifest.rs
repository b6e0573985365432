//! `manifest`: indexes of images, which buildah calls manifest lists. `hoy-copy` makes and changes them.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgAction, Args, Subcommand};
use hoy_build::split_transport;
use hoy_cli::{Context as _, Error, Result, print_line};
use hoy_layout::Store;
use hoy_oci::{Digest, Document, Reference};

use crate::access::{Access, Sending};
use crate::artifact::{self, ArtifactArgs};
use crate::context::Context;
use crate::never::{NeverInAnnotating, NeverInPushing};

#[derive(Debug, Subcommand)]
pub(crate) enum ManifestAction {
    /// Make an index, of images or of none, and print its id
    Create(CreateArgs),
    /// Add an image to an index, and print the ids of both
    Add(AddArgs),
    /// Say more of an index, or of an image in it
    Annotate(AnnotateArgs),
    /// Print an index as JSON
    Inspect(InspectArgs),
    /// Send an index and its images elsewhere
    Push(PushArgs),
    /// Take an image out of an index
    Remove(RemoveArgs),
    /// Remove indexes
    Rm(RmArgs),
    /// Whether there is an index of this name: exit code 0, or 1
    Exists(ExistsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The index
    list: String,
    /// Its images
    images: Vec<String>,
    /// Take all images of those that are indexes themselves
    #[arg(long)]
    all: bool,
    /// Add to the index if there is one
    #[arg(short, long)]
    amend: bool,
    /// Make it anew if there is one
    #[arg(long, conflicts_with = "amend")]
    replace: bool,
    /// Set an annotation of the index
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    #[command(flatten)]
    access: Access,
}

/// What is said of an image in an index.
#[derive(Debug, Args)]
struct Said {
    /// Set an annotation
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// The image's processor
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,
    /// The image's operating system
    #[arg(long, value_name = "NAME")]
    os: Option<String>,
    /// The variant of the image's processor
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// The version of the image's operating system
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// What the image needs of its operating system
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    os_features: Vec<String>,
    /// What the image needs of its processor
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    features: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The index
    list: String,
    /// The image; with --artifact, files
    #[arg(required = true, value_name = "IMAGE|FILE")]
    images: Vec<String>,
    /// Take all images of one that is an index itself
    #[arg(long, conflicts_with = "artifact")]
    all: bool,
    #[command(flatten)]
    said: Said,
    #[command(flatten)]
    artifact: ArtifactArgs,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Args)]
pub(crate) struct AnnotateArgs {
    /// The index
    list: String,
    /// The image in it, by its digest or its name
    #[arg(required_unless_present = "index")]
    image: Option<String>,
    /// Annotate the index itself
    #[arg(long, conflicts_with = "image")]
    index: bool,
    #[command(flatten)]
    said: Said,
    #[command(flatten)]
    never: NeverInAnnotating,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The index, in the store or else at a registry
    list: String,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The index
    list: String,
    /// Where it goes (default: to the registry of its name)
    destination: Option<String>,
    /// Send its images too (default true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    all: bool,
    /// oci or v2s2
    #[arg(short, long, value_name = "TYPE")]
    format: Option<String>,
    /// Write the digest into this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<String>,
    /// Remove the index afterwards
    #[arg(long, alias = "purge")]
    rm: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    never: NeverInPushing,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The index
    list: String,
    /// The image's digest
    digest: Digest,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// The indexes
    #[arg(required = true)]
    lists: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExistsArgs {
    /// The index
    list: String,
}

pub(crate) fn run(context: &Context, action: ManifestAction) -> Result<ExitCode> {
    let store = context.store()?;
    match action {
        ManifestAction::Create(args) => create(context, &store, &args),
        ManifestAction::Add(args) => add(context, &store, &args),
        ManifestAction::Annotate(args) => annotate(context, &store, &args),
        ManifestAction::Inspect(args) => inspect(context, &store, &args),
        ManifestAction::Push(args) => push(context, &store, &args),
        ManifestAction::Remove(args) => {
            let index = edit(context, &store, &args.list, "remove", vec![format!("--digest={}", args.digest)])?;
            print_line(format!("{index}: {}", args.digest))?;
            Ok(ExitCode::SUCCESS)
        }
        ManifestAction::Rm(args) => {
            let names: Vec<OsString> =
                args.lists.iter().map(|list| Ok(found(&store, list)?.into())).collect::<Result<_>>()?;
            crate::images::remove(context, names.into_iter())
        }
        ManifestAction::Exists(args) => Ok(ExitCode::from(u8::from(found(&store, &args.list).is_err()))),
    }
}

/// The name that an index of the store has.
fn found(store: &Store, list: &str) -> Result<String> {
    let doing = || format!("use the index \"{list}\"");
    let image = store.find_image(list).context(doing)?;
    let bytes = store.layout().read_document(&image.descriptor).context(doing)?;
    match Document::parse(&image.descriptor.media_type, &bytes).context(doing)? {
        Document::Index(_) => Ok(image.name.unwrap_or_else(|| image.descriptor.digest.hex())),
        Document::Manifest(_) => Err(Error::msg("it is one image, and no index")).context(doing),
    }
}

/// Where an image is: in a transport that it names, in the store, or at a registry.
fn place(store: &Store, image: &str) -> String {
    match store.find_image(hoy_build::in_store(image).unwrap_or(image)) {
        _ if split_transport(image).is_some() => image.to_owned(),
        Ok(found) => format!("store:{}", found.name.unwrap_or_else(|| found.descriptor.digest.hex())),
        Err(_) => image.to_owned(),
    }
}

/// Changes an index of the store; returns the id of what it is now.
fn edit(context: &Context, store: &Store, list: &str, verb: &str, options: Vec<String>) -> Result<String> {
    let name = found(store, list)?;
    let mut args = vec!["index".to_owned(), verb.to_owned(), format!("store:{name}")];
    args.extend(options);
    let digest = context.tools.copy(args).context(|| format!("change the index \"{list}\""))?;
    Ok(digest.trim_start_matches("sha256:").to_owned())
}

fn create(context: &Context, store: &Store, args: &CreateArgs) -> Result<ExitCode> {
    let doing = || format!("create the index \"{}\"", args.list);
    let name = Reference::parse_local(&args.list).context(doing)?.to_string();
    let mut before = store.find_image(&name).ok().map(|image| image.descriptor);
    if args.replace {
        match before.take() {
            Some(image) if image.media_type.is_index() => drop(store.layout().remove_name(&name)?),
            // It stays, without the name.
            Some(_) => drop(context.tools.storage(["untag", &name, &name]).context(doing)?),
            None => {}
        }
    }
    if before.is_some() && !args.amend {
        let hint = format!("add to \"{name}\" with --amend, or take the name with --replace");
        return Err(Error::msg("that name is already in use").with_hint(hint)).context(doing);
    }
    let which = if args.all { "all" } else { "system" };
    let mut options = vec![format!("--multi-arch={which}")];
    options.extend(args.access.options(""));
    let images = args.images.iter().map(|image| place(store, image));
    // An image that has the name is the first of the index.
    let (list, image) = match before {
        Some(list) if list.media_type.is_index() => (Some(list), None),
        image => (None, image),
    };
    let images = image.iter().map(|image| format!("store:{}", image.digest)).chain(images);
    let id = if let Some(list) = list {
        let mut id = list.digest.hex();
        if !args.images.is_empty() {
            options.extend(images.map(|image| format!("--manifest={image}")));
            id = edit(context, store, &args.list, "add", options)?;
        }
        if !args.annotation.is_empty() {
            let options = args.annotation.iter().map(|text| format!("--annotation={text}"));
            id = edit(context, store, &args.list, "annotate", options.collect())?;
        }
        id
    } else {
        let mut command = vec!["index".to_owned(), "create".to_owned()];
        command.extend(options);
        command.extend(args.annotation.iter().map(|text| format!("--annotation={text}")));
        command.push(format!("store:{name}"));
        command.extend(images);
        context.tools.copy(command).context(doing)?
    };
    print_line(id.trim_start_matches("sha256:"))?;
    Ok(ExitCode::SUCCESS)
}

impl Said {
    fn options(&self) -> Vec<String> {
        let one = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("--{name}={value}"));
        let mut options: Vec<String> = [
            one("arch", &self.arch),
            one("os", &self.os),
            one("variant", &self.variant),
            one("os-version", &self.os_version),
        ]
        .into_iter()
        .flatten()
        .collect();
        options.extend(self.os_features.iter().map(|feature| format!("--os-features={feature}")));
        options.extend(self.features.iter().map(|feature| format!("--features={feature}")));
        options.extend(self.annotation.iter().map(|text| format!("--annotation={text}")));
        options
    }
}

fn add(context: &Context, store: &Store, args: &AddArgs) -> Result<ExitCode> {
    if !args.artifact.artifact {
        return match args.images.as_slice() {
            [image] => add_image(context, store, args, place(store, image)),
            _ => Err(Error::msg("manifest add takes one image; files make an artifact with --artifact")),
        };
    }
    found(store, &args.list)?;
    let lease = store.lease()?;
    let artifact = args.artifact.write(store, &args.images)?;
    // Of what an index is made is looked for among the store's images.
    let is_new = store.layout().edit_index(|index| {
        let is_new = index.member(&artifact.digest).is_none();
        index.manifests.extend(is_new.then(|| artifact.clone()));
        Ok::<_, hoy_layout::Error>(is_new)
    })?;
    let added = add_image(context, store, args, format!("store:{}", artifact.digest));
    if is_new {
        store.layout().remove_digest(&artifact.digest)?;
    }
    drop(lease);
    added
}

fn add_image(context: &Context, store: &Store, args: &AddArgs, place: String) -> Result<ExitCode> {
    let which = if args.all { "all" } else { "system" };
    let mut options = vec![format!("--manifest={place}"), format!("--multi-arch={which}")];
    // Of an index, the image that is for what is said.
    let chosen = [("arch", &args.said.arch), ("os", &args.said.os), ("variant", &args.said.variant)];
    let chosen = chosen.into_iter().filter_map(|(name, value)| Some(format!("--override-{name}={}", value.as_ref()?)));
    options.extend(chosen);
    options.extend(args.access.options(""));
    let mut id = edit(context, store, &args.list, "add", options)?;
    let name = found(store, &args.list)?;
    let listed = context.tools.copy(["index", "list", &format!("store:{name}")])?;
    let last = listed.lines().last().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
    let said = args.said.options();
    if !said.is_empty() && !args.all {
        id = edit(context, store, &args.list, "annotate", [vec![format!("--digest={last}")], said].concat())?;
    }
    print_line(format!("{id}: {last}"))?;
    Ok(ExitCode::SUCCESS)
}

fn annotate(context: &Context, store: &Store, args: &AnnotateArgs) -> Result<ExitCode> {
    let mut options = args.said.options();
    let digest = match &args.image {
        None => None,
        Some(image) if image.starts_with("sha256:") => Some(image.clone()),
        Some(image) => match artifact::holding(store, &store.find_image(&args.list)?.descriptor, image)? {
            Some(digest) => Some(digest.to_string()),
            None => Some(context.tools.copy(["digest", &place(store, image)])?),
        },
    };
    options.extend(digest.iter().map(|digest| format!("--digest={digest}")));
    let id = edit(context, store, &args.list, "annotate", options)?;
    print_line(digest.map_or(id.clone(), |digest| format!("{id}: {digest}")))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the index that `list` names in the store.
pub(crate) fn inspect_of(context: &Context, store: &Store, list: &str) -> Result<ExitCode> {
    found(store, list)?;
    inspect(context, store, &InspectArgs { list: list.to_owned(), access: Access::default() })
}

fn inspect(context: &Context, store: &Store, args: &InspectArgs) -> Result<ExitCode> {
    let mut command = vec!["manifest".to_owned()];
    command.extend(args.access.options(""));
    command.push(place(store, &args.list));
    let text = context.tools.copy(command).context(|| format!("inspect \"{}\"", args.list))?;
    let document: serde_json::Value = serde_json::from_str(&text)?;
    print_line(serde_json::to_string_pretty(&document)?)?;
    Ok(ExitCode::SUCCESS)
}

fn push(context: &Context, store: &Store, args: &PushArgs) -> Result<ExitCode> {
    let name = found(store, &args.list)?;
    let destination = match &args.destination {
        Some(destination) if split_transport(destination).is_some() => destination.clone(),
        other => format!("docker://{}", other.as_ref().unwrap_or(&name)),
    };
    let mut command = vec!["copy".to_owned()];
    command.push(if args.all { "--all".to_owned() } else { "--multi-arch=index-only".to_owned() });
    command.extend(args.access.options("dest"));
    command.extend(args.sending.options());
    command.extend(args.quiet.then(|| "--quiet".to_owned()));
    command.extend(args.format.as_ref().map(|format| format!("--format={format}")));
    command.extend(args.digestfile.as_ref().map(|file| format!("--digestfile={file}")));
    command.extend([format!("store:{name}"), destination]);
    context.tools.copy(command).context(|| format!("push \"{}\"", args.list))?;
    if args.rm {
        context.tools.storage(["rmi", &name]).context(|| format!("remove \"{name}\""))?;
    }
    Ok(ExitCode::SUCCESS)
}
