//! Go's printf and the default form of values.

use serde_json::{Map, Value};

/// An object with this field alone is a duration, which is printed as Go's `time.Duration`; the field has its nanoseconds.
const DURATION: &str = "time.Duration";

/// The nanoseconds of a duration.
fn nanoseconds(value: &Value) -> Option<&Value> {
    value.as_object().filter(|fields| fields.len() == 1)?.get(DURATION)
}

/// A duration as Go prints it: `1h0m0s`, `1m30s`, `500ms`.
fn go_duration(nanoseconds: u64) -> String {
    let of = |unit: u64| nanoseconds as f64 / unit as f64;
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}µs", of(1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", of(1_000_000)),
        _ => {
            let minutes = nanoseconds / 60_000_000_000;
            let seconds = (nanoseconds % 60_000_000_000) as f64 / 1e9;
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// A value as `%v` and a plain action print it.
pub(super) fn text(value: &Value) -> String {
    if let Some(nanoseconds) = nanoseconds(value).and_then(Value::as_u64) {
        return go_duration(nanoseconds);
    }
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Object(items) => {
            // What is empty in another is a structure without fields.
            let inner = |value: &Value| if *value == Value::Object(Map::new()) { "{}".to_owned() } else { text(value) };
            let pairs: Vec<String> = items.iter().map(|(key, value)| format!("{key}:{}", inner(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The part of a verb between `%` and its letter.
#[derive(Default)]
struct Flags {
    left: bool,
    zero: bool,
    plus: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

/// The widest field that is filled up: what a terminal or file still bears.
const MAX_WIDTH: usize = 4096;

pub(super) fn printf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let flags = flags(&mut chars);
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match values.next() {
            Some(value) => out.push_str(&filled(&one(verb, &flags, value), &flags, value)),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    let extra: Vec<String> = values.map(|v| format!("{}={}", kind(v), text(v))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn flags(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Flags {
    let mut flags = Flags::default();
    while let Some(c) = chars.next_if(|c| "-0+# ".contains(*c)) {
        match c {
            '-' => flags.left = true,
            '0' => flags.zero = true,
            '+' => flags.plus = true,
            '#' => flags.sharp = true,
            _ => {}
        }
    }
    flags.width = number(chars);
    if chars.next_if_eq(&'.').is_some() {
        flags.precision = Some(number(chars));
    }
    flags
}

fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut found = 0_usize;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        found = found.saturating_mul(10).saturating_add(digit as usize).min(MAX_WIDTH);
        chars.next();
    }
    found
}

fn one(verb: char, flags: &Flags, value: &Value) -> String {
    let cut = |s: String| flags.precision.map_or(s.clone(), |n| s.chars().take(n).collect());
    // As a number a duration is so many nanoseconds.
    let value = nanoseconds(value).filter(|_| !matches!(verb, 'v' | 's' | 'q' | 'T')).unwrap_or(value);
    let integer = value.as_i64();
    let prefix = |sharp: &'static str| if flags.sharp { sharp } else { "" };
    match (verb, value) {
        ('v', _) => text(value),
        ('s', Value::Number(_) | Value::Bool(_)) => wrong(verb, value),
        ('s', _) => cut(text(value)),
        ('q', Value::String(s)) => Value::String(s.clone()).to_string(),
        ('q', Value::Array(items)) => {
            format!("[{}]", items.iter().map(|item| one('q', flags, item)).collect::<Vec<_>>().join(" "))
        }
        ('q', Value::Object(items)) => {
            let quoted = |text: &str| Value::from(text).to_string();
            let pairs = items.iter().map(|(key, value)| format!("{}:{}", quoted(key), one('q', flags, value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        ('t', Value::Bool(b)) => b.to_string(),
        ('x', Value::String(s)) => s.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Value::String(s)) => s.bytes().map(|b| format!("{b:02X}")).collect(),
        ('f' | 'F' | 'e' | 'g', Value::Number(n)) => {
            let number = n.as_f64().unwrap_or_default();
            match (verb, flags.precision) {
                ('g', None) => number.to_string(),
                ('e', precision) => format!("{number:.*e}", precision.unwrap_or(6)),
                (_, precision) => format!("{number:.*}", precision.unwrap_or(6)),
            }
        }
        ('T', _) => kind(value).to_owned(),
        _ => match (verb, integer) {
            ('d', Some(n)) if flags.plus && n >= 0 => format!("+{n}"),
            ('d', Some(n)) => n.to_string(),
            ('x', Some(n)) => format!("{}{n:x}", prefix("0x")),
            ('X', Some(n)) => format!("{}{n:X}", prefix("0X")),
            ('o', Some(n)) => format!("{}{n:o}", prefix("0")),
            ('b', Some(n)) => format!("{n:b}"),
            ('c', Some(n)) => u32::try_from(n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string(),
            _ => wrong(verb, value),
        },
    }
}

fn wrong(verb: char, value: &Value) -> String {
    format!("%!{verb}({}={})", kind(value), text(value))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Fills `shown` up to the wanted width.
fn filled(shown: &str, flags: &Flags, value: &Value) -> String {
    let missing = flags.width.saturating_sub(shown.chars().count());
    match (flags.left, flags.zero && value.is_number(), shown.strip_prefix('-')) {
        (true, ..) => format!("{shown}{}", " ".repeat(missing)),
        (false, true, Some(digits)) => format!("-{}{digits}", "0".repeat(missing)),
        (false, true, None) => format!("{}{shown}", "0".repeat(missing)),
        (false, false, _) => format!("{}{shown}", " ".repeat(missing)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations() {
        for (nanoseconds, want) in [
            (0_u64, "0s"),
            (5_000_000_000, "5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000_000, "1.5s"),
            (500_000_000, "500ms"),
            (1_500, "1.5µs"),
        ] {
            let value = json!({ DURATION: nanoseconds });
            assert_eq!(text(&value), want);
            assert_eq!(
                printf("%v %s %d", &[value.clone(), value.clone(), value]),
                format!("{want} {want} {nanoseconds}")
            );
        }
        assert_eq!(text(&json!([{ DURATION: 1000 }])), "[1µs]");
    }
}
