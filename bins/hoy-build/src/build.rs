//! `build`: from what was typed to what is built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use hoy_build::{
    Agent, Asked, BuildOptions, Caches, Fetcher, Format, FromOptions, Isolation, Pull, Recorder, Report, Said, Secret,
    Squash, Tools, Volumes, is_socket, split_transport,
};
use hoy_cli::{Context as _, Error, Result, print_line};
use hoy_containerfile::Document;
use hoy_layout::{NamedImage, Store};
use hoy_oci::{Descriptor, Digest, Platform};

use crate::access::PlatformArgs;
use crate::build_args::{BuildArgs, Entitlement};
use crate::checks;
use crate::containers_conf::ContainersConf;
use crate::context::{Context, warn};
use crate::image::{check_signable, local_name, sign};
use crate::isolation::{keep_for_chroot, refuse_for_chroot};
use crate::mounts_conf;
use crate::said::pair;
use crate::surroundings::network;
use crate::working::{platform, pull_policy};

pub(crate) mod attest;
pub(crate) mod input;
mod lock;
pub(crate) mod output;
pub(crate) mod progress;
mod usage;

use input::{Input, Temporary};
use progress::{Form, report};

/// The build argument that counts in place of the `check` directive, as in BuildKit.
const CHECK: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// An image, or an index of images, that was built.
pub(crate) struct Made {
    /// Of one image that of its configuration.
    pub(crate) id: Digest,
    pub(crate) manifest: Descriptor,
    /// Itself, or of an index what is in it, for each platform.
    pub(crate) images: Vec<(Platform, Descriptor)>,
    pub(crate) names: Vec<String>,
}

