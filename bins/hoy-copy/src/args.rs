//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::access::{Access, Login};

/// Move container images between registries, layouts, archives and the store, and look at them.
#[derive(Debug, Parser)]
#[command(name = "hoy-copy", version, max_term_width = 100)]
pub(crate) struct Command {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Give up after this time: 90s, 5m, 1h30m
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) command_timeout: Option<Duration>,
    /// Show every request, without its secrets
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Apply no signature policy; this program never applies one
    #[arg(long, global = true)]
    pub(crate) insecure_policy: bool,
    /// Choose images for this processor instead of this machine's
    #[arg(long, global = true, value_name = "ARCH")]
    pub(crate) override_arch: Option<String>,
    /// Choose images for this operating system instead of linux
    #[arg(long, global = true, value_name = "OS")]
    pub(crate) override_os: Option<String>,
    /// Choose images for this variant of the processor
    #[arg(long, global = true, value_name = "VARIANT")]
    pub(crate) override_variant: Option<String>,
    /// Where the store is (default: HOY_ROOT, or the usual place)
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Where the store's volatile state is (default: HOY_RUNROOT, or the usual place)
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) runroot: Option<PathBuf>,
    /// Further store whose images are used where they are and never changed
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) additional_store: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Copy an image; the word "copy" may be left out
    Copy(Box<CopyArgs>),
    /// Look at an image without copying it
    Inspect(InspectArgs),
    /// List the tags of a repository, or the names in a docker-archive
    ListTags(ListTagsArgs),
    /// Delete an image from a registry, a layout or the store
    Delete(DeleteArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Log out of a registry
    Logout(LogoutArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MultiArch {
    System,
    All,
    IndexOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ManifestType {
    Oci,
    V2s2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Where the image is, as transport:details
    pub(crate) source: String,
    /// Where it goes, as transport:details
    pub(crate) destination: String,
    /// Copy all images if the source is a list of them
    #[arg(short, long, conflicts_with = "multi_arch")]
    pub(crate) all: bool,
    /// What to copy of a list of images
    #[arg(long, value_enum)]
    pub(crate) multi_arch: Option<MultiArch>,
    /// Type of the manifest to write (default: as it is)
    #[arg(short, long, value_enum, value_name = "TYPE")]
    pub(crate) format: Option<ManifestType>,
    /// Compress layers that are not
    #[arg(long, conflicts_with = "dest_decompress")]
    pub(crate) dest_compress: bool,
    /// Compress all layers in this way
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with = "dest_decompress")]
    pub(crate) dest_compress_format: Option<Compression>,
    /// Write layers uncompressed
    #[arg(long)]
    pub(crate) dest_decompress: bool,
    /// Another name for the image in a docker-archive; may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) additional_tag: Vec<String>,
    /// Fail if a digest would change
    #[arg(long)]
    pub(crate) preserve_digests: bool,
    /// Say nothing but errors on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Also write the digest of the written manifest into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) src: SourceAccess,
    #[command(flatten)]
    pub(crate) dest: DestinationAccess,
    /// Credentials file for both sides
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// How many times to repeat what failed in a way that may pass
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) retry_times: u32,
}

/// Defines the flags of one side, which differ in their prefix alone.
macro_rules! side {
    ($name:ident, $prefix:literal) => {
        #[derive(Debug, Args)]
        pub(crate) struct $name {
            /// Credentials file
            #[arg(id = concat!($prefix, "authfile"), long = concat!($prefix, "authfile"), value_name = "FILE")]
            authfile: Option<PathBuf>,
            /// User and password for the registry
            #[arg(id = concat!($prefix, "creds"), long = concat!($prefix, "creds"), value_name = "USER[:PASSWORD]")]
            creds: Option<String>,
            /// User for the registry
            #[arg(id = concat!($prefix, "username"), long = concat!($prefix, "username"), value_name = "USER")]
            username: Option<String>,
            /// Password for the registry
            #[arg(id = concat!($prefix, "password"), long = concat!($prefix, "password"), value_name = "PASSWORD")]
            password: Option<String>,
            /// Use no credentials
            #[arg(id = concat!($prefix, "no-creds"), long = concat!($prefix, "no-creds"))]
            no_creds: bool,
            /// Bearer token for the registry
            #[arg(id = concat!($prefix, "registry-token"), long = concat!($prefix, "registry-token"), value_name = "TOKEN")]
            registry_token: Option<String>,
            /// Directory of certificates: *.crt, *.cert, *.key
            #[arg(id = concat!($prefix, "cert-dir"), long = concat!($prefix, "cert-dir"), value_name = "DIR")]
            cert_dir: Option<PathBuf>,
            /// Require HTTPS and a trusted certificate (default true)
            #[arg(id = concat!($prefix, "tls-verify"), long = concat!($prefix, "tls-verify"), value_name = "BOOL",
                num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
            tls_verify: Option<bool>,
        }

        impl $name {
            /// These flags as what they mean.
            pub(crate) fn access(self, authfile: Option<PathBuf>) -> Access {
                let password = self.username.map(|user| Login { user, password: self.password });
                Access {
                    authfile: self.authfile.or(authfile),
                    login: self.creds.as_deref().map(Login::parse).or(password),
                    no_creds: self.no_creds,
                    token: self.registry_token,
                    cert_dir: self.cert_dir,
                    tls_verify: self.tls_verify.unwrap_or(true),
                }
            }
        }
    };
}

