//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use hoy_build::{Filter, Format, Settings};

use crate::access::{Access, BlobCache, PlatformArgs, Receiving, Sending};
use crate::build_args::BuildArgs;
use crate::context::Context;
use crate::global::Global;
use crate::history::HistoryArgs;
use crate::images::ImagesArgs;
use crate::manifest::ManifestAction;
use crate::namespaces::Namespaces;
use crate::never::{NeverInCommit, NeverInCopies, NeverInRun, NeverNetworks};
use crate::said::SaidArgs;
use crate::sbom::{SbomArgs, SbomOutputs};
use crate::source::SourceAction;
use crate::surroundings::Surroundings;
use crate::userns::UserNamespace;
use crate::verify::VerifyArgs;

/// Make images: working containers that are changed from the shell and committed
#[derive(Debug, Parser)]
// Of an option that is given twice the last counts, as in buildah: scripts add to options that they were given.
#[command(name = "hoy-build", version, max_term_width = 100, args_override_self = true)]
pub(crate) struct Command {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Make a working container from an image, or from "scratch", and print its name
    From(FromArgs),
    /// Mount working containers and print where; list what is mounted
    Mount(MountArgs),
    /// Unmount working containers
    #[command(visible_alias = "unmount")]
    Umount(SomeArgs),
    /// Copy files and directories into a working container
    Copy(CopyingArgs),
    /// Copy likewise, unpacking archives
    Add(AddArgs),
    /// Change what the image will say about itself
    Config(Box<ConfigArgs>),
    /// Run a command in a working container
    Run(Box<RunArgs>),
    /// Make an image of a working container and print its id
    Commit(CommitArgs),
    /// Make an image by the instructions of a Containerfile and print its id
    #[command(visible_alias = "bud", alias = "build-using-dockerfile")]
    Build(Box<BuildArgs>),
    /// List working containers
    #[command(visible_alias = "list", alias = "ls", alias = "ps")]
    Containers(ContainersArgs),
    /// List images
    Images(ImagesArgs),
    /// Describe a working container or an image
    Inspect(InspectArgs),
    /// Remove working containers
    #[command(visible_alias = "delete")]
    Rm(SomeArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Fetch an image and print its id
    Pull(PullArgs),
    /// Remove what builds left, images without a name, and what nothing needs
    Prune(PruneArgs),
    /// Send an image to a registry or elsewhere
    Push(PushArgs),
    /// List what software an image consists of, as SPDX or CycloneDX
    Sbom(SbomArgs),
    /// Build an image again, and tell whether it is the same
    Verify(Box<VerifyArgs>),
    /// Tell of the last builds, and how long their steps took
    History(HistoryArgs),
    /// Give an image further names
    Tag(Rest),
    /// Give a working container another name
    Rename(RenameArgs),
    /// Run a command where an ordinary user's mounts are visible
    Unshare(UnshareArgs),
    /// Log in to a registry; the options are those of hoy-copy login
    Login(Rest),
    /// Log out of a registry; the options are those of hoy-copy logout
    Logout(Rest),
    /// Print what this program works with
    Info(InfoArgs),
    /// Print the version
    Version(VersionArgs),
    /// Wait for the end of a build and remove what it left (started by builds)
    #[command(hide = true)]
    Keep(Keep),
    /// Make and change indexes of images
    #[command(subcommand)]
    Manifest(ManifestAction),
    /// Run a command in a changed root directory, spoken to as an OCI runtime
    #[command(hide = true)]
    InRoot(InRoot),
    /// Make, send and fetch images of sources
    #[command(subcommand)]
    Source(SourceAction),
    /// Never there: images of confidential workloads
    #[command(hide = true)]
    Mkcw(Rest),
    /// Never there: a server
    #[command(hide = true)]
    Rpc(Rest),
}

/// What another program understands.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Rest {
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct UnshareArgs {
    /// Mount a working container while the command runs, and put its path into this variable (default: its name)
    #[arg(short, long, value_name = "[VARIABLE=]CONTAINER")]
    pub(crate) mount: Vec<String>,
    /// The command and its arguments (default: $SHELL)
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct FromArgs {
    /// An image's name, TRANSPORT:DETAILS, or "scratch"
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub(crate) image: Option<String>,
    /// Go on from where the last build failed, or the one whose id begins so
    #[arg(long, value_name = "ID", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) resume: Option<String>,
    /// Name of the working container
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// End of a name that is made of the image's (default: working-container)
    #[arg(long, value_name = "TEXT", conflicts_with = "name")]
    pub(crate) suffix: Option<String>,
    /// Also write the container's id into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// When to fetch the image: missing (if it is not there; default), true or newer, always, false or never
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) pull: Option<String>,
    /// Fetch the image even if it is there
    #[arg(long, conflicts_with_all = ["pull", "pull_never"])]
    pub(crate) pull_always: bool,
    /// Never fetch the image
    #[arg(long, conflicts_with = "pull")]
    pub(crate) pull_never: bool,
    /// Say nothing while fetching
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// What its image is to be: oci or docker
    #[arg(short, long, value_name = "FORMAT", env = "BUILDAH_FORMAT", hide_env = true)]
    pub(crate) format: Option<Format>,
    #[command(flatten)]
    pub(crate) never: NeverNetworks,
    #[command(flatten)]
    pub(crate) surroundings: Surroundings,
    #[command(flatten)]
    pub(crate) receiving: Receiving,
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) blobs: BlobCache,
    #[command(flatten)]
    pub(crate) platform: PlatformArgs,
    #[command(flatten)]
    pub(crate) ids: UserNamespace,
}

