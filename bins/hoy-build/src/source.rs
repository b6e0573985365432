//! `source`: images that carry sources beside the images built from them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgAction, Args, Subcommand};
use hoy_build::{add_source, create_source, split_transport};
use hoy_cli::{Context as _, Error, Result};
use hoy_oci::Timestamp;

use crate::access::Access;
use crate::context::Context;
use crate::said::pair;

#[derive(Debug, Subcommand)]
pub(crate) enum SourceAction {
    /// Make an empty source image: a directory in OCI's layout
    Create(CreateArgs),
    /// Add a file or directory to a source image, as an archive
    Add(AddArgs),
    /// Send a source image to a registry
    Push(MoveArgs),
    /// Fetch a source image from a registry into a new directory
    Pull(MoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The directory, which must not be there
    path: PathBuf,
    /// Who made it
    #[arg(long, value_name = "TEXT")]
    author: Option<String>,
    /// Say when it was made (default true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    time_stamp: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The source image
    path: PathBuf,
    /// The file or directory
    artifact: PathBuf,
    /// Annotation of the archive
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// Where it is: a directory for push, a name at a registry for pull
    from: String,
    /// Where it goes: a name at a registry for push, a directory for pull
    to: String,
    /// Write the digest of the manifest into this file; push only
    #[arg(long, value_name = "FILE")]
    digestfile: Option<String>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    access: Access,
}

pub(crate) fn run(context: &Context, action: SourceAction) -> Result<ExitCode> {
    match action {
        SourceAction::Create(args) => {
            let now = || Timestamp::from(std::time::SystemTime::now());
            let doing = || format!("creating source image: \"{}\"", args.path.display());
            create_source(&args.path, args.author.as_deref(), args.time_stamp.then(now)).context(doing)?;
            tidy(&args.path);
        }
        SourceAction::Add(args) => {
            let doing = || format!("add to the source image \"{}\"", args.path.display());
            let annotations = args.annotation.iter().map(|text| pair(text)).collect();
            add_source(&args.path, &args.artifact, annotations).context(doing)?;
            tidy(&args.path);
        }
        SourceAction::Push(args) => {
            let to = at_registry(&args.to);
            let options = [args.access.options("dest"), digest_file(&args)].concat();
            copy(context, &args, options, format!("oci:{}", args.from), to)?;
        }
        SourceAction::Pull(args) => {
            if args.digestfile.is_some() {
                return Err(Error::msg("option --digestfile: a digest is written for what is pushed"));
            }
            if Path::new(&args.to).symlink_metadata().is_ok() {
                return Err(Error::msg(format!("pull a source image: \"{}\" already exists", args.to)));
            }
            let options = args.access.options("src");
            copy(context, &args, options, at_registry(&args.from), format!("oci:{}", args.to))?;
            tidy(Path::new(&args.to));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The index before the last change is for a store; a directory of sources is the same wherever it was made.
fn tidy(directory: &Path) {
    // What stays is in nobody's way.
    std::fs::remove_file(directory.join("index.json.old")).unwrap_or_default();
}

fn at_registry(name: &str) -> String {
    if split_transport(name).is_some() { name.to_owned() } else { format!("docker://{name}") }
}

fn digest_file(args: &MoveArgs) -> Vec<String> {
    args.digestfile.iter().map(|file| format!("--digestfile={file}")).collect()
}

fn copy(context: &Context, args: &MoveArgs, options: Vec<String>, from: String, to: String) -> Result<()> {
    let doing = || format!("copy the source image \"{from}\" to \"{to}\"");
    let mut command = vec!["copy".to_owned()];
    command.extend(options);
    command.extend(args.quiet.then(|| "--quiet".to_owned()));
    command.extend([from.clone(), to.clone()]);
    context.tools.copy(command).context(doing)?;
    Ok(())
}
