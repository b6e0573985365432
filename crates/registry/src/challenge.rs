//! `WWW-Authenticate`: what a registry wants to see (RFC 9110, section 11.6.1).

/// One way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// `basic`, `bearer`, … in lower case.
    pub(crate) scheme: String,
    /// Names in lower case, values without their quotes.
    pub(crate) parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All challenges of one header value; what is no challenge is left out.
    pub(crate) fn parse_all(header: &str) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let mut rest = header;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return found;
            }
            let word_end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(word_end);
            if word.is_empty() {
                // Not a token: no grammar fits what follows.
                return found;
            }
            match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
                // token68 after a scheme ends in '='; a parameter has a value.
                Some(value) => {
                    let (text, remaining) = parse_value(value.trim_start_matches([' ', '\t']));
                    if let Some(challenge) = found.last_mut() {
                        challenge.parameters.push((word.to_ascii_lowercase(), text));
                    }
                    rest = remaining;
                }
                None => {
                    found.push(Self { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                    rest = after;
                }
            }
        }
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)
}

/// A token or quoted string at the start of `text`, and what follows it.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_header_is_borne(text in "\\PC{0,200}", noise in "[ =,\"\\\\a-zA-Z]{0,200}") {
            for header in [text, noise] {
                let found = Challenge::parse_all(&header);
                proptest::prop_assert!(found.len() <= header.len());
            }
        }
    }

    fn show(header: &str) -> String {
        let one = |c: &Challenge| {
            let parameters: Vec<String> = c.parameters.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!("{}[{}]", c.scheme, parameters.join(";"))
        };
        Challenge::parse_all(header).iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn headers() {
        for (header, want) in [
            ("Basic realm=\"Registry Realm\"", "basic[realm=Registry Realm]"),
            (
                "Bearer realm=\"https://auth.x/token\",service=\"x\",scope=\"repository:a/b:pull,push\"",
                "bearer[realm=https://auth.x/token;service=x;scope=repository:a/b:pull,push]",
            ),
            ("bearer realm=a , scope=b", "bearer[realm=a;scope=b]"),
            ("Basic realm=\"a\\\"b\", Bearer realm=c", "basic[realm=a\"b] bearer[realm=c]"),
            ("Negotiate, Basic realm=x", "negotiate[] basic[realm=x]"),
            ("Basic realm=\"never closed", "basic[realm=never closed]"),
            ("=x", ""),
            ("", ""),
            (",,, ,", ""),
            ("Bearer realm", "bearer[] realm[]"),
        ] {
            assert_eq!(show(header), want, "{header}");
        }
    }
}
