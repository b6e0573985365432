//! `checkpoint` and `restore`: their options, which are runc's, and what they mean.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hoy_cli::{Error, Result};
use hoy_runtime::{CgroupMode, CheckpointOptions, CreateOptions, Images, RestoreOptions};

/// What both are told.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Directory of the images
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    image_path: PathBuf,
    /// Directory of criu's log [default: that of the images]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Open TCP connections are allowed
    #[arg(long)]
    tcp_established: bool,
    /// Unix sockets with a peer outside are allowed
    #[arg(long)]
    ext_unix_sk: bool,
    /// A terminal of the caller's is allowed
    #[arg(long)]
    shell_job: bool,
    /// File locks are handled
    #[arg(long)]
    file_locks: bool,
    /// Pages are sent when they are asked for
    #[arg(long)]
    lazy_pages: bool,
    /// Pages saved twice are removed
    #[arg(long)]
    auto_dedup: bool,
    /// Files without a name get one while they are saved
    #[arg(long)]
    link_remap: bool,
    /// Namespace to leave empty
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<EmptyNamespace>,
    /// What is done with control groups
    #[arg(long, value_enum, default_value = "soft", value_name = "MODE")]
    manage_cgroups_mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Soft,
    Full,
    Strict,
    Ignore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EmptyNamespace {
    Network,
}

#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    common: Common,
    /// Earlier images that these add to, relative to their directory
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Let the container go on
    #[arg(long)]
    leave_running: bool,
    /// Save memory alone, and let the container go on
    #[arg(long)]
    pre_dump: bool,
    /// Leave half-open TCP connections out
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Who takes the pages
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Descriptor that a NUL byte is written to when pages can be asked for
    #[arg(long, value_name = "FD")]
    status_fd: Option<i32>,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    common: Common,
    /// Directory with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Socket that the terminal's master is sent to
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File that the first process's pid is written to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Do not wait for the program
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Has no effect: criu enters the root as it did before
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Leave orphans of a foreground container to init, as is always done
    #[arg(long)]
    no_subreaper: bool,
    /// Restore TCP connections closed
    #[arg(long)]
    tcp_close: bool,
    /// Another profile of the security module: TYPE:NAME
    #[arg(long, value_name = "PROFILE")]
    lsm_profile: Option<String>,
    /// Another SELinux label for mounts
    #[arg(long, value_name = "LABEL")]
    lsm_mount_context: Option<String>,
    /// The container
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

fn images(common: Common, criu: Option<PathBuf>) -> Images {
    Images {
        criu: criu.unwrap_or_else(|| PathBuf::from("criu")),
        directory: common.image_path,
        work: common.work_path,
        tcp_established: common.tcp_established,
        ext_unix_sk: common.ext_unix_sk,
        shell_job: common.shell_job,
        file_locks: common.file_locks,
        lazy_pages: common.lazy_pages,
        auto_dedup: common.auto_dedup,
        empty_network: common.empty_ns.contains(&EmptyNamespace::Network),
        link_remap: common.link_remap,
        cgroups: match common.manage_cgroups_mode {
            Mode::Soft => CgroupMode::Soft,
            Mode::Full => CgroupMode::Full,
            Mode::Strict => CgroupMode::Strict,
            Mode::Ignore => CgroupMode::Ignore,
        },
    }
}

impl Checkpoint {
    /// What it asks of the runtime.
    pub(crate) fn options(self, criu: Option<PathBuf>) -> Result<CheckpointOptions> {
        Ok(CheckpointOptions {
            images: images(self.common, criu),
            parent: self.parent_path,
            leave_running: self.leave_running,
            pre_dump: self.pre_dump,
            tcp_skip_in_flight: self.tcp_skip_in_flight,
            page_server: self.page_server.as_deref().map(page_server).transpose()?,
            status_fd: self.status_fd,
        })
    }
}

impl Restore {
    /// What it asks of the runtime; `create` has what the options before the command say.
    pub(crate) fn options(self, create: CreateOptions, criu: Option<PathBuf>) -> RestoreOptions {
        RestoreOptions {
            create: CreateOptions {
                bundle: self.bundle,
                console_socket: self.console_socket,
                pid_file: self.pid_file,
                no_new_keyring: self.no_new_keyring,
                ..create
            },
            images: images(self.common, criu),
            tcp_close: self.tcp_close,
            lsm_profile: self.lsm_profile,
            lsm_mount_context: self.lsm_mount_context,
            detach: self.detach,
        }
    }
}

fn page_server(text: &str) -> Result<(String, u16)> {
    let parts = text.rsplit_once(':').and_then(|(address, port)| Some((address.to_owned(), port.parse().ok()?)));
    parts.ok_or_else(|| Error::msg(format!("page server \"{text}\" is not ADDRESS:PORT")))
}
