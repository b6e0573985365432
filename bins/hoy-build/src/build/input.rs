//! What is built from: a Containerfile, its context, and further contexts, each a directory or brought here first.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use hoy_build::{Fetched, Fetcher, NamedContext, Remote, Tools, without_credentials};
use hoy_cli::{Context as _, Error, Result};
use hoy_oci::Digest;

use crate::FAILED;
use crate::build_args::BuildArgs;
use crate::context::warn;

/// Names of Containerfiles in a context directory, the first that is there.
const NAMES: [&str; 2] = ["Containerfile", "Dockerfile"];

/// What is built from.
pub(crate) struct Input {
    pub(crate) containerfile: Vec<u8>,
    /// Its name, for messages.
    pub(crate) name: String,
    pub(crate) context: Option<Arc<hoy_build::Context>>,
    /// `--build-context`.
    pub(crate) contexts: BTreeMap<String, NamedContext>,
    /// Where contexts are that were unpacked or fetched, until the build is done.
    #[expect(dead_code, reason = "directories that are removed when it is dropped")]
    temporaries: Vec<Temporary>,
}

/// A context before it is opened.
struct Place {
    directory: PathBuf,
    /// What of it is meant.
    inner: Option<String>,
    /// It came from elsewhere: what is in it is not trusted to lead anywhere.
    is_foreign: bool,
}

impl Input {
    /// Whether what is built from is there once, or is fetched.
    pub(crate) fn comes_once(args: &BuildArgs) -> Result<bool> {
        let is_stdin = args.context == "-" || args.file.iter().any(|file| file == "-");
        let named = args.build_context.iter().filter_map(|text| text.split_once('=')).map(|(_, value)| value);
        let is_remote = std::iter::once(args.context.as_str()).chain(named).map(remote).collect::<Result<Vec<_>>>()?;
        Ok(is_stdin || is_remote.iter().any(Option::is_some))
    }

    pub(crate) fn read(args: &BuildArgs, root: &Path, tools: &Tools, fetcher: &Fetcher) -> Result<Self> {
        let mut temporaries = Vec::new();
        let mut contexts = BTreeMap::new();
        for text in &args.build_context {
            let (name, context) = named_context(text, root, tools, fetcher, &mut temporaries)?;
            contexts.insert(name, context);
        }
        let none = |containerfile, name: &str| (containerfile, name.to_owned(), None);
        let (containerfile, name, context) = if args.context == "-" {
            if args.file.iter().any(|file| file == "-") {
                return Err(Error::msg("standard input is the context or the Containerfile, not both"));
            }
            let mut bytes = Vec::new();
            std::io::stdin().take(512).read_to_end(&mut bytes)?;
            if hoy_build::Context::is_archive(&bytes) {
                let place = Place::temporary(root, &mut temporaries)?;
                let archive = Cursor::new(bytes).chain(std::io::stdin());
                hoy_build::Context::unpack(archive, &place.directory).context(|| "unpack the context")?;
                read(args, &place)?
            } else {
                none(document(Cursor::new(bytes).chain(std::io::stdin()))?, "-")
            }
        } else if let Some(remote) = remote(&args.context)? {
            let shown = without_credentials(&args.context);
            let doing = || format!("use the context \"{shown}\"");
            let place = Place::temporary(root, &mut temporaries)?;
            match fetched(&remote, fetcher.context(tools, &remote, &place.directory)).context(doing)? {
                Fetched::Directory(directory, inner) => read(args, &Place { directory, inner, ..place })?,
                Fetched::File(path) => none(document(std::fs::File::open(path)?)?, &shown),
            }
        } else {
            read(args, &Place { directory: directory(args), inner: None, is_foreign: false })?
        };
        if containerfile.is_empty() {
            return Err(Error::msg(format!("no contents in \"{name}\"")));
        }
        Ok(Self { containerfile, name, context, contexts, temporaries })
    }
}

/// What a context is called that is fetched.
fn remote(text: &str) -> Result<Option<Remote>> {
    let is_image =
        ["docker-image://", "container-image://", "docker://", "oci-layout://"].iter().any(|s| text.starts_with(s));
    if is_image || Path::new(text).exists() {
        return Ok(None);
    }
    // As docker: the one host that needs no scheme.
    let text = if text.starts_with("github.com/") { format!("https://{text}") } else { text.to_owned() };
    let text = match text.strip_prefix("https://github.com/") {
        Some(path) if !path.split(['?', '#']).next().is_some_and(|path| path.ends_with(".git")) => github(&text, path),
        _ => text,
    };
    let code = if text.starts_with("git://") { GIT_FAILED } else { FAILED };
    let parsed = Remote::parse(&text).map_err(|error| Error::from(error).with_code(code));
    if code == GIT_FAILED { parsed.context(|| FETCH) } else { parsed }
}

/// What was being done when git fails, as buildah says it.
const FETCH: &str = "failed while performing git fetch";

/// What git ends with when there is no such repository: a build does so too, as buildah's.
const GIT_FAILED: u8 = 128;

