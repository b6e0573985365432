//! Commands that change what is in a working container.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hoy_build::{CopyOptions, Fetcher, FromOptions, Remote, Working};
use hoy_cli::{Context as _, Error, Result, print_line};
use hoy_layout::Store;
use hoy_oci::IdMaps;

use crate::access::Access;
use crate::args::AddArgs;
use crate::build::input::Temporary;
use crate::context::Context;

/// How sources are fetched.
struct Fetching {
    fetcher: Fetcher,
    checksum: Option<String>,
}

impl Fetching {
    /// Takes the addresses out of `paths` and fetches what they name, each into a directory of its own.
    fn fetch(&self, context: &Context, root: &Path, paths: &mut Vec<PathBuf>) -> Result<Vec<(Temporary, PathBuf)>> {
        let mut remotes = Vec::new();
        for path in std::mem::take(paths) {
            match path.to_str().map(Remote::parse).transpose()?.flatten() {
                Some(remote) => remotes.push(remote),
                None => paths.push(path),
            }
        }
        if self.checksum.is_some() && (remotes.len(), paths.len()) != (1, 0) {
            return Err(Error::msg("--checksum is for one source that is fetched"));
        }
        let mut fetched = Vec::new();
        for remote in &remotes {
            let temporary = Temporary::new(root)?;
            let directory = temporary.path().join("fetched");
            std::fs::create_dir(&directory)?;
            let path = self.fetcher.source(&context.tools, remote, self.checksum.as_deref(), &directory)?;
            fetched.push((temporary, path));
        }
        Ok(fetched)
    }
}

/// Copies, and makes the directories that lead to sources if `parents` says so; `add` has no such option.
pub(crate) fn copy(context: &Context, args: AddArgs, parents: Option<bool>) -> Result<ExitCode> {
    let is_add = parents.is_none();
    let access = Access {
        cert_dir: args.cert_dir,
        tls_verify: args.tls_verify,
        retry: args.retry,
        retry_delay: args.retry_delay,
        ..Access::default()
    };
    let fetching =
        Fetching { fetcher: Fetcher { options: access.fetching(), ..Fetcher::default() }, checksum: args.checksum };
    let mut args = args.copy;
    if args.ignorefile.is_some() && args.contextdir.is_none() {
        return Err(Error::msg("--ignorefile option requires that you specify a context dir using --contextdir"));
    }
    let doing = if is_add { "add to" } else { "copy to" };
    let store = context.store()?;
    let (dir, working) =
        Working::find(&store, &args.container).context(|| format!("{doing} \"{}\"", args.container))?;
    context.enter_namespaces(dir.id())?;
    let destination = match args.paths.len() {
        0 | 1 => None,
        _ => args.paths.pop().map(|path| path.to_string_lossy().into_owned()),
    };
    if let Some(context) = &args.contextdir {
        // What is named by its whole path is named from the context too.
        for path in &mut args.paths {
            if let Ok(rest) = path.strip_prefix(context) {
                *path = Path::new(".").join(rest);
            }
        }
    }
    let ignore = args.ignorefile.clone().or_else(|| default_ignore_file(args.contextdir.as_deref()));
    let ignore = ignore.map(|file| std::fs::read_to_string(&file).context(|| format!("read \"{}\"", file.display())));
    let ignore = ignore.transpose()?;
    let root = context.tools.mount(dir.id().as_str())?;
    let root = File::open(&root).context(|| format!("open \"{}\"", root.display()))?;
    let adding = || format!("{doing} \"{}\"", args.container);
    // Below the root of another container every name is a path.
    let fetched = match args.from {
        None => fetching.fetch(context, store.root(), &mut args.paths).context(adding)?,
        Some(_) => Vec::new(),
    };
    let mut origin = args.from.as_ref().map(|from| Origin::open(context, &store, from, args.quiet)).transpose()?;
    let options = CopyOptions {
        chown: args.chown.clone(),
        chmod: args.chmod.clone(),
        context: origin.as_ref().map(|origin| origin.path.clone()).or(args.contextdir.clone()),
        keep_owner: args.from.is_some(),
        ignore,
        excludes: args.exclude.clone(),
        no_patterns: !args.allow_wildcard,
        empty_patterns: args.allow_empty_wildcard,
        keep_links: args.no_follow_symlinks,
        parents: parents == Some(true),
        time: args.timestamp,
        unpack: is_add,
        fetched: fetched.iter().map(|(_, path)| path.clone()).collect(),
        ids: dir.container()?.id_maps,
        source_ids: origin.as_mut().and_then(|origin| origin.ids.take()),
    };
    let workdir = &working.config.config.working_dir;
    let copied = hoy_build::copy(root.as_fd(), workdir, &args.paths, destination.as_deref(), &options)
        .context(|| format!("{doing} \"{}\"", args.container));
    let closed = origin.map_or(Ok(()), |origin| origin.close(context));
    let (digest, kind) = copied?;
    closed?;
    if args.history.add_history {
        let verb = if is_add { "ADD" } else { "COPY" };
        let to = destination.as_deref().unwrap_or(".");
        let step = format!("/bin/sh -c #(nop) {verb} {kind}:{} in {to}", digest.hex());
        Working::edit(&dir, |working| {
            working.remember(step);
            Ok(())
        })?;
    }
    if !args.quiet {
        print_line(digest.hex())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The ignore file of a context directory, if it has one and not as a link that may lead elsewhere.
fn default_ignore_file(context: Option<&Path>) -> Option<PathBuf> {
    let files = [".containerignore", ".dockerignore"].map(|name| Some(context?.join(name)));
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    files.into_iter().flatten().find(is_file)
}

/// The root of another container, or of an image in a container made for the purpose.
pub(crate) struct Origin {
    pub(crate) path: PathBuf,
    temporary: Option<String>,
    /// Of its user namespace, where it has one of its own.
    ids: Option<IdMaps>,
}

impl Origin {
    pub(crate) fn open(context: &Context, store: &Store, from: &str, is_quiet: bool) -> Result<Self> {
        let doing = || format!("copy from \"{from}\"");
        match store.find_container(from) {
            Ok(dir) => {
                let path = context.tools.mount(dir.id().as_str()).context(doing)?;
                Ok(Self { path, temporary: None, ids: dir.container()?.id_maps })
            }
            Err(error) if error.is_not_found() => {
                let copy_options = is_quiet.then(|| "--quiet".to_owned()).into_iter().collect();
                let options = FromOptions { copy_options, ..FromOptions::default() };
                let (dir, _) = hoy_build::from(store, &context.tools, from, &options).context(doing)?;
                let id = dir.id().as_str().to_owned();
                let path = context.tools.mount(&id).context(doing)?;
                Ok(Self { path, temporary: Some(id), ids: None })
            }
            Err(error) => Err(error).context(doing),
        }
    }

    pub(crate) fn close(self, context: &Context) -> Result<()> {
        match self.temporary {
            Some(id) => context.tools.storage(["rm", &id]).map(drop).context(|| format!("remove \"{id}\"")),
            None => Ok(()),
        }
    }
}
