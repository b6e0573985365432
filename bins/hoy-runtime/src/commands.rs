//! What each command does: from the command line to one call into the runtime.

use std::ffi::CString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use hoy_cli::{Context, Error, Result, Stdout, print_line};
use hoy_runtime::container::{self, Container};
use hoy_runtime::document::Document;
use hoy_runtime::{
    CgroupManager, CreateOptions, ExecOptions, Trace, checkpoint, create, delete, exec, features, kill, parse_user,
    pause, restore, run as run_container, seal, start, update,
};

use hoy_sys::regex::Regex;

use crate::args::{Cli, Command, Create, Exec, Format, Global, List, Manager, Rootless};
use crate::log::{Level, Log};
use crate::{events, ps, signal, spec};

/// Does what the command line says. A failure is also written to the log.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    let Cli { global, command, .. } = cli;
    let begin = Instant::now();
    let log = Log::new(global.log.clone(), global.log_format);
    let trace = if global.debug { log.trace() } else { Trace::default() };
    if global.debug {
        log.say(Level::Debug, &format!("{command:?} with its state in \"{}\"", root(&global).display()))?;
    }
    let result = dispatch(&global, command, &trace);
    if global.debug {
        let end = if result.is_ok() { "done" } else { "failed" };
        log.say(Level::Debug, &format!("{end} after {:?}", begin.elapsed()))?;
    }
    let Err(error) = result else { return result };
    if log.is_file() {
        log.say(Level::Error, &error.to_string())?;
    }
    if error.is(hoy_runtime::Error::is_not_executed) {
        // The line is the container's, and whole: callers compare it. Standard error may be closed.
        writeln!(std::io::stderr(), "{error}").unwrap_or_default();
        return Ok(ExitCode::from(error.code().unwrap_or(1)));
    }
    Err(error)
}

