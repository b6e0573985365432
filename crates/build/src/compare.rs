//! Two images side by side: in which fields and files they differ, and which instruction made what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufReader, Read};
use std::path::Path;

use hoy_layer::{Archive, Decompressor, Entry, Kind};
use hoy_layout::{Image, ImageLayout};
use hoy_oci::{Descriptor, Digest};
use serde::Serialize;
use serde_json::Value;

use crate::{Error, Result};

/// How finely it is told where files differ, in bytes.
const BLOCK_BYTES: usize = 4096;

/// One thing in which two images differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where: the manifest, the configuration, or a layer and the instruction that made it.
    pub place: String,
    /// What: the field or file, what it is in the first image, and what in the second.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// In what `second` differs from `first`; nothing when they are the same to the byte.
///
/// # Errors
/// Those of reading them: what is damaged is no difference.
pub fn compare(layout: &ImageLayout, first: &Image, second: &Image) -> Result<Vec<Difference>> {
    if first.descriptor.digest == second.descriptor.digest {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    fields("manifest", (&first.manifest, &second.manifest), &["config", "layers"], &mut found)?;
    fields("configuration", (&first.config, &second.config), &["rootfs"], &mut found)?;
    let count = first.manifest.layers.len().max(second.manifest.layers.len());
    for number in 0..count {
        let of = |image: &Image| {
            Some((image.manifest.layers.get(number)?.clone(), *image.config.rootfs.diff_ids.get(number)?))
        };
        let place = place(number, first, second);
        match (of(first), of(second)) {
            (Some((one, plain)), Some((other, other_plain))) if plain == other_plain => {
                if one != other {
                    let what = format!("the same files in another form: {}, now {}", shown(&one), shown(&other));
                    found.push(Difference { place, what });
                }
            }
            (Some((one, _)), Some((other, _))) => {
                let (before, after) = (members(layout, &one)?, members(layout, &other)?);
                files(&place, &before, &after, &mut found);
            }
            (Some(_), None) => found.push(Difference { place, what: "is missing now".to_owned() }),
            (None, _) => found.push(Difference { place, what: "is new".to_owned() }),
        }
    }
    if found.is_empty() {
        let what = "says the same in other words, or other bytes".to_owned();
        found.push(Difference { place: "manifest".to_owned(), what });
    }
    Ok(found)
}

fn shown(descriptor: &Descriptor) -> String {
    format!("{} {}", descriptor.media_type, descriptor.digest)
}

/// A layer, and the instruction that made it by the history of whichever image has it.
fn place(number: usize, first: &Image, second: &Image) -> String {
    let instruction = |image: &Image| {
        let mut made = image.config.history.iter().filter(|step| !step.empty_layer);
        made.nth(number)?.created_by.clone()
    };
    let told = instruction(first).or_else(|| instruction(second));
    let told = told.map(|told| format!(", of \"{}\"", told.lines().next().unwrap_or_default()));
    format!("layer {}{}", number + 1, told.unwrap_or_default())
}

/// Fields of two documents, apart from those `without`.
fn fields<T: Serialize>(
    place: &str,
    (one, other): (&T, &T),
    without: &[&str],
    found: &mut Vec<Difference>,
) -> Result<()> {
    let leaves = |document: &T| {
        let mut value = serde_json::to_value(document).map_err(|source| Error::Json("description", source))?;
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|name, _| !without.contains(&name.as_str()));
        }
        let mut leaves = BTreeMap::new();
        flatten("", &value, &mut leaves);
        Ok::<_, Error>(leaves)
    };
    let (one, other) = (leaves(one)?, leaves(other)?);
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    for name in names {
        let (was, is) = (one.get(name), other.get(name));
        if was != is {
            let text = |value: Option<&String>| value.map_or("missing", String::as_str).to_owned();
            let what = format!("{name}: {}, now {}", text(was), text(is));
            found.push(Difference { place: place.to_owned(), what });
        }
    }
    Ok(())
}

/// Every value that has no others in it, by the names that lead to it.
fn flatten(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    let under = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(name, value)| flatten(&under(name), value, leaves));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(at, value)| flatten(&under(&at.to_string()), value, leaves));
        }
        other => drop(leaves.insert(path.to_owned(), other.to_string())),
    }
}

