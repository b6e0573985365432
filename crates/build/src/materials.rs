//! What a build takes from elsewhere, by digest: base images, files and commits; and the lock, which says what they must be.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hoy_layout::{Image, Store};
use hoy_oci::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};

use crate::from::obtain;
use crate::remote::without_credentials;
use crate::{Error, FromOptions, Result, Tools, split_transport, store_name};

/// Locks of this form alone are understood.
const VERSION: u32 = 1;

/// All that was taken, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    hoy_build_lock: u32,
    /// Manifests of images, by name and platform.
    pub images: BTreeMap<String, BTreeMap<String, Digest>>,
    /// Files, by address.
    pub files: BTreeMap<String, Digest>,
    /// Commits, by the address of the repository and `#` with what was asked for.
    pub repositories: BTreeMap<String, String>,
}

impl Default for Lock {
    fn default() -> Self {
        Self { hoy_build_lock: VERSION, images: BTreeMap::new(), files: BTreeMap::new(), repositories: BTreeMap::new() }
    }
}

impl Lock {
    /// Reads a lock.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is none.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let lock: Self = serde_json::from_slice(text).map_err(|source| Error::Json("as a lock of builds", source))?;
        match lock.hoy_build_lock {
            VERSION => Ok(lock),
            other => Err(Error::Refused(format!("it has version {other} of locks, and this program reads {VERSION}"))),
        }
    }
}

/// What is taken while a build goes on, from any thread.
#[derive(Debug, Default)]
pub struct Materials {
    used: Mutex<Lock>,
    /// What it must be, and the name of the file that says so.
    must_be: Option<(Lock, String)>,
}

impl Materials {
    /// Nothing but what `lock`, the content of `file`, has may be taken.
    pub fn locked(lock: Lock, file: String) -> Self {
        Self { must_be: Some((lock, file)), ..Self::default() }
    }

    /// What was taken until now.
    pub fn used(&self) -> Lock {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What something must be, where there is a lock.
    fn wanted<T: Clone>(&self, what: &str, find: impl Fn(&Lock) -> Option<&T>) -> Result<Option<T>> {
        let Some((lock, file)) = &self.must_be else { return Ok(None) };
        let missing = || Error::Refused(format!("{what} is not in the lock \"{file}\": build with --lock to add it"));
        find(lock).cloned().map(Some).ok_or_else(missing)
    }

    fn check<T: Clone + PartialEq + ToString>(&self, what: &str, is: &T, wanted: Option<T>) -> Result<()> {
        match (wanted, &self.must_be) {
            (Some(wanted), Some((_, file))) if wanted != *is => {
                let (is, wanted) = (is.to_string(), wanted.to_string());
                Err(Error::Refused(format!(
                    "{what} is {is} now, and {wanted} in the lock \"{file}\": build with --lock to take what it is now"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The image that a person calls `name`: the one of the lock, where there is a lock.
    pub(crate) fn image(
        &self,
        store: &Store,
        tools: &Tools,
        name: &str,
        platform: &Platform,
        options: &FromOptions,
    ) -> Result<Image> {
        let key = store_name(name).unwrap_or_else(|| name.to_owned());
        let what = format!("the image \"{key}\" for {platform}");
        let wanted = self.wanted(&what, |lock| lock.images.get(&key)?.get(&platform.to_string()))?;
        let read = |found: hoy_layout::NamedImage| store.layout().image(&found.descriptor, platform);
        let image = match &wanted {
            None => read(obtain(store, tools, name, options)?)?,
            Some(digest) => {
                let by_digest = digest.to_string();
                let here = [name, &by_digest].into_iter().filter_map(|text| store.find_image(text).ok());
                let right = here.filter_map(|found| read(found).ok()).find(|image| image.descriptor.digest == *digest);
                let is_remote = split_transport(name).is_none_or(|(transport, _)| transport == "docker");
                match right {
                    Some(image) => image,
                    None if is_remote && !key.starts_with("localhost/") => {
                        // A short name is at the registry that it stands for.
                        let repository = match Reference::candidates(name) {
                            Ok(all) if all.len() > 1 => name.split(['@', ':']).next().unwrap_or(name).to_owned(),
                            _ => Reference::parse(&key)?.name(),
                        };
                        read(obtain(store, tools, &format!("{repository}@{digest}"), options)?)?
                    }
                    None => read(obtain(store, tools, name, options)?)?,
                }
            }
        };
        self.check(&what, &image.descriptor.digest, wanted)?;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.images.entry(key).or_default().insert(platform.to_string(), image.descriptor.digest);
        Ok(image)
    }

    /// What the file at `address` must be.
    pub(crate) fn file(&self, address: &str) -> Result<Option<Digest>> {
        let key = without_credentials(address);
        self.wanted(&format!("\"{key}\""), |lock| lock.files.get(&key))
    }

    /// Takes a file with this digest.
    pub(crate) fn take_file(&self, address: &str, digest: &Digest) -> Result<()> {
        let key = without_credentials(address);
        self.check(&format!("\"{key}\""), digest, self.file(address)?)?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).files.insert(key, *digest);
        Ok(())
    }

    /// What `address`, a repository's with what is asked for, must be.
    pub(crate) fn commit(&self, address: &str) -> Result<Option<String>> {
        self.wanted(&format!("\"{address}\""), |lock| lock.repositories.get(address))
    }

    /// Takes a commit.
    pub(crate) fn take_commit(&self, address: &str, commit: &str) -> Result<()> {
        self.check(&format!("\"{address}\""), &commit.to_owned(), self.commit(address)?)?;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.repositories.insert(address.to_owned(), commit.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_lock_has() {
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        let first = Materials::default();
        first.take_file("http://u:p@h/f", &one).unwrap();
        first.take_commit("http://h/r.git#main", "abc").unwrap();
        let text = serde_json::to_vec(&first.used()).unwrap();
        let lock = Lock::parse(&text).unwrap();
        assert_eq!(lock, first.used());
        assert!(!String::from_utf8(text).unwrap().contains("u:p"));
        let locked = Materials::locked(lock, "x.lock".to_owned());
        locked.take_file("http://h/f", &one).unwrap();
        for (error, words) in [
            (locked.take_file("http://h/f", &other).unwrap_err(), "take what it is now"),
            (locked.take_file("http://h/g", &one).unwrap_err(), "not in the lock \"x.lock\""),
            (locked.take_commit("http://h/r.git#main", "abd").unwrap_err(), "is abd now, and abc in"),
            (locked.take_commit("http://h/r.git#HEAD", "abc").unwrap_err(), "build with --lock to add it"),
            (Lock::parse(br#"{"hoyBuildLock":2,"images":{},"files":{},"repositories":{}}"#).unwrap_err(), "version 2"),
            (Lock::parse(b"[]").unwrap_err(), "as a lock"),
        ] {
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
