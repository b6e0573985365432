//! `copy` and `add`: files into a working container.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hoy_containerfile::Ignore;
use hoy_layer::{Flavour, Limits, Time, unpack};
use hoy_oci::{Digest, IdMapping, IdMaps};
use hoy_spec::Users;
use hoy_sys::rustix::fs::fstat;
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::thread::{CapabilitiesSecureBits, capabilities_secure_bits, set_capabilities_secure_bits};
use hoy_sys::user::set_file_ids;

use crate::chmod::Chmod;
use crate::destination::{Destination, Owner, Present, clean, present};
use crate::parents::{parents, pivot};
use crate::source::{Naming, Source, SourceRoot};
use crate::tree::{TreeReader, archive, is_link, link, lossy, mtime};
use crate::{Error, Result};

/// How files are copied.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// `USER[:GROUP]`, names being those of the container.
    pub chown: Option<String>,
    /// Permissions in octal.
    pub chmod: Option<String>,
    /// Sources are inside this directory.
    pub context: Option<PathBuf>,
    /// Ownership is kept, as between containers; otherwise files belong to user 0.
    pub keep_owner: bool,
    /// The text of an ignore file, for sources in a context directory.
    pub ignore: Option<String>,
    /// Patterns of what else is left out, by the same paths.
    pub excludes: Vec<String>,
    /// A pattern among the sources is an error.
    pub no_patterns: bool,
    /// A pattern that nothing matches is none.
    pub empty_patterns: bool,
    /// Links that are named are copied themselves, and not what they lead to.
    pub keep_links: bool,
    /// The directories that lead to a source are made again where it goes.
    pub parents: bool,
    /// The time of all that is copied, in seconds since 1970, instead of its own.
    pub time: Option<i64>,
    /// Local archives are unpacked.
    pub unpack: bool,
    /// Further sources, which were fetched: nothing in them is ignored, no pattern is in their names, and archives stay
    /// what they are.
    pub fetched: Vec<PathBuf>,
    /// The ids on disk of those in the container, where it has a user namespace of its own.
    pub ids: Option<IdMaps>,
    /// Likewise of those in the container that sources are in.
    pub source_ids: Option<IdMaps>,
}

/// Copies `sources` to `destination`, a path seen from `workdir` in the root file system `root`.
///
/// Nothing outside the root is written, whatever links it holds; nor is anything read outside the context directory.
/// Directories that are there already stay as they are. Returns the digest of what was copied, and whether it was
/// a `file`, a `dir` or several (`multi`).
///
/// # Errors
/// [`Error::NoSource`], [`Error::Refused`], [`Error::Option`], and those of reading and writing.
pub fn copy(
    root: BorrowedFd<'_>,
    workdir: &str,
    sources: &[PathBuf],
    destination: Option<&str>,
    options: &CopyOptions,
) -> Result<(Digest, &'static str)> {
    let source_root = match &options.context {
        None => SourceRoot::Host,
        Some(directory) => {
            SourceRoot::Root(OwnedFd::from(File::open(directory).map_err(Error::io("open", directory))?))
        }
    };
    let ignore = ignore(options)?;
    let naming = Naming {
        is_literal: options.no_patterns,
        may_be_nothing: options.empty_patterns,
        keeps_links: options.keep_links,
    };
    let (mut found, mut pivots) = (Vec::new(), Vec::new());
    for source in sources {
        let mut named = source_root.named(source, naming)?;
        let count = named.len();
        named.retain(|source| source.is_directory || !ignore.excludes(&lossy(&shown(&source.path))));
        if named.is_empty() && count > 0 && !options.empty_patterns {
            let note = " (left out by the ignore file or by --exclude)".to_owned();
            return Err(Error::NoSource(source.display().to_string(), note));
        }
        pivots.extend(std::iter::repeat_n(pivot(&source.to_string_lossy()), named.len()));
        found.extend(named);
    }
    let first_fetched = found.len();
    for source in &options.fetched {
        found.push(SourceRoot::Host.only(source)?);
    }
    if found.is_empty() {
        return Ok((Digest::of(b""), "multi"));
    }
    let mut plan = Plan::new(root, workdir, &found, destination)?;
    if options.parents {
        if present(root, &plan.target, true)? == Present::Other {
            return Err(Error::Refused(format!("\"/{}\" is no directory", lossy(&plan.target))));
        }
        (plan.is_directory, plan.parents) = (true, Some((source_root, pivots)));
    }
    let owner = owner(root, options)?;
    let kind = match found.as_slice() {
        [only] if only.is_directory => "dir",
        [_] => "file",
        _ => "multi",
    };
    Ok((carry_out(root, found, first_fetched, &plan, owner, (options, &ignore))?, kind))
}

