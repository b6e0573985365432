//! `checkpoint`: saving a container's processes as images, through criu.

mod criu;
pub(crate) mod restore;
mod saved;
mod wire;

use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use hoy_sys::rustix::fs::{CWD, Mode, OFlags, openat};

use crate::checkpoint::criu::{Criu, Notice, Task};
use crate::checkpoint::saved::Stream;
use crate::checkpoint::wire::Writer;
use crate::container::Container;
use crate::error::Doing;
use crate::lifecycle::delete;
use crate::state::Status;
use crate::{Error, Result};

/// How control groups are saved and restored: criu(8) "--manage-cgroups".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupMode {
    /// Not at all.
    Ignore = 0,
    /// Those that are not there are made, with their properties.
    #[default]
    Soft = 3,
    /// As `Soft`, and the container's own gets its properties again.
    Full = 4,
    /// None may be there already.
    Strict = 5,
}

/// What checkpoint and restore are both told.
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// The program criu.
    pub criu: PathBuf,
    /// The directory of the images.
    pub directory: PathBuf,
    /// The directory of criu's log; that of the images without it.
    pub work: Option<PathBuf>,
    /// TCP connections are saved with the rest.
    pub tcp_established: bool,
    /// A Unix socket may have a peer outside.
    pub ext_unix_sk: bool,
    /// The terminal may be the caller's.
    pub shell_job: bool,
    /// File locks are saved with the rest.
    pub file_locks: bool,
    /// Pages are sent when they are asked for.
    pub lazy_pages: bool,
    /// What was saved twice is removed.
    pub auto_dedup: bool,
    /// The network namespace is left empty: hooks fill it.
    pub empty_network: bool,
    /// Deleted files get a name while they are saved.
    pub link_remap: bool,
    /// What is done with control groups.
    pub cgroups: CgroupMode,
}

/// What else `checkpoint` is told.
#[derive(Debug, Clone, Default)]
pub struct CheckpointOptions {
    /// What restore is told as well.
    pub images: Images,
    /// Images that these add to, relative to their directory.
    pub parent: Option<PathBuf>,
    /// The container goes on.
    pub leave_running: bool,
    /// Memory alone is saved, and the container goes on.
    pub pre_dump: bool,
    /// Half-open TCP connections are left out.
    pub tcp_skip_in_flight: bool,
    /// Address and port of who takes the pages.
    pub page_server: Option<(String, u16)>,
    /// A descriptor that is written a NUL byte to when criu waits for page requests.
    pub status_fd: Option<i32>,
}

/// Fields of `criu_opts`.
impl Images {
    /// Opens the directories and begins the request.
    pub(crate) fn request(&self, log: &str) -> Result<(Writer, OwnedFd, OwnedFd)> {
        let (images, work) = (open(&self.directory)?, open(self.work())?);
        let number = |fd: &OwnedFd| u64::try_from(fd.as_raw_fd()).unwrap_or_default();
        const NEW_NETWORK: u64 = 0x4000_0000;
        let request = Writer::default()
            .int(1, number(&images))
            .flag(4, self.ext_unix_sk)
            .flag(5, self.tcp_established)
            .flag(7, self.shell_job)
            .flag(8, self.file_locks)
            .int(9, 4)
            .text(10, Some(log))
            .flag(12, true)
            .flag(16, self.auto_dedup)
            .int(17, number(&work))
            .flag(18, self.link_remap)
            .int(34, self.cgroups as u64)
            .flag(48, self.lazy_pages)
            .flag(50, true);
        let request = if self.empty_network { request.int(38, NEW_NETWORK) } else { request };
        Ok((request, images, work))
    }

    fn work(&self) -> &Path {
        self.work.as_deref().unwrap_or(&self.directory)
    }

