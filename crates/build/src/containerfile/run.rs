//! RUN: a command over a fresh layer, and what it changed.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;

use hoy_containerfile::{Heredoc, Instruction, Network, Run, Word};
use hoy_layer::Archive;
use hoy_layout::{ContainerDir, ContainerId};
use hoy_spec::Mount;
use hoy_sys::command::die_with_parent;

use crate::containerfile::builder::{BuildOptions, Builder, open_directory};
use crate::containerfile::device::Devices;
use crate::containerfile::keeper::Running;
use crate::containerfile::mounts::{Asked, Mounts};
use crate::containerfile::state::State;
use crate::containerfile::transfer::Outcome;
use crate::containerfile::{Leak, Watch};
use crate::document::{Format, NewLayer};
use crate::in_root::Left;
use crate::run::{Isolation, RunOptions, may_name_hosts, start};
use crate::tools::answer;
use crate::{Error, Result, Volumes, Working};

/// Variables that RUN has without an ARG, and that no cache knows (reference "Predefined ARGs").
pub const PREDEFINED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];
/// Where the script of a here-document with a `#!` line is.
const SCRIPTS: &str = "/dev/pipes";
/// What stands in hosts(5) before what is asked for.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
/// So many last lines are told of a command that failed when nothing was told before.
const LAST_LINES: usize = 20;
/// A longer line is cut.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// A command with its here-documents.
struct Command {
    words: Vec<String>,
    /// A script that is to be there while it runs: its place, its text.
    script: Option<(String, String)>,
}

/// Carries out a RUN.
pub(crate) fn run(
    builder: &Builder<'_>,
    stage: usize,
    step: &str,
    state: &State,
    run: &Run,
    instruction: &Instruction,
) -> Result<Outcome> {
    if run.is_insecure && !builder.options.allows_insecure {
        let text = "RUN --security=insecure is for who says so: build with --allow security.insecure";
        return Err(Error::Refused(text.to_owned()));
    }
    if builder.options.isolation == Isolation::Chroot && (run.network == Network::None || run.is_insecure) {
        let text = "with --isolation chroot a command has this container's network and rights: neither --network=none nor \
                    --security=insecure can be had";
        return Err(Error::Refused(text.to_owned()));
    }
    let command = Command::read(state, run, &instruction.statement.heredocs)?;
    let asked: Vec<Asked> =
        run.mounts.iter().map(|word| Asked::read(builder, stage, state, word)).collect::<Result<_>>()?;
    let mut env = state.working.config.config.env.clone();
    let is_set = |env: &[String], name: &str| env.iter().any(|entry| entry.split('=').next() == Some(name));
    let args = state.args().iter().filter(|(name, _)| !is_set(&env, name));
    let (args, names): (Vec<String>, Vec<&str>) =
        args.map(|(name, value)| (format!("{name}={value}"), name.as_str())).unzip();
    env.extend(args);
    let contents = asked.iter().map(|one| one.content(builder)).collect::<Result<Vec<_>>>()?;
    let devices = Devices::find(builder, step, run)?;
    // What the machine wants for every container is, like its kernel, no input.
    let create = hoy_spec::Options { defaults: hoy_spec::Defaults::default(), ..builder.options.create.clone() };
    let mut canonical = format!("RUN {:?} {:?} {:?}", command.words, command.script, run.network);
    if run.is_insecure {
        canonical.push_str(" insecure");
    }
    let mut inputs = builder.inputs(state, canonical);
    inputs.insert("environment", format!("{env:?}"));
    inputs.insert("mounts", format!("{contents:?}"));
    inputs.insert("user", state.working.config.config.user.clone());
    inputs.insert("workdir", state.workdir().to_owned());
    inputs.insert("options", format!("{create:?} {:?}", builder.options.hosts));
    if !builder.options.resolver.is_empty() || builder.options.no_hosts {
        inputs.insert("names", format!("{} {}", builder.options.resolver, builder.options.no_hosts));
    }
    if !devices.content.is_empty() {
        inputs.insert("devices", devices.content.clone());
    }
    if builder.options.volumes != Volumes::default() {
        inputs.insert("volumes", format!("{:?}", builder.options.volumes));
    }
    if !builder.options.ids.is_empty() {
        inputs.insert("ids", builder.options.ids.join(" "));
    }
    let proxies: BTreeMap<_, _> = builder.options.proxies.iter().chain(&builder.options.args).collect();
    for name in PREDEFINED {
        if let (Some(value), false) = (proxies.get(&name.to_owned()), is_set(&env, name)) {
            env.push(format!("{name}={value}"));
        }
    }
    // Anybody reads a history: it has the names, and no value, which may be a secret.
    let args = if names.is_empty() { String::new() } else { format!("|{} {} ", names.len(), names.join(" ")) };
    let created_by = match &command.script {
        Some((_, text)) => format!("{args}{} <<EOF\n{text}EOF", command.words.join(" ")),
        None => format!("{args}{}", command.words.join(" ")),
    };
    let execute = || execute(builder, step, state, (run, &devices), &command, &asked, env);
    if builder.options.stdin {
        // What it reads nobody can know beforehand, nor remember.
        return Ok(Outcome { layer: execute()?, found: false, why: None, created_by });
    }
    builder.cached(&inputs, created_by, execute)
}

