//! What ADD fetches: files by HTTP, and repositories by Git.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

use hoy_containerfile::{Ignore, Transfer};
use hoy_layer::{Entry, Kind};

use crate::containerfile::builder::{Builder, open_directory};
use crate::containerfile::state::State;
use crate::containerfile::transfer::Plan;
use crate::destination::Receiver;
use crate::remote::{Checkout, FILE_MODE, GitSource, Remote, RemoteFile, file_name, inside, without_credentials};
use crate::source::Source;
use crate::tree::{TreeReader, archive};
use crate::{Error, Result};

/// A source of ADD that is fetched.
#[derive(Debug)]
pub(crate) enum Elsewhere {
    /// A file.
    File {
        file: RemoteFile,
        /// An archive is unpacked, which has to be asked for (reference "ADD --unpack").
        unpack: bool,
    },
    /// What is in a repository.
    Git {
        source: GitSource,
        keeps_git: bool,
        /// What the server said it means.
        found: OnceLock<Checkout>,
    },
}

impl Elsewhere {
    /// Parts addresses from paths.
    pub(crate) fn split(state: &State, transfer: &Transfer, sources: Vec<String>) -> Result<(Vec<Self>, Vec<String>)> {
        let checksum = transfer.checksum.as_ref().map(|word| state.text(word)).transpose()?;
        let (mut remotes, mut paths) = (Vec::new(), Vec::new());
        for text in sources {
            match Remote::parse(&text)? {
                None => paths.push(text),
                Some(Remote::File(address)) => {
                    let wanted = checksum.as_deref().map(str::parse).transpose()?;
                    let unpack = transfer.unpack == Some(true);
                    remotes.push(Self::File { file: RemoteFile::new(address, wanted), unpack });
                }
                Some(Remote::Git(mut source)) => {
                    checksum.as_deref().map_or(Ok(()), |checksum| source.expect(checksum))?;
                    let keeps_git = transfer.keep_git_dir.or(source.keeps_git) == Some(true);
                    remotes.push(Self::Git { source, keeps_git, found: OnceLock::new() });
                }
            }
        }
        let is_git = |remote: &Self| matches!(remote, Self::Git { .. });
        if checksum.is_some() && (remotes.len(), paths.len()) != (1, 0) {
            return Err(Error::Refused("--checksum is for one source that is fetched".to_owned()));
        }
        if transfer.keep_git_dir == Some(true) && !remotes.iter().any(is_git) {
            return Err(Error::Refused("--keep-git-dir is for Git repositories".to_owned()));
        }
        Ok((remotes, paths))
    }

    /// Whether it has a name in a directory.
    pub(crate) fn check_name(&self) -> Result<()> {
        match self {
            Self::File { file, unpack: false } => file_name(&file.address).map(drop),
            _ => Ok(()),
        }
    }

    /// What it is called, for the cache: where it comes from plays no part, what it is does.
    pub(crate) fn canonical(&self) -> String {
        match self {
            Self::File { file, unpack } => {
                let name = Remote::file_name(&file.address).unwrap_or_default();
                format!(" file {name:?} {unpack}")
            }
            Self::Git { source, keeps_git, .. } => {
                let with = source.submodules != Some(false);
                format!(" git {:?} {keeps_git} {with}", source.subdirectory.as_deref().unwrap_or_default())
            }
        }
    }

    /// Whatever its bytes depend on.
    pub(crate) fn content(&self, builder: &Builder<'_>) -> Result<String> {
        match self {
            Self::File { file, .. } => {
                let digest = file.digest(&builder.options.fetcher, builder.tools, || builder.scratch.directory())?;
                Ok(format!("file {digest}\n"))
            }
            // Of the address that the same commit comes from, submodules and what .git says depend.
            Self::Git { source, found, .. } => {
                Ok(format!("git {} {}\n", source.remote, once(builder, source, found)?.commit))
            }
        }
    }

    /// Hands it to `to`.
    pub(crate) fn send(
        &self,
        builder: &Builder<'_>,
        excludes: &Ignore,
        plan: &Plan,
        to: &mut impl Receiver,
    ) -> Result<()> {
        match self {
            Self::File { file, unpack } => {
                let got = file.get(&builder.options.fetcher, builder.tools, || builder.scratch.directory())?;
                let open = || File::open(&got.path).map_err(Error::io("open", &got.path));
                let shown = PathBuf::from(without_credentials(&file.address));
                let source = Source { fd: OwnedFd::from(open()?), path: shown, is_directory: false };
                if *unpack && archive(&source, &plan.target, to)? {
                    return Ok(());
                }
                let name = if plan.is_directory { file_name(&file.address)? } else { String::new() };
                let mut entry = Entry::new(plan.of(name.as_bytes(), false), Kind::File, FILE_MODE);
                (entry.size, entry.mtime) = (got.size, got.modified);
                to.add(entry, &mut open()?)
            }
            Self::Git { source, keeps_git, found } => {
                let directory = builder.scratch.directory()?;
                once(builder, source, found)?.write(source, *keeps_git, &directory)?;
                let root = open_directory(&inside(&directory, source.subdirectory.as_deref().unwrap_or_default())?)?;
                if !plan.target.is_empty() && !plan.is_directory {
                    to.add(Entry::new(plan.target.as_slice(), Kind::Directory, 0o755), &mut std::io::empty())?;
                }
                let nothing = Ignore::default();
                let mut reader = TreeReader::new(&nothing);
                reader.excludes = Some(excludes);
                reader.directory(root.as_fd(), b"", &plan.target, to)
            }
        }
    }
}

/// What a repository's address means, asked once.
fn once<'a>(builder: &Builder<'_>, source: &GitSource, found: &'a OnceLock<Checkout>) -> Result<&'a Checkout> {
    match found.get() {
        Some(checkout) => Ok(checkout),
        None => builder.options.fetcher.checkout(source).map(|checkout| found.get_or_init(|| checkout)),
    }
}
