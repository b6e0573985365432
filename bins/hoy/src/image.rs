//! `hoy pull`, `hoy push`.

use std::process::ExitCode;

use hoy_cli::{Context, Result, print_line};
use hoy_engine::Transfer;

use crate::args::{Global, PullArgs, PushArgs, RegistryArgs};

fn transfer(args: &RegistryArgs) -> Transfer {
    let RegistryArgs { tls_verify, creds, authfile, quiet } = args;
    Transfer { tls_verify: *tls_verify, creds: creds.clone(), authfile: authfile.clone(), quiet: *quiet }
}

pub(crate) fn pull(global: &Global, args: &PullArgs) -> Result<ExitCode> {
    let engine = global.engine()?;
    for name in &args.names {
        match engine.pull(name, &transfer(&args.registry)) {
            Err(error) if error.is_told() => return Ok(ExitCode::from(125)),
            pulled => print_line(pulled?.hex())?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn push(global: &Global, args: &PushArgs) -> Result<ExitCode> {
    let engine = global.engine()?;
    let digest = match engine.push(&args.image, args.destination.as_deref(), &transfer(&args.registry)) {
        Err(error) if error.is_told() => return Ok(ExitCode::from(125)),
        pushed => pushed?,
    };
    if let Some(path) = &args.digestfile {
        std::fs::write(path, &digest).context(|| format!("write \"{}\"", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
