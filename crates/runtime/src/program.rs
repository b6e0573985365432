//! The last steps of a container's process: from what the runtime made of it to the user's program.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoy_sys::process::{close_before_exec, execve, exit_now, reset_signals};
use hoy_sys::rustix::fs::{self, Access, Mode, OFlags};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{Gid, Uid, fchdir, getcwd, umask};
use hoy_sys::rustix::thread::{self, CapabilitySet};
use oci_spec::runtime::{Linux, Process};

use crate::capability::{self, Sets};
use crate::channel::Channel;
use crate::error::Doing;
use crate::filter::Filter;
use crate::memory_policy::MemoryPolicy;
use crate::scheduling::Scheduling;
use crate::tree::Root;
use crate::{Error, Result, identity, personality};

/// Where programs are looked for when the container's environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program ready to begin.
struct Program {
    path: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

/// What a process of this container is given besides its configuration.
pub(crate) struct Setting<'a> {
    pub(crate) process: &'a Process,
    pub(crate) linux: &'a Linux,
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) sets: Option<Sets>,
    /// The caller's own /proc, known to be one.
    pub(crate) proc: BorrowedFd<'a>,
    pub(crate) channel: &'a Channel,
    /// What `start` sees closing when the program begins.
    pub(crate) fifo: Option<BorrowedFd<'a>>,
    /// Descriptors from 3 on that the program keeps.
    pub(crate) preserve_fds: u32,
    pub(crate) is_terminal: bool,
    /// `NOTIFY_SOCKET=…`, where the caller has one.
    pub(crate) notify_env: Option<&'a str>,
}

/// Opens the caller's /proc, and checks that it is one.
pub(crate) fn open_proc() -> Result<OwnedFd> {
    /// PROC_SUPER_MAGIC
    const PROC_MAGIC: fs::FsWord = 0x9fa0;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = fs::openat(fs::CWD, "/proc", flags, Mode::empty()).doing(|| "open \"/proc\"")?;
    if fs::fstatfs(&proc).doing(|| "look at \"/proc\"")?.f_type != PROC_MAGIC {
        return Err(Error::Invalid("\"/proc\" is not a proc file system".to_owned()));
    }
    Ok(proc)
}

/// Writes `value` to `path` below the proc file system `proc`, refusing whatever is mounted over a part of it.
pub(crate) fn write_proc(proc: BorrowedFd<'_>, path: &str, value: &str) -> std::io::Result<()> {
    use hoy_sys::rustix::fs::ResolveFlags;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = fs::openat2(proc, path, flags, Mode::empty(), how)?;
    hoy_sys::rustix::io::write(file, value.as_bytes())?;
    Ok(())
}

/// Says something on standard error.
pub(crate) fn warn(message: &str) {
    use std::io::Write;
    // Standard error may be closed, and then there is nobody to tell.
    writeln!(std::io::stderr(), "hoy-runtime: warning: {message}").unwrap_or_default();
}

/// Changes this process's score for the out-of-memory killer, for a child to inherit, and gives the one before.
///
/// A process that hides itself cannot always write its own; one that may not lower it keeps it.
pub(crate) fn set_oom_score(proc: BorrowedFd<'_>, score: Option<i32>) -> Result<Option<i32>> {
    let Some(score) = score else { return Ok(None) };
    let doing = || format!("set oom_score_adj to {score}");
    let before = std::fs::read_to_string("/proc/self/oom_score_adj").doing(doing)?;
    match write_proc(proc, "self/oom_score_adj", &score.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            warn(&format!("oomScoreAdj may not be lowered to {score}: it stays as it is"));
        }
        other => other.doing(doing)?,
    }
    Ok(before.trim().parse().ok())
}

