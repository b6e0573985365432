//! One build: what all its steps share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use hoy_containerfile::{Document, Ignore, Origin, Plan, Word};
use hoy_layout::Store;
use hoy_oci::{Descriptor, Digest, Platform};
use hoy_sys::rustix::fs::{Mode, OFlags, openat};
use hoy_sys::rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::containerfile::agent::Agent;
use crate::containerfile::cache::{Cache, Inputs};
use crate::containerfile::caches::Caches;
use crate::containerfile::context::Context;
use crate::containerfile::interrupt::Interrupt;
use crate::containerfile::keeper::Keeper;
use crate::containerfile::names::Names;
use crate::containerfile::origin::{Containers, Files};
use crate::containerfile::report::Report;
use crate::containerfile::run::needs_memory;
use crate::containerfile::scratch::Scratch;
use crate::containerfile::secrets::{Secret, Watch};
use crate::containerfile::standing::Standing;
use crate::containerfile::state::State;
use crate::containerfile::transfer::Outcome;
use crate::document::{Format, NewLayer};
use crate::run::{CgroupParent, Isolation};
use crate::sink::LayerSink;
use crate::source::SourceRoot;
use crate::{Clamp, Error, Fetcher, FromOptions, Result, Said, Tools, Volumes};

/// What a build is asked for.
#[derive(Debug)]
pub struct BuildOptions {
    /// The Containerfile's name, for messages.
    pub file: String,
    /// The directory that COPY and ADD copy from; none where there is none.
    pub context: Option<Arc<Context>>,
    /// `--build-context`: names, and directories or images.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--target`.
    pub target: Option<String>,
    /// What the first FROM is to name.
    pub base: Option<String>,
    /// Stages before the target are built even if it does not need them.
    pub builds_all: bool,
    /// What every RUN mounts before its own: values of `--mount`.
    pub mounts: Vec<String>,
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
    /// The platform built for.
    pub platform: Platform,
    /// It was asked for, and is not simply this machine's.
    pub platform_is_asked: bool,
    /// Full names of the image.
    pub names: Vec<String>,
    /// It is one image of several that get an index: it is not entered into the store's own.
    pub is_member: bool,
    /// In whose words its documents are.
    pub format: Format,
    /// Nobody asked for that format: an image that is used as it is keeps its own.
    pub format_is_free: bool,
    /// `--timestamp`.
    pub timestamp: Option<String>,
    /// `--source-date-epoch`, or `SOURCE_DATE_EPOCH`.
    pub source_date_epoch: Option<String>,
    /// The time it is.
    pub now: SystemTime,
    /// New layers are compressed.
    pub compress: bool,
    /// Steps are done even if their result is known.
    pub no_cache: bool,
    /// Results older than this are not used.
    pub cache_ttl: Option<Duration>,
    /// Caches beside the store's own.
    pub caches: Arc<Caches>,
    /// For each step that is done, say why its result was not known, and of others in which cache it was.
    pub explain: bool,
    /// What becomes one layer.
    pub squash: Squash,
    /// What is said of the image as a whole.
    pub said: Said,
    /// The image tells nothing of how it was made.
    pub omit_history: bool,
    /// How images are fetched.
    pub from: FromOptions,
    /// How other files are fetched.
    pub fetcher: Fetcher,
    /// `--secret`.
    pub secrets: Vec<Secret>,
    /// `--ssh`: ids and agents.
    pub ssh: BTreeMap<String, Agent>,
    /// What RUN has in common with `podman create`.
    pub create: hoy_spec::Options,
    /// What of its volumes is more than a mount.
    pub volumes: Volumes,
    /// The OCI runtime: a name or a path.
    pub runtime: String,
    /// Global options for it.
    pub runtime_flags: Vec<String>,
    /// The control group that commands get theirs in.
    pub cgroup_parent: Option<CgroupParent>,
    /// Lines of hosts(5) for RUN.
    pub hosts: Vec<String>,
    /// RUN has the image's own hosts(5).
    pub no_hosts: bool,
    /// resolv.conf(5) for RUN; empty for the one that comes with the network.
    pub resolver: String,
    /// RUN reads this process's standard input, and is never known beforehand.
    pub stdin: bool,
    /// `RUN --security=insecure` is privileged, and not refused.
    pub allows_insecure: bool,
    /// Devices that a `RUN --device` may have, by names and kinds; an empty one allows all.
    pub allowed_devices: Vec<String>,
    /// Options of `hoy-storage create` for the ids of the user namespace that commands have.
    pub ids: Vec<String>,
    /// When a command fails, there is a shell where it did.
    pub shell_on_error: bool,
    /// What keeps commands apart.
    pub isolation: Isolation,
    /// How many stages are built at once.
    pub jobs: usize,
    /// Predefined proxy variables of the caller, for RUN.
    pub proxies: BTreeMap<String, String>,
}