impl Command {
    fn read(state: &State, run: &Run, heredocs: &[Heredoc]) -> Result<Self> {
        let words: Vec<String> = run.command.words.iter().map(|word| word.text.clone()).collect();
        let line = words.first().map(|text| text.trim()).unwrap_or_default();
        if line.is_empty() && heredocs.is_empty() {
            return Err(Error::Refused("RUN needs a command".to_owned()));
        }
        let plain = |words| Ok(Self { words: state.command(words, run.command.is_shell), script: None });
        match heredocs {
            [] => plain(words),
            [only] if matches!(Heredoc::opened_by(line), Ok(Some(_))) => {
                let text = only.text();
                if !text.starts_with("#!") {
                    return plain(vec![text]);
                }
                let place = format!("{SCRIPTS}/{}", only.name);
                Ok(Self { words: state.command(vec![place.clone()], true), script: Some((place, text)) })
            }
            all => {
                // The shell reads them itself.
                let ends = all.iter().flat_map(|heredoc| [heredoc.content.as_str(), heredoc.name.as_str(), "\n"]);
                plain(vec![std::iter::once(line).chain(["\n"]).chain(ends).collect()])
            }
        }
    }
}

/// Whether any of the mounts needs memory that only this build sees.
pub(crate) fn needs_memory(mounts: &[Word]) -> bool {
    mounts.iter().any(|word| word.text.contains("secret"))
}

fn execute(
    builder: &Builder<'_>,
    step: &str,
    state: &State,
    (run, devices): (&Run, &Devices),
    command: &Command,
    asked: &[Asked],
    env: Vec<String>,
) -> Result<Option<NewLayer>> {
    builder.interrupt.check()?;
    let manifest = match state.layers.is_empty() {
        true => None,
        false => Some(state.put(builder.store.layout(), Format::Oci)?.0.digest),
    };
    let id = builder.containers.create_with(manifest.as_ref(), &builder.options.ids)?;
    let dir = builder.store.container_dir(id.clone());
    let ids = dir.container()?.id_maps;
    let BuildOptions { hosts, resolver, volumes, .. } = builder.options;
    if volumes.have_new_owners() {
        let root = open_directory(&dir.path().join("rootfs"))?;
        volumes.give(root.as_fd(), &state.working.config.config.user, ids.as_ref())?;
    }
    let overlays = volumes.overlays(&builder.scratch.path().join(id.as_str()), ids.is_some())?;
    let mut mounts = Mounts::prepare(builder, asked, ids)?;
    mounts.mounts.extend(overlays);
    if let Some((place, text)) = &command.script {
        mounts.mounts.push(file(builder, place, text)?);
    }
    if !resolver.is_empty() {
        mounts.mounts.push(file(builder, "/etc/resolv.conf", resolver)?);
    }
    if !hosts.is_empty() {
        let text = format!("{LOCALHOST}{}\n", hosts.join("\n"));
        mounts.mounts.push(file(builder, "/etc/hosts", &text)?);
    }
    let place = Place { dir, working: working(state, &mounts, env), run, devices, mounts };
    let mut ended = command_in(builder, step, command, &place);
    if builder.options.shell_on_error
        && let Err(Error::Command(_)) = &ended
    {
        ended = shell(builder, step, state, &place).and(ended);
    }
    let layer = ended.and_then(|()| changes(builder, state, &id));
    let removed = builder.containers.remove(&id);
    let layer = layer?;
    removed.map(|()| layer)
}

