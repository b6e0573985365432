//! `verify`: an image, and what its Containerfile gives when it is built again.

use std::ffi::OsString;
use std::io::Write;
use std::process::{ExitCode, Stdio};

use clap::Args;
use hoy_build::compare;
use hoy_cli::{Context as _, Error, Result, Stdout, print_line};
use hoy_layout::{Image, Store};

use crate::FAILED;
use crate::context::Context;

/// How the exit code says that the two differ.
const DIFFERENT: u8 = 1;

/// Options of build that say where an image goes: the second one goes nowhere.
const WITH_RESULTS: [&str; 9] =
    ["-t", "--tag", "--iidfile", "--output", "-o", "--manifest", "--metadata-file", "--check", "--platform"];

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// An image in the store
    image: String,
    /// What build was given for it: options, and the context
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn verify(context: &Context, args: &VerifyArgs) -> Result<ExitCode> {
    let words = || args.args.iter().filter_map(|arg| arg.to_str());
    let is_result = |word: &&str| WITH_RESULTS.iter().any(|option| word.split('=').next() == Some(option));
    if let Some(word) = words().find(is_result) {
        return Err(Error::msg(format!("{word}: what is built to be compared goes nowhere")));
    }
    let store = context.store()?;
    let (_, first) = store.image(&args.image).context(|| format!("verify \"{}\"", args.image))?;
    let second = again(context, &store, &args.args)?;
    let found = compare(store.layout(), &first, &second);
    if second.descriptor.digest != first.descriptor.digest && !is_named(&store, &second)? {
        context.tools.storage(["rmi", "--force", second.manifest.config.digest.hex().as_str()])?;
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

/// The image that the same Containerfile gives now, every step done anew.
fn again(context: &Context, store: &Store, args: &[OsString]) -> Result<Image> {
    let doing = || "build it again";
    let id = tempfile::NamedTempFile::new().context(|| "make a temporary file")?;
    let mut command = context.tools.command("hoy-build");
    command.args(["build", "--no-cache", "--quiet", "--iidfile"]).arg(id.path());
    let status = command.args(args).stdout(Stdio::null()).status().context(doing)?;
    if !status.success() {
        return Err(Error::msg(format!("build it again: it ended with {status}")).with_code(FAILED));
    }
    let id = std::fs::read_to_string(id.path()).context(doing)?;
    Ok(store.image(id.trim()).context(doing)?.1)
}

fn is_named(store: &Store, image: &Image) -> Result<bool> {
    let index = store.layout().index().context(|| "read the store")?;
    Ok(index.manifests.iter().any(|entry| entry.digest == image.descriptor.digest && entry.ref_name().is_some()))
}
