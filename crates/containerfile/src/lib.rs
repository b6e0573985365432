//! The Containerfile language (the Dockerfile reference): bytes in, typed instructions with the place of every word out.
//! It never opens a file, reads a clock or the environment, and never panics, whatever the bytes.
//!
//! # Limits
//! A document of [`MAX_DOCUMENT`] bytes, a line of [`MAX_LINE`], [`MAX_NESTING`] expansions in one another, and
//! [`MAX_EXPANSION`] bytes of one word; beyond them is an error.

mod check;
mod check_stage;
mod csv;
mod directive;
mod document;
mod error;
mod expand;
mod flags;
mod heredoc;
mod ignore;
mod instruction;
mod json;
mod mount;
mod pattern;
mod source;
mod stages;
mod statement;
mod understand;
mod words;

pub use check::{Finding, Findings};
pub use check_stage::is_secret_name;
pub use directive::Directive;
pub use document::{Document, statements};
pub use error::{Diagnostic, Error};
pub use expand::{Expanded, Rules, Variables, expand};
pub use heredoc::Heredoc;
pub use ignore::{Glob, Ignore};
pub use instruction::{CommandLine, Device, From, Healthcheck, Instruction, Kind, Network, Run, Transfer};
pub use mount::{Mount, MountType, Sharing};
pub use source::{Place, Span, Word};
pub use stages::{Origin, Plan, Request, Stage};
pub use statement::{Args, Statement};

/// Bytes of a document, at most.
pub const MAX_DOCUMENT: usize = 4 << 20;
/// Bytes of a line, at most, its end left out.
pub const MAX_LINE: usize = 65_535;
/// Expansions in one another, at most: `${a:-${b:-…}}`.
pub const MAX_NESTING: usize = 64;
/// Bytes of an expanded word, at most.
pub const MAX_EXPANSION: usize = 1 << 20;
