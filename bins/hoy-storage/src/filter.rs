//! `--filter` of commands about images.

use std::time::SystemTime;

use hoy_cli::{Error, Result};
use hoy_oci::Timestamp;
use hoy_storage::ImageFilter;

use crate::words::moment;

/// A wrong use of the option, with what would be right.
pub(crate) fn wrong(text: &str, remedy: &str) -> Error {
    Error::msg(format!("option --filter: \"{text}\" {remedy}")).with_code(2)
}

/// `KEY` and `VALUE`, and whether `!=` is between them.
pub(crate) fn split(text: &str) -> Result<(&str, &str, bool)> {
    let (key, value) = text.split_once('=').ok_or_else(|| wrong(text, "is not KEY=VALUE"))?;
    match key.strip_suffix('!') {
        Some(key) => Ok((key, value, true)),
        None => Ok((key, value, false)),
    }
}

/// `KEY` or `KEY=VALUE` of a label.
pub(crate) fn label(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

/// The moment that a filter's value means.
pub(crate) fn time(text: &str, value: &str) -> Result<Timestamp> {
    let now = Timestamp::from(SystemTime::now());
    moment(value, now).ok_or_else(|| wrong(text, "has no time, as 24h, 2024-01-31 or 2024-01-31T12:00:00Z"))
}

/// The filters of `prune`.
pub(crate) fn of_images(texts: &[String]) -> Result<ImageFilter> {
    let mut filter = ImageFilter::default();
    for text in texts {
        match split(text)? {
            ("label", value, false) => filter.labels.push(label(value)),
            ("label", value, true) => filter.without_labels.push(label(value)),
            ("until", value, false) => filter.until = Some(time(text, value)?),
            _ => return Err(wrong(text, "is none of until=TIME, label=KEY[=VALUE] and label!=KEY[=VALUE]")),
        }
    }
    Ok(filter)
}
