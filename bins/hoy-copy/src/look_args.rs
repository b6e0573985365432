//! The flags of commands that look at images.

use clap::Args;

use crate::side::{OnlyAccess, OnlyPlace, Retry};

/// How an image is reached.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    #[command(flatten)]
    pub(crate) access: OnlyAccess,
    #[command(flatten)]
    pub(crate) place: OnlyPlace,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

#[derive(Debug, Args)]
pub(crate) struct LookArgs {
    /// The image, as transport:details; without a transport, at a registry
    pub(crate) image: String,
    /// Of an index, the image for this platform, as in linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<hoy_oci::Platform>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct BlobArgs {
    /// The image, or repository@digest
    pub(crate) image: String,
    /// The digest of a blob of the image
    pub(crate) digest: Option<hoy_oci::Digest>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct CatalogArgs {
    /// The registry, with its port if it has one
    pub(crate) registry: String,
    /// Print the registry's name before each repository
    #[arg(long)]
    pub(crate) full_ref: bool,
    #[command(flatten)]
    pub(crate) access: OnlyAccess,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The image, as transport:details; without a transport, at a registry
    pub(crate) image: String,
    /// Read no layers
    #[arg(long)]
    pub(crate) fast: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct ReferrersArgs {
    /// The image, as transport:details; without a transport, at a registry
    pub(crate) image: String,
    /// Only those of this type
    #[arg(long, value_name = "TYPE")]
    pub(crate) artifact_type: Option<String>,
    /// Of an index, what refers to the image for this platform
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<hoy_oci::Platform>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The image, as transport:details; without a transport, at a registry
    pub(crate) image: String,
    /// The tar to write; - is standard output
    #[arg(default_value = "-")]
    pub(crate) file: std::path::PathBuf,
    /// Of an index, the image for this platform, as in linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<hoy_oci::Platform>,
    #[command(flatten)]
    pub(crate) reach: Reach,
}
