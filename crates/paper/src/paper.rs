//! Owners and devices on paper: where a user namespace has one id, what a command says with chown(2) and mknod(2) is
//! written down instead.
//!
//! Files and directories carry it in the attribute that unpacked files have too; of links and pipes, which can have no
//! attributes, it stands in a record of the container. An empty file stands for a device. Either way it is in the layer
//! that is made of them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::JoinHandle;

use hoy_layer::{Device, OVERRIDE_STAT, OverrideStat};
use hoy_layout::{ContainerDir, OwnedInode};
use hoy_spec::{Config, Seccomp, SyscallRule};
use hoy_sys::net::recv_fds;
use hoy_sys::process::{flags, unshare};
use hoy_sys::rustix::buffer::spare_capacity;
use hoy_sys::rustix::event::{PollFd, PollFlags, poll};
use hoy_sys::rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, StatxFlags, Uid, XattrFlags, chownat, fchmod, fsetxattr,
    fstat, getxattr, major, minor, open, openat, openat2, readlinkat, removexattr, setxattr, statat, statx, unlinkat,
};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{chroot, fchdir};
use hoy_sys::seccomp::{
    Chown, Chowned, Instruction, Making, Notification, Opening, answer, filter_flags, give, is_waiting, proceed,
    receive, set_filter,
};
use hoy_sys::user::{in_initial_user_namespace, set_file_ids};

use crate::devices::Place;
use crate::{Error, Result};

/// The calls that are told, by one of them: the filter of a user namespace with one id answers them all alike.
const CHOWN: &str = "fchownat";
/// What has a call told.
const NOTIFY: &str = "SCMP_ACT_NOTIFY";
/// BPF_RET | BPF_K of SECCOMP_RET_ALLOW: a filter that lets everything pass.
const ALL: Instruction = Instruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 };
/// Where it is told.
const SOCKET: &str = "owners.sock";
/// The calls that make a device.
const MKNOD: [&str; 2] = ["mknod", "mknodat"];
/// The capability that it takes, and the one that lets root write anywhere: capabilities(7).
const CAP_MKNOD: u32 = 27;
const CAP_DAC_OVERRIDE: u32 = 1;
/// O_CLOEXEC: open(2).
const CLOSE_ON_EXEC: i32 = OFlags::CLOEXEC.bits().cast_signed();
/// PATH_MAX: open(2).
const MAX_PATH_BYTES: usize = 4096;
/// What a read of another process's memory cannot be expected to cross.
const PAGE_BYTES: u64 = 4096;

type Call<T> = std::result::Result<T, Errno>;

/// Somebody who writes down what one command says.
#[derive(Debug)]
pub struct Paper {
    thread: JoinHandle<Call<Vec<OwnedInode>>>,
    /// Closed to end it.
    stop: PipeWriter,
    socket: PathBuf,
}

