//! All layers of an image as one tar: what a container would see, without unpacking anything.
//!
//! The layers are read twice. The first pass goes from the top down and reads headers alone: which entries are hidden by
//! layers above. The second goes from the bottom up and writes the others, so that directories come before what is in
//! them and files before their other names.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};

use hoy_layer::{Archive, Decompressor, Entry, Kind, TarWriter};
use hoy_oci::{Descriptor, VerifyingReader};

use crate::{Error, Result, Source};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Writes the layers of an image, the lowest first, as one tar.
///
/// # Errors
/// When a layer is missing, damaged, or not what its descriptor says, and those of writing.
pub fn flatten(source: &dyn Source, layers: &[Descriptor], output: impl Write) -> Result<()> {
    let mut above = Above::default();
    let mut plans = Vec::new();
    for layer in layers.iter().rev() {
        plans.push(above.plan(source, layer)?);
    }
    let mut writer = TarWriter::new(output);
    for (layer, plan) in layers.iter().zip(plans.into_iter().rev()) {
        write_layer(source, layer, &plan, &mut writer)?;
    }
    writer.finish().map(drop).map_err(|e| wrong(source, e))
}

fn wrong(source: &dyn Source, error: hoy_layer::Error) -> Error {
    Error::Layer { name: source.name(), source: error }
}

type Layer<'a> = Archive<io::BufReader<Decompressor<VerifyingReader<Box<dyn Read + Send + 'a>>>>>;

fn open<'a>(source: &'a dyn Source, layer: &Descriptor) -> Result<Layer<'a>> {
    let content = VerifyingReader::new(source.blob(layer, 0)?, layer);
    if hoy_crypt::plain_type(&layer.media_type).is_some() {
        let reason = format!("its layer {} is encrypted: copy it with --decryption-key first", layer.digest);
        return Err(Error::Convert { name: source.name(), reason });
    }
    let plain = Decompressor::detect(content).map_err(Error::Read)?;
    Ok(Archive::new(io::BufReader::with_capacity(128 << 10, plain)))
}

/// What one layer's entries become, by their place in it.
#[derive(Default)]
struct Plan {
    kept: HashSet<usize>,
    /// A hidden file that has other names which are not: it is written under the first of them.
    renamed: HashMap<usize, Vec<u8>>,
    /// Entries that are other names of what is renamed, and the name that has.
    links: HashMap<usize, Vec<u8>>,
}

/// What the layers above hide.
#[derive(Default)]
struct Above {
    /// Names that are there, or gone: nothing below has them.
    names: HashSet<Vec<u8>>,
    /// Names below which nothing of the layers below shows.
    walls: HashSet<Vec<u8>>,
}

impl Above {
    fn hides(&self, path: &[u8]) -> bool {
        let mut parent = path;
        while let Some(at) = parent.iter().rposition(|c| *c == b'/') {
            parent = parent.get(..at).unwrap_or_default();
            if self.walls.contains(parent) {
                return true;
            }
        }
        self.names.contains(path) || self.walls.contains(&b""[..])
    }

    fn plan(&mut self, source: &dyn Source, layer: &Descriptor) -> Result<Plan> {
        let mut archive = open(source, layer)?;
        let mut plan = Plan::default();
        let (mut names, mut walls) = (HashSet::new(), HashSet::new());
        // The last entry of a name counts.
        let mut last: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut files: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut linked: Vec<(usize, Vec<u8>, Vec<u8>)> = Vec::new();
        let mut at = 0;
        while let Some(entry) = archive.next_entry().map_err(|e| wrong(source, e))? {
            let path = clean(&entry.path).ok_or_else(|| outside(source, &entry.path))?;
            let (parent, name) = split(&path);
            if name == OPAQUE {
                walls.insert(parent.to_vec());
            } else if let Some(gone) = name.strip_prefix(WHITEOUT) {
                // The other names of aufs are private to it.
                if !gone.starts_with(WHITEOUT) {
                    let full = if parent.is_empty() { gone.to_vec() } else { [parent, b"/", gone].concat() };
                    walls.insert(full.clone());
                    names.insert(full);
                }
            } else {
                if let Some(earlier) = last.insert(path.clone(), at) {
                    plan.kept.remove(&earlier);
                }
                if !self.hides(&path) {
                    plan.kept.insert(at);
                }
                if entry.kind == Kind::HardLink {
                    let target = clean(&entry.link).ok_or_else(|| outside(source, &entry.link))?;
                    linked.push((at, path.clone(), target));
                } else if entry.kind == Kind::File {
                    files.insert(path.clone(), at);
                }
                if entry.kind != Kind::Directory {
                    walls.insert(path.clone());
                }
                names.insert(path);
            }
            at += 1;
        }
        archive.drain().map_err(|e| wrong(source, e))?;
        for (at, path, target) in linked {
            let Some(file) = files.get(&target).filter(|file| !plan.kept.contains(file)) else { continue };
            if !plan.kept.contains(&at) {
                continue;
            }
            match plan.renamed.get(file) {
                None => {
                    plan.kept.remove(&at);
                    plan.renamed.insert(*file, path);
                }
                Some(first) => drop(plan.links.insert(at, first.clone())),
            }
        }
        self.names.extend(names);
        self.walls.extend(walls);
        Ok(plan)
    }
}

