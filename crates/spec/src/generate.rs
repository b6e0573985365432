//! From an image, options and a host to a configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoy_oci::{ContainerConfig, IdMaps};

use crate::env::{Known, environment};
use crate::mounts::{self, Shared};
use crate::{
    CdiDevices, Config, Error, Host, Linux, Mount, Namespace, OCI_VERSION, Options, Process, ProcessUser, Result, Root,
    Seccomp, User, Users, capability, cdi, device, hooks, resources, rlimit, seccomp, volume,
};

/// Where `--init` appears in the container.
const INIT: &str = "/run/hoy-init";

/// Where distributions put static inits.
const INITS: [&str; 4] =
    ["/usr/bin/catatonit", "/usr/libexec/podman/catatonit", "/usr/bin/tini-static", "/usr/libexec/docker/docker-init"];

/// All that a configuration is made from.
#[derive(Debug)]
pub struct Request<'a> {
    /// The image's defaults.
    pub image: &'a ContainerConfig,
    /// What was asked for.
    pub options: &'a Options,
    /// The command asked for; empty is the image's.
    pub command: &'a [String],
    /// The users of the root file system.
    pub users: &'a Users,
    /// Where the container will run.
    pub host: &'a Host,
    /// The ids of its user namespace; none when it has the caller's.
    pub ids: Option<&'a IdMaps>,
    /// A user namespace to join, which has those ids.
    pub user_namespace: Option<&'a str>,
    /// The host name unless an option says.
    pub hostname: &'a str,
    /// Mounts that the caller adds; options for the same place win.
    pub mounts: &'a [Mount],
}

/// A configuration, and what a person should hear about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The configuration.
    pub config: Config,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Makes the configuration.
///
/// # Errors
/// [`Error`] with the option, the image's field or the file at fault.
pub fn generate(request: &Request<'_>) -> Result<Generated> {
    let inside = request.ids.map(|ids| request.host.inside(ids));
    let host = inside.as_ref().unwrap_or(request.host);
    let request = &Request { host, ..*request };
    let Request { image, options, .. } = *request;
    let mut warnings = Vec::new();
    let shared = shared(options)?;
    let user = user(request)?;
    let hostname = hostname(request, shared)?;
    let known = Known { home: &user.home, hostname: &hostname, caller: &host.environment };
    let names = options.defaults.devices.iter().chain(&options.device);
    let names: Vec<&str> = names.map(String::as_str).filter(|text| cdi::is_name(text)).collect();
    let vendors = if names.is_empty() { CdiDevices::default() } else { CdiDevices::read(&options.cdi_directories) };
    let described = vendors.edits(&names)?;
    let mut devices = device::devices(options, host, &described)?;
    let mut args = args(image, options, request.command)?;
    let mut extra: Vec<Mount> =
        options.defaults.volumes.iter().map(|text| volume::volume(text)).collect::<Result<_>>()?;
    extra.retain(|usual| request.mounts.iter().all(|mount| mount.destination != usual.destination));
    extra.extend(request.mounts.iter().cloned());
    if options.init {
        args.splice(0..0, [INIT.to_owned(), "--".to_owned()]);
        extra.push(init_mount(options)?);
    }
    extra.append(&mut devices.binds);
    for mount in described.iter().flat_map(|edits| edits.mounts(request.ids.is_some())) {
        extra.retain(|other| other.destination != mount.destination);
        extra.push(mount);
    }
    let capabilities = capability::sets(options, user.uid, host)?;
    let security = Security::read(options)?;
    let process = Process {
        terminal: options.tty,
        user: process_user(&user, options, host)?,
        args,
        env: environment(&image.env, options, &known)?,
        cwd: cwd(image, options)?,
        rlimits: rlimit::rlimits(options, host, &mut warnings)?,
        no_new_privileges: security.no_new_privileges,
        oom_score_adj: oom_score_adj(options)?,
        capabilities,
    };
    let mut linux = Linux {
        sysctl: sysctl(options, host, shared)?,
        resources: resources::resources(options, &devices, host)?,
        namespaces: namespaces(shared, request),
        seccomp: security.filter(options, &process.capabilities.bounding, host)?,
        devices: devices.nodes,
        ..Linux::default()
    };
    if let (Some(ids), None) = (request.ids, request.user_namespace) {
        linux.uid_mappings.clone_from(&ids.uid_mappings);
        linux.gid_mappings.clone_from(&ids.gid_mappings);
    }
    mounts::hide(&mut linux, options, host)?;
    let mut config = Config {
        oci_version: OCI_VERSION.to_owned(),
        process,
        root: Root { path: "rootfs".to_owned(), readonly: options.read_only },
        hostname: (!shared.uts).then_some(hostname),
        mounts: mounts::plan(options, &extra, host, shared)?,
        annotations: annotations(image, options)?,
        hooks: BTreeMap::new(),
        linux,
    };
    described.iter().for_each(|edits| edits.apply(&mut config, host));
    hooks::add(&options.hooks_directories, &mut config, !options.volume.is_empty())?;
    Ok(Generated { config, warnings })
}