impl Paper {
    /// Has `config` tell of every chown(2) if it would do it on paper only, and of every mknod(2) if it makes no device, and
    /// somebody listen in `directory`, the bundle.
    ///
    /// With `opens` it is told of opened paths too, and gives what cannot be mounted: devices, and files of /proc.
    ///
    /// # Errors
    /// Those of listening there.
    pub fn of(config: &mut Config, directory: &Path, container: &ContainerDir, opens: bool) -> Result<Option<Self>> {
        let seccomp = match &mut config.linux.seccomp {
            Some(seccomp) => seccomp,
            None if opens => config.linux.seccomp.insert(hoy_spec::Seccomp::default()),
            None => return Ok(None),
        };
        let tells = tell_of_owners(seccomp) || opens;
        // In a user namespace nobody makes a device; one of the container's own has ids that this process cannot make files of.
        let is_below = config.linux.uid_mappings.is_empty() && !in_initial_user_namespace().unwrap_or(true);
        let makes_devices = (tells || is_below) && tell_of_devices(seccomp, &config.process.capabilities.bounding);
        if !tells && !makes_devices {
            return Ok(None);
        }
        // This process is itself in a container whose calls are told: its listener hears of these too, and there is but one.
        if !opens && is_told_of() {
            for rule in seccomp.syscalls.iter_mut().filter(|rule| rule.action == NOTIFY) {
                "SCMP_ACT_ALLOW".clone_into(&mut rule.action);
            }
            return Ok(None);
        }
        let failed = || Error::io::<Errno>("listen in", directory);
        let (stopped, stop) = std::io::pipe().map_err(Error::io("create", "pipe"))?;
        let place = File::open(directory).map_err(Error::io("open", directory))?;
        // A path through a descriptor is short enough for a socket wherever the directory is: unix(7).
        let path = format!("/proc/{}/fd/{}/{SOCKET}", std::process::id(), place.as_raw_fd());
        let listener = UnixListener::bind(&path).map_err(Error::io("listen in", directory))?;
        let path_only = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let writer = Writer {
            processes: open("/proc", path_only, Mode::empty()).map_err(failed())?,
            descriptors: open("/proc/self/fd", path_only, Mode::empty()).map_err(failed())?,
            devices: open("/dev", path_only, Mode::empty()).map_err(failed())?,
            trees: [container.upper(), directory.join(&config.root.path)]
                .iter()
                .filter_map(|tree| open(tree, path_only, Mode::empty()).ok())
                .collect(),
            links: container.owned_inodes()?,
            makes_devices,
        };
        seccomp.listener_path = Some(path);
        let thread = std::thread::spawn(move || {
            let _place = place;
            writer.attend(&listener, &stopped)
        });
        Ok(Some(Self { thread, stop, socket: directory.join(SOCKET) }))
    }

    /// Writes what was said into the record of the container; the command has ended.
    ///
    /// # Errors
    /// What the listener failed of; those of writing it.
    pub fn finish(self, container: &ContainerDir) -> Result<()> {
        drop(self.stop);
        std::fs::remove_file(&self.socket).map_err(Error::io("remove", &self.socket))?;
        let ended = self.thread.join().map_err(|_| Error::Gone)?;
        let links = ended.map_err(Error::io("write down owners of", container.path()))?;
        if links.is_empty() { Ok(()) } else { Ok(container.set_owned_inodes(&links)?) }
    }
}

/// Who makes a call.
struct Caller {
    /// The permissions that nothing of it gets: umask(2).
    umask: u32,
    uid: u32,
    gid: u32,
    may_make_devices: bool,
}

/// What is needed to write owners down.
struct Writer {
    /// /proc of this process, and the names in it of this process's own descriptors.
    processes: OwnedFd,
    descriptors: OwnedFd,
    devices: OwnedFd,
    /// Where what the command sees as its root is written, the first that has a file.
    trees: Vec<OwnedFd>,
    links: Vec<OwnedInode>,
    /// The command may make devices.
    makes_devices: bool,
}

