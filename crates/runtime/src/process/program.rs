//! The last steps of a container's process: from what the runtime made of it to the user's program.

use std::convert::Infallible;
use std::ffi::CString;
use std::fmt;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use hoy_sys::process::{close_before_exec, execve, exit_now, reset_signals};
use hoy_sys::rustix::fs::{self, Access, Mode, OFlags};
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{Gid, Uid, fchdir, getcwd, umask};
use hoy_sys::rustix::thread::{self, CapabilitySet};
use oci_spec::runtime::{Linux, Process};

use crate::channel::Channel;
use crate::error::Doing;
use crate::filter::Filter;
use crate::mount::tree::Root;
use crate::process::capability::{self, Sets};
use crate::process::memory_policy::MemoryPolicy;
use crate::process::scheduling::Scheduling;
use crate::process::{identity, label, personality};
use crate::{Error, Result, procfs};

/// Where programs are looked for when the container's environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program ready to begin.
pub(crate) struct Program {
    path: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
    /// The working directory is entered already.
    is_inside: bool,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.path)
    }
}

/// What a process of this container is given besides its configuration.
pub(crate) struct Setting<'a> {
    pub(crate) process: &'a Process,
    pub(crate) linux: &'a Linux,
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) sets: Option<Sets>,
    /// A proc file system of the caller's.
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

/// Says something on standard error.
pub(crate) fn warn(message: &str) {
    say(&format!("hoy-runtime: warning: {message}"));
}

fn say(line: &str) {
    // Standard error may be closed, and then there is nobody to tell.
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}

/// Changes this process's score for the out-of-memory killer, for a child to inherit, and gives the one before.
///
/// A process that hides itself cannot always write its own; one that may not lower it keeps it.
pub(crate) fn set_oom_score(proc: BorrowedFd<'_>, score: Option<i32>) -> Result<Option<i32>> {
    let Some(score) = score else { return Ok(None) };
    let doing = || format!("set oom_score_adj to {score}");
    let before = procfs::read(proc, "self/oom_score_adj").doing(doing)?;
    match procfs::write(proc, "self/oom_score_adj", &score.to_string()) {
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
        label::apply(self.process, self.proc)?;
        identity::set_limits(self.process.rlimits().as_deref().unwrap_or_default(), &mut warn)?;
        let cpu = self.linux.resources().as_ref().and_then(|resources| resources.cpu().as_ref());
        let is_bound = cpu.and_then(|cpu| cpu.cpus().as_ref()).is_some_and(|cpus| !cpus.is_empty());
        Scheduling::new(self.process)?.apply(is_bound)?;
        self.linux.personality().as_ref().map_or(Ok(()), personality::apply)?;
        self.linux.memory_policy().as_ref().map_or(Ok(()), |policy| MemoryPolicy::new(policy)?.apply())
    }

    /// Finds the program in the container: everything that can be known to fail before `start` fails here.
    pub(crate) fn find(&self, root: &Root<'_>) -> Result<Program> {
        let args = self.process.args().as_deref().unwrap_or_default();
        let first = args.first().filter(|arg| !arg.is_empty());
        let first = first.ok_or_else(|| Error::Invalid("process.args is empty".to_owned()))?;
        let mut env = last_of_each(self.process.env().as_deref().unwrap_or_default());
        // A home that is empty is none.
        env.retain(|entry| entry != "HOME=");
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
        let is_inside = self.enter_directory(root, true)?;
        let search = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(PATH).to_owned();
        let text = |s: &String| CString::new(s.as_str()).map_err(|_| Error::Invalid(format!("{s:?} has a NUL byte")));
        Ok(Program {
            path: text(&look_up(first, &search, self.process.cwd())?)?,
            argv: args.iter().map(text).collect::<Result<_>>()?,
            envp: env.iter().map(text).collect::<Result<_>>()?,
            is_inside,
        })
    }

    /// Enters the working directory, which must be inside the root: a descriptor of the host's, leaked or named by
    /// the image, would lead out of it.
    ///
    /// With `may_fail` one that this process may not enter is left for the container's user to try: `false`.
    fn enter_directory(&self, root: &Root<'_>, may_fail: bool) -> Result<bool> {
        let cwd = self.process.cwd();
        if !cwd.is_absolute() {
            return Err(Error::Invalid(format!("process.cwd \"{}\" is not absolute", cwd.display())));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let entered = hoy_sys::path::open_in_root(root.0, cwd, flags, Mode::empty())
            .map_err(|error| error.errno)
            .and_then(fchdir);
        match entered {
            Err(Errno::ACCESS) if may_fail => return Ok(false),
            other => other.doing(|| format!("enter working directory \"{}\"", cwd.display()))?,
        }
        let here = getcwd(Vec::new()).doing(|| "read the working directory")?;
        if !here.to_bytes().starts_with(b"/") {
            return Err(Error::Invalid(format!("working directory \"{}\" is outside of the root", cwd.display())));
        }
        Ok(true)
    }

    /// Lets go of every descriptor that the program is not to have, gives up every right that it is not to have, and
    /// becomes it. A failure is told, and ends this process.
    ///
    /// `last` is run when everything is given up, with the program's environment.
    pub(crate) fn become_program(
        &self,
        root: &Root<'_>,
        program: &Program,
        last: impl FnOnce(&[CString]) -> Result<()>,
    ) -> ! {
        // Closed now and not only on exec: the image says what is executed, and `/proc/self/fd/N/..` of a directory
        // of the host's would lead there.
        let keep: Vec<BorrowedFd<'_>> = [root.0, self.channel.as_fd()].into_iter().chain(self.fifo).collect();
        let Err(error) = close_before_exec(self.preserve_fds.saturating_add(3), &keep)
            .doing(|| "close descriptors")
            .and_then(|()| self.exec(root, program, last));
        match &error {
            // Standard error is the program's own by now: who reads that is told as a shell would.
            Error::NotExecuted(line) => self.channel.tell(b'X', line).unwrap_or_else(|_| say(line)),
            _ => self.channel.tell(b'E', &error.chain()).unwrap_or_else(|_| warn(&error.chain())),
        }
        // Not by returning: owners of what was closed would close it again.
        exit_now(1)
    }

    fn exec(
        &self,
        root: &Root<'_>,
        program: &Program,
        last: impl FnOnce(&[CString]) -> Result<()>,
    ) -> Result<Infallible> {
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
        if !program.is_inside {
            self.enter_directory(root, false)?;
        }
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
        last(&program.envp)?;
        let error = execve(&program.path, &program.argv, &program.envp);
        let reason = hoy_sys::words(&error.errno);
        Err(Error::NotExecuted(format!("exec {}: {reason}", program.path.to_string_lossy())))
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

/// The environment with the last of the entries of each name.
fn last_of_each(env: &[String]) -> Vec<String> {
    let name = |entry: &String| entry.split('=').next().map(str::to_owned);
    let mut seen = std::collections::HashSet::new();
    let mut kept: Vec<String> = env.iter().rev().filter(|entry| seen.insert(name(entry))).cloned().collect();
    kept.reverse();
    kept
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
    fn the_last_of_a_name_counts() {
        let env = ["A=1", "B=2", "A=", "C=x=y"].map(str::to_owned);
        assert_eq!(last_of_each(&env), ["B=2", "A=", "C=x=y"]);
    }
}