#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    /// Working containers; none lists what is mounted
    pub(crate) containers: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SomeArgs {
    /// Working containers
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) containers: Vec<String>,
    /// All working containers
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Also the cache of builds, and all images that no container was made from
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Also images that containers were made from, with these containers
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// Images
    #[arg(required_unless_present_any = ["all", "prune"], conflicts_with_all = ["all", "prune"])]
    pub(crate) images: Vec<String>,
    /// All images
    #[arg(short, long, conflicts_with = "prune")]
    pub(crate) all: bool,
    /// Also with the containers made from them, and an id with all its names
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Images that have no name
    #[arg(short, long)]
    pub(crate) prune: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// The working container
    pub(crate) container: String,
    /// Its new name
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Remember this step in the image's history
    #[arg(long, env = "BUILDAH_HISTORY", hide_env = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) add_history: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// The working container
    pub(crate) container: String,
    /// Files, directories and patterns; the last of several is where they go
    #[arg(required = true, value_name = "SOURCE… [DESTINATION]", num_args = 1..)]
    pub(crate) paths: Vec<PathBuf>,
    /// Owner of what is copied, by the names of the container
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) chown: Option<String>,
    /// Permissions of what is copied, in octal
    #[arg(long, value_name = "MODE")]
    pub(crate) chmod: Option<String>,
    /// Sources are inside this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) contextdir: Option<PathBuf>,
    /// Sources are inside this working container or image
    #[arg(long, value_name = "CONTAINER|IMAGE")]
    pub(crate) from: Option<String>,
    /// Leave out what this file of patterns names
    #[arg(long, value_name = "FILE")]
    pub(crate) ignorefile: Option<PathBuf>,
    /// Leave out what this pattern names; those of an ignore file come first
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// Take patterns in the names of sources (default true); false makes one an error
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) allow_wildcard: bool,
    /// A pattern that nothing matches is no error
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) allow_empty_wildcard: bool,
    /// Copy links that are named themselves, and not what they lead to
    #[arg(long)]
    pub(crate) no_follow_symlinks: bool,
    /// The time that all copied files get, in seconds since 1970
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) timestamp: Option<i64>,
    /// Do not print the digest of what was copied
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) history: History,
    #[command(flatten)]
    pub(crate) never: NeverInCopies,
}

/// What is copied, and how.
#[derive(Debug, Args)]
pub(crate) struct CopyingArgs {
    #[command(flatten)]
    pub(crate) args: AddArgs,
    /// Make the directories that lead to a source too, below a "/./" in its path if there is one
    #[arg(long)]
    pub(crate) parents: bool,
}

/// What is copied, and how it is fetched where it is elsewhere.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) copy: CopyArgs,
    /// The digest of a file that is fetched, or the commit of a repository
    #[arg(long, value_name = "DIGEST|COMMIT")]
    pub(crate) checksum: Option<String>,
    /// Directory of certificates
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<String>,
    /// Require a trusted certificate (default true)
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) tls_verify: Option<bool>,
    /// How many times to repeat what may pass the next time
    #[arg(long, value_name = "N")]
    pub(crate) retry: Option<u32>,
    /// How long to wait before it is repeated
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_delay: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The working container
    pub(crate) container: String,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) history: History,
}

