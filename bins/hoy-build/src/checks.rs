//! Build checks for people.

use hoy_cli::{Error, Result};
use hoy_containerfile::Findings;

use crate::build_args::BuildArgs;

/// `--check`: what was found is an error.
pub(crate) fn only(findings: &Findings, file: &str) -> Result<String> {
    match findings.found.len() {
        0 => Ok("Check complete, no warnings found.".to_owned()),
        count => {
            eprint!("{}", text(findings, file));
            Err(Error::msg(format!("Check complete, {} found", counted(count))).with_code(1))
        }
    }
}

/// Warnings of a build; an error where the Containerfile asks for it.
pub(crate) fn beside(findings: &Findings, args: &BuildArgs, file: &str) -> Result<()> {
    if !args.quiet || findings.is_error {
        eprint!("{}", text(findings, file));
    }
    match findings.found.len() {
        count if count > 0 && findings.is_error => {
            let hint = "mend it, or take error=true out of the check directive";
            Err(Error::msg(format!("{file}: {} found by build checks", counted(count))).with_hint(hint))
        }
        _ => Ok(()),
    }
}

fn counted(count: usize) -> String {
    format!("{count} warning{}", if count == 1 { "" } else { "s" })
}

fn text(findings: &Findings, file: &str) -> String {
    let lines = findings.found.iter();
    lines.map(|found| found.place.render(file, &format!("WARNING: {} - {}", found.check, found.message))).collect()
}
