//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The store of images and containers: unpack, mount, compare, check, prune
#[derive(Debug, Parser)]
#[command(name = "hoy-storage", version)]
pub(crate) struct Args {
    /// Directory of the store
    #[arg(long, value_name = "DIR", env = "HOY_ROOT", hide_env_values = true, global = true)]
    pub(crate) root: Option<PathBuf>,
    /// Directory of volatile state
    #[arg(long, value_name = "DIR", env = "HOY_RUNROOT", hide_env_values = true, global = true)]
    pub(crate) runroot: Option<PathBuf>,
    /// Further store whose images and layers are used where they are and never changed; HOY_ADDITIONAL_STORES lists such too
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) additional_store: Vec<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a container from an image, mount its root file system, print its id
    Create(Create),
    /// Mount root file systems of containers or images and print where; without a name, list what is mounted
    Mount(Mount),
    /// Unmount root file systems of containers or images
    #[command(alias = "unmount")]
    Umount(Umount),
    /// Remove containers with everything written in them
    Rm(Rm),
    /// Give a container another name
    Rename(Rename),
    /// Print what a container changed since its image
    Diff(Diff),
    /// Write a container's root file system as one tar archive
    Export(Export),
    /// List containers
    #[command(visible_alias = "ps")]
    Containers(Containers),
    /// Make a directory the root file system of an image, without a mount
    Unpack(Unpack),
    /// List images
    Images(Images),
    /// Give an image more names
    Tag(Tag),
    /// Take names away from an image
    Untag(Untag),
    /// Remove images, or names of images
    Rmi(Rmi),
    /// Show how an image was made
    History(History),
    /// Make an image from a tar archive of a root file system, print its id
    Import(Import),
    /// Write an image to an archive
    Save(Save),
    /// Bring the images of an archive into the store
    Load(Load),
    /// Show an image's layers, and which images have them too
    Tree(Tree),
    /// Remove what nothing needs
    Prune(Prune),
    /// Look for damage; exit with 1 when there is some
    Check(Check),
    /// Show how much disk space the store takes
    Df(Df),
    /// Say what this machine and user can do, and what to do about each lack; exit with 1 when something is missing
    Doctor(Doctor),
    /// Remove everything: containers, images, unpacked layers
    Reset(Reset),
    /// Run a command where this user's mounts are visible and files of all its ids can be written
    Unshare(Unshare),
    /// Keep a user and a mount namespace (started by other commands)
    #[command(hide = true)]
    Hold(Hold),
    /// Write the id maps of the process that asked for it (started by other commands)
    #[command(hide = true)]
    MapIds(MapIds),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Bundle directory, in which rootfs is mounted [default: the container's own]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// Name that no other container has
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The container need not survive a power cut
    #[arg(long)]
    pub(crate) volatile: bool,
    /// The root file system is a plain directory and no mount
    #[arg(long)]
    pub(crate) plain: bool,
    /// Put FILE into the container's directory as NAME.json before anybody sees the container
    #[arg(long, value_name = "NAME=FILE")]
    pub(crate) record: Vec<String>,
    #[command(flatten)]
    pub(crate) ids: Ids,
    /// Image in the store, or "scratch" for an empty root file system
    pub(crate) image: String,
}

/// The user namespace of a container, as podman has it.
#[derive(Debug, clap::Args)]
pub(crate) struct Ids {
    /// The container's user namespace: auto, keep-id, nomap, host, private, container:ID, ns:PATH
    #[arg(long, value_name = "MODE[:OPTIONS]")]
    userns: Option<String>,
    /// Map user ids into the container
    #[arg(long, value_name = "CONTAINER:HOST:SIZE")]
    uidmap: Vec<String>,
    /// Map group ids into the container
    #[arg(long, value_name = "CONTAINER:HOST:SIZE")]
    gidmap: Vec<String>,
    /// Map the user ids that /etc/subuid gives to this name
    #[arg(long, value_name = "NAME")]
    subuidname: Option<String>,
    /// Map the group ids that /etc/subgid gives to this name
    #[arg(long, value_name = "NAME")]
    subgidname: Option<String>,
}