impl Setting<'_> {
    /// What needs the rights that the program will not have: labels and limits.
    pub(crate) fn limit(&self) -> Result<()> {
        if let Some(profile) = self.process.apparmor_profile().as_ref().filter(|name| !name.is_empty()) {
            let write = |path| write_proc(self.proc, path, &format!("exec {profile}"));
            write("self/attr/apparmor/exec")
                .or_else(|_| write("self/attr/exec"))
                .doing(|| format!("set AppArmor profile \"{profile}\""))?;
        }
        if let Some(label) = self.process.selinux_label().as_ref().filter(|label| !label.is_empty()) {
            write_proc(self.proc, "self/attr/exec", label).doing(|| format!("set SELinux label \"{label}\""))?;
        }
        identity::set_limits(self.process.rlimits().as_deref().unwrap_or_default(), &mut warn)?;
        Scheduling::new(self.process)?.apply()?;
        self.linux.personality().as_ref().map_or(Ok(()), personality::apply)?;
        self.linux.memory_policy().as_ref().map_or(Ok(()), |policy| MemoryPolicy::new(policy)?.apply())
    }

    /// Finds the program in the container: everything that can be known to fail before `start` fails here.
    fn find(&self, root: &Root<'_>) -> Result<Program> {
        let args = self.process.args().as_deref().unwrap_or_default();
        let first = args.first().filter(|arg| !arg.is_empty());
        let first = first.ok_or_else(|| Error::Invalid("process.args is empty".to_owned()))?;
        let mut env: Vec<String> = self.process.env().clone().unwrap_or_default();
        // The descriptors are the container's first process's, whoever held them before.
        if env.iter().any(|e| e.starts_with("LISTEN_FDS=")) || std::env::var_os("LISTEN_FDS").is_some() {
            env.retain(|e| !e.starts_with("LISTEN_PID="));
            env.push("LISTEN_PID=1".to_owned());
            for name in ["LISTEN_FDS", "LISTEN_FDNAMES"] {
                let given = std::env::var(name).ok().filter(|_| !env.iter().any(|e| starts(e, name)));
                env.extend(given.map(|value| format!("{name}={value}")));
            }
        }
        env.extend(self.notify_env.map(str::to_owned));
        if !env.iter().any(|e| starts(e, "HOME")) {
            env.push(format!("HOME={}", identity::home(root, self.process.user().uid())));
        }
        let search = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(PATH).to_owned();
        let text = |s: &String| CString::new(s.as_str()).map_err(|_| Error::Invalid(format!("{s:?} has a NUL byte")));
        Ok(Program {
            path: text(&look_up(first, &search, self.process.cwd())?)?,
            argv: args.iter().map(text).collect::<Result<_>>()?,
            envp: env.iter().map(text).collect::<Result<_>>()?,
        })
    }

    /// Enters the working directory, which must be inside the root: a descriptor of the host's, leaked or named by
    /// the image, would lead out of it.
    fn enter_directory(&self, root: &Root<'_>, may_fail: bool) -> Result<()> {
        let cwd = self.process.cwd();
        if !cwd.is_absolute() {
            return Err(Error::Invalid(format!("process.cwd \"{}\" is not absolute", cwd.display())));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let entered = hoy_sys::path::open_in_root(root.0, cwd, flags, Mode::empty())
            .map_err(|error| error.errno)
            .and_then(fchdir);
        match entered {
            // Only the user himself may enter it, perhaps; he tries again.
            Err(Errno::ACCESS) if may_fail => return Ok(()),
            other => other.doing(|| format!("enter working directory \"{}\"", cwd.display()))?,
        }
        let here = getcwd(Vec::new()).doing(|| "read the working directory")?;
        if !here.to_bytes().starts_with(b"/") {
            return Err(Error::Invalid(format!("working directory \"{}\" is outside of the root", cwd.display())));
        }
        Ok(())
    }

    /// Lets go of every descriptor of the host's, says that it is ready, waits as `wait` does, gives up every right that
    /// the program is not to have, and becomes it. A failure is told, and ends this process.
    pub(crate) fn become_program(&self, root: &Root<'_>, wait: impl FnOnce() -> Result<()>) -> ! {
        // Closed now and not only on exec: the image says what is looked for and executed, and `/proc/self/fd/N/..` of
        // a directory of the host's would lead there; and a container that waits for its start holds nothing.
        let keep: Vec<BorrowedFd<'_>> = [root.0, self.channel.as_fd()].into_iter().chain(self.fifo).collect();
        let Err(error) = close_before_exec(3 + self.preserve_fds, &keep)
            .doing(|| "close descriptors")
            .and_then(|()| self.enter_directory(root, true))
            .and_then(|()| self.find(root))
            .and_then(|program| {
                self.channel.say(b'R')?;
                wait()?;
                self.exec(root, &program)
            });
        self.channel.tell(b'E', &error.chain()).unwrap_or_else(|_| warn(&error.chain()));
        // Not by returning: owners of what was closed would close it again.
        exit_now(1)
    }

    fn exec(&self, root: &Root<'_>, program: &Program) -> Result<Infallible> {
        let process = self.process;
        if let Some(sets) = self.sets {
            capability::limit_bounding(sets.bounding)?;
        }
        thread::set_keep_capabilities(true).doing(|| "keep capabilities")?;
        if !self.is_terminal {
            own_stdio(process.user().uid());
        }
        identity::become_user(process.user())?;
        thread::set_keep_capabilities(false).doing(|| "keep capabilities")?;
        // In the right order the file mode mask is the program's own from here.
        umask(Mode::from_raw_mode(process.user().umask().unwrap_or(0o022)));
        self.enter_directory(root, false)?;
        let no_new_privileges = process.no_new_privileges().unwrap_or(false);
        let loads_by_right = self.filter.is_some() && !no_new_privileges;
        let sets = capability::attainable(self.sets)?;
        let also = if loads_by_right { capability::SYS_ADMIN - sets.effective } else { CapabilitySet::empty() };
        capability::apply(&sets, also)?;
        if let Some(asked) = self.sets {
            capability::apply_ambient(&sets, asked.ambient)?;
        }
        if no_new_privileges {
            thread::set_no_new_privs(true).doing(|| "set no_new_privs")?;
        }
        reset_signals();
        // From here on the filter judges this process too: what can be done before is done.
        self.load_filter()?;
        if !also.is_empty() {
            capability::apply(&sets, CapabilitySet::empty())?;
        }
        let error = execve(&program.path, &program.argv, &program.envp);
        Err(error).doing(|| format!("exec \"{}\"", program.path.to_string_lossy()))
    }

    fn load_filter(&self) -> Result<()> {
        let Some(filter) = self.filter else { return Ok(()) };
        if let Some(listener) = filter.load()? {
            self.channel.give(b'L', listener.as_fd())?;
            self.channel.wait_go()?;
        }
        Ok(())
    }
}