/// A file that is there while a command runs.
fn file(builder: &Builder<'_>, place: &str, text: &str) -> Result<Mount> {
    let path = builder.scratch.directory()?.join("file");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o755).open(&path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(Error::io("write", &path))?;
    Ok(Mount {
        destination: place.to_owned(),
        kind: "bind".to_owned(),
        source: path.display().to_string(),
        options: ["bind", "ro"].map(str::to_owned).to_vec(),
    })
}

/// Where a command runs: the container, as what, with what beside it.
struct Place<'a> {
    dir: ContainerDir,
    working: Working,
    run: &'a Run,
    devices: &'a Devices,
    mounts: Mounts,
}

impl Place<'_> {
    fn options(&self, builder: &Builder<'_>) -> RunOptions {
        let mut create = builder.options.create.clone();
        match self.run.network {
            Network::Default => {}
            Network::None => create.network = Some("none".to_owned()),
            Network::Host => create.network = Some("host".to_owned()),
        }
        create.privileged = self.run.is_insecure;
        create.device.extend(self.devices.names.iter().cloned());
        // No name of this one container may get into the image.
        let has_name = create.uts.as_deref() != Some("host") && may_name_hosts();
        create.hostname = has_name.then(|| "buildkitsandbox".to_owned());
        RunOptions {
            create,
            runtime: builder.options.runtime.clone(),
            runtime_flags: builder.options.runtime_flags.clone(),
            mounts: self.mounts.mounts.clone(),
            cgroup_parent: builder.options.cgroup_parent.clone(),
            no_hosts: builder.options.no_hosts,
            bundles: builder.memory.clone(),
            isolation: builder.options.isolation,
        }
    }
}

/// The image so far, with the variables that a command has.
fn working(state: &State, mounts: &Mounts, env: Vec<String>) -> Working {
    let mut working = state.working.clone();
    working.config.config.env = env;
    working.config.config.env.extend(mounts.env.iter().cloned());
    working
}

fn command_in(builder: &Builder<'_>, step: &str, command: &Command, place: &Place<'_>) -> Result<()> {
    let (reader, writer) = std::io::pipe().map_err(Error::io("create", "pipe"))?;
    let other = writer.try_clone().map_err(Error::io("create", "pipe"))?;
    let set_up = |runtime: &mut std::process::Command| {
        let stdin = if builder.options.stdin { Stdio::inherit() } else { Stdio::null() };
        runtime.stdin(stdin).stdout(writer).stderr(other);
    };
    let mut last = Vec::new();
    let ended = attend(builder, step, &command.words, place, &place.options(builder), set_up, || {
        last = tell(builder, step, reader);
    });
    let ended = ended.and_then(|code| if code == 0 { Ok(()) } else { Err(Error::Command(code)) });
    if matches!(ended, Err(Error::Command(_) | Error::NoContainer { .. })) {
        builder.report.failed(&last);
    }
    ended
}

/// A shell in the container of a command that failed, on this process's own input and output.
fn shell(builder: &Builder<'_>, step: &str, state: &State, place: &Place<'_>) -> Result<()> {
    let words: Vec<String> = state.command(Vec::new(), true).into_iter().take(1).collect();
    let mut options = place.options(builder);
    options.create.tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    builder
        .report
        .warn(&format!("{step} failed: this is {} in its container; the build ends with it", words.join(" ")));
    // What the shell says is no result of the build.
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map_err(Error::io("duplicate", "standard error"))?;
    let set_up = |runtime: &mut std::process::Command| {
        runtime.stdin(Stdio::inherit()).stderr(Stdio::inherit());
        if options.create.tty {
            runtime.stdout(Stdio::inherit());
        } else {
            runtime.stdout(stderr);
        }
    };
    attend(builder, step, &words, place, &options, set_up, || {}).map(drop)
}

fn running(builder: &Builder<'_>, options: &RunOptions, id: &ContainerId) -> Running {
    let (runtime, flags) = (options.runtime.clone(), options.runtime_flags.clone());
    Running { id: id.clone(), runtime, flags, root: options.state_root(builder.store) }
}

