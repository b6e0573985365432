//! The command line: podman's.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use hoy_cli::{Context, Result};
use hoy_engine::{Engine, Pull};
use hoy_layout::Roots;
use hoy_oci::Timestamp;
use hoy_spec::Options;

use crate::container::warn;

/// Runs containers with no daemon; "hoy X" is hoy-X where X is none of these commands
#[derive(Debug, Parser)]
#[command(name = "hoy", version, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The store's directory
    #[arg(long, value_name = "DIR", env = "HOY_ROOT", hide_env = true)]
    root: Option<PathBuf>,
    /// The store's volatile directory
    #[arg(long, value_name = "DIR", env = "HOY_RUNROOT", hide_env = true)]
    runroot: Option<PathBuf>,
    /// Further store whose images are used where they are and never changed
    #[arg(long, value_name = "DIR")]
    additional_store: Vec<PathBuf>,
    /// The OCI runtime, a name or path (default hoy-runtime)
    #[arg(long, value_name = "PROGRAM", global = true)]
    pub(crate) runtime: Option<String>,
}

impl Global {
    /// Where the store is: options, environment, the user's own place.
    pub(crate) fn roots(&self) -> Result<Roots> {
        let uid = hoy_sys::rustix::process::getuid().as_raw();
        let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let roots = Roots::from_env(env, uid, hoy_sys::user::is_initial_root());
        Ok(roots.with(self.root.as_deref(), self.runroot.as_deref(), &self.additional_store)?)
    }

    /// The engine on that store.
    pub(crate) fn engine(&self) -> Result<Engine> {
        let mut roots = self.roots()?;
        for problem in roots.leave_out_unreadable() {
            warn(&format!("warning: {}", hoy_cli::Error::from(problem)));
        }
        Ok(Engine::new(roots, now)
            .context(|| "open the store")?
            .telling(|error| hoy_cli::warn_of_damage_once("hoy", error)))
    }
}

/// The time to the second.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).ok().and_then(Timestamp::from_unix).unwrap_or(Timestamp::EPOCH)
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in a new container
    #[command(disable_help_flag = true)]
    Run(Box<RunArgs>),
    /// Run a further command in a running container
    Exec(ExecArgs),
    /// List containers
    Ps(PsArgs),
    /// Remove containers
    Rm(RmArgs),
    /// Show all about containers and images, as JSON
    Inspect(InspectArgs),
    /// Fetch images from their registries
    Pull(PullArgs),
    /// Send an image to a registry
    Push(PushArgs),
    /// List images: hoy-storage images
    #[command(disable_help_flag = true)]
    Images(Rest),
    /// Remove images: hoy-storage rmi
    #[command(disable_help_flag = true)]
    Rmi(Rest),
    /// Give an image another name: hoy-storage tag
    #[command(disable_help_flag = true)]
    Tag(Rest),
    /// Take a name from an image: hoy-storage untag
    #[command(disable_help_flag = true)]
    Untag(Rest),
    /// Show how an image came about: hoy-storage history
    #[command(disable_help_flag = true)]
    History(Rest),
    /// hoy-X
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Words that another program reads.
#[derive(Debug, clap::Args)]
pub(crate) struct Rest {
    /// What that command takes; --help shows it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub(crate) words: Vec<OsString>,
}

/// When `--pull` fetches.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PullWhen {
    /// Each time
    Always,
    /// When it is not in the store
    Missing,
    /// Not at all
    Never,
}

impl From<PullWhen> for Pull {
    fn from(when: PullWhen) -> Self {
        match when {
            PullWhen::Always => Self::Always,
            PullWhen::Missing => Self::Missing,
            PullWhen::Never => Self::Never,
        }
    }
}

/// `hoy run`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "hoy run [OPTIONS] IMAGE [COMMAND [ARGUMENT...]]")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Keep standard input open
    #[arg(short = 'i', long)]
    pub(crate) interactive: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Remove the image too when the container ends; implies --rm
    #[arg(long)]
    pub(crate) rmi: bool,
    /// The container's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Remove a container of the same name first
    #[arg(long)]
    pub(crate) replace: bool,
    /// Set a label
    #[arg(short = 'l', long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Write the container's id to a new file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Hand on this many descriptors, from 3 on
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// When to fetch the image
    #[arg(long, value_name = "WHEN", value_enum, default_value = "missing")]
    pub(crate) pull: PullWhen,
    /// Run in the background
    #[arg(short = 'd', long, hide = true)]
    pub(crate) detach: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// The image's name or id, and a command with its arguments instead of the image's
    #[arg(value_name = "IMAGE", required = true, trailing_var_arg = true)]
    pub(crate) image_and_command: Vec<String>,
}

/// `hoy exec`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "hoy exec [OPTIONS] CONTAINER COMMAND [ARGUMENT...]")]
pub(crate) struct ExecArgs {
    /// Keep standard input open
    #[arg(short = 'i', long)]
    pub(crate) interactive: bool,
    /// Give the process a terminal
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Set an environment variable; NAME alone takes the caller's value
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Run as this user
    #[arg(short = 'u', long, value_name = "USER[:GROUP]", allow_hyphen_values = true)]
    pub(crate) user: Option<String>,
    /// Start in this directory of the container
    #[arg(short = 'w', long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Give the process every capability
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Hand on this many descriptors, from 3 on
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Run in the background
    #[arg(short = 'd', long, hide = true)]
    pub(crate) detach: bool,
    /// The container's name or id, and the command with its arguments
    #[arg(value_name = "CONTAINER", num_args = 2.., required = true, trailing_var_arg = true)]
    pub(crate) container_and_command: Vec<String>,
}

/// `hoy ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct PsArgs {
    /// Also those that do not run
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
    /// Only ids
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// No line with headings
    #[arg(long)]
    pub(crate) noheading: bool,
    /// name=…, id=…, status=…, ancestor=…, label=…, exited=…
    #[arg(short = 'f', long, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
}

/// `hoy rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Also running ones, which are killed
    #[arg(short = 'f', long)]
    pub(crate) force: bool,
    /// All containers
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
    /// One that is not there is no failure
    #[arg(short = 'i', long)]
    pub(crate) ignore: bool,
    /// Names or ids
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) containers: Vec<String>,
}

/// `hoy inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// A Go template, or json
    #[arg(short = 'f', long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// What the names mean
    #[arg(short = 't', long = "type", value_name = "TYPE", value_enum, default_value = "all")]
    pub(crate) kind: Kind,
    /// Names or ids
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// What `hoy inspect` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A container, else an image
    All,
    /// Containers alone
    Container,
    /// Images alone
    Image,
}

/// How a registry is talked to.
#[derive(Debug, clap::Args)]
pub(crate) struct RegistryArgs {
    /// Check the registry's certificate
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) tls_verify: Option<bool>,
    /// USER:PASSWORD for the registry
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) creds: Option<String>,
    /// A file with credentials
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<String>,
    /// No progress
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
}

/// `hoy pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Full names, as docker.io/library/debian:12
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// `hoy push`.
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Write the digest of what was sent to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    /// The image's name or id
    pub(crate) image: String,
    /// Where to, if not by the image's own name
    pub(crate) destination: Option<String>,
}
