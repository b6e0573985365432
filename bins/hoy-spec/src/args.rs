//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Prints the runtime config.json for an image of the store and the options of podman create
#[derive(Debug, Parser)]
#[command(
    name = "hoy-spec",
    version,
    disable_help_flag = true,
    override_usage = "hoy-spec [OPTION…] IMAGE [-- COMMAND…]"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) options: hoy_spec::Options,
    /// Look users up in this root file system instead of the image's layers
    #[arg(long, value_name = "DIR")]
    pub(crate) rootfs: Option<PathBuf>,
    /// Take the ids of the user namespace from this container of the store, made with hoy-storage create --userns
    #[arg(long, value_name = "CONTAINER")]
    pub(crate) container: Option<String>,
    /// The store's directory
    #[arg(long, value_name = "DIR", env = "HOY_ROOT", hide_env = true)]
    pub(crate) root: Option<PathBuf>,
    /// The store's volatile directory
    #[arg(long, value_name = "DIR", env = "HOY_RUNROOT", hide_env = true)]
    pub(crate) runroot: Option<PathBuf>,
    /// Further store whose images are used where they are and never changed
    #[arg(long, value_name = "DIR")]
    pub(crate) additional_store: Vec<PathBuf>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
    /// The image: a name or id, or FILE.json for an image configuration, - for one on standard input
    pub(crate) image: String,
    /// The command and its arguments instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}
