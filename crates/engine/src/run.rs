//! One container from its image to its exit code, in the foreground.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hoy_layout::{ContainerDir, Image, Lock, NamedImage, write_file, write_volatile_file};
use hoy_paper::Paper;
use hoy_spec::{Generated, Host, Options, Request, Users, generate};
use hoy_sys::relay::catch_signals;

use crate::containers::LOCK;
use crate::programs::start;
use crate::runtime::start_failure;
use crate::{Engine, Error, Handed, Phase, Pull, Record, Result, Runtime, etc, names, stubs, supervise};

/// How often another name is tried when a random one is taken.
const ATTEMPTS: u32 = 16;

/// What was asked to be run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The image's name or id.
    pub image: String,
    /// The command; empty is the image's.
    pub command: Vec<String>,
    /// What shapes the configuration.
    pub options: Options,
    /// The container's name; none is a random one.
    pub name: Option<String>,
    /// Labels beside the image's.
    pub labels: BTreeMap<String, String>,
    /// Whether standard input is the container's too.
    pub interactive: bool,
    /// Whether the container is removed at its end.
    pub auto_remove: bool,
    /// Whether a container of the same name is removed first.
    pub replace: bool,
    /// Where the container's id is written, a file that must not be there yet.
    pub cidfile: Option<PathBuf>,
    /// When the image is fetched.
    pub pull: Pull,
    /// The runtime's name or path; none is `hoy-runtime`.
    pub runtime: Option<String>,
    /// What the caller hands to the container.
    pub handed: Handed,
}

impl Engine {
    /// Makes and runs a container and waits for its end; gives its exit code, or 125, 126 or 127 when it could not be
    /// started and the runtime said why. Signals to this process are passed on to it.
    ///
    /// # Errors
    /// Whatever keeps it from being made; nothing is left of it then.
    pub fn run(&self, run: &Run, warn: &dyn Fn(&str)) -> Result<u8> {
        let runtime = self.runtime(run.runtime.as_deref().unwrap_or(crate::runtime::DEFAULT))?;
        if let Some(path) = run.cidfile.as_ref().filter(|path| path.exists()) {
            return Err(Error::io("create", path)(std::io::Error::from(std::io::ErrorKind::AlreadyExists)));
        }
        self.reap()?;
        let (named, image) = self.image(&run.image, run.pull)?;
        let name = self.name(run)?;
        let signals = catch_signals()?;
        let by_digest = || format!("sha256:{}", named.descriptor.digest.hex());
        let image_name = named.name.clone().unwrap_or_else(by_digest);
        let record = first_record(run, &named, &image, &runtime);
        let id = self.create(run, &name, &image_name, &record)?;
        let dir = self.store.container_dir(id.parse()?);
        let lock = Lock::exclusive(&dir.path().join(LOCK))?;
        let prepared = self.prepare(run, &dir, &image, record).and_then(|(made, paper)| {
            made.warnings.iter().for_each(|warning| warn(warning));
            match &run.cidfile {
                Some(path) => Ok(write_file(path, id.as_bytes()).map(|()| paper)?),
                None => Ok(paper),
            }
        });
        let ended = prepared.and_then(|paper| self.watch(run, &dir, &runtime, &signals, paper));
        drop(lock);
        if run.auto_remove || ended.is_err() {
            self.forget(&id, true).unwrap_or_else(|error| warn(&error.to_string()));
        } else {
            self.programs.output("hoy-storage", &["umount", &id])?;
        }
        ended
    }

    /// Makes the container, with the engine's record in it from the first moment.
    fn create(&self, run: &Run, name: &str, image: &str, record: &Record) -> Result<String> {
        let me = hoy_sys::rustix::process::getpid().as_raw_nonzero();
        let path = self.store.runroot().join(format!("{}run-{me}", hoy_layout::TEMPORARY_PREFIX));
        let json = serde_json::to_vec(record).map_err(|e| Error::io("write", &path)(std::io::Error::from(e)))?;
        write_volatile_file(&path, &json)?;
        let argument = format!("hoy={}", path.display());
        let mut args = vec!["create", "--name", name, "--record", &argument];
        args.extend(run.auto_remove.then_some("--volatile"));
        let ids = run.options.id_options();
        args.extend(ids.iter().map(String::as_str));
        args.push(image);
        let id = self.programs.output("hoy-storage", &args);
        std::fs::remove_file(&path).unwrap_or_default();
        id
    }

    fn name(&self, run: &Run) -> Result<String> {
        let all = self.store.all_containers()?;
        let taken = |name: &str| all.iter().any(|dir| dir.container().is_ok_and(|container| container.name == name));
        match &run.name {
            Some(name) if !names::is_name(name) => Err(Error::ContainerName(name.clone())),
            Some(name) if taken(name) && run.replace => self.remove(name, true).map(|_| name.clone()),
            Some(name) if taken(name) => Err(Error::NameTaken(name.clone())),
            Some(name) => Ok(name.clone()),
            None => {
                for attempt in 0..ATTEMPTS {
                    let name = names::random(attempt)?;
                    if !taken(&name) {
                        return Ok(name);
                    }
                }
                names::random(u32::from(u16::MAX))
            }
        }
    }

