//! How an instruction's line falls into keyword, flags and words.

use crate::source::{Line, Word};

/// What separates words where quotes mean nothing.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// The range without white space at its ends.
pub(crate) fn trim(line: &Line, start: usize, end: usize) -> (usize, usize) {
    let text = line.text.get(start..end).unwrap_or_default();
    let start = start + text.len() - text.trim_start().len();
    (start, start + text.trim().len())
}

/// The first word, and where the rest starts.
pub(crate) fn first(line: &Line, start: usize, end: usize) -> (Word, usize) {
    let text = line.text.get(start..end).unwrap_or_default();
    let stop = text.find(is_blank).unwrap_or(text.len());
    let rest = text.get(stop..).unwrap_or_default();
    let blanks = rest.len() - rest.trim_start_matches(is_blank).len();
    (line.word(start, start + stop), start + stop + blanks)
}

/// Words between blanks.
pub(crate) fn blank_separated(line: &Line, start: usize, end: usize) -> Vec<Word> {
    let (mut words, mut at) = (Vec::new(), start);
    while at < end {
        let (word, next) = first(line, at, end);
        words.push(word);
        at = next;
    }
    words
}

/// Words between white space, which quotes and the escape character hold together; both stay in the text.
pub(crate) fn quoted(line: &Line, start: usize, end: usize, escape: char) -> Vec<Word> {
    let text = line.text.get(..end).unwrap_or_default();
    let (mut words, mut at) = (Vec::new(), start);
    while let Some(from) = text.get(at..).and_then(|rest| rest.find(|c: char| !c.is_whitespace())).map(|n| at + n) {
        let (word, stop) = held_together(text, from, escape, true);
        if !word.is_empty() {
            words.push(Word { text: word, span: line.span(from, stop) });
        }
        at = stop;
    }
    words
}

/// The words that start with `--`, quotes and escapes taken off, and where the rest starts; a `--` alone ends them.
pub(crate) fn flags(line: &Line, start: usize, end: usize, escape: char) -> (Vec<Word>, usize) {
    let text = line.text.get(..end).unwrap_or_default();
    let (mut words, mut at) = (Vec::new(), start);
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let from = at + rest.len() - rest.trim_start().len();
        if !text.get(from..).unwrap_or_default().starts_with("--") {
            return (words, from);
        }
        let (word, stop) = held_together(text, from, escape, false);
        at = stop;
        if word == "--" {
            return (words, at);
        }
        words.push(Word { text: word, span: line.span(from, stop) });
    }
}

/// The word at `from`, up to white space that neither quotes nor the escape character protect, and where it ends. Where
/// these marks are not kept, the escape character means something between single quotes too.
fn held_together(text: &str, from: usize, escape: char, are_marks_kept: bool) -> (String, usize) {
    let (mut word, mut quote) = (String::new(), None);
    let mut chars = text.get(from..).unwrap_or_default().char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            return (word, from + at);
        }
        if c == escape && !(are_marks_kept && quote == Some('\'')) {
            if let Some((_, next)) = chars.next() {
                word.extend(are_marks_kept.then_some(c));
                word.push(next);
            }
            continue;
        }
        let (is_end, is_start) = (quote == Some(c), quote.is_none() && matches!(c, '\'' | '"'));
        if is_end || is_start {
            quote = is_start.then_some(c);
        }
        if are_marks_kept || !(is_end || is_start) {
            word.push(c);
        }
    }
    (word, text.len())
}
