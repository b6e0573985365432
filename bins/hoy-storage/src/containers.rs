//! Commands about containers.

use std::fs::{File, Permissions};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use hoy_cli::{Context, Error, Result, Stdout, human, print_line, table};
use hoy_layout::{Container, ContainerDir, Store};
use hoy_oci::Timestamp;
use hoy_storage::{ChangeKind, Changes, CreateOptions};
use serde_json::{Value, json};

use crate::args;
use crate::open::{Place, explain, explain_layout, for_each, say, warn_of};

const DONE: Result<ExitCode> = Ok(ExitCode::SUCCESS);

pub(crate) fn create(place: &Place, args: args::Create) -> Result<ExitCode> {
    let record = |text: &String| match text.split_once('=') {
        Some((name, file)) => Ok((format!("{name}.json"), file.into())),
        None => Err(Error::msg(format!("option --record: \"{text}\" is not NAME=FILE")).with_code(2)),
    };
    let options = CreateOptions {
        records: args.record.iter().map(record).collect::<Result<_>>()?,
        image: (args.image != "scratch").then_some(args.image),
        bundle: args.bundle,
        name: args.name,
        volatile: args.volatile,
        plain: args.plain,
        ids: args.ids.into(),
        now: Some(Timestamp::from(SystemTime::now())),
        warn: |text| say(format_args!("warning: {text}")),
    };
    let container = hoy_storage::create(&place.store()?, place.xattrs, &options).map_err(explain)?;
    if let Some(reason) = hoy_storage::why_copied(&container).filter(|_| !args.plain) {
        say(format_args!("warning: no overlay can be mounted here ({reason}): the root file system is a copy"));
    }
    print_line(container.id)?;
    DONE
}

pub(crate) fn mount(place: &Place, args: args::Mount) -> Result<ExitCode> {
    if args.image {
        return crate::images::mount(place, &args.names);
    }
    let store = place.store()?;
    if args.names.is_empty() {
        for dir in store.all_containers()? {
            let Some(container) = readable(&dir) else { continue };
            if hoy_storage::is_mounted(&container).map_err(explain)? {
                print_line(format_args!("{} {}", container.id, container.bundle.join("rootfs").display()))?;
            }
        }
        return DONE;
    }
    for_each(&args.names, |name| {
        let dir = store.find_container(name).map_err(explain_layout)?;
        print_path(&hoy_storage::mount(&store, place.xattrs, &dir).map_err(explain)?)
    })?;
    DONE
}

/// A container's record; whoever looks is told of one that is damaged. One that is being removed by somebody else is gone.
fn readable(dir: &ContainerDir) -> Option<Container> {
    match dir.container() {
        Ok(container) => Some(container),
        Err(error) => {
            if dir.path().exists() {
                warn_of(&error);
            }
            None
        }
    }
}

/// A path is bytes; it goes out as it is.
pub(crate) fn print_path(path: &Path) -> Result<()> {
    let mut out = Stdout::new();
    out.write_all(path.as_os_str().as_bytes())?;
    Ok(out.write_all(b"\n")?)
}

/// Does `work` for the containers of these names, or for all.
fn for_chosen(
    store: &Store,
    all: bool,
    names: &[String],
    missing_is_fine: bool,
    work: impl Fn(&ContainerDir) -> hoy_storage::Result<()>,
) -> Result<()> {
    let every = if all { store.all_containers()? } else { Vec::new() };
    let ids: Vec<String> = every.iter().map(|dir| dir.id().to_string()).collect();
    for_each(if all { &ids } else { names }, |name| match store.find_container(name) {
        Err(error) if error.is_not_found() && (missing_is_fine || all) => Ok(()),
        other => {
            let dir = other.map_err(explain_layout)?;
            work(&dir).map_err(explain)?;
            print_line(dir.id())
        }
    })
}

pub(crate) fn umount(place: &Place, args: &args::Umount) -> Result<ExitCode> {
    if args.image {
        return crate::images::umount(place, args);
    }
    let store = place.store()?;
    for_chosen(&store, args.all, &args.containers, false, |dir| hoy_storage::umount(dir, args.force))?;
    DONE
}

pub(crate) fn rm(place: &Place, args: &args::Rm) -> Result<ExitCode> {
    let store = place.store()?;
    for_chosen(&store, args.all, &args.containers, args.force, |dir| hoy_storage::rm(dir, args.force))?;
    DONE
}

