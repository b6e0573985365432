//! `hoy ps`.

use std::io::Write;
use std::process::ExitCode;

use hoy_cli::{Error, Result, Stdout, human, print_line, table};
use hoy_engine::{Engine, Entry, Status};
use hoy_oci::Reference;
use serde_json::{Value, json};

use crate::args::{Global, PsArgs};

/// Fields and headings, podman's.
const COLUMNS: [(&str, &str); 7] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
];

pub(crate) fn list(global: &Global, args: &PsArgs) -> Result<ExitCode> {
    let engine = global.engine()?;
    let filters: Vec<Filter> = args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<_>>()?;
    let by_status = filters.iter().any(|filter| matches!(filter, Filter::Status(_) | Filter::Exited(_)));
    let wanted = |entry: &Entry| {
        (args.all || by_status || entry.status == Status::Running) && filters.iter().all(|filter| filter.takes(entry))
    };
    let entries: Vec<Entry> = engine.containers()?.into_iter().filter(wanted).collect();
    if args.quiet {
        for entry in &entries {
            print_line(if args.no_trunc { entry.id().as_str() } else { entry.id().short() })?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Value> = entries.iter().map(|entry| row(&engine, entry, args.no_trunc)).collect();
    let text = table::list(args.format.as_deref(), args.noheading, &COLUMNS, &rows)?;
    Stdout::new().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn row(engine: &Engine, entry: &Entry, whole: bool) -> Value {
    let Entry { container, record, status, .. } = entry;
    let now = seconds();
    let ago = |then: i64| human::ago(then, now);
    let command = record.command.join(" ");
    let short = |text: String| match text.char_indices().nth(20) {
        Some((at, _)) if !whole => format!("{}...", text.get(..at).unwrap_or(&text)),
        _ => text,
    };
    let ended = record.finished.map_or_else(String::new, |then| format!(" {}", ago(then.unix_seconds())));
    let started = record.started.map_or(now, |then| then.unix_seconds());
    let text = match status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            format!("Up {}", human::duration(std::time::Duration::from_secs(now.abs_diff(started))).to_lowercase())
        }
        Status::Exited(Some(code)) => format!("Exited ({code}){ended}"),
        Status::Exited(None) => "Exited (unknown)".to_owned(),
    };
    json!({
        "ID": if whole { entry.id().as_str() } else { entry.id().short() },
        "Image": record.image,
        "ImageID": record.image_id.hex(),
        "Command": short(command),
        "Created": container.created.unix_seconds(),
        "CreatedAt": container.created.to_string(),
        "CreatedHuman": ago(container.created.unix_seconds()),
        "RunningFor": ago(container.created.unix_seconds()),
        "Status": text,
        "State": state(*status),
        "Ports": "",
        "Names": container.name,
        "Labels": record.labels,
        "Networks": record.network,
        "Pid": if *status == Status::Running { engine.pid(entry).unwrap_or(0) } else { 0 },
        "ExitCode": if let Status::Exited(Some(code)) = status { *code } else { 0 },
        "AutoRemove": record.auto_remove,
    })
}

/// The state in one word, as `--filter status=` has it.
pub(crate) fn state(status: Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Exited(_) => "exited",
    }
}

fn seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// What `--filter` asks for.
enum Filter {
    Name(String),
    Id(String),
    Status(String),
    Ancestor(String),
    Label(String, Option<String>),
    Exited(u8),
}

impl Filter {
    fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::msg(format!("option --filter: \"{text}\": {reason}"));
        let (key, value) = text.split_once('=').ok_or_else(|| wrong("its form is NAME=VALUE"))?;
        let word = value.to_owned();
        Ok(match key {
            "name" => Self::Name(word),
            "id" => Self::Id(word),
            "status" if matches!(value, "created" | "running" | "exited") => Self::Status(word),
            "status" => return Err(wrong("there are created, running and exited")),
            "ancestor" => Self::Ancestor(word),
            "label" => match value.split_once('=') {
                Some((name, value)) => Self::Label(name.to_owned(), Some(value.to_owned())),
                None => Self::Label(word, None),
            },
            "exited" => Self::Exited(value.parse().map_err(|_| wrong("an exit code is a number from 0 to 255"))?),
            _ => return Err(wrong("there are name, id, status, ancestor, label and exited")),
        })
    }

    fn takes(&self, entry: &Entry) -> bool {
        match self {
            Self::Name(part) => entry.container.name.contains(part.as_str()),
            Self::Id(prefix) => entry.id().as_str().starts_with(prefix.as_str()),
            Self::Status(word) => state(entry.status) == word,
            Self::Ancestor(image) => is_ancestor(entry, image),
            Self::Label(name, value) => {
                entry.record.labels.get(name).is_some_and(|own| value.as_ref().is_none_or(|value| value == own))
            }
            Self::Exited(code) => entry.status == Status::Exited(Some(*code)),
        }
    }
}

fn is_ancestor(entry: &Entry, image: &str) -> bool {
    let known = &entry.record.image;
    let by_id = image.len() >= 3 && entry.record.image_id.hex().starts_with(image);
    by_id
        || known == image
        || Reference::candidates(image).is_ok_and(|names| names.iter().any(|name| name.to_string() == *known))
}
