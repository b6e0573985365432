//! What a context directory holds and nobody copies: `.containerignore` and `.dockerignore`.

use crate::glob;

/// Rules, the last that matches deciding.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    keeps: bool,
    components: Vec<Vec<u8>>,
}

impl Ignore {
    /// Reads rules: one a line, `#` for comments, `!` for exceptions, `**` for any number of directories.
    pub(crate) fn parse(text: &str) -> Self {
        let rules = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let line = line.trim();
            let (keeps, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
            let components = pattern.split('/').filter(|part| !matches!(*part, "" | "."));
            let components: Vec<Vec<u8>> = components.map(|part| part.as_bytes().to_vec()).collect();
            (!components.is_empty()).then_some(Rule { keeps, components })
        });
        Self { rules: rules.collect() }
    }

    /// Whether the path, relative to the context directory, is left out.
    pub(crate) fn excludes(&self, path: &[u8]) -> bool {
        let components: Vec<&[u8]> = path.split(|&c| c == b'/').filter(|part| !part.is_empty()).collect();
        let mut excluded = false;
        for rule in &self.rules {
            let parents = (1..=components.len()).filter_map(|depth| components.get(..depth));
            if parents.into_iter().any(|above| matches(&rule.components, above)) {
                excluded = !rule.keeps;
            }
        }
        excluded
    }

    /// Whether something below a directory that is left out may be wanted nevertheless.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.keeps)
    }
}

fn matches(pattern: &[Vec<u8>], path: &[&[u8]]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == b"**" => {
            (0..=path.len()).any(|skip| matches(rest, path.get(skip..).unwrap_or_default()))
        }
        (Some((first, rest)), Some((name, left))) => glob::matches(first, name) && matches(rest, left),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let ignore = Ignore::parse("# comment\n*.o\n/target\n**/cache\n!target/keep\ndoc/*.txt\n\n!doc/a.txt\n");
        for (path, want) in [
            ("a.o", true),
            ("sub/a.o", false),
            ("target", true),
            ("target/x/y", true),
            ("target/keep", false),
            ("a/b/cache", true),
            ("a/b/cache/file", true),
            ("cache", true),
            ("doc/b.txt", true),
            ("doc/a.txt", false),
            ("src", false),
        ] {
            assert_eq!(ignore.excludes(path.as_bytes()), want, "{path}");
        }
        assert!(ignore.has_exceptions());
    }
}
