//! A whole Containerfile.

use crate::directive::Directive;
use crate::error::{Diagnostic, Error, Fault};
use crate::instruction::{Instruction, Kind};
use crate::source::{Span, Word};
use crate::statement::Statement;
use crate::{statement, understand};

/// A Containerfile, read and understood; nothing in it is expanded.
#[derive(Debug, Clone)]
pub struct Document {
    /// `syntax`, `escape` and `check`, in the order written.
    pub directives: Vec<Directive>,
    /// The escape character.
    pub escape: char,
    /// All instructions, in the order written.
    pub instructions: Vec<Instruction>,
    text: String,
}

impl Document {
    /// Reads a Containerfile. Bytes of comments may be anything; elsewhere they are UTF-8.
    ///
    /// # Errors
    /// The first thing that is wrong, at its place.
    pub fn parse(bytes: &[u8]) -> Result<Self, Box<Diagnostic>> {
        let text = text(bytes).map_err(|(fault, text)| Box::new(fault.locate(&text)))?;
        read(&text).map_err(|fault| Box::new(fault.locate(&text))).map(|mut document| {
            document.text = text;
            document
        })
    }

    /// The text that spans are in; bytes of comments that are not UTF-8 became `?`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An error of this document at a span of it.
    #[must_use]
    pub fn diagnose(&self, error: Error, span: Span, nearest: Option<String>) -> Diagnostic {
        Fault { error, span, nearest }.locate(&self.text)
    }
}

impl Instruction {
    /// Reads the text of one instruction.
    ///
    /// # Errors
    /// As [`Document::parse`]; the place is in this text.
    pub fn parse(text: &str) -> Result<Self, Box<Diagnostic>> {
        Self::read(text, understand::instruction)
    }

    /// Reads the text of an ONBUILD trigger that an image keeps.
    ///
    /// # Errors
    /// As [`Document::parse`], and for what no trigger may be; the place is in the trigger's text.
    pub fn trigger(text: &str) -> Result<Self, Box<Diagnostic>> {
        Self::read(text, understand::trigger)
    }

    fn read(text: &str, understand: fn(Statement) -> Result<Self, Fault>) -> Result<Self, Box<Diagnostic>> {
        let read = || {
            let mut statements = statement::read(text)?.statements;
            match (statements.pop(), statements.is_empty()) {
                (Some(statement), true) => understand(statement),
                _ => Err(Fault::at(Span::default(), Error::OnbuildTrigger(text.to_owned()))),
            }
        };
        read().map_err(|fault: Fault| Box::new(fault.locate(text)))
    }

    /// Has a RUN mount what these values of `--mount` say, before its own; their place is the keyword.
    pub fn mount(&mut self, mounts: &[String]) {
        let span = self.statement.keyword.span;
        if let Kind::Run(run) = &mut self.kind {
            run.mounts.splice(..0, mounts.iter().map(|text| Word { text: text.clone(), span }));
        }
    }
}

/// Reads a Containerfile as statements alone: any keyword, any flags, whether they make sense or not.
///
/// # Errors
/// The first thing that is wrong, at its place.
pub fn statements(bytes: &[u8]) -> Result<Vec<Statement>, Box<Diagnostic>> {
    let text = text(bytes).map_err(|(fault, text)| Box::new(fault.locate(&text)))?;
    statement::read(&text).map(|read| read.statements).map_err(|fault| Box::new(fault.locate(&text)))
}

fn read(text: &str) -> Result<Document, Fault> {
    let statements = statement::read(text)?;
    let mut instructions: Vec<Instruction> = Vec::new();
    let mut has_stage = false;
    for statement in statements.statements {
        let instruction = understand::instruction(statement)?;
        match instruction.kind {
            Kind::From(_) => has_stage = true,
            Kind::Arg(_) => {}
            _ if !has_stage => return Err(Fault::at(instruction.statement.keyword.span, Error::NoStage)),
            _ => {}
        }
        instructions.push(instruction);
    }
    let (directives, escape) = (statements.directives, statements.escape);
    Ok(Document { directives, escape, instructions, text: String::new() })
}

/// The bytes as text of the same length.
fn text(bytes: &[u8]) -> Result<String, (Fault, String)> {
    let at =
        |at, error| (Fault::at(Span { start: at, end: at + 1 }, error), String::from_utf8_lossy(bytes).into_owned());
    if bytes.len() > crate::MAX_DOCUMENT {
        return Err((Fault::at(Span::default(), Error::DocumentTooLong), String::new()));
    }
    let mut text = String::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|c| *c == b'\n') {
        match std::str::from_utf8(line) {
            Ok(line) => text.push_str(line),
            Err(_) if line.trim_ascii_start().starts_with(b"#") => {
                text.extend(line.iter().map(|c| if c.is_ascii() { char::from(*c) } else { '?' }));
            }
            Err(error) => return Err(at(text.len() + error.valid_up_to(), Error::NotUtf8)),
        }
    }
    Ok(text)
}
