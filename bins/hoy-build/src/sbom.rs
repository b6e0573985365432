//! `sbom`: what an image consists of.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use hoy_build::{Contents, contents, split_transport};
use hoy_cli::{Context as _, Result, Stdout, print_line};
use hoy_sbom::{Subject, cyclonedx, spdx};

use crate::access::Access;
use crate::build::attest::artifact;
use crate::context::{Context, warn};
use crate::image::local_name;

mod outputs;

pub(crate) use outputs::SbomOutputs;

#[derive(Debug, Args)]
pub(crate) struct SbomArgs {
    /// A name in the store, or TRANSPORT:DETAILS
    image: String,
    /// The form of the list
    #[arg(long, value_enum, default_value_t = Format::SpdxJson)]
    format: Format,
    /// The file to write; - is standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "attach")]
    output: Option<PathBuf>,
    /// Keep the list beside the image, as an artifact that refers to it, and print the artifact's digest
    #[arg(long)]
    attach: bool,
    /// Of an index, the image for this platform, as in linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// SPDX 2.3
    SpdxJson,
    /// CycloneDX 1.5
    CyclonedxJson,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Self::SpdxJson => "application/spdx+json",
            Self::CyclonedxJson => "application/vnd.cyclonedx+json",
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::SpdxJson => "sbom.spdx.json",
            Self::CyclonedxJson => "sbom.cdx.json",
        }
    }
}

pub(crate) fn sbom(context: &Context, args: &SbomArgs) -> Result<ExitCode> {
    let place = match split_transport(&args.image) {
        Some(_) => args.image.clone(),
        None => format!("store:{}", local_name(&args.image)?),
    };
    let mut options = args.access.options("");
    options.extend(args.platform.iter().map(|platform| format!("--platform={platform}")));
    let text =
        list(context, &place, &options, args.format).context(|| format!("list what \"{}\" consists of", args.image))?;
    if args.attach {
        let kept = attach(context, &place, &options, args.format, &text);
        print_line(kept.context(|| format!("attach to \"{}\"", args.image))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => std::fs::write(path, text).context(|| format!("write \"{}\"", path.display()))?,
        None => Stdout::new().write_all(text.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Keeps the list beside an image of the store, in SPDX's form.
pub(crate) fn attach_to(context: &Context, place: &str, options: &[String]) -> Result<()> {
    let text = list(context, place, options, Format::SpdxJson)?;
    attach(context, place, options, Format::SpdxJson, &text).map(drop)
}

fn list(context: &Context, place: &str, options: &[String], format: Format) -> Result<String> {
    document(look(context, place, options)?, format)
}

fn look(context: &Context, place: &str, options: &[String]) -> Result<Contents> {
    let scratch = tempfile::tempfile().context(|| "make a temporary file")?;
    let found = contents(&context.tools, place, options, scratch)?;
    for unread in &found.inventory.unread {
        warn(&format!("warning: \"/{}\" is not read: {}", unread.path, unread.reason));
    }
    Ok(found)
}

fn document(found: Contents, format: Format) -> Result<String> {
    let tool = ("hoy-build".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let subject = Subject { name: found.name, manifest: found.manifest, created: found.created, tool };
    let document = match format {
        Format::SpdxJson => spdx(&subject, &found.inventory),
        Format::CyclonedxJson => cyclonedx(&subject, &found.inventory),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn attach(context: &Context, place: &str, options: &[String], format: Format, text: &str) -> Result<String> {
    artifact(&context.tools, place, options, (format.file_name(), format.media_type()), text)
}
