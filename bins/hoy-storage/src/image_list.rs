//! The list of images, in the form of `podman images`.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::process::ExitCode;
use std::time::SystemTime;

use hoy_cli::{Result, Stdout, human, print_line, table};
use hoy_layout::Store;
use hoy_oci::{Digest, Timestamp};
use hoy_storage::ImageSummary;
use serde_json::{Value, json};

use crate::args::{self, SortBy};
use crate::image_filter::{Looks, is_matched};
use crate::images::{NONE, parts};
use crate::open::{Place, explain, explain_layout, say, warn_of};

/// One line of the list: an image, and one of its names.
struct Row<'a> {
    image: &'a ImageSummary,
    name: Option<&'a String>,
}

/// A moment as Go's templates show it.
pub(crate) fn moment(time: &Timestamp) -> String {
    let text = time.to_string();
    let seconds = text.get(..19).unwrap_or(&text);
    format!("{} +0000 UTC", seconds.replacen('T', " ", 1))
}

fn created(image: &ImageSummary) -> Option<Timestamp> {
    image.image.as_ref().and_then(|image| image.config.created)
}

fn labels(image: &ImageSummary) -> Value {
    image.image.as_ref().map_or(json!({}), |image| json!(image.config.config.labels))
}

/// Names with the digest in place of the tag.
fn repo_digests(image: &ImageSummary) -> Vec<String> {
    let names = image.names.iter();
    let mut all: Vec<String> =
        names.map(|name| format!("{}@{}", parts(Some(name)).0, image.descriptor.digest)).collect();
    all.dedup();
    all
}

impl Row<'_> {
    fn value(&self, full: bool, now: i64, containers: &HashMap<Digest, usize>) -> Value {
        let image = self.image;
        let (repository, tag) = parts(self.name);
        let id = image.id();
        let time = created(image);
        let ago = time.map_or(NONE.to_owned(), |time| human::ago(time.unix_seconds(), now));
        let at = time.map_or(NONE.to_owned(), |time| moment(&time));
        let newest: Vec<&String> = image.names.iter().rev().collect();
        json!({
            "Repository": repository,
            "Tag": tag,
            "ID": if full { id.to_string() } else { id.hex().chars().take(12).collect() },
            "Id": id.hex(),
            "Digest": image.descriptor.digest.to_string(),
            "RepoDigests": repo_digests(image),
            "Names": image.names,
            "RepoTags": image.names,
            "History": newest.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
            "Created": ago,
            "CreatedSince": ago,
            "CreatedAt": at,
            "CreatedTime": at,
            "Size": human::size(image.size),
            "VirtualSize": image.size,
            "Labels": labels(image),
            "Containers": count(image, containers),
            "Dangling": image.names.is_empty(),
            "ReadOnly": image.additional.is_some(),
            "IsManifestList": image.descriptor.media_type.is_index(),
        })
    }
}

/// The form of `podman images --format json`, with one object for each image.
fn object(image: &ImageSummary, containers: &HashMap<Digest, usize>) -> Value {
    let time = created(image);
    let newest: Vec<&String> = image.names.iter().rev().collect();
    let labels = image.image.as_ref().map(|image| &image.config.config.labels).filter(|labels| !labels.is_empty());
    let mut object = json!({
        "Id": image.id().hex(),
        "RepoTags": image.names,
        "RepoDigests": repo_digests(image),
        "Size": image.size,
        "VirtualSize": image.size,
        "Labels": labels,
        "Containers": count(image, containers),
        "Names": image.names,
        "Digest": image.descriptor.digest.to_string(),
        "History": newest,
        "Created": time.map(|time| time.unix_seconds()),
        "CreatedAt": time.map(|time| time.to_string()),
    });
    if let Value::Object(fields) = &mut object {
        let flags = [("Dangling", image.names.is_empty()), ("ReadOnly", image.additional.is_some())];
        fields.extend(flags.into_iter().filter(|(_, is)| *is).map(|(name, _)| (name.to_owned(), true.into())));
    }
    object
}

/// How many containers were made from each manifest.
fn containers(store: &Store) -> Result<HashMap<Digest, usize>> {
    let mut count = HashMap::new();
    for dir in store.all_containers().map_err(explain_layout)? {
        // One whose record is damaged is told of by the list of containers.
        if let Some(manifest) = dir.container().ok().and_then(|container| container.manifest) {
            *count.entry(manifest).or_default() += 1;
        }
    }
    Ok(count)
}