/// What becomes one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Squash {
    /// Nothing: each step has its own.
    #[default]
    None,
    /// What the build adds to its base image.
    New,
    /// Everything.
    All,
}

/// A named context.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// A directory.
    Directory(Arc<Context>),
    /// An image, by a name that `from` understands.
    Image(String),
}

/// A build under way.
pub(crate) struct Builder<'a> {
    pub(crate) store: &'a Store,
    pub(crate) tools: &'a Tools,
    pub(crate) options: &'a BuildOptions,
    pub(crate) report: &'a Report,
    pub(crate) document: &'a Document,
    pub(crate) plan: &'a Plan,
    pub(crate) cache: Cache,
    pub(crate) containers: Containers<'a>,
    pub(crate) scratch: Scratch,
    pub(crate) memory: Option<PathBuf>,
    pub(crate) watch: Option<Arc<Watch>>,
    pub(crate) interrupt: Arc<Interrupt>,
    /// Stages that are done, by index.
    pub(crate) done: Mutex<BTreeMap<usize, State>>,
    standings: Mutex<BTreeMap<Digest, Arc<Standing>>>,
    images: Mutex<BTreeMap<String, Arc<hoy_layout::Image>>>,
    pub(crate) named: OnceLock<std::collections::BTreeSet<String>>,
    keeper: Mutex<Option<Keeper>>,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(
        store: &'a Store,
        tools: &'a Tools,
        options: &'a BuildOptions,
        report: &'a Report,
        document: &'a Document,
        plan: &'a Plan,
    ) -> Result<Self> {
        let ttl = options.cache_ttl.map(|ttl| (ttl, options.now));
        let cache = Cache::new(store, options.no_cache, ttl)?;
        let scratch = Scratch::new(store)?;
        Ok(Self {
            store,
            tools,
            options,
            report,
            document,
            plan,
            cache,
            containers: Containers::new(tools, scratch.record()?, options.isolation, (store, report, &options.caches)),
            watch: Watch::new(&options.secrets)?.map(Arc::new),
            memory: memory(plan, &scratch, options)?,
            interrupt: Interrupt::catch()?,
            scratch,
            done: Mutex::default(),
            standings: Mutex::default(),
            images: Mutex::default(),
            named: OnceLock::new(),
            keeper: Mutex::default(),
        })
    }

    /// The latest time in an image that is based on one made at `base`.
    pub(crate) fn clamp(&self, base: Option<hoy_oci::Timestamp>) -> Result<Clamp> {
        let args = self.options.args.get("SOURCE_DATE_EPOCH").map(String::as_str);
        let epoch = self.options.source_date_epoch.as_deref().or(args);
        let now = || hoy_oci::Timestamp::from(self.options.now);
        Clamp::choose(self.options.timestamp.as_deref(), epoch, base, now)
    }

    /// What the build takes from elsewhere.
    fn materials(&self) -> &crate::Materials {
        &self.options.fetcher.materials
    }

    /// An image of the store, fetched where needed.
    pub(crate) fn image(&self, name: &str, platform: &Platform) -> Result<Arc<hoy_layout::Image>> {
        let key = format!("{name} {platform}");
        // Two stages that want one image fetch it once.
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = images.get(&key) {
            return Ok(Arc::clone(image));
        }
        let is_other = *platform != Platform::host();
        let options = FromOptions { platform: is_other.then(|| platform.clone()), ..self.options.from.clone() };
        let image = Arc::new(self.materials().image(self.store, self.tools, name, platform, &options)?);
        images.insert(key, Arc::clone(&image));
        Ok(image)
    }

    /// What `from` names in the stage at `index`; the context where there is none.
    pub(crate) fn files(&self, index: usize, from: Option<&str>) -> Result<Files> {
        let Some(from) = from else {
            let none = "this build has no context directory to take files from";
            let context = self.options.context.clone().ok_or_else(|| Error::Refused(none.to_owned()))?;
            return Ok(Files::Context(context));
        };
        let number = from.parse::<usize>().ok().filter(|number| *number < index);
        let names = self.named.get_or_init(|| self.options.contexts.keys().cloned().collect());
        // A context stands for the stage of its name, by whatever the stage is called.
        let name = number.and_then(|number| self.plan.stages.get(number)?.name.as_ref());
        let context = name.filter(|name| names.contains(*name));
        let (number, from) = context.map_or((number, from), |name| (None, name.as_str()));
        let origin = number.map_or_else(|| self.plan.origin(index, from, names), Origin::Stage);
        match origin {
            Origin::Scratch => Ok(Files::Nothing),
            Origin::Stage(stage) => {
                let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
                let state =
                    done.get(&stage).cloned().ok_or_else(|| Error::Refused(format!("stage {from} is not built")))?;
                drop(done);
                if state.layers.is_empty() {
                    return Ok(Files::Nothing);
                }
                let (manifest, _) = state.put(self.store.layout(), Format::Oci)?;
                Ok(Files::Image { manifest: manifest.digest, chain: state.chain() })
            }
            Origin::Context(name) => match self.options.contexts.get(&name) {
                Some(NamedContext::Directory(context)) => Ok(Files::Context(Arc::clone(context))),
                Some(NamedContext::Image(image)) => self.files_of_image(image),
                None => Err(Error::Refused(format!("there is no context \"{name}\""))),
            },
            Origin::Image(name) => self.files_of_image(&name),
        }
    }

    fn files_of_image(&self, name: &str) -> Result<Files> {
        let image = self.image(name, &self.options.platform)?;
        let clamp = self.clamp(image.config.created)?;
        let chain = State::from_image(name, &image, clamp).chain();
        Ok(Files::Image { manifest: image.descriptor.digest, chain })
    }

    /// Opens files to be read.
    pub(crate) fn with_files<T>(
        &self,
        files: &Files,
        read: impl FnOnce(&SourceRoot, &Ignore) -> Result<T>,
    ) -> Result<T> {
        match files {
            Files::Context(context) => {
                let root = context.root.try_clone().map_err(Error::io("open", &context.path))?;
                read(&SourceRoot::Root(root), &context.ignore)
            }
            Files::Image { manifest, .. } => {
                let root = open_directory(&self.containers.root_of(manifest)?)?;
                read(&SourceRoot::Root(root), &Ignore::default())
            }
            Files::Nothing => {
                let root = open_directory(&self.scratch.empty()?)?;
                read(&SourceRoot::Root(root), &Ignore::default())
            }
        }
    }

    /// What every step depends on.
    pub(crate) fn inputs(&self, state: &State, instruction: String) -> Inputs {
        let clamp = state.clamp.seconds().map_or_else(|| "none".to_owned(), |seconds| seconds.to_string());
        Inputs::from([
            ("parent", state.chain().to_string()),
            ("instruction", instruction),
            ("platform", state.platform.to_string()),
            ("clamp", clamp),
            ("compression", if self.options.compress { "gzip" } else { "none" }.to_owned()),
        ])
    }

    /// What the cache knows of a step, or what the step makes.
    pub(crate) fn cached(
        &self,
        inputs: &Inputs,
        created_by: String,
        make: impl FnOnce() -> Result<Option<NewLayer>>,
    ) -> Result<Outcome> {
        let caches = &self.options.caches;
        let key = Cache::key(inputs)?;
        let done = |layer: Option<NewLayer>, found, why: Option<String>| {
            caches.remember(key, layer.as_ref());
            Ok(Outcome { layer, found, why: why.filter(|_| self.options.explain), created_by })
        };
        if let Some(layer) = self.cache.find(self.store.layout(), inputs)? {
            self.tools.debug(&format!("Found a cache hit in the first iteration, the store's own cache: {key}"));
            return done(layer, true, None);
        }
        if self.cache.may_ask_others()
            && let Some(claimed) = caches.find(self.tools, self.report, &key)
            && caches.accept(&claimed, self.cache.record(inputs, claimed.layer.as_ref())?)?
        {
            let place = crate::without_credentials(claimed.place);
            self.tools.debug(&format!("Found a cache hit in the second iteration, \"{place}\": {key}"));
            return done(claimed.layer, true, Some(format!("cached in \"{place}\"")));
        }
        let why = self.options.explain.then(|| format!("not cached: {}", self.cache.explain(inputs)));
        let layer = make()?;
        self.cache.add(inputs, layer.as_ref())?;
        done(layer, false, why)
    }

    /// A step failed: what came before it is kept, as far as that can be done.
    pub(crate) fn stopped(&self, step: &str, state: &State) {
        let put = || {
            self.have(&state.layers)?;
            let config = serde_json::to_vec(&state.working).map_err(|source| Error::Json("configuration", source))?;
            if let Some(secret) = self.watch.as_ref().and_then(|watch| watch.find(&config)) {
                return Err(crate::containerfile::leak(secret, "the image so far"));
            }
            state.put(self.store.layout(), Format::Oci)
        };
        // The failure of the step is the one to be told.
        if !state.layers.is_empty()
            && let Ok((manifest, _)) = put()
        {
            self.report.stopped(step, &manifest.digest);
        }
    }

    /// Has layers here that a cache elsewhere has.
    pub(crate) fn have(&self, layers: &[Descriptor]) -> Result<()> {
        self.options.caches.have(self.store, self.tools, self.report, layers)
    }

    /// The fingerprint of files that cannot change, as this cache or another knows it.
    pub(crate) fn content(&self, name: &str) -> Option<Digest> {
        let (caches, digest) = (&self.options.caches, Digest::of(name.as_bytes()));
        let others = || caches.content(self.tools, self.report, &digest);
        let known = self.cache.content(name).or_else(|| self.cache.may_ask_others().then(others).flatten())?;
        caches.remember_content(digest, known);
        Some(known)
    }

    pub(crate) fn add_content(&self, name: &str, content: &Digest) -> Result<()> {
        self.options.caches.remember_content(Digest::of(name.as_bytes()), *content);
        self.cache.add_content(name, content)
    }

    /// A new layer for the store.
    pub(crate) fn sink(&self) -> Result<LayerSink> {
        Ok(LayerSink::new(self.store.layout(), self.options.compress)?.watched(self.watch.clone()))
    }

    /// What stands where in the root file system that a stage has come to.
    pub(crate) fn standing(&self, state: &State) -> Result<Arc<Standing>> {
        self.have(&state.layers)?;
        let (mut standing, mut is_known) = (Arc::new(Standing::default()), true);
        for (at, layer) in state.layers.iter().enumerate() {
            let chain = state.chain_up_to(at + 1);
            let known = self.standings.lock().unwrap_or_else(PoisonError::into_inner).get(&chain).cloned();
            standing = match known {
                Some(known) => known,
                None => {
                    is_known = false;
                    let mut next = Arc::unwrap_or_clone(standing);
                    next.add_layer(Names::of(self.store.layout(), layer, &self.cache.names(&layer.digest))?);
                    Arc::new(next)
                }
            };
        }
        if !is_known {
            let mut all = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(state.chain(), Arc::clone(&standing));
        }
        Ok(standing)
    }

    /// The FROM of a stage: the word that names its base, and its line with the variables filled in, as buildah shows it.
    pub(crate) fn base_line(&self, index: usize) -> (Word, String) {
        let from = self.document.instructions.iter().filter_map(|instruction| match &instruction.kind {
            hoy_containerfile::Kind::From(from) => Some(from),
            _ => None,
        });
        let Some(from) = from.into_iter().nth(index) else { return Default::default() };
        let rules = hoy_containerfile::Rules::words(self.document.escape);
        let fill = |word: &Word| {
            let expanded = hoy_containerfile::expand(&word.text, &self.plan.globals, rules);
            expanded.map_or_else(|_| word.text.clone(), |expanded| expanded.text)
        };
        let platform = from.platform.as_ref().map(|word| format!("--platform={} ", fill(word))).unwrap_or_default();
        let after: String = from.after.iter().map(|word| format!("--after={} ", fill(word))).collect();
        let other = self.options.base.as_ref().filter(|_| index == 0);
        let image = other.cloned().unwrap_or_else(|| fill(&from.image));
        let name = from.name.as_ref().map(|name| format!(" AS {}", name.text)).unwrap_or_default();
        (from.image.clone(), format!("FROM {platform}{after}{image}{name}"))
    }

    /// From now on, what runs ends if this process is killed.
    pub(crate) fn keeper(&self) -> Result<()> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.is_none() {
            *keeper = Some(Keeper::start(self.tools, self.scratch.path())?);
        }
        Ok(())
    }

    /// A directory in memory that only this build sees, for secrets; none before there is one.
    pub(crate) fn memory(&self) -> Result<&Path> {
        let none = "no memory for secrets was mounted".to_owned();
        self.memory.as_deref().ok_or(Error::Refused(none))
    }
}

