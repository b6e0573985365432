//! Compiled seccomp programs, kept between runs under the state directory.
//!
//! A file is the key (all that the program depends on), the program, and a sum over both. What is read is used only
//! when the key is the wanted one byte for byte and the sum is right: a file's name alone proves nothing.

use std::fs::{DirBuilder, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use hoy_sys::rustix::fs::{self, AtFlags, CWD, Dir, Mode, OFlags};
use hoy_sys::rustix::process::geteuid;
use hoy_sys::seccomp::Instruction;

/// How many programs are kept.
const MOST: usize = 64;

/// The longest file: a key of a large profile and the longest program.
const LONGEST: u64 = 1 << 20;

/// One program, whether it is kept already or not.
pub(crate) struct Slot {
    directory: OwnedFd,
    name: String,
    key: Vec<u8>,
}

impl Slot {
    /// The place of the program that `key` stands for in `directory`, which is made when it is missing.
    ///
    /// `None` where nothing can be kept, or somebody else could change it: it is compiled each time then.
    pub(crate) fn open(directory: &Path, key: Vec<u8>) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || fs::openat(CWD, directory, flags, Mode::empty());
        let opened = open().or_else(|_| {
            DirBuilder::new().mode(0o700).create(directory).ok();
            open()
        });
        let opened = opened.ok()?;
        let stat = fs::fstat(&opened).ok()?;
        let is_own = stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o077 == 0;
        is_own.then(|| Self { directory: opened, name: format!("{:016x}", sum(&key)), key })
    }

    /// The program, if it is kept and whole, and whether it notifies a listener.
    pub(crate) fn read(&self) -> Option<(Vec<Instruction>, bool)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&self.directory, &self.name, flags, Mode::empty()).ok()?;
        // A program is a few times as long as its key, or much shorter.
        let mut bytes = Vec::with_capacity(4 * self.key.len());
        File::from(file).take(LONGEST).read_to_end(&mut bytes).ok()?;
        let (whole, written) = bytes.split_last_chunk::<8>()?;
        if sum(whole) != u64::from_le_bytes(*written) {
            return None;
        }
        let (notifies, program) = whole.strip_prefix(self.key.as_slice())?.split_first()?;
        let (instructions, rest) = program.as_chunks::<8>();
        let program = instructions.iter().map(decode).collect();
        rest.is_empty().then_some((program, *notifies != 0))
    }

    /// Keeps the program. Where it cannot be kept nothing is lost but time.
    pub(crate) fn write(&self, program: &[Instruction], notifies: bool) {
        let mut bytes = self.key.clone();
        bytes.push(u8::from(notifies));
        program.iter().for_each(|instruction| bytes.extend(encode(instruction)));
        bytes.extend(sum(&bytes).to_le_bytes());
        self.make_room().and_then(|()| self.replace(&bytes)).unwrap_or_default();
    }

    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        let temporary = format!("{}.{}", self.name, std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(fs::openat(&self.directory, &temporary, flags, Mode::from_raw_mode(0o600))?);
        file.write_all(bytes)?;
        Ok(fs::renameat(&self.directory, &temporary, &self.directory, &self.name)?)
    }

    /// Begins anew when the directory is full; what was interrupted while it was written goes with the rest.
    fn make_room(&self) -> std::io::Result<()> {
        let entries = Dir::read_from(self.directory.as_fd())?.collect::<Result<Vec<_>, _>>()?;
        let names = entries.iter().map(|entry| entry.file_name()).filter(|name| !name.to_bytes().starts_with(b"."));
        let names: Vec<_> = names.collect();
        if names.len() < MOST {
            return Ok(());
        }
        for name in names {
            match fs::unlinkat(&self.directory, name, AtFlags::empty()).map_err(std::io::Error::from) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// Finds damage, and tells programs apart; it is no proof against who may write here anyway.
fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn encode(instruction: &Instruction) -> [u8; 8] {
    let [c0, c1] = instruction.code.to_le_bytes();
    let [k0, k1, k2, k3] = instruction.k.to_le_bytes();
    [c0, c1, instruction.jt, instruction.jf, k0, k1, k2, k3]
}

fn decode([c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]) -> Instruction {
    Instruction { code: u16::from_le_bytes([*c0, *c1]), jt: *jt, jf: *jf, k: u32::from_le_bytes([*k0, *k1, *k2, *k3]) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn program() -> Vec<Instruction> {
        vec![Instruction { code: 0x35, jt: 1, jf: 2, k: 0x0102_0304 }, Instruction { code: 6, jt: 0, jf: 0, k: 9 }]
    }

    fn slot(directory: &Path, key: &str) -> Slot {
        Slot::open(directory, key.as_bytes().to_vec()).unwrap()
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn what_is_kept_comes_back() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("@seccomp");
        assert!(slot(&directory, "key").read().is_none());
        slot(&directory, "key").write(&program(), true);
        assert_eq!(slot(&directory, "key").read().unwrap(), (program(), true));
        assert!(slot(&directory, "other").read().is_none());
    }

    #[test]
    fn damage_is_seen_at_every_byte() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("@seccomp");
        slot(&directory, "key").write(&program(), false);
        let file = files(&directory).pop().unwrap();
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&file, damaged).unwrap();
            assert!(slot(&directory, "key").read().is_none(), "byte {at}");
            std::fs::write(&file, &whole[..at]).unwrap();
            assert!(slot(&directory, "key").read().is_none(), "cut at {at}");
        }
        slot(&directory, "key").write(&program(), false);
        assert_eq!(std::fs::read(&file).unwrap(), whole);
        assert_eq!(slot(&directory, "key").read().unwrap(), (program(), false));
    }

    #[test]
    fn another_key_under_the_same_name_is_not_believed() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("@seccomp");
        slot(&directory, "key").write(&program(), false);
        std::fs::rename(files(&directory).pop().unwrap(), directory.join(slot(&directory, "other").name)).unwrap();
        assert!(slot(&directory, "other").read().is_none());
    }

    #[test]
    fn a_directory_that_others_may_use_is_not_used() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("open");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o770)).unwrap();
        assert!(Slot::open(&directory, Vec::new()).is_none());
        let link = temporary.path().join("link");
        symlink(temporary.path(), &link).unwrap();
        assert!(Slot::open(&link, Vec::new()).is_none());
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("@seccomp");
        for number in 0..=MOST {
            slot(&directory, &number.to_string()).write(&program(), false);
        }
        assert_eq!(files(&directory).len(), 1);
    }
}
