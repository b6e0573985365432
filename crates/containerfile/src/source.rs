//! Where words stand: byte ranges of a document, and the places that a person reads.

/// A range of bytes of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

/// A word as written, quotes and escapes kept, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    /// The text; a word that goes over a continuation has none of the line break in it.
    pub text: String,
    /// The bytes it was read from.
    pub span: Span,
}

/// A span for people: what to print above a caret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters of this line that the span covers, at least 1.
    pub length: usize,
    /// The line itself, without its end.
    pub source: String,
}

impl Place {
    /// The place of `span` in `text`; a span past the end is at the end.
    #[must_use]
    pub fn of(text: &str, span: Span) -> Self {
        let start = floor(text, span.start);
        let before = text.get(..start).unwrap_or_default();
        let from = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = text.get(from..).unwrap_or_default();
        let source = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let end = floor(text, span.end).min(from + source.len()).max(start);
        Self {
            line: before.matches('\n').count() + 1,
            column: text.get(from..start).unwrap_or_default().chars().count() + 1,
            length: text.get(start..end).unwrap_or_default().chars().count().max(1),
            source: source.to_owned(),
        }
    }
}

impl Place {
    /// The lines that a person reads: a message under the name of the file, and [`Place::excerpt`].
    #[must_use]
    pub fn render(&self, file: &str, message: &str) -> String {
        let Self { line, column, .. } = self;
        format!("{file}:{line}:{column}: {message}\n{}", self.excerpt())
    }

    /// The source line, and a caret under the word.
    #[must_use]
    pub fn excerpt(&self) -> String {
        let Self { line, column, length, source } = self;
        let gutter = line.to_string();
        let pad = " ".repeat(gutter.len());
        let lead: String = source.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let caret = "^".repeat(*length);
        format!("{pad} |\n{gutter} | {source}\n{pad} | {lead}{caret}\n")
    }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// One instruction's line with its continuations joined, and where its pieces came from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    pub(crate) text: String,
    pieces: Vec<(usize, usize)>,
}

impl Line {
    /// Adds a piece that stands at `offset` of the document.
    pub(crate) fn push(&mut self, piece: &str, offset: usize) {
        self.pieces.push((self.text.len(), offset));
        self.text.push_str(piece);
    }

    fn source(&self, at: usize) -> usize {
        let piece = self.pieces.iter().rev().find(|(start, _)| *start <= at);
        piece.map_or(at, |(start, offset)| at - start + offset)
    }

    /// The bytes of the document behind a range of the joined line.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let first = self.source(start);
        let last = if end > start { self.source(end - 1) + 1 } else { first };
        Span { start: first, end: last.max(first) }
    }

    /// The text of a range as a word.
    pub(crate) fn word(&self, start: usize, end: usize) -> Word {
        Word { text: self.text.get(start..end).unwrap_or_default().to_owned(), span: self.span(start, end) }
    }
}
