//! What `--from` of a COPY and `from` of a mount name: the context, another context, a stage, an image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

use hoy_layout::{ContainerId, Store};
use hoy_oci::{Digest, Platform};

use crate::containerfile::caches::Caches;
use crate::containerfile::context::Context;
use crate::containerfile::report::Report;
use crate::run::Isolation;
use crate::tools::answer;
use crate::{Error, Result, Tools};

/// Files to be copied or mounted.
#[derive(Debug, Clone)]
pub(crate) enum Files {
    /// Of a directory outside of any image; they may change.
    Context(Arc<Context>),
    /// Of an image in the store.
    Image {
        /// Its manifest.
        manifest: Digest,
        /// The digest of its layers.
        chain: Digest,
    },
    /// None at all.
    Nothing,
}

impl Files {
    /// A name under which a fingerprint can be remembered: files that cannot change have one.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Self::Image { chain, .. } => Some(chain.to_string()),
            Self::Context(_) | Self::Nothing => None,
        }
    }

    /// The ignore file that leaves some of them out.
    pub(crate) fn ignore_file(&self) -> Option<&Path> {
        if let Self::Context(context) = self { context.ignore_file.as_deref() } else { None }
    }

    pub(crate) fn keeps_owner(&self) -> bool {
        matches!(self, Self::Image { .. })
    }
}

/// Containers that exist for a build alone; dropped, they are removed.
#[derive(Debug)]
pub(crate) struct Containers<'a> {
    tools: &'a Tools,
    /// The file that tells `prune` whose they are.
    record: PathBuf,
    isolation: Isolation,
    /// Where layers of images may still have to be fetched from.
    caches: (&'a Store, &'a Report, &'a Caches),
    /// Roots of images that files are taken from, by manifest.
    mounted: Mutex<BTreeMap<Digest, PathBuf>>,
    ids: Mutex<Vec<String>>,
    /// Processes that remove containers.
    removals: Mutex<Vec<Child>>,
}

/// The record's name, which is that of a file with `.json` behind it in a container's directory.
pub(crate) const STEP_RECORD: &str = "build-step";

impl<'a> Containers<'a> {
    pub(crate) fn new(
        tools: &'a Tools,
        record: PathBuf,
        isolation: Isolation,
        caches: (&'a Store, &'a Report, &'a Caches),
    ) -> Self {
        Self {
            tools,
            record,
            isolation,
            caches,
            mounted: Mutex::default(),
            ids: Mutex::default(),
            removals: Mutex::default(),
        }
    }

    /// A new container with the files of an image, or with none.
    pub(crate) fn create(&self, manifest: Option<&Digest>) -> Result<ContainerId> {
        self.create_with(manifest, &[])
    }

    /// The same with the ids that options say.
    pub(crate) fn create_with(&self, manifest: Option<&Digest>, ids: &[String]) -> Result<ContainerId> {
        let (store, report, caches) = self.caches;
        if let Some(manifest) = manifest.filter(|_| caches.is_waiting()) {
            let layout = store.layout();
            if let Some(descriptor) = layout.manifest(manifest)? {
                let image = layout.image(&descriptor, &Platform::host())?;
                caches.have(store, self.tools, report, &image.manifest.layers)?;
            }
        }
        let image = manifest.map_or_else(|| "scratch".to_owned(), ToString::to_string);
        let record = format!("{STEP_RECORD}={}", self.record.display());
        let mut args = vec!["create", "--volatile", "--record", &record];
        args.extend((self.isolation == Isolation::Chroot).then_some("--plain"));
        args.extend(ids.iter().map(String::as_str));
        args.push(&image);
        let id = self.tools.storage(args)?;
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).push(id.clone());
        Ok(id.parse()?)
    }

    /// Removes a container while the build goes on.
    pub(crate) fn remove(&self, id: &ContainerId) -> Result<()> {
        let removal = self.tools.storage_stream(["rm", "--force", id.as_str()])?;
        self.removals.lock().unwrap_or_else(PoisonError::into_inner).push(removal);
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| known != id.as_str());
        Ok(())
    }

    /// Where the files of an image can be read.
    pub(crate) fn root_of(&self, manifest: &Digest) -> Result<PathBuf> {
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = mounted.get(manifest) {
            return Ok(path.clone());
        }
        let path = self.tools.mount(self.create(Some(manifest))?.as_str())?;
        mounted.insert(*manifest, path.clone());
        Ok(path)
    }

    /// Removes all of them.
    pub(crate) fn clear(&self) -> Result<()> {
        for removal in std::mem::take(&mut *self.removals.lock().unwrap_or_else(PoisonError::into_inner)) {
            let output = removal.wait_with_output().map_err(Error::io("wait for", "hoy-storage"))?;
            answer("hoy-storage", output)?;
        }
        let ids = std::mem::take(&mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner));
        if ids.is_empty() {
            return Ok(());
        }
        let mut args = vec!["rm".to_owned(), "--force".to_owned()];
        args.extend(ids);
        self.tools.storage(args).map(drop)
    }
}

impl Drop for Containers<'_> {
    fn drop(&mut self) {
        // Whatever stays is found by prune through its record.
        self.clear().unwrap_or_default();
    }
}

impl From<hoy_containerfile::Error> for Error {
    fn from(error: hoy_containerfile::Error) -> Self {
        Self::Language { error, span: hoy_containerfile::Span::default() }
    }
}
