//! Values on the wire, little-endian (D-Bus Specification "Marshaling").

use crate::{Error, Result};

/// A value of one of the types that unit properties have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// `b`
    Bool(bool),
    /// `y`
    Byte(u8),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    Double(f64),
    /// `s`
    Text(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
    /// `as`
    Texts(Vec<String>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
    /// `a(st)`
    Rates(Vec<(String, u64)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::Byte(_) => "y",
            Self::I16(_) => "n",
            Self::U16(_) => "q",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::Double(_) => "d",
            Self::Text(_) => "s",
            Self::Bytes(_) => "ay",
            Self::Numbers(_) => "au",
            Self::Texts(_) => "as",
            Self::Pairs(_) => "a(ss)",
            Self::Rates(_) => "a(st)",
        }
    }
}

/// Marshals values, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// A number of as many bytes as it has, which are also its alignment.
    fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.0.extend(bytes);
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.number(number.to_le_bytes());
    }

    /// A string, or the path of an object.
    pub(crate) fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    pub(crate) fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    /// An array whose elements are aligned to `to` and written by `each`.
    pub(crate) fn array<T>(&mut self, to: usize, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.u32(0);
        let at = self.0.len();
        self.align(to);
        // The padding before the first element does not count.
        let begin = self.0.len();
        for item in items {
            self.align(to);
            each(self, item);
        }
        let size = length(self.0.len() - begin).to_le_bytes();
        if let Some(place) = self.0.get_mut(at - 4..at) {
            place.copy_from_slice(&size);
        }
    }

    pub(crate) fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(yes) => self.u32((*yes).into()),
            Value::Byte(byte) => self.byte(*byte),
            Value::I16(n) => self.number(n.to_le_bytes()),
            Value::U16(n) => self.number(n.to_le_bytes()),
            Value::I32(n) => self.number(n.to_le_bytes()),
            Value::U32(n) => self.u32(*n),
            Value::I64(n) => self.number(n.to_le_bytes()),
            Value::U64(n) => self.number(n.to_le_bytes()),
            Value::Double(n) => self.number(n.to_le_bytes()),
            Value::Text(text) => self.text(text),
            Value::Bytes(bytes) => self.array(1, bytes, |w, byte| w.byte(*byte)),
            Value::Numbers(numbers) => self.array(4, numbers, |w, n| w.u32(*n)),
            Value::Texts(texts) => self.array(4, texts, |w, text| w.text(text)),
            Value::Pairs(pairs) => self.array(8, pairs, |w, (a, b)| {
                w.text(a);
                w.text(b);
            }),
            Value::Rates(rates) => self.array(8, rates, |w, (name, n)| {
                w.text(name);
                w.number(n.to_le_bytes());
            }),
        }
    }

    /// `a(sv)`: properties by name.
    pub(crate) fn properties(&mut self, properties: &[(String, Value)]) {
        self.array(8, properties, |w, (name, value)| {
            w.text(name);
            w.variant(value);
        });
    }
}

/// No message here comes near 4 GiB; one that did would be refused by the other side.
fn length(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// Unmarshals values; whatever the bytes are, it ends with a value or an error.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or_else(|| malformed("a value is cut off"))?;
        self.at += count;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        self.take(1)?.first().copied().ok_or_else(|| malformed("a value is cut off"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().map_err(|_| malformed("a value is cut off"))?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn text_of(&mut self, size: usize) -> Result<&'a str> {
        let text = self.take(size)?;
        if self.byte()? != 0 {
            return Err(malformed("a string does not end"));
        }
        std::str::from_utf8(text).map_err(|_| malformed("a string is not UTF-8"))
    }

    /// A string, or the path of an object.
    pub(crate) fn text(&mut self) -> Result<&'a str> {
        let size = self.u32()?;
        self.text_of(usize::try_from(size).unwrap_or(usize::MAX))
    }

    pub(crate) fn signature(&mut self) -> Result<&'a str> {
        let size = self.byte()?;
        self.text_of(size.into())
    }
}

pub(crate) fn malformed(what: &str) -> Error {
    Error::Systemd { doing: "understand its reply".to_owned(), reason: what.to_owned() }
}
