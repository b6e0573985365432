//! Ownership, mode and kind that could not be given to a file, kept in an extended attribute instead.

use crate::Device;

/// The attribute that containers/storage and fuse-overlayfs use for it.
pub const OVERRIDE_STAT: &str = "user.containers.override_stat";

/// `UID:GID:MODE` with the mode in octal, and `:block-MAJOR-MINOR` or `:char-MAJOR-MINOR` on a stand-in for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverrideStat {
    /// The owner it should have.
    pub uid: u32,
    /// The group it should have.
    pub gid: u32,
    /// The permissions it should have, at most 0o7777.
    pub mode: u32,
    /// The device it should be; a block device when the flag is set.
    pub device: Option<(bool, Device)>,
}

impl OverrideStat {
    /// The attribute's value.
    pub fn to_value(&self) -> String {
        let Self { uid, gid, mode, device } = self;
        let kind = match device {
            None => String::new(),
            Some((is_block, Device { major, minor })) => {
                format!(":{}-{major}-{minor}", if *is_block { "block" } else { "char" })
            }
        };
        format!("{uid}:{gid}:0{mode:o}{kind}")
    }

    /// Reads a value; none when it is not of this form.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(value).ok()?.split(':');
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let mode = u32::from_str_radix(fields.next()?, 8).ok()? & 0o7777;
        let device = match fields.next() {
            None | Some("file" | "dir") => None,
            Some(kind) => {
                let (kind, numbers) = kind.split_once('-')?;
                let (major, minor) = numbers.split_once('-')?;
                let is_block = match kind {
                    "block" => true,
                    "char" => false,
                    _ => return None,
                };
                Some((is_block, Device { major: major.parse().ok()?, minor: minor.parse().ok()? }))
            }
        };
        fields.next().is_none().then_some(Self { uid, gid, mode, device })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (device, text) in [
            (None, "1:2:04755"),
            (Some((true, Device { major: 8, minor: 1 })), "1:2:04755:block-8-1"),
            (Some((false, Device { major: 5, minor: 1 })), "1:2:04755:char-5-1"),
        ] {
            let stat = OverrideStat { uid: 1, gid: 2, mode: 0o4755, device };
            assert_eq!(stat.to_value(), text);
            assert_eq!(OverrideStat::parse(text.as_bytes()), Some(stat));
        }
        for wrong in ["", "1:2", "1:2:9", "1:2:0644:char-1", "1:2:0644:char-1-2:x", "-1:2:0644", "1:2:0644:sock"] {
            assert_eq!(OverrideStat::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
