//! `run --mount` as RUN has it: caches, and files of images.

use std::path::{Component, Path, PathBuf};

use hoy_build::{CacheMount, Working};
use hoy_cli::{Context as _, Error, Result};
use hoy_containerfile::MountType;
use hoy_layout::{Lock, Store};
use hoy_oci::IdMaps;
use hoy_spec::Mount;

use crate::content::Origin;
use crate::context::Context;

/// What a command has of caches and images.
#[derive(Default)]
pub(crate) struct RunMounts {
    pub(crate) mounts: Vec<Mount>,
    /// Held while it runs.
    locks: Vec<Lock>,
    /// Kept as long.
    origins: Vec<Origin>,
}

impl RunMounts {
    /// Takes them out of `texts`, for a command in `working` with these ids; what a new cache begins with is made below
    /// `directory`.
    pub(crate) fn take(
        context: &Context,
        store: &Store,
        texts: &mut Vec<String>,
        (working, ids): (&Working, Option<&IdMaps>),
        directory: &Path,
    ) -> Result<Self> {
        let (mut taken, mut left) = (Self::default(), Vec::new());
        for (number, text) in std::mem::take(texts).into_iter().enumerate() {
            let has = |wanted: &str| text.split(',').any(|word| word.starts_with(wanted));
            if !has("type=cache") && !has("from=") {
                left.push(text);
                continue;
            }
            let fresh = directory.join(format!("cache-{number}"));
            if let Err(error) = taken.add(context, store, &text, (working, ids), fresh) {
                taken.close(context)?;
                return Err(error).context(|| format!("option --mount: \"{text}\""));
            }
        }
        *texts = left;
        Ok(taken)
    }

    fn add(
        &mut self,
        context: &Context,
        store: &Store,
        text: &str,
        (working, ids): (&Working, Option<&IdMaps>),
        fresh: PathBuf,
    ) -> Result<()> {
        let mount = hoy_containerfile::Mount::parse(text, |value| Ok(value.to_owned()));
        let mount = mount.map_err(|(error, _)| Error::msg(error.to_string()))?;
        let target = place(&working.config.config.working_dir, &mount.target);
        let target = target.ok_or_else(|| Error::msg("it needs a target, and not / itself"))?;
        let source = match mount.kind {
            MountType::Cache if mount.from.is_empty() => {
                let fill = || {
                    let made = std::fs::create_dir(&fresh);
                    let path = fresh.clone();
                    made.map_err(|source| hoy_build::Error::Io { doing: "create", path, source }).map(|()| fresh)
                };
                let cache = CacheMount::open(store, &mount, &target, "", ids, false, fill)?;
                self.locks.push(cache.lock);
                cache.data
            }
            MountType::Bind if mount.is_read_only => {
                let origin = Origin::open(context, store, &mount.from, true)?;
                let found = hoy_build::inside(&origin.path, &mount.source);
                self.origins.push(origin);
                found?
            }
            MountType::Bind => return Err(Error::msg("what is of an image is only read")),
            _ => return Err(Error::msg("from is for a bind: a cache begins with nothing here")),
        };
        let access = if mount.is_read_only { "ro" } else { "rw" };
        let options = ["rbind", "rprivate", access].map(str::to_owned).to_vec();
        let source = source.to_str().ok_or_else(|| Error::msg("the source is not UTF-8"))?.to_owned();
        self.mounts.push(Mount { destination: target, kind: "bind".to_owned(), source, options });
        Ok(())
    }

    /// Removes the containers that were made for images.
    pub(crate) fn close(self, context: &Context) -> Result<()> {
        drop(self.locks);
        self.origins.into_iter().try_for_each(|origin| origin.close(context))
    }
}

/// A path in the container, as seen from its working directory.
fn place(workdir: &str, typed: &str) -> Option<String> {
    let mut place = PathBuf::from("/");
    for part in Path::new("/").join(workdir).join(typed).components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::ParentDir => drop(place.pop()),
            _ => {}
        }
    }
    place.to_str().filter(|place| !typed.is_empty() && *place != "/").map(str::to_owned)
}
