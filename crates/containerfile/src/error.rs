//! What can be wrong with a Containerfile, and where.

use crate::source::{Place, Span};

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The document has more bytes than [`crate::MAX_DOCUMENT`].
    #[error("read a document of more than {} bytes", crate::MAX_DOCUMENT)]
    DocumentTooLong,
    /// A line has more bytes than [`crate::MAX_LINE`].
    #[error("read a line of more than {} bytes", crate::MAX_LINE)]
    LineTooLong,
    /// Bytes outside a comment that are not UTF-8.
    #[error("read text that is not UTF-8")]
    NotUtf8,
    /// No instruction at all.
    #[error("file with no instructions")]
    Empty,
    /// A parser directive given twice.
    #[error("only one {0} parser directive can be used")]
    DirectiveTwice(String),
    /// `escape` is neither backslash nor backtick.
    #[error("invalid ESCAPE token {0:?}: it is \\ or `")]
    EscapeToken(String),
    /// A `check` directive that says nothing known.
    #[error("invalid check option {0:?}")]
    CheckOption(String),
    /// A here-document whose last line never comes.
    #[error("unterminated heredoc {0:?}")]
    UnterminatedHeredoc(String),
    /// A word that starts with `<<` and has a quote left open.
    #[error("invalid heredoc {0:?}")]
    Heredoc(String),
    /// The first word is no instruction.
    #[error("unknown instruction: {0}")]
    UnknownInstruction(String),
    /// A JSON array with something else than strings.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonStrings,
    /// `ENV name` with no value.
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    /// A word without `=` among pairs.
    #[error("can't find = in {0:?}: must be of the form name=value")]
    NoEquals(String),
    /// A pair with no name.
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    /// An instruction with nothing behind it.
    #[error("{0} requires at least one argument")]
    AtLeastOne(&'static str),
    /// An instruction with no or several words where one is due.
    #[error("{0} requires exactly one argument")]
    ExactlyOne(&'static str),
    /// COPY or ADD with one word.
    #[error("{0} requires at least two arguments, but only one was provided: destination could not be determined")]
    NoDestination(&'static str),
    /// COPY or ADD into a heredoc.
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    /// FROM with two or more than three words.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// A stage name with symbols or a leading digit.
    #[error("invalid name for build stage: {0:?}, name can't start with a number or contain symbols")]
    StageName(String),
    /// SHELL whose argument is no JSON array.
    #[error("SHELL requires the arguments to be in JSON form")]
    ShellForm,
    /// VOLUME with an empty path.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// An instruction before the first FROM.
    #[error("no build stage in current context")]
    NoStage,
    /// ONBUILD ONBUILD.
    #[error("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    /// An instruction that ONBUILD cannot hold.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger(String),
    /// A flag that the instruction does not have, and what is said of those that it has.
    #[error("unknown flag: --{0}{1}")]
    UnknownFlag(String, &'static str),
    /// A flag given twice.
    #[error("duplicate flag specified: --{0}")]
    DuplicateFlag(String),
    /// A flag that needs a value, and the same.
    #[error("missing a value on flag: --{0}{1}")]
    FlagValue(String, &'static str),
    /// A flag that is true or false and nothing else.
    #[error("expecting boolean value for flag --{0}, not: {1}")]
    FlagBoolean(String, String),
    /// A value that an option cannot have.
    #[error("invalid value for {0}: {1}")]
    Value(String, String),
    /// An option that this kind of mount does not have.
    #[error("unexpected key {0:?} for mount type {1:?}")]
    MountKey(String, String),
    /// A mount that contradicts itself.
    #[error("invalid mount: {0}")]
    Mount(String),
    /// An option that needs a value.
    #[error("invalid field {0:?} must be a key=value pair")]
    Field(String),
    /// A variable where none can be.
    #[error("{0} doesn't support variable expansion, define a stage with FROM instead")]
    NoExpansion(&'static str),
    /// HEALTHCHECK of an unknown kind.
    #[error("unknown type {0:?} in HEALTHCHECK (try CMD)")]
    HealthType(String),
    /// HEALTHCHECK CMD with no command.
    #[error("missing command after HEALTHCHECK CMD")]
    HealthCommand,
    /// HEALTHCHECK NONE with words behind it.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthNone,
    /// A quote or a brace left open.
    #[error("syntax error: missing {0}")]
    Unclosed(char),
    /// `${}` with no name, or with an operator that does not exist.
    #[error("syntax error: bad substitution {0:?}")]
    Substitution(String),
    /// `${v?message}` of a variable that is not set.
    #[error("{0}: {1}")]
    Unset(String, String),
    /// More than [`crate::MAX_NESTING`] expansions in one another, or more than [`crate::MAX_EXPANSION`] bytes.
    #[error("expand a word beyond its limits")]
    ExpansionLimit,
    /// An expansion that has to yield something.
    #[error("{0} should not be blank")]
    Blank(String),
    /// A target or stage that does not exist.
    #[error("stage {0:?} could not be found")]
    UnknownStage(String),
    /// A stage that needs itself.
    #[error("circular dependency detected on stage: {0} ({1}{0}: no stage or image found with that name before it)")]
    Circular(String, &'static str),
    /// A stage that needs a later one.
    #[error("cannot copy from stage {0:?}, it needs to be defined before current stage")]
    LaterStage(String),
}

/// An error at its place, with the nearest word that would have been right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {error}{}", place.line, place.column, hint(nearest.as_deref()))]
pub struct Diagnostic {
    /// What is wrong.
    pub error: Error,
    /// Where it stands.
    pub place: Place,
    /// The word that was probably meant.
    pub nearest: Option<String>,
}

/// What a message ends with where a word is near another.
pub(crate) fn hint(nearest: Option<&str>) -> String {
    nearest.map(|word| format!(" (did you mean {word}?)")).unwrap_or_default()
}

impl Diagnostic {
    /// The lines that a person reads: [`Place::render`].
    #[must_use]
    pub fn render(&self, file: &str) -> String {
        self.place.render(file, &format!("{}{}", self.error, hint(self.nearest.as_deref())))
    }
}

/// An error that still needs its document to say where it is.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) error: Error,
    pub(crate) span: Span,
    pub(crate) nearest: Option<String>,
}

impl Fault {
    pub(crate) fn at(span: Span, error: Error) -> Self {
        Self { error, span, nearest: None }
    }

    pub(crate) fn near<'a>(mut self, word: &str, options: impl IntoIterator<Item = &'a str>) -> Self {
        self.nearest = nearest(word, options);
        self
    }

    pub(crate) fn locate(self, text: &str) -> Diagnostic {
        Diagnostic { error: self.error, place: Place::of(text, self.span), nearest: self.nearest }
    }
}

/// The option at an edit distance of less than 3, case aside; `None` if one is the word itself.
pub(crate) fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower = word.to_lowercase();
    if lower.len() > 64 {
        return None;
    }
    let near = options.into_iter().map(|option| (distance(&lower, &option.to_lowercase()), option));
    let best = near.filter(|(distance, _)| *distance < 3).min_by_key(|(distance, _)| *distance)?;
    (best.1 != word).then(|| best.1.to_owned())
}

/// Levenshtein's edit distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut last = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (above, d) in row.iter().skip(1).zip(&b) {
            left = (last + usize::from(c != *d)).min(above + 1).min(left + 1);
            last = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near() {
        for (word, options, want) in [
            ("FORM", &["FROM", "RUN"][..], Some("FROM")),
            ("biuld", &["base", "build"], Some("build")),
            ("abcdef", &["x"], None),
            ("RUN", &["RUN"], None),
        ] {
            assert_eq!(nearest(word, options.iter().copied()).as_deref(), want, "{word}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
