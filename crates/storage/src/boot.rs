//! Which boot of the machine this is.

use std::path::Path;

use crate::{Error, Result};

/// The kernel's random name for this boot (random(4)).
pub(crate) fn id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(text.trim().to_owned())
}