fn write_layer<W: Write>(
    source: &dyn Source,
    layer: &Descriptor,
    plan: &Plan,
    writer: &mut TarWriter<W>,
) -> Result<()> {
    let mut archive = open(source, layer)?;
    let mut at = 0;
    while let Some(mut entry) = archive.next_entry().map_err(|e| wrong(source, e))? {
        let renamed = plan.renamed.get(&at);
        if renamed.is_some() || plan.kept.contains(&at) {
            let path = clean(&entry.path).ok_or_else(|| outside(source, &entry.path))?;
            entry.path = renamed.cloned().unwrap_or(path);
            if entry.kind == Kind::HardLink {
                let target = clean(&entry.link).ok_or_else(|| outside(source, &entry.link))?;
                entry.link = plan.links.get(&at).cloned().unwrap_or(target);
            }
            if entry.path.is_empty() {
                entry.path = b".".to_vec();
            }
            let pieces = entry.sparse.take();
            let size = entry.size;
            let mut data = Whole::new(archive.data(), pieces, size);
            append(writer, entry, &mut data).map_err(|e| wrong(source, e))?;
        }
        at += 1;
    }
    archive.drain().map_err(|e| wrong(source, e))
}

fn append<W: Write>(writer: &mut TarWriter<W>, mut entry: Entry, data: &mut impl Read) -> hoy_layer::Result<()> {
    if entry.kind == Kind::Directory && !entry.path.ends_with(b"/") {
        entry.path.push(b'/');
    }
    writer.append(&entry, data)
}

fn outside(source: &dyn Source, path: &[u8]) -> Error {
    let reason = format!("a layer has the name {:?}, which leaves the root", String::from_utf8_lossy(path));
    Error::Convert { name: source.name(), reason }
}

/// The name without what means nothing; none with `..`, which no honest layer has.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> = path.split(|c| *c == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    (!parts.contains(&&b".."[..])).then(|| parts.join(&b'/'))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|c| *c == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

/// A file's bytes with its holes as zeros.
struct Whole<R> {
    data: R,
    /// What is left of the pieces that have bytes; none means that all has.
    pieces: Option<std::collections::VecDeque<(u64, u64)>>,
    at: u64,
    size: u64,
}

impl<R: Read> Whole<R> {
    fn new(data: R, pieces: Option<Vec<(u64, u64)>>, size: u64) -> Self {
        Self { data, pieces: pieces.map(Into::into), at: 0, size }
    }
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(pieces) = &mut self.pieces else { return self.data.read(buffer) };
        while pieces.front().is_some_and(|(offset, length)| offset + length <= self.at) {
            pieces.pop_front();
        }
        let (offset, length) = pieces.front().copied().unwrap_or((self.size, 0));
        let (is_hole, end) = if self.at < offset { (true, offset) } else { (false, offset + length) };
        let most = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..most).unwrap_or_default();
        let count = if is_hole {
            part.fill(0);
            most
        } else {
            self.data.read(part)?
        };
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_zeros() {
        let mut out = Vec::new();
        Whole::new(&b"abcd"[..], Some(vec![(2, 3), (7, 1), (9, 0)]), 9).read_to_end(&mut out).unwrap();
        assert_eq!(out, b"\0\0abc\0\0d\0");
    }

    #[test]
    fn names_are_hidden_by_what_is_above() {
        let set = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let above = Above { names: set(&["a/b", "gone", "f"]), walls: set(&["gone", "f", "dir"]) };
        for (path, want) in
            [("a/b", true), ("a/b/c", false), ("gone/x", true), ("f/x/y", true), ("dir", false), ("dir/x", true)]
        {
            assert_eq!(above.hides(path.as_bytes()), want, "{path}");
        }
        assert_eq!(clean(b"./a//b/.").unwrap(), b"a/b");
        assert_eq!(clean(b"a/../b"), None);
    }
}
