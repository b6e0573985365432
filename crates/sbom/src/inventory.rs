//! A walk through a tree: which files tell of packages, and what they tell.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, Read, Seek, Write};

use hoy_layer::{Archive, Entry, Kind as EntryKind};

use crate::{Error, Kind, Package, Result, program, records, rpm, scripts};

/// The largest record of a whole system that is read, in bytes: dpkg's status file of all of Debian is about as long.
const MAX_RECORD_BYTES: u64 = 128 << 20;

/// The largest record of one package, in bytes.
const MAX_PACKAGE_BYTES: u64 = 4 << 20;

/// The most packages that a tree may have.
const MAX_PACKAGES: usize = 1_000_000;

/// Which system a tree is, as its os-release(5) says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// `ID`, as in `debian`.
    pub id: String,
    /// `VERSION_ID`, as in `12`.
    pub version_id: String,
    /// `PRETTY_NAME`, for people.
    pub pretty_name: String,
}

impl Distribution {
    /// `debian-12`, or what there is of it.
    pub(crate) fn name(&self) -> String {
        let parts = [self.id.as_str(), self.version_id.as_str()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
    }

    /// Whose packages of a system's kind are.
    pub(crate) fn vendor(&self, kind: Kind) -> String {
        let usual = match kind {
            Kind::Apk => "alpine",
            Kind::Deb => "debian",
            _ => "unknown",
        };
        if self.id.is_empty() { usual.to_owned() } else { self.id.clone() }
    }
}

/// A file that names packages and could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The file, from the root.
    pub path: String,
    /// Why not.
    pub reason: String,
}

/// What a tree consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Which system it is.
    pub distribution: Distribution,
    /// The packages, sorted, each once.
    pub packages: BTreeSet<Package>,
    /// What is missing because it could not be read.
    pub unread: Vec<Unread>,
}

/// Which file an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    OsRelease,
    Dpkg,
    Apk,
    RpmSqlite,
    RpmOther,
    Python,
    Node,
    Program,
}

impl Inventory {
    /// Reads a tree as one tar. Larger files are kept in `scratch`, an empty file, while they are looked at.
    ///
    /// # Errors
    /// [`Error::Tree`], [`Error::File`]. A record that is not of its form is no error: it is among the unread.
    pub fn read(tree: impl BufRead, mut scratch: File) -> Result<Self> {
        let mut inventory = Self::default();
        let mut archive = Archive::new(tree);
        while let Some(entry) = archive.next_entry()? {
            let path = String::from_utf8_lossy(&entry.path);
            let path = path.trim_start_matches("./").trim_matches('/').to_owned();
            let Some(role) = role(&path, &entry) else { continue };
            let found = inventory.look(role, &path, &entry, archive.data(), &mut scratch);
            let found = found.map_err(|source| Error::File { path: path.clone(), source })?;
            match found {
                Ok(packages) => inventory.packages.extend(packages),
                Err(reason) => inventory.unread.push(Unread { path: path.clone(), reason }),
            }
            if inventory.packages.len() > MAX_PACKAGES {
                let source = std::io::Error::other(format!("it has more than {MAX_PACKAGES} packages"));
                return Err(Error::File { path, source });
            }
        }
        archive.drain()?;
        Ok(inventory)
    }

    /// The packages that a file names, or why that cannot be told.
    fn look(
        &mut self,
        role: Role,
        path: &str,
        entry: &Entry,
        mut data: impl Read,
        scratch: &mut File,
    ) -> std::io::Result<std::result::Result<Vec<Package>, String>> {
        match role {
            Role::RpmOther => {
                let reason = "a database of RPMs in a form that is not read: Berkeley DB or NDB";
                return Ok(if entry.size == 0 { Ok(Vec::new()) } else { Err(reason.to_owned()) });
            }
            Role::Program => {
                let mut magic = Vec::new();
                data.by_ref().take(4).read_to_end(&mut magic)?;
                if magic != *b"\x7fELF" {
                    return Ok(Ok(Vec::new()));
                }
                keep(&magic, &mut data, scratch)?;
                return Ok(program::packages(scratch, path));
            }
            Role::RpmSqlite => {
                keep(&[], &mut data, scratch)?;
                return Ok(rpm::packages(scratch, path));
            }
            _ => {}
        }
        let most = if matches!(role, Role::Dpkg | Role::Apk) { MAX_RECORD_BYTES } else { MAX_PACKAGE_BYTES };
        if entry.size > most {
            return Ok(Err(format!("it is longer than {most} bytes")));
        }
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(match role {
            Role::Dpkg => Ok(records::dpkg(&text, path)),
            Role::Apk => Ok(records::apk(&text, path)),
            Role::Python => Ok(scripts::python(&text, path).into_iter().collect()),
            Role::Node => scripts::node(&text, path).map(|package| package.into_iter().collect()),
            _ => {
                let named = records::os_release(&text);
                if path.starts_with("etc/") || self.distribution.id.is_empty() {
                    self.distribution = named;
                }
                Ok(Vec::new())
            }
        })
    }
}

/// Puts a file's bytes where they can be read in any order.
fn keep(first: &[u8], rest: &mut impl Read, scratch: &mut File) -> std::io::Result<()> {
    scratch.set_len(0)?;
    scratch.rewind()?;
    scratch.write_all(first)?;
    std::io::copy(rest, scratch).map(drop)
}

fn role(path: &str, entry: &Entry) -> Option<Role> {
    if entry.kind != EntryKind::File || entry.sparse.is_some() {
        return None;
    }
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_rpm = matches!(directory, "var/lib/rpm" | "usr/lib/sysimage/rpm" | "usr/share/rpm");
    Some(match (directory, name) {
        ("etc" | "usr/lib", "os-release") => Role::OsRelease,
        ("var/lib/dpkg", "status") => Role::Dpkg,
        ("var/lib/dpkg/status.d", _) if !name.ends_with(".md5sums") => Role::Dpkg,
        ("lib/apk/db" | "usr/lib/apk/db", "installed") => Role::Apk,
        (_, "rpmdb.sqlite") if is_rpm => Role::RpmSqlite,
        // Changes that have not come into the database yet would be missed.
        (_, "Packages" | "Packages.db" | "rpmdb.sqlite-wal") if is_rpm => Role::RpmOther,
        _ if scripts::is_python(directory, name) => Role::Python,
        _ if scripts::is_node(directory, name) => Role::Node,
        _ if entry.mode & 0o111 != 0 && entry.size > 64 => Role::Program,
        _ => return None,
    })
}
