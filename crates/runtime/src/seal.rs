//! The runtime's own file, out of reach of the container (CVE-2019-5736).
//!
//! A process of the container can open what the runtime runs from while the runtime is in it, or make it run again by
//! `#!/proc/self/exe`. So the runtime runs from a read-only mount that is attached nowhere: who opens it through
//! /proc cannot write to it, and there is no other path to the file.

use std::ffi::{CString, OsString};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use hoy_sys::mount::{MountAttr, attr};
use hoy_sys::process::fexecve;
use hoy_sys::rustix::fs::{
    self, Access, AtFlags, CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, memfd_create,
};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::geteuid;

use crate::error::Doing;
use crate::mount::tree;
use crate::{Error, Result};

const SELF: &str = "/proc/self/exe";

/// Makes this process run from a place that nobody in a container can write to, by running it again from there.
///
/// # Errors
/// Those of making the place; the process goes on unprotected in no case.
pub fn seal() -> Result<()> {
    let doing = || "protect the runtime's own file";
    if fs::statvfs(SELF).doing(doing)?.f_flag.contains(StatVfsMountFlags::RDONLY) || is_sealed() {
        return Ok(());
    }
    let read_only = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
    let copy = tree::copy_of_path(Path::new(SELF), false)
        .and_then(|tree| tree::set_attributes(tree.as_fd(), false, read_only).map(|()| tree));
    let place = match copy {
        Ok(tree) => tree,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => {
            if !is_writable_by_this_user() {
                return Ok(());
            }
            sealed_copy().doing(doing)?
        }
        Err(error) => return Err(error).doing(doing),
    };
    let text = |s: OsString| CString::new(s.into_vec()).unwrap_or_default();
    let argv: Vec<CString> = std::env::args_os().map(text).collect();
    let envp: Vec<CString> = std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            text(name)
        })
        .collect();
    let error: std::io::Error = fexecve(place.as_fd(), &argv, &envp).into();
    Err(Error::System { doing: doing().to_owned(), source: error })
}

/// Whether this process runs from a memory file that nobody can change.
fn is_sealed() -> bool {
    let file = fs::openat(CWD, SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    file.and_then(fs::fcntl_get_seals).is_ok_and(|seals| seals.contains(SealFlags::WRITE))
}

/// Root of an ordinary user's container has that user's rights over files, and no more.
fn is_writable_by_this_user() -> bool {
    let owner = fs::stat(SELF).map_or(true, |stat| stat.st_uid == geteuid().as_raw());
    owner || fs::accessat(CWD, SELF, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

fn sealed_copy() -> std::io::Result<std::os::fd::OwnedFd> {
    let memory = memfd_create("hoy-runtime", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = std::fs::File::from(memory);
    std::io::copy(&mut std::fs::File::open(SELF)?.by_ref(), &mut copy)?;
    fs::fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
}
