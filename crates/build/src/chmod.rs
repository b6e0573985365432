//! Permissions as people write them: octal, or the words of chmod(1).

use crate::{Error, Result};

/// What `--chmod` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chmod {
    /// These permissions.
    Octal(u32),
    /// Changes, one after another.
    Symbolic(Vec<Clause>),
}

/// `u+x`: whose, how, what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    /// Bits of `u`, `g`, `o` and the special ones that belong to them.
    who: u32,
    operator: char,
    /// Bits for everybody; `X` is apart.
    bits: u32,
    /// `X`: execution where it is a directory or somebody can execute already.
    conditional: bool,
    /// `g=u`: the permissions that these have.
    copied: Option<char>,
}

impl Chmod {
    /// Reads what was typed.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::option("--chmod", text, "permissions are an octal number up to 7777, or changes such as u=rwX,go-w")
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Octal).ok_or_else(wrong);
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let end = part.find(['+', '-', '=']).ok_or_else(wrong)?;
            let (who, mut rest) = part.split_at(end);
            let who = who.chars().try_fold(0, |all, c| {
                Some(
                    all | match c {
                        'u' => 0o4700,
                        'g' => 0o2070,
                        'o' => 0o1007,
                        'a' => 0o7777,
                        _ => return None,
                    },
                )
            });
            let who = who.ok_or_else(wrong)?;
            let who = if who == 0 { 0o7777 } else { who };
            while let Some(operator) = rest.chars().next() {
                let after = rest.get(1..).unwrap_or_default();
                let end = after.find(['+', '-', '=']).unwrap_or(after.len());
                let (what, next) = after.split_at(end);
                clauses.push(clause(who, operator, what).ok_or_else(wrong)?);
                rest = next;
            }
        }
        Ok(Self::Symbolic(clauses))
    }

    /// The permissions that a file with `mode` gets.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory)),
        }
    }
}

fn clause(who: u32, operator: char, what: &str) -> Option<Clause> {
    let mut clause = Clause { who, operator, bits: 0, conditional: false, copied: None };
    for c in what.chars() {
        match c {
            'r' => clause.bits |= 0o444,
            'w' => clause.bits |= 0o222,
            'x' => clause.bits |= 0o111,
            's' => clause.bits |= 0o6000,
            't' => clause.bits |= 0o1000,
            'X' => clause.conditional = true,
            'u' | 'g' | 'o' if what.len() == 1 => clause.copied = Some(c),
            _ => return None,
        }
    }
    Some(clause)
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let mut bits = self.bits;
        if self.conditional && (is_directory || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        if let Some(from) = self.copied {
            let shift = match from {
                'u' => 6,
                'g' => 3,
                _ => 0,
            };
            bits = ((mode >> shift) & 7) * 0o111;
        }
        let bits = bits & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            // A directory keeps its special bits, as with chmod(1).
            _ if is_directory => (mode & !(self.who & 0o777)) | bits,
            _ => (mode & !self.who) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        for (text, mode, is_directory, want) in [
            ("640", 0o755, false, 0o640),
            ("u+x", 0o644, false, 0o744),
            ("go-rwx", 0o755, false, 0o700),
            ("a=rX", 0o640, false, 0o444),
            ("a=rX", 0o740, false, 0o555),
            ("=rX", 0o600, true, 0o555),
            ("u=rw,go=r", 0o777, false, 0o644),
            ("u+s,+t", 0o755, false, 0o5755),
            ("g=u", 0o740, false, 0o770),
            ("u=rwx,g+w-x", 0o010, false, 0o720),
        ] {
            assert_eq!(Chmod::parse(text).unwrap().apply(mode, is_directory), want, "{text}");
        }
        for text in ["", "8", "77777", "u", "u+q", "z+x", "u+x,", "ug=uo"] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