impl Writer {
    fn attend(mut self, listener: &UnixListener, stopped: &PipeReader) -> Call<Vec<OwnedInode>> {
        // The root directory changes with each caller's.
        unshare(flags::FS).map_err(|error| error.errno)?;
        // Of the command, and of each that is run in its container beside it.
        let mut all: Vec<OwnedFd> = Vec::new();
        loop {
            let mut fds = vec![PollFd::new(stopped, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
            fds.extend(all.iter().map(|calls| PollFd::new(calls, PollFlags::IN)));
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let told: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            let (own, told) = told.split_at(2);
            let is_called = |told: &PollFlags| told.contains(PollFlags::IN);
            for (calls, _) in all.iter().zip(told).filter(|(_, told)| is_called(told)) {
                self.attend_to(calls)?;
            }
            match own {
                [_, new] if is_called(new) => all.extend(accept(listener)?),
                [stop, _] if !stop.is_empty() && !told.iter().any(is_called) => return Ok(self.links),
                _ => {
                    // The last process that has the filter ended.
                    let mut told = told.iter();
                    all.retain(|_| told.next().is_none_or(|told| told.is_empty() || is_called(told)));
                }
            }
        }
    }

    fn attend_to(&mut self, calls: &OwnedFd) -> Call<()> {
        let call = match receive(calls.as_fd()) {
            Ok(call) => call,
            // Whoever called was killed.
            Err(error) if matches!(error.errno, Errno::NOENT | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.errno),
        };
        let answered = match (call.chown(), call.making(), call.opening()) {
            (Some(chown), ..) => {
                let result = self.chown(calls, &call, chown);
                answer(calls.as_fd(), call.id, result)
            }
            (None, Some(making), _) => match self.makes_devices.then(|| self.make(calls, &call, making)).flatten() {
                Some(result) => answer(calls.as_fd(), call.id, result),
                None => proceed(calls.as_fd(), call.id),
            },
            (None, None, Some(opening)) => match self.open(calls, &call, opening) {
                Some(file) => give(calls.as_fd(), call.id, file.as_fd(), opening.flags & CLOSE_ON_EXEC != 0),
                None => proceed(calls.as_fd(), call.id),
            },
            (None, None, None) if call.is_foreign_making() => proceed(calls.as_fd(), call.id),
            // A program of another processor: on paper, and not even written down.
            (None, None, None) => answer(calls.as_fd(), call.id, Ok(())),
        };
        match answered {
            Err(error) if error.errno != Errno::NOENT => Err(error.errno),
            _ => Ok(()),
        }
    }

    fn chown(&mut self, calls: &OwnedFd, call: &Notification, chown: Chown) -> Call<()> {
        let target = self.find(call, chown.what)?;
        if !is_waiting(calls.as_fd(), call.id) {
            return Err(Errno::NOENT);
        }
        // As the kernel does for who may: privileges of the file go, and a file of a lower layer is copied up.
        let root = |id: Option<u32>| id.map(|_| 0);
        let (user, group) = (root(chown.uid).map(Uid::from_raw), root(chown.gid).map(Gid::from_raw));
        match chownat(&target, "", user, group, AtFlags::EMPTY_PATH) {
            // Somebody else's, in a directory of the host.
            Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => return Ok(()),
            other => other?,
        }
        // What is mounted below the root comes into no layer, and is perhaps a directory of the person who builds.
        if chown.uid.is_none() && chown.gid.is_none() || !self.is_of_root(call, &target)? {
            return Ok(());
        }
        let stat = fstat(&target)?;
        // Under this name all calls reach it that know no O_PATH descriptors.
        fchdir(&self.descriptors)?;
        let name = target.as_raw_fd().to_string();
        match FileType::from_raw_mode(stat.st_mode) {
            kind @ (FileType::RegularFile | FileType::Directory) => {
                match record(&name, &chown, stat.st_mode & 0o7777, kind == FileType::Directory) {
                    // A file system without such attributes is none that a layer is made of.
                    Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => Ok(()),
                    other => other,
                }
            }
            _ => self.remember(&name, &chown),
        }
    }

    /// Makes the file that stands for a device; none where the kernel is to answer.
    fn make(&self, calls: &OwnedFd, call: &Notification, making: Making) -> Option<Call<()>> {
        let device = device(making)?;
        let caller = self.caller(call).ok()?;
        if !caller.may_make_devices {
            return None;
        }
        // The file is its caller's, and where that may write.
        set_file_ids(caller.uid, caller.gid);
        let made = self.stand_in(calls, call, making, device, caller.umask);
        set_file_ids(0, 0);
        Some(made)
    }

    fn stand_in(
        &self,
        calls: &OwnedFd,
        call: &Notification,
        making: Making,
        device: (bool, Device),
        umask: u32,
    ) -> Call<()> {
        let path = self.path(call, making.address)?;
        let at = path.iter().rposition(|c| *c == b'/').map_or(0, |slash| slash + 1);
        let (parent, name) = path.split_at_checked(at).unwrap_or_default();
        if name.is_empty() {
            return Err(Errno::NOENT);
        }
        let parent = if parent.is_empty() { b"." } else { parent };
        let directory = self.named(call, making.dir, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
        let mode = making.mode & 0o7777 & !umask;
        if !is_waiting(calls.as_fd(), call.id) {
            return Err(Errno::NOENT);
        }
        // What is mounted below the root comes into no layer.
        if !self.is_of_root(call, &directory)? {
            return Err(Errno::PERM);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&directory, name, flags, Mode::RUSR | Mode::WUSR)?;
        let stat = OverrideStat { uid: 0, gid: 0, mode, device: Some(device) };
        let said = fsetxattr(&file, OVERRIDE_STAT, stat.to_value().as_bytes(), XattrFlags::empty());
        said.and_then(|()| fchmod(&file, Mode::from_raw_mode(mode & 0o777))).inspect_err(|_| {
            // Without what it stands for it is an empty file that nobody made.
            unlinkat(&directory, name, AtFlags::empty()).unwrap_or_default();
        })
    }

    /// What the caller is like: proc_pid_status(5).
    fn caller(&self, call: &Notification) -> Call<Caller> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.processes, format!("{}/status", call.pid), flags, Mode::empty())?;
        let status = std::io::read_to_string(File::from(file)).map_err(|_| Errno::SRCH)?;
        let words = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::split_whitespace);
        let first = |name, base| {
            let number = words(name)?.next()?;
            u64::from_str_radix(number, base).ok()
        };
        // The fourth is what files are made with.
        let id = |name| words(name)?.nth(3)?.parse().ok();
        let read = || {
            let capabilities = first("CapEff:", 16)?;
            let has = |capability: u32| capabilities & (1 << capability) != 0;
            let (uid, gid) = (id("Uid:")?, id("Gid:")?);
            // Where root may not write either is for the kernel to say.
            let may_make_devices = has(CAP_MKNOD) && (uid != 0 || has(CAP_DAC_OVERRIDE));
            Some(Caller { umask: u32::try_from(first("Umask:", 8)?).ok()?, uid, gid, may_make_devices })
        };
        read().ok_or(Errno::SRCH)
    }

