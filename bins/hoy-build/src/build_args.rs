//! The command line of `build`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Args};
use hoy_build::Format;

use crate::access::{Access, BlobCache, Receiving};
use crate::args::Confinement;
use crate::build::attest::{self, Attest};
use crate::build::output::Output;
use crate::build::progress::Form;
use crate::namespaces::Namespaces;
use crate::never::{Never, NeverInBuild};
use crate::resolver::Resolver;
use crate::said::SaidArgs;
use crate::sbom::SbomOutputs;
use crate::userns::UserNamespace;

/// What is built, from what, and what comes of it.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The context: a directory, an address, or - for a tar archive or a Containerfile on standard input
    #[arg(default_value = ".", hide_default_value = true, value_name = "CONTEXT")]
    pub(crate) context: String,
    /// The Containerfile, - for standard input, or several that become one (default: Containerfile or Dockerfile of the
    /// context)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Vec<String>,
    /// Name of the image
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// Build this stage and what it needs (default: the last)
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// The image of the first FROM, instead of the one that is written there
    #[arg(long, value_name = "IMAGE")]
    pub(crate) from: Option<String>,
    /// Value of an ARG; NAME alone takes it from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// File of such values, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) build_arg_file: Vec<PathBuf>,
    /// Further context for --from and FROM: a directory, an address, docker-image://NAME or oci-layout://DIR
    #[arg(long, value_name = "NAME=CONTEXT")]
    pub(crate) build_context: Vec<String>,
    /// Leave out of the context what this file of patterns names
    #[arg(long, value_name = "FILE")]
    pub(crate) ignorefile: Option<PathBuf>,
    /// Do every step anew
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Do steps anew whose result is older than this
    #[arg(long, value_name = "DURATION")]
    pub(crate) cache_ttl: Option<String>,
    /// Take results of steps from this cache, too: an image's name, TRANSPORT:DETAILS, or as BuildKit writes it
    #[arg(long, value_name = "CACHE", conflicts_with = "cache_ttl")]
    pub(crate) cache_from: Vec<String>,
    /// Keep the results of all steps in this cache, whose place is written likewise
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_to: Vec<String>,
    /// Write the digests of all images, files and commits that were used into this file (default: that of the
    /// Containerfile, with .lock behind its name)
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, conflicts_with = "locked")]
    pub(crate) lock: Option<Option<PathBuf>>,
    /// Use only what such a file has, as it was then
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub(crate) locked: Option<Option<PathBuf>>,
    /// Keep beside the image a statement of where it comes from (SLSA v1): true, false, mode=min or mode=max
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = attest::provenance)]
    pub(crate) provenance: Option<Attest>,
    /// The same as type=provenance[,mode=max]; type=sbom keeps what sbom lists
    #[arg(long, value_name = "STATEMENT")]
    pub(crate) attest: Vec<Attest>,
    /// Build nothing: look for likely mistakes in the Containerfile
    #[arg(long)]
    pub(crate) check: bool,
    /// Say for each step that is done why its result was not known, and of others in which cache it was
    #[arg(long)]
    pub(crate) explain: bool,
    /// A layer for each step; false makes one of all new ones (default true)
    #[arg(long, env = "BUILDAH_LAYERS", hide_env = true, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "true", hide_default_value = true,
          hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) layers: bool,
    /// One layer holds everything, that of the base image too
    #[arg(long, alias = "squash-all")]
    pub(crate) squash: bool,
    /// Label of the image
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Labels of the base image are its own (default true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) inherit_labels: bool,
    /// Annotations of the base image are its own (default true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) inherit_annotations: bool,
    /// Set a variable of the image; NAME alone takes it from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// The version of the operating system that the image needs
    #[arg(long, value_name = "VERSION")]
    pub(crate) os_version: Option<String>,
    /// A feature of the operating system that the image needs
    #[arg(long, value_name = "NAME")]
    pub(crate) os_feature: Vec<String>,
    #[command(flatten)]
    pub(crate) said: SaidArgs,
    /// oci or docker (default oci)
    #[arg(long, value_name = "FORMAT", env = "BUILDAH_FORMAT", hide_env = true)]
    pub(crate) format: Option<Format>,
    /// Write the image's id into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write the id alone, without sha256:, into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile_raw: Option<PathBuf>,
    /// The latest time in the image, in seconds since 1970, or now
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timestamp: Option<String>,
    /// The same, weaker than --timestamp
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", hide_env = true)]
    pub(crate) source_date_epoch: Option<String>,
    /// Times in new layers are no later than that; only true, for it is always so
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = ["true"], hide_possible_values = true)]
    pub(crate) rewrite_timestamp: Option<String>,
    /// When a command fails, give a shell where it did
    #[arg(long, value_name = "shell", value_parser = ["shell"], hide_possible_values = true)]
    pub(crate) on_error: Option<String>,
    /// The image tells nothing of how it was made
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) omit_history: bool,
    /// Do not compress new layers
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) disable_compression: bool,
    /// Platform of the image (default: this machine's); several make an index of images
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',', value_parser = completed)]
    pub(crate) platform: Vec<hoy_oci::Platform>,
    /// Processor of the image, where --platform is not given
    #[arg(long, value_name = "NAME", conflicts_with_all = ["platform", "all_platforms"])]
    pub(crate) arch: Option<String>,
    /// Operating system of the image, likewise
    #[arg(long, value_name = "NAME", conflicts_with_all = ["platform", "all_platforms"])]
    pub(crate) os: Option<String>,
    /// Variant of the processor, likewise
    #[arg(long, value_name = "NAME", conflicts_with_all = ["platform", "all_platforms"])]
    pub(crate) variant: Option<String>,
    /// Compress new layers, which is done anyway
    #[arg(long, conflicts_with = "disable_compression")]
    pub(crate) compress: bool,
    /// Remove containers of steps; only true, for it is always so
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = ["true"], hide_possible_values = true, visible_alias = "force-rm")]
    pub(crate) rm: Option<String>,
    /// Ask no Docker Notary about images; only true, for it is always so
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = ["true"], hide_possible_values = true)]
    pub(crate) disable_content_trust: Option<String>,
    /// Leave out stages that the target does not need (default true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) skip_unused_stages: bool,
    /// Tell what is done in this file instead of on standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) logfile: Option<PathBuf>,
    /// Tell of each platform in a file of its own, which has the platform behind its name
    #[arg(long, requires = "logfile")]
    pub(crate) logsplit: bool,
    /// Tell after each step what it used: processor time, elapsed time, blocks read and written
    #[arg(long)]
    pub(crate) log_rusage: bool,
    /// Tell it in this file
    #[arg(long, value_name = "FILE", requires = "log_rusage")]
    pub(crate) rusage_logfile: Option<PathBuf>,
    /// An index of images for all platforms that the base images are for
    #[arg(long, conflicts_with = "platform")]
    pub(crate) all_platforms: bool,
    /// Add what is built to the index of this name, which is made where it is missing
    #[arg(long, value_name = "NAME")]
    pub(crate) manifest: Option<String>,
    /// Also write the image: type=local|tar|oci|docker,dest=PATH|-, type=image,name=NAME[,push=true], or a directory
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<Output>,
    /// Sign what is built with this key of GnuPG, for each of its names; signatures go with it where it is pushed
    #[arg(long, value_name = "KEY")]
    pub(crate) sign_by: Option<String>,
    /// Describe what was built in this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// An option for cpp, through which a Containerfile goes whose name ends in .in
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub(crate) cpp_flag: Vec<String>,
    /// When to fetch images: missing, newer, always or never
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "missing", hide_default_value = true)]
    pub(crate) pull: String,
    /// Always fetch images
    #[arg(long, conflicts_with = "pull_never")]
    pub(crate) pull_always: bool,
    /// Never fetch images
    #[arg(long)]
    pub(crate) pull_never: bool,
    /// Only what failed is told
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How it is told what is done: auto, plain, tty, json[:FD] or none (default auto)
    #[arg(long, value_name = "FORM", default_value = "auto", hide_default_value = true)]
    pub(crate) progress: Form,
    /// Stages that are built at once (default: as many as there are processors)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) jobs: Option<usize>,
    #[command(flatten)]
    pub(crate) run: RunOptions,
    #[command(flatten)]
    pub(crate) sbom: SbomOutputs,
    #[command(flatten)]
    pub(crate) never: Never,
    #[command(flatten)]
    pub(crate) never_in_build: NeverInBuild,
    #[command(flatten)]
    pub(crate) receiving: Receiving,
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) blobs: BlobCache,
}

