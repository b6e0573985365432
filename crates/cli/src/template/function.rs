//! What can be called in an action.

use std::cmp::Ordering;

use serde_json::Value;

use super::printf::{printf, text};

/// Go's truth: everything but false, 0, nil and the empty.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let misused = || format!("function {name:?} cannot be used with {}", Value::from(arguments));
    let found = match (name, arguments) {
        ("not", [value]) => Value::Bool(!is_true(value)),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => Value::Bool(rest.iter().any(|value| same(first, value))),
        ("ne", [a, b]) => Value::Bool(!same(a, b)),
        ("lt" | "le" | "gt" | "ge", [a, b]) => {
            let order = compare(a, b).ok_or_else(misused)?;
            Value::Bool(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
        ("len", [value]) => Value::from(length(value).ok_or_else(misused)?),
        ("index", [value, keys @ ..]) => index(value, keys)?,
        ("print", values) => Value::String(print(values)),
        ("println", values) => Value::String(values.iter().map(text).collect::<Vec<_>>().join(" ") + "\n"),
        ("printf", [Value::String(format), values @ ..]) => Value::String(printf(format, values)),
        ("json", [value]) => Value::String(value.to_string()),
        ("join", [Value::Array(items), Value::String(separator)]) => {
            Value::String(items.iter().map(text).collect::<Vec<_>>().join(separator))
        }
        ("join", [Value::Null, Value::String(_)]) => Value::String(String::new()),
        ("split", [Value::String(whole), Value::String(separator)]) => {
            Value::from(whole.split(separator.as_str()).map(str::to_owned).collect::<Vec<_>>())
        }
        ("lower", [value]) => Value::String(text(value).to_lowercase()),
        ("upper", [value]) => Value::String(text(value).to_uppercase()),
        ("title", [value]) => Value::String(title(&text(value))),
        ("truncate" | "truncn", [value, count]) => {
            let count = to_usize(count).ok_or_else(misused)?;
            Value::String(text(value).chars().take(count).collect())
        }
        ("pad", [value, before, after]) => {
            let (before, after) = to_usize(before).zip(to_usize(after)).ok_or_else(misused)?;
            Value::String(format!("{}{}{}", " ".repeat(before.min(4096)), text(value), " ".repeat(after.min(4096))))
        }
        ("slice", [value, bounds @ ..]) => slice(value, bounds).ok_or_else(misused)?,
        (
            "not" | "eq" | "ne" | "len" | "index" | "printf" | "json" | "join" | "split" | "lower" | "upper" | "title"
            | "truncate" | "truncn" | "pad" | "slice" | "lt" | "le" | "gt" | "ge",
            _,
        ) => return Err(misused()),
        _ => return Err(format!("there is no function {name:?}")),
    };
    Ok(found)
}

fn to_usize(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(s) => Some(s.len()),
        Value::Array(a) => Some(a.len()),
        Value::Object(o) => Some(o.len()),
        Value::Null => Some(0),
        _ => None,
    }
}

/// An element of a list must be there; a key of a map need not.
fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut at = value;
    for key in keys {
        at = match (at, key) {
            (Value::Array(items), key) => {
                let item = to_usize(key).and_then(|i| items.get(i));
                item.ok_or_else(|| format!("index {key} is out of range: there are {}", items.len()))?
            }
            (Value::Object(items), Value::String(key)) => match items.get(key) {
                Some(item) => item,
                None => return Ok(Value::String(String::new())),
            },
            (Value::Null, _) => return Ok(Value::String(String::new())),
            (other, key) => return Err(format!("cannot index {other} with {key}")),
        };
    }
    Ok(at.clone())
}

/// Go's Print: a space between two operands neither of which is a string.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    let mut previous_is_string = true;
    for value in values {
        if !previous_is_string && !value.is_string() {
            out.push(' ');
        }
        out.push_str(&text(value));
        previous_is_string = value.is_string();
    }
    out
}

fn title(words: &str) -> String {
    let mut start = true;
    let mut out = String::new();
    for c in words.chars() {
        if start {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        start = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

fn slice(value: &Value, bounds: &[Value]) -> Option<Value> {
    let bounds: Option<Vec<usize>> = bounds.iter().map(to_usize).collect();
    let end = length(value)?;
    let (from, to) = match bounds?.as_slice() {
        [] => (0, end),
        [from] => (*from, end),
        [from, to] => (*from, *to),
        _ => return None,
    };
    match value {
        Value::String(s) => s.get(from..to).map(|part| Value::String(part.to_owned())),
        Value::Array(a) => a.get(from..to).map(Value::from),
        _ => None,
    }
}
