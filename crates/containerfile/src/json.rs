//! The exec form: a JSON array of strings, each with its place (reference "Shell and exec form").

use crate::source::{Line, Word};

/// What a text in brackets is.
#[derive(Debug)]
pub(crate) enum Array {
    /// Strings alone.
    Strings(Vec<Word>),
    /// JSON, but with something else than strings in it.
    Other,
    /// No JSON array: the shell form.
    No,
}

/// Reads the range of a line as an array.
pub(crate) fn array(line: &Line, start: usize, end: usize) -> Array {
    let text = line.text.get(..end).unwrap_or_default();
    let mut reader = Reader { text, at: start, line, strings: Vec::new(), other: false };
    if text.as_bytes().get(start) != Some(&b'[') || reader.value(0).is_none() {
        return Array::No;
    }
    reader.space();
    match (reader.at == end, reader.other) {
        (false, _) => Array::No,
        (true, true) => Array::Other,
        (true, false) => Array::Strings(reader.strings),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: &'a Line,
    strings: Vec<Word>,
    other: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn is_next(&mut self, wanted: u8) -> bool {
        let is = self.peek() == Some(wanted);
        self.at += usize::from(is);
        is
    }

    fn literal(&mut self, word: &str) -> Option<()> {
        let is = self.text.get(self.at..)?.starts_with(word);
        self.at += word.len();
        is.then_some(())
    }

    /// One value; those at depth 1 are the array's own.
    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > crate::MAX_NESTING {
            return None;
        }
        self.space();
        let first = self.peek()?;
        if depth == 1 && first != b'"' {
            self.other = true;
        }
        match first {
            b'"' => {
                let start = self.at;
                let text = self.string()?;
                if depth == 1 {
                    self.strings.push(Word { text, span: self.line.span(start, self.at) });
                }
                Some(())
            }
            b'[' => self.list(b']', depth, |reader| reader.value(depth + 1)),
            b'{' => self.list(b'}', depth, |reader| {
                reader.space();
                reader.string()?;
                reader.space();
                reader.is_next(b':').then_some(())?;
                reader.value(depth + 2)
            }),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.number(),
        }
    }

    fn list(&mut self, close: u8, _: usize, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.space();
        if self.is_next(close) {
            return Some(());
        }
        loop {
            item(self)?;
            self.space();
            if self.is_next(close) {
                return Some(());
            }
            self.is_next(b',').then_some(())?;
        }
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        self.is_next(b'-');
        if !self.is_next(b'0') {
            self.digits()?;
        }
        if self.is_next(b'.') {
            self.digits()?;
        }
        if self.is_next(b'e') || self.is_next(b'E') {
            let _signed = self.is_next(b'+') || self.is_next(b'-');
            self.digits()?;
        }
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        self.is_next(b'"').then_some(())?;
        let mut out = String::new();
        loop {
            let c = self.text.get(self.at..)?.chars().next()?;
            self.at += c.len_utf8();
            match c {
                '"' => return Some(out),
                '\\' => out.push(self.escaped()?),
                c if c < ' ' => return None,
                c => out.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(match c {
            b'"' | b'\\' | b'/' => char::from(c),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.unit()?;
                let after = self.at;
                let pair = matches!(high, 0xd800..=0xdbff) && self.is_next(b'\\') && self.is_next(b'u');
                match pair.then(|| self.unit()).flatten() {
                    Some(low @ 0xdc00..=0xdfff) => {
                        return char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                    }
                    _ => self.at = after,
                }
                char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        let hex = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        hex.bytes().all(|c| c.is_ascii_hexdigit()).then_some(())?;
        u32::from_str_radix(hex, 16).ok()
    }
}
