//! The flags of `login` and `logout`.

use std::path::PathBuf;

use clap::Args;

use crate::words::parse_bool;

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The registry, with its port if it has one; a part of a repository's path may follow
    pub(crate) registry: String,
    /// User
    #[arg(short, long)]
    pub(crate) username: Option<String>,
    /// Password; others see it in the list of processes, so better use --password-stdin
    #[arg(short, long, conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Print who is logged in
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    pub(crate) get_login: bool,
    /// Say more
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Credentials file to write
    #[arg(long, value_name = "FILE", conflicts_with = "compat_auth_file")]
    pub(crate) authfile: Option<PathBuf>,
    /// Credentials file in Docker's form to write
    #[arg(long, value_name = "FILE")]
    pub(crate) compat_auth_file: Option<PathBuf>,
    /// Directory of certificates: *.crt, *.cert, *.key
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Require HTTPS and a trusted certificate (default true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = parse_bool)]
    pub(crate) tls_verify: Option<bool>,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The registry
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) registry: Option<String>,
    /// Log out of all registries
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Credentials file to write
    #[arg(long, value_name = "FILE", conflicts_with = "compat_auth_file")]
    pub(crate) authfile: Option<PathBuf>,
    /// Credentials file in Docker's form to write
    #[arg(long, value_name = "FILE")]
    pub(crate) compat_auth_file: Option<PathBuf>,
    /// Taken for scripts' sake: forgetting asks no registry
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = parse_bool)]
    pub(crate) tls_verify: Option<bool>,
}
