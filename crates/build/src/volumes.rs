//! Options of `--volume` that take more than a mount: `U` gives the source to the command's user, and `O` keeps what is
//! written away from it.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use hoy_oci::IdMaps;
use hoy_spec::{Host, Mount, Users};
use hoy_sys::path::open_beneath;
use hoy_sys::rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fchown, fstat, openat, statat};
use hoy_sys::rustix::io::Errno;

use crate::{Error, Result};

/// Directories whose owners a whole system relies on.
const SYSTEM: [&str; 24] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root",
    "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log", "/var/tmp", "/etc/pki",
];

/// Directories in one another, at most: each is open while what is in it is looked at.
const MAX_DEPTH: usize = 512;

/// What such volumes ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volumes {
    given: Vec<PathBuf>,
    overlays: Vec<Overlay>,
}

/// A volume that is only read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Overlay {
    lower: PathBuf,
    target: String,
    /// Where what is written stays.
    upper_and_work: Option<(PathBuf, PathBuf)>,
}

impl Volumes {
    /// Takes them out of `volumes`; what only has a new owner stays a volume.
    ///
    /// # Errors
    /// [`Error::Refused`] for options that do not go together, and for what is not to be given away or covered.
    pub fn take(volumes: &mut Vec<String>) -> Result<Self> {
        let mut taken = Self::default();
        for text in std::mem::take(volumes) {
            let parts: Vec<&str> = text.split(':').collect();
            let [source, target, options] = parts.as_slice() else {
                volumes.push(text);
                continue;
            };
            let wrong = |reason: &str| Error::Refused(format!("option --volume: \"{text}\": {reason}"));
            let words: Vec<&str> = options.split(',').collect();
            let path = |text: &str| std::path::absolute(text).map_err(|error| wrong(&error.to_string()));
            if words.contains(&"O") {
                let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
                let is_own = |word: &&str| {
                    matches!(*word, "O" | "z" | "Z") || word.starts_with("upperdir=") || word.starts_with("workdir=")
                };
                if let Some(other) = words.iter().find(|word| !is_own(word)) {
                    return Err(wrong(&format!("with O there are upperdir= and workdir=, and no {other}")));
                }
                let upper_and_work = match (value("upperdir"), value("workdir")) {
                    (Some(upper), Some(work)) => Some((path(upper)?, path(work)?)),
                    (None, None) => None,
                    _ => return Err(wrong("upperdir= and workdir= are given together")),
                };
                if !target.starts_with('/')
                    || target.split('/').any(|part| part == "..")
                    || target.trim_matches('/').is_empty()
                {
                    return Err(wrong("the place in the container must be an absolute path, and not / itself"));
                }
                taken.overlays.push(Overlay { lower: path(source)?, target: (*target).to_owned(), upper_and_work });
            } else if words.contains(&"U") {
                let place = Path::new(source).canonicalize().map_err(|error| wrong(&error.to_string()))?;
                if SYSTEM.iter().any(|system| place == Path::new(system)) {
                    return Err(wrong("U would give away a directory that the system needs"));
                }
                taken.given.push(place);
                let others: Vec<&str> = words.into_iter().filter(|word| *word != "U").collect();
                volumes.push(format!("{source}:{target}:{}", others.join(",")).trim_end_matches(':').to_owned());
            } else {
                volumes.push(text);
            }
        }
        Ok(taken)
    }

    /// Whether there is anything to be given away.
    #[must_use]
    pub fn have_new_owners(&self) -> bool {
        !self.given.is_empty()
    }

    /// Whether commands write where others might at the same time.
    #[must_use]
    pub fn keep_what_is_written(&self) -> bool {
        self.overlays.iter().any(|overlay| overlay.upper_and_work.is_some())
    }

    /// Gives the sources to `user` of the container with this root file system and these ids.
    ///
    /// # Errors
    /// [`Error::Spec`] for a user that it does not know, [`Error::Refused`] for one that has no id here, and those of
    /// changing owners.
    pub fn give(&self, root: BorrowedFd<'_>, user: &str, ids: Option<&IdMaps>) -> Result<()> {
        let user = Users::read(root)?.find(user)?;
        let outside = |ids: &IdMaps| ids.host_uid(user.uid).zip(ids.host_gid(user.gid));
        let missing = || {
            let text = format!("option --volume: U: {}:{} is not among the ids here", user.uid, user.gid);
            Error::Refused(format!("{text}: see --userns, /etc/subuid and /etc/subgid"))
        };
        let host = Host::current();
        let own = (host.has_uid(user.uid) && host.has_gid(user.gid)).then_some((user.uid, user.gid));
        let (uid, gid) = ids.map_or(own, outside).ok_or_else(missing)?;
        let owner = (Uid::from_raw(uid), Gid::from_raw(gid));
        self.given.iter().try_for_each(|place| give_place(place, owner))
    }