/// Mounts memory for secrets where nobody else sees it, if a RUN has any: it is gone with this process, however that ends.
/// A trigger may have some, too: that is not known yet, and where nothing can be mounted no trigger runs.
fn memory(plan: &Plan, scratch: &Scratch, options: &BuildOptions) -> Result<Option<PathBuf>> {
    let has_secret = plan.instructions().any(|instruction| match &instruction.kind {
        hoy_containerfile::Kind::Run(run) => needs_memory(&run.mounts),
        _ => false,
    });
    if has_secret {
        mount_memory(scratch, options.isolation).map(Some)
    } else if options.secrets.is_empty() {
        Ok(None)
    } else {
        Ok(mount_memory(scratch, options.isolation).ok())
    }
}

fn mount_memory(scratch: &Scratch, isolation: Isolation) -> Result<PathBuf> {
    if isolation == Isolation::Chroot {
        return scratch.shared_memory();
    }
    let path = scratch.memory()?;
    let failed = || Error::io::<hoy_sys::rustix::io::Errno>("mount memory at", path.clone());
    hoy_sys::process::unshare(CLONE_NEWNS).map_err(|error| failed()(error.errno))?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).map_err(failed())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", &path, "tmpfs", flags, Some(c"mode=0700")).map_err(failed())?;
    Ok(path)
}

/// A mount namespace: clone(2).
const CLONE_NEWNS: u64 = 0x0002_0000;

/// Opens a directory whose files are read.
pub(crate) fn open_directory(path: &Path) -> Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(hoy_sys::rustix::fs::CWD, path, flags, Mode::empty()).map_err(Error::io("open", path))
}