    /// Adds to a failure where criu says more, and the complaint there.
    pub(crate) fn explain(&self, error: Error, log: &str) -> Error {
        let path = self.work().join(log);
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // What follows the cause only says what it kept from being done.
        let is_cause = |line: &&str| line.contains("Error (") && !line.to_lowercase().contains("failed");
        match text.lines().rfind(is_cause) {
            Some(line) => Error::Init(format!("criu: {}: see \"{}\"", line.trim(), path.display())),
            None => error,
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open directory \"{}\"", path.display()))
}

/// criu needs what only the machine's root has.
pub(crate) fn check_user(doing: &'static str, id: &str) -> Result<()> {
    let reason = "criu needs root of the machine for it".to_owned();
    let refused = || Error::State { doing, id: id.to_owned(), reason };
    if hoy_sys::user::is_initial_root() { Ok(()) } else { Err(refused()) }
}

/// Saves the processes of `container`; it is deleted then, unless it goes on.
///
/// # Errors
/// [`Error::State`] when it does not run; what criu says.
pub fn checkpoint(container: &Container, options: &CheckpointOptions) -> Result<()> {
    const LOG: &str = "dump.log";
    let state = container.state("checkpoint")?;
    check_user("checkpoint", container.id())?;
    if !matches!(container.status(Some(&state)), Status::Running | Status::Paused) {
        let reason = "container not running".to_owned();
        return Err(Error::State { doing: "checkpoint", id: container.id().to_owned(), reason });
    }
    let config = container.config()?;
    for path in [Some(&options.images.directory), options.images.work.as_ref()].into_iter().flatten() {
        let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
        made.doing(|| format!("make directory \"{}\"", path.display()))?;
    }
    let streams = saved::streams(state.pid)?;
    let (request, _images, _work) = options.images.request(LOG)?;
    let root = state.rootfs.to_string_lossy();
    let mut request = request
        .int(2, u64::try_from(state.pid).unwrap_or_default())
        .flag(3, options.leave_running)
        .text(13, Some(&root))
        .text(14, options.parent.as_ref().map(|parent| parent.to_string_lossy()).as_deref())
        .flag(15, options.pre_dump || options.parent.is_some())
        .flag(46, options.tcp_skip_in_flight);
    if let Some((address, port)) = &options.page_server {
        request = request.message(11, &Writer::default().text(1, Some(address)).int(2, u64::from(*port)));
    }
    let freezer = state.cgroups.get("freezer").or_else(|| state.cgroups.get(""));
    request = request.text(44, freezer.map(|path| path.to_string_lossy()).as_deref());
    let externals = saved::mounts(&config)?.into_iter().map(|mount| format!("mnt[{0}]:{0}", mount.key));
    let namespaces = saved::namespaces(&config)?.into_iter().map(|n| format!("{}[{}]:{}", n.name, n.inode, n.key));
    let files = streams.iter().filter_map(Stream::external);
    for external in externals.chain(namespaces).chain(files) {
        request = request.text(37, Some(&external));
    }
    let task = if options.pre_dump { Task::PreDump } else { Task::Dump };
    let on_notice = |notice: Notice| match options.status_fd {
        Some(fd) if notice.point == "status-ready" => tell_ready(fd),
        _ => Ok(()),
    };
    let done = Criu::start(&options.images.criu)?.work(task, &request, on_notice);
    done.map_err(|error| options.images.explain(error, LOG))?;
    if options.pre_dump {
        return Ok(());
    }
    saved::write_streams(&options.images.directory, &streams)?;
    if options.leave_running { Ok(()) } else { delete(container, true) }
}

fn tell_ready(fd: i32) -> Result<()> {
    let path = format!("/proc/self/fd/{fd}");
    let doing = || format!("write to descriptor {fd}");
    fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(&[0])).doing(doing)
}

/// Keeps a descriptor open in programs that are started, under its number.
pub(crate) fn hand_on(fd: &OwnedFd) -> Result<u64> {
    crate::checkpoint::criu::inherit(fd.as_fd())?;
    Ok(u64::try_from(fd.as_raw_fd()).unwrap_or_default())
}
