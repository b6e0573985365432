//! What an image consists of, as the records in it say.

use std::fs::File;
use std::io::BufReader;
use std::process::Stdio;

use hoy_oci::{Digest, Timestamp};
use hoy_sbom::Inventory;

use crate::tools::{answer, no_program};
use crate::{Error, Result, Tools};

/// An image that has been looked through.
#[derive(Debug)]
pub struct Contents {
    /// What people call it, and never where it lies on this machine.
    pub name: Option<String>,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// When it was made, as it says itself.
    pub created: Timestamp,
    /// What was found.
    pub inventory: Inventory,
}

/// Looks through the image at `place` (`TRANSPORT:DETAILS`), which `options` of hoy-copy help to read. Larger files are
/// kept in `scratch` while they are looked at.
///
/// # Errors
/// Those of hoy-copy; [`Error::Contents`] for a tree that cannot be read.
pub fn contents(tools: &Tools, place: &str, options: &[String], scratch: File) -> Result<Contents> {
    let ask = |action: &str, place: &str| {
        let args = [action].into_iter().chain(options.iter().map(String::as_str)).chain([place]);
        tools.copy(args)
    };
    let manifest: Digest = ask("digest", place)?.parse()?;
    let config = ask("config", place)?;
    let config: serde_json::Value = serde_json::from_str(&config).map_err(|e| Error::Json("configuration", e))?;
    let created = config.get("created").and_then(serde_json::Value::as_str).and_then(|text| text.parse().ok());
    let inventory = inventory(tools, place, options, scratch)?;
    // A tag may have moved meanwhile: what was read is then of two images.
    if ask("digest", place)? != manifest.to_string() {
        return Err(Error::Refused(format!("\"{place}\" has become another image while it was read: try again")));
    }
    Ok(Contents { name: name(place), manifest, created: created.unwrap_or(Timestamp::EPOCH), inventory })
}

fn inventory(tools: &Tools, place: &str, options: &[String], scratch: File) -> Result<Inventory> {
    let mut command = tools.command("hoy-copy");
    command.arg("export").args(options).arg(place);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(no_program("hoy-copy"))?;
    let tree = child.stdout.take().map(|tree| BufReader::with_capacity(256 << 10, tree));
    let read = tree.map(|tree| Inventory::read(tree, scratch));
    // A child that failed says why better than the tree that ended too early.
    answer("hoy-copy", child.wait_with_output().map_err(Error::io("wait for", "hoy-copy"))?)?;
    Ok(read.transpose()?.unwrap_or_default())
}

fn name(place: &str) -> Option<String> {
    let named = ["store:", "containers-storage:", "docker://"].iter().find_map(|start| place.strip_prefix(start))?;
    // The place of another store stands before the name, in brackets.
    let named = if named.starts_with('[') { named.split_once(']')?.1 } else { named };
    Some(named.trim_start_matches('@').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_nothing_of_this_machine() {
        for (place, want) in [
            ("store:localhost/a:latest", Some("localhost/a:latest")),
            ("containers-storage:[overlay@/home/me/store+/run/me]localhost/a", Some("localhost/a")),
            ("docker://example.org/a@sha256:00", Some("example.org/a@sha256:00")),
            ("oci:/home/me/layout:a", None),
        ] {
            assert_eq!(name(place).as_deref(), want, "{place}");
        }
    }
}
