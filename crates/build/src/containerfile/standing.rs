//! What stands where in a root file system, read from its layers alone: nothing is unpacked or mounted to know it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hoy_layer::{Entry, Kind};
use hoy_spec::Users;

use crate::containerfile::names::{Named, Names};
use crate::{Error, Result};

/// How names begin that mean a deletion (image-spec layer.md "Whiteouts"), and the name that empties a directory.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// As many links in one path as the kernel follows.
const MAX_LINKS: usize = 40;

/// One name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    Link(Vec<u8>),
    Other,
}

impl Node {
    pub(crate) fn of(entry: Entry) -> Self {
        match entry.kind {
            Kind::Directory => Self::Directory,
            Kind::Symlink => Self::Link(entry.link),
            _ => Self::Other,
        }
    }
}

/// What one layer has done so far.
#[derive(Default)]
struct Own {
    /// The names that it has put there.
    names: BTreeSet<Vec<u8>>,
    /// The directories that it has emptied.
    cleared: BTreeSet<Vec<u8>>,
}

/// All names of a root file system, and its user databases.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    nodes: BTreeMap<Vec<u8>, Node>,
    passwd: String,
    group: String,
}

impl Standing {
    /// Lays one more layer on top.
    pub(crate) fn add_layer(&mut self, names: Names) {
        let mut own = Own::default();
        for (path, node) in names.0 {
            match node {
                Named::Node(node) => self.add(path, node, &mut own),
                Named::Database(text) if path.ends_with(b"passwd") => self.passwd = text,
                Named::Database(text) => self.group = text,
            }
        }
    }

    fn add(&mut self, path: Vec<u8>, node: Node, own: &mut Own) {
        let (parent, name) = split(&path);
        if name == OPAQUE {
            return self.remove_below(parent, own);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            let hidden = join(parent, hidden);
            if !own.names.contains(&hidden) {
                self.remove_below(&hidden, own);
                // A directory of what this layer has put there stays.
                let below = join(&hidden, b"");
                if !self.nodes.range(below.clone()..).next().is_some_and(|(path, _)| path.starts_with(&below)) {
                    self.nodes.remove(&hidden);
                }
            }
            return;
        }
        if path.is_empty() {
            return;
        }
        let ends = path.iter().enumerate().filter(|(_, c)| **c == b'/').map(|(at, _)| at);
        for above in ends.filter_map(|end| path.get(..end)) {
            self.nodes.entry(above.to_vec()).or_insert(Node::Directory);
        }
        if node != Node::Directory && self.nodes.get(&path) == Some(&Node::Directory) {
            self.remove_below(&path, &mut Own::default());
        }
        own.names.insert(path.clone());
        self.nodes.insert(path, node);
    }

    /// Removes what lies below a directory, but for what this layer itself has put there.
    fn remove_below(&mut self, directory: &[u8], own: &mut Own) {
        // Only what is its own is left the second time.
        if !own.cleared.insert(directory.to_vec()) {
            return;
        }
        let start = if directory.is_empty() { Vec::new() } else { join(directory, b"") };
        let below = self.nodes.range(start.clone()..).take_while(|(path, _)| path.starts_with(&start));
        let gone: Vec<Vec<u8>> = below.map(|(path, _)| path.clone()).filter(|path| !own.names.contains(path)).collect();
        for path in gone {
            self.nodes.remove(&path);
        }
    }

    /// The path with the links in it followed, the last one only where `follow`; what is not there stays as it is.
    pub(crate) fn resolve(&self, path: &[u8], follow: bool) -> Result<Vec<u8>> {
        let mut waiting: VecDeque<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
        let (mut real, mut links) = (Vec::new(), 0);
        while let Some(part) = waiting.pop_front() {
            if part == b".." {
                real.truncate(split(&real).0.len());
                continue;
            }
            let next = join(&real, &part);
            match self.nodes.get(&next) {
                Some(Node::Link(target)) if follow || !waiting.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        let path = String::from_utf8_lossy(path);
                        return Err(Error::Refused(format!("\"/{path}\": too many links in a path")));
                    }
                    if target.first() == Some(&b'/') {
                        real.clear();
                    }
                    parts(target).rev().for_each(|part| waiting.push_front(part.to_vec()));
                }
                _ => real = next,
            }
        }
        Ok(real)
    }

    /// What stands at a path whose links were followed.
    pub(crate) fn at(&self, real: &[u8]) -> Option<&Node> {
        if real.is_empty() { Some(&Node::Directory) } else { self.nodes.get(real) }
    }

    /// The users that the root file system knows.
    pub(crate) fn users(&self) -> Users {
        Users::parse(&self.passwd, &self.group)
    }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&c| c == b'/').filter(|part| !matches!(*part, b"" | b"."))
}

pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    parts(path).collect::<Vec<_>>().join(&b'/')
}

/// Directory and name; the directory of a single name is empty.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&c| c == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(standing: &mut Standing, entries: &[(&str, Kind, &str)]) {
        let mut own = Own::default();
        for (path, kind, link) in entries {
            let mut entry = Entry::new(path.as_bytes(), *kind, 0o755);
            entry.link = link.as_bytes().to_vec();
            standing.add(clean(path.as_bytes()), Node::of(entry), &mut own);
        }
    }

    #[test]
    fn layers_on_one_another() {
        let mut standing = Standing::default();
        let lower = [
            ("./lib", Kind::Symlink, "usr/lib"),
            ("usr/lib/", Kind::Directory, ""),
            ("usr/lib/a", Kind::File, ""),
            ("data/old/x", Kind::File, ""),
            ("out", Kind::Symlink, "/../../etc"),
            ("loop", Kind::Symlink, "loop"),
            ("gone/x", Kind::File, ""),
        ];
        layer(&mut standing, &lower);
        let upper = [
            ("data/new", Kind::File, ""),
            ("data/.wh..wh..opq", Kind::File, ""),
            (".wh.gone", Kind::File, ""),
            ("made/x", Kind::File, ""),
            (".wh.made", Kind::File, ""),
            ("data/sub/new", Kind::File, ""),
            ("data/.wh..wh..opq", Kind::File, ""),
            ("usr/lib/a", Kind::Directory, ""),
        ];
        layer(&mut standing, &upper);
        let resolve = |path: &str| standing.resolve(path.as_bytes(), true).map(|p| String::from_utf8(p).unwrap());
        assert_eq!(resolve("lib/x/y").unwrap(), "usr/lib/x/y");
        assert_eq!(resolve("out/passwd").unwrap(), "etc/passwd");
        assert!(resolve("loop/x").is_err());
        assert_eq!(standing.resolve(b"lib", false).unwrap(), b"lib");
        for (path, want) in [
            ("usr/lib/a", Some(&Node::Directory)),
            ("data/new", Some(&Node::Other)),
            ("data/old", None),
            ("data/old/x", None),
            ("data/sub", Some(&Node::Directory)),
            ("made", Some(&Node::Directory)),
            ("made/x", Some(&Node::Other)),
            ("gone", None),
            ("gone/x", None),
            ("", Some(&Node::Directory)),
        ] {
            assert_eq!(standing.at(path.as_bytes()), want, "{path}");
        }
    }
}
