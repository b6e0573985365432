//! Where stores are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::additional::Additional;
use crate::{Error, Result};

/// The variable that lists further stores.
const ADDITIONAL: &str = "HOY_ADDITIONAL_STORES";

/// Where the store and its volatile state are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// `ROOT`: images, layers, containers.
    pub root: PathBuf,
    /// `RUNROOT`: process ids, sockets, locks; may vanish at a reboot.
    pub runroot: PathBuf,
    /// Further stores, whose images and layers are used where they are and never changed.
    pub additional: Vec<PathBuf>,
}

impl Roots {
    /// The places for a user, from an environment given as a function.
    ///
    /// `HOY_ROOT` and `HOY_RUNROOT` win. Then root (user 0 of the initial user namespace: `is_root`) has `/var/lib/hoy`
    /// and `/run/hoy`; another user has `$XDG_DATA_HOME/hoy` or `$HOME/.local/share/hoy`, and `$XDG_RUNTIME_DIR/hoy` or,
    /// where there is none, `/tmp/hoy-UID`, which [`Store::open_or_create`](crate::Store::open_or_create) refuses when
    /// somebody else owns it. `HOY_ADDITIONAL_STORES` lists further stores, separated by colons.
    pub fn from_env(env: impl Fn(&str) -> Option<PathBuf>, uid: u32, is_root: bool) -> Self {
        let set = |name: &str| env(name).filter(|path| path.is_absolute());
        let home = || set("HOME").unwrap_or_else(|| PathBuf::from("/")).join(".local/share");
        let root = set("HOY_ROOT").unwrap_or_else(|| match is_root {
            true => PathBuf::from("/var/lib/hoy"),
            false => set("XDG_DATA_HOME").unwrap_or_else(home).join("hoy"),
        });
        let runroot = set("HOY_RUNROOT").unwrap_or_else(|| match (is_root, set("XDG_RUNTIME_DIR")) {
            (true, _) => PathBuf::from("/run/hoy"),
            (false, Some(runtime)) => runtime.join("hoy"),
            (false, None) => PathBuf::from(format!("/tmp/hoy-{uid}")),
        });
        let listed = env(ADDITIONAL).map(|list| std::env::split_paths(&list).collect::<Vec<_>>()).unwrap_or_default();
        let additional = listed.into_iter().filter(|path| path.is_absolute()).collect();
        Self { root, runroot, additional }
    }

    /// These places with what options say instead; further stores are added.
    ///
    /// # Errors
    /// [`Error::Io`] when a relative path cannot be made absolute.
    pub fn with(mut self, root: Option<&Path>, runroot: Option<&Path>, additional: &[PathBuf]) -> Result<Self> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(Error::io("find", path));
        if let Some(root) = root {
            self.root = absolute(root)?;
        }
        if let Some(runroot) = runroot {
            self.runroot = absolute(runroot)?;
        }
        let listed = additional.iter().map(|path| absolute(path)).collect::<Result<Vec<_>>>()?;
        // What is typed comes before what is in the environment.
        self.additional.splice(0..0, listed);
        let mut seen = BTreeSet::from([self.root.clone()]);
        self.additional.retain(|path| seen.insert(path.clone()));
        Ok(self)
    }

    /// The variables that tell another program of these places.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        // A path with a colon cannot be in a list; whoever uses such a one names it by option to each program.
        let additional = std::env::join_paths(&self.additional).unwrap_or_default();
        vec![
            ("HOY_ROOT", self.root.clone().into()),
            ("HOY_RUNROOT", self.runroot.clone().into()),
            (ADDITIONAL, additional),
        ]
    }

    /// Leaves out further stores that cannot be read, and says of each why.
    pub fn leave_out_unreadable(&mut self) -> Vec<Error> {
        let mut problems = Vec::new();
        self.additional.retain(|path| match Additional::open(path) {
            Ok(_) => true,
            Err(error) => {
                problems.push(Error::Additional { path: path.clone(), source: Box::new(error) });
                false
            }
        });
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let roots = |vars: &[(&str, &str)], uid, is_root| {
            let env = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v));
            let roots = Roots::from_env(env, uid, is_root);
            format!("{} {}", roots.root.display(), roots.runroot.display())
        };
        let home = [("HOME", "/home/a"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        assert_eq!(roots(&home, 0, true), "/var/lib/hoy /run/hoy");
        assert_eq!(roots(&home, 7, false), "/home/a/.local/share/hoy /run/user/7/hoy");
        assert_eq!(roots(&home[..1], 7, false), "/home/a/.local/share/hoy /tmp/hoy-7");
        assert_eq!(roots(&[("HOY_ROOT", "/s"), ("HOY_RUNROOT", "/r")], 0, true), "/s /r");
    }

    #[test]
    fn further_stores() {
        let env = |name: &str| (name == ADDITIONAL).then(|| PathBuf::from("/b:relative:/s:/c"));
        let roots =
            Roots::from_env(env, 0, true).with(Some(Path::new("/s")), None, &["/a".into(), "/b".into()]).unwrap();
        assert_eq!(roots.additional, ["/a", "/b", "/c"].map(PathBuf::from));
        assert!(roots.environment().contains(&(ADDITIONAL, "/a:/b:/c".into())));
        let mut roots = roots;
        assert_eq!(roots.leave_out_unreadable().len(), 3);
        assert!(roots.additional.is_empty());
    }
}