/// Entry point and arguments: an entry point that was asked for makes the image's arguments meaningless.
fn args(image: &ContainerConfig, options: &Options, command: &[String]) -> Result<Vec<String>> {
    let (mut args, default) = match options.entrypoint.as_deref() {
        None => (image.entrypoint.clone().unwrap_or_default(), image.cmd.clone().unwrap_or_default()),
        Some("") => (Vec::new(), Vec::new()),
        Some(text) if text.starts_with('[') => {
            let wrong = |_| Error::option("--entrypoint", text, "it begins like a JSON list of words and is none");
            (serde_json::from_str(text).map_err(wrong)?, Vec::new())
        }
        Some(word) => (vec![word.to_owned()], Vec::new()),
    };
    args.extend(if command.is_empty() { default } else { command.to_vec() });
    match args.first() {
        None => Err(Error::NoCommand),
        Some(first) if first.is_empty() => Err(Error::NoCommand),
        Some(_) if args.iter().any(|arg| arg.contains('\0')) => {
            let reason = "there is a NUL byte in it".to_owned();
            Err(Error::Image { field: "command", value: args.join(" "), reason })
        }
        Some(_) => Ok(args),
    }
}

fn user(request: &Request<'_>) -> Result<User> {
    let Request { image, options, users, host, .. } = request;
    // Whoever keeps an id in the container wants to be that user there.
    let kept = request.ids.filter(|_| options.user_namespace_mode().0 == "keep-id");
    let kept = kept.and_then(|ids| Some(format!("{}:{}", ids.container_uid(0)?, ids.container_gid(0)?)));
    let text = options.user.as_deref().or(kept.as_deref()).unwrap_or(&image.user);
    let mut user = users.find(text)?;
    for group in &options.group_add {
        user.groups.push(users.find_group(group)?);
    }
    user.groups.sort_unstable();
    user.groups.dedup();
    check_mapped(text, &user, host)?;
    Ok(user)
}

/// Refuses ids that the user namespace does not have.
pub(crate) fn check_mapped(text: &str, user: &User, host: &Host) -> Result<()> {
    let missing = match (host.has_uid(user.uid), host.has_gid(user.gid)) {
        (true, true) => return Ok(()),
        (false, _) => format!("user id {}", user.uid),
        (true, false) => format!("group id {}", user.gid),
    };
    let reason = format!("{missing} is not among the ids here: see --userns, /etc/subuid and /etc/subgid");
    Err(Error::User { kind: "user", name: text.to_owned(), reason })
}

pub(crate) fn process_user(user: &User, options: &Options, host: &Host) -> Result<ProcessUser> {
    let umask = match options.umask.as_deref() {
        None => 0o022,
        Some(text) => u32::from_str_radix(text, 8)
            .ok()
            .filter(|mask| *mask <= 0o777)
            .ok_or_else(|| Error::option("--umask", text, "it is three or four octal digits, at most 0777"))?,
    };
    let only_root = user.uid == 0 && user.groups == [0];
    let mut additional_gids = if only_root || !host.can_set_groups { Vec::new() } else { user.groups.clone() };
    additional_gids.retain(|gid| host.has_gid(*gid));
    Ok(ProcessUser { uid: user.uid, gid: user.gid, umask: Some(umask), additional_gids })
}

