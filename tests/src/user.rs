//! Who runs a program.

use std::fs;

/// A user to run programs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// User 0.
    Root,
    /// An ordinary user with subordinate ids: `hoyuser`.
    Sub,
    /// An ordinary user with one id only: `hoyone`.
    One,
}

impl User {
    /// The account's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Sub => "hoyuser",
            Self::One => "hoyone",
        }
    }

    /// User and group id from `/etc/passwd`; none when there is no such account.
    pub fn ids(self) -> Option<(u32, u32)> {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let line = passwd.lines().find(|line| line.split(':').next() == Some(self.name()))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    }

    /// Whether programs can be run as this user here; where not, the test is recorded as skipped.
    pub fn available(self) -> bool {
        if !rustix::process::geteuid().is_root() {
            crate::skip("needs root, to become the users of the tests");
            return false;
        }
        if self.ids().is_none() {
            crate::skip(&format!("there is no user {}: \"make check\" as root adds it", self.name()));
            return false;
        }
        true
    }
}
