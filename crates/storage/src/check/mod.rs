//! Looking for damage, and undoing what can be undone.

mod blobs;
mod containers;
mod layers;
mod users;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hoy_layer::OverlayXattrs;
use hoy_layout::Store;

use crate::garbage::{names, remove_temporary, temporaries};
use crate::{Error, Result};
use users::Users;

/// How long what looks left is looked at: far longer than a command takes to lock what it has made.
const MOMENT: Duration = Duration::from_millis(100);

/// In which way something is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageKind {
    /// Its bytes are not those that were written.
    Torn,
    /// It is not there.
    Missing,
    /// An unpacked file is not as its layer says.
    Altered,
    /// The store has no file of such a name; no damage to anything else.
    Foreign,
    /// A command that was killed left it; no damage to anything else.
    Leftover,
}

impl DamageKind {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::Missing => "missing",
            Self::Altered => "altered",
            Self::Foreign => "foreign",
            Self::Leftover => "leftover",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// In which way.
    pub kind: DamageKind,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// Names, or digests, of the images that need it.
    pub images: Vec<String>,
    /// Names, or ids, of the containers that need it.
    pub containers: Vec<String>,
    /// What was done about it.
    pub repair: Option<String>,
    /// What can be done about it.
    pub remedy: Option<String>,
}

impl Damage {
    fn new(kind: DamageKind, path: &Path, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        let (images, containers) = (Vec::new(), Vec::new());
        Self { kind, path: path.to_owned(), problem, images, containers, repair: None, remedy: None }
    }

    /// The store still is not what it should be because of it.
    pub fn is_left(&self) -> bool {
        self.repair.is_none() && !matches!(self.kind, DamageKind::Foreign | DamageKind::Leftover)
    }
}

/// How thoroughly to look, and what to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckOptions {
    /// Unpack every layer again and compare.
    pub deep: bool,
    /// Mend what can be mended.
    pub repair: bool,
}

/// Where a check is: what it looks at, how, and what it has found.
struct Check<'a> {
    store: &'a Store,
    xattrs: OverlayXattrs,
    options: CheckOptions,
    found: Vec<Damage>,
}

impl Check<'_> {
    /// Notes a damage; with `--repair` does `mend` first, which says what it did, or why nothing could be done.
    fn add(&mut self, mut damage: Damage, mend: impl FnOnce() -> Result<std::result::Result<String, String>>) {
        if self.options.repair {
            match mend() {
                Ok(Ok(done)) => damage.repair = Some(done),
                Ok(Err(remedy)) => damage.remedy = Some(remedy),
                Err(error) => damage.remedy = Some(format!("it cannot be mended: {}", with_causes(&error))),
            }
        }
        self.found.push(damage);
    }
}

/// Reads everything that is truth and compares it with its digests, and looks whether names and containers lead to all
/// that they need.
///
/// With `repair` an index, records and layers are made again, and what cannot be is removed where it can be fetched.
///
/// # Errors
/// [`Error::Io`] when the store cannot be read at all.
pub fn check(store: &Store, xattrs: OverlayXattrs, options: CheckOptions) -> Result<Vec<Damage>> {
    let lease = store.lease()?;
    let mut check = Check { store, xattrs, options, found: Vec::new() };
    check.index()?;
    let users = Users::of(store)?;
    check.blobs(&users)?;
    check.images(&users);
    check.containers()?;
    check.layers(&users)?;
    if options.deep {
        check.unpacked(&users)?;
    }
    check.strangers()?;
    drop(lease);
    // While somebody adds to the store, what is unfinished need not be left over.
    if let Some(lock) = store.try_exclude_leases()? {
        check.leftovers()?;
        drop(lock);
    }
    Ok(check.found)
}

impl Check<'_> {
    fn index(&mut self) -> Result<()> {
        let layout = self.store.layout();
        let (path, old) = (self.store.root().join("index.json"), self.store.root().join("index.json.old"));
        if let Err(error) = layout.index() {
            if !error.is_damage() {
                return Err(error.into());
            }
            let mut damage = Damage::new(kind(&error), &path, "names of images may be lost");
            damage.remedy = Some("--repair brings the last good one back".to_owned());
            self.add(damage, || {
                Ok(Ok(match layout.restore_index()? {
                    Some(false) => "made anew from the manifests that are there: their names are lost".to_owned(),
                    _ => "brought back as it was before its last change, with all manifests that are there".to_owned(),
                }))
            });
        }
        let is_index = |bytes: &[u8]| serde_json::from_slice::<hoy_oci::Index>(bytes).is_ok();
        match std::fs::read(&old) {
            Ok(bytes) if !is_index(&bytes) => {
                let damage = Damage::new(DamageKind::Torn, &old, "the index before its last change is lost");
                self.add(damage, || {
                    std::fs::remove_file(&old).map_err(Error::io("remove", &old))?;
                    Ok(Ok("removed: the next change leaves another one".to_owned()))
                });
            }
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("read", &old)(e)),
            _ => {}
        }
        Ok(())
    }

    /// What killed commands left.
    fn leftovers(&mut self) -> Result<()> {
        let store = self.store;
        let mut left = temporaries(store)?;
        if !left.is_empty() {
            // Whoever has just made one locks it in the next moment, or has finished with it.
            std::thread::sleep(MOMENT);
            let still = temporaries(store)?;
            left.retain(|path| still.contains(path));
        }
        for path in left {
            // Another command may just have finished.
            if path.exists() {
                let damage = Damage::new(DamageKind::Leftover, &path, "a killed command left it, prune removes it");
                self.add(damage, || remove_temporary(&path).map(|()| Ok("removed".to_owned())));
            }
        }
        for dir in crate::garbage::unfinished(store)? {
            let damage = Damage::new(DamageKind::Leftover, dir.path(), "a container that was never finished");
            self.add(damage, || crate::rm(&dir, true).map(|()| Ok("removed".to_owned())));
        }
        Ok(())
    }

    /// Names that no part of a store has.
    fn strangers(&mut self) -> Result<()> {
        let store = self.store;
        let is_hex = |name: &str| name.len() == 64 && hoy_oci::Digest::from_hex(name).is_ok();
        let is_layer = |name: &str| is_hex(name.strip_suffix(".json").unwrap_or(name)) || name.starts_with("flat-");
        self.foreign(&store.root().join("blobs/sha256"), is_hex)?;
        self.foreign(&store.layers(), is_layer)?;
        self.foreign(&store.containers(), is_hex)
    }

    fn foreign(&mut self, directory: &Path, is_ours: impl Fn(&str) -> bool) -> Result<()> {
        for name in names(directory)?.iter().filter(|name| !name.starts_with('.') && !is_ours(name)) {
            let problem = "nothing of a store has such a name; it is left alone";
            self.found.push(Damage::new(DamageKind::Foreign, &directory.join(name), problem));
        }
        Ok(())
    }
}

fn kind(error: &hoy_layout::Error) -> DamageKind {
    if error.is_not_found() { DamageKind::Missing } else { DamageKind::Torn }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
