//! `sbom`: what an image consists of.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use hoy_build::{contents, split_transport};
use hoy_cli::{Context as _, Result, Stdout, print_line};
use hoy_sbom::{Subject, cyclonedx, spdx};

use crate::access::Access;
use crate::context::{Context, warn};
use crate::image::local_name;

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
    let doing = || format!("list what \"{}\" consists of", args.image);
    let place = match split_transport(&args.image) {
        Some(_) => args.image.clone(),
        None => format!("store:{}", local_name(&args.image)?),
    };
    let mut options = args.access.options("");
    options.extend(args.platform.iter().map(|platform| format!("--platform={platform}")));
    let scratch = tempfile::tempfile().context(|| "make a temporary file")?;
    let found = contents(&context.tools, &place, &options, scratch).context(doing)?;
    for unread in &found.inventory.unread {
        warn(&format!("warning: \"/{}\" is not read: {}", unread.path, unread.reason));
    }
    let tool = ("hoy-build".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let subject = Subject { name: found.name, manifest: found.manifest, created: found.created, tool };
    let document = match args.format {
        Format::SpdxJson => spdx(&subject, &found.inventory),
        Format::CyclonedxJson => cyclonedx(&subject, &found.inventory),
    };
    let text = serde_json::to_string_pretty(&document).context(doing)? + "\n";
    if args.attach {
        return attach(context, args, &place, &options, &text).context(|| format!("attach to \"{}\"", args.image));
    }
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => std::fs::write(path, text).context(|| format!("write \"{}\"", path.display()))?,
        None => Stdout::new().write_all(text.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn attach(context: &Context, args: &SbomArgs, place: &str, options: &[String], text: &str) -> Result<ExitCode> {
    let directory = tempfile::tempdir().context(|| "make a temporary directory")?;
    let file = directory.path().join(args.format.file_name());
    std::fs::write(&file, text).context(|| format!("write \"{}\"", file.display()))?;
    let media_type = args.format.media_type();
    let action = ["attach".to_owned(), format!("--artifact-type={media_type}")];
    let what = [place.to_owned(), format!("{}:{media_type}", file.display())];
    let digest = context.tools.copy(action.iter().chain(options).chain(&what))?;
    print_line(&digest)?;
    Ok(ExitCode::SUCCESS)
}
