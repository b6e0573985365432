//! The flags of `sync`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::args::ManifestType;
use crate::progress::Target;
use crate::rate::Rate;
use crate::side::{DestinationAccess, Retry, SourceAccess};
use crate::signing_args::Signing;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SyncSource {
    Docker,
    Dir,
    Yaml,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SyncDestination {
    Docker,
    Dir,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// What the source is
    #[arg(short, long, value_enum)]
    pub(crate) src: SyncSource,
    /// What the destination is
    #[arg(short, long, value_enum)]
    pub(crate) dest: SyncDestination,
    /// An image or a repository, a directory, or a file that lists images
    pub(crate) source: String,
    /// A registry with a path, or a directory
    pub(crate) destination: String,
    /// Copy all images of lists of them
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Print what would be copied
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go on after an image that cannot be copied
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Afterwards delete the tags that the repositories at the destination have and the source has not
    #[arg(long)]
    pub(crate) prune: bool,
    /// Keep the source's whole name at the destination
    #[arg(long)]
    pub(crate) scoped: bool,
    /// What to put behind each tag at the destination
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    pub(crate) append_suffix: String,
    /// Move no more than this many bytes a second, such as 500K, 10M or 1G
    #[arg(long, value_name = "RATE")]
    pub(crate) limit_rate: Option<Rate>,
    /// Tell a program how far it is: JSON lines on this descriptor, or on standard error
    #[arg(long, value_name = "json[:FD]")]
    pub(crate) progress: Option<Target>,
    /// Also write digest and name of each image into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    /// Type of the manifests to write (default: as they are)
    #[arg(short, long, value_enum, value_name = "TYPE")]
    pub(crate) format: Option<ManifestType>,
    /// Fail if a digest would change
    #[arg(long)]
    pub(crate) preserve_digests: bool,
    /// Credentials file for both sides
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) src_access: SourceAccess,
    #[command(flatten)]
    pub(crate) dest_access: DestinationAccess,
    #[command(flatten)]
    pub(crate) signing: Signing,
    #[command(flatten)]
    pub(crate) retry: Retry,
}
