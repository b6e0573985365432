//! Commands about the store as a whole.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use hoy_cli::{Error, Result, Stdout, human, print_line, table};
use hoy_storage::PruneOptions;
use serde_json::json;

use crate::args;
use crate::open::{Place, explain, say};

const DONE: Result<ExitCode> = Ok(ExitCode::SUCCESS);

pub(crate) fn prune(place: &Place, args: &args::Prune) -> Result<ExitCode> {
    let what = match (args.all, args.all_layers) {
        (false, false) => "what nothing needs",
        (true, _) => "what nothing needs, and all images that no container was made from",
        (false, true) => "what nothing needs, and unpacked layers that no container has",
    };
    if !args.force && !confirmed("prune", what)? {
        return DONE;
    }
    let options = PruneOptions { unused_images: args.all, unused_layers: args.all_layers };
    let pruned = hoy_storage::prune(&place.store()?, options).map_err(explain)?;
    print_line(format_args!("Total reclaimed space: {}", human::size(pruned.bytes)))?;
    DONE
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
    let store = place.store()?;
    let damages = hoy_storage::check(&store, place.xattrs, args.repair).map_err(explain)?;
    let mut is_whole = true;
    for damage in &damages {
        match &damage.repair {
            Some(repair) => say(format_args!("{}: {repair}", damage.what)),
            None => say(format_args!("{}", damage.what)),
        }
        is_whole &= damage.repair.is_some();
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) fn df(place: &Place, args: &args::Df) -> Result<ExitCode> {
    let usage = hoy_storage::disk_usage(&place.store()?).map_err(explain)?;
    let row = |kind: &str, count: usize, bytes: u64| json!({ "Type": kind, "Total": count, "Size": human::size(bytes), "RawSize": bytes });
    let rows = [
        row("Images", usage.images.0, usage.images.1),
        row("Layers", usage.layers.0, usage.layers.1),
        row("Containers", usage.containers.0, usage.containers.1),
    ];
    let columns = [("Type", "TYPE"), ("Total", "TOTAL"), ("Size", "SIZE")];
    Stdout::new().write_all(table::list(args.format.as_deref(), false, &columns, &rows)?.as_bytes())?;
    DONE
}