/// Where the process starts. A way through `/proc` is a way out of the container: CVE-2024-21626.
fn cwd(image: &ContainerConfig, options: &Options) -> Result<String> {
    let wrong = |text: &str, reason: &str| match &options.workdir {
        Some(_) => Error::option("--workdir", text, reason),
        None => Error::Image { field: "WorkingDir", value: text.to_owned(), reason: reason.to_owned() },
    };
    let text = options.workdir.as_deref().unwrap_or(&image.working_dir);
    check_cwd(text).map_err(|reason| wrong(text, reason))
}

pub(crate) fn check_cwd(text: &str) -> std::result::Result<String, &'static str> {
    if text.chars().any(char::is_control) {
        return Err("there is a control character in it");
    }
    if !text.is_empty() && !text.starts_with('/') {
        return Err("it is not an absolute path");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    if parts.first() == Some(&"proc") && parts.len() > 1 {
        return Err("a directory of /proc cannot be where a process starts");
    }
    Ok(format!("/{}", parts.join("/")))
}

fn hostname(request: &Request<'_>, shared: Shared) -> Result<String> {
    let asked = request.options.hostname.as_deref();
    if let (true, Some(name)) = (shared.uts, asked) {
        return Err(Error::option("--hostname", name, "the host name is the host's with --uts host"));
    }
    if shared.uts {
        return Ok(hoy_sys::rustix::system::uname().nodename().to_string_lossy().into_owned());
    }
    let name = asked.unwrap_or(request.hostname);
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(valid) {
        return Err(Error::option("--hostname", name, "it has up to 64 letters, digits, '-', '_' and '.'"));
    }
    Ok(name.to_owned())
}

fn shared(options: &Options) -> Result<Shared> {
    let is_host = |option, mode: &Option<String>| match mode.as_deref() {
        None | Some("private" | "") => Ok(false),
        Some("host") => Ok(true),
        Some(other) => Err(Error::option(option, other, "there are host and private")),
    };
    let network = match options.network.as_deref() {
        None | Some("none") => false,
        Some("host") => true,
        Some(other) => return Err(Error::option("--network", other, "there are host and none; networks come later")),
    };
    Ok(Shared {
        network,
        pid: is_host("--pid", &options.pid)?,
        ipc: is_host("--ipc", &options.ipc)?,
        uts: is_host("--uts", &options.uts)?,
        cgroup: is_host("--cgroupns", &options.cgroupns)?,
    })
}

fn namespaces(shared: Shared, request: &Request<'_>) -> Vec<Namespace> {
    let own = [
        ("user", request.ids.is_some() || request.user_namespace.is_some()),
        ("pid", !shared.pid),
        ("network", !shared.network),
        ("ipc", !shared.ipc),
        ("uts", !shared.uts),
        ("mount", true),
        ("cgroup", !shared.cgroup),
    ];
    let path = |kind: &str| request.user_namespace.filter(|_| kind == "user").map(str::to_owned);
    let all = own.iter().filter(|(_, own)| *own);
    all.map(|(kind, _)| Namespace { kind: (*kind).to_owned(), path: path(kind) }).collect()
}