pub(crate) fn rename(place: &Place, args: &args::Rename) -> Result<ExitCode> {
    let store = place.store()?;
    let dir = store.find_container(&args.container).map_err(explain_layout)?;
    hoy_storage::rename(&store, &dir, &args.name).map_err(explain)?;
    DONE
}

pub(crate) fn diff(place: &Place, args: &args::Diff) -> Result<ExitCode> {
    let store = place.store()?;
    let dir = store.find_container(&args.container).map_err(explain_layout)?;
    let changes = Changes::new(&store, place.xattrs, &dir, args.clamp).map_err(explain)?;
    if args.tar {
        let output = std::io::BufWriter::with_capacity(256 << 10, Stdout::new());
        changes.write(output).map_err(explain)?;
        return DONE;
    }
    let list = changes.list().map_err(explain)?;
    // Who reads the list slowly, in a pager, holds nobody up.
    drop(changes);
    if args.json {
        let of = |kind| -> Vec<String> {
            let paths = list.iter().filter(|change| change.kind == kind);
            paths.map(|change| format!("/{}", change.path.display())).collect()
        };
        let all = json!({
            "added": of(ChangeKind::Added), "changed": of(ChangeKind::Changed), "deleted": of(ChangeKind::Deleted),
        });
        print_line(table::json(&all)?)?;
        return DONE;
    }
    let mut out = Stdout::new();
    for change in list {
        let letter = match change.kind {
            ChangeKind::Added => "A",
            ChangeKind::Changed => "C",
            ChangeKind::Deleted => "D",
        };
        out.write_all(&[letter.as_bytes(), b" /", change.path.as_os_str().as_bytes(), b"\n"].concat())?;
    }
    DONE
}

pub(crate) fn export(place: &Place, args: &args::Export) -> Result<ExitCode> {
    let store = place.store()?;
    let dir = store.find_container(&args.container).map_err(explain_layout)?;
    let write = |output: &mut dyn Write| {
        let output = std::io::BufWriter::with_capacity(256 << 10, output);
        hoy_storage::export(&store, place.xattrs, &dir, args.clamp, output).map_err(explain)
    };
    if args.output.as_os_str() == "-" {
        if std::io::stdout().is_terminal() {
            let error = Error::msg("an archive is not for a terminal").with_code(2);
            return Err(error.with_hint("send standard output somewhere, or name a file with --output"));
        }
        write(&mut Stdout::new())?;
        return DONE;
    }
    let (path, writing) = (&args.output, || format!("write \"{}\"", args.output.display()));
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        write(&mut File::create(path).context(writing)?)?;
        return DONE;
    }
    // It appears whole or not at all.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(directory).context(writing)?;
    write(file.as_file_mut())?;
    file.persist(path).map_err(|error| error.error).context(writing)?;
    DONE
}

pub(crate) fn list(place: &Place, args: &args::Containers) -> Result<ExitCode> {
    let store = place.store()?;
    let now = Timestamp::from(SystemTime::now()).unix_seconds();
    let mut rows: Vec<Value> = Vec::new();
    for dir in store.all_containers()? {
        let Some(container) = readable(&dir) else { continue };
        let is_full = args.no_trunc || args.json || args.format.as_deref() == Some("json");
        rows.push(json!({
            "Id": if is_full { container.id.as_str() } else { container.id.short() },
            "ID": if is_full { container.id.as_str() } else { container.id.short() },
            "Name": container.name,
            "Names": container.name,
            "Image": container.image.clone().unwrap_or_else(|| "scratch".to_owned()),
            "Created": human::ago(container.created.unix_seconds(), now),
            "CreatedAt": container.created.to_string(),
            "Bundle": container.bundle.to_string_lossy(),
            "IdMaps": container.id_maps,
            "Mounted": hoy_storage::is_mounted(&container).unwrap_or(false),
        }));
        if args.quiet {
            print_line(if args.no_trunc { container.id.as_str() } else { container.id.short() })?;
        }
    }
    if args.quiet {
        return DONE;
    }
    let columns =
        [("Id", "CONTAINER ID"), ("Image", "IMAGE"), ("Created", "CREATED"), ("Mounted", "MOUNTED"), ("Name", "NAME")];
    let format = if args.json { Some("json") } else { args.format.as_deref() };
    let text = table::list(format, args.noheading, &columns, &rows)?;
    Stdout::new().write_all(text.as_bytes())?;
    DONE
}
