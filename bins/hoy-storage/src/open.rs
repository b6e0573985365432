//! Where the store is and how it is used here.

use std::io::Write;
use std::path::PathBuf;

use hoy_cli::{Error, Result};
use hoy_layout::{Roots, Store};
use hoy_storage::OverlayXattrs;
use hoy_sys::rustix::process::geteuid;
use hoy_sys::user::is_initial_root;

use crate::args::Args;

/// The places of one store, as this process may use it.
pub(crate) struct Place {
    pub(crate) roots: Roots,
    pub(crate) xattrs: OverlayXattrs,
    problems: Vec<Error>,
}

impl Place {
    pub(crate) fn find(args: &Args) -> Result<Self> {
        let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let roots = Roots::from_env(env, geteuid().as_raw(), is_initial_root());
        let mut roots = roots.with(args.root.as_deref(), args.runroot.as_deref(), &args.additional_store)?;
        let problems = roots.leave_out_unreadable().into_iter().map(Error::from).collect();
        // Only user 0 of the machine may write attributes of the namespace "trusted".
        let xattrs = if is_initial_root() { OverlayXattrs::Trusted } else { OverlayXattrs::User };
        Ok(Self { roots, xattrs, problems })
    }

    /// Warns of what is left out.
    pub(crate) fn warn(&self) {
        for problem in &self.problems {
            say(format_args!("warning: {problem}"));
        }
    }

    /// The store; whoever looks is told of what is damaged and gone on without.
    pub(crate) fn store(&self) -> Result<Store> {
        Ok(self.quiet_store()?.telling(|error| hoy_cli::warn_of_damage_once("hoy-storage", error)))
    }

    /// The store, for a command that looks for damage itself.
    pub(crate) fn quiet_store(&self) -> Result<Store> {
        Ok(Store::open_or_create(&self.roots)?)
    }
}

/// Warns of damage, with its causes and what to do.
pub(crate) fn warn_of(error: &(dyn std::error::Error + 'static)) {
    hoy_cli::warn_of_damage("hoy-storage", error);
}

/// An error of the store's work, with what can be done about it.
pub(crate) fn explain(error: hoy_storage::Error) -> Error {
    let hint = error.hint();
    let error = Error::from(error);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// [`explain`] for errors of the files alone.
pub(crate) fn explain_layout(error: hoy_layout::Error) -> Error {
    explain(error.into())
}

/// Tells a person something, if standard error leads to one.
pub(crate) fn say(what: impl std::fmt::Display) {
    writeln!(std::io::stderr(), "hoy-storage: {what}").unwrap_or_default();
}

/// Does `work` for each name, goes on after a failure, and fails in the end with the last one; earlier ones are printed.
pub(crate) fn for_each<T>(names: &[T], mut work: impl FnMut(&T) -> Result<()>) -> Result<()> {
    let mut last = None;
    for name in names {
        if let Err(error) = work(name)
            && let Some(earlier) = last.replace(error)
        {
            say(earlier);
        }
    }
    last.map_or(Ok(()), Err)
}
