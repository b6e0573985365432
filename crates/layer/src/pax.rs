//! PAX extended header records (POSIX.1-2024 pax "pax Extended Header").

use std::collections::BTreeMap;

use crate::Time;

/// How GNU tar's keys about files with holes begin.
const SPARSE: &[u8] = b"GNU.sparse.";

/// What a PAX header adds to the next entry, or to all that follow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    pub(crate) values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// GNU sparse 0.0 repeats its two keys once for each piece of data.
    pub(crate) sparse_pairs: Vec<Vec<u8>>,
}

impl Records {
    /// Reads the records `LENGTH KEY=VALUE\n`.
    pub(crate) fn parse(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let blank = bytes.iter().take(21).position(|&c| c == b' ').ok_or("a PAX record has no length")?;
            let length = decimal(bytes.get(..blank).unwrap_or_default()).ok_or("a PAX record's length is no number")?;
            let length = usize::try_from(length).map_err(|_| "a PAX record is too long")?;
            let record = bytes.get(blank + 1..length).ok_or("a PAX record's length is wrong")?;
            let record = record.strip_suffix(b"\n").ok_or("a PAX record does not end in a newline")?;
            let equals = record.iter().position(|&c| c == b'=').ok_or("a PAX record has no \"=\"")?;
            let (key, value) = (record.get(..equals).unwrap_or_default(), record.get(equals + 1..).unwrap_or_default());
            if key.is_empty() {
                return Err("a PAX record has no key");
            }
            records.add(key, value)?;
            bytes = bytes.get(length..).unwrap_or_default();
        }
        Ok(records)
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let holds_text = matches!(key, b"path" | b"linkpath" | b"GNU.sparse.name");
        if key.contains(&0) || holds_text && value.contains(&0) {
            return Err("a PAX record contains a NUL byte");
        }
        // POSIX has it take the key back; some readers see an empty name or a size of nothing.
        let counts = holds_text || matches!(key, b"size" | b"uid" | b"gid" | b"mtime") || key.starts_with(SPARSE);
        if counts && value.is_empty() {
            return Err("a PAX record has no value");
        }
        if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
            let wants_offset = self.sparse_pairs.len().is_multiple_of(2);
            if wants_offset != (key == b"GNU.sparse.offset") {
                return Err("its sparse map is not a list of pairs");
            }
            self.sparse_pairs.push(value.to_vec());
        } else {
            let before = self.values.insert(key.to_vec(), value.to_vec());
            // Most readers believe the last, some the first.
            if counts && before.is_some_and(|before| before != value) {
                return Err("two PAX records differ about one thing");
            }
        }
        Ok(())
    }

    /// These records over those of the global headers before.
    pub(crate) fn over(mut self, global: &Self) -> Self {
        for (key, value) in &global.values {
            self.values.entry(key.clone()).or_insert_with(|| value.clone());
        }
        self
    }

    /// A key's value.
    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key.as_bytes()).map(Vec::as_slice)
    }

    /// Whether anything is said about holes.
    pub(crate) fn is_sparse(&self) -> bool {
        !self.sparse_pairs.is_empty() || self.values.keys().any(|key| key.starts_with(SPARSE))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, &'static str> {
        self.get(key).map(|value| decimal(value).ok_or("a PAX record's value is no number")).transpose()
    }
}

/// Decimal digits and nothing else, at most the largest file size.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for &digit in text {
        let digit = digit.checked_sub(b'0').filter(|d| *d < 10)?;
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    i64::try_from(value).ok().map(|_| value)
}

/// `[-]SECONDS[.FRACTION]`; digits beyond nanoseconds are cut off towards the past.
pub(crate) fn time(text: &[u8]) -> Option<Time> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = match digits.iter().position(|&c| c == b'.') {
        Some(at) => (digits.get(..at)?, digits.get(at + 1..)?),
        None => (digits, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds = 0_u32;
    for at in 0..9 {
        nanoseconds = nanoseconds * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

/// One record with the length that counts its own digits.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let payload = key.len() + value.len() + 3;
    let mut length = payload + 1;
    while payload + length.to_string().len() != length {
        length = payload + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let values = |text: &[u8]| Records::parse(text).map(|r| r.values.into_iter().collect::<Vec<_>>());
        let pair = |k: &str, v: &str| (k.as_bytes().to_vec(), v.as_bytes().to_vec());
        assert_eq!(values(b"12 path=a=b\n8 x=a\nb\n").unwrap(), [pair("path", "a=b"), pair("x", "a\nb")]);
        for wrong in [
            &b"11 path=a=b\n"[..],
            b"13 path=a=b\n",
            b"path=a\n",
            b"x path=a\n",
            b"5 =ab\n",
            b"99999999999999999999 a=b\n",
            b"9 path=\0\n",
            b"0 a=b\n",
        ] {
            assert!(values(wrong).is_err(), "{wrong:?}");
        }
        for length in [1, 5, 90, 91, 92, 93, 94, 95, 989, 990, 991, 992, 993] {
            let value = vec![b'v'; length];
            assert_eq!(values(&record(b"key", &value)).unwrap(), [(b"key".to_vec(), value)]);
        }
    }

    #[test]
    fn times() {
        let at = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        for (text, want) in [
            ("1.5", at(1, 500_000_000)),
            ("1", at(1, 0)),
            ("-1.25", at(-2, 750_000_000)),
            ("-3", at(-3, 0)),
            ("1.1234567899", at(1, 123_456_789)),
            ("1.", at(1, 0)),
            (".5", None),
            ("1e3", None),
            ("1.-5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), want, "{text}");
        }
    }
}
