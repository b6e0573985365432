//! `save` and `load`: archives of images, which hoy-copy reads and writes.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use hoy_cli::{Context, Error, Result, print_line};
use hoy_layout::Store;
use hoy_storage::Archived;

use crate::args::{self, ArchiveFormat};
use crate::open::{Place, explain, explain_layout};

/// hoy-copy beside this program, or in PATH, on the same store.
fn copy(place: &Place) -> Command {
    let own = std::env::current_exe().ok();
    let beside =
        own.and_then(|own| own.parent().map(|directory| directory.join("hoy-copy"))).filter(|path| path.exists());
    let mut command = Command::new(beside.unwrap_or_else(|| PathBuf::from("hoy-copy")));
    command.arg("copy").envs(place.roots.environment());
    command
}

fn run(mut command: Command) -> Result<()> {
    let status = command.status().context(|| "start hoy-copy")?;
    match status.success() {
        true => Ok(()),
        // It has said itself what is wrong.
        false => Err(Error::msg("hoy-copy could not do it")),
    }
}

pub(crate) fn save(place: &Place, args: &args::Save) -> Result<ExitCode> {
    let output = output_of(args)?;
    if args.multi_image_archive {
        return save_all(place, args, &output);
    }
    let store = place.store()?;
    let (named, _) = store.image(&args.image).map_err(explain_layout)?;
    let mut names: Vec<String> = Vec::new();
    for name in named.name.iter().filter(|_| is_named(&args.image, &named)).chain(&args.names) {
        let wrong = |e| Error::from(e).with_code(2);
        names.push(hoy_oci::Reference::parse_local(name).map_err(wrong)?.or_latest().to_string());
    }
    let transport = match args.format {
        ArchiveFormat::DockerArchive => "docker-archive",
        ArchiveFormat::OciArchive => "oci-archive",
        ArchiveFormat::OciDir => "oci",
        ArchiveFormat::DockerDir => "dir",
    };
    let mut target = OsString::from(format!("{transport}:"));
    target.push(&output);
    let mut command = copy(place);
    if let (Some(first), false) = (names.first(), args.format == ArchiveFormat::DockerDir) {
        target.push(format!(":{first}"));
    }
    if matches!(args.format, ArchiveFormat::DockerArchive | ArchiveFormat::DockerDir) {
        command.args(["--format", "v2s2"]);
    }
    for name in names.iter().skip(1) {
        if args.format != ArchiveFormat::DockerArchive {
            return Err(Error::msg("more names need --format docker-archive").with_code(2));
        }
        command.args(["--additional-tag", name]);
    }
    if args.quiet {
        command.arg("--quiet");
    }
    command.arg(format!("store:{}", args.image)).arg(target);
    if output.as_os_str() != "-" {
        // Its digest is not what was asked for.
        command.stdout(Stdio::null());
    }
    run(command)?;
    Ok(ExitCode::SUCCESS)
}

/// Where to save to: `-` is standard output.
fn output_of(args: &args::Save) -> Result<PathBuf> {
    let is_directory = matches!(args.format, ArchiveFormat::OciDir | ArchiveFormat::DockerDir);
    let output = match &args.output {
        Some(output) => output.clone(),
        None if is_directory => return Err(Error::msg("a directory needs --output").with_code(2)),
        None if std::io::stdout().is_terminal() => {
            let error = Error::msg("an archive is not for a terminal").with_code(2);
            return Err(error.with_hint("send standard output somewhere, or name a file with --output"));
        }
        None => PathBuf::from("-"),
    };
    // hoy-copy would add the image to it.
    if args.format == ArchiveFormat::DockerArchive && output.is_file() {
        let error = Error::msg(format!("\"{}\" is there already", output.display()));
        return Err(error.with_hint("remove it, or name another file"));
    }
    Ok(output)
}

