//! The 512-byte header block (POSIX.1-2024 pax "ustar Interchange Format", and GNU's variations).

pub(crate) const BLOCK: usize = 512;

/// One header block as read.
pub(crate) struct Header(pub(crate) [u8; BLOCK]);

impl Header {
    /// A block of `len` bytes at `at`; within the block by construction of the callers.
    pub(crate) fn bytes(&self, at: usize, len: usize) -> &[u8] {
        self.0.get(at..at + len).unwrap_or_default()
    }

    /// A field up to its first NUL.
    pub(crate) fn text(&self, at: usize, len: usize) -> &[u8] {
        let field = self.bytes(at, len);
        field.split(|&c| c == 0).next().unwrap_or_default()
    }

    pub(crate) fn number(&self, at: usize, len: usize) -> Option<i64> {
        number(self.bytes(at, len))
    }

    pub(crate) fn kind(&self) -> u8 {
        self.bytes(156, 1).first().copied().unwrap_or_default()
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|&byte| byte == 0)
    }

    /// POSIX ustar, as opposed to GNU's and the seventh edition's formats, which have no name prefix.
    fn is_posix(&self) -> bool {
        self.bytes(257, 6) == b"ustar\0"
    }

    /// Whether the numeric fields hold numbers, also those that mean nothing in this header: some readers stop at any
    /// other. The device fields may be blank.
    pub(crate) fn has_numbers(&self) -> bool {
        let is_number = |(at, len)| self.number(at, len).is_some();
        let is_id = |at| self.number(at, 8).is_some_and(|id| u32::try_from(id).is_ok());
        let is_blank = |at| self.bytes(at, 8).iter().all(|c| matches!(c, b' ' | 0));
        [(100, 8), (124, 12), (136, 12)].into_iter().all(is_number)
            && [108, 116].into_iter().all(is_id)
            && [329, 337].into_iter().all(|at| is_blank(at) || is_number((at, 8)))
    }

    /// An old GNU sparse file in a ustar header: whether it has a prefix then is seen differently.
    pub(crate) fn is_mixed(&self) -> bool {
        self.is_posix() && self.kind() == b'S'
    }

    /// Where ustar has the prefix, GNU's format has nothing in a plain header; some readers take it for one all the same.
    pub(crate) fn has_foreign_prefix(&self) -> bool {
        !self.is_posix() && self.kind() != b'S' && !self.text(345, 155).is_empty()
    }

    /// The sum of all bytes with the checksum field taken as blanks; old writers summed signed bytes.
    pub(crate) fn checksum_is_right(&self) -> bool {
        let Some(stated) = self.number(148, 8) else { return false };
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, &byte) in self.0.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        stated == unsigned || stated == signed
    }

    pub(crate) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        match self.text(345, 155) {
            prefix if self.is_posix() && !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }
}

/// A numeric field: octal digits after blanks, and before blanks and NULs, or base 256 when the first byte's high bit is set.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // 0xff begins a negative number in two's complement, 0x80 a positive one; the remaining bytes are digits.
        let mut value: i128 = match first {
            0x80 => 0,
            0xff => -1,
            _ => return None,
        };
        for &byte in rest {
            value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
        }
        return i64::try_from(value).ok();
    }
    let is_blank = |c: &u8| matches!(c, b' ' | 0);
    let start = field.iter().position(|&c| c != b' ').unwrap_or(field.len());
    let digits = field.get(start..)?;
    // NULs alone are 0 to everybody, blanks alone are not.
    if !digits.first().is_some_and(u8::is_ascii_digit) && field.contains(&b' ') {
        return None;
    }
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    let mut value: i64 = 0;
    for &digit in digits.get(..end)? {
        let digit = digit.checked_sub(b'0').filter(|d| *d < 8)?;
        value = value.checked_mul(8)?.checked_add(i64::from(digit))?;
    }
    digits.get(end..)?.iter().all(is_blank).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", None),
            (b"77777777", Some(0o77777777)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (b"12\0 34\0\0", None),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"", None),
        ] {
            assert_eq!(number(field), want, "{field:?}");
        }
    }
}
