//! `RUN --mount`: what a command sees for its own time and what never gets into a layer.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use hoy_containerfile::{Ignore, MountType};
use hoy_layer::{Flavour, Limits, unpack};
use hoy_layout::Lock;
use hoy_oci::{Digest, IdMaps};
use hoy_spec::Mount;
use hoy_sys::path::open_in_root;
use hoy_sys::rustix::fs::{FileType, Mode, OFlags, fstat, readlinkat};

use crate::containerfile::agent::{Served, serve};
use crate::containerfile::builder::{Builder, open_directory};
use crate::containerfile::cache_mount::{CacheMount, options_of_ids, owner_outside};
use crate::containerfile::layer::Fingerprint;
use crate::containerfile::origin::Files;
use crate::containerfile::state::State;
use crate::destination::{Destination, Owner, Receiver, clean};
use crate::run::Isolation;
use crate::source::SourceRoot;
use crate::tree::{TreeReader, lossy};
use crate::{Error, Result};

/// Where secrets are when nobody says (reference "RUN --mount=type=secret").
const SECRETS: &str = "/run/secrets";

/// What one RUN mounts.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    pub(crate) mounts: Vec<Mount>,
    /// Variables for secrets and for the agent.
    pub(crate) env: Vec<String>,
    /// Held while the command runs.
    locks: Vec<Lock>,
    /// At work while it runs.
    agents: Vec<Served>,
    /// Of the user namespace that the command has for itself.
    ids: Option<IdMaps>,
}

/// One mount as asked for, and the files behind it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) mount: hoy_containerfile::Mount,
    /// Absolute.
    target: String,
    files: Option<Files>,
}

impl Asked {
    /// Reads a `--mount` in the stage at `index`.
    pub(crate) fn read(
        builder: &Builder<'_>,
        index: usize,
        state: &State,
        word: &hoy_containerfile::Word,
    ) -> Result<Self> {
        let rules = hoy_containerfile::Rules::words(state.escape);
        let expand = |text: &str| hoy_containerfile::expand(text, state, rules).map(|expanded| expanded.text);
        let mount = hoy_containerfile::Mount::parse(&word.text, expand);
        let mount = mount.map_err(|(error, _)| Error::Language { error, span: word.span })?;
        let wrong = |text: &str| Err(Error::Refused(format!("--mount={}: {text}", word.text)));
        let target = match (mount.kind, mount.target.as_str()) {
            (MountType::Secret | MountType::Ssh, "") => String::new(),
            (_, "") => return wrong("it needs a target"),
            (_, typed) => format!("/{}", lossy(&clean(state.workdir(), typed))),
        };
        if target == "/" {
            return wrong("nothing can be mounted at / itself");
        }
        let from = Some(mount.from.as_str()).filter(|from| !from.is_empty());
        let files = match mount.kind {
            MountType::Bind => Some(builder.files(index, from)?),
            MountType::Cache => from.map(|from| builder.files(index, Some(from))).transpose()?,
            _ => None,
        };
        Ok(Self { mount, target, files })
    }

    /// What the cache of steps has to know: contents of files, and no secret.
    pub(crate) fn content(&self, builder: &Builder<'_>) -> Result<String> {
        let files = match &self.files {
            Some(files) if self.mount.kind == MountType::Bind => self.fingerprint(builder, files)?.to_string(),
            _ => String::new(),
        };
        let mount = &self.mount;
        let id = (&mount.id, &mount.source, &mount.from, &mount.env, mount.mode, mount.uid, mount.gid);
        let from = files.is_empty().then_some(id);
        Ok(format!("{:?} {} {} {from:?} {files}", mount.kind, self.target, mount.is_read_only))
    }

    fn fingerprint(&self, builder: &Builder<'_>, files: &Files) -> Result<Digest> {
        let name = files.name().map(|name| format!("bind {name} {:?}", self.mount.source));
        if let Some(known) = name.as_deref().and_then(|name| builder.cache.content(name)) {
            return Ok(known);
        }
        let mut to = Fingerprint::new(files.keeps_owner());
        builder.with_files(files, |root, ignore| copy(root, ignore, &self.mount.source, &mut to))?;
        let content = to.finish()?;
        if let Some(name) = name {
            builder.cache.add_content(&name, &content)?;
        }
        Ok(content)
    }
}

impl Mounts {
    /// Makes everything that the mounts need.
    pub(crate) fn prepare(builder: &Builder<'_>, asked: &[Asked], ids: Option<IdMaps>) -> Result<Self> {
        let mut made = Self { ids, ..Self::default() };
        for (number, one) in asked.iter().enumerate() {
            match one.mount.kind {
                MountType::Bind => made.bind(builder, one)?,
                MountType::Cache => made.cache(builder, one)?,
                MountType::Tmpfs => made.tmpfs(one),
                MountType::Secret => made.secret(builder, one)?,
                MountType::Ssh => made.ssh(builder, one, number)?,
            }
        }
        Ok(made)
    }

    /// The ids of this process's that stand for those in the container.
    fn owner(&self, uid: u32, gid: u32) -> Result<(u32, u32)> {
        owner_outside(self.ids.as_ref(), uid, gid)
    }

