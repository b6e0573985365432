//! `hoy run`, `hoy exec`, `hoy rm`.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use hoy_cli::{Context, Error, Result, name_and_words, print_line};
use hoy_engine::{Exec, Handed, Run};
use hoy_spec::Options;

use crate::args::{ExecArgs, Global, RmArgs, RunArgs};
use crate::external::enter_namespaces;

const NO_MONITOR: &str = "detached containers come with hoy-monitor, which is not there yet";
const BACKGROUND: &str = "a shell's \"&\" or a systemd unit can run it in the background";

/// What this process was handed; `LISTEN_PID` names the process that the caller started.
fn handed(preserve: u32) -> Result<Handed> {
    Ok(Handed::from_env(|name| std::env::var(name).ok(), std::process::id(), preserve)?)
}

pub(crate) fn run(global: &Global, args: RunArgs) -> Result<ExitCode> {
    if args.detach {
        return Err(Error::msg(format!("option --detach: {NO_MONITOR}")).with_hint(BACKGROUND));
    }
    let handed = handed(args.preserve_fds)?;
    let labels = labels(&args.label)?;
    enter_namespaces(global)?;
    let engine = global.engine()?;
    let (image, command) = name_and_words(args.image_and_command);
    let run = Run {
        image,
        command,
        options: args.options,
        name: args.name,
        labels,
        interactive: args.interactive,
        auto_remove: args.rm || args.rmi,
        replace: args.replace,
        cidfile: args.cidfile,
        pull: args.pull.into(),
        runtime: global.runtime.clone(),
        handed,
    };
    let code = match engine.run(&run, &warn) {
        Err(error) if error.is_told() => return Ok(ExitCode::from(125)),
        ended => ended?,
    };
    if args.rmi
        && let Err(error) = engine.programs().output("hoy-storage", &["rmi", &run.image])
    {
        warn(&format!("the image stays: {error}"));
    }
    Ok(ExitCode::from(code))
}

pub(crate) fn warn(text: &str) {
    // Nobody can be told that nobody can be told.
    writeln!(std::io::stderr(), "hoy: {text}").unwrap_or_default();
}

fn labels(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for text in texts {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(Error::msg(format!("option --label: \"{text}\": its form is NAME=VALUE")));
        }
        labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(labels)
}

pub(crate) fn exec(global: &Global, args: ExecArgs) -> Result<ExitCode> {
    if args.detach {
        return Err(Error::msg(format!("option --detach: {NO_MONITOR}")).with_hint(BACKGROUND));
    }
    let options = Options {
        env: args.env,
        env_file: args.env_file,
        user: args.user,
        workdir: args.workdir,
        tty: args.tty,
        privileged: args.privileged,
        ..Options::default()
    };
    let handed = handed(args.preserve_fds)?;
    let (container, command) = name_and_words(args.container_and_command);
    let exec = Exec { container, command, options, interactive: args.interactive, handed };
    Ok(ExitCode::from(global.engine()?.exec(&exec)?))
}

pub(crate) fn remove(global: &Global, args: &RmArgs) -> Result<ExitCode> {
    let engine = global.engine()?;
    let names = match args.all {
        true => engine.containers()?.iter().map(|entry| entry.id().to_string()).collect(),
        false => args.containers.clone(),
    };
    let mut failed: Result<ExitCode> = Ok(ExitCode::SUCCESS);
    for name in names {
        match engine.remove(&name, args.force) {
            Ok(id) => print_line(id)?,
            Err(error) if error.is_not_found() && (args.ignore || args.all) => {}
            Err(error) => {
                let code = if matches!(error, hoy_engine::Error::Running(_)) { 2 } else { 1 };
                if let Err(earlier) = failed {
                    warn(&earlier.to_string());
                }
                failed = Err(error).context(|| format!("remove \"{name}\"")).code(code);
            }
        }
    }
    failed
}
