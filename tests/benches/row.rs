//! One of ours beside one of theirs.

use std::path::Path;

use crate::measure::{Command, beside};

/// A piece of work, by us and by another.
pub struct Row<'a> {
    pub work: &'a str,
    pub peer: &'a str,
    pub ours: Command<'a>,
    pub theirs: Command<'a>,
}

/// Prints one row.
pub fn bench(row: &Row, rounds: usize, place: &Path) {
    beside(row.work, &row.ours, &[(row.peer, &row.theirs)], (1, rounds), place);
}
