//! A command in a changed root directory, and no more: where a container may neither mount nor have user namespaces.
//!
//! It is spoken to as an OCI runtime is, by the process that becomes the command. Of the configuration it does what can be
//! done: root, working directory, user, variables, capabilities; and no rights come back that were given up.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hoy_layout::write_volatile_file;
use hoy_spec::{Config, Host};
use hoy_sys::capability::NAMES;
use hoy_sys::net::send_fds;
use hoy_sys::rustix::event::{PollFd, PollFlags, poll};
use hoy_sys::rustix::fs::Mode;
use hoy_sys::rustix::io::Errno;
use hoy_sys::rustix::process::{
    Gid, Pid, PidfdFlags, Signal, Uid, chdir, chroot, fchdir, getpid, kill_process, kill_process_group, pidfd_open,
    setsid, umask,
};
use hoy_sys::rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use hoy_sys::seccomp::{Instruction, NATIVE, calls, filter_flags, set_filter};

use crate::{Error, Result};

/// Instructions of classic BPF and what a filter says: linux/bpf_common.h, seccomp(2).
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const AT_NUMBER: u32 = 0;
const AT_PROCESSOR: u32 = 4;
const ALLOW: u32 = 0x7fff_0000;
const TELL: u32 = 0x7fc0_0000;
const SUCCEED: u32 = 0x0005_0000;

/// As often is looked for processes that are left.
const PASSES: usize = 100;

/// Where it is written down which process the command is.
fn record(state: &Path, id: &str) -> PathBuf {
    state.join(format!("{id}.pid"))
}

/// Becomes the command that `bundle` describes; returns only when that fails.
///
/// # Errors
/// Whatever is not possible; a line of `log`, in JSON, says so too.
pub fn become_command(state: &Path, id: &str, bundle: &Path, log: Option<&Path>) -> Error {
    // Later its path leads elsewhere.
    let opened = log.and_then(|log| std::fs::OpenOptions::new().append(true).create(true).open(log).ok());
    let error = match enter(state, id, bundle) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let line = serde_json::json!({"level": "error", "msg": crate::error::chain(&error)});
    if let Some(mut log) = opened {
        // The error itself is told in any case.
        writeln!(log, "{line}").unwrap_or_default();
    }
    error
}

/// Kills what is left of a command: its session, and whoever has its root directory.
///
/// # Errors
/// Those of kill(2).
pub fn kill_command(state: &Path, id: &str) -> Result<()> {
    let path = record(state, id);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let Some((group, root)) = text.split_once('\n') else { return Ok(()) };
    if let Some(group) = group.parse().ok().and_then(Pid::from_raw) {
        match kill_process_group(group, Signal::KILL) {
            Err(errno) if errno != Errno::SRCH => return Err(Error::io("kill processes of", &path)(errno)),
            _ => {}
        }
    }
    // Who is killed may have started another just before.
    for _ in 0..PASSES {
        let has_root =
            |process: &PathBuf| std::fs::read_link(process.join("root")).is_ok_and(|of| of == Path::new(root));
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
        let left: Vec<PathBuf> = processes.filter(has_root).collect();
        if left.is_empty() {
            break;
        }
        let pids =
            left.iter().filter_map(|process| process.file_name()?.to_str()?.parse().ok().and_then(Pid::from_raw));
        // It may have ended by itself.
        pids.for_each(|pid| kill_process(pid, Signal::KILL).unwrap_or_default());
    }
    std::fs::remove_file(&path).unwrap_or_default();
    Ok(())
}

/// A command that runs in a changed root directory; what it leaves behind is killed when it ends.
#[derive(Debug)]
pub(crate) struct Left(std::thread::JoinHandle<Result<()>>);

impl Left {
    /// Watches `child`, which its parent waits for.
    pub(crate) fn watch(child: &std::process::Child, state: PathBuf, id: String) -> Result<Self> {
        let failed = || Error::io::<Errno>("watch", "command");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH).map_err(failed())?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(failed())?;
        Ok(Self(std::thread::spawn(move || {
            while let Err(Errno::INTR) = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None) {}
            kill_command(&state, &id)
        })))
    }

    /// Waits until nothing is left.
    pub(crate) fn wait(self) -> Result<()> {
        self.0.join().map_err(|_| Error::Refused("the thread that watches a command ended".to_owned()))?
    }
}