    fn add(&mut self, source: &Path, target: &str, options: &[&str]) -> Result<()> {
        let text = source.to_str().ok_or_else(|| Error::Refused(format!("\"{}\" is not UTF-8", source.display())))?;
        let options = ["rbind", "rprivate"].iter().chain(options).map(|word| (*word).to_owned()).collect();
        let (destination, kind) = (target.to_owned(), "bind".to_owned());
        self.mounts.push(Mount { destination, kind, source: text.to_owned(), options });
        Ok(())
    }

    /// What a command writes there is lost: it writes into a copy, or into a layer that nobody keeps.
    fn bind(&mut self, builder: &Builder<'_>, one: &Asked) -> Result<()> {
        let access = if one.mount.is_read_only { "ro" } else { "rw" };
        let source = match one.files.as_ref().unwrap_or(&Files::Nothing) {
            Files::Image { manifest, .. } if builder.options.isolation == Isolation::Oci => {
                // Who may write gets a root of its own, so that nobody moves what another one looks for.
                let root = match one.mount.is_read_only && self.ids.is_none() {
                    true => builder.containers.root_of(manifest)?,
                    false => {
                        let id = builder.containers.create_with(Some(manifest), &options_of_ids(self.ids.as_ref()))?;
                        builder.tools.mount(id.as_str())?
                    }
                };
                inside(&root, &one.mount.source)?
            }
            files => {
                let directory = builder.scratch.directory()?;
                let owner = owner_of(files);
                builder.with_files(files, |root, ignore| {
                    copy_to((root, ignore, &one.mount.source), &directory, owner, self.ids.clone())
                })?
            }
        };
        self.add(&source, &one.target, &[access])
    }

    fn tmpfs(&mut self, one: &Asked) {
        let mut options = ["nosuid", "nodev", "mode=755"].map(str::to_owned).to_vec();
        options.extend(one.mount.size_bytes.map(|size| format!("size={size}")));
        options.extend(one.mount.is_read_only.then(|| "ro".to_owned()));
        let (kind, source) = ("tmpfs".to_owned(), "tmpfs".to_owned());
        self.mounts.push(Mount { destination: one.target.clone(), kind, source, options });
    }

    fn cache(&mut self, builder: &Builder<'_>, one: &Asked) -> Result<()> {
        let mount = &one.mount;
        let origin = one.files.as_ref().and_then(Files::name).unwrap_or_default();
        let ids = self.ids.as_ref();
        // What is moved into a root file system nobody else can have meanwhile.
        let is_alone = builder.options.isolation == Isolation::Chroot;
        let made = CacheMount::open(builder.store, mount, &one.target, &origin, ids, is_alone, || {
            let fresh = builder.scratch.directory()?;
            let Some(files) = &one.files else { return Ok(fresh) };
            let owner = Owner { ids: Some((0, 0)), ..Owner::default() };
            builder.with_files(files, |root, ignore| {
                copy_to((root, ignore, &mount.source), &fresh, owner, self.ids.clone())
            })
        })?;
        self.locks.push(made.lock);
        self.add(&made.data, &one.target, &[if mount.is_read_only { "ro" } else { "rw" }])
    }

    fn secret(&mut self, builder: &Builder<'_>, one: &Asked) -> Result<()> {
        let mount = &one.mount;
        let id = [&mount.id, &mount.source].into_iter().find(|name| !name.is_empty()).cloned();
        let id = id.unwrap_or_else(|| one.target.rsplit('/').next().unwrap_or_default().to_owned());
        let Some(secret) = builder.options.secrets.iter().find(|secret| secret.id == id) else {
            let missing =
                format!("secret required but no secret with id {id} found: give it with --secret id={id},src=FILE");
            return if mount.is_required { Err(Error::Refused(missing)) } else { Ok(()) };
        };
        if let Some(name) = &mount.env {
            let name = if name.is_empty() { &id } else { name };
            let value = String::from_utf8(secret.bytes.clone());
            let value = value.map_err(|_| Error::Refused(format!("the secret \"{id}\" is not UTF-8")))?;
            self.env.push(format!("{name}={value}"));
            if one.target.is_empty() {
                return Ok(());
            }
        }
        if builder.options.isolation == Isolation::Chroot {
            let text = format!(
                "the secret \"{id}\" cannot be a file with --isolation chroot, for it would be on disk: use env="
            );
            return Err(Error::Refused(text));
        }
        let target = if one.target.is_empty() { format!("{SECRETS}/{id}") } else { one.target.clone() };
        let path = builder.memory()?.join(hoy_layout::ContainerId::random()?.as_str());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.as_mut().map_or(Ok(()), |file| file.write_all(&secret.bytes));
        file.map(drop).and(written).map_err(Error::io("write", &path))?;
        let owner = self.owner(mount.uid.unwrap_or(0), mount.gid.unwrap_or(0))?;
        chown(&path, Some(owner.0), Some(owner.1))
            .map_err(|_| Error::Refused(format!("the secret \"{id}\" cannot belong to the uid and gid asked for")))?;
        let mode = std::fs::Permissions::from_mode(mount.mode.unwrap_or(0o400) & 0o7777);
        std::fs::set_permissions(&path, mode).map_err(Error::io("change", &path))?;
        self.add(&path, &target, &["ro", "nosuid", "nodev", "noexec"])
    }

