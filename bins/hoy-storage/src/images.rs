//! Commands about images, in podman's words.

use std::io::Write;
use std::process::ExitCode;
use std::time::SystemTime;

use hoy_cli::{Result, Stdout, human, print_line, table};
use hoy_oci::{Reference, Timestamp};
use hoy_storage::ImageSummary;
use serde_json::{Value, json};

use crate::args;
use crate::containers::print_path;
use crate::open::{Place, explain, explain_layout, for_each, say, warn_of};

const DONE: Result<ExitCode> = Ok(ExitCode::SUCCESS);
pub(crate) const NONE: &str = "<none>";

pub(crate) fn unpack(place: &Place, args: &args::Unpack) -> Result<ExitCode> {
    let store = place.store()?;
    let (_, image) = store.image(&args.image).map_err(explain_layout)?;
    let refused = hoy_storage::unpack_image(&store, &image, &args.directory).map_err(explain)?;
    if refused > 0 {
        say(format_args!("{refused} owners or extended attributes could not be set"));
    }
    DONE
}

pub(crate) fn mount(place: &Place, names: &[String]) -> Result<ExitCode> {
    let store = place.store()?;
    if names.is_empty() {
        for mounted in hoy_storage::mounted_images(&store) {
            print_line(format_args!("{} {}", mounted.name, mounted.path(&store).display()))?;
        }
        return DONE;
    }
    for_each(names, |name| {
        let mounted = hoy_storage::mount_image(&store, place.xattrs, name).map_err(explain)?;
        if let Some(reason) = &mounted.copied {
            say(format_args!(
                "warning: no overlay can be mounted here ({reason}): \"{name}\" is a copy, which can be written to"
            ));
        }
        print_path(&mounted.path(&store))
    })?;
    DONE
}

pub(crate) fn umount(place: &Place, args: &args::Umount) -> Result<ExitCode> {
    let store = place.store()?;
    let all: Vec<String> = match args.all {
        true => hoy_storage::mounted_images(&store).into_iter().map(|mounted| mounted.name).collect(),
        false => args.containers.clone(),
    };
    for_each(&all, |name| print_line(hoy_storage::umount_image(&store, name, args.force).map_err(explain)?))?;
    DONE
}

/// Repository and tag of a name, which another tool may have given any form.
pub(crate) fn parts(name: Option<&String>) -> (String, String) {
    let Some(name) = name else { return (NONE.to_owned(), NONE.to_owned()) };
    match name.parse::<Reference>() {
        Ok(reference) => (reference.name(), reference.tag().unwrap_or(NONE).to_owned()),
        Err(_) => (name.clone(), NONE.to_owned()),
    }
}

fn row(summary: &ImageSummary, name: Option<&String>, full: bool, now: i64) -> Value {
    let (repository, tag) = parts(name);
    let id = summary.id();
    let created = summary.image.as_ref().and_then(|image| image.config.created);
    let ago = created.map_or(NONE.to_owned(), |created| human::ago(created.unix_seconds(), now));
    json!({
        "Repository": repository,
        "Tag": tag,
        "ID": if full { id.to_string() } else { id.hex().chars().take(12).collect() },
        "Id": id.hex(),
        "Digest": summary.descriptor.digest.to_string(),
        "Names": summary.names.join(" "),
        "Created": ago.clone(),
        "CreatedSince": ago,
        "CreatedAt": created.map_or(NONE.to_owned(), |created| created.to_string()),
        "CreatedTime": created.map_or(NONE.to_owned(), |created| created.to_string()),
        "Size": human::size(summary.size),
        "ReadOnly": summary.additional.is_some(),
    })
}