    /// Writes what the runtime and other programs read: `config.json`, `stubs.json`, `hoy.json`.
    fn prepare(
        &self,
        run: &Run,
        dir: &ContainerDir,
        image: &Image,
        mut record: Record,
    ) -> Result<(Generated, Option<Paper>)> {
        let container = dir.container()?;
        let rootfs = container.bundle.join("rootfs");
        let root = File::open(&rootfs).map_err(Error::io("open", &rootfs))?;
        let users = Users::read(root.as_fd())?;
        let host = Host::current();
        let options = &run.options;
        let hostname = options.hostname.clone().unwrap_or_else(|| dir.id().short().to_owned());
        let host_network = options.network.as_deref() == Some("host");
        let ids = container.id_maps.as_ref();
        let root_owner = ids.and_then(|ids| Some((ids.host_uid(0)?, ids.host_gid(0)?)));
        let mut mounts = etc::files(dir, &hostname, host_network, options.read_only, root_owner)?;
        mounts.extend(run.handed.mount());
        let mut made = generate(&Request {
            image: &image.config.config,
            options,
            command: &run.command,
            users: &users,
            host: &host,
            ids,
            user_namespace: self.user_namespace(options)?.as_deref(),
            hostname: &hostname,
            mounts: &mounts,
        })?;
        made.config.process.env.extend(run.handed.environment());
        let paper = Paper::of(&mut made.config, &container.bundle, dir, false)?;
        dir.write_volatile_json("stubs.json", &stubs::missing(&rootfs, &made.config.mounts)?)?;
        dir.write_volatile_json("config.json", &made.config)?;
        record.command.clone_from(&made.config.process.args);
        record.write(dir)?;
        Ok((made, paper))
    }

    /// The user namespace that another container, or a file, stands for.
    fn user_namespace(&self, options: &Options) -> Result<Option<String>> {
        match options.user_namespace_mode() {
            ("ns", path) => Ok(Some(path.to_owned())),
            ("container", other) => {
                let entry = self.container(other)?;
                let pid = self.pid(&entry).ok_or_else(|| Error::NotRunning(other.to_owned()))?;
                Ok(entry.container.id_maps.is_some().then(|| format!("/proc/{pid}/ns/user")))
            }
            _ => Ok(None),
        }
    }

    /// Runs the container as a child of this process and records its life.
    fn watch(
        &self,
        run: &Run,
        dir: &ContainerDir,
        runtime: &Runtime,
        signals: &OwnedFd,
        paper: Option<Paper>,
    ) -> Result<u8> {
        let log = dir.path().join("runtime.log");
        let bundle = dir.container()?.bundle;
        let mut args = vec!["run".into(), "--bundle".into(), bundle.into_os_string()];
        if run.handed.descriptors > 0 {
            args.extend(["--preserve-fds".into(), run.handed.descriptors.to_string().into()]);
        }
        args.push(dir.id().as_str().into());
        let mut command = runtime.logging(&log, args);
        Handed::hide_from(&mut command);
        command.stdin(if run.interactive { Stdio::inherit() } else { Stdio::null() });
        let mut record: Record = dir.read_json(crate::record::FILE)?;
        record.phase = Phase::Running;
        record.started = Some((self.clock)());
        record.write(dir)?;
        let mut child = command.spawn().map_err(start(&runtime.program().display().to_string()))?;
        let code = supervise::wait(&mut child, signals)?;
        paper.map_or(Ok(()), |paper| paper.finish(dir))?;
        let code = self.explain(code, &log, || runtime.delete(dir.id().as_str()))?;
        record.phase = Phase::Exited;
        record.finished = Some((self.clock)());
        record.exit_code = Some(code);
        record.write(dir)?;
        Ok(code)
    }

    /// Tells the container's own exit code from one by which the runtime says that there was no container.
    pub(crate) fn explain(&self, code: u8, log: &Path, clean: impl FnOnce() -> Result<()>) -> Result<u8> {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        std::fs::remove_file(log).unwrap_or_default();
        match start_failure(&text).filter(|_| matches!(code, 1 | 125..=127 | 255)) {
            Some(failure) => clean().map(|()| failure),
            // A runtime that was killed may have left its container behind.
            None if code > 128 => clean().map(|()| code),
            None => Ok(code),
        }
    }
}

/// What is recorded of a container before it is made.
fn first_record(run: &Run, named: &NamedImage, image: &Image, runtime: &Runtime) -> Record {
    let mut labels = image.config.config.labels.clone();
    labels.extend(run.labels.clone());
    Record {
        phase: Phase::Created,
        command: run.command.clone(),
        image: named.name.clone().unwrap_or_else(|| run.image.clone()),
        image_id: image.manifest.config.digest,
        runtime: runtime.program().display().to_string(),
        auto_remove: run.auto_remove,
        labels,
        network: if run.options.network.as_deref() == Some("host") { "host" } else { "none" }.to_owned(),
        started: None,
        finished: None,
        exit_code: None,
        other: serde_json::Map::new(),
    }
}
