//! `images` and `prune`: what `hoy-storage` knows of them, in buildah's shapes.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::SystemTime;

use clap::Args;
use hoy_build::in_store;
use hoy_cli::{Context as _, Error, Result, Stdout, human, print_line, table};
use hoy_layout::Store;
use hoy_oci::{Digest, Platform, Timestamp};
use serde_json::{Value, json};

use crate::args::{Keep, PruneArgs, RmiArgs};
use crate::context::{Context, warn};
use crate::never::NeverInImages;

#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Images of this name only
    pub(crate) image: Option<String>,
    /// List intermediate images too; there are none
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show digests of manifests
    #[arg(long)]
    pub(crate) digests: bool,
    /// List those with dangling=BOOL, label=NAME[=VALUE], before=IMAGE, since=IMAGE or reference=PATTERN
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Print by a Go template
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    pub(crate) format: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print no headings
    #[arg(short, long)]
    pub(crate) noheading: bool,
    #[command(flatten)]
    pub(crate) never: NeverInImages,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print ids alone
    #[arg(short, long, conflicts_with_all = ["json", "format"])]
    pub(crate) quiet: bool,
}

/// A condition on the images that are listed.
#[derive(Debug, Clone)]
pub(crate) enum ImageFilter {
    Dangling(bool),
    Label(String, Option<String>),
    /// Made before, or after, another image.
    Before(String),
    Since(String),
    /// A name, or a pattern of names.
    Reference(String),
    /// `KEY!=VALUE`
    Not(Box<ImageFilter>),
}

impl FromStr for ImageFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::msg(format!("invalid image filter \"{text}\": {reason}"));
        match text.split_once('=') {
            None => Err(wrong("must be in the format \"filter=value or filter!=value\"")),
            Some((key, value)) if key.ends_with('!') => {
                let filter = format!("{}={value}", key.trim_end_matches('!'));
                Ok(Self::Not(Box::new(filter.parse()?)))
            }
            Some(("dangling", value)) => value.parse().map(Self::Dangling).map_err(|_| wrong("it is true or false")),
            Some(("label", label)) => Ok(match label.split_once('=') {
                Some((name, value)) => Self::Label(name.to_owned(), Some(value.to_owned())),
                None => Self::Label(label.to_owned(), None),
            }),
            Some(("before", image)) => Ok(Self::Before(image.to_owned())),
            Some(("since" | "after", image)) => Ok(Self::Since(image.to_owned())),
            Some(("reference", pattern)) => Ok(Self::Reference(pattern.to_owned())),
            _ => Err(wrong("there are dangling, label, before, since and reference")),
        }
    }
}

impl ImageFilter {
    /// The image that others are compared with.
    fn other(&self) -> Option<&str> {
        match self {
            Self::Before(other) | Self::Since(other) => Some(other),
            Self::Not(filter) => filter.other(),
            _ => None,
        }
    }

    fn accepts(&self, image: &Value, times: &impl Fn(&str) -> Option<i64>) -> bool {
        let created = image.get("Created").and_then(Value::as_i64).unwrap_or_default();
        let than =
            |other: &str, is_it: fn(&i64, &i64) -> bool| times(other).is_some_and(|other| is_it(&created, &other));
        match self {
            Self::Not(other) => !other.accepts(image, times),
            Self::Before(other) => than(other, i64::lt),
            Self::Since(other) => than(other, i64::gt),
            Self::Reference(pattern) => {
                let names = image.get("Names").and_then(Value::as_array).into_iter().flatten();
                names.filter_map(Value::as_str).any(|name| is_meant(name, pattern))
            }
            Self::Dangling(wanted) => image.get("Dangling").and_then(Value::as_bool) == Some(*wanted),
            Self::Label(name, value) => match image.get("Labels").and_then(|labels| labels.get(name)) {
                Some(found) => value.as_ref().is_none_or(|value| found == value.as_str()),
                None => false,
            },
        }
    }
}