/// What a command in a container may have, and who runs it.
#[derive(Debug, Args)]
pub(crate) struct Confinement {
    /// Bind a directory or file of the host
    #[arg(short, long, value_name = "SOURCE:TARGET[:OPTIONS]")]
    pub(crate) volume: Vec<String>,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Take away a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// Give access to a device of the host, by its path or by a name that CDI has for it
    #[arg(long, value_name = "HOST[:TARGET][:rwm]|VENDOR/CLASS=NAME")]
    pub(crate) device: Vec<String>,
    /// Where devices of vendors are described (default: /etc/cdi and /var/run/cdi)
    #[arg(long, value_name = "DIR")]
    pub(crate) cdi_config_dir: Vec<PathBuf>,
    /// The OCI runtime, a name or a path (default hoy-runtime)
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "BUILDAH_RUNTIME",
        hide_env = true,
        default_value = "hoy-runtime",
        hide_default_value = true
    )]
    pub(crate) runtime: String,
    /// An option for the runtime, without its leading dashes
    #[arg(long, value_name = "OPTION")]
    pub(crate) runtime_flag: Vec<String>,
}

impl Confinement {
    /// The runtime's options as it reads them, behind those of the whole program.
    pub(crate) fn runtime_flags(&self, context: &Context) -> Vec<String> {
        let own = self.runtime_flag.iter().map(|flag| format!("--{flag}"));
        context.is_systemd.then(|| "--systemd-cgroup".to_owned()).into_iter().chain(own).collect()
    }
}

#[derive(Debug, Args)]
#[command(override_usage = "hoy-build run [OPTIONS] CONTAINER [--] COMMAND [ARGUMENT...]")]
pub(crate) struct RunArgs {
    /// The working container, and the command with its arguments
    #[arg(value_name = "CONTAINER", num_args = 1.., required = true, trailing_var_arg = true)]
    pub(crate) container_and_command: Vec<String>,
    /// Set an environment variable; NAME alone takes the caller's value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Run as this user
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Start in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) workingdir: Option<String>,
    /// Mount: type=bind,source=…,target=… or type=tmpfs,target=…
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub(crate) mount: Vec<String>,
    /// Give the command a terminal (default: if standard input is one)
    #[arg(short, long, visible_alias = "terminal", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) tty: Option<bool>,
    /// Host name
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// host or none (default none)
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    pub(crate) network: Option<String>,
    #[command(flatten)]
    pub(crate) namespaces: Namespaces,
    /// Exit codes that are no failure: 0 is given instead
    #[arg(long, value_name = "CODE,…", value_delimiter = ',')]
    pub(crate) valid_exit_codes: Vec<u8>,
    #[command(flatten)]
    pub(crate) never: NeverInRun,
    #[command(flatten)]
    pub(crate) may: Confinement,
    /// oci or rootless, which are one here, or chroot, where nothing else can be had
    #[arg(long, value_name = "TYPE", value_parser = ["oci", "rootless", "chroot"], env = "BUILDAH_ISOLATION", hide_env = true,
          hide_possible_values = true)]
    pub(crate) isolation: Option<String>,
    #[command(flatten)]
    pub(crate) history: History,
}

