//! Messages (D-Bus Specification "Message Protocol").

use super::value::malformed;
use super::{Reader, Writer};
use crate::Result;

/// No reply of systemd is longer, in bytes.
const LONGEST: usize = 1 << 20;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// A message: what counts of its header, and its body as bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) serial: u32,
    /// The call that it answers.
    pub(crate) reply_to: u32,
    /// Of calls and signals.
    pub(crate) path: String,
    pub(crate) interface: String,
    pub(crate) member: String,
    /// The name of an error.
    pub(crate) error: String,
    pub(crate) destination: String,
    /// The types of the body.
    pub(crate) signature: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// One with nothing but its kind and number.
    pub(crate) fn new(kind: Kind, serial: u32) -> Self {
        let none = String::new;
        let (path, interface, member, error) = (none(), none(), none(), none());
        let (destination, signature) = (none(), none());
        Self { kind, serial, reply_to: 0, path, interface, member, error, destination, signature, body: Vec::new() }
    }

    /// The whole message as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![b'l', self.kind as u8, 0, 1]);
        out.u32(u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        out.u32(self.serial);
        let fields = [
            (1, "o", &self.path),
            (2, "s", &self.interface),
            (3, "s", &self.member),
            (4, "s", &self.error),
            (5, "u", &String::new()),
            (6, "s", &self.destination),
            (8, "g", &self.signature),
        ];
        let given: Vec<_> = fields
            .into_iter()
            .filter(|(code, _, text)| !text.is_empty() || (*code == 5 && self.reply_to != 0))
            .collect();
        out.array(8, &given, |out, (code, kind, text)| {
            out.byte(*code);
            out.signature(kind);
            match *kind {
                "u" => out.u32(self.reply_to),
                "g" => out.signature(text),
                _ => out.text(text),
            }
        });
        out.align(8);
        out.0.extend(&self.body);
        out.0
    }

    /// The first message in `bytes` and its length; `None` when there is no whole one yet.
    ///
    /// # Errors
    /// Bytes that are no message, or a longer one than systemd sends.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>> {
        let Some(start) = bytes.get(..16) else { return Ok(None) };
        let mut reader = Reader::new(start);
        if reader.byte()? != b'l' {
            return Err(malformed("it is not little-endian"));
        }
        let kind = match reader.byte()? {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return Err(malformed("an unknown kind of message")),
        };
        let (_flags, _version) = (reader.byte()?, reader.byte()?);
        let size = |number: u32| usize::try_from(number).ok().filter(|size| *size <= LONGEST);
        let too_long = || malformed("it is too long");
        let body = size(reader.u32()?).ok_or_else(too_long)?;
        let mut message = Self::new(kind, reader.u32()?);
        let fields = size(reader.u32()?).ok_or_else(too_long)?;
        let begin = (16 + fields).next_multiple_of(8);
        let (Some(header), Some(body)) = (bytes.get(..16 + fields), bytes.get(begin..begin + body)) else {
            return Ok(None);
        };
        message.read_fields(header)?;
        message.body = body.to_vec();
        Ok(Some((message, begin + body.len())))
    }

    fn read_fields(&mut self, header: &[u8]) -> Result<()> {
        let mut reader = Reader::new(header);
        while reader.at() < 16 {
            reader.byte()?;
        }
        while reader.at() < header.len() {
            reader.align(8);
            let code = reader.byte()?;
            let mut ignored = String::new();
            match reader.signature()? {
                "u" => {
                    let number = reader.u32()?;
                    if code == 5 {
                        self.reply_to = number;
                    }
                }
                kind @ ("s" | "o" | "g") => {
                    let text = if kind == "g" { reader.signature()? } else { reader.text()? };
                    let field = match code {
                        1 => &mut self.path,
                        2 => &mut self.interface,
                        3 => &mut self.member,
                        4 => &mut self.error,
                        6 => &mut self.destination,
                        8 => &mut self.signature,
                        _ => &mut ignored,
                    };
                    text.clone_into(field);
                }
                _ => return Err(malformed("a header field of an unknown type")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Value;
    use super::*;

    fn sample() -> Message {
        let mut message = Message::new(Kind::Call, 7);
        message.reply_to = 3;
        "/a/b".clone_into(&mut message.path);
        "org.x.Y".clone_into(&mut message.interface);
        "Do".clone_into(&mut message.member);
        "ss".clone_into(&mut message.signature);
        let mut body = Writer::default();
        body.text("one");
        body.text("two");
        message.body = body.0;
        message
    }

    #[test]
    fn what_is_written_can_be_read() {
        let bytes = sample().encode();
        assert_eq!(Message::decode(&bytes).unwrap(), Some((sample(), bytes.len())));
        for cut in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..cut]).unwrap(), None, "{cut}");
        }
    }

    /// The bytes of a property, aligned as the specification has it.
    #[test]
    fn properties_on_the_wire() {
        let mut out = Writer::default();
        out.properties(&[("A".to_owned(), Value::U64(2)), ("B".to_owned(), Value::Numbers(vec![9]))]);
        let want: &[&[u8]] = &[
            &[40, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, b'A', 0, 1, b't'],
            &[0, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, b'B', 0, 2, b'a'],
            &[b'u', 0, 0, 0, 4, 0, 0, 0],
            &[9, 0, 0, 0],
        ];
        let mut want = want.concat();
        want[0] = u8::try_from(want.len() - 8).unwrap();
        assert_eq!(out.0, want);
    }

    #[test]
    fn wrong_bytes_are_errors() {
        let good = sample().encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        for (what, bytes) in [
            ("big-endian", with(0, b'B')),
            ("kind", with(1, 9)),
            ("length of the body", with(7, 0x7f)),
            ("length of the fields", with(15, 0x7f)),
            ("type of a field", with(18, b'v')),
            ("length of a field", with(20, 0xff)),
        ] {
            assert!(Message::decode(&bytes).is_err(), "{what}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..120_usize) {
            drop(Message::decode(&bytes));
            let mut changed = sample().encode();
            for (to, byte) in changed.iter_mut().skip(at).zip(&bytes) {
                *to = *byte;
            }
            if let Ok(Some((message, size))) = Message::decode(&changed) {
                prop_assert!(size <= changed.len());
                message.first_text();
            }
        }
    }
}