fn starts(entry: &str, name: &str) -> bool {
    entry.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
}

/// Finds `name` as execvp(3) would, in the container's directories.
fn look_up(name: &str, search: &str, cwd: &Path) -> Result<String> {
    let check = |path: &Path| match fs::stat(path) {
        Ok(stat) if !fs::FileType::from_raw_mode(stat.st_mode).is_file() => Err(Errno::ACCESS),
        Ok(_) => fs::access(path, Access::EXEC_OK),
        Err(errno) => Err(errno),
    };
    if name.contains('/') {
        check(&cwd.join(name)).doing(|| format!("exec \"{name}\""))?;
        return Ok(name.to_owned());
    }
    let mut refused = false;
    for directory in search.split(':') {
        let path = cwd.join(directory).join(name);
        match check(&path) {
            Ok(()) => return Ok(path.to_string_lossy().into_owned()),
            Err(errno) => refused |= errno == Errno::ACCESS,
        }
    }
    if refused {
        return Err(Errno::ACCESS).doing(|| format!("exec \"{name}\""));
    }
    Err(Error::Invalid(format!("exec \"{name}\": executable file not found in $PATH ({search})")))
}

/// The program may open its standard streams again by name: /dev/stdout is /proc/self/fd/1.
fn own_stdio(uid: u32) {
    let fds = [hoy_sys::rustix::stdio::stdin(), hoy_sys::rustix::stdio::stdout(), hoy_sys::rustix::stdio::stderr()];
    for fd in fds {
        let Ok(stat) = fs::fstat(fd) else { continue };
        let kind = fs::FileType::from_raw_mode(stat.st_mode);
        // Pipes and sockets are this container's own; files, terminals and devices are the caller's and stay so.
        if stat.st_uid != uid && (kind.is_fifo() || kind.is_socket()) {
            fs::fchown(fd, Some(Uid::from_raw(uid)), None::<Gid>).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_up_as_by_execvp() {
        let root = Path::new("/");
        assert_eq!(look_up("sh", "/nowhere:/bin", root).unwrap(), "/bin/sh");
        assert_eq!(look_up("/bin/sh", "", root).unwrap(), "/bin/sh");
        assert_eq!(look_up("bin/sh", "", root).unwrap(), "bin/sh");
        let missing = look_up("no-such-program", "/bin", root).unwrap_err().to_string();
        assert!(missing.contains("executable file not found in $PATH"), "{missing}");
        assert!(look_up("/etc", "", root).unwrap_err().chain().contains("ermission denied"));
        assert!(look_up("/none", "", root).unwrap_err().chain().contains("o such file or directory"));
    }

    #[test]
    fn proc_is_written_only_where_it_is_itself() {
        let proc = open_proc().unwrap();
        assert!(write_proc(proc.as_fd(), "self/oom_score_adj", "1000").is_ok());
        for outside in ["../etc/x", "/etc/x", "self/root/etc/x", "self/cwd/x"] {
            assert!(write_proc(proc.as_fd(), outside, "0").is_err(), "{outside}");
        }
    }
}
