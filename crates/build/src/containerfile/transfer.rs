//! COPY and ADD: files of a context, a stage or an image as a layer, written without mounting where they go.

use std::ffi::OsStr;
use std::io::Cursor;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use hoy_containerfile::{Ignore, Rules, Transfer};
use hoy_layer::{Entry, Kind};
use hoy_oci::{Digest, Hasher};
use hoy_sys::rustix::fs::{SeekFrom, seek};

use crate::chmod::Chmod;
use crate::containerfile::builder::Builder;
use crate::containerfile::cache::Inputs;
use crate::containerfile::layer::{Both, Fingerprint, LayerWriter};
use crate::containerfile::origin::Files;
use crate::containerfile::remote::Elsewhere;
use crate::containerfile::standing::{Node, Standing, join};
use crate::containerfile::state::State;
use crate::copy::user_and_group;
use crate::destination::{Owner, Receiver, clean};
use crate::document::NewLayer;
use crate::parents::{parents, pivot};
use crate::source::Source;
use crate::tree::{TreeReader, archive, lossy};
use crate::{Error, Result};

/// A COPY or ADD with its variables filled in.
#[derive(Debug)]
struct Asked {
    verb: &'static str,
    /// Paths and patterns.
    sources: Vec<String>,
    /// What is fetched.
    remotes: Vec<Elsewhere>,
    /// Here-documents: names and contents.
    inline: Vec<(String, Vec<u8>)>,
    /// Absolute, with a `/` at its end where one was written.
    destination: String,
    chown: Option<String>,
    chmod: Option<Chmod>,
    excludes: Ignore,
    parents: bool,
    link: bool,
    unpack: bool,
    /// All of it in one text, for the cache.
    canonical: String,
}

/// What a step came to: its layer, whether the cache had it, and what it is remembered as.
pub(crate) struct Outcome {
    pub(crate) layer: Option<NewLayer>,
    pub(crate) found: bool,
    /// Why the cache had nothing, or which one it was.
    pub(crate) why: Option<String>,
    pub(crate) created_by: String,
}

/// Carries out a COPY or ADD.
pub(crate) fn transfer(
    builder: &Builder<'_>,
    stage: usize,
    state: &State,
    transfer: &Transfer,
    is_add: bool,
) -> Result<Outcome> {
    let asked = Asked::read(state, transfer, is_add)?;
    let from = transfer.from.as_ref().map(|word| word.text.as_str());
    // What only fetches needs no context.
    let files = if asked.sources.is_empty() { Files::Nothing } else { builder.files(stage, from)? };
    let needs_parent = !asked.link || asked.chown.as_deref().is_some_and(|text| numbers(text).is_none());
    let mut inputs: Inputs = builder.inputs(state, asked.canonical.clone());
    if !needs_parent {
        inputs.remove("parent");
    }
    let name = remembered_as(&asked, &files, transfer);
    let known = name.as_deref().and_then(|name| builder.content(name));
    let step = format!("step {inputs:?}");
    let is_new = builder.options.no_cache || builder.content(&step).is_none();
    let standing = || if needs_parent { builder.standing(state) } else { Ok(Arc::default()) };
    let early = (known.is_none() && asked.is_plain() && !asked.unpack && is_new).then(standing).transpose()?;
    let (content, written) = match (known, &early) {
        (Some(content), _) => (content, None),
        (None, None) => (fingerprint(builder, &asked, &files)?, None),
        // The cache cannot have it: files are read once, for the fingerprint and for the layer.
        (None, Some(standing)) => {
            let (plan, layer) = begin(builder, state, &asked, &files, standing)?;
            let mut to = Both::new(layer, Fingerprint::new(files.keeps_owner()), &plan.target);
            send(builder, &asked, &files, &plan, false, &mut to)?;
            let (layer, content) = to.finish()?;
            (of_sources(content), Some((plan, layer)))
        }
    };
    if let (Some(name), None) = (&name, known) {
        builder.add_content(name, &content)?;
    }
    inputs.insert("files", content.to_string());
    let created_by =
        format!("/bin/sh -c #(nop) {} {}:{} in {}", asked.verb, asked.kind(), content.hex(), asked.destination);
    builder.cached(&inputs, created_by, || {
        builder.add_content(&step, &content)?;
        match written {
            Some((plan, layer)) => end(&plan, layer),
            None => write(builder, state, &asked, &files, &*standing()?),
        }
    })
}

