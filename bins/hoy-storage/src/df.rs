//! How much disk space the store takes, in the form of `podman system df`.

use std::io::Write;
use std::process::ExitCode;
use std::time::SystemTime;

use hoy_cli::{Result, Stdout, human, print_line, table};
use hoy_oci::Timestamp;
use hoy_storage::{DiskUsage, Usage};
use serde_json::{Value, json};

use crate::args;
use crate::images::{NONE, parts};
use crate::open::{Place, explain, warn_of};

/// A size as this list of podman's has it: without a blank.
fn size(bytes: u64) -> String {
    human::size(bytes).replace(' ', "")
}

fn row(kind: &str, usage: &Usage) -> Value {
    let percent = (usage.reclaimable * 100 + usage.bytes / 2).checked_div(usage.bytes).unwrap_or(0);
    json!({
        "Type": kind,
        "Total": usage.total,
        "Active": usage.active,
        "Size": size(usage.bytes),
        "RawSize": usage.bytes,
        "Reclaimable": format!("{} ({percent}%)", size(usage.reclaimable)),
        "RawReclaimable": usage.reclaimable,
    })
}

pub(crate) fn df(place: &Place, args: &args::Df) -> Result<ExitCode> {
    let usage = hoy_storage::disk_usage(&place.store()?).map_err(explain)?;
    usage.unread.iter().for_each(|error| warn_of(error));
    if args.verbose {
        verbose(&usage)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = [
        row("Images", &usage.images),
        row("Containers", &usage.containers),
        row("Unpacked Layers", &usage.layers),
        row("Garbage", &usage.garbage),
    ];
    let columns =
        [("Type", "TYPE"), ("Total", "TOTAL"), ("Active", "ACTIVE"), ("Size", "SIZE"), ("Reclaimable", "RECLAIMABLE")];
    Stdout::new().write_all(table::list(args.format.as_deref(), false, &columns, &rows)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn verbose(usage: &DiskUsage) -> Result<()> {
    let now = Timestamp::from(SystemTime::now()).unix_seconds();
    let mut images = Vec::new();
    for image in &usage.each_image {
        let created = image.summary.image.as_ref().and_then(|image| image.config.created);
        let names = image.summary.names.iter().map(Some);
        let unnamed = image.summary.names.is_empty().then_some(None);
        for name in names.chain(unnamed) {
            let (repository, tag) = parts(name);
            images.push(json!({
                "Repository": repository,
                "Tag": tag,
                "ID": image.summary.id().hex().chars().take(12).collect::<String>(),
                "Created": created.map_or(NONE.to_owned(), |created| human::ago(created.unix_seconds(), now)),
                "Size": size(image.shared + image.unique),
                "Shared": size(image.shared),
                "Unique": size(image.unique),
                "Containers": image.containers,
            }));
        }
    }
    let containers: Vec<Value> = usage
        .each_container
        .iter()
        .map(|(container, bytes)| {
            json!({
                "ID": container.id.short(),
                "Image": container.image.as_deref().unwrap_or("scratch"),
                "Size": size(*bytes),
                "Created": human::ago(container.created.unix_seconds(), now),
                "Name": container.name,
            })
        })
        .collect();
    let print = |heading: &str, columns: &[(&str, &str)], rows: &[Value]| -> Result<()> {
        print_line(format_args!("{heading} space usage:\n"))?;
        Ok(Stdout::new().write_all(table::list(None, false, columns, rows)?.as_bytes())?)
    };
    let columns = [
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("Created", "CREATED"),
        ("Size", "SIZE"),
        ("Shared", "SHARED SIZE"),
        ("Unique", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ];
    print("Images", &columns, &images)?;
    print_line("")?;
    let columns =
        [("ID", "CONTAINER ID"), ("Image", "IMAGE"), ("Size", "SIZE"), ("Created", "CREATED"), ("Name", "NAMES")];
    print("Containers", &columns, &containers)?;
    for (heading, usage) in [("Unpacked layers", &usage.layers), ("Garbage", &usage.garbage)] {
        print_line("")?;
        let row = json!({ "Total": usage.total, "Size": size(usage.bytes), "Reclaimable": size(usage.reclaimable) });
        print(heading, &[("Total", "TOTAL"), ("Size", "SIZE"), ("Reclaimable", "RECLAIMABLE")], &[row])?;
    }
    Ok(())
}