/// Where the sources go.
struct Plan {
    /// A clean path without a leading `/`.
    target: Vec<u8>,
    /// The target is a directory that sources go into.
    is_directory: bool,
    /// For [`CopyOptions::parents`]: where sources are, and of each how many of its directories are not made again.
    parents: Option<(SourceRoot, Vec<usize>)>,
}

impl Plan {
    fn new(root: BorrowedFd<'_>, workdir: &str, sources: &[Source], destination: Option<&str>) -> Result<Self> {
        let typed = destination.unwrap_or(".");
        let target = clean(workdir, typed);
        let says_directory = typed.ends_with('/') || typed.ends_with("/.") || matches!(typed, "." | "..");
        let standing = present(root, &target, true)?;
        let needs_directory = sources.len() > 1 || sources.iter().any(|source| source.is_directory);
        if needs_directory && standing == Present::Other {
            return Err(Error::Refused(format!("\"{typed}\" is no directory: it cannot take several files")));
        }
        let is_directory = says_directory || needs_directory || destination.is_none() || standing == Present::Directory;
        Ok(Self { target, is_directory, parents: None })
    }

    fn of(&self, source: &Source) -> Vec<u8> {
        let name = source.path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
        match (self.is_directory && !source.is_directory, self.target.is_empty()) {
            (false, _) => self.target.clone(),
            (true, true) => name,
            (true, false) => [self.target.as_slice(), b"/", &name].concat(),
        }
    }
}

/// What is left out.
fn ignore(options: &CopyOptions) -> Result<Ignore> {
    let mut text = options.ignore.clone().unwrap_or_default();
    let lines = text.lines().count();
    for pattern in &options.excludes {
        // A pattern is no comment.
        let escape = if pattern.starts_with('#') { "\\" } else { "" };
        text = format!("{text}\n{escape}{pattern}");
    }
    Ignore::parse(&text).map_err(|line| match line {
        line if line <= lines => Error::Refused(format!("line {line} of the ignore file is no pattern")),
        _ => Error::Refused("an --exclude is no pattern".to_owned()),
    })
}

fn owner(root: BorrowedFd<'_>, options: &CopyOptions) -> Result<Owner> {
    let ids = match &options.chown {
        Some(text) => Some(user_and_group(&Users::read(root)?, text)?),
        None if options.keep_owner => None,
        None => Some((0, 0)),
    };
    Ok(Owner { ids, is_weak: options.chown.is_none(), mode: options.chmod.as_deref().map(Chmod::parse).transpose()? })
}

/// The ids that `--chown` means.
pub(crate) fn user_and_group(users: &Users, text: &str) -> Result<(u32, u32)> {
    let user = users.find(text)?;
    // As in Docker: a number alone is the group's too.
    let gid = if text.parse::<u32>().is_ok() { user.uid } else { user.gid };
    Ok((user.uid, gid))
}

/// One thread reads the sources as an archive, this one unpacks it below the root.
fn carry_out(
    root: BorrowedFd<'_>,
    sources: Vec<Source>,
    first_fetched: usize,
    plan: &Plan,
    owner: Owner,
    (options, ignore): (&CopyOptions, &Ignore),
) -> Result<Digest> {
    let (reader, writer) = std::io::pipe().map_err(Error::io("create", "pipe"))?;
    std::thread::scope(|scope| {
        let sender = scope
            .spawn(move || send(root, sources, first_fetched, plan, owner, (options, ignore), BufWriter::new(writer)));
        let receive = || {
            if let Some(ids) = &options.ids {
                become_root_of(ids)?;
            }
            Ok(unpack(reader, root, Flavour::Plain, Limits::default())?)
        };
        // Whose files a thread makes is its own business.
        let received =
            scope.spawn(receive).join().map_err(|_| Error::Refused("the writing thread ended".to_owned()))?;
        let sent = sender.join().map_err(|_| Error::Refused("the reading thread ended".to_owned()))?;
        match (sent, received) {
            (Ok(digest), Ok(_)) => Ok(digest),
            (Err(error), Ok(_)) => Err(error),
            // The reader's failure breaks the archive; the writer's breaks the pipe. The cause is the other one.
            (Err(error), Err(_)) if !is_broken_pipe(&error) => Err(error),
            (_, Err(error)) => Err(error),
        }
    })
}