/// What the commands of RUN are given.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// What every RUN mounts before what its own --mount say
    #[arg(long, value_name = "type=TYPE,...")]
    pub(crate) mount: Vec<String>,
    /// A secret for RUN --mount=type=secret
    #[arg(long, value_name = "id=NAME,src=FILE|env=VARIABLE")]
    pub(crate) secret: Vec<String>,
    /// The agent for RUN --mount=type=ssh (default: that of SSH_AUTH_SOCK)
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    pub(crate) ssh: Vec<String>,
    /// host or none (default none)
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    pub(crate) network: Option<String>,
    #[command(flatten)]
    pub(crate) namespaces: Namespaces,
    /// A further group of the user
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Limit of a resource
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Most memory
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Most memory and swap together
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// So many processors' time
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<f64>,
    /// Weight against others that want a processor
    #[arg(short, long, value_name = "WEIGHT")]
    pub(crate) cpu_shares: Option<u64>,
    /// Microseconds of each period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Length of a period
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,
    /// Only these processors
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Only memory of these nodes
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Make the control groups of commands in this one
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    /// Run the hooks that files of this directory describe; may be repeated
    #[arg(long, value_name = "DIR")]
    pub(crate) hooks_dir: Vec<PathBuf>,
    /// A name that commands find in /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    /// Leave commands the image's own /etc/hosts
    #[arg(long)]
    pub(crate) no_hosts: bool,
    /// Leave commands the image's own /etc/hostname; only true, for it is always so
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = ["true"], hide_possible_values = true)]
    pub(crate) no_hostname: Option<String>,
    #[command(flatten)]
    pub(crate) resolver: Resolver,
    /// Let commands read standard input; a RUN is then done anew each time
    #[arg(long)]
    pub(crate) stdin: bool,
    /// Let RUN --security=insecure be privileged, or let RUN --device have devices
    #[arg(long, value_name = "security.insecure|device[=NAME]")]
    pub(crate) allow: Vec<Entitlement>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// As podman has it: seccomp=FILE, no-new-privileges, …
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Pass proxy variables of the environment on (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true",
          value_name = "BOOL", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    pub(crate) http_proxy: bool,
    /// oci or rootless, which are one here; chroot, where nothing else can be had; none: a RUN is an error then
    #[arg(long, value_name = "TYPE", value_parser = ["oci", "rootless", "chroot", "none"], env = "BUILDAH_ISOLATION",
          hide_env = true, hide_possible_values = true)]
    pub(crate) isolation: Option<String>,
    #[command(flatten)]
    pub(crate) may: Confinement,
    #[command(flatten)]
    pub(crate) ids: UserNamespace,
}

/// A platform; what is left out of it is this machine's, as in buildah.
fn completed(text: &str) -> Result<hoy_oci::Platform, hoy_oci::Error> {
    let host = hoy_oci::Platform::host();
    match text.split_once('/') {
        Some(("", rest)) => format!("{}/{rest}", host.os).parse(),
        Some((os, "")) => format!("{os}/{}", host.architecture).parse(),
        _ => text.parse(),
    }
}

/// What a Containerfile may have only if who builds says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entitlement {
    Insecure,
    /// A device's name or kind; empty for all.
    Device(String),
}

impl Entitlement {
    /// The device that is allowed.
    pub(crate) fn device(&self) -> Option<String> {
        match self {
            Self::Insecure => None,
            Self::Device(name) => Some(name.clone()),
        }
    }
}

impl FromStr for Entitlement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "security.insecure" => Ok(Self::Insecure),
            None if text == "device" => Ok(Self::Device(String::new())),
            Some(("device", name)) if !name.is_empty() => Ok(Self::Device(name.to_owned())),
            _ => Err("there are security.insecure, device and device=NAME".to_owned()),
        }
    }
}
