//! A document as statements: the layer between lines and instructions.

use crate::directive::{Directive, Directives};
use crate::error::{Error, Fault};
use crate::heredoc::{self, Heredoc};
use crate::json::{self, Array};
use crate::source::{Line, Span, Word};
use crate::words;

/// What follows an instruction's keyword and flags, by the rules of that instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Args {
    /// The shell form, or any text taken whole.
    Text(Word),
    /// The exec form.
    Json(Vec<Word>),
    /// Words between blanks.
    Words(Vec<Word>),
    /// Names and values; whether a `=` stands between them.
    Pairs(Vec<(Word, Word, bool)>),
    /// HEALTHCHECK's kind and what follows it.
    Health(Word, Option<Box<Args>>),
    /// ONBUILD's instruction.
    Trigger(Box<Statement>),
}

/// One instruction as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The first word.
    pub keyword: Word,
    /// The words behind it that start with `--`.
    pub flags: Vec<Word>,
    /// The rest; `None` where there is none.
    pub args: Option<Args>,
    /// Here-documents that the line opens.
    pub heredocs: Vec<Heredoc>,
    /// The joined line, trimmed, for a history and for people.
    pub text: String,
    /// The bytes of the line, its continuations and here-documents.
    pub span: Span,
    /// Comment lines directly above, `#` taken off; an empty comment starts anew.
    pub comments: Vec<String>,
    /// An empty line within a continuation.
    pub empty_continuation: Option<Span>,
}

/// What a document says before it is understood.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    pub(crate) directives: Vec<Directive>,
    pub(crate) escape: char,
    pub(crate) statements: Vec<Statement>,
}

struct Physical<'a> {
    text: &'a str,
    offset: usize,
}