    /// What is given for a path in place of what is there; none for most.
    fn open(&self, calls: &OwnedFd, call: &Notification, opening: Opening) -> Option<OwnedFd> {
        let process = statat(&self.processes, call.pid.to_string(), AtFlags::empty()).ok()?;
        // Only what its own user may look at of a process is read.
        set_file_ids(process.st_uid, process.st_gid);
        let path = self.path(call, opening.address);
        set_file_ids(0, 0);
        let place = crate::devices::place(&path.ok()?, call.pid)?;
        if !is_waiting(calls.as_fd(), call.id) {
            return None;
        }
        let flags = OFlags::from_bits_retain(opening.flags.cast_unsigned());
        let flags = (flags & (OFlags::ACCMODE | OFlags::APPEND | OFlags::NONBLOCK)) | OFlags::CLOEXEC | OFlags::NOCTTY;
        set_file_ids(process.st_uid, process.st_gid);
        let file = match place {
            Place::Process(name) => openat(&self.processes, name, flags, Mode::empty()),
            Place::Device(name) => openat(&self.devices, name, flags, Mode::empty()),
        };
        set_file_ids(0, 0);
        file.ok()
    }

    /// Opens what a call names, as its caller would find it, and links that only the kernel makes are not followed.
    fn find(&self, call: &Notification, what: Chowned) -> Call<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let (dir, address, follows, may_be_empty) = match what {
            Chowned::Open(fd) => return self.descriptor(call, fd),
            Chowned::Named { dir, address, follows, may_be_empty } => (dir, address, follows, may_be_empty),
        };
        let path = self.path(call, address)?;
        if path.is_empty() {
            return if may_be_empty { self.start(call, dir) } else { Err(Errno::NOENT) };
        }
        let flags = if follows { flags } else { flags | OFlags::NOFOLLOW };
        self.named(call, dir, &path, flags)
    }

    /// Opens a path as its caller would find it, from an open directory or the working directory.
    fn named(&self, call: &Notification, dir: Option<i32>, path: &[u8], flags: OFlags) -> Call<OwnedFd> {
        fchdir(self.of_process(call, "root")?)?;
        chroot(".")?;
        if !path.starts_with(b"/") {
            fchdir(self.start(call, dir)?)?;
        }
        openat2(CWD, OsStr::from_bytes(path), flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
    }

    fn of_process(&self, call: &Notification, name: &str) -> Call<OwnedFd> {
        openat(&self.processes, format!("{}/{name}", call.pid), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    }

    fn descriptor(&self, call: &Notification, fd: i32) -> Call<OwnedFd> {
        match self.of_process(call, &format!("fd/{fd}")) {
            Err(Errno::NOENT) => Err(Errno::BADF),
            other => other,
        }
    }

    fn start(&self, call: &Notification, dir: Option<i32>) -> Call<OwnedFd> {
        dir.map_or_else(|| self.of_process(call, "cwd"), |fd| self.descriptor(call, fd))
    }

    /// Whether a file is on the same mount as the caller's root directory.
    fn is_of_root(&self, call: &Notification, file: &OwnedFd) -> Call<bool> {
        let mount = |file: &OwnedFd| statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|got| got.stx_mnt_id);
        let root = self.of_process(call, "root")?;
        Ok(mount(file)? == mount(&root)?)
    }

    /// A path in the memory of the caller.
    fn path(&self, call: &Notification, address: u64) -> Call<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let memory = File::from(openat(&self.processes, format!("{}/mem", call.pid), flags, Mode::empty())?);
        let mut path = Vec::new();
        while path.len() < MAX_PATH_BYTES {
            let at = address.checked_add(path.len() as u64).ok_or(Errno::FAULT)?;
            let mut page = vec![0; usize::try_from(PAGE_BYTES - at % PAGE_BYTES).unwrap_or(1)];
            let count = memory.read_at(&mut page, at).map_err(|_| Errno::FAULT)?;
            let read = page.get(..count).filter(|read| !read.is_empty()).ok_or(Errno::FAULT)?;
            match read.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    path.extend(read.iter().take(end));
                    return if path.len() < MAX_PATH_BYTES { Ok(path) } else { Err(Errno::NAMETOOLONG) };
                }
                None => path.extend(read),
            }
        }
        Err(Errno::NAMETOOLONG)
    }

    /// Keeps whose a link or pipe is, by what stays the same while it is renamed and its times are set.
    fn remember(&mut self, name: &str, chown: &Chown) -> Call<()> {
        let path = readlinkat(CWD, name, Vec::new())?.into_bytes();
        let path = OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(&path));
        let flags = StatxFlags::INO | StatxFlags::BTIME;
        let found = self.trees.iter().find_map(|tree| statx(tree, path, AtFlags::SYMLINK_NOFOLLOW, flags).ok());
        let Some(found) = found else { return Ok(()) };
        let born = (found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
        let mut now = OwnedInode { inode: found.stx_ino, born, uid: 0, gid: 0 };
        if let Some(at) = self.links.iter().position(|old| now.is_of(old)) {
            let old = self.links.swap_remove(at);
            (now.uid, now.gid) = (old.uid, old.gid);
        }
        (now.uid, now.gid) = (chown.uid.unwrap_or(now.uid), chown.gid.unwrap_or(now.gid));
        self.links.push(now);
        Ok(())
    }
}

