//! Stores beside one's own, read where they are: on a network file system, a read-only disk, of another machine.

use std::path::Path;

use crate::{ImageLayout, NamedImage, Result};

/// A store that is read and never written, not even to lock something in it.
#[derive(Debug, Clone)]
pub(crate) struct Additional {
    layout: ImageLayout,
    images: Vec<NamedImage>,
}

impl Additional {
    /// The store at `path`.
    ///
    /// # Errors
    /// As [`ImageLayout::open`] and [`ImageLayout::index`].
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let layout = ImageLayout::open(path)?;
        let mut images = layout.images()?;
        images.iter_mut().for_each(|image| image.additional = Some(path.to_owned()));
        Ok(Self { layout, images })
    }

    pub(crate) fn path(&self) -> &Path {
        self.layout.path()
    }

    pub(crate) fn images(&self) -> &[NamedImage] {
        &self.images
    }
}
