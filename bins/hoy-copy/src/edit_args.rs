//! The flags of commands that make images from others.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use hoy_oci::{Digest, Platform};

use crate::look_args::Reach;

#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    /// The image to add to (default: an empty one)
    #[arg(short, long)]
    pub(crate) base: Option<String>,
    /// A tar to add as a layer, compressed or not; - is standard input; may be repeated
    #[arg(short = 'f', long, alias = "new_layer", value_name = "FILE", required = true, value_delimiter = ',')]
    pub(crate) new_layer: Vec<PathBuf>,
    /// Where the new image goes
    #[arg(short = 't', long, alias = "new_tag", value_name = "IMAGE")]
    pub(crate) new_tag: String,
    /// Of an index, the image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct MutateArgs {
    /// The image to start from
    pub(crate) image: String,
    /// Where the new image goes (default: the same repository, by its digest)
    #[arg(short, long, value_name = "IMAGE")]
    pub(crate) tag: Option<String>,
    /// Set an annotation of the manifest; an empty value takes it away
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Set a label; an empty value takes it away
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Set a variable of the environment; an empty value takes it away
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The entry point, its words separated by commas; it takes the command away
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub(crate) entrypoint: Vec<String>,
    /// The command, its words separated by commas
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub(crate) cmd: Vec<String>,
    /// The user
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Ports, separated by commas, instead of those there are
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub(crate) exposed_ports: Vec<String>,
    /// The platform that the image is said to be for
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) set_platform: Option<Platform>,
    /// When the image is said to be made, as seconds since 1970 or as in 2026-11-28T00:00:00Z, in its history too
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<String>,
    /// A tar to add as a layer; may be repeated
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub(crate) append: Vec<PathBuf>,
    /// Of an index, the image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct RebaseArgs {
    /// The image to start from
    pub(crate) image: String,
    /// What it stands on
    #[arg(long, alias = "old_base", value_name = "IMAGE")]
    pub(crate) old_base: String,
    /// What it is to stand on
    #[arg(long, alias = "new_base", value_name = "IMAGE")]
    pub(crate) new_base: String,
    /// Where the new image goes (default: the same repository, by its digest)
    #[arg(short, long, value_name = "IMAGE")]
    pub(crate) tag: Option<String>,
    /// Of an index, the image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct FlattenArgs {
    /// The image to start from
    pub(crate) image: String,
    /// Where the new image goes (default: the same repository, by its digest)
    #[arg(short, long, value_name = "IMAGE")]
    pub(crate) tag: Option<String>,
    /// Of an index, the image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// The image to refer to
    pub(crate) image: String,
    /// Files, each with a media type behind a colon if it has one
    #[arg(value_name = "FILE[:TYPE]")]
    pub(crate) files: Vec<String>,
    /// The artifact's type
    #[arg(long, value_name = "TYPE")]
    pub(crate) artifact_type: String,
    /// Set an annotation of the artifact
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Of an index, refer to the image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The artifact
    pub(crate) image: String,
    /// Where its files go
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) output: PathBuf,
    /// Fail where a file of that name exists
    #[arg(short, long)]
    pub(crate) keep_old_files: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IndexAction {
    /// Print the members of an index: digest and platform
    List(IndexListArgs),
    /// Make an index of images
    Create(IndexCreateArgs),
    /// Add images to an index
    #[command(alias = "append")]
    Add(IndexAddArgs),
    /// Say more of an index, or of one image in it
    Annotate(IndexAnnotateArgs),
    /// Take images out of an index
    #[command(alias = "delete")]
    Remove(IndexRemoveArgs),
    /// Keep only the images of some platforms
    Filter(IndexFilterArgs),
}

#[derive(Debug, Args)]
pub(crate) struct IndexListArgs {
    /// The index
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct IndexCreateArgs {
    /// Where the new index goes
    pub(crate) destination: String,
    /// Its images; an index of none is one that grows
    pub(crate) images: Vec<String>,
    /// What to take of an image that is an index itself: all, or the one for this machine (default: an error)
    #[arg(long, value_name = "all|system")]
    pub(crate) multi_arch: Option<Members>,
    /// Set an annotation of the index
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) annotation: Vec<String>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct IndexAddArgs {
    /// The index to start from
    pub(crate) image: String,
    /// An image to add; may be repeated
    #[arg(short, long, value_name = "IMAGE", required = true)]
    pub(crate) manifest: Vec<String>,
    /// What to take of an image that is an index itself: all, or the one for this machine (default: an error)
    #[arg(long, value_name = "all|system")]
    pub(crate) multi_arch: Option<Members>,
    /// Where the new index goes (default: the same name)
    #[arg(short, long, value_name = "IMAGE")]
    pub(crate) tag: Option<String>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// What of an index becomes part of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Members {
    /// All its images.
    All,
    /// The one for this machine, or for the platform of `--override-arch` and its like.
    System,
}

#[derive(Debug, Args)]
pub(crate) struct IndexAnnotateArgs {
    /// The index to start from
    pub(crate) image: String,
    /// The image that is meant, and not the index as a whole
    #[arg(long)]
    pub(crate) digest: Option<Digest>,
    /// Set an annotation; an empty value takes it away
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// The image's processor
    #[arg(long, value_name = "ARCH", requires = "digest")]
    pub(crate) arch: Option<String>,
    /// The image's operating system
    #[arg(long, value_name = "OS", requires = "digest")]
    pub(crate) os: Option<String>,
    /// The variant of the image's processor
    #[arg(long, value_name = "VARIANT", requires = "digest")]
    pub(crate) variant: Option<String>,
    /// The version of the image's operating system
    #[arg(long, value_name = "VERSION", requires = "digest")]
    pub(crate) os_version: Option<String>,
    /// What the image needs of its operating system; may be repeated
    #[arg(long, value_name = "FEATURE", requires = "digest", value_delimiter = ',')]
    pub(crate) os_features: Vec<String>,
    /// What the image needs of its processor; may be repeated
    #[arg(long, value_name = "FEATURE", requires = "digest", value_delimiter = ',')]
    pub(crate) features: Vec<String>,
    /// Where the new index goes (default: the same name)
    #[arg(short, long, value_name = "IMAGE")]
    pub(crate) tag: Option<String>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct IndexRemoveArgs {
    /// The index to start from
    pub(crate) image: String,
    /// The digest of an image to take out; may be repeated
    #[arg(long, required_unless_present = "platform")]
    pub(crate) digest: Vec<Digest>,
    /// Take out the images of this platform; may be repeated
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Vec<Platform>,
    /// Where the new index goes (default: the same name)
    #[arg(short, long, value_name = "IMAGE")]
    pub(crate) tag: Option<String>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct IndexFilterArgs {
    /// The index to start from
    pub(crate) image: String,
    /// A platform to keep; may be repeated
    #[arg(long, value_name = "PLATFORM", required = true, value_delimiter = ',')]
    pub(crate) platform: Vec<Platform>,
    /// Where the new index goes (default: the same name)
    #[arg(short, long, value_name = "IMAGE")]
    pub(crate) tag: Option<String>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}
