//! Users and groups of an image, looked up in its own `/etc/passwd` and `/etc/group`.
//!
//! The image is hostile: its files are opened inside its root, must be regular, and are read up to a bound. A number
//! is a number and never looked up as a name.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use hoy_sys::path::open_in_root;
use hoy_sys::rustix::fs::{FileType, Mode, OFlags, fstat};
use hoy_sys::rustix::io::Errno;

use crate::{Error, Result};

/// The most that is read of `/etc/passwd` or `/etc/group`, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// The longest line that is looked at, in bytes.
const LINE_BYTES: usize = 64 * 1024;

/// The greatest id; greater ones are negative to programs that store ids in signed integers.
const MAX_ID: u32 = i32::MAX as u32;

/// A user of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, ascending, the primary one among them.
    pub groups: Vec<u32>,
    /// Home directory; `/` when the image names none.
    pub home: String,
    /// Name, when the image has one for the id.
    pub name: Option<String>,
}

/// The users and groups that an image knows.
#[derive(Debug, Clone, Default)]
pub struct Users {
    passwd: Vec<Passwd>,
    group: Vec<Group>,
}

#[derive(Debug, Clone)]
struct Passwd {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Debug, Clone)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// The two parts of `USER[:GROUP]`, each a number, a name, or absent.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    Absent,
    Number(u32),
    Text(&'a str),
}

impl Users {
    /// Reads both files of the image whose root is `root`; one that is not there knows nobody.
    ///
    /// # Errors
    /// [`Error::Users`] when a file is not regular, too large, or leads out of the root.
    pub fn read(root: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self::parse(&read_bounded(root, "/etc/passwd")?, &read_bounded(root, "/etc/group")?))
    }

    /// Reads the texts of both files; lines that are none of theirs are passed over.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let passwd = lines(passwd).filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
            let home = if home.starts_with('/') { home } else { "/" };
            Some(Passwd { name: (*name).to_owned(), uid: id(uid)?, gid: id(gid)?, home: home.to_owned() })
        });
        let group = lines(group).filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members, ..] = fields.as_slice() else { return None };
            let members = members.split(',').map(|member| member.trim().to_owned()).collect();
            Some(Group { name: (*name).to_owned(), gid: id(gid)?, members })
        });
        Self { passwd: passwd.collect(), group: group.collect() }
    }

    /// The user that `text` means: nothing, `USER`, `USER:GROUP` or `:GROUP`, each a name or a number.
    ///
    /// Without a group, the primary group and the supplementary ones are those of the image; with one, it is the only
    /// group, as in Docker.
    ///
    /// # Errors
    /// [`Error::User`] for a name that the image does not know and for a number that is no id.
    pub fn find(&self, text: &str) -> Result<User> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let entry = match name("user", user)? {
            Name::Absent => Found::Number(0, self.by_uid(0)),
            Name::Number(uid) => Found::Number(uid, self.by_uid(uid)),
            Name::Text(text) => {
                let unknown = || unknown("user", text, "the image's /etc/passwd does not have it");
                Found::Entry(self.passwd.iter().find(|entry| entry.name == text).ok_or_else(unknown)?)
            }
        };
        let (uid, entry) = match entry {
            Found::Number(uid, entry) => (uid, entry),
            Found::Entry(entry) => (entry.uid, Some(entry)),
        };
        let explicit = match group.filter(|group| !group.is_empty()) {
            Some(group) => Some(self.find_group(group)?),
            None => None,
        };
        let gid = explicit.or(entry.map(|entry| entry.gid)).unwrap_or(0);
        let mut groups = vec![gid];
        if let (None, Some(entry)) = (explicit, entry) {
            let member = |group: &&Group| group.members.contains(&entry.name);
            groups.extend(self.group.iter().filter(member).map(|group| group.gid));
        }
        groups.sort_unstable();
        groups.dedup();
        let home = entry.map_or("/", |entry| &entry.home).to_owned();
        let home = if entry.is_none() && uid == 0 { "/root".to_owned() } else { home };
        Ok(User { uid, gid, groups, home, name: entry.map(|entry| entry.name.clone()) })
    }

    /// The group that `text` means, a name or a number.
    ///
    /// # Errors
    /// As [`Users::find`].
    pub fn find_group(&self, text: &str) -> Result<u32> {
        match name("group", text)? {
            Name::Number(gid) => Ok(gid),
            Name::Absent => Err(unknown("group", text, "the name is empty")),
            Name::Text(text) => {
                let found = self.group.iter().find(|group| group.name == text).map(|group| group.gid);
                found.ok_or_else(|| unknown("group", text, "the image's /etc/group does not have it"))
            }
        }
    }

    fn by_uid(&self, uid: u32) -> Option<&Passwd> {
        self.passwd.iter().find(|entry| entry.uid == uid)
    }
}