/// Adds one image after the other to an archive that has its name only when all are in it.
fn save_all(place: &Place, args: &args::Save, output: &Path) -> Result<ExitCode> {
    if args.format != ArchiveFormat::DockerArchive {
        return Err(Error::msg("several images need --format docker-archive").with_code(2));
    }
    let store = place.store()?;
    let is_stdout = output.as_os_str() == "-";
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = if is_stdout { tempfile::tempdir() } else { tempfile::tempdir_in(parent) };
    let directory = directory.context(|| "make a temporary directory")?;
    let archive = directory.path().join("archive");
    for image in std::iter::once(&args.image).chain(&args.names) {
        let (named, _) = store.image(image).map_err(explain_layout)?;
        let mut target = OsString::from("docker-archive:");
        target.push(&archive);
        if let Some(name) = named.name.as_ref().filter(|_| is_named(image, &named)) {
            target.push(format!(":{name}"));
        }
        let mut command = copy(place);
        command.args(["--format", "v2s2"]).args(args.quiet.then_some("--quiet")).stdout(Stdio::null());
        command.arg(format!("store:{image}")).arg(target);
        run(command)?;
    }
    if is_stdout {
        let mut file = std::fs::File::open(&archive).context(|| "read the archive")?;
        std::io::copy(&mut file, &mut hoy_cli::Stdout::new()).context(|| "write the archive")?;
    } else {
        std::fs::rename(&archive, output).context(|| format!("write \"{}\"", output.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An image that was asked for by its id is saved without a name.
fn is_named(text: &str, named: &hoy_layout::NamedImage) -> bool {
    let candidates = hoy_oci::Reference::candidates(text).unwrap_or_default();
    let fits = |name: &String| name == text || candidates.iter().any(|candidate| candidate.to_string() == *name);
    named.name.as_ref().is_some_and(fits)
}

pub(crate) fn load(place: &Place, args: &args::Load) -> Result<ExitCode> {
    let store = place.store()?;
    let mut spool = None;
    let path = match &args.input {
        Some(path) if path.as_os_str() != "-" => path.clone(),
        _ => {
            // An archive is read more than once.
            let mut file = tempfile::NamedTempFile::new().context(|| "make a temporary file")?;
            std::io::copy(&mut std::io::stdin().lock(), &mut file).context(|| "read the archive")?;
            spool.insert(file).path().to_owned()
        }
    };
    let shown =
        args.input.as_ref().map_or_else(|| "standard input".to_owned(), |path| format!("\"{}\"", path.display()));
    let archived = hoy_storage::archived_images(&path).map_err(explain).context(|| format!("load {shown}"))?;
    let (transport, images) = match archived {
        Archived::Docker(images) => ("docker-archive", images),
        Archived::Oci(images) => ("oci-archive", images.into_iter().map(|name| name.into_iter().collect()).collect()),
    };
    for (at, names) in images.iter().enumerate() {
        load_one(place, &store, args.quiet, &source(transport, &path, at), names)?;
    }
    drop(spool);
    Ok(ExitCode::SUCCESS)
}

fn source(transport: &str, path: &Path, at: usize) -> OsString {
    let mut source = OsString::from(format!("{transport}:"));
    source.push(path);
    source.push(format!(":@{at}"));
    source
}

/// Brings one image in under its first name, or one for the moment, and gives it the others.
fn load_one(place: &Place, store: &Store, quiet: bool, source: &OsString, names: &[String]) -> Result<()> {
    let passing = format!("localhost/hoy-storage-load:{}", std::process::id());
    let first = names.first().unwrap_or(&passing);
    let mut command = copy(place);
    if quiet {
        command.arg("--quiet");
    }
    command.arg(source).arg(format!("store:{first}")).stdout(Stdio::null());
    run(command)?;
    let image = store.find_image(first).map_err(explain_layout)?;
    if names.is_empty() {
        let (_, found) = store.image(first).map_err(explain_layout)?;
        hoy_storage::untag(store, first, std::slice::from_ref(first)).map_err(explain)?;
        return print_line(format_args!("Loaded image: {}", found.manifest.config.digest));
    }
    for name in names.iter().skip(1) {
        store.layout().set_name(name, &image.descriptor).map_err(explain_layout)?;
    }
    let full =
        |name: &String| if name == first { image.name.clone().unwrap_or_else(|| name.clone()) } else { name.clone() };
    names.iter().try_for_each(|name| print_line(format_args!("Loaded image: {}", full(name))))
}
