//! Ignore files: `.containerignore` and `.dockerignore` (reference ".dockerignore file"), and their patterns alone.

/// What a context leaves out: patterns, the last that matches a path or a directory above it deciding.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    keeps: bool,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// `*`: anything but `/`.
    Part,
    /// `**` at the end: anything at all.
    Rest,
    /// `**/`: nothing, or any directories.
    Directories,
    /// `?`.
    One,
    Set(bool, Vec<(char, char)>),
    Char(char),
}

impl Ignore {
    /// Reads an ignore file: a pattern a line, `#` in the first column for comments, `!` for exceptions; white space at the
    /// ends, `.`, `..`, doubled and leading slashes mean nothing. `Err` holds the first line that is no pattern, from 1.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let mut rules = Vec::new();
        for (number, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            let trimmed = line.trim();
            if line.starts_with('#') || trimmed.is_empty() {
                continue;
            }
            let (keeps, pattern) = trimmed.strip_prefix('!').map_or((false, trimmed), |rest| (true, rest.trim()));
            if pattern.is_empty() {
                return Err(number + 1);
            }
            let tokens = tokens(&clean(pattern)).ok_or(number + 1)?;
            rules.push(Rule { keeps, tokens });
        }
        Ok(Self { rules })
    }

    /// Whether the path, relative to the context and with `/` between names, is left out.
    #[must_use]
    pub fn excludes(&self, path: &str) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let path: Vec<char> = path.chars().collect();
        let ends = path.iter().enumerate().filter(|(_, c)| **c == '/').map(|(at, _)| at).chain([path.len()]);
        let ends: Vec<usize> = ends.collect();
        let mut is_excluded = false;
        for rule in &self.rules {
            if rule.keeps == is_excluded
                && ends.iter().any(|end| matches(&rule.tokens, path.get(..*end).unwrap_or_default()))
            {
                is_excluded = !rule.keeps;
            }
        }
        is_excluded
    }

    /// Whether a pattern leaves out whatever there is: `*` or `**`.
    pub(crate) fn excludes_everything(&self) -> bool {
        let all: Vec<_> = ["*", "**", "**/*"].into_iter().filter_map(tokens).collect();
        self.rules.iter().any(|rule| !rule.keeps && all.contains(&rule.tokens))
    }

    /// Whether something below a directory that is left out may be wanted nevertheless.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.keeps)
    }
}

/// One pattern of names, as COPY and ADD have them (reference "COPY": Go's `filepath.Match`, and `**` for any directories).
#[derive(Debug, Clone)]
pub struct Glob(Vec<Token>);

impl Glob {
    /// Reads a pattern; none where a set or an escape is left open.
    #[must_use]
    pub fn new(pattern: &str) -> Option<Self> {
        tokens(pattern).map(Self)
    }

    /// Whether a text is a pattern at all.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    /// Whether the whole of a path, with `/` between names, is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        matches(&self.0, &path.chars().collect::<Vec<_>>())
    }
}

/// Go's `path.Clean`, and no slash in front.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if pattern.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_none() { Token::Rest } else { Token::Directories }
            }
            '*' => Token::Part,
            '?' => Token::One,
            '[' => set(&mut chars)?,
            '\\' => Token::Char(chars.next()?),
            c => Token::Char(c),
        });
    }
    Some(tokens)
}

/// The set behind a `[`.
fn set(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let is_negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Set(is_negated, ranges)),
            ']' | '-' => return None,
            '\\' => chars.next()?,
            c => c,
        };
        let high = match chars.next_if_eq(&'-') {
            None => low,
            Some(_) => match chars.next()? {
                ']' | '-' => return None,
                '\\' => chars.next()?,
                c => c,
            },
        };
        ranges.push((low, high));
    }
}

/// Walks all states at once, so that no pattern takes longer than its length times the path's.
fn matches(tokens: &[Token], path: &[char]) -> bool {
    let mut states = vec![false; tokens.len() + 1];
    if let Some(first) = states.first_mut() {
        *first = true;
    }
    for at in 0..=path.len() {
        let is_start = at == 0 || path.get(at - 1) == Some(&'/');
        for (i, token) in tokens.iter().enumerate() {
            let passes = match token {
                Token::Part | Token::Rest => true,
                // Past `**/` where nothing of it was read yet, or behind a slash.
                Token::Directories => is_start,
                _ => false,
            };
            if passes
                && states.get(i) == Some(&true)
                && let Some(next) = states.get_mut(i + 1)
            {
                *next = true;
            }
        }
        let Some(c) = path.get(at) else { break };
        let mut next = vec![false; tokens.len() + 1];
        for (i, token) in tokens.iter().enumerate().filter(|(i, _)| states.get(*i) == Some(&true)) {
            let to = match token {
                Token::Part if *c != '/' => i,
                Token::Rest | Token::Directories => i,
                Token::One if *c != '/' => i + 1,
                Token::Char(wanted) if wanted == c => i + 1,
                Token::Set(negated, ranges)
                    if ranges.iter().any(|(low, high)| (*low..=*high).contains(c)) != *negated =>
                {
                    i + 1
                }
                _ => continue,
            };
            if let Some(state) = next.get_mut(to) {
                *state = true;
            }
        }
        states = next;
    }
    states.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for (file, path, want) in [
            ("*.o", "a.o", true),
            ("*.o", "sub/a.o", false),
            ("**/*.o", "sub/deep/a.o", true),
            ("**/*.o", "a.o", true),
            ("/target", "target/x/y", true),
            ("target\n!target/keep", "target/keep", false),
            ("target\n!target/keep", "target/keep/below", false),
            ("target\n!target/keep", "target/other", true),
            ("**/cache", "a/b/cache/file", true),
            ("a/**", "a/b/c", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("  spaced  ", "spaced", true),
            ("# comment", "# comment", false),
            (" # kept", "# kept", true),
            ("a//./b/../c", "a/c", true),
            ("?.txt", "x.txt", true),
            ("?.txt", "/.txt", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*\n!README*\nREADME-secret.md", "README.md", false),
            ("*\n!README*\nREADME-secret.md", "README-secret.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "other.md", true),
            ("**", "any/thing", true),
            ("*/temp*", "somedir/temporary.txt", true),
            ("*/temp*", "temporary.txt", false),
            ("*/*/temp*", "some/sub/temporary.txt", true),
        ] {
            assert_eq!(Ignore::parse(file).expect("patterns").excludes(path), want, "{file:?} {path}");
        }
        assert_eq!(Ignore::parse("a\n[").err(), Some(2));
        assert_eq!(Ignore::parse("!").err(), Some(1));
    }
}