/// The form of `podman images --format json`: one object for each image.
fn object(summary: &ImageSummary) -> Value {
    let created = summary.image.as_ref().and_then(|image| image.config.created);
    json!({
        "Id": summary.id().hex(),
        "Names": summary.names,
        "Digest": summary.descriptor.digest.to_string(),
        "Labels": summary.image.as_ref().map(|image| &image.config.config.labels),
        "Created": created.map(|created| created.unix_seconds()),
        "CreatedAt": created.map(|created| created.to_string()),
        "Size": summary.size,
        "Dangling": summary.names.is_empty(),
        "ReadOnly": summary.additional.is_some(),
    })
}

pub(crate) fn list(place: &Place, args: &args::Images) -> Result<ExitCode> {
    let store = place.store()?;
    let mut images = hoy_storage::list_images(&store).map_err(explain)?;
    for image in &images {
        if let Some(problem) = &image.problem {
            let name = image.names.first().cloned().unwrap_or_else(|| image.descriptor.digest.to_string());
            say(format_args!("warning: image \"{name}\" is damaged"));
            warn_of(problem);
        }
    }
    // Podman shows the newest first.
    images.sort_by_key(|image| std::cmp::Reverse(image.image.as_ref().and_then(|image| image.config.created)));
    let mut only_name = None;
    if let Some(name) = &args.image {
        match store.find_image(name) {
            Ok(found) => {
                images.retain(|image| image.descriptor.digest == found.descriptor.digest);
                only_name = found.name;
            }
            Err(error) if error.is_not_found() => images.clear(),
            Err(error) => return Err(explain_layout(error)),
        }
    }
    if args.format.as_deref().map(str::trim) == Some("json") {
        print_line(table::json(&Value::from(images.iter().map(object).collect::<Vec<_>>()))?)?;
        return DONE;
    }
    let now = Timestamp::from(SystemTime::now()).unix_seconds();
    let mut rows = Vec::new();
    for image in &images {
        if image.names.is_empty() {
            rows.push(row(image, None, args.no_trunc, now));
        }
        let names = image.names.iter().filter(|name| only_name.as_ref().is_none_or(|only| only == *name));
        rows.extend(names.map(|name| row(image, Some(name), args.no_trunc, now)));
    }
    if args.quiet {
        let mut seen = Vec::new();
        for id in rows.iter().filter_map(|row| row.get("ID").and_then(Value::as_str)) {
            if !seen.contains(&id) {
                print_line(id)?;
                seen.push(id);
            }
        }
        return DONE;
    }
    let mut columns = vec![("Repository", "REPOSITORY"), ("Tag", "TAG")];
    if args.digests {
        columns.push(("Digest", "DIGEST"));
    }
    columns.extend([("ID", "IMAGE ID"), ("Created", "CREATED"), ("Size", "SIZE")]);
    if images.iter().any(|image| image.additional.is_some()) {
        columns.push(("ReadOnly", "R/O"));
    }
    let text = table::list(args.format.as_deref(), args.noheading, &columns, &rows)?;
    Stdout::new().write_all(text.as_bytes())?;
    DONE
}

pub(crate) fn tag(place: &Place, args: &args::Tag) -> Result<ExitCode> {
    let store = place.store()?;
    for name in &args.names {
        hoy_storage::tag(&store, &args.image, name).map_err(explain)?;
    }
    DONE
}

pub(crate) fn untag(place: &Place, args: &args::Untag) -> Result<ExitCode> {
    for name in hoy_storage::untag(&place.store()?, &args.image, &args.names).map_err(explain)? {
        print_line(format_args!("Untagged: {name}"))?;
    }
    DONE
}

pub(crate) fn rmi(place: &Place, args: &args::Rmi) -> Result<ExitCode> {
    let store = place.store()?;
    let images = match args.all {
        false => args.images.clone(),
        true => {
            let all = hoy_storage::list_images(&store).map_err(explain)?;
            let own = all.iter().filter(|image| image.additional.is_none());
            own.map(|image| image.descriptor.digest.to_string()).collect()
        }
    };
    for_each(&images, |image| {
        let removed = match hoy_storage::remove_image(&store, image, args.force) {
            Err(error) if args.force && error.is_not_found() => return Ok(()),
            other => other.map_err(explain)?,
        };
        for name in removed.untagged {
            print_line(format_args!("Untagged: {name}"))?;
        }
        if let Some(error) = &removed.kept {
            say(format_args!(
                "warning: \"{image}\" has lost its names only, as it is not known what others need of it"
            ));
            warn_of(error);
        }
        removed.deleted.map_or(Ok(()), |id| print_line(format_args!("Deleted: {}", id.hex())))
    })?;
    DONE
}

