//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hoy_transport::TRANSPORTS;

use crate::edit_args::{AppendArgs, AttachArgs, FlattenArgs, IndexAction, MutateArgs, PullArgs, RebaseArgs};
use crate::encryption::EncryptionArgs;
use crate::fetch::FetchArgs;
use crate::login_args::{LoginArgs, LogoutArgs};
use crate::look_args::{BlobArgs, CatalogArgs, ExportArgs, LookArgs, ReferrersArgs, ValidateArgs};
use crate::progress::Target;
use crate::rate::Rate;
use crate::serve::ServeArgs;
use crate::side::{DestinationAccess, DestinationPlace, OnlyAccess, OnlyPlace, Retry, SourceAccess, SourcePlace};
use crate::signing_args::{GenerateKeyArgs, Signing, StandaloneSignArgs, StandaloneVerifyArgs};
use crate::sync_args::SyncArgs;
use crate::words::parse_duration;

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
    /// Apply no trust policy, whatever --policy says
    #[arg(long, global = true)]
    pub(crate) insecure_policy: bool,
    /// Trust policy (default: the first of ~/.config/containers/policy.json, /etc/containers/policy.json)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Copy only what a rule of the trust policy wants signed, and is
    #[arg(long, global = true, conflicts_with = "insecure_policy")]
    pub(crate) require_signed: bool,
    /// Where it is said which registries have signatures, and where (default: as in FILES)
    #[arg(long = "registries.d", global = true, value_name = "DIR")]
    pub(crate) registries_d: Option<PathBuf>,
    /// Rules for registries, instead of the usual registries.conf
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) registries_conf: Option<PathBuf>,
    #[arg(long, global = true, hide = true)]
    pub(crate) tls_details: Option<PathBuf>,
    /// Further rules for registries in files of this directory, instead of the usual ones
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) registries_conf_dir: Option<PathBuf>,
    /// What short names stand for, instead of the usual short-name-aliases.conf
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) short_name_alias_conf: Option<PathBuf>,
    /// What is run for ssh://, with its first arguments (default: HOY_SSH, or ssh)
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) ssh: Option<String>,
    /// Where temporary files are kept (default: TMPDIR, or /var/tmp)
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) tmpdir: Option<PathBuf>,
    /// Words before this program's own name in requests
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) user_agent_prefix: Option<String>,
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
    /// List the tags of a repository, or the names in an archive
    ListTags(ListTagsArgs),
    /// Print what a name may stand for, in full
    Names(NamesArgs),
    /// Delete an image from a registry, a layout or the store
    Delete(DeleteArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Log out of a registry
    Logout(LogoutArgs),
    /// Print the digest of a manifest in a file
    ManifestDigest(ManifestDigestArgs),
    /// Bring several images from one place to another
    Sync(Box<SyncArgs>),
    /// Be a registry: for one connection on standard input and output, or on sockets that are passed
    Serve(ServeArgs),
    /// Make a key for sigstore signatures
    GenerateSigstoreKey(GenerateKeyArgs),
    /// Sign a manifest in a file
    StandaloneSign(StandaloneSignArgs),
    /// Check the signature of a manifest in a file
    StandaloneVerify(StandaloneVerifyArgs),
    /// Print the digest of an image's manifest
    Digest(LookArgs),
    /// Print an image's manifest, byte for byte
    Manifest(LookArgs),
    /// Print an image's configuration, byte for byte
    Config(LookArgs),
    /// Print an image's layers: digest, size, type
    Layers(LookArgs),
    /// Write a blob to standard output
    Blob(BlobArgs),
    /// List the repositories of a registry
    Catalog(CatalogArgs),
    /// Read all of an image and check everything in it
    Validate(ValidateArgs),
    /// Print what refers to an image, as an index
    Referrers(ReferrersArgs),
    /// Print what refers to an image, and what refers to that, as a tree
    Discover(ReferrersArgs),
    /// Write all layers of an image as one tar
    Export(ExportArgs),
    /// Make an image with further layers, of tars
    Append(Box<AppendArgs>),
    /// Make an image with another configuration
    Mutate(Box<MutateArgs>),
    /// Make an image that stands on another base
    Rebase(RebaseArgs),
    /// Make an image with all its layers in one
    Flatten(FlattenArgs),
    /// Make an artifact of files that refers to an image
    Attach(AttachArgs),
    /// Fetch the files of an artifact
    Pull(PullArgs),
    /// Fetch a file of a web server, and print its digest, size and time as JSON
    Fetch(FetchArgs),
    /// Make and change indexes of images
    #[command(subcommand)]
    Index(IndexAction),
}

