//! `verify`: an image, and what its Containerfile gives when it is built again.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use hoy_build::compare;
use hoy_cli::{Context as _, Error, Result, Stdout, print_line};

use crate::build::make;
use crate::build_args::BuildArgs;
use crate::context::Context;

/// How the exit code says that the two differ.
const DIFFERENT: u8 = 1;

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// An image in the store
    image: String,
    /// What build was given for it.
    #[command(flatten)]
    build: BuildArgs,
}

pub(crate) fn verify(context: &Context, mut args: VerifyArgs) -> Result<ExitCode> {
    goes_nowhere(&args.build)?;
    let store = context.store()?;
    let layout = store.layout();
    let (_, first) = store.image(&args.image).context(|| format!("verify \"{}\"", args.image))?;
    (args.build.no_cache, args.build.quiet) = (true, true);
    let before = layout.index()?;
    let Some(made) = make(context, &args.build).context(|| "build it again")? else { return Ok(ExitCode::SUCCESS) };
    let (_, second) = store.image(&made.id.to_string())?;
    let found = compare(layout, &first, &second);
    if before.member(&made.manifest.digest).is_none() {
        context.tools.storage(["rmi", made.id.hex().as_str()])?;
    }
    let found = found.context(|| format!("compare \"{}\" with what is built now", args.image))?;
    if found.is_empty() {
        print_line("same")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = Stdout::new();
    for difference in &found {
        writeln!(out, "{difference}")?;
    }
    Ok(ExitCode::from(DIFFERENT))
}

/// Refuses what says where an image goes, or asks for several: the second one is compared, and no more.
fn goes_nowhere(build: &BuildArgs) -> Result<()> {
    let asked = [
        ("--tag", !build.tag.is_empty()),
        ("--output", !build.output.is_empty()),
        ("--manifest", build.manifest.is_some()),
        ("--iidfile", build.iidfile.is_some()),
        ("--metadata-file", build.metadata_file.is_some()),
        ("--platform", build.platform.len() > 1),
        ("--all-platforms", build.all_platforms),
        ("--check", build.check),
        ("--lock", build.lock.is_some()),
        ("--provenance", build.provenance.is_some()),
        ("--attest", !build.attest.is_empty()),
        ("--cache-from", !build.cache_from.is_empty()),
        ("--cache-to", !build.cache_to.is_empty()),
    ];
    match asked.into_iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((option, _)) => {
            let error = Error::msg(format!("option {option}: one image is built to be compared, and goes nowhere"));
            Err(error.with_hint(format!("leave {option} out")))
        }
    }
}
