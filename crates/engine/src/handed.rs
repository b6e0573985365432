//! What the caller handed to this process for the container: descriptors and the socket of sd_notify(3).

use std::path::Path;
use std::process::Command;

use hoy_spec::Mount;

use crate::{Error, Result};

/// Where the notification socket is in the container: the place that systemd's container interface names.
const NOTIFY: &str = "/run/host/notify";

/// Descriptors from 3 on, and the notification socket.
///
/// They become variables of the container's process, so that every runtime passes them on: `LISTEN_PID` could not name
/// a process that does not exist yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handed {
    /// How many descriptors from 3 on the container gets.
    pub descriptors: u32,
    /// How many of them are sockets of systemd's, sd_listen_fds(3).
    pub listen: u32,
    /// Their names, `LISTEN_FDNAMES`.
    pub names: Option<String>,
    /// The socket for sd_notify(3).
    pub notify: Option<String>,
}

impl Handed {
    /// What the environment, given as a function, hands to process `pid`, besides `preserve` further descriptors.
    ///
    /// # Errors
    /// [`Error::NoDescriptor`] when a descriptor to be preserved is not open.
    pub fn from_env(env: impl Fn(&str) -> Option<String>, pid: u32, preserve: u32) -> Result<Self> {
        let number = |name: &str| env(name).and_then(|text| text.parse::<u32>().ok());
        let is_ours = number("LISTEN_PID").is_none_or(|listener| listener == pid);
        let listen = number("LISTEN_FDS").filter(|count| is_ours && *count < 1024).unwrap_or(0);
        let descriptors = listen.saturating_add(preserve);
        if let Some(closed) =
            (3..3 + u64::from(descriptors)).find(|fd| !Path::new(&format!("/proc/self/fd/{fd}")).exists())
        {
            return Err(Error::NoDescriptor(u32::try_from(closed).unwrap_or(u32::MAX)));
        }
        let names = env("LISTEN_FDNAMES").filter(|_| listen > 0);
        Ok(Self { descriptors, listen, names, notify: env("NOTIFY_SOCKET").filter(|path| path.starts_with('/')) })
    }

    /// The variables that the container's process gets.
    pub(crate) fn environment(&self) -> Vec<String> {
        let mut variables = Vec::new();
        if self.listen > 0 {
            variables.push(format!("LISTEN_FDS={}", self.listen));
            variables.push("LISTEN_PID=1".to_owned());
            variables.extend(self.names.iter().map(|names| format!("LISTEN_FDNAMES={names}")));
        }
        if self.notify.is_some() {
            variables.push(format!("NOTIFY_SOCKET={NOTIFY}"));
        }
        variables
    }

    /// How the notification socket gets into the container.
    pub(crate) fn mount(&self) -> Option<Mount> {
        let options = ["bind", "rprivate", "nosuid", "noexec", "nodev"].map(str::to_owned).to_vec();
        let source = self.notify.clone()?;
        Some(Mount { destination: NOTIFY.to_owned(), kind: "bind".to_owned(), source, options })
    }

    /// Keeps a runtime from handing things on in its own way as well.
    pub(crate) fn hide_from(command: &mut Command) {
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_descriptors() {
        let handed = |vars: &[(&str, &str)], preserve| {
            let env = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            Handed::from_env(env, 7, preserve)
        };
        assert_eq!(handed(&[], 0).unwrap(), Handed::default());
        assert_eq!(handed(&[("LISTEN_FDS", "2"), ("LISTEN_PID", "8")], 0).unwrap(), Handed::default());
        assert!(matches!(handed(&[], 900), Err(Error::NoDescriptor(_))));
        let notify = handed(&[("NOTIFY_SOCKET", "/run/n")], 0).unwrap();
        assert_eq!(
            (notify.environment(), notify.mount().unwrap().source),
            (vec![format!("NOTIFY_SOCKET={NOTIFY}")], "/run/n".to_owned())
        );
        let full = Handed { listen: 1, names: Some("a".to_owned()), ..Handed::default() };
        assert_eq!(full.environment(), ["LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=a"]);
    }
}
