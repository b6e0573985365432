//! `build --lock` and `--locked`: the file that says what a build takes from elsewhere.

use std::path::{Path, PathBuf};

use hoy_build::{Lock, Materials};
use hoy_cli::{Context as _, Error, Result};

use crate::build::input;
use crate::build_args::BuildArgs;

/// What may be taken: anything, or what the lock has.
pub(crate) fn materials(args: &BuildArgs) -> Result<Materials> {
    // That there is a place for it is known before anything is built.
    args.lock.as_ref().map(|given| file("--lock", given.as_deref(), args)).transpose()?;
    let Some(given) = &args.locked else { return Ok(Materials::default()) };
    let path = file("--locked", given.as_deref(), args)?;
    let doing = || format!("read the lock \"{}\"", path.display());
    let missing = |error: std::io::Error| Error::from(error).with_hint("make it with --lock");
    let text = std::fs::read(&path).map_err(missing).context(doing)?;
    Ok(Materials::locked(Lock::parse(&text).context(doing)?, path.display().to_string()))
}

/// Writes what was taken, where that is asked for.
pub(crate) fn write(args: &BuildArgs, materials: &Materials) -> Result<()> {
    let Some(given) = &args.lock else { return Ok(()) };
    let path = file("--lock", given.as_deref(), args)?;
    let text = format!("{}\n", serde_json::to_string_pretty(&materials.used())?);
    std::fs::write(&path, text).context(|| format!("write the lock \"{}\"", path.display()))
}

/// The file that is meant: without a name that of the Containerfile, and `.lock`.
fn file(option: &str, given: Option<&Path>, args: &BuildArgs) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let beside = input::local_file(args).map(|mut path| {
        path.as_mut_os_string().push(".lock");
        path
    });
    let text = format!("option {option}: the Containerfile is no file here, beside which a lock could be");
    beside.ok_or_else(|| Error::msg(text).with_hint(format!("name one with {option}=FILE")))
}