/// Runs words in a container, and `meanwhile`; gives the exit code.
fn attend(
    builder: &Builder<'_>,
    step: &str,
    words: &[String],
    place: &Place<'_>,
    options: &RunOptions,
    streams: impl FnOnce(&mut std::process::Command),
    meanwhile: impl FnOnce(),
) -> Result<u8> {
    let set_up = |runtime: &mut std::process::Command, id: &ContainerId| {
        streams(runtime);
        die_with_parent(runtime);
        builder.keeper()?;
        running(builder, options, id).remember(builder.scratch.path())
    };
    let warn = |text: &str| builder.report.line(step, text);
    // Just made, it is mounted in its own bundle.
    let rootfs = place.dir.path().join("rootfs");
    let container = (&place.dir, rootfs.as_path());
    let started = start(builder.store, builder.tools, container, &place.working, words, options, set_up, warn)?;
    let left = started.watch(options, builder.store)?;
    let id = started.bundle.id.clone();
    let kill = running(builder, options, &id).kill(builder.tools);
    let running = id.as_str();
    builder.interrupt.add(running, kill);
    meanwhile();
    let crate::run::Started { mut child, bundle } = started;
    let status = child.wait().map_err(Error::io("wait for", "the OCI runtime"));
    left.map_or(Ok(()), Left::wait)?;
    builder.interrupt.remove(running);
    Running::forget(builder.scratch.path(), running);
    let code = status?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(125);
    builder.interrupt.check()?;
    bundle.finish(code, &place.dir, options)
}

/// Passes a command's lines on; returns the last ones.
fn tell(builder: &Builder<'_>, step: &str, reader: impl Read) -> Vec<String> {
    let mut reader = BufReader::new(reader);
    let mut last = VecDeque::new();
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return last.into(),
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
        builder.report.line(step, &text);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text);
    }
}

/// What a command changed, as a layer.
fn changes(builder: &Builder<'_>, state: &State, id: &ContainerId) -> Result<Option<NewLayer>> {
    let mut args = vec!["diff".to_owned(), "--tar".to_owned()];
    args.extend(state.clamp.seconds().into_iter().flat_map(|seconds| ["--clamp".to_owned(), seconds.to_string()]));
    args.push(id.as_str().to_owned());
    let mut child = builder.tools.storage_stream(&args)?;
    let mut sink = builder.sink()?;
    let copied = child.stdout.take().map_or(Ok(()), |mut tar| sink.copy(&mut tar));
    let output = child.wait_with_output().map_err(Error::io("wait for", "hoy-storage"))?;
    if let Err(error) = &copied
        && let Some(Leak(secret)) = error.get_ref().and_then(|inner| inner.downcast_ref())
    {
        let file = builder.watch.as_ref().and_then(|watch| leaking_file(builder, watch, &args));
        return Err(leak(secret, &file.unwrap_or_else(|| "a name".to_owned())));
    }
    // A child that failed says why better than the pipe that broke.
    answer("hoy-storage", output)?;
    copied.map_err(Error::io("write a layer to", builder.store.root()))?;
    sink.finish()
}

/// The refusal to write a secret where it would stay.
pub(crate) fn leak(secret: &str, place: &str) -> Error {
    let text = format!("the secret \"{secret}\" is in {place}: it would be in the image for everybody to read");
    Error::Refused(text)
}

/// The file of a layer that a secret is in.
fn leaking_file(builder: &Builder<'_>, watch: &Watch, args: &[String]) -> Option<String> {
    let mut child = builder.tools.storage_stream(args).ok()?;
    let mut archive = Archive::new(BufReader::new(child.stdout.take()?));
    let mut found = None;
    while let Ok(Some(entry)) = archive.next_entry() {
        let (mut data, mut tail, mut buffer) = (archive.data(), Vec::new(), vec![0; 64 << 10]);
        let name = || format!("/{}", String::from_utf8_lossy(&entry.path));
        while let Ok(count) = data.read(&mut buffer) {
            if count == 0 {
                break;
            }
            if watch.see(&mut tail, buffer.get(..count).unwrap_or_default()).is_some() {
                found = Some(name());
                break;
            }
        }
        if found.is_some() {
            break;
        }
    }
    // It is of no more use.
    child.kill().unwrap_or_default();
    child.wait().ok()?;
    found
}
