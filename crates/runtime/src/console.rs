//! The container's terminal (runtime-spec config.md "process.terminal"; pty(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use hoy_sys::rustix::fs::{self, Mode, OFlags};
use hoy_sys::rustix::process::{Gid, Uid, ioctl_tiocsctty};
use hoy_sys::rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use hoy_sys::rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use hoy_sys::rustix::termios::{Winsize, tcsetwinsize};
use oci_spec::runtime::Process;

use crate::device::DEVPTS_MAGIC;
use crate::error::Doing;
use crate::mount::tree::{self, Root};
use crate::{Error, Result};

/// Both sides of a terminal.
pub(crate) struct Terminal {
    /// The side that a person is on.
    pub(crate) master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// Makes a terminal of the container's own devpts; only a file of that file system is taken for it.
    pub(crate) fn new(root: &Root<'_>) -> Result<Self> {
        let doing = || "open a terminal";
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let path = Path::new("/dev/pts/ptmx");
        let opened = hoy_sys::path::open_in_root(root.0, path, flags, Mode::empty());
        let master = opened.doing(|| "open \"/dev/pts/ptmx\" in the container")?;
        if fs::fstatfs(&master).doing(doing)?.f_type != DEVPTS_MAGIC {
            return Err(Error::Invalid("\"/dev/pts/ptmx\" of the container is no terminal master".to_owned()));
        }
        unlockpt(&master).doing(doing)?;
        // The other side is asked of this one, never opened by a name that somebody may have changed.
        let slave =
            ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).doing(doing)?;
        Ok(Self { master, slave })
    }

    /// Gives the terminal to the user and the size the configuration has.
    pub(crate) fn prepare(&self, process: &Process) -> Result<()> {
        let uid = Uid::from_raw(process.user().uid());
        fs::fchown(&self.slave, Some(uid), None::<Gid>).doing(|| "give the terminal to its user")?;
        if let Some(size) = process.console_size() {
            let clip = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
            let size = Winsize { ws_row: clip(size.height()), ws_col: clip(size.width()), ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(&self.slave, size).doing(|| "set the terminal's size")?;
        }
        Ok(())
    }

    /// Mounts the terminal on /dev/console.
    pub(crate) fn mount(&self, root: &Root<'_>) -> Result<()> {
        let target = root.file(Path::new("/dev/console"))?;
        tree::copy_of(self.slave.as_fd(), false)
            .and_then(|tree| tree::attach(tree.as_fd(), target.as_fd()))
            .doing(|| "mount the terminal on \"/dev/console\"")
    }

    /// Makes it this session's terminal and its standard streams.
    pub(crate) fn take(&self) -> Result<()> {
        let doing = || "take the terminal";
        ioctl_tiocsctty(&self.slave).doing(doing)?;
        dup2_stdin(&self.slave).doing(doing)?;
        dup2_stdout(&self.slave).doing(doing)?;
        dup2_stderr(&self.slave).doing(doing)
    }
}

/// Sends the master to who listens at `socket`: one message, the terminal's name and the descriptor.
pub(crate) fn send(socket: &Path, master: BorrowedFd<'_>) -> Result<()> {
    let name = ptsname(master, Vec::new()).map(std::ffi::CString::into_bytes).unwrap_or_else(|_| b"pty".to_vec());
    give(socket, "terminal", &name, master)
}

/// Sends a descriptor of a process to who listens at `socket`, named as runc names it: `standard` for a container's
/// first process, `setns` for one that joined it.
pub(crate) fn send_pidfd(socket: &Path, name: &[u8], pidfd: BorrowedFd<'_>) -> Result<()> {
    give(socket, "pidfd", name, pidfd)
}

fn give(socket: &Path, what: &str, name: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let doing = || format!("send the {what} to \"{}\"", socket.display());
    let stream = UnixStream::connect(socket).doing(doing)?;
    hoy_sys::net::send_fds(&stream, name, &[fd]).doing(doing)
}
