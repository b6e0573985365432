//! ONBUILD of the image that a working container is made from: as buildah, `from` carries the triggers out in it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;

use hoy_build::{Working, instruct};
use hoy_cli::{Context as _, Error, Result};
use hoy_containerfile::{Instruction, Kind, Network, Rules, Run, Transfer, Word, expand};
use hoy_layout::ContainerDir;

use crate::context::Context;

/// Carries them out; they are then the image's no longer.
pub(crate) fn triggers(context: &Context, dir: &ContainerDir, is_quiet: bool) -> Result<()> {
    let mut triggers = Vec::new();
    Working::edit(dir, |working| {
        triggers = working.config.config.on_build.take().unwrap_or_default();
        Ok(())
    })?;
    for (number, trigger) in triggers.iter().enumerate() {
        if !is_quiet {
            // Standard error may be closed, and then there is nobody to tell.
            writeln!(std::io::stderr(), "STEP {}: {trigger}", number + 1).unwrap_or_default();
        }
        one(context, dir, trigger).context(|| format!("carry out \"ONBUILD {trigger}\" of the image"))?;
    }
    Ok(())
}

fn one(context: &Context, dir: &ContainerDir, trigger: &str) -> Result<()> {
    let instruction = Instruction::trigger(trigger).map_err(|error| Error::msg(error.render("ONBUILD")))?;
    let has_files = !instruction.statement.heredocs.is_empty();
    let working = Working::read(dir)?.ok_or_else(|| Error::msg("it is no working container"))?;
    let (config, id) = (&working.config.config, dir.id().as_str());
    let words = match &instruction.kind {
        Kind::Run(run) => command(id, run, has_files, config.shell.clone())?,
        Kind::Copy(copy) => transfer("copy", id, copy, has_files, &config.env)?,
        Kind::Add(add) => transfer("add", id, add, has_files, &config.env)?,
        _ => return Ok(Working::edit(dir, |working| instruct(working, &[trigger.to_owned()]))?),
    };
    // What is printed is the container's name, and nothing else.
    let mut own = context.tools.command("hoy-build");
    own.args(words).stdin(Stdio::null());
    let output = own.stderr(Stdio::inherit()).output().context(|| "run \"hoy-build\"")?;
    match output.status.code() {
        Some(0) => Ok(()),
        code => Err(Error::msg(format!("it ended with code {}", code.unwrap_or(125)))),
    }
}

const TOO_MUCH: &str = "its options are for a build: use a Containerfile with FROM and this image";

fn command(id: &str, run: &Run, has_files: bool, shell: Option<Vec<String>>) -> Result<Vec<String>> {
    let is_plain = run.mounts.is_empty() && run.devices.is_empty() && run.network == Network::Default;
    if !is_plain || run.is_insecure || has_files {
        return Err(Error::msg(TOO_MUCH));
    }
    let mut words: Vec<String> = ["run", id, "--"].map(str::to_owned).to_vec();
    if run.command.is_shell {
        words.extend(shell.unwrap_or_else(|| ["/bin/sh", "-c"].map(str::to_owned).to_vec()));
    }
    words.extend(run.command.words.iter().map(|word| word.text.clone()));
    Ok(words)
}

fn transfer(action: &str, id: &str, transfer: &Transfer, has_files: bool, env: &[String]) -> Result<Vec<String>> {
    let Transfer { link, parents, excludes, checksum, keep_git_dir, unpack, .. } = transfer;
    let is_plain = !link && !parents && excludes.is_empty() && checksum.is_none();
    if !is_plain || keep_git_dir.is_some() || unpack.is_some() || has_files {
        return Err(Error::msg(TOO_MUCH));
    }
    let pairs = env.iter().filter_map(|entry| entry.split_once('='));
    let variables: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let text = |word: &Word| Ok::<_, Error>(expand(&word.text, &variables, Rules::words('\\'))?.text);
    let mut words = vec![action.to_owned(), "--quiet".to_owned()];
    for (name, value) in [("from", &transfer.from), ("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
        if let Some(value) = value {
            words.push(format!("--{name}={}", text(value)?));
        }
    }
    words.push(id.to_owned());
    for word in transfer.sources.iter().chain([&transfer.destination]) {
        words.push(text(word)?);
    }
    Ok(words)
}
