//! The pid file: what `--pid-file` asks for, read by engines to learn the first process.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::Result;
use crate::error::Doing;

/// Writes the pid file: the number alone, no newline, whole or not at all.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let open = || fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary);
    open()
        .and_then(|mut file| file.write_all(pid.to_string().as_bytes()))
        .and_then(|()| fs::rename(&temporary, path))
        .doing(|| format!("write pid file \"{}\"", path.display()))
}
