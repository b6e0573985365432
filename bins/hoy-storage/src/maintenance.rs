//! Commands about the store as a whole.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use hoy_cli::{Context, Error, Result, human, print_line, table};
use hoy_storage::{CheckOptions, Damage, PruneOptions};
use serde_json::{Value, json};

use crate::open::{Place, explain, say};
use crate::{args, filter};

const DONE: Result<ExitCode> = Ok(ExitCode::SUCCESS);

pub(crate) fn prune(place: &Place, args: &args::Prune) -> Result<ExitCode> {
    let mut what = "what nothing needs".to_owned();
    what += if args.all { ", all images that no container was made from" } else { ", images without a name" };
    if args.all_layers {
        what += ", unpacked layers that no container has";
    }
    if let Some(size) = args.max_size {
        what += &format!(", images that were not used for longest until {} are taken", human::size(size));
    }
    let options = PruneOptions {
        unused_images: args.all,
        unused_layers: args.all_layers,
        filter: filter::of_images(&args.filter)?,
        max_bytes: args.max_size,
        waiting: Some(|| say("waiting for commands that add to the store")),
    };
    if !args.force && !confirmed("prune", &what)? {
        return DONE;
    }
    let mut pruned = hoy_storage::prune(&place.store()?, &options).map_err(explain)?;
    pruned.untagged.iter().try_for_each(|name| print_line(format_args!("Untagged: {name}")))?;
    pruned.deleted.iter().try_for_each(|id| print_line(format_args!("Deleted: {}", id.hex())))?;
    print_line(format_args!("Total reclaimed space: {}", human::size(pruned.bytes)))?;
    match pruned.unread.pop() {
        None => DONE,
        Some(error) => Err(explain(error)).context(|| "keep images, blobs and layers"),
    }
}

pub(crate) fn reset(place: &Place, args: &args::Reset) -> Result<ExitCode> {
    let what = format!("all containers, images and layers in \"{}\"", place.roots.root.display());
    if args.force || confirmed("reset", &what)? {
        hoy_storage::reset(&place.store()?).map_err(explain)?;
    }
    DONE
}

fn confirmed(command: &str, what: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let error = Error::msg(format!("{command} asks before it removes, and there is no terminal to ask on"));
        return Err(error.with_code(2).with_hint("add --force"));
    }
    write!(std::io::stderr(), "Remove {what}? [y/N] ").unwrap_or_default();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

pub(crate) fn check(place: &Place, args: &args::Check) -> Result<ExitCode> {
    let options = CheckOptions { deep: args.deep, repair: args.repair };
    let damages = hoy_storage::check(&place.quiet_store()?, place.xattrs, options).map_err(explain)?;
    if args.json {
        let rows: Vec<Value> = damages.iter().map(damage_object).collect();
        print_line(table::json(&Value::from(rows))?)?;
    } else {
        damages.iter().for_each(|damage| say(damage_text(damage)));
    }
    let is_whole = !damages.iter().any(Damage::is_left);
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn damage_object(damage: &Damage) -> Value {
    json!({
        "Kind": damage.kind.as_str(),
        "Path": damage.path.to_string_lossy(),
        "Problem": damage.problem,
        "Images": damage.images,
        "Containers": damage.containers,
        "Repair": damage.repair,
        "Remedy": damage.remedy,
    })
}

/// `"PATH" is torn: PROBLEM; touches image A, container B; REPAIR`.
fn damage_text(damage: &Damage) -> String {
    let mut text = format!("\"{}\" is {}: {}", damage.path.display(), damage.kind.as_str(), damage.problem);
    let images = damage.images.iter().map(|name| format!("image {name}"));
    let touched: Vec<String> = images.chain(damage.containers.iter().map(|name| format!("container {name}"))).collect();
    if !touched.is_empty() {
        text += &format!("; touches {}", touched.join(", "));
    }
    for end in [&damage.repair, &damage.remedy].into_iter().flatten().take(1) {
        text += &format!("; {end}");
    }
    text
}
