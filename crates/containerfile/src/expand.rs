//! Variables, quotes and escapes of a word (reference "Environment replacement").

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::pattern::Pattern;

/// How to read a word.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The escape character: `\`, or what the `escape` directive names.
    pub escape: char,
    /// Quotes stay in the text.
    pub raw_quotes: bool,
    /// Escape characters stay in the text.
    pub raw_escapes: bool,
    /// Quotes mean nothing, as in a here-document.
    pub no_quotes: bool,
    /// Variables that are not set stay as they are written.
    pub keep_unset: bool,
}

impl Rules {
    /// The rules of an instruction's words.
    #[must_use]
    pub fn words(escape: char) -> Self {
        Self { escape, raw_quotes: false, raw_escapes: false, no_quotes: false, keep_unset: false }
    }

    /// The rules of a here-document whose name is not quoted.
    #[must_use]
    pub fn heredoc() -> Self {
        Self { no_quotes: true, ..Self::words('\\') }
    }
}

/// What words refer to.
pub trait Variables {
    /// The value of a variable that is set.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Variables for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// What a word became.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The whole text.
    pub text: String,
    /// The text cut at white space that was neither quoted nor escaped, after expansion.
    pub words: Vec<String>,
    /// Variables that were asked for and are set: what a cache key needs.
    pub used: BTreeSet<String>,
    /// Variables that were asked for and are not set.
    pub undefined: BTreeSet<String>,
}

/// Expands `word` with `variables`.
///
/// # Errors
/// A quote or brace left open, an operator that does not exist, `${v?message}`, or a limit of this crate.
pub fn expand(word: &str, variables: &dyn Variables, rules: Rules) -> Result<Expanded, Error> {
    let mut lexer = Lexer {
        chars: word.chars().collect(),
        at: 0,
        rules,
        variables,
        depth: 0,
        used: BTreeSet::new(),
        undefined: BTreeSet::new(),
    };
    let (text, words) = lexer.until(None, rules.raw_escapes)?;
    Ok(Expanded { text, words, used: lexer.used, undefined: lexer.undefined })
}

/// Text as it grows, and the words in it.
#[derive(Default)]
struct Growing {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Growing {
    fn raw(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn raw_char(&mut self, c: char) {
        self.text.push(c);
        self.word.push(c);
    }

    fn split(&mut self, text: &str) {
        for c in text.chars() {
            self.text.push(c);
            if !c.is_whitespace() {
                self.word.push(c);
            } else if !self.word.is_empty() {
                self.words.push(std::mem::take(&mut self.word));
            }
        }
    }

    fn end(mut self) -> (String, Vec<String>) {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        (self.text, self.words)
    }
}

struct Lexer<'a> {
    chars: Vec<char>,
    at: usize,
    rules: Rules,
    variables: &'a dyn Variables,
    depth: usize,
    used: BTreeSet<String>,
    undefined: BTreeSet<String>,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    fn is_next(&mut self, wanted: char) -> bool {
        let is = self.peek() == Some(wanted);
        self.at += usize::from(is);
        is
    }

    /// Reads up to `stop`, or to the end where there is none.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>), Error> {
        if self.depth > crate::MAX_NESTING {
            return Err(Error::ExpansionLimit);
        }
        let outer = std::mem::replace(&mut self.rules.raw_escapes, raw_escapes);
        self.depth += 1;
        let read = self.read(stop);
        self.depth -= 1;
        self.rules.raw_escapes = outer;
        read
    }

    fn read(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), Error> {
        let mut out = Growing::default();
        while let Some(c) = self.next() {
            if out.text.len() > crate::MAX_EXPANSION {
                return Err(Error::ExpansionLimit);
            }
            match c {
                c if Some(c) == stop => return Ok(out.end()),
                '$' => out.split(&self.variable()?),
                '\'' if !self.rules.no_quotes => out.raw(&self.single()?),
                '"' if !self.rules.no_quotes => out.raw(&self.double()?),
                '<' => out.raw(&self.less()),
                c if c == self.rules.escape => {
                    if self.rules.raw_escapes {
                        out.raw_char(c);
                    }
                    let Some(c) = self.next() else { break };
                    out.raw_char(c);
                }
                c => out.split(c.encode_utf8(&mut [0; 4])),
            }
        }
        stop.map_or_else(|| Ok(out.end()), |stop| Err(Error::Unclosed(stop)))
    }

    /// `<<` takes the blanks behind it along, so that a here-document's name stays with it.
    fn less(&mut self) -> String {
        let mut text = "<".to_owned();
        if self.is_next('<') {
            text.push('<');
            while let Some(c) = self.peek().filter(|c| matches!(c, ' ' | '\t' | '\r')) {
                text.push(c);
                self.at += 1;
            }
        }
        text
    }