#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// The working container
    pub(crate) container: String,
    /// The image's name, or TRANSPORT:DETAILS; none leaves the image without a name
    pub(crate) image: Option<String>,
    /// oci or docker
    #[arg(short, long, value_name = "FORMAT", env = "BUILDAH_FORMAT", hide_env = true)]
    pub(crate) format: Option<Format>,
    /// One layer holds everything
    #[arg(long)]
    pub(crate) squash: bool,
    /// Remove the working container afterwards
    #[arg(long)]
    pub(crate) rm: bool,
    /// Write the image's id into this file instead of printing it
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Say nothing while sending
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The latest time in the image, in seconds since 1970, or now
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timestamp: Option<String>,
    /// The latest time in the image is when this file was changed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["timestamp", "omit_timestamp"])]
    pub(crate) reference_time: Option<PathBuf>,
    /// The latest time in the image is 1970
    #[arg(long, conflicts_with = "timestamp")]
    pub(crate) omit_timestamp: bool,
    /// The image tells nothing of how it was made
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) omit_history: bool,
    /// Do not compress the new layer
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) disable_compression: bool,
    /// The same as --timestamp, weaker
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", hide_env = true)]
    pub(crate) source_date_epoch: Option<String>,
    /// Times in the new layer are no later than that; only true, for it is always so
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = ["true"], hide_possible_values = true)]
    pub(crate) rewrite_timestamp: Option<String>,
    /// An instruction of a Containerfile that changes the configuration: CMD, ENV, LABEL, …
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// A file with a container configuration in Docker's JSON, which wins over the image's
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Put a file into the image that its container has not, mode 644 and the superuser's
    #[arg(long, value_name = "SOURCE[:PATH]", conflicts_with = "squash")]
    pub(crate) add_file: Vec<String>,
    /// Add the image to the index of this name, which is made where it is missing
    #[arg(long, value_name = "NAME")]
    pub(crate) manifest: Option<String>,
    /// Describe the image in this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) said: SaidArgs,
    #[command(flatten)]
    pub(crate) sbom: SbomOutputs,
    #[command(flatten)]
    pub(crate) never: NeverInCommit,
    #[command(flatten)]
    pub(crate) sending: Sending,
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) blobs: BlobCache,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// An image's name or TRANSPORT:DETAILS
    pub(crate) image: String,
    /// Fetch the images of all tags that the repository has
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// When to fetch the image: missing (default), newer, always, never
    #[arg(long, value_name = "WHEN")]
    pub(crate) policy: Option<String>,
    /// Say nothing while fetching
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Leave signatures behind
    #[arg(long)]
    pub(crate) remove_signatures: bool,
    #[command(flatten)]
    pub(crate) receiving: Receiving,
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) blobs: BlobCache,
    #[command(flatten)]
    pub(crate) platform: PlatformArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The image
    pub(crate) image: String,
    /// TRANSPORT:DETAILS, or a name at a registry (default: the image's own name)
    pub(crate) destination: Option<String>,
    /// Send all images of a list
    #[arg(long)]
    pub(crate) all: bool,
    /// oci or v2s2 (default: as it is)
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Write the manifest's digest into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<String>,
    /// Say nothing while sending
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Remove the image's name from the store afterwards
    #[arg(long)]
    pub(crate) rm: bool,
    /// Do not compress layers there; the same as --compression-format none
    #[arg(short = 'D', long, conflicts_with_all = ["compression_format", "compression_level", "force_compression"])]
    pub(crate) disable_compression: bool,
    #[command(flatten)]
    pub(crate) sending: Sending,
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) blobs: BlobCache,
}

#[derive(Debug, Args)]
pub(crate) struct ContainersArgs {
    /// Also list containers that were not made here
    #[arg(short, long)]
    pub(crate) all: bool,
    /// List those with id=, name= or ancestor=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<Filter>,
    /// Print by a Go template
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    pub(crate) format: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print no headings
    #[arg(short, long)]
    pub(crate) noheading: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) notruncate: bool,
    /// Print ids alone
    #[arg(short, long, conflicts_with_all = ["json", "format"])]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A working container or an image
    pub(crate) object: String,
    /// What it is: container, image or manifest, an index of images (default: container or image)
    #[arg(short = 't', long = "type", value_name = "TYPE", value_parser = ["container", "image", "manifest"],
          hide_possible_values = true)]
    pub(crate) kind: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Tell of this program, too
    #[arg(short, long)]
    pub(crate) debug: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Print by a Go template
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Keep {
    /// The build's own directory; without it only what is read is written again
    pub(crate) scratch: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct InRoot {
    /// Where it is known what runs
    #[arg(long)]
    pub(crate) root: PathBuf,
    /// Where failures are told
    #[arg(long)]
    pub(crate) log: Option<PathBuf>,
    /// In which form
    #[arg(long, value_parser = ["json"])]
    pub(crate) log_format: Option<String>,
    #[command(subcommand)]
    pub(crate) action: InRootAction,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum InRootAction {
    /// Become the command
    Run {
        /// Where its configuration is
        #[arg(long)]
        bundle: PathBuf,
        /// What it is called
        id: String,
    },
    /// Kill what is left of it
    Delete {
        /// It need not be there
        #[arg(long)]
        force: bool,
        /// What it is called
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
