//! Annotations `org.systemd.property.NAME`: properties of the unit that the user gives (GVariant text format).

use crate::dbus::Value;
use crate::{Error, Result};

/// The part of an annotation's name before the property's.
pub(crate) const PREFIX: &str = "org.systemd.property.";

/// The property that the annotation `name` with `text` gives. `NameSec` in seconds becomes `NameUSec` in microseconds, as
/// systemd has it.
///
/// # Errors
/// [`Error::Systemd`] for a name or a value that is none, or of a type that units do not have.
pub(crate) fn parse(name: &str, text: &str) -> Result<(String, Value)> {
    let wrong =
        |reason: &str| Error::Systemd { doing: format!("set \"{name}\" to \"{text}\""), reason: reason.to_owned() };
    if name.len() < 4 || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(wrong("it is not the name of a property"));
    }
    let reason = "its value is none of a boolean, a number (\"uint64 5\"), 'text' and ['text', …]";
    let value = value(text.trim()).ok_or_else(|| wrong(reason))?;
    let Some(stem) = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) else {
        return Ok((name.to_owned(), value));
    };
    let seconds = match value {
        Value::Byte(n) => f64::from(n),
        Value::U16(n) => f64::from(n),
        Value::I16(n) => f64::from(n),
        Value::U32(n) => f64::from(n),
        Value::I32(n) => f64::from(n),
        Value::U64(n) => n as f64,
        Value::I64(n) => n as f64,
        Value::Double(n) => n,
        _ => return Err(wrong("a number of seconds is needed")),
    };
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(wrong("a number of seconds is needed"));
    }
    Ok((format!("{stem}USec"), Value::U64((seconds * 1e6) as u64)))
}

fn value(text: &str) -> Option<Value> {
    if let Some((kind, number)) = text.split_once(' ').filter(|(kind, _)| !kind.starts_with(['[', '\'', '"', '@'])) {
        let number = number.trim();
        return match kind {
            "byte" => number.parse().ok().map(Value::Byte),
            "int16" => number.parse().ok().map(Value::I16),
            "uint16" => number.parse().ok().map(Value::U16),
            "int32" => number.parse().ok().map(Value::I32),
            "uint32" => number.parse().ok().map(Value::U32),
            "int64" => number.parse().ok().map(Value::I64),
            "uint64" => number.parse().ok().map(Value::U64),
            "double" => number.parse().ok().map(Value::Double),
            "boolean" => number.parse().ok().map(Value::Bool),
            "string" => whole_quoted(number).map(Value::Text),
            _ => None,
        };
    }
    match text {
        "true" | "false" => return Some(Value::Bool(text == "true")),
        "@as []" => return Some(Value::Texts(Vec::new())),
        _ => {}
    }
    if let Some(list) = text.strip_prefix("@as ").unwrap_or(text).strip_prefix('[') {
        return texts(list.strip_suffix(']')?);
    }
    if let Some(text) = whole_quoted(text) {
        return Some(Value::Text(text));
    }
    text.parse().map(Value::I32).or_else(|_| text.parse().map(Value::Double)).ok()
}

fn texts(mut list: &str) -> Option<Value> {
    let mut out = Vec::new();
    loop {
        let (text, rest) = quoted(list.trim_start())?;
        out.push(text);
        list = rest.trim_start();
        if list.is_empty() {
            return Some(Value::Texts(out));
        }
        list = list.strip_prefix(',')?;
    }
}

fn whole_quoted(text: &str) -> Option<String> {
    quoted(text).filter(|(_, rest)| rest.is_empty()).map(|(text, _)| text)
}

/// A string in quotes of either kind, and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => out.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            c if c == quote => return Some((out, text.get(at + 1..)?)),
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let texts = |list: &[&str]| Value::Texts(list.iter().map(|text| (*text).to_owned()).collect());
        let cases = [
            ("TimeoutStopUSec", "uint64 5", Some(("TimeoutStopUSec", Value::U64(5)))),
            ("TimeoutStopSec", "1.5", Some(("TimeoutStopUSec", Value::U64(1_500_000)))),
            ("TimeoutStopSec", "uint32 2", Some(("TimeoutStopUSec", Value::U64(2_000_000)))),
            ("CollectMode", "'inactive'", Some(("CollectMode", Value::Text("inactive".to_owned())))),
            ("Description", "\"a \\\"b\\\"\"", Some(("Description", Value::Text("a \"b\"".to_owned())))),
            ("SendSIGHUP", "true", Some(("SendSIGHUP", Value::Bool(true)))),
            ("Nice", "-5", Some(("Nice", Value::I32(-5)))),
            ("Wants", "['a.service', \"b.service\"]", Some(("Wants", texts(&["a.service", "b.service"])))),
            ("Wants", "@as []", Some(("Wants", texts(&[])))),
            ("Wants", "['a'", None),
            ("Wants", "[a]", None),
            ("Nice", "", None),
            ("Nice", "uint32 -1", None),
            ("TimeoutStopSec", "'5'", None),
            ("TimeoutStopSec", "-5", None),
            ("A b c", "1", None),
            ("x", "1", None),
        ];
        for (name, text, want) in cases {
            let found = parse(name, text).ok();
            assert_eq!(found, want.map(|(name, value)| (name.to_owned(), value)), "{name} {text}");
        }
    }
}