    fn single(&mut self) -> Result<String, Error> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            if c == '\'' {
                return Ok(self.quoted(text, '\''));
            }
            text.push(c);
        }
        Err(Error::Unclosed('\''))
    }

    fn quoted(&self, text: String, quote: char) -> String {
        if self.rules.raw_quotes { format!("{quote}{text}{quote}") } else { text }
    }

    fn double(&mut self) -> Result<String, Error> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            if text.len() > crate::MAX_EXPANSION {
                return Err(Error::ExpansionLimit);
            }
            match c {
                '"' => return Ok(self.quoted(text, '"')),
                '$' => text.push_str(&self.variable()?),
                c if c == self.rules.escape => {
                    if self.rules.raw_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == self.rules.escape => {
                            text.push(next);
                            self.at += 1;
                        }
                        Some(_) => text.push(c),
                    }
                }
                c => text.push(c),
            }
        }
        Err(Error::Unclosed('"'))
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.variables.value(name).map(str::to_owned);
        let known = if value.is_some() { &mut self.used } else { &mut self.undefined };
        known.insert(name.to_owned());
        value
    }

    /// Digits, one special parameter, or letters, digits and underscores.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_numeric() => {
                while self.peek().is_some_and(char::is_numeric) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.at += 1;
                }
            }
        }
        self.chars.get(start..self.at).unwrap_or_default().iter().collect()
    }

    /// What follows a `$`.
    fn variable(&mut self) -> Result<String, Error> {
        if !self.is_next('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.value(&name);
            return Ok(value.unwrap_or_else(|| if self.rules.keep_unset { format!("${name}") } else { String::new() }));
        }
        match self.peek() {
            None => return Err(Error::Unclosed('}')),
            Some('{' | '}' | ':') => return Err(Error::Substitution("${".to_owned())),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => Err(Error::Unclosed('}')),
            Some('}') => {
                let value = self.value(&name);
                Ok(value.unwrap_or_else(|| if self.rules.keep_unset { format!("${{{name}}}") } else { String::new() }))
            }
            Some('/') => self.replace(&name),
            Some(':') => match self.next() {
                Some(operator @ ('-' | '+' | '?')) => self.choose(&name, operator, true),
                other => Err(Error::Substitution(format!("${{{name}:{}", other.map(String::from).unwrap_or_default()))),
            },
            Some(operator @ ('-' | '+' | '?')) => self.choose(&name, operator, false),
            Some(operator @ ('#' | '%')) => self.trim(&name, operator),
            Some(other) => Err(Error::Substitution(format!("${{{name}{other}"))),
        }
    }

    /// `${v-w}`, `${v+w}`, `${v?w}`, where `colon` an empty value is as good as none.
    fn choose(&mut self, name: &str, operator: char, colon: bool) -> Result<String, Error> {
        let (word, _) = self.until(Some('}'), false)?;
        let value = self.value(name);
        if value.is_none() && self.rules.keep_unset {
            return Ok(format!("${{{name}{}{operator}{word}}}", if colon { ":" } else { "" }));
        }
        let is_unset = value.is_none();
        let value = value.filter(|value| !colon || !value.is_empty());
        match (operator, value) {
            ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('+', Some(_)) => Ok(word),
            ('?', None) if word.is_empty() => {
                let state = if is_unset { "unset" } else { "empty" };
                Err(Error::Unset(name.to_owned(), format!("is not allowed to be {state}")))
            }
            ('?', None) => Err(Error::Unset(name.to_owned(), word)),
            (_, value) => Ok(value.unwrap_or_default()),
        }
    }

    fn trim(&mut self, name: &str, operator: char) -> Result<String, Error> {
        let (word, _) = self.until(Some('}'), true)?;
        let Some(value) = self.value(name) else {
            return Ok(if self.rules.keep_unset { format!("${{{name}{operator}{word}}}") } else { String::new() });
        };
        let (pattern, longest) = word.strip_prefix(operator).map_or((word.as_str(), false), |rest| (rest, true));
        let pattern = Pattern::parse(pattern).ok_or_else(|| Error::Substitution(word.clone()))?;
        Ok(if operator == '#' { pattern.trim_start(&value, longest) } else { pattern.trim_end(&value, longest) })
    }

    fn replace(&mut self, name: &str) -> Result<String, Error> {
        let all = self.is_next('/');
        let (word, _) = self.until(Some('/'), true)?;
        let (with, _) = self.until(Some('}'), true)?;
        let Some(value) = self.value(name) else {
            return Ok(if self.rules.keep_unset { format!("${{{name}/{word}/{with}}}") } else { String::new() });
        };
        let pattern = Pattern::parse(&word).ok_or_else(|| Error::Substitution(word.clone()))?;
        pattern.replace(&value, &with, all).ok_or(Error::ExpansionLimit)
    }
}