impl Asked {
    fn read(state: &State, transfer: &Transfer, is_add: bool) -> Result<Self> {
        let verb = if is_add { "ADD" } else { "COPY" };
        // As in BuildKit: a variable that holds nothing names the whole context.
        let named = |text: String| if text.is_empty() { ".".to_owned() } else { text };
        let sources: Result<Vec<String>> = transfer.sources.iter().map(|word| state.text(word).map(named)).collect();
        let (remotes, sources) =
            if is_add { Elsewhere::split(state, transfer, sources?)? } else { (Vec::new(), sources?) };
        let is_address = |source: &&String| source.starts_with("http://") || source.starts_with("https://");
        if let (false, Some(address)) = (is_add, sources.iter().find(is_address)) {
            return Err(Error::Refused(format!("source can't be a URL for COPY: \"{address}\": ADD fetches it")));
        }
        let inline = transfer.files.iter().map(|file| {
            let text = file.text();
            if !file.is_expanded {
                return Ok((file.name.clone(), text.into_bytes()));
            }
            let word = hoy_containerfile::Word { text, span: file.span };
            let expanded = state.expanded(&word, Rules { escape: state.escape, ..Rules::heredoc() })?;
            Ok((file.name.clone(), expanded.text.into_bytes()))
        });
        let inline = inline.collect::<Result<Vec<_>>>()?;
        let typed = state.text(&transfer.destination)?;
        let path = lossy(&clean(state.workdir(), &typed));
        let says_directory = typed.ends_with('/') || typed.ends_with("/.") || matches!(typed.as_str(), "." | "..");
        if says_directory {
            remotes.iter().try_for_each(Elsewhere::check_name)?;
        }
        let slash = if says_directory && !path.is_empty() { "/" } else { "" };
        let chown = transfer.chown.as_ref().map(|word| state.text(word)).transpose()?;
        if chown.as_deref().is_some_and(|chown| chown.starts_with(':')) {
            let chown = chown.unwrap_or_default();
            let text = format!("looking up UID/GID for \"{chown}\": can't find uid for user \"\": write USER:GROUP");
            return Err(Error::Refused(text));
        }
        let chmod = transfer.chmod.as_ref().map(|word| state.text(word)).transpose()?;
        let excludes = transfer.excludes.iter().map(|word| state.text(word)).collect::<Result<Vec<_>>>()?;
        let unpack = is_add && transfer.unpack.unwrap_or(true);
        let canonical = format!(
            "{verb} {sources:?} {:?} /{path}{slash} {chown:?} {chmod:?} {excludes:?} {} {unpack} {}{}",
            inline.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            transfer.parents,
            transfer.from.is_some(),
            remotes.iter().map(Elsewhere::canonical).collect::<String>(),
        );
        if sources.len() + remotes.len() + inline.len() > 1 && !says_directory {
            let text =
                format!("{verb} of more than one source needs a destination that ends in /: \"{typed}\" does not");
            return Err(Error::Refused(text));
        }
        Ok(Self {
            verb,
            sources,
            remotes,
            inline,
            destination: format!("/{path}{slash}"),
            chown,
            chmod: chmod.as_deref().map(Chmod::parse).transpose()?,
            excludes: Ignore::parse(&excludes.join("\n"))
                .map_err(|_| Error::Refused("an --exclude is no pattern".to_owned()))?,
            parents: transfer.parents,
            link: transfer.link,
            unpack,
            canonical,
        })
    }

    /// Whether everything it copies is in files that have a name.
    fn is_plain(&self) -> bool {
        self.inline.is_empty() && self.remotes.is_empty()
    }

    fn kind(&self) -> &'static str {
        if self.sources.len() + self.remotes.len() + self.inline.len() > 1 { "multi" } else { "file" }
    }
}

/// The user and group that numbers mean, whoever else the image knows.
fn numbers(chown: &str) -> Option<(u32, u32)> {
    let (user, group) = chown.split_once(':').unwrap_or((chown, chown));
    Some((user.parse().ok()?, group.parse().ok()?))
}

/// Under which name the fingerprint of files is remembered that cannot change.
fn remembered_as(asked: &Asked, files: &Files, transfer: &Transfer) -> Option<String> {
    let excludes: Vec<&str> = transfer.excludes.iter().map(|word| word.text.as_str()).collect();
    let name = files.name().filter(|_| asked.is_plain())?;
    Some(format!("{name} {:?} {excludes:?} {}", asked.sources, asked.parents))
}

/// The digest of all that is to be copied.
fn fingerprint(builder: &Builder<'_>, asked: &Asked, files: &Files) -> Result<Digest> {
    let mut all = Hasher::new();
    if !asked.sources.is_empty() {
        let mut to = Fingerprint::new(files.keeps_owner());
        let plan = Plan { target: Vec::new(), is_directory: true };
        send(builder, asked, files, &plan, false, &mut to)?;
        all.update(to.finish()?.to_string().as_bytes());
    }
    for remote in &asked.remotes {
        all.update(remote.content(builder)?.as_bytes());
    }
    for (name, bytes) in &asked.inline {
        all.update(format!("{name:?} {}\n", Digest::of(bytes)).as_bytes());
    }
    Ok(all.finish())
}

/// The same where there is nothing but files that have a name.
fn of_sources(content: Digest) -> Digest {
    Digest::of(content.to_string().as_bytes())
}

/// Where sources go.
pub(crate) struct Plan {
    /// Its links were followed.
    pub(crate) target: Vec<u8>,
    /// Sources go into it.
    pub(crate) is_directory: bool,
}

impl Plan {
    pub(crate) fn of(&self, name: &[u8], is_directory: bool) -> Vec<u8> {
        if self.is_directory && !is_directory { join(&self.target, name) } else { self.target.clone() }
    }
}

