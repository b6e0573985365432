//! Deletions: as entries of a tar (image-spec layer.md "Whiteouts") and as overlayfs has them on disk.

/// What the name of a tar entry says about the layers below.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whiteout<'a> {
    /// The entry is an ordinary file.
    None,
    /// The name below is deleted.
    Name(&'a [u8]),
    /// Everything below in this directory is deleted.
    Opaque,
    /// Bookkeeping of aufs that means nothing to anybody else.
    Bookkeeping,
    /// A whiteout of `.`, `..` or nothing.
    Invalid,
}

pub(crate) const PREFIX: &[u8] = b".wh.";

pub(crate) fn parse(name: &[u8]) -> Whiteout<'_> {
    match name.strip_prefix(PREFIX) {
        None => Whiteout::None,
        Some(b".wh..opq") => Whiteout::Opaque,
        Some(b"" | b"." | b"..") => Whiteout::Invalid,
        Some(rest) if rest.starts_with(PREFIX) => Whiteout::Bookkeeping,
        Some(rest) => Whiteout::Name(rest),
    }
}

/// The namespace of overlayfs's own attributes (Documentation/filesystems/overlayfs.rst "userxattr").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayXattrs {
    /// `trusted.overlay.`, for user 0 of the initial user namespace.
    Trusted,
    /// `user.overlay.`, in user namespaces.
    User,
}

impl OverlayXattrs {
    /// The attribute whose value `y` hides everything below a directory.
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }

    /// The attribute of a directory that may have whiteouts; an empty value stands for an origin that is not known.
    pub(crate) fn origin(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.origin",
            Self::User => "user.overlay.origin",
        }
    }
}

/// Attributes that are overlayfs's or ours: an image can neither set them nor contain them.
pub(crate) fn is_private(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.")
        || name.starts_with(b"user.overlay.")
        || name == crate::OVERRIDE_STAT.as_bytes()
}

/// The attributes that belong to an image: `user.` and file capabilities, as other builders have it. What is missing
/// is the machine's (`security.selinux`), the file system's, or not to be seen by an ordinary user (`trusted.`).
pub(crate) fn belongs_to_image(name: &[u8]) -> bool {
    (name.starts_with(b"user.") || name == b"security.capability") && !is_private(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, want) in [
            ("a", Whiteout::None),
            (".wh", Whiteout::None),
            (".wh.a", Whiteout::Name(b"a")),
            (".wh..a", Whiteout::Name(b".a")),
            (".wh..wh..opq", Whiteout::Opaque),
            (".wh..wh.plnk", Whiteout::Bookkeeping),
            (".wh.", Whiteout::Invalid),
            (".wh..", Whiteout::Invalid),
            (".wh...", Whiteout::Invalid),
        ] {
            assert_eq!(parse(name.as_bytes()), want, "{name}");
        }
    }
}
