//! The command line, which is runc's.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::checkpoint::{Checkpoint, Restore};

use crate::events::Events;
use crate::help;
use crate::update::Update;

/// OCI runtime: makes the process that a bundle describes
#[derive(Debug, Parser)]
#[command(name = "hoy-runtime", version = VERSION, disable_help_subcommand = true, disable_version_flag = true)]
#[command(help_template = help::of_program(), mut_subcommands(help::of_command))]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Print version
    #[arg(short = 'v', short_alias = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

/// Options before the command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Directory of the containers' state [default: /run/hoy-runtime, or hoy-runtime in $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// File that errors are also written to
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Form of the lines in that file
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Say on standard error, or in the log, each step, and how long the command took
    #[arg(long)]
    pub(crate) debug: bool,
    /// Have systemd make control groups; the same as --cgroup-manager systemd
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// The criu program [default: criu in $PATH]
    #[arg(long, value_name = "FILE")]
    pub(crate) criu: Option<PathBuf>,
    /// Who makes control groups: this program, systemd, or nobody
    #[arg(long, value_enum, default_value = "cgroupfs", value_name = "MANAGER")]
    pub(crate) cgroup_manager: Manager,
    /// Whether control groups that may not be made are left out [default: auto]
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    pub(crate) rootless: Rootless,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rootless {
    Auto,
    True,
    False,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Manager {
    Cgroupfs,
    Systemd,
    Disabled,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a container; its program waits for "start"
    Create(Create),
    /// Make a container, run its program, and delete the container when it has ended
    Run(Run),
    /// Let the program of a created container begin
    Start(Id),
    /// Print a container's state as JSON
    State(Id),
    /// Send a signal to a container's first process
    Kill(Kill),
    /// Remove a stopped container
    Delete(Delete),
    /// List the containers
    List(List),
    /// Run another program in a running container
    Exec(Exec),
    /// Freeze a container's processes
    Pause(Id),
    /// Let frozen processes go on
    Resume(Id),
    /// List the processes in a container
    Ps(Ps),
    /// Print what a container uses, and when it lacks memory, as lines of JSON
    Events(Events),
    /// Change a container's limits
    Update(Update),
    /// Save the processes of a container as images, through criu
    Checkpoint(Checkpoint),
    /// Make a container from images, through criu
    Restore(Restore),
    /// Write a new config.json
    Spec(Spec),
    /// Print what this runtime can do, as JSON
    Features,
    /// A word that is no command.
    #[command(external_subcommand)]
    Unknown(Vec<OsString>),
}

#[derive(Debug, Args)]
pub(crate) struct Id {
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Configuration, instead of the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Socket that the terminal's master is sent to
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// File that the first process's pid is written to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Socket that a descriptor of the first process is sent to
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Number of descriptors, from 3 on, that the program is given
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Change the root by chroot(2) instead of pivot_root(2)
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Do not wait for the program
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Do not delete the container when its program has ended
    #[arg(long)]
    pub(crate) keep: bool,
    /// Leave orphans of a foreground container to init, as is always done
    #[arg(long)]
    pub(crate) no_subreaper: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Send it to every process in the container
    #[arg(short, long)]
    pub(crate) all: bool,
    /// ID is an extended regular expression: every container where it is found
    #[arg(long)]
    pub(crate) regex: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    pub(crate) signal: String,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Kill it first if it runs; one that does not exist is no failure
    #[arg(short, long)]
    pub(crate) force: bool,
    /// ID is an extended regular expression: every container where it is found
    #[arg(long)]
    pub(crate) regex: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Form of the list
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// Print ids alone
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Form of the list
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Options for ps(1)
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Spec {
    /// Directory that config.json is written in
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// For an ordinary user
    #[arg(long)]
    pub(crate) rootless: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// File with the process as JSON, instead of a command
    #[arg(short, long, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// NAME=VALUE for its environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// UID or UID:GID
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Supplementary group
    #[arg(short = 'g', long, value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// Capability to add; never one that the container has not
    #[arg(short, long, value_name = "CAPABILITY")]
    pub(crate) cap: Vec<String>,
    /// Set no_new_privs
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// Number of descriptors, from 3 on, that the program is given
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
    /// Do not wait for the program
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// File that its pid is written to
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Socket that the terminal's master is sent to
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Socket that a descriptor of it is sent to
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Group below the container's own that it is put into
    #[arg(long, value_name = "[CONTROLLERS:]PATH")]
    pub(crate) cgroup: Vec<String>,
    /// Run it although the container is paused
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}
