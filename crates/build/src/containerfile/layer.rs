//! Copied files as a layer, written straight into the store, and their fingerprint, of which no time is a part.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use hoy_layer::{Entry, Kind, TarWriter, Time};
use hoy_oci::{Digest, Hasher};

use crate::Error;
use crate::Result;
use crate::behind::Behind;
use crate::containerfile::standing::{Node, Standing, join, split};
use crate::destination::{Heard, Owner, Receiver, described, refuse_whiteout};
use crate::document::NewLayer;
use crate::sink::LayerSink;

/// How much of files is read at once, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// Writes entries as a layer for the root file system that `standing` tells of.
pub(crate) struct LayerWriter<'a> {
    archive: TarWriter<Behind<LayerSink>>,
    standing: &'a Standing,
    owner: Owner,
    has_owners: bool,
    /// Later times become this one.
    clamp: Option<i64>,
    /// The time of directories that have to be made on the way.
    made_at: Time,
    known: BTreeSet<Vec<u8>>,
    /// The last directory, and where it is behind the links: that of most files is that of the file before.
    last: (Vec<u8>, Vec<u8>),
}

impl<'a> LayerWriter<'a> {
    pub(crate) fn new(sink: LayerSink, standing: &'a Standing, owner: Owner, clamp: Option<i64>, made_at: i64) -> Self {
        let made_at = Time { seconds: made_at, nanoseconds: 0 };
        Self {
            archive: TarWriter::new(Behind::new(sink)),
            standing,
            owner,
            has_owners: false,
            clamp,
            made_at,
            known: BTreeSet::new(),
            last: Default::default(),
        }
    }

    /// The path as it is behind the links of its directories.
    fn real(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        let (parent, name) = split(path);
        if self.last.0 != parent {
            self.last = (parent.to_vec(), self.standing.resolve(parent, true)?);
        }
        Ok(join(&self.last.1, name))
    }

    /// Makes the directory `path`, whose links were followed, and those above it where they are missing.
    pub(crate) fn directories(&mut self, path: &[u8]) -> Result<()> {
        let ends = path.iter().enumerate().filter(|(_, c)| **c == b'/').map(|(at, _)| at).chain([path.len()]);
        for above in ends.filter_map(|end| path.get(..end)).filter(|above| !above.is_empty()) {
            if self.known.contains(above) {
                continue;
            }
            self.known.insert(above.to_vec());
            match self.standing.at(above) {
                Some(Node::Directory) => {}
                Some(_) => {
                    let path = String::from_utf8_lossy(above).into_owned();
                    return Err(Error::Refused(format!("\"/{path}\" is in the way: it is no directory")));
                }
                None => {
                    let mut entry = Entry::new(above, Kind::Directory, 0o755);
                    (entry.uid, entry.gid) = self.owner.ids.unwrap_or_default();
                    entry.mtime = self.made_at;
                    self.archive.append(&entry, &mut std::io::empty())?;
                }
            }
        }
        Ok(())
    }

    /// The layer; none where everything was there already.
    pub(crate) fn finish(self) -> Result<Option<NewLayer>> {
        self.archive.finish()?.finish().map_err(hoy_layer::Error::Write)?.finish()
    }
}

impl Receiver for LayerWriter<'_> {
    fn have_owners(&mut self, has_owners: bool) {
        self.has_owners = has_owners;
    }

    fn add(&mut self, mut entry: Entry, mut data: &mut dyn Read) -> Result<()> {
        refuse_whiteout(&entry.path)?;
        entry.path = self.real(&entry.path)?;
        if entry.kind == Kind::HardLink {
            entry.link = self.real(&entry.link)?;
        }
        self.owner.give(&mut entry, self.has_owners);
        let time = entry.mtime;
        if self.clamp.is_some_and(|clamp| time.seconds >= clamp) {
            entry.mtime = Time { seconds: self.clamp.unwrap_or_default(), nanoseconds: 0 };
        }
        self.directories(split(&entry.path).0)?;
        if entry.kind == Kind::Directory {
            let real = self.standing.resolve(&entry.path, true)?;
            let is_new = self.known.insert(entry.path.clone());
            if !is_new || self.standing.at(&real) == Some(&Node::Directory) {
                return Ok(());
            }
        } else if self.standing.at(&entry.path) == Some(&Node::Directory) || self.known.contains(&entry.path) {
            let path = String::from_utf8_lossy(&entry.path);
            return Err(Error::Refused(format!("\"/{path}\" is a directory: a file cannot replace it")));
        }
        Ok(self.archive.append(&entry, &mut data)?)
    }
}