/// How many containers were made from an image.
fn count(image: &ImageSummary, containers: &HashMap<Digest, usize>) -> usize {
    let manifest = image.image.as_ref().map_or(image.descriptor.digest, |image| image.descriptor.digest);
    containers.get(&manifest).copied().unwrap_or(0)
}

pub(crate) fn list(place: &Place, args: &args::Images) -> Result<ExitCode> {
    let store = place.store()?;
    let images = hoy_storage::list_images(&store).map_err(explain)?;
    let format = args.format.as_deref().map(str::trim);
    let needs_containers = format.is_some_and(|format| format == "json" || format.contains("ontainers"))
        || args.filter.iter().any(|filter| filter.starts_with("containers"));
    let containers = if needs_containers { containers(&store)? } else { HashMap::new() };
    let looks = Looks::of(&args.filter, &store, &images)?;
    let mut rows = Vec::new();
    for image in images.iter().filter(|image| looks.accepts(image, count(image, &containers))) {
        warn_of_damage(image);
        let names: Vec<Option<&String>> = match image.names.is_empty() {
            true => vec![None],
            false => image.names.iter().map(Some).collect(),
        };
        let rest = names.into_iter().filter(|name| looks.accepts_name(*name));
        rows.extend(rest.map(|name| Row { image, name }));
    }
    if let Some(text) = &args.image {
        keep_named(&store, text, &mut rows)?;
    }
    sort(&mut rows, args.sort);
    if format == Some("json") {
        let mut seen = HashSet::new();
        let all = rows.iter().filter(|row| seen.insert((row.image.descriptor.digest, row.image.additional.clone())));
        let objects: Vec<Value> = all.map(|row| object(row.image, &containers)).collect();
        print_line(table::json(&Value::from(objects))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.quiet {
        return quiet(&rows, args.no_trunc);
    }
    let now = Timestamp::from(SystemTime::now()).unix_seconds();
    let values: Vec<Value> = rows.iter().map(|row| row.value(args.no_trunc, now, &containers)).collect();
    let columns = columns(args, rows.iter().any(|row| row.image.additional.is_some()));
    let text = table::list(args.format.as_deref(), args.noheading, &columns, &values)?;
    Stdout::new().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn columns(args: &args::Images, has_read_only: bool) -> Vec<(&'static str, &'static str)> {
    let mut columns = vec![("Repository", "REPOSITORY"), ("Tag", "TAG")];
    if args.digests {
        columns.push(("Digest", "DIGEST"));
    }
    columns.extend([("ID", "IMAGE ID"), ("Created", "CREATED"), ("Size", "SIZE")]);
    if args.history {
        columns.push(("History", "HISTORY"));
    }
    if has_read_only {
        columns.push(("ReadOnly", "R/O"));
    }
    columns
}

fn warn_of_damage(image: &ImageSummary) {
    if let Some(problem) = &image.problem {
        let name = image.names.first().cloned().unwrap_or_else(|| image.descriptor.digest.to_string());
        say(format_args!("warning: image \"{name}\" is damaged"));
        warn_of(problem);
    }
}

/// Keeps the image that is called `text`; or those whose names the pattern fits.
fn keep_named(store: &Store, text: &str, rows: &mut Vec<Row<'_>>) -> Result<()> {
    match store.find_image(text) {
        Ok(found) => rows.retain(|row| {
            let is_it = row.image.descriptor.digest == found.descriptor.digest;
            is_it && found.name.as_ref().is_none_or(|only| row.name == Some(only))
        }),
        // A pattern is no name.
        Err(error) if error.is_not_found() || text.contains(['*', '?', '[']) => {
            rows.retain(|row| row.name.is_some_and(|name| is_matched(text, name)));
        }
        Err(error) => return Err(explain_layout(error)),
    }
    Ok(())
}

fn sort(rows: &mut [Row<'_>], by: SortBy) {
    match by {
        SortBy::Created => rows.sort_by_key(|row| Reverse(created(row.image))),
        SortBy::Id => rows.sort_by_key(|row| row.image.id()),
        SortBy::Repository => rows.sort_by_key(|row| parts(row.name).0),
        SortBy::Size => rows.sort_by_key(|row| row.image.size),
        SortBy::Tag => rows.sort_by_key(|row| parts(row.name).1),
    }
}

fn quiet(rows: &[Row<'_>], full: bool) -> Result<ExitCode> {
    let mut seen = HashSet::new();
    for id in rows.iter().map(|row| row.image.id()) {
        if seen.insert(id) {
            print_line(if full { id.to_string() } else { id.hex().chars().take(12).collect() })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
