//! Getting to where an ordinary user's mounts are and the files of all its ids can be written.

use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command as Process, ExitCode, ExitStatus, Stdio};

use hoy_cli::{Context, Error, Result, Stdout};
use hoy_storage::holder::{self, Holder};
use hoy_storage::namespace::{self, Standing};
use hoy_sys::rustix::process::{getegid, geteuid, setsid};
use hoy_sys::user::is_confined_root;

use crate::args::{Command, Hold, MapIds, Unshare};
use crate::open::{Place, explain};

/// This very program, even when its file was replaced meanwhile.
pub(crate) const SELF: &str = "/proc/self/exe";

/// Where a command of an ordinary user must run.
#[derive(PartialEq)]
enum Needs {
    /// Where it is: it only reads and writes the user's own files.
    Nothing,
    /// In the holder's namespaces, if there is a holder.
    Mounts,
    /// In a user namespace, the holder's or one of its own.
    Ids,
    /// In the holder's namespaces, so that a mount stays.
    Holder,
}

fn needs(command: &Command) -> Needs {
    match command {
        Command::Create(_) => Needs::Holder,
        Command::Mount(mount) if mount.names.is_empty() => Needs::Mounts,
        Command::Mount(_) => Needs::Holder,
        Command::Containers(list) if list.quiet => Needs::Nothing,
        Command::Containers(_) => Needs::Mounts,
        // It reads, and makes again, files of all ids.
        Command::Check(check) if check.deep || check.repair => Needs::Ids,
        Command::Umount(_)
        | Command::Rm(_)
        | Command::Rename(_)
        | Command::Diff(_)
        | Command::Export(_)
        | Command::Unpack(_)
        | Command::Rmi(_)
        | Command::Df(_)
        | Command::Prune(_)
        | Command::Reset(_) => Needs::Ids,
        Command::Images(_)
        | Command::Tag(_)
        | Command::Untag(_)
        | Command::History(_)
        | Command::Import(_)
        | Command::Save(_)
        | Command::Load(_)
        | Command::Tree(_)
        | Command::Check(_)
        | Command::Doctor(_)
        | Command::Unshare(_)
        | Command::Hold(_)
        | Command::MapIds(_) => Needs::Nothing,
    }
}

/// Runs the whole command again in the namespaces it needs; none when it can be done right here.
pub(crate) fn enter(place: &Place, command: &Command) -> Result<Option<ExitCode>> {
    let needs = needs(command);
    if Standing::of_this_process() != Standing::Ordinary || needs == Needs::Nothing {
        return Ok(None);
    }
    // Wrong usage and missing things are found before any namespace is made.
    let store = place.store()?;
    let keep = holder::keep(&place.roots.runroot).map_err(explain)?;
    let holder = match needs {
        Needs::Holder => match start_holder(place) {
            Err(error) if is_impossible(&error) => None,
            other => Some(other.map_err(explain)?),
        },
        _ => holder::find(&place.roots.runroot),
    };
    let Some(holder) = holder else {
        drop(keep);
        return if needs == Needs::Mounts { Ok(None) } else { enter_new(needs == Needs::Holder) };
    };
    let mut inside = Process::new(SELF);
    inside.arg("unshare").arg("--").arg(SELF).args(std::env::args_os().skip(1));
    inside.envs(place.roots.environment());
    let status = match command {
        Command::Mount(mount) => run_and_prefix(inside, &holder, mount.names.is_empty())?,
        _ => inside.status().context(|| "run in a user namespace")?,
    };
    drop(keep);
    holder.end_if_unused(&store).map_err(explain)?;
    Ok(Some(exit_code(status)))
}

/// Makes a user namespace for this process alone. Where that is not allowed the command does what it can without.
fn enter_new(has_said_so: bool) -> Result<Option<ExitCode>> {
    if has_said_so {
        return Ok(None);
    }
    match namespace::create(mapper()) {
        Err(error) if is_impossible(&error) => Ok(None),
        other => other.map(|()| None).map_err(explain),
    }
}

/// User namespaces are not allowed here, as opposed to one that could not be set up right.
fn is_impossible(error: &hoy_storage::Error) -> bool {
    matches!(error, hoy_storage::Error::Namespace { .. })
}

fn start_holder(place: &Place) -> hoy_storage::Result<Holder> {
    let mut command = Process::new(SELF);
    command.arg("hold").envs(place.roots.environment());
    holder::find_or_start(&place.roots.runroot, command)
}

/// Prints the paths that `inside` prints as they are seen from outside. In a list they come after an id.
fn run_and_prefix(mut inside: Process, holder: &Holder, is_list: bool) -> Result<ExitStatus> {
    let mut child = inside.stdout(Stdio::piped()).spawn().context(|| "run in a user namespace")?;
    let root = holder.root();
    let mut out = Stdout::new();
    if let Some(stdout) = child.stdout.take() {
        for line in std::io::BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let path = line.iter().position(|&c| c == b' ').filter(|_| is_list).map_or(0, |blank| blank + 1);
            let (id, path) = line.split_at(path);
            out.write_all(&[id, root.as_os_str().as_bytes(), path, b"\n"].concat())?;
        }
    }
    child.wait().context(|| "run in a user namespace")
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// The command that writes this process's id maps from outside.
fn mapper() -> Process {
    let mut mapper = Process::new(SELF);
    mapper.arg("map-ids").arg(std::process::id().to_string());
    mapper
}

pub(crate) fn unshare(place: &Place, args: Unshare) -> Result<ExitCode> {
    if Standing::of_this_process() == Standing::Ordinary || is_confined_root() {
        place.store()?;
        let has_joined = match holder::find(&place.roots.runroot) {
            Some(holder) => holder.join().map_err(explain)?,
            None => false,
        };
        if !has_joined {
            namespace::create(mapper()).map_err(explain)?;
        }
    }
    let shell = || std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh".into());
    let mut words = args.command.into_iter();
    let program = words.next().unwrap_or_else(shell);
    let mut command = Process::new(&program);
    command.args(words).envs(place.roots.environment());
    // The command takes this process's place, so that signals and the exit code need nobody in between.
    let error = command.exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    Err(error).context(|| format!("run \"{}\"", program.display())).code(code)
}

/// In two steps, so that no descriptor of whoever started it stays open as long as the holder lives.
pub(crate) fn hold(place: &Place, args: &Hold) -> Result<ExitCode> {
    if !args.closed {
        hoy_sys::userns::close_on_exec_from(3)?;
        return Err(Error::from(Process::new(SELF).args(["hold", "--closed"]).exec()));
    }
    setsid().context(|| "leave the session")?;
    let held = namespace::create(mapper()).and_then(|()| holder::hold(&place.roots.runroot));
    let code = match held {
        Err(ref error) if is_impossible(error) => ExitCode::from(holder::IMPOSSIBLE),
        _ => ExitCode::FAILURE,
    };
    if let Err(error) = held {
        // Whoever started it reads the reason here; standard error is nobody's.
        writeln!(Stdout::new(), "{}", explain(error))?;
    }
    Ok(code)
}

pub(crate) fn map_ids(args: &MapIds) -> Result<ExitCode> {
    let mut line = Vec::new();
    std::io::stdin().lock().read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    let written = hoy_storage::ids::write_maps(args.pid, geteuid().as_raw(), getegid().as_raw());
    if let Err(error) = written {
        writeln!(Stdout::new(), "{}", explain(error))?;
    }
    Ok(ExitCode::SUCCESS)
}