side!(SourceAccess, "src-");
side!(DestinationAccess, "dest-");
side!(OnlyAccess, "");

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The image, as transport:details
    pub(crate) image: String,
    /// Print the configuration
    #[arg(long)]
    pub(crate) config: bool,
    /// Print the manifest, or with --config the configuration, byte for byte
    #[arg(long)]
    pub(crate) raw: bool,
    /// Print by a Go template
    #[arg(short, long, value_name = "TEMPLATE", conflicts_with = "raw")]
    pub(crate) format: Option<String>,
    /// Do not list the repository's tags
    #[arg(short, long)]
    pub(crate) no_tags: bool,
    #[command(flatten)]
    pub(crate) access: OnlyAccess,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

#[derive(Debug, Args)]
pub(crate) struct ListTagsArgs {
    /// docker://REPOSITORY or docker-archive:FILE
    pub(crate) repository: String,
    #[command(flatten)]
    pub(crate) access: OnlyAccess,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The image, as transport:details
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) access: OnlyAccess,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

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
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
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
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

/// Reads the command line. A transport where a command could be means `copy`.
pub(crate) fn parse() -> Command {
    hoy_cli::parse_args(with_copy(std::env::args_os().collect()), 2)
}

fn with_copy(mut args: Vec<OsString>) -> Vec<OsString> {
    const COMMANDS: [&str; 7] = ["copy", "inspect", "list-tags", "delete", "login", "logout", "help"];
    const TRANSPORTS: [&str; 8] = [
        "docker://",
        "oci:",
        "oci-archive:",
        "docker-archive:",
        "dir:",
        "store:",
        "containers-storage:",
        "docker-daemon:",
    ];
    let first = args.iter().skip(1).filter_map(|arg| arg.to_str()).find_map(|arg| {
        let is_transport = TRANSPORTS.iter().any(|transport| arg.starts_with(transport));
        (is_transport || COMMANDS.contains(&arg)).then_some(is_transport)
    });
    if first == Some(true) {
        args.insert(1, "copy".into());
    }
    args
}

/// A truth value as Go's flags take it.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it is neither true nor false".to_owned()),
    }
}

/// A time as Go writes it: numbers with the units h, m, s, ms.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is written like 90s, 5m or 1h30m".to_owned();
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        rest = after;
    }
    if total.is_zero() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_may_be_left_out() {
        let shown = |line: &str| {
            let args = with_copy(line.split(' ').map(OsString::from).collect());
            args.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("hoy-copy docker://a store:a"), "hoy-copy copy docker://a store:a");
        assert_eq!(shown("hoy-copy --debug oci:a oci:b"), "hoy-copy copy --debug oci:a oci:b");
        assert_eq!(shown("hoy-copy --debug inspect oci:a"), "hoy-copy --debug inspect oci:a");
        assert_eq!(shown("hoy-copy --help"), "hoy-copy --help");
    }

    #[test]
    fn words_of_go() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        for wrong in ["", "5", "s", "1d", "-1s", "0s", "1e3s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!((parse_bool("false"), parse_bool("1")), (Ok(false), Ok(true)));
    }

    #[test]
    fn the_definition_is_sound() {
        <Command as clap::CommandFactory>::command().debug_assert();
    }
}