/// Whether somebody listens to a filter of this process already: seccomp(2) allows no second one to.
fn is_told_of() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    // The filter is that of the thread alone, and ends with it.
    let attempt = || set_filter(&[ALL], filter_flags::NEW_LISTENER).is_err_and(|error| error.errno == Errno::BUSY);
    *IS.get_or_init(|| std::thread::spawn(attempt).join().unwrap_or(false))
}

/// Has `seccomp` tell of new owners, where they were to be nothing; whether it does.
fn tell_of_owners(seccomp: &mut Seccomp) -> bool {
    let on_paper = |names: &[String]| names.iter().any(|name| name == CHOWN);
    let rule = seccomp.syscalls.iter_mut().find(|rule| on_paper(&rule.names) && rule.errno_ret == Some(0));
    let Some(rule) = rule else { return false };
    NOTIFY.clone_into(&mut rule.action);
    rule.errno_ret = None;
    true
}

/// Has `seccomp` tell of devices that are made, if making them is allowed; whether it is.
fn tell_of_devices(seccomp: &mut Seccomp, capabilities: &[String]) -> bool {
    let names = || MKNOD.map(str::to_owned).to_vec();
    let is_allowed = |rule: &&mut SyscallRule| rule.action == "SCMP_ACT_ALLOW" && rule.args.is_empty();
    let has = |rule: &SyscallRule| rule.names.iter().any(|name| MKNOD.contains(&name.as_str()));
    if !capabilities.iter().any(|name| name == "CAP_MKNOD") {
        return false;
    }
    match seccomp.syscalls.iter_mut().filter(|rule| has(rule)).collect::<Vec<_>>().as_mut_slice() {
        [] if seccomp.default_action == "SCMP_ACT_ALLOW" => {}
        [rule] if is_allowed(rule) => rule.names.retain(|name| !MKNOD.contains(&name.as_str())),
        // Somebody has an opinion of it.
        _ => return false,
    }
    seccomp.syscalls.retain(|rule| !rule.names.is_empty());
    let (action, args) = (NOTIFY.to_owned(), Vec::new());
    seccomp.syscalls.push(SyscallRule { names: names(), action, errno_ret: None, args });
    true
}

