//! Command lines typed as one string.

/// Splits as a shell does, with quotes and backslashes but nothing expanded; none for an unclosed quote.
pub(crate) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let quoted = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => quoted.push(c),
                    }
                }
            }
            '"' => {
                let quoted = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\' | '$' | '`') => quoted.push(c),
                            '\n' => {}
                            c => quoted.extend(['\\', c]),
                        },
                        c => quoted.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// A JSON array of words, or a command line.
pub(crate) fn command(text: &str) -> Option<Vec<String>> {
    if text.trim_start().starts_with('[') { serde_json::from_str(text).ok() } else { split(text) }
}

/// Replaces `$NAME` and `${NAME}` by what `value` says; an unknown name by nothing.
pub(crate) fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, end) = braced.unwrap_or_else(|| {
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            after.split_at(end)
        });
        match name {
            "" => out.push('$'),
            name => out.push_str(&value(name).unwrap_or_default()),
        }
        rest = end;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (text, want) in [
            ("", Some(vec![])),
            ("  a  b ", Some(vec!["a", "b"])),
            ("echo \"a b\" 'c $d'", Some(vec!["echo", "a b", "c $d"])),
            ("a\\ b \"\\\"\\n\" ''", Some(vec!["a b", "\"\\n", ""])),
            ("x'y'\"z\"", Some(vec!["xyz"])),
            ("'open", None),
            ("\"open", None),
            ("end\\", None),
        ] {
            let want = want.map(|words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(split(text), want, "{text}");
        }
        assert_eq!(command(r#"["a","b c"]"#).unwrap(), ["a", "b c"]);
        assert_eq!(command("[nonsense"), None);
    }

    #[test]
    fn variables() {
        let value = |name: &str| (name == "PATH").then(|| "/bin".to_owned());
        for (text, want) in [
            ("$PATH:/x", "/bin:/x"),
            ("${PATH}s$NOPE.", "/bins."),
            ("a$", "a$"),
            ("$$PATH", "$/bin"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(text, value), want, "{text}");
        }
    }
}