/// A context that is here, or why git did not bring it.
fn fetched<T>(remote: &Remote, fetched: std::result::Result<T, hoy_build::Error>) -> Result<T> {
    match remote {
        Remote::Git(_) => fetched.code(GIT_FAILED).context(|| FETCH),
        Remote::File(_) => Ok(fetched?),
    }
}

/// `github.com/USER/NAME`, which is a repository, as one.
fn github(text: &str, path: &str) -> String {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let (path, rest) = path.split_at(end);
    match path.trim_end_matches('/').split('/').count() {
        2 => format!("https://github.com/{}.git{rest}", path.trim_end_matches('/')),
        _ => text.to_owned(),
    }
}

/// A Containerfile, no longer than one may be by much.
fn document(input: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(hoy_containerfile::MAX_DOCUMENT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

type Opened = (Vec<u8>, String, Option<Arc<hoy_build::Context>>);

/// The Containerfile and the context that are at a place.
fn read(args: &BuildArgs, place: &Place) -> Result<Opened> {
    if args.file.iter().filter(|file| *file == "-").count() > 1 {
        return Err(Error::msg("standard input can be read once: give --file - once").with_code(2));
    }
    // A Containerfile of this machine has its ignore file beside it, one of the context has it there.
    let own = Some(args.context.as_str()).filter(|path| Path::new(path).is_file());
    let file = args.file.first().map(String::as_str).or(own);
    let is_here = |file: &&str| !place.is_foreign && Path::new(file).exists();
    let beside = file.filter(is_here).and_then(ignore_beside);
    let files = file.map_or_else(|| NAMES.to_vec(), |file| vec![file]);
    let ignore_file = args.ignorefile.clone().or(beside);
    let doing = || format!("use the context \"{}\"", without_credentials(&args.context));
    let context = place.open(ignore_file.as_deref(), &files).context(doing)?;
    let read = |file: &String| match file.as_str() {
        "-" => document(std::io::stdin()),
        // In what came from elsewhere no link leads anywhere else.
        file if place.is_foreign => context.read(file).context(doing),
        file if !Path::new(file).exists() && place.directory.join(file).exists() => context.read(file).context(doing),
        file if Path::new(file).is_dir() => Err(Error::msg(format!("\"{file}\" cannot be path to a directory"))),
        file => std::fs::read(file).context(|| format!("open {file}")),
    };
    let read = |file: &String| match file.ends_with(".in") {
        true => preprocessed(file, &read(file)?, place, &args.cpp_flag),
        false => read(file),
    };
    let (name, containerfile) = match args.file.as_slice() {
        [] if Path::new(&args.context).is_file() => (args.context.clone(), read(&args.context)?),
        [] => default_file(&context).context(doing)?,
        [file] => (file.clone(), read(file)?),
        // As buildah: one document. Each is one by itself too, in what its first lines say.
        files => {
            let texts = files.iter().map(read).collect::<Result<Vec<_>>>()?;
            for (at, (file, text)) in files.iter().zip(&texts).enumerate() {
                let which = if at == 0 { "main" } else { "additional" };
                hoy_containerfile::statements(text).map_err(|found| {
                    let excerpt = found.place.excerpt();
                    Error::msg(format!("parsing {which} Dockerfile {file}: {}\n{excerpt}", found.error))
                })?;
            }
            (files.join("+"), texts.join(&b'\n'))
        }
    };
    Ok((containerfile, name, Some(Arc::new(context))))
}

impl Place {
    /// An empty directory.
    fn temporary(root: &Path, temporaries: &mut Vec<Temporary>) -> Result<Self> {
        let temporary = Temporary::new(root)?;
        let directory = temporary.0.join("context");
        std::fs::create_dir(&directory)?;
        temporaries.push(temporary);
        Ok(Self { directory, inner: None, is_foreign: true })
    }

    fn open(
        &self,
        ignore_file: Option<&Path>,
        files: &[&str],
    ) -> std::result::Result<hoy_build::Context, hoy_build::Error> {
        match &self.inner {
            Some(inner) => hoy_build::Context::open_inner(&self.directory, inner, ignore_file, files),
            None => hoy_build::Context::open(&self.directory, ignore_file, files),
        }
    }
}

/// The context's directory: as buildah, that of a Containerfile which is given instead.
fn directory(args: &BuildArgs) -> PathBuf {
    let context = Path::new(&args.context);
    let parent = context.parent().filter(|_| args.file.is_empty() && context.is_file());
    parent.map_or(context, |parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).to_owned()
}

/// The one Containerfile, where it is a file of this machine.
pub(crate) fn local_file(args: &BuildArgs) -> Option<PathBuf> {
    let context = Path::new(&args.context);
    if args.file.is_empty() && context.is_file() {
        return Some(context.to_owned());
    }
    let in_context = |name: &str| Some(context.join(name)).filter(|path| path.is_file());
    match args.file.as_slice() {
        [] => NAMES.into_iter().find_map(in_context),
        [file] if Path::new(file).is_file() => Some(PathBuf::from(file)),
        [file] => in_context(file),
        _ => None,
    }
}

fn default_file(context: &hoy_build::Context) -> Result<(String, Vec<u8>)> {
    for name in NAMES {
        match context.read(name) {
            Err(error) if error.is_not_found() => {}
            other => return Ok((name.to_owned(), other?)),
        }
    }
    Err(Error::msg("cannot find Containerfile or Dockerfile in it: no such file or directory")
        .with_hint("name it with --file"))
}

/// `FILE.containerignore` or `FILE.dockerignore`, where there is one.
fn ignore_beside(file: &str) -> Option<PathBuf> {
    let names = ["containerignore", "dockerignore"].map(|end| PathBuf::from(format!("{file}.{end}")));
    names.into_iter().find(|path| path.is_file())
}

/// A directory of the store, gone afterwards; no prune removes it meanwhile.
pub(crate) struct Temporary(PathBuf, #[expect(dead_code, reason = "a lock is held")] std::fs::File);

impl Temporary {
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let (path, lock) = hoy_build::temporary_directory(&root.join("build"))?;
        Ok(Self(path, lock))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays is a temporary, which prune removes.
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// `NAME=CONTEXT`: an image, a directory, or what is fetched.
fn named_context(
    text: &str,
    root: &Path,
    tools: &Tools,
    fetcher: &Fetcher,
    temporaries: &mut Vec<Temporary>,
) -> Result<(String, NamedContext)> {
    let shown = without_credentials(text);
    let wrong = || Error::msg(format!("option --build-context: \"{shown}\": its form is NAME=CONTEXT"));
    let (name, value) =
        text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty()).ok_or_else(wrong)?;
    let image =
        ["docker-image://", "container-image://", "docker://"].iter().find_map(|start| value.strip_prefix(start));
    if let Some(image) = image {
        return Ok((name.to_owned(), NamedContext::Image(image.to_owned())));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        let image = in_layout(layout).context(|| format!("use the context \"{shown}\""))?;
        return Ok((name.to_owned(), NamedContext::Image(image)));
    }
    let doing = || format!("use the context \"{shown}\"");
    let place = match remote(value).context(doing)? {
        None => Place { directory: PathBuf::from(value), inner: None, is_foreign: false },
        Some(remote) => {
            let place = Place::temporary(root, temporaries)?;
            match fetcher.context(tools, &remote, &place.directory).context(doing)? {
                Fetched::Directory(directory, inner) => Place { directory, inner, ..place },
                // One file is all that there is of it.
                Fetched::File(path) => Place { directory: path.parent().map(PathBuf::from).unwrap_or(path), ..place },
            }
        }
    };
    Ok((name.to_owned(), NamedContext::Directory(Arc::new(place.open(None, &[]).context(doing)?))))
}

/// `DIR[:NAME]` or `DIR@DIGEST`, in the words of `hoy-copy`, which counts what has no name.
fn in_layout(text: &str) -> Result<String> {
    let Some((directory, digest)) = text.rsplit_once("@sha256:") else { return Ok(format!("oci:{text}")) };
    let wanted = Digest::from_hex(digest)?;
    let layout = hoy_layout::ImageLayout::open(Path::new(directory))?;
    let at = layout.index()?.manifests.iter().position(|member| member.digest == wanted);
    let at = at.ok_or_else(|| Error::msg(format!("the layout \"{directory}\" has no image {wanted}")))?;
    Ok(format!("oci:{directory}:@{at}"))
}

/// The Containerfile `file` after cpp(1): as buildah runs it, so that `#include`, `#define` and `#ifdef` mean something.
fn preprocessed(file: &str, text: &[u8], place: &Place, flags: &[String]) -> Result<Vec<u8>> {
    let doing = || format!("preprocess \"{file}\"");
    if place.is_foreign {
        // It could include any file of this machine.
        return Err(Error::msg("its context comes from elsewhere: no preprocessor runs on that")).context(doing);
    }
    let own = Path::new(file).parent().filter(|_| Path::new(file).exists()).unwrap_or(&place.directory);
    let own = if own.as_os_str().is_empty() { Path::new(".") } else { own };
    let mut command = Command::new("cpp");
    command.args(["-E", "-iquote"]).arg(own).args(["-traditional", "-undef"]);
    for variable in ["CPPFLAGS", "BUILDAH_CPPFLAGS"] {
        command.args(std::env::var(variable).unwrap_or_default().split_whitespace());
    }
    command.args(flags).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Error::from(error).with_hint("install cpp")).context(doing)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // It may end before it has read everything, and then says itself why.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(text)).transpose().unwrap_or_default());
        child.wait_with_output()
    });
    let output = output.context(doing)?;
    let said = String::from_utf8_lossy(&output.stderr);
    // As buildah: errors are what a Containerfile's comments are to cpp, which leaves them out, and #error is told.
    if !output.status.success() && (output.stdout.is_empty() || said.contains(": fatal error: ")) {
        return Err(Error::msg(said.trim())).context(doing);
    }
    if !output.status.success() {
        warn(&format!("Ignoring {}", said.trim()));
    }
    Ok(output.stdout)
}
