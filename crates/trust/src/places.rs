//! Where signatures are beside registries: containers-registries.d(5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoy_oci::Digest;
use serde::Deserialize;

use crate::{Error, Result};

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What all files say together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Places {
    default_docker: Option<Signatures>,
    docker: BTreeMap<String, Signatures>,
}

/// What is said of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Signatures {
    lookaside: Option<String>,
    lookaside_staging: Option<String>,
    /// The old words for the two.
    sigstore: Option<String>,
    sigstore_staging: Option<String>,
    use_sigstore_attachments: Option<bool>,
}

impl Places {
    /// Reads all `*.yaml` in the directory; one that is not there says nothing.
    ///
    /// # Errors
    /// When a file cannot be read, or says something that is not known, or that another one says too.
    pub fn read(directory: &Path) -> Result<Self> {
        let entries = match std::fs::read_dir(directory) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(Error::file("read", directory))?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(Error::file("read", directory))?.path();
            paths.extend(path.extension().is_some_and(|e| e == "yaml").then_some(path));
        }
        paths.sort();
        let mut all = Self::default();
        for path in paths {
            all.add(Self::read_file(&path)?, &path)?;
        }
        Ok(all)
    }

    fn read_file(path: &Path) -> Result<Self> {
        let wrong = |reason: &dyn ToString| Error::form(format!("read \"{}\"", path.display()), reason.to_string());
        if std::fs::metadata(path).map_err(Error::file("read", path))?.len() > MAX_FILE_BYTES {
            return Err(wrong(&"it is too long"));
        }
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        // A file of nothing but comments is one that says nothing.
        let is_empty = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if is_empty { Ok(Self::default()) } else { serde_saphyr::from_str(&text).map_err(|e| wrong(&e)) }
    }

    fn add(&mut self, other: Self, path: &Path) -> Result<()> {
        let twice = |what: &str| {
            let reason = format!("another file has {what} too");
            Err(Error::form(format!("read \"{}\"", path.display()), reason))
        };
        if other.default_docker.is_some() && self.default_docker.is_some() {
            return twice("default-docker");
        }
        self.default_docker = self.default_docker.take().or(other.default_docker);
        for (scope, said) in other.docker {
            if self.docker.contains_key(&scope) {
                return twice(&format!("\"{scope}\""));
            }
            self.docker.insert(scope, said);
        }
        Ok(())
    }

    /// What is said of an image; of `scopes`, which it is in, the narrowest comes first.
    pub fn find(&self, scopes: &[String]) -> Signatures {
        let found = scopes.iter().find_map(|scope| self.docker.get(scope));
        found.or(self.default_docker.as_ref()).cloned().unwrap_or_default()
    }
}

impl Signatures {
    /// Whether sigstore signatures are at the registry, beside the image.
    pub fn are_attached(&self) -> bool {
        self.use_sigstore_attachments.unwrap_or(false)
    }

    /// Where simple signatures are read, as an address.
    pub fn to_read(&self) -> Option<&str> {
        self.lookaside.as_deref().or(self.sigstore.as_deref())
    }

    /// Where simple signatures are written, as an address.
    pub fn to_write(&self) -> Option<&str> {
        self.lookaside_staging.as_deref().or(self.sigstore_staging.as_deref()).or_else(|| self.to_read())
    }

    /// The address below `base` of signature `number`, from 1, of the image in `repository`.
    pub fn address(base: &str, repository: &str, digest: &Digest, number: usize) -> String {
        format!("{}/{repository}@sha256={}/signature-{number}", base.trim_end_matches('/'), digest.hex())
    }

    /// The file that an address is, if it is one.
    pub fn file(address: &str) -> Option<PathBuf> {
        let path = address.strip_prefix("file://")?;
        path.starts_with('/').then(|| PathBuf::from(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(Places::read(&dir.path().join("none")).unwrap(), Places::default());
        write("default.yaml", "# nothing\n");
        write("a.yaml", "default-docker:\n  sigstore-staging: file:///var/lib/sigs\n");
        write("b.yaml", "docker:\n  r.x/a:\n    lookaside: https://s.x/sigs/\n    use-sigstore-attachments: true\n");
        write("c.txt", "nonsense");
        let places = Places::read(dir.path()).unwrap();
        let found = places.find(&["r.x/a:1".to_owned(), "r.x/a".to_owned()]);
        assert_eq!((found.to_read(), found.are_attached()), (Some("https://s.x/sigs/"), true));
        let other = places.find(&["s.x".to_owned()]);
        assert_eq!(
            (other.to_read(), other.to_write(), other.are_attached()),
            (None, Some("file:///var/lib/sigs"), false)
        );
        let digest = Digest::of(b"");
        let address = Signatures::address("file:///s/", "a/b", &digest, 1);
        assert_eq!(address, format!("file:///s/a/b@sha256={}/signature-1", digest.hex()));
        assert!(Signatures::file(&address).is_some() && Signatures::file("https://x/y").is_none());
        for wrong in ["docker: {r.x/a: {}}", "default-docker: {}", "x: 1", "docker: {z: {looka: b}}", "[", "a: b: c"] {
            write("z.yaml", wrong);
            assert!(Places::read(dir.path()).is_err(), "{wrong}");
        }
    }
}