/// An empty layer for what is to be copied, and where in it that goes.
fn begin<'a>(
    builder: &Builder<'_>,
    state: &State,
    asked: &Asked,
    files: &Files,
    standing: &'a Standing,
) -> Result<(Plan, LayerWriter<'a>)> {
    let target = clean("/", &asked.destination);
    let real = standing.resolve(&target, true)?;
    let is_there = standing.at(&real) == Some(&Node::Directory);
    let is_directory = is_there || asked.destination.ends_with('/') || asked.parents;
    let target = if is_directory { real } else { target };
    let ids = match &asked.chown {
        Some(text) => numbers(text).map_or_else(|| user_and_group(&standing.users(), text), Ok).map(Some)?,
        None if files.keeps_owner() => None,
        None => Some((0, 0)),
    };
    let owner = Owner { ids, is_weak: asked.chown.is_none(), mode: asked.chmod.clone() };
    let made_at = state.clamp.created().unix_seconds();
    let to = LayerWriter::new(builder.sink()?, standing, owner, state.clamp.seconds(), made_at);
    Ok((Plan { target, is_directory }, to))
}

fn end(plan: &Plan, mut to: LayerWriter<'_>) -> Result<Option<NewLayer>> {
    if plan.is_directory {
        to.directories(&plan.target)?;
    }
    to.finish()
}

fn write(
    builder: &Builder<'_>,
    state: &State,
    asked: &Asked,
    files: &Files,
    standing: &Standing,
) -> Result<Option<NewLayer>> {
    let (plan, mut to) = begin(builder, state, asked, files, standing)?;
    send(builder, asked, files, &plan, asked.unpack, &mut to)?;
    for remote in &asked.remotes {
        remote.send(builder, &asked.excludes, &plan, &mut to)?;
    }
    for (name, bytes) in &asked.inline {
        let mut entry = Entry::new(plan.of(name.as_bytes(), false), Kind::File, 0o644);
        entry.size = bytes.len() as u64;
        entry.mtime.seconds = state.clamp.created().unix_seconds();
        to.add(entry, &mut Cursor::new(bytes))?;
    }
    end(&plan, to)
}

/// Hands every source to `to`.
fn send(
    builder: &Builder<'_>,
    asked: &Asked,
    files: &Files,
    plan: &Plan,
    unpack: bool,
    to: &mut impl Receiver,
) -> Result<()> {
    if asked.sources.is_empty() {
        return Ok(());
    }
    builder.with_files(files, |root, ignore| {
        for text in &asked.sources {
            let pivot = pivot(text);
            let (mut count, mut filtered, mut filter) = (0, 0, None);
            for source in root.find(Path::new(text))? {
                let shown = shown(&source.path);
                let is_ignored = ignore.excludes(&lossy(&shown));
                if !source.is_directory && (is_ignored || is_excluded(asked, &source.path)) {
                    filtered += 1;
                    filter = filter.or(files.ignore_file().filter(|_| is_ignored));
                    continue;
                }
                count += 1;
                let target = match asked.parents {
                    false => plan.of(name(&source.path), source.is_directory),
                    true => parents(root, &source, pivot, &plan.target, to)?,
                };
                // As other builders: what is named by itself is a file of its own, whatever else it is a link of.
                let mut reader = TreeReader::new(ignore);
                reader.excludes = Some(&asked.excludes);
                one(&mut reader, source, &shown, &target, unpack, plan, to)?;
            }
            if count == 0 {
                let filter = filter.map_or_else(|| "--exclude".to_owned(), |file| file.display().to_string());
                return Err(Error::NoSource(text.clone(), format!(" ({filtered} filtered out using {filter})")));
            }
        }
        Ok(())
    })
}

fn one(
    reader: &mut TreeReader<'_>,
    source: Source,
    shown: &[u8],
    target: &[u8],
    unpack: bool,
    plan: &Plan,
    to: &mut impl Receiver,
) -> Result<()> {
    if source.is_directory {
        if !target.is_empty() && !plan.is_directory {
            // The directory itself: where it is missing it is made with this one's permissions.
            to.add(Entry::new(target, Kind::Directory, 0o755), &mut std::io::empty())?;
        }
        return reader.directory(source.fd.as_fd(), shown, target, to);
    }
    if unpack && archive(&source, &plan.target, to)? {
        return Ok(());
    }
    to.begin(name(&source.path));
    // The archive's look at it moved the descriptor's position.
    seek(&source.fd, SeekFrom::Start(0)).map_err(Error::io("read", &source.path))?;
    reader.file(source.fd, shown, target, to)
}

fn name(path: &Path) -> &[u8] {
    path.file_name().map(OsStr::as_bytes).unwrap_or_default()
}

fn is_excluded(asked: &Asked, path: &Path) -> bool {
    asked.excludes.excludes(&lossy(name(path)))
}

/// A source's path relative to its context directory, for the ignore rules and for messages.
fn shown(path: &Path) -> Vec<u8> {
    let parts = path.as_os_str().as_bytes().split(|&c| c == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}