pub(crate) fn build(context: &Context, args: &BuildArgs) -> Result<ExitCode> {
    if let Some(file) = &args.logfile {
        tell_in(file)?;
    }
    if let Some(made) = make(context, args)? {
        output::results(context, args, &made)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// From now on, what is told goes into this file.
fn tell_in(file: &Path) -> Result<()> {
    let open = std::fs::OpenOptions::new().create(true).append(true).open(file);
    let log = open.context(|| format!("open \"{}\"", file.display()))?;
    Ok(hoy_sys::rustix::stdio::dup2_stderr(&log)?)
}

/// Builds; none where the Containerfile was only to be looked at.
pub(crate) fn make(context: &Context, args: &BuildArgs) -> Result<Option<Made>> {
    let mut isolation = Isolation::Oci;
    let store = context.store()?;
    let fetcher = Fetcher { options: args.access.fetching(), materials: Arc::new(lock::materials(args)?) };
    let input = Input::read(args, store.root(), &context.tools, &fetcher)?;
    let document = Document::parse(&input.containerfile).map_err(|error| Error::msg(error.render(&input.name)))?;
    let ignore = input.context.as_deref().map(hoy_build::Context::ignore);
    let platforms = wanted(args);
    let first = platforms.first().cloned().unwrap_or_else(Platform::host);
    let environment = |image: &str| hoy_build::environment_of(&store, image, &first);
    let asked = build_args(args, |name| std::env::var(name).ok())?.remove(CHECK);
    let findings = document
        .check(ignore, &environment, asked.as_deref())
        .map_err(|error| Error::msg(error.render(&input.name)))?;
    if args.check {
        print_line(checks::only(&findings, &input.name)?)?;
        return Ok(None);
    }
    let mut options = options(context, args, &context.containers_conf()?, &input, fetcher, first)?;
    let is_sent = output::destinations(args).next().is_some();
    check_signable(args.sign_by.as_ref(), is_sent || args.manifest.is_some() || !options.names.is_empty())?;
    let plan = hoy_build::plan(&document, &options)?;
    let needs_mounts = hoy_build::needs_mounts(&store, &plan, &options.platform);
    let may_mount = || args.run.isolation.as_deref() != Some("none") && context.why_no_namespace().is_none();
    if needs_mounts.unwrap_or_else(may_mount) {
        if args.run.isolation.as_deref() == Some("none") {
            return Err(Error::msg("--isolation none: there is a RUN or a --from in what the target needs"));
        }
        isolation = context.isolation(args.run.isolation.as_deref())?;
        match isolation {
            // What was read or fetched once is not to be had again by a program that starts anew.
            Isolation::Oci if Input::comes_once(args)? => context.join()?,
            Isolation::Oci => context.enter()?,
            Isolation::Chroot => {}
        }
    }
    if isolation == Isolation::Chroot {
        if options.cgroup_parent.is_some() {
            return Err(Error::msg("option --cgroup-parent cannot be had with --isolation chroot"));
        }
        refuse_for_chroot(&options.create, args.run.network.as_deref(), !options.ids.is_empty())?;
        keep_for_chroot(&mut options.create.defaults);
        let (program, action) = Isolation::IN_ROOT;
        (options.runtime, options.runtime_flags) = (program.to_owned(), vec![action.to_owned()]);
        options.isolation = isolation;
    }
    options.volumes = Volumes::take(&mut options.create.volume)?;
    if options.volumes.keep_what_is_written() {
        options.jobs = 1;
    }
    let may_run = needs_mounts.unwrap_or(true) && isolation == Isolation::Oci;
    let shown = if may_run { mounts_conf::read(context.mounts_file.as_deref())? } else { Vec::new() };
    let copies = if shown.is_empty() { None } else { Some(Temporary::new(store.root())?) };
    if let Some(copies) = &copies {
        options.create.defaults.volumes.extend(mounts_conf::volumes(&shown, copies.path())?);
    }
    // After entering: the program starts anew there, and warns once.
    checks::beside(&findings, args, &input.name)?;
    let platforms = match (args.all_platforms, platforms.as_slice()) {
        (true, _) => hoy_build::platforms(&store, &context.tools, &plan, &args.access.options(""))?,
        (false, []) => vec![Platform::host()],
        (false, platforms) => platforms.to_vec(),
    };
    let (report, _view) = report(form(args), args.tag.first().cloned())?;
    let asked = Asked { file: input.name.clone(), target: options.target.clone(), names: options.names.clone() };
    let recorder = Arc::new(Recorder::new(asked, options.now, &options.secrets)?);
    let hears = Arc::clone(&recorder);
    let report = report.also(Box::new(move |event| hears.hear(event)));
    let report = if args.log_rusage { usage::told(report, args.rusage_logfile.as_deref())? } else { report };
    let requests = attest::requests(args, &options, &input.containerfile)?;
    let materials = Arc::clone(&options.fetcher.materials);
    args.sbom.check()?;
    if args.sbom.is_asked() && (platforms.len() > 1 || args.all_platforms) {
        let text = "option --sbom: a list is of one image, and there are several platforms";
        return Err(Error::msg(text).with_hint("attach a list to each with --attest type=sbom"));
    }
    if args.sbom.is_in_image() && args.manifest.is_some() {
        return Err(Error::msg("a list in the image is not for one that goes into an index with --manifest"));
    }
    let lease = store.lease()?;
    let known = if args.sbom.is_in_image() || is_sent { store.layout().images()? } else { Vec::new() };
    let made = for_platforms(&store, &context.tools, args, &document, options, platforms, &report)
        .and_then(|made| list(context, &store, args, made, &known))
        .and_then(|made| args.blobs.keep(&store, &made.manifest.digest).map(|()| made))
        .and_then(|made| output::send(context, &store, args, made, &known));
    drop(lease);
    // That it is not remembered is no failure of a build.
    if let Err(error) = recorder.keep(&store, made.as_ref().ok().map(|made| &made.manifest.digest)) {
        warn(&format!("warning: this build is not in the history: {}", Error::from(error)));
    }
    let made = made?;
    context.tools.debug(&format!("created new image ID \"{}\"", made.id.hex()));
    sign(context, &made.names, args.sign_by.as_ref())?;
    lock::write(args, &materials)?;
    attest::attach(context, args, &requests, &made, &materials)?;
    Ok(Some(made))
}

/// The platforms that were asked for; none for this machine's.
fn wanted(args: &BuildArgs) -> Vec<Platform> {
    let one =
        PlatformArgs { arch: args.arch.clone(), os: args.os.clone(), variant: args.variant.clone(), platform: None };
    if args.platform.is_empty() { platform(&one).into_iter().collect() } else { args.platform.clone() }
}

/// Builds for each platform, and makes an index where there are several, or one is asked for.
fn for_platforms(
    store: &Store,
    tools: &Tools,
    args: &BuildArgs,
    document: &Document,
    mut options: BuildOptions,
    platforms: Vec<Platform>,
    report: &Report,
) -> Result<Made> {
    let lease = store.lease()?;
    let is_index = platforms.len() > 1 || args.all_platforms;
    let names = options.names.clone();
    if is_index {
        options.names.clear();
    }
    options.is_member = is_index;
    let mut built = Vec::new();
    for platform in &platforms {
        options.platform = platform.clone();
        if let (true, Some(log)) = (args.logsplit, &args.logfile) {
            tell_in(Path::new(&format!("{}_{}", log.display(), platform.to_string().replace('/', "_"))))?;
        }
        if is_index {
            report.platform(&platform.to_string());
        }
        let plan = hoy_build::plan(document, &options)?;
        let failed = |error| failure(error, platform);
        built.push(hoy_build::build(store, tools, document, &plan, &options, report).map_err(failed)?);
    }
    if let (true, Some(log)) = (args.logsplit, &args.logfile) {
        tell_in(log)?;
    }
    let images: Vec<Descriptor> = built.iter().map(|one| one.manifest.clone()).collect();
    let list = args.manifest.iter().map(|name| local_name(name)).collect::<Result<Vec<_>>>()?;
    let index = |names: &[String], adds| hoy_build::index(store, &images, names, adds, options.format);
    let listed = if list.is_empty() { None } else { Some(index(&list, true)?) };
    // One that was given no name at all is in the store without one, as an image is.
    let is_named = is_index && (!names.is_empty() || list.is_empty());
    let named = if is_named { Some(index(&names, false)?) } else { None };
    let caches = &options.caches;
    caches.export(store, tools, &args.access.options("dest"), report).context(|| "keep the build's cache")?;
    drop(lease);
    let names = if names.is_empty() { list } else { names };
    let images = platforms.into_iter().zip(images).collect();
    match (named.or(listed.filter(|_| is_index)), built.pop()) {
        (Some(index), _) => Ok(Made { id: index.digest, manifest: index, images, names }),
        (None, Some(only)) => Ok(Made { id: only.id, manifest: only.manifest, images, names }),
        (None, None) => Err(Error::msg("there is no platform to build for")),
    }
}

/// Writes what `--sbom` asks for; the image is another where that is in it.
fn list(context: &Context, store: &Store, args: &BuildArgs, mut made: Made, known: &[NamedImage]) -> Result<Made> {
    let files = args.sbom.files(context, &made.manifest.digest)?;
    if !files.is_empty() {
        let more = hoy_build::add_files(store.layout(), &made.manifest.digest, files, !args.disable_compression)?;
        for name in &made.names {
            store.layout().set_name(name, &more.manifest)?;
        }
        forget(store, &made, known)?;
        (made.id, made.manifest) = (more.id, more.manifest.clone());
        made.images = made.images.into_iter().map(|(platform, _)| (platform, more.manifest.clone())).collect();
    }
    Ok(made)
}

/// An image that nobody asked for does not stay.
fn forget(store: &Store, made: &Made, known: &[NamedImage]) -> Result<()> {
    if known.iter().all(|image| image.descriptor.digest != made.manifest.digest) {
        store.layout().remove_digest(&made.manifest.digest)?;
    }
    Ok(())
}

/// As buildah, with the code of the command that failed.
fn failure(error: hoy_build::Error, platform: &Platform) -> Error {
    let code = error.program_code().and_then(|code| u8::try_from(code).ok());
    let error = Error::from(error);
    match (code, interpreter(platform)) {
        // What a shell and the runtime end with that cannot execute a program.
        (Some(126), Some(name)) => error.with_code(126).with_hint(format!(
            "a RUN for {platform}, and this machine has no interpreter for {name}: install qemu-user-static and \
             binfmt-support (on Debian), or build there"
        )),
        (Some(code), _) => error.with_code(code),
        (None, _) => error,
    }
}

/// The interpreter for commands of another processor that this machine has not got (binfmt_misc).
fn interpreter(platform: &Platform) -> Option<&str> {
    let host = Platform::host();
    // What a processor runs beside its own.
    let is_own = platform.architecture == host.architecture
        || matches!((host.architecture.as_str(), platform.architecture.as_str()), ("amd64", "386") | ("arm64", "arm"));
    let name = match platform.architecture.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "i386",
        "loong64" => "loongarch64",
        other => other,
    };
    let is_there = Path::new("/proc/sys/fs/binfmt_misc").join(format!("qemu-{name}")).exists();
    (!is_own && !is_there).then_some(name)
}

fn form(args: &BuildArgs) -> Form {
    args.progress.chosen(args.quiet, args.on_error.is_some())
}

fn options(
    context: &Context,
    args: &BuildArgs,
    conf: &ContainersConf,
    input: &Input,
    fetcher: Fetcher,
    platform: Platform,
) -> Result<BuildOptions> {
    let environment = |name: &str| std::env::var(name).ok();
    let ttl = args.cache_ttl.as_deref().map(hoy_build::duration).transpose()?;
    let no_cache = args.no_cache || ttl.is_some_and(|ttl| ttl.is_zero());
    if ttl.is_some() && no_cache {
        context.tools.debug("Setting --no-cache=true: with --cache-ttl=0 nothing is new enough");
    }
    if let (Some(retry), Some(delay)) = (args.access.retry, &args.access.retry_delay) {
        context.tools.debug(&format!("Setting MaxPullPushRetries to {retry} and PullPushRetryDelay to {delay}"));
    }
    let run = &args.run;
    if run.no_hosts && !run.add_host.is_empty() {
        return Err(Error::msg("--no-hosts and --add-host conflict, can not be used together"));
    }
    if let (Some("none"), Some(name)) = (run.network.as_deref(), run.resolver.asked()) {
        return Err(Error::msg(format!("the {name} option cannot be used with --network=none")));
    }
    if run.stdin && (args.context == "-" || args.file.iter().any(|file| file == "-")) {
        return Err(Error::msg("--stdin: standard input is the context or the Containerfile already"));
    }
    let asked = args.run.network.clone().or(conf.network());
    let mut create = hoy_spec::Options {
        network: Some(network(asked.as_deref().unwrap_or("none"))?),
        is_build: true,
        defaults: conf.defaults(),
        cap_add: args.run.may.cap_add.clone(),
        cap_drop: args.run.may.cap_drop.clone(),
        ulimit: args.run.ulimit.clone(),
        volume: args.run.may.volume.clone(),
        device: args.run.may.device.clone(),
        hooks_directories: args.run.hooks_dir.clone(),
        cdi_directories: args.run.may.cdi_config_dir.clone(),
        memory: args.run.memory.clone(),
        memory_swap: args.run.memory_swap.clone(),
        cpus: args.run.cpus,
        cpu_shares: args.run.cpu_shares,
        cpu_quota: args.run.cpu_quota,
        cpu_period: args.run.cpu_period,
        cpuset_cpus: args.run.cpuset_cpus.clone(),
        cpuset_mems: args.run.cpuset_mems.clone(),
        shm_size: args.run.shm_size.clone(),
        group_add: args.run.group_add.clone(),
        security_opt: args.run.security_opt.clone(),
        ..hoy_spec::Options::default()
    };
    args.run.namespaces.clone().or(conf.namespaces()).add_to(&mut create);
    let mut copy_options = args.access.options("src");
    copy_options.extend(args.receiving.options());
    copy_options.extend(args.blobs.option());
    copy_options.extend(form(args).is_alone().then(|| "--quiet".to_owned()));
    let pull = match (args.pull_always, args.pull_never) {
        (true, _) => Pull::Always,
        (_, true) => Pull::Never,
        _ => pull_policy("--pull", &args.pull)?,
    };
    let proxies = hoy_build::PREDEFINED.iter().filter(|_| args.run.http_proxy);
    let proxies = proxies.filter_map(|name| Some(((*name).to_owned(), environment(name)?)));
    Ok(BuildOptions {
        file: input.name.clone(),
        context: input.context.clone(),
        contexts: input.contexts.clone(),
        target: args.target.clone(),
        base: args.from.clone(),
        builds_all: !args.skip_unused_stages,
        mounts: args.run.mount.clone(),
        args: build_args(args, environment)?,
        platform,
        platform_is_asked: !wanted(args).is_empty() || args.all_platforms,
        is_member: false,
        names: names(args)?,
        format: args.format.unwrap_or(Format::Oci),
        format_is_free: args.format.is_none(),
        timestamp: args.timestamp.clone(),
        source_date_epoch: args.source_date_epoch.clone(),
        now: SystemTime::now(),
        compress: !args.disable_compression,
        no_cache,
        cache_ttl: ttl,
        caches: Arc::new(Caches::new(&args.cache_from, &args.cache_to, args.access.options(""))?),
        explain: args.explain,
        squash: match (args.squash, args.layers) {
            (true, _) => Squash::All,
            (false, false) => Squash::New,
            (false, true) => Squash::None,
        },
        said: Said {
            labels: args.label.iter().map(|text| pair(text)).collect(),
            env: args.env.iter().filter_map(|text| variable(text, environment)).collect(),
            inherits_labels: args.inherit_labels,
            inherits_annotations: args.inherit_annotations,
            os_version: args.os_version.clone(),
            os_features: args.os_feature.clone(),
            ..args.said.said()
        },
        omit_history: args.omit_history,
        fetcher,
        from: FromOptions { pull, copy_options, ..FromOptions::default() },
        secrets: args
            .run
            .secret
            .iter()
            .map(|text| Secret::read(text, environment))
            .collect::<std::result::Result<_, _>>()?,
        ssh: args.run.ssh.iter().map(|text| agent(text)).collect::<Result<_>>()?,
        create,
        volumes: Volumes::default(),
        runtime: args.run.may.runtime.clone(),
        runtime_flags: args.run.may.runtime_flags(context),
        hosts: args.run.add_host.iter().map(|text| host(text)).collect::<Result<_>>()?,
        cgroup_parent: run.cgroup_parent.clone().map(|parent| context.cgroup_parent(parent)),
        no_hosts: run.no_hosts,
        resolver: run.resolver.text(),
        stdin: run.stdin,
        allows_insecure: args.run.allow.contains(&Entitlement::Insecure),
        allowed_devices: args.run.allow.iter().filter_map(Entitlement::device).collect(),
        ids: args.run.ids.options()?,
        shell_on_error: args.on_error.as_deref() == Some("shell"),
        isolation: Isolation::Oci,
        // Commands that read one standard input read it one after another.
        jobs: match args.jobs {
            _ if run.stdin => 1,
            Some(0) | None => std::thread::available_parallelism().map_or(1, usize::from),
            Some(jobs) => jobs,
        },
        proxies: proxies.collect(),
    })
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`, an address of IPv6 also in brackets: a line of hosts(5).
pub(crate) fn host(text: &str) -> Result<String> {
    let wrong = || Error::msg(format!("option --add-host: \"{text}\": its form is NAME:ADDRESS"));
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
    let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address: std::net::IpAddr = address.parse().map_err(|_| wrong())?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(wrong());
    }
    Ok(format!("{address}\t{name}"))
}

/// `NAME=VALUE`; a name alone takes its value from the environment, if it has one there.
fn variable(text: &str, environment: impl Fn(&str) -> Option<String>) -> Option<(String, String)> {
    if text.contains('=') { Some(pair(text)) } else { Some((text.to_owned(), environment(text)?)) }
}

/// The image's names: those of `--tag`, and of outputs that are images.
fn names(args: &BuildArgs) -> Result<Vec<String>> {
    let tags = args.tag.iter().map(String::as_str).filter(|tag| split_transport(tag).is_none());
    let tags = tags.chain(args.output.iter().filter_map(output::Output::tag));
    tags.map(|tag| local_name(tag).map_err(|error| Error::msg(format!("tag {error}")))).collect()
}

fn build_args(args: &BuildArgs, environment: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>> {
    let mut given = BTreeMap::new();
    for file in &args.build_arg_file {
        let text = std::fs::read_to_string(file).context(|| format!("read \"{}\"", file.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        given.extend(lines.map(pair));
    }
    for text in &args.build_arg {
        match text.split_once('=') {
            Some((name, value)) => drop(given.insert(name.to_owned(), value.to_owned())),
            None => given.extend(environment(text).map(|value| (text.clone(), value))),
        }
    }
    Ok(given)
}

/// `default`, `ID`, `ID=SOCKET` or `ID=KEY[,KEY…]`.
fn agent(text: &str) -> Result<(String, Agent)> {
    let own = std::env::var("SSH_AUTH_SOCK").ok();
    let (id, given) = text.split_once('=').map_or((text, None), |(id, paths)| (id, Some(paths)));
    let Some(paths) = given.or(own.as_deref()) else {
        return Err(Error::msg("option --ssh: SSH_AUTH_SOCK is not set").with_hint("start ssh-agent"));
    };
    if is_socket(Path::new(paths)) {
        return Ok((id.to_owned(), Agent::Socket(PathBuf::from(paths))));
    }
    let key = |path: &str| {
        let file = std::fs::canonicalize(path).ok().filter(|file| file.is_file());
        file.ok_or_else(|| {
            let text = format!("option --ssh: \"{path}\" is no socket of an agent, and no file of a key");
            Error::msg(text).with_hint("start ssh-agent and add the key to it, or name the key's file")
        })
    };
    Ok((id.to_owned(), Agent::Keys(paths.split(',').map(key).collect::<Result<_>>()?)))
}
