//! `images` and `prune`: what `hoy-storage` knows of them, in buildah's shapes.

use std::io::Write;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::SystemTime;

use clap::Args;
use hoy_cli::{Context as _, Error, Result, Stdout, human, print_line, table};
use hoy_oci::Timestamp;
use serde_json::{Value, json};

use crate::args::{Keep, PruneArgs};
use crate::context::{Context, warn};

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
    /// List those with dangling=true, dangling=false or label=NAME[=VALUE]
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<ImageFilter>,
    /// Print by a Go template
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    pub(crate) format: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print no headings
    #[arg(short, long)]
    pub(crate) noheading: bool,
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
}

impl FromStr for ImageFilter {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('=') {
            Some(("dangling", value)) => {
                value.parse().map(Self::Dangling).map_err(|_| "dangling is true or false".to_owned())
            }
            Some(("label", label)) => Ok(match label.split_once('=') {
                Some((name, value)) => Self::Label(name.to_owned(), Some(value.to_owned())),
                None => Self::Label(label.to_owned(), None),
            }),
            _ => Err("a filter is dangling= or label=".to_owned()),
        }
    }
}

impl ImageFilter {
    fn accepts(&self, image: &Value) -> bool {
        match self {
            Self::Dangling(wanted) => image.get("Dangling").and_then(Value::as_bool) == Some(*wanted),
            Self::Label(name, value) => match image.get("Labels").and_then(|labels| labels.get(name)) {
                Some(found) => value.as_ref().is_none_or(|value| found == value.as_str()),
                None => false,
            },
        }
    }
}

pub(crate) fn images(context: &Context, args: &ImagesArgs) -> Result<ExitCode> {
    let mut command = vec!["images", "--format", "json"];
    command.extend(args.image.as_deref());
    let mut images: Vec<Value> = serde_json::from_str(&context.tools.storage(command)?)?;
    if let (true, Some(name)) = (images.is_empty(), &args.image) {
        return Err(Error::msg(format!("no image is named \"{name}\"")));
    }
    images.retain(|image| args.filter.iter().all(|filter| filter.accepts(image)));
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

fn text<'a>(image: &'a Value, field: &str) -> &'a str {
    image.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn id(image: &Value, is_whole: bool) -> String {
    let id = text(image, "Id");
    if is_whole { id.to_owned() } else { id.chars().take(12).collect() }
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
    let (_, ago, size) = created_and_size(image, now);
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
            "Size": size,
        })
    };
    names.into_iter().map(row).collect()
}

pub(crate) fn prune(context: &Context, args: &PruneArgs) -> Result<ExitCode> {
    // What a build's commands wrote may belong to any of the user's ids.
    context.enter()?;
    hoy_build::prune_builds(&context.store()?, &context.tools, args.all).context(|| "prune what builds left")?;
    let images: Vec<Value> = serde_json::from_str(&context.tools.storage(["images", "--format", "json"])?)?;
    for image in images.iter().filter(|image| image.get("Dangling").and_then(Value::as_bool) == Some(true)) {
        // One that a container was made from stays.
        match context.tools.storage(["rmi", text(image, "Id")]) {
            Ok(_) => print_line(text(image, "Id"))?,
            Err(error) => warn(&error.to_string()),
        }
    }
    let mut command = vec!["prune", "--force"];
    command.extend(args.all.then_some("--all"));
    context.tools.storage(command)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn keep(context: &Context, args: &Keep) -> Result<ExitCode> {
    hoy_build::keep(&context.store()?, &context.tools, &args.scratch, std::io::stdin())?;
    Ok(ExitCode::SUCCESS)
}
