//! Here-documents (reference "Here-Documents").

use std::collections::BTreeMap;

use crate::error::{Error, Fault};
use crate::expand::{Rules, expand};
use crate::source::Span;

/// A here-document of RUN, COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The name, which is also the last line; quotes taken off.
    pub name: String,
    /// The descriptor before `<<`, 0 where there is none.
    pub descriptor: u32,
    /// Whether variables in it are expanded: no part of the name is quoted.
    pub is_expanded: bool,
    /// Whether `<<-` takes tabs off the start of each line.
    pub is_chomped: bool,
    /// The lines as written, tabs kept.
    pub content: String,
    /// The bytes of the lines.
    pub span: Span,
}

impl Heredoc {
    /// The lines with the tabs taken off that `<<-` takes off.
    #[must_use]
    pub fn text(&self) -> String {
        if !self.is_chomped {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }

    /// The here-document that a word opens, without its lines; `None` where the word opens none.
    ///
    /// # Errors
    /// A quote left open.
    pub fn opened_by(word: &str) -> Result<Option<Self>, Error> {
        let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = word.split_at(digits);
        let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
        let (is_chomped, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
        if rest.is_empty() || rest.contains('<') {
            return Ok(None);
        }
        let rules = Rules { keep_unset: true, ..Rules::words('\\') };
        let lex = |rules| expand(rest, &BTreeMap::new(), rules).map_err(|_| Error::Heredoc(word.to_owned()));
        let (plain, raw) = (lex(rules)?.words, lex(Rules { raw_quotes: true, ..rules })?.words);
        let ([name], [raw]) = (plain.as_slice(), raw.as_slice()) else { return Ok(None) };
        let quotes = |text: &str| text.matches(['\'', '"']).count();
        Ok(Some(Self {
            name: name.clone(),
            descriptor: number.parse().unwrap_or_default(),
            is_expanded: quotes(name) == quotes(raw),
            is_chomped,
            content: String::new(),
            span: Span::default(),
        }))
    }
}

/// The here-documents that a line opens, in order.
pub(crate) fn opened(line: &str, span: Span) -> Result<Vec<Heredoc>, Fault> {
    let rules = Rules { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Rules::words('\\') };
    // A quote left open is the shell's to judge: the line opens none then.
    let words = expand(line, &BTreeMap::new(), rules).map(|expanded| expanded.words).unwrap_or_default();
    let heredocs = words.iter().map(|word| Heredoc::opened_by(word));
    heredocs.filter_map(Result::transpose).collect::<Result<_, _>>().map_err(|error| Fault::at(span, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_open() {
        for (word, want) in [
            ("<<EOF", Some(("EOF", true, false))),
            ("<<'EOF'", Some(("EOF", false, false))),
            ("<<\"EOF\"", Some(("EOF", false, false))),
            ("<<-EO\"F\"", Some(("EOF", false, true))),
            ("<< EOF", Some(("EOF", true, false))),
            ("3<<'e'o\\'f", Some(("eo'f", false, false))),
            ("<<eo\\'f", Some(("eo'f", true, false))),
            ("<<$EOF", Some(("$EOF", true, false))),
            ("<<'one two'", Some(("one two", false, false))),
            ("<<", None),
            ("<<<EOF", None),
            ("<EOF", None),
            ("<<EOF sh", None),
        ] {
            let got = Heredoc::opened_by(word).expect("no open quote");
            let got = got.as_ref().map(|h| (h.name.as_str(), h.is_expanded, h.is_chomped));
            assert_eq!(got, want, "{word}");
        }
        for word in ["<<'EOF", "<<EOF\""] {
            assert!(Heredoc::opened_by(word).is_err(), "{word}");
        }
    }
}