pub(crate) fn images(context: &Context, args: &ImagesArgs) -> Result<ExitCode> {
    let filters = args.filter.iter().map(|text| text.parse()).collect::<Result<Vec<ImageFilter>>>()?;
    let mut command = vec!["images", "--format", "json"];
    command.extend(args.image.as_deref());
    let mut images: Vec<Value> = serde_json::from_str(&context.tools.storage(command)?)?;
    if let (true, Some(name)) = (images.is_empty(), &args.image) {
        return Err(Error::msg(format!("{name}: image not known")));
    }
    let store = context.store()?;
    for other in filters.iter().filter_map(ImageFilter::other) {
        store.image(other).context(|| format!("option --filter: \"{other}\""))?;
    }
    let times = |other: &str| Some(store.image(other).ok()?.1.config.created?.unix_seconds());
    images.retain(|image| filters.iter().all(|filter| filter.accepts(image, &times)));
    let now = Timestamp::from(SystemTime::now()).unix_seconds();
    let mut out = Stdout::new();
    if args.json {
        let all: Value = images.iter().map(|image| described(image, now)).collect();
        writeln!(out, "{}", table::json(&all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Value> = images.iter().flat_map(|image| rows(image, args, now)).collect();
    let mut columns = vec![("Name", "REPOSITORY"), ("Tag", "TAG")];
    columns.extend(args.digests.then_some(("Digest", "DIGEST")));
    columns.extend([("ID", "IMAGE ID"), ("CreatedAt", "CREATED"), ("Size", "SIZE")]);
    if args.quiet {
        let mut ids: Vec<&str> = rows.iter().filter_map(|row| row.get("ID")?.as_str()).collect();
        ids.dedup();
        ids.iter().try_for_each(|id| writeln!(out, "{id}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    out.write_all(table::list(args.format.as_deref(), args.noheading, &columns, &rows)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a pattern names an image: as a whole, or from the beginning of a part of the name on; without a tag, with any.
fn is_meant(name: &str, pattern: &str) -> bool {
    let has_tag = pattern.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let whole = if has_tag { pattern.to_owned() } else { format!("{pattern}:*") };
    let starts = std::iter::once(0).chain(name.match_indices('/').map(|(at, _)| at + 1));
    starts.filter_map(|at| name.get(at..)).any(|rest| matches(rest.as_bytes(), whole.as_bytes()))
}

/// `*` stands for anything, `?` for one character.
fn matches(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut star) = ((0, 0), None);
    while at.0 < text.len() {
        match pattern.get(at.1) {
            Some(b'*') => {
                star = Some(at);
                at.1 += 1;
            }
            Some(c) if *c == b'?' || Some(c) == text.get(at.0) => at = (at.0 + 1, at.1 + 1),
            _ => match &mut star {
                None => return false,
                Some(last) => {
                    last.0 += 1;
                    at = (last.0, last.1 + 1);
                }
            },
        }
    }
    pattern.get(at.1..).unwrap_or_default().iter().all(|c| *c == b'*')
}

fn text<'a>(image: &'a Value, field: &str) -> &'a str {
    image.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn id(image: &Value, is_whole: bool) -> String {
    let id = text(image, "Id");
    if is_whole { format!("sha256:{id}") } else { id.chars().take(12).collect() }
}

fn created_and_size(image: &Value, now: i64) -> (i64, String, String) {
    let created = image.get("Created").and_then(Value::as_i64).unwrap_or_default();
    let size = image.get("Size").and_then(Value::as_u64).unwrap_or_default();
    (created, human::ago(created, now), human::size(size))
}

/// One image as buildah's JSON has it.
fn described(image: &Value, now: i64) -> Value {
    let (created, ago, size) = created_and_size(image, now);
    json!({
        "id": id(image, false),
        "names": image.get("Names"),
        "digest": text(image, "Digest"),
        "createdat": ago,
        "size": size,
        "created": created,
        "createdatraw": text(image, "CreatedAt"),
        "readonly": false,
        "history": null,
    })
}

/// One row for each name of an image, or one without a name.
fn rows(image: &Value, args: &ImagesArgs, now: i64) -> Vec<Value> {
    let (created, ago, size) = created_and_size(image, now);
    let names = image.get("Names").and_then(Value::as_array).into_iter().flatten();
    let mut names: Vec<(&str, &str)> = names
        .filter_map(Value::as_str)
        .map(|name| match (name.split_once('@'), name.rsplit_once(':')) {
            (None, Some((repository, tag))) if !tag.contains('/') => (repository, tag),
            (Some((repository, _)), _) => (repository, "<none>"),
            _ => (name, "<none>"),
        })
        .collect();
    if names.is_empty() {
        names.push(("<none>", "<none>"));
    }
    let row = |(name, tag): (&str, &str)| {
        json!({
            "ID": id(image, args.no_trunc),
            "Name": name,
            "Tag": tag,
            "Digest": text(image, "Digest"),
            "CreatedAt": ago,
            "CreatedAtRaw": text(image, "CreatedAt"),
            "Created": created,
            "Size": size,
        })
    };
    names.into_iter().map(row).collect()
}

pub(crate) fn rmi(context: &Context, args: &RmiArgs) -> Result<ExitCode> {
    if args.prune {
        remove_nameless(context, false)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.force {
        let store = context.store()?;
        let names: Vec<&str> = args.images.iter().map(|image| in_store(image).unwrap_or(image)).collect();
        remove_containers(context, &store, |digest| {
            let is_one = |name: &&str| manifests(&store, name).contains(digest);
            args.all || names.iter().any(is_one)
        })?;
    }
    let options = [("--force", args.force), ("--all", args.all)];
    let options = options.into_iter().filter(|(_, is_set)| *is_set).map(|(option, _)| OsString::from(option));
    let images = args.images.iter().map(|image| in_store(image).unwrap_or(image).into());
    remove(context, options.chain(images))
}

/// Leaves it to `hoy-storage rmi`, and says in buildah's words what is gone.
pub(crate) fn remove(context: &Context, args: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let mut command = context.tools.command("hoy-storage");
    let output = command.arg("rmi").args(args).output();
    let output = output.context(|| "run \"hoy-storage\"")?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.split_once(": ") {
            Some(("Untagged", name)) => print_line(format!("untagged: {name}"))?,
            Some(("Deleted", id)) => print_line(id)?,
            _ => print_line(line)?,
        }
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said =
        said.trim_start_matches("hoy-storage: ").trim_end().split("\nhoy-storage: ").filter(|text| !text.is_empty());
    let (warnings, failures): (Vec<&str>, Vec<&str>) = said.partition(|text| text.starts_with("warning: "));
    warnings.into_iter().for_each(warn);
    match failures.as_slice() {
        _ if output.status.success() => Ok(ExitCode::SUCCESS),
        [] => Err(Error::msg(format!("hoy-storage failed: {}", output.status))),
        [one] => Err(Error::msg(*one)),
        all => Err(Error::msg(format!("{} errors occurred:\n\t* {}", all.len(), all.join("\n\t* ")))),
    }
}

/// The digests that a container made from this image may name.
fn manifests(store: &Store, image: &str) -> Vec<Digest> {
    let Ok(found) = store.find_image(image) else { return Vec::new() };
    let chosen = store.layout().image(&found.descriptor, &Platform::host()).ok();
    [found.descriptor.digest].into_iter().chain(chosen.map(|image| image.descriptor.digest)).collect()
}

/// Removes the containers that were made from images whose manifests are meant.
fn remove_containers(context: &Context, store: &Store, is_meant: impl Fn(&Digest) -> bool) -> Result<()> {
    for dir in store.all_containers()? {
        if dir.container().is_ok_and(|container| container.manifest.is_some_and(|digest| is_meant(&digest))) {
            context.tools.storage(["rm", dir.id().as_str()]).context(|| format!("remove \"{}\"", dir.id()))?;
        }
    }
    Ok(())
}

/// Removes images without a name; one that a container was made from stays, or goes with it by `force`.
fn remove_nameless(context: &Context, force: bool) -> Result<()> {
    let images: Vec<Value> = serde_json::from_str(&context.tools.storage(["images", "--format", "json"])?)?;
    for image in images.iter().filter(|image| image.get("Dangling").and_then(Value::as_bool) == Some(true)) {
        if force {
            let store = context.store()?;
            let digests = manifests(&store, text(image, "Id"));
            remove_containers(context, &store, |digest| digests.contains(digest))?;
        }
        match context.tools.storage(["rmi", text(image, "Id")]) {
            Ok(_) => print_line(text(image, "Id"))?,
            Err(error) => warn(&error.to_string()),
        }
    }
    Ok(())
}

pub(crate) fn prune(context: &Context, args: &PruneArgs) -> Result<ExitCode> {
    // What a build's commands wrote may belong to any of the user's ids.
    context.enter()?;
    hoy_build::prune_builds(&context.store()?, &context.tools, args.all).context(|| "prune what builds left")?;
    remove_nameless(context, args.force)?;
    if args.all && args.force {
        remove_containers(context, &context.store()?, |_| true)?;
    }
    let mut command = vec!["prune", "--force"];
    command.extend(args.all.then_some("--all"));
    context.tools.storage(command)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn keep(context: &Context, args: &Keep) -> Result<ExitCode> {
    match &args.scratch {
        Some(scratch) => hoy_build::keep(&context.store()?, &context.tools, scratch, std::io::stdin())?,
        None => drop(std::io::copy(&mut std::io::stdin(), &mut std::io::stdout())?),
    }
    Ok(ExitCode::SUCCESS)
}