/// A file of a layer, and the digests of its blocks.
struct Member {
    entry: Entry,
    blocks: Vec<Digest>,
}

fn members(layout: &ImageLayout, layer: &Descriptor) -> Result<BTreeMap<Vec<u8>, Member>> {
    let path = layout.path();
    let blob = BufReader::with_capacity(256 << 10, layout.open_blob(layer)?);
    let plain = Decompressor::detect(blob).map_err(Error::io("decompress a layer of", path))?;
    let mut archive = Archive::new(BufReader::with_capacity(256 << 10, plain));
    let mut members = BTreeMap::new();
    while let Some(entry) = archive.next_entry()? {
        let (mut data, mut blocks, mut block) = (archive.data(), Vec::new(), Vec::new());
        loop {
            block.clear();
            data.by_ref()
                .take(BLOCK_BYTES as u64)
                .read_to_end(&mut block)
                .map_err(Error::io("read a layer of", path))?;
            if block.is_empty() {
                break;
            }
            blocks.push(Digest::of(&block));
        }
        // Directories have a slash behind their names.
        let name = entry.path.strip_suffix(b"/").unwrap_or(&entry.path).to_vec();
        members.insert(name, Member { entry, blocks });
    }
    archive.drain()?;
    Ok(members)
}

fn files(
    place: &str,
    before: &BTreeMap<Vec<u8>, Member>,
    after: &BTreeMap<Vec<u8>, Member>,
    found: &mut Vec<Difference>,
) {
    let first = found.len();
    let names: BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
    for name in names {
        let what = match (before.get(name), after.get(name)) {
            (Some(one), Some(other)) => aspects(one, other),
            (Some(_), None) => vec!["missing now".to_owned()],
            _ => vec!["new".to_owned()],
        };
        if !what.is_empty() {
            // A line each, whatever the name has in it.
            let name = Path::new("/").join(String::from_utf8_lossy(name).trim_start_matches("./"));
            let what = format!("{}: {}", format!("{name:?}").trim_matches('"'), what.join(", "));
            found.push(Difference { place: place.to_owned(), what });
        }
    }
    if found.len() == first {
        let what = "the same files in another order, or with other padding".to_owned();
        found.push(Difference { place: place.to_owned(), what });
    }
}

/// In what two files of one name differ.
fn aspects(one: &Member, other: &Member) -> Vec<String> {
    let (a, b) = (&one.entry, &other.entry);
    let mut found = Vec::new();
    let mut compare = |name: &str, was: String, is: String| {
        if was != is {
            found.push(format!("{name} {was}, now {is}"));
        }
    };
    let kind = |entry: &Entry| match entry.kind {
        Kind::File => "file".to_owned(),
        Kind::HardLink => "hard link".to_owned(),
        Kind::Symlink => "symbolic link".to_owned(),
        Kind::Character(device) => format!("character device {}:{}", device.major, device.minor),
        Kind::Block(device) => format!("block device {}:{}", device.major, device.minor),
        Kind::Directory => "directory".to_owned(),
        Kind::Fifo => "pipe".to_owned(),
    };
    compare("kind", kind(a), kind(b));
    compare("mode", format!("{:04o}", a.mode), format!("{:04o}", b.mode));
    compare("owner", format!("{}:{}", a.uid, a.gid), format!("{}:{}", b.uid, b.gid));
    let link = |entry: &Entry| format!("{:?}", String::from_utf8_lossy(&entry.link));
    compare("link", link(a), link(b));
    let time = |entry: &Entry| format!("{}.{:09}", entry.mtime.seconds, entry.mtime.nanoseconds);
    compare("time", time(a), time(b));
    let attributes = |entry: &Entry| {
        let attributes = entry.xattrs.iter();
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        attributes.map(|(name, value)| format!("{}={}", text(name), text(value))).collect::<Vec<_>>().join(" ")
    };
    compare("attributes", attributes(a), attributes(b));
    compare("size", a.size.to_string(), b.size.to_string());
    if one.blocks != other.blocks {
        let same = one.blocks.iter().zip(&other.blocks).take_while(|(one, other)| one == other).count();
        let start = same * BLOCK_BYTES;
        found.push(format!("content, first between the bytes {start} and {}", start + BLOCK_BYTES - 1));
    } else if a.sparse != b.sparse {
        found.push("other holes".to_owned());
    }
    found
}