/// Lets this thread make files where only ids of these maps are, and change the owners of all: overlayfs(5) does so with
/// the ids of whoever asks. The thread keeps its capabilities.
fn become_root_of(ids: &IdMaps) -> Result<()> {
    let failed = || Error::io::<Errno>("become", "root of the container's user namespace");
    let bits = capabilities_secure_bits().map_err(failed())? | CapabilitiesSecureBits::NO_SETUID_FIXUP;
    set_capabilities_secure_bits(bits).map_err(failed())?;
    let first = |maps: &[IdMapping]| maps.first().map_or(0, |map| map.host_id);
    let uid = ids.host_uid(0).unwrap_or_else(|| first(&ids.uid_mappings));
    set_file_ids(uid, ids.host_gid(0).unwrap_or_else(|| first(&ids.gid_mappings)));
    Ok(())
}

fn is_broken_pipe(error: &Error) -> bool {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
            return true;
        }
        // A transparent error hides its library's own from the chain.
        if matches!(error.downcast_ref(), Some(Error::Layer(hoy_layer::Error::Write(e))) if e.kind() == std::io::ErrorKind::BrokenPipe)
        {
            return true;
        }
        next = error.source();
    }
    false
}

fn send(
    root: BorrowedFd<'_>,
    sources: Vec<Source>,
    first_fetched: usize,
    plan: &Plan,
    owner: Owner,
    (options, ignore): (&CopyOptions, &Ignore),
    output: impl Write,
) -> Result<Digest> {
    let first = sources.first().map(|source| fstat(&source.fd)).transpose();
    let made_at = first.map_err(Error::io("look at", "source"))?.map(|stat| mtime(&stat)).unwrap_or_default();
    let mut to = Destination::new(root, output, owner, made_at);
    (to.ids, to.source_ids) = (options.ids.clone(), options.source_ids.clone());
    to.time = options.time.map(|seconds| Time { seconds, nanoseconds: 0 });
    if plan.is_directory {
        to.directories(&plan.target)?;
    }
    let nothing = Ignore::default();
    for (at, source) in sources.into_iter().enumerate() {
        let is_fetched = at >= first_fetched;
        let ignore = if is_fetched { &nothing } else { ignore };
        let shown = shown(&source.path);
        let target = match &plan.parents {
            Some((root, pivots)) if !is_fetched => {
                parents(root, &source, pivots.get(at).copied().unwrap_or_default(), &plan.target, &mut to)?
            }
            _ => plan.of(&source),
        };
        // What is named by itself is a file of its own, whatever else it is a link of.
        let mut reader = TreeReader::new(ignore);
        if source.is_directory {
            reader.directory(source.fd.as_fd(), &shown, &target, &mut to)?;
        } else if is_link(&source.fd) {
            link(&source.fd, &shown, &target, &mut to)?;
        } else if is_fetched || !(options.unpack && archive(&source, &plan.target, &mut to)?) {
            // The archive's look at it moved the descriptor's position.
            hoy_sys::rustix::fs::seek(&source.fd, hoy_sys::rustix::fs::SeekFrom::Start(0))
                .map_err(Error::io("read", &source.path))?;
            reader.file(source.fd, &shown, &target, &mut to)?;
        }
    }
    let (mut output, digest) = to.finish()?;
    output.flush().map_err(Error::io("write", "archive"))?;
    Ok(digest)
}

/// A source's path relative to its context directory, for the ignore rules and for messages.
fn shown(path: &Path) -> Vec<u8> {
    let parts = path.as_os_str().as_bytes().split(|&c| c == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}