pub(crate) fn history(place: &Place, args: &args::History) -> Result<ExitCode> {
    let store = place.store()?;
    let (_, image) = store.image(&args.image).map_err(explain_layout)?;
    let now = Timestamp::from(SystemTime::now()).unix_seconds();
    let id = image.manifest.config.digest;
    let shorten = |text: &str, most: usize| match args.no_trunc || text.chars().count() <= most {
        true => text.to_owned(),
        false => text.chars().take(most - 3).chain("...".chars()).collect(),
    };
    let mut rows: Vec<Value> = Vec::new();
    for (at, (step, size)) in hoy_storage::history(&image).into_iter().enumerate() {
        let created = step.created.map_or(NONE.to_owned(), |created| human::ago(created.unix_seconds(), now));
        let full = id.to_string();
        let short: String = id.hex().chars().take(12).collect();
        rows.push(json!({
            "ID": match (at, args.no_trunc) { (0, true) => full, (0, false) => short, _ => "<missing>".to_owned() },
            "Created": created.clone(),
            "CreatedSince": created,
            "CreatedAt": step.created.map_or(String::new(), |created| created.to_string()),
            "CreatedBy": shorten(&step.created_by.unwrap_or_default(), 45),
            "Size": human::size(size),
            "Comment": step.comment.unwrap_or_default(),
        }));
    }
    if args.quiet {
        for row in &rows {
            print_line(row.get("ID").and_then(Value::as_str).unwrap_or_default())?;
        }
        return DONE;
    }
    let columns =
        [("ID", "ID"), ("Created", "CREATED"), ("CreatedBy", "CREATED BY"), ("Size", "SIZE"), ("Comment", "COMMENT")];
    Stdout::new().write_all(table::list(args.format.as_deref(), false, &columns, &rows)?.as_bytes())?;
    DONE
}

pub(crate) fn tree(place: &Place, args: &args::Tree) -> Result<ExitCode> {
    let store = place.store()?;
    let (named, image) = store.image(&args.image).map_err(explain_layout)?;
    let all = hoy_storage::list_images(&store).map_err(explain)?;
    let own = all.iter().find(|other| other.descriptor.digest == named.descriptor.digest);
    let names = own.map(|own| own.names.join(" ")).unwrap_or_default();
    let short = |digest: &hoy_oci::Digest| digest.hex().chars().take(12).collect::<String>();
    print_line(format_args!("Image ID: {}", short(&image.manifest.config.digest)))?;
    print_line(format_args!("Tags:     [{names}]"))?;
    print_line(format_args!("Size:     {}", human::size(own.map_or(0, |own| own.size))))?;
    print_line("Image Layers")?;
    let last = image.manifest.layers.len();
    for (count, (layer, diff_id)) in (1..).zip(image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids)) {
        let below = image.config.rootfs.diff_ids.get(..count).unwrap_or_default();
        let is_top = |other: &&ImageSummary| other.image.as_ref().is_some_and(|i| i.config.rootfs.diff_ids == below);
        let tops: Vec<&str> = all.iter().filter(is_top).flat_map(|other| &other.names).map(String::as_str).collect();
        let branch = if count == last { "└──" } else { "├──" };
        let note = if tops.is_empty() { String::new() } else { format!(" Top Layer of: [{}]", tops.join(" ")) };
        print_line(format_args!("{branch} ID: {} Size: {:>7}{note}", short(diff_id), human::size(layer.size)))?;
    }
    DONE
}