impl From<Ids> for hoy_storage::IdOptions {
    fn from(ids: Ids) -> Self {
        let Ids { userns, uidmap, gidmap, subuidname, subgidname } = ids;
        Self { userns, uidmap, gidmap, subuidname, subgidname }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Mount {
    /// Mount images, read-only, and not containers; without an image, list which are mounted
    #[arg(short, long)]
    pub(crate) image: bool,
    /// Names, ids or unique beginnings of ids
    #[arg(value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Umount {
    /// Unmount images and not containers
    #[arg(short, long)]
    pub(crate) image: bool,
    /// Unmount also while it is in use
    #[arg(short, long)]
    pub(crate) force: bool,
    /// All containers
    #[arg(short, long, conflicts_with = "containers")]
    pub(crate) all: bool,
    /// Names, ids or unique beginnings of ids
    #[arg(value_name = "CONTAINER", required_unless_present = "all")]
    pub(crate) containers: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// Remove also while it is in use, and do not complain about what does not exist
    #[arg(short, long)]
    pub(crate) force: bool,
    /// All containers
    #[arg(short, long, conflicts_with = "containers")]
    pub(crate) all: bool,
    /// Names, ids or unique beginnings of ids
    #[arg(value_name = "CONTAINER", required_unless_present = "all")]
    pub(crate) containers: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rename {
    /// Name, id or unique beginning of an id
    pub(crate) container: String,
    /// Name that no other container has
    pub(crate) name: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// Write the layer that makes these changes, a tar archive
    #[arg(long, conflicts_with = "json")]
    pub(crate) tar: bool,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Set file times after this to it, in seconds since 1970
    #[arg(long, value_name = "SECONDS", requires = "tar")]
    pub(crate) clamp: Option<i64>,
    /// Name, id or unique beginning of an id
    pub(crate) container: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// File to write; "-" is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,
    /// Set file times after this to it, in seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    pub(crate) clamp: Option<i64>,
    /// Name, id or unique beginning of an id
    pub(crate) container: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Containers {
    /// Write JSON
    #[arg(long, conflicts_with_all = ["format", "quiet"])]
    pub(crate) json: bool,
    /// "json", "table TEMPLATE" or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Leave the heading out
    #[arg(short, long)]
    pub(crate) noheading: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Unpack {
    /// Image in the store
    pub(crate) image: String,
    /// Directory that is empty or does not exist
    pub(crate) directory: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Images {
    /// Images of this name, or whose names this pattern fits, only
    pub(crate) image: Option<String>,
    /// Only images that this is true of, as dangling=true, label=KEY, reference=PATTERN, until=TIME
    #[arg(short, long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// "json", "table TEMPLATE" or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Print ids only
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show digests of manifests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Show all names of each image
    #[arg(long)]
    pub(crate) history: bool,
    /// Leave the heading out
    #[arg(short, long)]
    pub(crate) noheading: bool,
    /// Order of the list
    #[arg(long, value_name = "FIELD", value_enum, default_value = "created")]
    pub(crate) sort: SortBy,
    /// Show all images, which is the default: there are no hidden intermediate ones
    #[arg(short, long)]
    pub(crate) all: bool,
}

/// What a list of images is sorted by.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum SortBy {
    Created,
    Id,
    Repository,
    Size,
    Tag,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Tag {
    /// Image in the store
    pub(crate) image: String,
    /// New names
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Untag {
    /// Image in the store
    pub(crate) image: String,
    /// Names to take away [default: all]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rmi {
    /// Remove also what a container uses, and do not complain about what does not exist
    #[arg(short, long)]
    pub(crate) force: bool,
    /// All images
    #[arg(short, long, conflicts_with = "images")]
    pub(crate) all: bool,
    /// Names or ids
    #[arg(value_name = "IMAGE", required_unless_present = "all")]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// Image in the store
    pub(crate) image: String,
    /// "json", "table TEMPLATE" or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Print ids only
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) quiet: bool,
    /// Sizes and times as people read them, and not exactly
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) human: bool,
    /// Do not shorten commands and ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// Archive, compressed or not; "-" is standard input
    pub(crate) path: PathBuf,
    /// Name of the image
    pub(crate) reference: Option<String>,
    /// Instruction of a Containerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Comment on the step in the image's history
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Processor that the image is for, instead of this machine's
    #[arg(long)]
    pub(crate) arch: Option<String>,
    /// Operating system that the image is for, instead of linux
    #[arg(long)]
    pub(crate) os: Option<String>,
    /// Variant of the processor
    #[arg(long)]
    pub(crate) variant: Option<String>,
    /// Say nothing on standard error, as is always so
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What an archive is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ArchiveFormat {
    DockerArchive,
    OciArchive,
    OciDir,
    DockerDir,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Save {
    /// Image in the store
    pub(crate) image: String,
    /// Further names of the image in the archive
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// The further names are those of other images, which the archive gets too
    #[arg(short, long)]
    pub(crate) multi_image_archive: bool,
    /// File, or directory; a docker-archive is not overwritten [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value = "docker-archive")]
    pub(crate) format: ArchiveFormat,
    /// No progress on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// Archive of docker save, or of an OCI layout, compressed or not [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// No progress on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Tree {
    /// Image in the store
    pub(crate) image: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Reset {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Remove also images that no container was made from
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only images that this is true of: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// Remove images that no container was made from, those not used for longest first, until no more disk space is taken
    #[arg(long, value_name = "SIZE", value_parser = crate::words::size, conflicts_with = "all")]
    pub(crate) max_size: Option<u64>,
    /// Remove also unpacked layers that no container has; they are unpacked again when needed
    #[arg(long)]
    pub(crate) all_layers: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Unpack every layer again and compare
    #[arg(long)]
    pub(crate) deep: bool,
    /// Mend what can be mended: index, records, unpacked layers; remove damaged blobs
    #[arg(long)]
    pub(crate) repair: bool,
    /// Write JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Df {
    /// Each image and container
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) verbose: bool,
    /// "json", "table TEMPLATE" or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// "json", "table TEMPLATE" or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Unshare {
    /// Command and its arguments [default: $SHELL]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MapIds {
    pub(crate) pid: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Hold {
    /// Descriptors are closed
    #[arg(long)]
    pub(crate) closed: bool,
}