fn dispatch(global: &Global, command: Command, trace: &Trace) -> Result<ExitCode> {
    let container = |id: &str| Container::new(&root(global), id);
    if matches!(command, Command::Create(_) | Command::Run(_) | Command::Exec(_)) {
        seal()?;
        trace.say(|| "exeseal: using /proc/self/exe clone: a mount of it that cannot be written".to_owned());
    }
    match command {
        Command::Create(args) => create(&container(&args.id)?, &options(global, args, trace))?,
        Command::Run(args) => {
            let (detach, keep) = (args.detach, args.keep);
            let code = run_container(&container(&args.create.id)?, &options(global, args.create, trace), detach, keep)?;
            return Ok(ExitCode::from(code));
        }
        Command::Start(args) => start(&container(&args.id)?)?,
        Command::State(args) => print_state(&container(&args.id)?)?,
        Command::Kill(args) => {
            let signal = signal::parse(&args.signal)?;
            each(global, &args.id, args.regex, |container| kill(container, signal, args.all))?;
        }
        Command::Delete(args) => each(global, &args.id, args.regex, |container| delete(container, args.force))?,
        Command::List(args) => print_list(global, &args)?,
        Command::Pause(args) => pause(&container(&args.id)?, true)?,
        Command::Resume(args) => pause(&container(&args.id)?, false)?,
        Command::Events(args) => events::print(&container(&args.id)?, &args)?,
        Command::Update(args) => update(&container(&args.id)?, &args.changes()?, &args.schemata())?,
        Command::Checkpoint(args) => {
            let container = container(&args.id)?;
            checkpoint(&container, &args.options(global.criu.clone())?)?;
        }
        Command::Restore(args) => {
            let container = container(&args.id)?;
            let code = restore(&container, &args.options(global_options(global, trace), global.criu.clone()))?;
            return Ok(ExitCode::from(code));
        }
        Command::Spec(args) => spec::write(&args.bundle, args.rootless)?,
        Command::Exec(args) => {
            let container = container(&args.id)?;
            let code = exec_options(args, trace).and_then(|options| Ok(exec(&container, &options)?)).code(255)?;
            return Ok(ExitCode::from(code));
        }
        Command::Ps(args) => ps::print(&container(&args.id)?, args.format, &args.options)?,
        Command::Unknown(words) => {
            let word = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
            let text = format!("\"{word}\" is no command: No help topic for '{word}'");
            return Err(Error::msg(text).with_hint("\"--help\" lists the commands").with_code(2));
        }
        Command::Features => print_line(serde_json::to_string_pretty(&features())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Acts on the container `id`, or on each where the expression `id` is found; the first failure is told at the end.
fn each(global: &Global, id: &str, is_regex: bool, act: impl Fn(&Container) -> hoy_runtime::Result<()>) -> Result<()> {
    let root = root(global);
    if !is_regex {
        return Ok(act(&Container::new(&root, id)?)?);
    }
    let regex = CString::new(id).map_err(Error::from).and_then(|pattern| Ok(Regex::new(&pattern)?));
    let regex = regex.context(|| format!("read expression \"{id}\""))?;
    let is_named = |id: &String| CString::new(id.as_str()).is_ok_and(|id| regex.is_match(&id));
    let acted: Vec<_> = container::list(&root)?
        .iter()
        .filter(|id| is_named(id))
        .map(|id| Container::new(&root, id).and_then(|container| act(&container)))
        .collect();
    Ok(acted.into_iter().collect::<hoy_runtime::Result<()>>()?)
}

/// Where the containers' state is.
fn root(global: &Global) -> PathBuf {
    if let Some(root) = &global.root {
        return root.clone();
    }
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match runtime_dir {
        Some(dir) if !hoy_sys::user::is_initial_root() => PathBuf::from(dir).join("hoy-runtime"),
        _ if hoy_sys::user::is_initial_root() => PathBuf::from("/run/hoy-runtime"),
        _ => {
            let uid = hoy_sys::rustix::process::getuid().as_raw();
            PathBuf::from(format!("/tmp/hoy-runtime-{uid}"))
        }
    }
}

fn options(global: &Global, args: Create, trace: &Trace) -> CreateOptions {
    CreateOptions {
        bundle: args.bundle,
        config: args.config,
        console_socket: args.console_socket,
        pid_file: args.pid_file,
        pidfd_socket: args.pidfd_socket,
        preserve_fds: args.preserve_fds,
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        ..global_options(global, trace)
    }
}

/// What is said before the command.
fn global_options(global: &Global, trace: &Trace) -> CreateOptions {
    CreateOptions {
        rootless: match global.rootless {
            Rootless::Auto => None,
            Rootless::True => Some(true),
            Rootless::False => Some(false),
        },
        cgroup_manager: match global.cgroup_manager {
            Manager::Disabled => CgroupManager::Disabled,
            Manager::Systemd => CgroupManager::Systemd,
            Manager::Cgroupfs if global.systemd_cgroup => CgroupManager::Systemd,
            Manager::Cgroupfs => CgroupManager::Cgroupfs,
        },
        trace: trace.clone(),
        ..CreateOptions::default()
    }
}

fn exec_options(args: Exec, trace: &Trace) -> Result<ExecOptions> {
    Ok(ExecOptions {
        process: args.process,
        args: args.command,
        tty: args.tty,
        cwd: args.cwd,
        env: args.env,
        user: args.user.as_deref().map(parse_user).transpose()?,
        additional_gids: args.additional_gids,
        capabilities: args.cap,
        no_new_privileges: args.no_new_privs,
        apparmor: args.apparmor,
        label: args.process_label,
        preserve_fds: args.preserve_fds,
        detach: args.detach,
        pid_file: args.pid_file,
        console_socket: args.console_socket,
        pidfd_socket: args.pidfd_socket,
        cgroup: args.cgroup,
        ignore_paused: args.ignore_paused,
        trace: trace.clone(),
    })
}

fn print_state(container: &Container) -> Result<()> {
    let state = match container.read()? {
        Some(state) => state,
        None => container.state("read the state of")?,
    };
    let document = state.document(container.status(Some(&state)));
    print_line(serde_json::to_string_pretty(&document)?)
}

fn print_list(global: &Global, args: &List) -> Result<()> {
    let root = root(global);
    if global.root.is_some() && !root.is_dir() {
        return Err(Error::msg(format!("--root \"{}\" is not a directory", root.display())));
    }
    let mut documents = Vec::new();
    for id in container::list(&root)? {
        let container = Container::new(&root, &id)?;
        let state = match container.read() {
            Ok(Some(state)) => state,
            // The others are listed all the same.
            Err(error) if container.exists() && !error.is_not_found() => {
                let text = format!("hoy-runtime: warning: list container \"{id}\": {}", error.chain());
                writeln!(std::io::stderr(), "{text}").unwrap_or_default();
                continue;
            }
            // One that is being made, or was deleted a moment ago, is not in the list.
            _ => continue,
        };
        if args.quiet {
            print_line(&id)?;
        } else {
            documents.push(state.document(container.status(Some(&state))));
        }
    }
    if args.quiet {
        return Ok(());
    }
    if args.format == Format::Json {
        serde_json::to_writer(Stdout::new(), &documents)?;
        return print_line("");
    }
    print_table(&documents)
}

fn print_table(documents: &[Document]) -> Result<()> {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |d: &Document| {
        let (pid, status) = (d.pid.to_string(), d.status.as_str().to_owned());
        [d.id.clone(), pid, status, d.bundle.display().to_string(), d.created.clone(), d.owner.clone()]
    };
    let table: Vec<[String; 6]> = std::iter::once(head).chain(documents.iter().map(row)).collect();
    let width = |at: usize| table.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..6).map(|at| width(at).unwrap_or(0)).collect();
    for row in &table {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        print_line(cells.collect::<Vec<_>>().join("   ").trim_end())?;
    }
    Ok(())
}
