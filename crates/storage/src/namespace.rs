//! Making the user and mount namespaces in which an ordinary user's files and mounts are.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use hoy_sys::rustix::process::geteuid;
use hoy_sys::user::{in_initial_user_namespace, is_initial_root};

use crate::{Error, Result};

/// What this process may do by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// User 0 of the machine: everything.
    Root,
    /// User 0 of a user namespace: mounts, and files of all its ids.
    InUserNamespace,
    /// Anybody else: needs a user namespace first.
    Ordinary,
}

impl Standing {
    /// The standing of this process.
    pub fn of_this_process() -> Self {
        match (is_initial_root(), geteuid().is_root() && !in_initial_user_namespace().unwrap_or(true)) {
            (true, _) => Self::Root,
            (_, true) => Self::InUserNamespace,
            _ => Self::Ordinary,
        }
    }
}

/// Moves this process, which must have one thread only, into new namespaces where it is user 0.
///
/// `mapper` is a command that waits for a line on standard input, calls [`crate::ids::write_maps`] for this process
/// from outside, and says on standard output what went wrong, if anything.
///
/// # Errors
/// [`Error::Namespace`] where user namespaces are not allowed; [`Error::Ids`].
pub fn create(mut mapper: Command) -> Result<()> {
    // That one was killed says nothing about what is allowed here.
    let lost = |error: std::io::Error| Error::Ids {
        what: format!("ask the process that maps ids: {error}"),
        remedy: "try again".to_owned(),
    };
    let mut mapper = mapper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(lost)?;
    let unshared = hoy_sys::userns::unshare_user_and_mounts();
    let mut said = String::new();
    if let (Ok(()), Some(mut stdin), Some(mut stdout)) = (&unshared, mapper.stdin.take(), mapper.stdout.take()) {
        stdin.write_all(b"\n").map_err(lost)?;
        drop(stdin);
        stdout.read_to_string(&mut said).map_err(lost)?;
    }
    drop(mapper.stdin.take());
    let status = mapper.wait().map_err(lost)?;
    unshared.map_err(|error| Error::Namespace { call: "make a user namespace", source: error.into() })?;
    match said.trim() {
        "" if status.success() => Ok(()),
        "" => Err(lost(std::io::Error::other(format!("it ended with {status}")))),
        said => {
            let (what, remedy) = said.rsplit_once(": ").unwrap_or((said, "see user_namespaces(7)"));
            Err(Error::Ids { what: what.to_owned(), remedy: remedy.to_owned() })
        }
    }
}
