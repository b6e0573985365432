//! How an image was made, in the form of `podman history`.

use std::io::Write;
use std::process::ExitCode;
use std::time::SystemTime;

use hoy_cli::{Result, Stdout, human, print_line, table};
use hoy_oci::Timestamp;
use serde_json::{Value, json};

use crate::args;
use crate::image_list::moment;
use crate::images::NONE;
use crate::open::{Place, explain_layout};

/// Stands for the id of a step that no image ends with.
const MISSING: &str = "<missing>";

/// The most characters of a command that are shown.
const MOST_OF_COMMAND: usize = 45;

pub(crate) fn history(place: &Place, args: &args::History) -> Result<ExitCode> {
    let store = place.store()?;
    let (named, image) = store.image(&args.image).map_err(explain_layout)?;
    let now = Timestamp::from(SystemTime::now()).unix_seconds();
    let id = image.manifest.config.digest;
    let is_json = args.format.as_deref().map(str::trim) == Some("json");
    let mut rows: Vec<Value> = Vec::new();
    for (at, (step, size)) in hoy_storage::history(&image).into_iter().enumerate() {
        let by = step.created_by.unwrap_or_default();
        let ago = step.created.map_or(NONE.to_owned(), |created| human::ago(created.unix_seconds(), now));
        if is_json {
            let tags: Option<Vec<&String>> = (at == 0).then(|| named.name.iter().collect());
            let mut row = json!({
                "id": if at == 0 { id.hex() } else { MISSING.to_owned() },
                "created": step.created, "CreatedBy": by, "size": size, "Created": step.created,
                "comment": step.comment, "tags": tags,
            });
            if let Value::Object(fields) = &mut row {
                fields.retain(|_, value| !value.is_null());
            }
            rows.push(row);
            continue;
        }
        let full = step.created.map_or(String::new(), |created| created.to_string());
        let short: String = id.hex().chars().take(12).collect();
        rows.push(json!({
            "ID": match (at, args.no_trunc) {
                (0, true) => id.hex(),
                (0, false) => short,
                _ => MISSING.to_owned(),
            },
            "Created": if args.human { ago.clone() } else { full },
            "CreatedSince": ago,
            "CreatedAt": step.created.map_or(String::new(), |created| moment(&created)),
            "CreatedBy": shorten(&by, if args.no_trunc { usize::MAX } else { MOST_OF_COMMAND }),
            "Size": if args.human { human::size(size) } else { size.to_string() },
            "Comment": step.comment.unwrap_or_default(),
            "Tags": if at == 0 { named.name.iter().cloned().collect() } else { Vec::new() },
        }));
    }
    if args.quiet {
        for row in &rows {
            print_line(row.get("ID").and_then(Value::as_str).unwrap_or_default())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let columns =
        [("ID", "ID"), ("Created", "CREATED"), ("CreatedBy", "CREATED BY"), ("Size", "SIZE"), ("Comment", "COMMENT")];
    Stdout::new().write_all(table::list(args.format.as_deref(), false, &columns, &rows)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn shorten(text: &str, most: usize) -> String {
    match text.chars().count() <= most {
        true => text.to_owned(),
        false => text.chars().take(most - 3).chain("...".chars()).collect(),
    }
}
