//! Readiness (sd_notify(3)): what the container says on a socket of its own is told to who asked this process.
//!
//! The caller's socket may be where the container's user may not write, and listens to the service's main process only;
//! so a directory is mounted in the container, `start` or `run` makes a socket in it, and passes on that all is ready.

use std::env::var_os;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{ErrorKind, Result as IoResult};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoy_sys::mount::MountAttr;
use hoy_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::pipe::{PipeFlags, pipe_with};

use crate::Result;
use crate::error::Doing;
use crate::mount::bind_attributes;
use crate::mount::plan::{Kind, Link, MountPlan};
use crate::process::program::warn;

/// Where the directory is inside the container, as runc has it.
const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";

/// How long who was told may take to look at who told it: sd_notify_barrier(3).
const BARRIER: Duration = Duration::from_secs(5);

fn directory(container: &Path) -> PathBuf {
    container.join("notify")
}

/// What the program's environment says, and what is mounted for it, when this process was given `socket`; `container` is
/// the container's state directory.
pub(crate) fn plan(container: &Path, socket: Option<&OsStr>, env: &[String]) -> Option<(String, MountPlan)> {
    socket.filter(|socket| !socket.is_empty())?;
    if env.iter().any(|entry| entry.starts_with("NOTIFY_SOCKET=")) {
        return None;
    }
    let mount = MountPlan {
        destination: PathBuf::from(INSIDE),
        kind: Kind::Bind { source: directory(container), recursive: false, link: Link::Follow },
        attr: MountAttr::default(),
        bind: bind_attributes::plan(&["ro", "nosuid", "nodev", "noexec"], false),
        recursive: MountAttr::default(),
        propagation: Vec::new(),
        data: Vec::new(),
        copy_up: false,
        idmap: None,
        is_on_link: false,
    };
    Some((format!("NOTIFY_SOCKET={INSIDE}/{NAME}"), mount))
}

/// Makes the directory that [`plan`] mounts.
pub(crate) fn prepare(container: &Path) -> Result<()> {
    let path = directory(container);
    DirBuilder::new().mode(0o755).create(&path).doing(|| format!("make directory \"{}\"", path.display()))
}

/// The container's socket and the caller's.
pub(crate) struct Relay {
    inner: UnixDatagram,
    outer: UnixDatagram,
}

impl Relay {
    /// Begins to listen for the container in the state directory `container`; none when there is nobody to tell.
    pub(crate) fn new(container: &Path) -> Result<Option<Self>> {
        let Some(socket) = var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return Ok(None) };
        let Ok(directory) = fs::File::open(directory(container)) else { return Ok(None) };
        // The name of a socket is short; that of the directory need not be.
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()));
        let listen = || {
            let inner = UnixDatagram::bind(&path)?;
            // The container's user is anybody.
            fs::set_permissions(&path, Permissions::from_mode(0o777))?;
            Ok(inner)
        };
        let inner: IoResult<_> = listen();
        let inner = inner.doing(|| "listen for the container's readiness")?;
        match connect(&socket) {
            Ok(outer) => Ok(Some(Self { inner, outer })),
            Err(error) => {
                // It may be one of a service long gone, in an environment that was only inherited.
                warn(&format!("nobody listens at NOTIFY_SOCKET \"{}\": {error}", socket.display()));
                Ok(None)
            }
        }
    }

    /// Passes on what has come; `true` when the container is ready. `pid` is its first process, when the caller is to
    /// take it for the service's main one.
    pub(crate) fn pass_on(&self, pid: Option<i32>) -> Result<bool> {
        let doing = || "pass on the container's readiness";
        let mut buffer = [0; 4096];
        let length = self.inner.recv(&mut buffer).doing(doing)?;
        let message = buffer.get(..length).unwrap_or_default();
        if !message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            return Ok(false);
        }
        let main = pid.map(|pid| format!("\nMAINPID={pid}")).unwrap_or_default();
        self.outer.send(format!("READY=1{main}").as_bytes()).doing(doing)?;
        self.barrier().doing(doing)?;
        Ok(true)
    }

    /// Waits until the container is ready, or has ended.
    pub(crate) fn wait(&self, process: BorrowedFd<'_>, pid: i32) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(self, PollFlags::IN), PollFd::from_borrowed_fd(process, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => other.doing(|| "wait for the container's readiness")?,
            };
            let [socket, _] = fds;
            if socket.revents().is_empty() || self.pass_on(Some(pid))? {
                return Ok(());
            }
        }
    }

    /// Waits until what was said is read: who reads it asks the kernel who we are, and that needs us alive.
    fn barrier(&self) -> IoResult<()> {
        let (read, write): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC)?;
        match hoy_sys::net::send_fds(&self.outer, b"BARRIER=1", &[write.as_fd()]) {
            // It has ended, or does not know of barriers: what was to be said is said.
            Err(_) => return Ok(()),
            Ok(()) => drop(write),
        }
        let timeout = Timespec::try_from(BARRIER).map_err(std::io::Error::other)?;
        poll(&mut [PollFd::new(&read, PollFlags::empty())], Some(&timeout))
            .map(drop)
            .or_else(|errno| if errno == Errno::INTR { Ok(()) } else { Err(errno.into()) })
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// A socket with a path, or with a name in the abstract namespace after `@`.
fn connect(socket: &OsStr) -> IoResult<UnixDatagram> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => return Err(ErrorKind::InvalidInput.into()),
    };
    let outer = UnixDatagram::unbound()?;
    outer.connect_addr(&address)?;
    Ok(outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_is_told() {
        let told = |socket: &str, env: &[String]| plan(Path::new("/s"), Some(OsStr::new(socket)), env).map(|(e, _)| e);
        let inside = Some("NOTIFY_SOCKET=/run/notify/notify.sock".to_owned());
        for (socket, want) in [("", None), ("@name", inside.clone()), ("/run/s", inside)] {
            assert_eq!(told(socket, &[]), want, "{socket:?}");
        }
        assert_eq!(told("/run/s", &["NOTIFY_SOCKET=/mine".to_owned()]), None);
        assert!(plan(Path::new("/s"), None, &[]).is_none());
    }

    #[test]
    fn only_readiness_is_passed_on() {
        let (inner, container) = UnixDatagram::pair().unwrap();
        let (outer, caller) = UnixDatagram::pair().unwrap();
        let relay = Relay { inner, outer };
        container.send(b"STATUS=half\nREADY=0").unwrap();
        assert!(!relay.pass_on(Some(7)).unwrap());
        container.send(b"STATUS=done\nREADY=1\nMAINPID=1\n").unwrap();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 99];
            let length = caller.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        });
        assert!(relay.pass_on(Some(7)).unwrap());
        assert_eq!(reader.join().unwrap(), "READY=1\nMAINPID=7");
    }
}