struct Lines<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lines<'a> {
    /// The next line with its end.
    fn next(&mut self) -> Result<Option<Physical<'a>>, Fault> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let Some(text) = rest.split_inclusive('\n').next() else { return Ok(None) };
        let offset = self.at;
        self.at += text.len();
        if text.trim_end_matches('\n').len() > crate::MAX_LINE {
            return Err(Fault::at(Span { start: offset, end: offset }, Error::LineTooLong));
        }
        Ok(Some(Physical { text, offset }))
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn without_end(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// The line without the escape character that continues it, and whether it is continued.
fn continued(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}

/// Reads a document.
pub(crate) fn read(text: &str) -> Result<Statements, Fault> {
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut lines = Lines { text, at: start };
    let mut directives = Directives::default();
    let (mut statements, mut comments) = (Vec::new(), Vec::<String>::new());
    while let Some(physical) = lines.next()? {
        let line = without_end(physical.text);
        let stripped = line.trim_start();
        let offset = physical.offset + line.len() - stripped.len();
        if is_comment(line) {
            let comment = stripped.strip_prefix('#').unwrap_or_default().trim();
            if directives.read(stripped, offset)? {
            } else if comment.is_empty() {
                comments.clear();
            } else {
                comments.push(comment.to_owned());
            }
            continue;
        }
        directives.read(stripped, offset)?;
        if stripped.is_empty() {
            continue;
        }
        let escape = directives.escape();
        let (joined, empty) = join(&mut lines, stripped, offset, escape)?;
        let mut statement = parse(&joined, 0, joined.text.len(), escape)?;
        statement.span = Span { start: offset, end: lines.at };
        statement.comments = std::mem::take(&mut comments);
        statement.empty_continuation = empty;
        read_heredocs(&mut lines, &mut statement)?;
        statements.push(statement);
    }
    if statements.is_empty() {
        return Err(Fault::at(Span { start: 0, end: 0 }, Error::Empty));
    }
    let escape = directives.escape();
    Ok(Statements { directives: directives.seen, escape, statements })
}

/// Joins a line with its continuations: comments fall out, empty lines too, but are told, at the last line.
fn join(lines: &mut Lines, first: &str, offset: usize, escape: char) -> Result<(Line, Option<Span>), Fault> {
    let (mut joined, mut has_empty, mut last) = (Line::default(), false, offset);
    let (piece, mut is_open) = continued(first, escape);
    joined.push(piece, offset);
    while is_open {
        let Some(physical) = lines.next()? else { break };
        let line = without_end(physical.text);
        if is_comment(line) {
            continue;
        }
        if line.trim_start().is_empty() {
            has_empty = true;
            continue;
        }
        last = physical.offset;
        let (piece, more) = continued(line, escape);
        joined.push(piece, physical.offset);
        is_open = more;
    }
    Ok((joined, has_empty.then_some(Span { start: last, end: last })))
}

/// Reads the lines of the here-documents that a RUN, COPY or ADD opens.
fn read_heredocs(lines: &mut Lines, statement: &mut Statement) -> Result<(), Fault> {
    let inner = match &statement.args {
        Some(Args::Trigger(inner)) => inner,
        _ => &*statement,
    };
    let may_hold = matches!(inner.keyword.text.to_ascii_lowercase().as_str(), "run" | "copy" | "add")
        && !matches!(inner.args, Some(Args::Json(_)));
    if !may_hold || !statement.text.contains("<<") {
        return Ok(());
    }
    let head = Span { start: statement.span.start, end: statement.span.end };
    for mut heredoc in heredoc::opened(&statement.text, head)? {
        heredoc.span.start = lines.at;
        loop {
            heredoc.span.end = lines.at;
            let Some(physical) = lines.next()? else {
                return Err(Fault::at(head, Error::UnterminatedHeredoc(heredoc.name)));
            };
            let line = without_end(physical.text);
            let line = if heredoc.is_chomped { line.trim_start_matches('\t') } else { line };
            if line == heredoc.name {
                break;
            }
            heredoc.content.push_str(physical.text);
        }
        statement.heredocs.push(heredoc);
    }
    statement.span.end = lines.at;
    Ok(())
}

/// Reads one joined line, or the part of one behind ONBUILD.
fn parse(line: &Line, start: usize, end: usize, escape: char) -> Result<Statement, Fault> {
    let (start, end) = words::trim(line, start, end);
    let (keyword, rest) = words::first(line, start, end);
    let (flags, rest) = words::flags(line, rest, end, escape);
    let (from, to) = words::trim(line, rest, end);
    Ok(Statement {
        args: args(line, &keyword, from, to, escape)?,
        keyword,
        flags,
        heredocs: Vec::new(),
        text: line.text.get(start..end).unwrap_or_default().to_owned(),
        span: line.span(start, end),
        comments: Vec::new(),
        empty_continuation: None,
    })
}

fn args(line: &Line, keyword: &Word, from: usize, to: usize, escape: char) -> Result<Option<Args>, Fault> {
    if from >= to {
        return Ok(None);
    }
    let args = match keyword.text.to_ascii_lowercase().as_str() {
        "add" | "copy" | "volume" => {
            strings(line, from, to)?.unwrap_or_else(|| Args::Words(words::blank_separated(line, from, to)))
        }
        "cmd" | "entrypoint" | "run" | "shell" => shell_or_exec(line, from, to)?,
        "expose" | "from" => Args::Words(words::blank_separated(line, from, to)),
        "arg" => Args::Words(words::quoted(line, from, to, escape)),
        "env" => Args::Pairs(pairs(line, from, to, escape, "ENV")?),
        "label" => Args::Pairs(pairs(line, from, to, escape, "LABEL")?),
        "maintainer" | "stopsignal" | "user" | "workdir" => Args::Text(line.word(from, to)),
        "healthcheck" => {
            let text = line.text.get(from..to).unwrap_or_default();
            let stop = from + text.find(char::is_whitespace).unwrap_or(text.len());
            let (next, _) = words::trim(line, stop, to);
            let command = if next < to { Some(Box::new(shell_or_exec(line, next, to)?)) } else { None };
            Args::Health(line.word(from, stop), command)
        }
        "onbuild" => {
            // One level is all that can be right; deeper ones need no tree.
            let (inner, _) = words::first(line, from, to);
            if inner.text.eq_ignore_ascii_case("onbuild") {
                return Err(Fault::at(inner.span, Error::OnbuildChain));
            }
            Args::Trigger(Box::new(parse(line, from, to, escape)?))
        }
        _ => return Ok(None),
    };
    Ok(Some(args))
}

fn strings(line: &Line, from: usize, to: usize) -> Result<Option<Args>, Fault> {
    match json::array(line, from, to) {
        Array::Strings(words) => Ok(Some(Args::Json(words))),
        Array::Other => Err(Fault::at(line.span(from, to), Error::JsonStrings)),
        Array::No => Ok(None),
    }
}

fn shell_or_exec(line: &Line, from: usize, to: usize) -> Result<Args, Fault> {
    Ok(strings(line, from, to)?.unwrap_or_else(|| Args::Text(line.word(from, to))))
}

/// `name=value…`, or the old `name value`.
fn pairs(
    line: &Line,
    from: usize,
    to: usize,
    escape: char,
    name: &'static str,
) -> Result<Vec<(Word, Word, bool)>, Fault> {
    let found = words::quoted(line, from, to, escape);
    if found.first().is_some_and(|word| !word.text.contains('=')) {
        let (key, rest) = words::first(line, from, to);
        if rest >= to {
            return Err(Fault::at(key.span, Error::TwoArguments(name)));
        }
        return Ok(vec![(key, line.word(rest, to), false)]);
    }
    let split = found.into_iter().map(|word| match word.text.split_once('=') {
        Some((key, value)) => {
            let middle = word.span.start + key.len();
            let key =
                Word { text: key.to_owned(), span: Span { start: word.span.start, end: middle.min(word.span.end) } };
            let start = (middle + 1).min(word.span.end);
            Ok((key, Word { text: value.to_owned(), span: Span { start, end: word.span.end } }, true))
        }
        None => Err(Fault::at(word.span, Error::NoEquals(word.text))),
    });
    split.collect()
}