    /// The overlays, with directories below `directory` for what is not to stay.
    ///
    /// # Errors
    /// Those of making them.
    pub fn overlays(&self, directory: &Path, has_ids: bool) -> Result<Vec<Mount>> {
        let make =
            |path: &Path| DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Error::io("create", path));
        let mount = |(number, overlay): (usize, &Overlay)| {
            let (upper, work) = match &overlay.upper_and_work {
                Some(both) => both.clone(),
                None => {
                    let own = directory.join(format!("overlay-{number}"));
                    make(&own.join("upper"))?;
                    make(&own.join("work"))?;
                    (own.join("upper"), own.join("work"))
                }
            };
            let option = |name: &str, path: &Path| format!("{name}={}", path.display());
            let mut options =
                vec![option("lowerdir", &overlay.lower), option("upperdir", &upper), option("workdir", &work)];
            // Who may not write trusted attributes.
            options.extend((has_ids || !hoy_sys::user::is_initial_root()).then(|| "userxattr".to_owned()));
            let kind = "overlay".to_owned();
            Ok(Mount { destination: overlay.target.clone(), source: kind.clone(), kind, options })
        };
        self.overlays.iter().enumerate().map(mount).collect()
    }
}

/// Gives what was found with all links followed: one that is on the way now was put there since.
fn give_place(place: &Path, owner: (Uid, Gid)) -> Result<()> {
    let top = File::open("/").map_err(Error::io("open", "/"))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open_beneath(&top, place.strip_prefix("/").unwrap_or(place), flags, Mode::empty());
    let file = file.map_err(|error| Error::io::<Errno>("give away", place)(error.errno))?;
    give(file.as_fd(), owner, MAX_DEPTH).map_err(Error::io("give away", place))
}

/// Gives a file and all that is below it, at most so deep, through descriptors alone, so that no link leads elsewhere.
fn give(file: BorrowedFd<'_>, owner: (Uid, Gid), depth: usize) -> io::Result<()> {
    let below = depth.checked_sub(1).ok_or_else(|| io::Error::other("its directories are too deep"))?;
    let stat = fstat(file)?;
    if (stat.st_uid, stat.st_gid) != (owner.0.as_raw(), owner.1.as_raw()) {
        fchown(file, Some(owner.0), Some(owner.1))?;
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    for entry in Dir::read_from(file)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(file, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            give(openat(file, name, flags, Mode::empty())?.as_fd(), owner, below)?;
        } else if (stat.st_uid, stat.st_gid) != (owner.0.as_raw(), owner.1.as_raw()) {
            chownat(file, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken() {
        let take = |texts: &[&str]| {
            let mut volumes = texts.iter().map(|&text| text.to_owned()).collect();
            Volumes::take(&mut volumes).map(|taken| (taken, volumes)).map_err(|error| error.to_string())
        };
        let (taken, left) = take(&["/a:/b", "/a:/b:ro", "/usr/bin:/b:z,U", "/usr/bin:/c:U"]).unwrap();
        assert_eq!(left, ["/a:/b", "/a:/b:ro", "/usr/bin:/b:z", "/usr/bin:/c"]);
        assert_eq!((taken.given.len(), taken.overlays.len()), (2, 0));
        let (taken, left) = take(&["/l:/t:O,upperdir=/u,workdir=/w"]).unwrap();
        let upper_and_work = Some(("/u".into(), "/w".into()));
        let overlay = Overlay { lower: "/l".into(), target: "/t".to_owned(), upper_and_work };
        assert_eq!((taken.overlays, left), (vec![overlay], vec![]));
        for (wrong, says) in [
            ("/l:/t:O,upperdir=/u", "given together"),
            ("/l:/t:O,ro", "no ro"),
            ("/l:/:O", "absolute"),
            ("/l:/a/../b:O", "absolute"),
            ("/:/t:U", "system needs"),
            ("/none:/t:U", "/none"),
        ] {
            assert!(take(&[wrong]).unwrap_err().contains(says), "{wrong}");
        }
    }

    #[test]
    fn what_is_given_is_what_was_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(path("own/sub")).unwrap();
        std::fs::create_dir(path("other")).unwrap();
        let stat = fstat(File::open(path("own")).unwrap()).unwrap();
        let root = File::open(directory.path()).unwrap();
        let user = format!("{}:{}", stat.st_uid, stat.st_gid);
        let mut texts = vec![format!("{}:/t:U", path("own").display())];
        let taken = Volumes::take(&mut texts).unwrap();
        taken.give(root.as_fd(), &user, None).unwrap();
        std::fs::rename(path("own"), path("old")).unwrap();
        std::os::unix::fs::symlink(path("other"), path("own")).unwrap();
        assert!(taken.give(root.as_fd(), &user, None).is_err(), "a link that came since leads nowhere");
        let top = File::open(path("old")).unwrap();
        let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        assert!(give(top.as_fd(), owner, 2).is_ok());
        assert!(give(top.as_fd(), owner, 1).unwrap_err().to_string().contains("too deep"));
    }
}