/// Hashes entries: everything that is to be copied, whatever stands where it goes.
pub(crate) struct Fingerprint {
    content: Behind<Hasher>,
    /// Whose files they are plays a part.
    has_owners: bool,
    buffer: Vec<u8>,
}

impl Fingerprint {
    pub(crate) fn new(has_owners: bool) -> Self {
        Self { content: Behind::new(Hasher::new()), has_owners, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Hashes everything of an entry but its bytes.
    fn describe(&mut self, mut entry: Entry) -> Result<Entry> {
        entry.mtime = Time::default();
        if !self.has_owners {
            (entry.uid, entry.gid) = (0, 0);
        }
        self.hash(&described(&entry))?;
        Ok(entry)
    }

    fn hash(&mut self, bytes: &[u8]) -> Result<()> {
        self.content.write_all(bytes).map_err(Error::io("hash", "files"))
    }

    pub(crate) fn finish(self) -> Result<Digest> {
        Ok(self.content.finish().map_err(Error::io("hash", "files"))?.finish())
    }
}

/// Writes entries as a layer and hashes them as [`Fingerprint`] does, of which the place where they go is no part.
pub(crate) struct Both<'a> {
    layer: LayerWriter<'a>,
    fingerprint: Fingerprint,
    target: Vec<u8>,
    /// Of a file that becomes the target itself.
    name: Vec<u8>,
}

impl<'a> Both<'a> {
    pub(crate) fn new(layer: LayerWriter<'a>, fingerprint: Fingerprint, target: &[u8]) -> Self {
        Self { layer, fingerprint, target: target.to_vec(), name: Vec::new() }
    }

    /// A path as it is below the target; none for the target itself.
    fn below(&self, path: &[u8]) -> Option<Vec<u8>> {
        if self.target.is_empty() {
            return Some(path.to_vec());
        }
        path.strip_prefix(self.target.as_slice())?.strip_prefix(b"/").map(<[u8]>::to_vec)
    }

    pub(crate) fn finish(self) -> Result<(LayerWriter<'a>, Digest)> {
        Ok((self.layer, self.fingerprint.finish()?))
    }
}

impl Receiver for Both<'_> {
    fn begin(&mut self, name: &[u8]) {
        self.name = name.to_vec();
    }

    fn add(&mut self, entry: Entry, data: &mut dyn Read) -> Result<()> {
        let path = match self.below(&entry.path) {
            // It stands for the place alone.
            None if entry.kind == Kind::Directory => return self.layer.add(entry, data),
            other => other.unwrap_or_else(|| self.name.clone()),
        };
        let link = if entry.kind == Kind::HardLink { self.below(&entry.link) } else { None };
        let link = link.unwrap_or_else(|| entry.link.clone());
        self.fingerprint.describe(Entry { path, link, ..entry.clone() })?;
        self.layer.add(entry, &mut Heard { data, by: &mut self.fingerprint.content })
    }
}

impl Receiver for Fingerprint {
    fn add(&mut self, entry: Entry, data: &mut dyn Read) -> Result<()> {
        let entry = self.describe(entry)?;
        let mut left = entry.size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let buffer = self.buffer.get_mut(..most).unwrap_or_default();
            let count = match data.read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(Error::io("read", String::from_utf8_lossy(&entry.path).as_ref()))?,
            };
            if count == 0 {
                break;
            }
            self.content.write_all(buffer.get(..count).unwrap_or_default()).map_err(Error::io("hash", "files"))?;
            left = left.saturating_sub(count as u64);
        }
        Ok(())
    }
}