    fn ssh(&mut self, builder: &Builder<'_>, one: &Asked, number: usize) -> Result<()> {
        let mount = &one.mount;
        let id = if mount.id.is_empty() { "default" } else { &mount.id };
        let Some(agent) = builder.options.ssh.get(id) else {
            let missing = format!("the agent \"{id}\" is required: give it with --ssh {id}");
            return if mount.is_required { Err(Error::Refused(missing)) } else { Ok(()) };
        };
        if builder.options.isolation == Isolation::Chroot {
            let text = "the socket of an agent cannot be mounted with --isolation chroot".to_owned();
            return Err(Error::Refused(text));
        }
        let target = match one.target.as_str() {
            "" => format!("/run/buildkit/ssh_agent.{number}"),
            target => target.to_owned(),
        };
        let is_own = self.ids.is_some() || mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some();
        let served = serve(agent, &builder.scratch.directory()?, is_own)?;
        if is_own {
            let owner = self.owner(mount.uid.unwrap_or(0), mount.gid.unwrap_or(0))?;
            chown(&served.socket, Some(owner.0), Some(owner.1)).map_err(|_| {
                Error::Refused(format!("the agent \"{id}\" cannot belong to the uid and gid asked for"))
            })?;
            let mode = std::fs::Permissions::from_mode(mount.mode.unwrap_or(0o600) & 0o7777);
            std::fs::set_permissions(&served.socket, mode).map_err(Error::io("change", &served.socket))?;
        }
        self.env.push(format!("SSH_AUTH_SOCK={target}"));
        self.add(&served.socket, &target, &["rw", "nosuid", "nodev", "noexec"])?;
        self.agents.push(served);
        Ok(())
    }
}

/// Where a path of a root file system really is; no link leads out of it.
///
/// # Errors
/// Where there is nothing.
pub fn inside(root: &Path, source: &str) -> Result<PathBuf> {
    let opened = open_directory(root)?;
    let source = if source.is_empty() { "/" } else { source };
    let found = open_in_root(&opened, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let found = found.map_err(|error| Error::io("open", source)(error.errno))?;
    path_of(&found)
}

fn path_of(file: &OwnedFd) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let path = readlinkat(hoy_sys::rustix::fs::CWD, &link, Vec::new()).map_err(Error::io("read link", &link))?;
    Ok(PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(path.as_bytes()).into_owned())))
}

/// Hands the file or directory `source` to `to`, as what is at its top.
fn copy(root: &SourceRoot, ignore: &Ignore, source: &str, to: &mut impl Receiver) -> Result<bool> {
    let path = source.trim_matches('/');
    let found = root.find(Path::new(if path.is_empty() { "." } else { path }))?;
    let Some(found) = found.into_iter().next() else { return Err(Error::NoSource(source.to_owned(), String::new())) };
    let mut reader = TreeReader::new(ignore);
    if found.is_directory {
        reader.directory(found.fd.as_fd(), path.as_bytes(), b"", to)?;
    } else {
        reader.file(found.fd, path.as_bytes(), b"file", to)?;
    }
    Ok(found.is_directory)
}

/// All belongs to user 0, but for what keeps its owners.
fn owner_of(files: &Files) -> Owner {
    Owner { ids: (!files.keeps_owner()).then_some((0, 0)), ..Owner::default() }
}

/// Copies the file or directory `source` below `directory`, for a command with these ids.
fn copy_to(
    (root, ignore, source): (&SourceRoot, &Ignore, &str),
    directory: &Path,
    owner: Owner,
    ids: Option<IdMaps>,
) -> Result<PathBuf> {
    let target = File::open(directory).map_err(Error::io("open", directory))?;
    if let Some((uid, gid)) = ids.as_ref().and_then(|ids| ids.host_uid(0).zip(ids.host_gid(0))) {
        chown(directory, Some(uid), Some(gid)).map_err(Error::io("give to its owner", directory))?;
    }
    let (reader, writer) = std::io::pipe().map_err(Error::io("create", "pipe"))?;
    let is_directory = std::thread::scope(|scope| {
        let received = scope.spawn(|| unpack(reader, target.as_fd(), Flavour::Plain, Limits::default()).map(drop));
        let mut to = Destination::new(target.as_fd(), std::io::BufWriter::new(writer), owner, Default::default());
        to.ids = ids;
        let sent = copy(root, ignore, source, &mut to).and_then(|is_directory| {
            let (mut output, _) = to.finish()?;
            output.flush().map_err(Error::io("write", "archive"))?;
            Ok(is_directory)
        });
        let received = received.join().map_err(|_| Error::Refused("the writing thread ended".to_owned()))?;
        received?;
        sent
    })?;
    Ok(if is_directory { directory.to_owned() } else { directory.join("file") })
}

/// Whether a path is a socket.
pub fn is_socket(path: &Path) -> bool {
    let opened = hoy_sys::rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    opened.and_then(fstat).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
}