/// The version of skopeo whose command line this is.
const SKOPEO_VERSION: &str = "1.22.0";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ManifestType {
    Oci,
    V2s2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
    #[value(name = "zstd:chunked")]
    ZstdChunked,
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
    /// What to copy of a list of images: system, all, index-only, or platforms such as linux/amd64,linux/arm64
    #[arg(long, value_name = "WHAT")]
    pub(crate) multi_arch: Option<String>,
    /// Take platforms that are not copied out of the list
    #[arg(long, requires = "multi_arch")]
    pub(crate) strip_removed_platforms: bool,
    /// Copy what refers to the image too: signatures, lists of contents and the like
    #[arg(long)]
    pub(crate) with_referrers: bool,
    /// Type of the manifest to write (default: as it is)
    #[arg(short, long, value_enum, value_name = "TYPE")]
    pub(crate) format: Option<ManifestType>,
    /// Compress layers that are not
    #[arg(long, conflicts_with = "dest_decompress")]
    pub(crate) dest_compress: bool,
    /// Compress all layers in this way
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with = "dest_decompress")]
    pub(crate) dest_compress_format: Option<Compression>,
    /// How hard to compress: 1 to 9 for gzip, 1 to 20 for zstd
    #[arg(long, value_name = "LEVEL")]
    pub(crate) dest_compress_level: Option<i32>,
    /// Have all layers in the format of --dest-compress-format, as is always so
    #[arg(long, requires = "dest_compress_format")]
    pub(crate) dest_force_compress_format: bool,
    /// Write layers uncompressed
    #[arg(long)]
    pub(crate) dest_decompress: bool,
    /// Leave layers uncompressed that come without a manifest of their own
    #[arg(long)]
    pub(crate) dest_oci_accept_uncompressed_layers: bool,
    /// Keep layers that are compressed on the way in a file first, and send those alone that the registry lacks
    #[arg(long)]
    pub(crate) dest_precompute_digests: bool,
    /// Another name for the image in a docker-archive, or another tag at a registry; may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) additional_tag: Vec<String>,
    /// Fail if a digest would change
    #[arg(long)]
    pub(crate) preserve_digests: bool,
    /// How many blobs to move at once (default: 6)
    #[arg(long, value_name = "N")]
    pub(crate) image_parallel_copies: Option<usize>,
    /// Say nothing but errors on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Tell a program how far the copy is: JSON lines on this descriptor, or on standard error
    #[arg(long, value_name = "json[:FD]", conflicts_with = "quiet")]
    pub(crate) progress: Option<Target>,
    /// Take blobs from this directory, as far as they are there under their digests
    #[arg(long, value_name = "DIR")]
    pub(crate) blob_cache: Option<PathBuf>,
    /// Move no more than this many bytes a second, such as 500K, 10M or 1G
    #[arg(long, value_name = "RATE")]
    pub(crate) limit_rate: Option<Rate>,
    /// Also write the digest of the written manifest into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) src: SourceAccess,
    #[command(flatten)]
    pub(crate) src_place: SourcePlace,
    #[command(flatten)]
    pub(crate) dest: DestinationAccess,
    #[command(flatten)]
    pub(crate) dest_place: DestinationPlace,
    /// Credentials file for both sides
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) signing: Signing,
    #[command(flatten)]
    pub(crate) encryption: EncryptionArgs,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

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
    /// The digest to show (default: the one that the image was found by)
    #[arg(long, value_name = "ALGORITHM", conflicts_with_all = ["raw", "config"])]
    pub(crate) manifest_digest: Option<DigestAlgorithm>,
    #[command(flatten)]
    pub(crate) access: OnlyAccess,
    #[command(flatten)]
    pub(crate) place: OnlyPlace,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// A name without a transport
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListTagsArgs {
    /// docker://REPOSITORY, docker-archive:FILE or oci-archive:FILE
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
    pub(crate) place: OnlyPlace,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

/// How a digest is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DigestAlgorithm {
    Sha256,
    Sha512,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestDigestArgs {
    /// The manifest's file, or - for standard input
    pub(crate) manifest: PathBuf,
}

/// Reads the command line. A transport where a command could be means `copy`.
///
/// A script that runs this program as `skopeo` may look at the version of skopeo whose command line it speaks.
pub(crate) fn parse() -> Command {
    let mut args = std::env::args_os();
    let is_skopeo = args.next().is_some_and(|name| std::path::Path::new(&name).ends_with("skopeo"));
    if is_skopeo && args.next().is_some_and(|first| first == "--version" || first == "-v") && args.next().is_none() {
        let text = format!("skopeo version {SKOPEO_VERSION} (hoy-copy {})", env!("CARGO_PKG_VERSION"));
        std::process::exit(i32::from(hoy_cli::print_line(text).is_err()));
    }
    hoy_cli::parse_args(with_copy(std::env::args_os().collect()), 2)
}

fn with_copy(mut args: Vec<OsString>) -> Vec<OsString> {
    let commands = <Command as clap::CommandFactory>::command();
    let is_command = |arg: &str| arg == "help" || commands.get_subcommands().any(|sub| sub.get_name() == arg);
    let first = args.iter().skip(1).filter_map(|arg| arg.to_str()).find_map(|arg| {
        let is_transport = TRANSPORTS.iter().any(|transport| arg.starts_with(transport));
        (is_transport || is_command(arg)).then_some(is_transport)
    });
    if first == Some(true) {
        args.insert(1, "copy".into());
    }
    args
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
    fn the_definition_is_sound() {
        <Command as clap::CommandFactory>::command().debug_assert();
    }
}
