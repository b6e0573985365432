//! Lists: aligned tables, JSON, and Go templates, chosen by `--format`.

use serde_json::{Map, Value};

use crate::template::Template;
use crate::{Error, Result};

/// The narrowest column and the space between two, as podman has them.
const MIN_WIDTH: usize = 12;
const PADDING: usize = 2;

/// The text of a list whose `rows` are JSON objects and whose `columns` are pairs of field and heading.
///
/// `format` is none for the aligned table of all columns; `json` for an array; `table TEMPLATE` for an aligned table of
/// what the template has between tabs; else a template that makes one line of each row. Every line ends with a newline.
///
/// # Errors
/// A wrong template, or one that asks for a field that a row has not.
pub fn list(format: Option<&str>, noheading: bool, columns: &[(&str, &str)], rows: &[Value]) -> Result<String> {
    let format = format.map(str::trim).filter(|format| !format.is_empty() && *format != "table");
    match format {
        None => {
            let heading: Vec<String> = columns.iter().map(|(_, heading)| (*heading).to_owned()).collect();
            let cells = |row: &Value| columns.iter().map(|(field, _)| cell(row.get(field))).collect();
            let heading = (!noheading).then_some(heading);
            Ok(aligned(heading.into_iter().chain(rows.iter().map(cells)).collect()))
        }
        Some("json") => Ok(json(&Value::from(rows))? + "\n"),
        Some(format) => match format.strip_prefix("table ") {
            Some(text) => {
                let template = Template::parse(text.trim_start())?;
                let heading = (!noheading).then(|| headings(&template, columns));
                let lines: Result<Vec<String>> = heading.iter().chain(rows).map(|row| template.render(row)).collect();
                Ok(aligned(lines?.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect()))
            }
            None => {
                let template = Template::parse(format)?;
                let mut out = String::new();
                for row in rows {
                    out.push_str(&template.render(row)?);
                    out.push('\n');
                }
                Ok(out)
            }
        },
    }
}

/// `value` as JSON for people, indented by four spaces, with no newline at its end.
///
/// # Errors
/// None that a JSON value can cause.
pub fn json(value: &Value) -> Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer)?;
    String::from_utf8(bytes).map_err(Error::from)
}

/// Lines of cells, each column as wide as its widest cell; the last cell of a line is not filled up.
pub fn aligned(lines: Vec<Vec<String>>) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            let width = (cell.chars().count() + PADDING).max(MIN_WIDTH);
            match widths.get_mut(column) {
                Some(known) => *known = (*known).max(width),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for line in &lines {
        let last = line.len().saturating_sub(1);
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            out.push_str(cell);
            if column != last {
                out.push_str(&" ".repeat(width.saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    out
}

/// A field in a table of columns; nothing where there is none.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(", "),
        Some(other) => other.to_string(),
    }
}

/// A row whose fields are their own headings.
fn headings(template: &Template, columns: &[(&str, &str)]) -> Value {
    let mut row = Map::new();
    for path in template.fields() {
        let known = columns.iter().find(|(field, _)| path.len() == 1 && path.first().is_some_and(|p| p == field));
        let heading = known.map_or_else(|| path.last().map(|f| derived(f)).unwrap_or_default(), |c| c.1.to_owned());
        let Some((leaf, parents)) = path.split_last() else { continue };
        let mut at = &mut row;
        for parent in parents {
            let entry = at.entry(parent.clone()).or_insert_with(|| Value::Object(Map::new()));
            if !entry.is_object() {
                *entry = Value::Object(Map::new());
            }
            match entry {
                Value::Object(inner) => at = inner,
                _ => return Value::Object(Map::new()),
            }
        }
        at.entry(leaf.clone()).or_insert(Value::String(heading));
    }
    Value::Object(row)
}

/// `ContainerID` → `CONTAINER ID`.
fn derived(field: &str) -> String {
    let mut out = String::new();
    let mut previous_is_lower = false;
    for c in field.chars() {
        if c.is_uppercase() && previous_is_lower {
            out.push(' ');
        }
        previous_is_lower = c.is_lowercase() || c.is_ascii_digit();
        out.extend(c.to_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: &[(&str, &str)] = &[("Repository", "REPOSITORY"), ("ID", "IMAGE ID")];

    #[test]
    fn forms() {
        let rows = [
            json!({"Repository": "localhost/app", "ID": "0123", "Labels": {"a": "b"}, "CreatedAt": "x"}),
            json!({"Repository": "b", "ID": "45", "Labels": {"a": "c"}, "CreatedAt": "y"}),
        ];
        let of = |format: Option<&str>, noheading| list(format, noheading, COLUMNS, &rows).unwrap();
        assert_eq!(of(None, false), "REPOSITORY     IMAGE ID\nlocalhost/app  0123\nb              45\n");
        assert_eq!(of(None, true), "localhost/app  0123\nb              45\n");
        assert_eq!(of(Some("{{.ID}}"), false), "0123\n45\n");
        assert_eq!(
            of(Some("table {{.ID}}\\t{{.CreatedAt}}"), false),
            "IMAGE ID    CREATED AT\n0123        x\n45          y\n"
        );
        assert_eq!(of(Some("table {{.Labels.a}} {{.ID}}"), true), "b 0123\nc 45\n");
        assert_eq!(of(Some("table {{.Labels.a}}"), false), "A\nb\nc\n");
        assert!(of(Some("json"), false).starts_with("[\n    {\n        \"CreatedAt\": \"x\","));
        assert_eq!(list(Some("json"), false, COLUMNS, &[]).unwrap(), "[]\n");
        assert!(list(Some("{{.Nope}}"), false, COLUMNS, &rows).unwrap_err().to_string().contains("\"Nope\""));
    }
}
