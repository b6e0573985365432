//! Flags of an instruction: `--name=value`, by a table of what the instruction has.

use crate::error::{Error, Fault};
use crate::source::{Span, Word};
use crate::statement::Statement;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Takes {
    Bool,
    One,
    Many,
}

/// The flags of one statement, checked against its table.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    given: Vec<(String, Word)>,
}

impl Flags {
    /// The `usage` is said along when a flag is none of the table, or has no value.
    pub(crate) fn read(statement: &Statement, table: &[(&str, Takes)], usage: &'static str) -> Result<Self, Fault> {
        let mut flags = Self::default();
        for word in &statement.flags {
            let body = word.text.strip_prefix("--").unwrap_or(&word.text);
            let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
            let Some((_, takes)) = table.iter().find(|(known, _)| *known == name) else {
                let unknown = Fault::at(word.span, Error::UnknownFlag(name.to_owned(), usage));
                return Err(unknown.near(name, table.iter().map(|(known, _)| *known)));
            };
            if *takes != Takes::Many && flags.word(name).is_some() {
                return Err(Fault::at(word.span, Error::DuplicateFlag(name.to_owned())));
            }
            let value = match (takes, value) {
                (Takes::Bool, None) => "true",
                (Takes::One | Takes::Many, None) | (Takes::Bool, Some("")) => {
                    return Err(Fault::at(word.span, Error::FlagValue(name.to_owned(), usage)));
                }
                (Takes::Bool, Some(value)) if !is_boolean(value) => {
                    return Err(Fault::at(word.span, Error::FlagBoolean(name.to_owned(), value.to_owned())));
                }
                (_, Some(value)) => value,
            };
            let start = (word.span.start + name.len() + 3).min(word.span.end);
            let span = Span { start, end: word.span.end };
            flags.given.push((name.to_owned(), Word { text: value.to_owned(), span }));
        }
        Ok(flags)
    }

    /// The value of a flag.
    pub(crate) fn word(&self, name: &str) -> Option<&Word> {
        self.given.iter().find(|(given, _)| given == name).map(|(_, word)| word)
    }

    /// All values of a flag.
    pub(crate) fn words(&self, name: &str) -> Vec<Word> {
        self.given.iter().filter(|(given, _)| given == name).map(|(_, word)| word.clone()).collect()
    }

    /// The value of a flag that is true or false.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        self.word(name).map(|word| word.text.eq_ignore_ascii_case("true"))
    }
}

fn is_boolean(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
}
