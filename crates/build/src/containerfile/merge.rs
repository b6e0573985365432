//! Several layers as one: `--squash` and `--layers=false`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use hoy_layer::{Archive, Decompressor, Entry, Kind, TarWriter};
use hoy_oci::Descriptor;

use crate::containerfile::builder::{Builder, Squash};
use crate::containerfile::standing::{clean, join, split};
use crate::containerfile::state::State;
use crate::document::NewLayer;
use crate::{Error, Result};

/// What an image's upper layers come to: entries by path, each with the layer that its bytes are in.
#[derive(Default)]
struct Merged {
    entries: BTreeMap<Vec<u8>, (usize, u64)>,
    /// Names of the layers below that are gone, and directories of which nothing below is left.
    gone: BTreeSet<Vec<u8>>,
    emptied: BTreeSet<Vec<u8>>,
}

/// Makes one layer of what the build added, or of everything.
pub(crate) fn merge(builder: &Builder<'_>, state: &mut State) -> Result<()> {
    let (kept_layers, kept_history) = match builder.options.squash {
        Squash::None => return Ok(()),
        Squash::New => state.base,
        Squash::All => (0, 0),
    };
    let upper = state.layers.split_off(kept_layers);
    state.working.config.rootfs.diff_ids.truncate(kept_layers);
    let layer = match upper.as_slice() {
        [] => None,
        layers => one_layer(builder, layers, kept_layers == 0)?,
    };
    if builder.options.squash == Squash::All {
        state.working.config.history.clear();
    } else {
        for step in state.working.config.history.iter_mut().skip(kept_history) {
            step.empty_layer = true;
        }
    }
    state.push(layer, "/bin/sh");
    state.base = (kept_layers, kept_history);
    Ok(())
}

fn one_layer(builder: &Builder<'_>, layers: &[Descriptor], is_lowest: bool) -> Result<Option<NewLayer>> {
    let directory = builder.scratch.directory()?;
    let mut merged = Merged::default();
    let mut files = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let path = directory.join(number.to_string());
        let blob = builder.store.layout().open_blob(layer)?;
        let mut tar = Decompressor::detect(blob).map_err(Error::io("read", &path))?;
        let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
        std::io::copy(&mut tar, &mut file).map_err(Error::io("write", &path))?;
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        merged.add(number, &mut file)?;
        files.push(path);
    }
    let mut to = TarWriter::new(builder.sink()?);
    if !is_lowest {
        merged.write_deletions(&mut to)?;
    }
    // One pass for each layer, in which its entries that were not replaced are taken; the order of the archive is that of
    // the layers, so that a hard link comes after what it names.
    for (number, path) in files.iter().enumerate() {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut archive = Archive::new(BufReader::new(file));
        let mut at = 0;
        while let Some(mut entry) = archive.next_entry()? {
            at += 1;
            let path = clean(&entry.path);
            if merged.entries.get(&path) != Some(&(number, at)) {
                continue;
            }
            entry.path = path;
            if entry.kind == Kind::HardLink {
                entry.link = clean(&entry.link);
            }
            to.append(&entry, &mut archive.data())?;
        }
    }
    to.finish()?.finish()
}

impl Merged {
    fn add(&mut self, number: usize, file: &mut File) -> Result<()> {
        let reading = || Error::io("read", "a layer");
        let (mut own, mut at, mut deletions) = (BTreeMap::new(), 0, Vec::new());
        let mut archive = Archive::new(BufReader::new(&mut *file));
        while let Some(entry) = archive.next_entry()? {
            at += 1;
            let path = clean(&entry.path);
            let (parent, name) = split(&path);
            match name.strip_prefix(b".wh.") {
                Some(b".wh..opq") => deletions.push((parent.to_vec(), true)),
                Some(hidden) => deletions.push((join(parent, hidden), false)),
                None if path.is_empty() => {}
                None => drop(own.insert(path, (at, entry.kind))),
            }
        }
        file.seek(SeekFrom::Start(0)).map_err(reading())?;
        for (path, is_opaque) in deletions {
            self.remove_below(&path);
            if is_opaque {
                self.emptied.insert(path);
            } else {
                self.entries.remove(&path);
                self.gone.insert(path);
            }
        }
        for (path, (at, kind)) in own {
            if kind != Kind::Directory {
                self.remove_below(&path);
            }
            self.entries.insert(path, (number, at));
        }
        Ok(())
    }

    fn remove_below(&mut self, directory: &[u8]) {
        let start = join(directory, b"");
        let below = |path: &Vec<u8>| directory.is_empty() || path.starts_with(&start);
        self.entries.retain(|path, _| !below(path));
        self.gone.retain(|path| !below(path));
        self.emptied.retain(|path| !below(path));
    }

    fn write_deletions<W: std::io::Write>(&self, to: &mut TarWriter<W>) -> Result<()> {
        let marks = self.gone.iter().map(|path| {
            let (parent, name) = split(path);
            join(parent, &[b".wh.", name].concat())
        });
        let marks = marks.chain(self.emptied.iter().map(|path| join(path, b".wh..wh..opq")));
        for path in marks {
            to.append(&Entry::new(path, Kind::File, 0), &mut std::io::empty().take(0))?;
        }
        Ok(())
    }
}