enum Found<'a> {
    Number(u32, Option<&'a Passwd>),
    Entry(&'a Passwd),
}

fn unknown(kind: &'static str, name: &str, reason: &str) -> Error {
    Error::User { kind, name: name.to_owned(), reason: reason.to_owned() }
}

/// Digits are always a number, and a number has one spelling: `00` is neither a number nor a name.
fn name<'a>(kind: &'static str, text: &'a str) -> Result<Name<'a>> {
    if text.is_empty() {
        return Ok(Name::Absent);
    }
    if text.bytes().all(|c| c.is_ascii_digit()) {
        let number = id(text).ok_or_else(|| unknown(kind, text, "an id is a number from 0 to 2147483647"))?;
        return if text == number.to_string() {
            Ok(Name::Number(number))
        } else {
            Err(unknown(kind, text, "an id has no leading zeros"))
        };
    }
    if text.starts_with(['-', '+']) || text.chars().any(|c| c.is_control() || c == ':' || c == ',') {
        return Err(unknown(kind, text, "this is neither a name nor an id"));
    }
    Ok(Name::Text(text))
}

fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= MAX_ID)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let useful = |line: &&str| line.len() <= LINE_BYTES && !line.starts_with(['#', '+', '-', ':']);
    text.lines().filter(useful)
}

/// Reads a file of the image: inside its root, regular, never waiting for a FIFO's writer, never without end.
fn read_bounded(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    let unread = |source| Error::Users { path: path.into(), source };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match open_in_root(root, path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(unread(error.into())),
    };
    let refuse = |reason: &str| unread(std::io::Error::other(reason.to_owned()));
    let stat = fstat(&fd).map_err(|errno| unread(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refuse("the image has something there that is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::from(fd).take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(refuse("the image's file is larger than 1 MiB"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n\
        1000:x:0:0::/:/bin/sh\n4294967296:x:0:0::/:\nbroken\n:x:7:7::/:\nfar:x:4294967295:0::/:\nrel:x:8:8::home:\n";
    const GROUP: &str = "root:x:0:\nbob:x:1000:\nstaff:x:50:ann,bob\nwheel:x:10:root\n1000:x:0:bob\n";

    #[test]
    fn every_form() {
        let users = Users::parse(PASSWD, GROUP);
        let find = |text: &str| users.find(text).map(|u| (u.uid, u.gid, u.groups, u.home)).map_err(|e| e.to_string());
        let found = |uid, gid, groups: &[u32], home: &str| Ok((uid, gid, groups.to_vec(), home.to_owned()));
        for (text, want) in [
            ("", found(0, 0, &[0, 10], "/root")),
            ("1", found(1, 0, &[0], "/")),
            ("1:2", found(1, 2, &[2], "/")),
            (":2", found(0, 2, &[2], "/root")),
            ("1:", found(1, 0, &[0], "/")),
            ("bob", found(1000, 1000, &[0, 50, 1000], "/home/bob")),
            ("bob:staff", found(1000, 50, &[50], "/home/bob")),
            ("bob:7", found(1000, 7, &[7], "/home/bob")),
            ("1000", found(1000, 1000, &[0, 50, 1000], "/home/bob")),
            ("root", found(0, 0, &[0, 10], "/root")),
            ("rel", found(8, 8, &[8], "/")),
            ("2147483647", found(i32::MAX as u32, 0, &[0], "/")),
        ] {
            assert_eq!(find(text), want, "{text:?}");
        }
        for text in [
            "-1",
            "1x",
            "4294967296",
            "2147483648",
            "00",
            "01",
            " 0",
            "+1",
            "far",
            "nobody",
            "1:nogroup",
            "a\nb",
            "1:2:3",
        ] {
            let error = find(text).unwrap_err();
            assert!(error.starts_with("unknown "), "{text:?}: {error}");
        }
        assert_eq!(users.find_group("staff").unwrap(), 50);
        assert!(users.find_group("").is_err());
    }

    #[test]
    fn without_files_numbers_serve() {
        let users = Users::default();
        assert_eq!(users.find("").unwrap().home, "/root");
        assert_eq!(users.find("5:6").unwrap().groups, [6]);
        assert!(users.find("root").is_err());
    }

    #[test]
    fn hostile_files() {
        use hoy_sys::rustix::fs::{CWD, mkfifoat};
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let read = || {
            let root = File::open(dir.path()).unwrap();
            Users::read(root.as_fd()).map(|users| users.passwd.len()).map_err(|error| error.to_string())
        };
        assert_eq!(read(), Ok(0));
        let passwd = etc.join("passwd");
        mkfifoat(CWD, &passwd, Mode::RUSR).unwrap();
        assert!(read().is_err());
        std::fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("/proc/self/environ", &passwd).unwrap();
        assert_eq!(read(), Ok(0), "a link stays in the root, where there is no such file");
        std::fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("/../../../../../../../etc/passwd", &passwd).unwrap();
        assert!(read().is_err(), "a link to itself");
        std::fs::remove_file(&passwd).unwrap();
        std::fs::write(&passwd, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert!(read().is_err());
        std::fs::write(&passwd, PASSWD).unwrap();
        assert_eq!(read(), Ok(5));
    }

    proptest::proptest! {
        #[test]
        fn any_text(passwd: String, group: String, text: String) {
            let users = Users::parse(&passwd, &group);
            if let Ok(user) = users.find(&text) {
                proptest::prop_assert!(user.uid <= MAX_ID && user.gid <= MAX_ID);
            }
        }
    }
}