/// Kernel parameters that belong to a namespace of the container's own: the others are the host's.
fn sysctl(options: &Options, host: &Host, shared: Shared) -> Result<BTreeMap<String, String>> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let mut all = BTreeMap::new();
    if !shared.network {
        // As containers.conf(5) "default_sysctls": ping without CAP_NET_RAW. The group must be one of the user namespace.
        let group = host.gids.iter().map(|(first, _)| *first).min().unwrap_or(0);
        all.insert("net.ipv4.ping_group_range".to_owned(), format!("{group} {group}"));
    }
    let usual = options.defaults.sysctls.iter().map(|text| (text, false));
    for (text, is_asked) in usual.chain(options.sysctl.iter().map(|text| (text, true))) {
        let wrong = |reason: &str| Error::option("--sysctl", text, reason);
        let (name, value) = text.split_once('=').ok_or_else(|| wrong("its form is NAME=VALUE"))?;
        let is_word =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if !name.split(['.', '/']).all(is_word) || value.chars().any(char::is_control) {
            return Err(wrong("this is no name of a kernel parameter"));
        }
        let name = name.replace('/', ".");
        let belongs = match name.split_once('.') {
            Some(("net", _)) => !shared.network,
            Some(("fs", rest)) => !shared.ipc && rest.starts_with("mqueue."),
            _ => !shared.ipc && IPC.contains(&name.as_str()),
        };
        if !belongs && !is_asked {
            continue;
        }
        if !belongs {
            return Err(wrong("this parameter belongs to the host and not to a namespace of the container"));
        }
        all.insert(name, value.to_owned());
    }
    Ok(all)
}

fn annotations(image: &ContainerConfig, options: &Options) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    if let Some(signal) = options.stop_signal.as_ref().or(image.stop_signal.as_ref()) {
        all.insert("org.opencontainers.image.stopSignal".to_owned(), signal.clone());
    }
    for text in &options.annotation {
        let wrong = || Error::option("--annotation", text, "its form is NAME=VALUE");
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
        all.insert(name.to_owned(), value.to_owned());
    }
    Ok(all)
}

fn oom_score_adj(options: &Options) -> Result<Option<i32>> {
    match options.oom_score_adj {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(Error::option("--oom-score-adj", score.to_string(), "it is a number from -1000 to 1000"))
        }
        score => Ok(score),
    }
}

fn init_mount(options: &Options) -> Result<Mount> {
    let found = match &options.init_path {
        Some(path) => Some(path.clone()),
        None => INITS.iter().map(PathBuf::from).find(|path| path.is_file()),
    };
    let path = found.ok_or(Error::NoInit)?;
    let path = std::fs::canonicalize(&path).map_err(Error::read(&path))?;
    let source = path.to_str().ok_or(Error::NoInit)?.to_owned();
    let options = ["bind", "ro", "rprivate"].map(str::to_owned).to_vec();
    Ok(Mount { destination: INIT.to_owned(), kind: "bind".to_owned(), source, options })
}

/// What `--security-opt` asks of the process itself; masks are a matter of the mounts.
#[derive(Debug, Default)]
struct Security {
    no_new_privileges: bool,
    profile: Option<String>,
}

impl Security {
    fn read(options: &Options) -> Result<Self> {
        let mut security = Self::default();
        for text in &options.security_opt {
            let wrong = |reason: &str| Err(Error::option("--security-opt", text, reason));
            let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
            match (key, value) {
                ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
                ("no-new-privileges", "false") => security.no_new_privileges = false,
                ("seccomp", "") => return wrong("its form is seccomp=FILE or seccomp=unconfined"),
                ("seccomp", value) => security.profile = Some(value.to_owned()),
                // No label and no AppArmor profile is ever set, so both are so already.
                ("label", "disable") | ("apparmor", "unconfined") | ("mask" | "unmask", _) => {}
                ("label" | "apparmor", _) => return wrong("labels and AppArmor profiles come later"),
                _ => return wrong("there is no such option"),
            }
        }
        Ok(security)
    }

    fn filter(&self, options: &Options, capabilities: &[String], host: &Host) -> Result<Option<Seccomp>> {
        let profile = match self.profile.as_deref() {
            Some("unconfined") => None,
            None if options.privileged => None,
            None => Some(seccomp::default_profile(capabilities, host)),
            Some(file) => Some(seccomp::read_profile(Path::new(file), capabilities, host)?),
        };
        Ok(if host.is_single_id() { Some(seccomp::chown_on_paper(profile, host)) } else { profile })
    }
}