fn enter(state: &Path, id: &str, bundle: &Path) -> Result<std::convert::Infallible> {
    let path = bundle.join("config.json");
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let config: Config = serde_json::from_slice(&bytes).map_err(|source| Error::Json("config.json", source))?;
    let host = Host::current();
    hoy_layout::make_directory(state, 0o700)?;
    // What is typed goes to the group that has the terminal.
    if !std::io::stdin().is_terminal() && setsid().is_ok() {
        let text = format!("{}\n{}", getpid().as_raw_nonzero(), config.root.path);
        write_volatile_file(&record(state, id), text.as_bytes())?;
    }
    let listener = config.linux.seccomp.as_ref().and_then(|seccomp| seccomp.listener_path.as_ref());
    let teller = listener.map(|path| UnixStream::connect(path).map_err(Error::io("connect to", path))).transpose()?;
    let root = File::open(&config.root.path).map_err(Error::io("open", &config.root.path))?;
    let failed = |doing| Error::io::<Errno>(doing, &config.root.path);
    hoy_sys::userns::close_on_exec_from(3).map_err(|error| failed("close descriptors above")(error.errno))?;
    fchdir(&root).and_then(|()| chroot(".")).map_err(failed("change the root directory to"))?;
    drop(root);
    let process = &config.process;
    chdir(process.cwd.as_str()).map_err(Error::io("enter working directory", &process.cwd))?;
    umask(Mode::from_raw_mode(0o022));
    become_user(&config, &host)?;
    set_no_new_privs(true).map_err(failed("give up privileges in"))?;
    let filter = filter(host.is_single_id());
    let filtered = set_filter(&filter, filter_flags::NEW_LISTENER);
    let told = filtered.map_err(|error| failed("filter system calls in")(error.errno))?;
    if let (Some(told), Some(teller)) = (told, teller) {
        send_fds(&teller, b"{}", &[told.as_fd()]).map_err(|error| failed("pass a descriptor from")(error.errno))?;
    }
    let (program, args) = process.args.split_first().ok_or_else(|| Error::Refused("there is no command".to_owned()))?;
    let env = process.env.iter().filter_map(|entry| entry.split_once('='));
    let error = Command::new(program).args(args).env_clear().envs(env).exec();
    Err(Error::io("execute", program)(error))
}

/// Gives up what the command is not to have: capabilities, and being somebody else.
fn become_user(config: &Config, host: &Host) -> Result<()> {
    let user = &config.process.user;
    let failed = || Error::io::<Errno>("become user", user.uid.to_string());
    let kept = &config.process.capabilities.bounding;
    let own = capabilities(None).map_err(failed())?;
    let mut left = CapabilitySet::empty();
    for (number, name) in NAMES.iter().enumerate() {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // Who may change its root directory once more comes out of it.
        let is_kept = *name != "SYS_CHROOT" && kept.iter().any(|kept| kept.strip_prefix("CAP_") == Some(name));
        if is_kept {
            left |= capability;
        } else if own.permitted.contains(CapabilitySet::SETPCAP) {
            match remove_capability_from_bounding_set(capability) {
                // Of a newer kernel.
                Err(errno) if errno != Errno::INVAL => return Err(failed()(errno)),
                _ => {}
            }
        }
    }
    if !host.is_single_id() {
        let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
        if host.can_set_groups {
            set_thread_groups(&groups).map_err(failed())?;
        }
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        set_thread_res_gid(gid, gid, gid).map_err(failed())?;
        set_thread_res_uid(uid, uid, uid).map_err(failed())?;
    }
    let now = capabilities(None).map_err(failed())?;
    let sets = CapabilitySets {
        effective: now.effective & left,
        permitted: now.permitted & left,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(failed())
}

/// Tells of opened paths; where there is one id, of new owners and devices too, and being somebody else is on paper.
fn filter(is_single_id: bool) -> Vec<Instruction> {
    let step = |code, k| Instruction { code, jt: 0, jf: 0, k };
    let verdict = |numbers: &[i64], says: u32| -> Vec<(u32, u32)> {
        numbers.iter().filter_map(|number| Some((u32::try_from(*number).ok()?, says))).collect()
    };
    let mut verdicts = verdict(calls::OPEN, TELL);
    if is_single_id {
        verdicts.extend(verdict(calls::CHOWN, TELL));
        verdicts.extend(verdict(calls::MKNOD, TELL));
        verdicts.extend(verdict(calls::IDENTITY, SUCCEED));
    }
    let other = Instruction { code: JUMP_IF_EQUAL, jt: 1, jf: 0, k: NATIVE };
    let mut program = vec![step(LOAD, AT_PROCESSOR), other, step(RETURN, ALLOW), step(LOAD, AT_NUMBER)];
    for (number, says) in verdicts {
        program.push(Instruction { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: number });
        program.push(step(RETURN, says));
    }
    program.push(step(RETURN, ALLOW));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says of a call.
    fn says(program: &[Instruction], processor: u32, number: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                LOAD => loaded = if k == AT_NUMBER { number } else { processor },
                JUMP_IF_EQUAL => at += usize::from(if loaded == k { jt } else { jf }),
                _ => return k,
            }
        }
    }

    #[test]
    fn verdicts() {
        let [open, chown, mknod, identity] =
            [calls::OPEN, calls::CHOWN, calls::MKNOD, calls::IDENTITY].map(|numbers| numbers[0] as u32);
        let (one, many) = (filter(true), filter(false));
        for (number, of_one, of_many) in [
            (open, TELL, TELL),
            (chown, TELL, ALLOW),
            (mknod, TELL, ALLOW),
            (identity, SUCCEED, ALLOW),
            (9999, ALLOW, ALLOW),
        ] {
            assert_eq!((says(&one, NATIVE, number), says(&many, NATIVE, number)), (of_one, of_many), "{number}");
            assert_eq!(says(&one, 1, number), ALLOW, "another processor");
        }
    }
}