/// The device that is to be made; none for another file, or for what overlayfs knows as a deletion.
fn device(making: Making) -> Option<(bool, Device)> {
    let device = Device { major: major(making.device), minor: minor(making.device) };
    match FileType::from_raw_mode(making.mode) {
        FileType::BlockDevice => Some((true, device)),
        FileType::CharacterDevice if making.device != 0 => Some((false, device)),
        _ => None,
    }
}

/// The descriptor by which a filter tells, as a runtime sends it.
fn accept(listener: &UnixListener) -> Call<Option<OwnedFd>> {
    let (stream, _) = listener.accept().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mut state = vec![0; 64 << 10];
    let (_, fds) = recv_fds(&stream, &mut state).map_err(|error| error.errno)?;
    Ok(fds.into_iter().next())
}

/// Writes down whose a file or directory is: it belongs to root as far as the kernel knows, and its mode is `mode`.
fn record(name: &str, chown: &Chown, mode: u32, is_directory: bool) -> Call<()> {
    let mut value = Vec::with_capacity(256);
    let old = match getxattr(name, OVERRIDE_STAT, spare_capacity(&mut value)) {
        Ok(_) => OverrideStat::parse(&value),
        Err(Errno::NODATA) => None,
        Err(errno) => return Err(errno),
    };
    // What a layer says of a directory's setgid bit was not given to it; a file would lose it with its owner.
    let kept = old.filter(|old| is_directory && old.mode & 0o777 == mode & 0o777).map_or(mode, |old| old.mode);
    let (uid, gid) = old.map_or((0, 0), |old| (old.uid, old.gid));
    let now = OverrideStat {
        uid: chown.uid.unwrap_or(uid),
        gid: chown.gid.unwrap_or(gid),
        mode: kept,
        device: old.and_then(|old| old.device),
    };
    if (now.uid, now.gid, now.device) == (0, 0, None) && kept == mode {
        return match removexattr(name, OVERRIDE_STAT) {
            Err(Errno::NODATA) => Ok(()),
            other => other,
        };
    }
    setxattr(name, OVERRIDE_STAT, now.to_value().as_bytes(), XattrFlags::empty())
}
