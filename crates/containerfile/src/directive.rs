//! Parser directives: `# syntax=`, `# escape=`, `# check=` (reference "Parser directives").

use crate::error::{Error, Fault};
use crate::source::Word;

/// A directive at the head of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// `syntax`, `escape` or `check`, in lower case.
    pub name: String,
    /// What stands behind the `=`.
    pub value: Word,
}

/// Reads directives until the first line that is none.
#[derive(Debug, Default)]
pub(crate) struct Directives {
    pub(crate) seen: Vec<Directive>,
    is_done: bool,
    /// The document begins with a `#!` line: below it, as in BuildKit, all but `escape` may stand.
    is_program: bool,
}

impl Directives {
    /// Whether the line, its leading white space taken off, is a directive; `offset` is where it stands.
    pub(crate) fn read(&mut self, line: &str, offset: usize) -> Result<bool, Fault> {
        if !self.is_done && self.seen.is_empty() && !self.is_program && line.starts_with("#!") {
            self.is_program = true;
            return Ok(false);
        }
        let found = if self.is_done { None } else { line.strip_prefix('#').and_then(split) };
        let Some((name, value)) = found else {
            self.is_done = true;
            return Ok(false);
        };
        let start = offset + line.rfind(value).unwrap_or_default();
        let span = crate::Span { start, end: start + value.len() };
        if self.seen.iter().any(|directive| directive.name == name) {
            return Err(Fault::at(span, Error::DirectiveTwice(name)));
        }
        if name == "escape" && !matches!(value, "\\" | "`") {
            return Err(Fault::at(span, Error::EscapeToken(value.to_owned())));
        }
        self.seen.push(Directive { name, value: Word { text: value.to_owned(), span } });
        Ok(true)
    }

    pub(crate) fn escape(&self) -> char {
        let escape = self.seen.iter().find(|directive| directive.name == "escape" && !self.is_program);
        escape.and_then(|directive| directive.value.text.chars().next()).unwrap_or('\\')
    }
}

/// Name and value of a comment's text that is a known directive.
pub(crate) fn split(comment: &str) -> Option<(String, &str)> {
    let (name, value) = comment.trim_start().split_once('=')?;
    let (name, value) = (name.trim_end().to_ascii_lowercase(), value.trim());
    (matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty()).then_some((name, value))
}
