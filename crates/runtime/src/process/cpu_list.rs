//! Lists of numbers as the kernel writes them, `0-3,7`: processors and memory nodes (cpuset(7) "List format").

use crate::{Error, Result};

/// The largest number in a list: what the kernel's largest configuration has.
const MAX: usize = 8191;

/// Parses the list `text` of the field `field`.
///
/// # Errors
/// [`Error::Invalid`], naming the field, for anything else, an empty list included.
pub(crate) fn parse(field: &str, text: &str) -> Result<Vec<usize>> {
    let invalid = || Error::Invalid(format!("{field} \"{text}\" is not a list of numbers and ranges like \"0-3,7\""));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<usize>().ok().filter(|n| digits && *n <= MAX).ok_or_else(invalid)
    };
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(invalid());
        }
        numbers.extend(first..=last);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let cases: &[(&str, Option<&[usize]>)] = &[
            ("0", Some(&[0])),
            ("0-3,7", Some(&[0, 1, 2, 3, 7])),
            ("5,1", Some(&[5, 1])),
            ("", None),
            ("3-1", None),
            ("1,", None),
            ("-1", None),
            ("+1", None),
            ("1-", None),
            ("0-99999999999999999999", None),
            ("0-9999", None),
            ("0x1", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse("f", text).ok().as_deref(), *want, "{text:?}");
        }
        assert!(parse("linux.memoryPolicy.nodes", "x").unwrap_err().to_string().contains("linux.memoryPolicy.nodes"));
    }
}
