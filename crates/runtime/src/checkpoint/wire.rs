//! The little of protobuf's encoding that criu's requests and answers need (protobuf.dev, "Encoding").

/// A message being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// A number, an enumeration's member or a boolean.
    pub(crate) fn int(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    /// A boolean; false is what a missing one means.
    pub(crate) fn flag(self, field: u32, value: bool) -> Self {
        if value { self.int(field, 1) } else { self }
    }

    /// A text, or a message inside this one.
    pub(crate) fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// A text that may be missing.
    pub(crate) fn text(self, field: u32, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.bytes(field, text.as_bytes()),
            None => self,
        }
    }

    /// A message inside this one.
    pub(crate) fn message(self, field: u32, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A field that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A number, an enumeration's member or a boolean.
    Int(u64),
    /// A text or a message.
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// The number; 0 where it is none.
    pub(crate) fn int(self) -> u64 {
        if let Self::Int(value) = self { value } else { 0 }
    }

    /// The text; empty where it is none.
    pub(crate) fn text(self) -> String {
        if let Self::Bytes(bytes) = self { String::from_utf8_lossy(bytes).into_owned() } else { String::new() }
    }
}

/// Reads the fields of a message; `None` when the bytes are no message.
pub(crate) fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Int(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Value::Bytes(value)
            }
            _ => return None,
        };
        found.push((u32::try_from(key >> 3).ok()?, value));
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Writer::default().text(1, Some("testing")).text(2, None);
        let message = Writer::default().int(1, 150).flag(2, false).flag(3, true).message(37, &inner).int(4, u64::MAX);
        assert_eq!(message.as_bytes().get(..3), Some(&[8, 0x96, 1][..]), "the example of the encoding's own page");
        let read = fields(message.as_bytes()).unwrap();
        let want = [
            (1, Value::Int(150)),
            (3, Value::Int(1)),
            (37, Value::Bytes(b"\x0a\x07testing")),
            (4, Value::Int(u64::MAX)),
        ];
        assert_eq!(read, want);
    }

    #[test]
    fn broken_bytes_are_no_message() {
        for bytes in [&b"\x80"[..], b"\x08", b"\x0a\x05abc", b"\x0d\0\0\0\0", &[0xff; 11]] {
            assert_eq!(fields(bytes), None, "{bytes:?}");
        }
    }
}
