//! The patterns of `${v#p}`, `${v%p}` and `${v/p/s}`: `*`, `?`, and a backslash before what means itself.

/// Steps that one expansion may take, so that no pattern takes long.
const BUDGET: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token {
    Many,
    One,
    Char(char),
}

/// A pattern (reference "Environment replacement").
#[derive(Debug)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// `None` where a backslash stands before something else than `*`, `?`, `\`, `}` and `/`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match chars.next()? {
                    c @ ('*' | '?' | '\\' | '}' | '/') => Token::Char(c),
                    _ => return None,
                },
                c => Token::Char(c),
            });
        }
        Some(Self { tokens })
    }

    /// Ends of matches that start at the first of `text`: the shortest or the longest.
    fn end(&self, text: &[char], longest: bool, budget: &mut usize) -> Option<usize> {
        let count = self.tokens.len();
        let mut states = vec![false; count + 1];
        let mut found = None;
        if let Some(first) = states.first_mut() {
            *first = true;
        }
        for at in 0..=text.len() {
            *budget = budget.saturating_sub(count + 1);
            self.skip(&mut states);
            if states.last() == Some(&true) {
                found = Some(at);
                if !longest {
                    break;
                }
            }
            let Some(c) = text.get(at) else { break };
            let steps = self.tokens.iter().zip(&states).map(|(token, live)| (*live, *token));
            let mut next = vec![false; count + 1];
            for (i, (_, token)) in steps.enumerate().filter(|(_, (live, _))| *live) {
                let to = match token {
                    Token::Many if *c != '\n' => i,
                    Token::One if *c != '\n' => i + 1,
                    Token::Char(wanted) if wanted == *c => i + 1,
                    _ => continue,
                };
                if let Some(state) = next.get_mut(to) {
                    *state = true;
                }
            }
            if *budget == 0 || !next.contains(&true) {
                break;
            }
            states = next;
        }
        found
    }

    /// A `*` may stand for nothing.
    fn skip(&self, states: &mut [bool]) {
        for (i, token) in self.tokens.iter().enumerate() {
            if *token == Token::Many
                && states.get(i) == Some(&true)
                && let Some(next) = states.get_mut(i + 1)
            {
                *next = true;
            }
        }
    }

    /// `${v#p}`, and `${v##p}` where `longest`.
    pub(crate) fn trim_start(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let end = self.end(&chars, longest, &mut BUDGET.clone()).unwrap_or_default();
        chars.get(end..).unwrap_or_default().iter().collect()
    }

    /// `${v%p}`, and `${v%%p}` where `longest`.
    pub(crate) fn trim_end(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().rev().collect();
        let backwards = Self { tokens: self.tokens.iter().rev().copied().collect() };
        let end = backwards.end(&chars, longest, &mut BUDGET.clone()).unwrap_or_default();
        chars.get(end..).unwrap_or_default().iter().rev().collect()
    }

    /// `${v/p/s}`, and `${v//p/s}` where `all`; `None` where that takes too long or becomes too big.
    pub(crate) fn replace(&self, value: &str, with: &str, all: bool) -> Option<String> {
        let chars: Vec<char> = value.chars().collect();
        let (mut out, mut at, mut budget, mut done) = (String::new(), 0, BUDGET, false);
        let mut after_match = false;
        while at <= chars.len() {
            let rest = chars.get(at..).unwrap_or_default();
            let end = if done { None } else { self.end(rest, true, &mut budget) };
            let end = end.filter(|end| *end > 0 || !after_match);
            if budget == 0 || out.len() > crate::MAX_EXPANSION {
                return None;
            }
            if end.is_some() {
                out.push_str(with);
                done = !all;
            }
            after_match = end.is_some_and(|end| end > 0);
            if !after_match {
                out.extend(rest.first());
            }
            at += end.unwrap_or_default().max(1);
            if after_match && at >= chars.len() {
                break;
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_and_replaces() {
        let p = |text: &str| Pattern::parse(text).expect("a pattern");
        for (pattern, value, short, long) in
            [("*x", "xxyy", "xyy", "yy"), ("?\\?", "???y", "?y", "?y"), ("", "ab", "ab", "ab"), ("z", "ab", "ab", "ab")]
        {
            assert_eq!(
                (p(pattern).trim_start(value, false), p(pattern).trim_start(value, true)),
                (short.into(), long.into())
            );
        }
        assert_eq!(p("\\**\\*").trim_end("a***yy*", true), "a");
        assert_eq!(p(".*").trim_end("a.b.c", false), "a.b");
        assert_eq!(p(".*").trim_end("a.b.c", true), "a");
        assert_eq!(p("/tmp").replace("/tmp/tmp/b", "", true).as_deref(), Some("/b"));
        assert_eq!(p("").replace("ab", "-", false).as_deref(), Some("-ab"));
        assert_eq!(p("").replace("ab", "-", true).as_deref(), Some("-a-b-"));
        assert_eq!(p("b").replace("abb", "-", true).as_deref(), Some("a--"));
        assert!(Pattern::parse("\\x").is_none());
        assert!(p("*a*a*a*b").replace(&"a".repeat(100_000), "", true).is_none());
    }
}
