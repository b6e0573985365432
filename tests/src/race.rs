//! Names that change while a program looks at them, and a directory where it shows when that led it astray.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Whether `make check-long` runs: more rounds, more random input.
pub fn is_long() -> bool {
    std::env::var_os("HOY_LONG").is_some()
}

/// Runs `attempt` again and again, for two seconds or, in the long run, thirty, and on a busy machine eight times at
/// least, while the two names of each pair are exchanged all the time. Afterwards each has what it had.
pub fn while_exchanging(pairs: &[(PathBuf, PathBuf)], mut attempt: impl FnMut()) {
    /// Ends the other thread also when an attempt panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    let until = Instant::now() + Duration::from_secs(if is_long() { 30 } else { 2 });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (one, other) in pairs.iter().chain(pairs.iter().rev()) {
                    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("exchange two names");
                }
            }
        });
        let _stop = Stop(&stop);
        let mut rounds = 0;
        while rounds < 8 || Instant::now() < until {
            attempt();
            rounds += 1;
        }
    });
}

/// A directory of the host's that no container may reach.
#[derive(Debug)]
pub struct Tripwire {
    path: PathBuf,
    before: Vec<String>,
}

impl Tripwire {
    /// Makes the directory `path`, with a file and a directory in it.
    pub fn new(path: PathBuf) -> Self {
        fs::create_dir_all(path.join("directory")).expect("make a directory");
        fs::write(path.join("file"), "mine").expect("write a file");
        let before = listing(&path);
        Self { path, before }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fails when anything was made, changed or mounted there.
    #[track_caller]
    pub fn check(&self) {
        assert_eq!(listing(&self.path), self.before, "{} was reached", self.path.display());
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
        let below =
            mounts.lines().find(|line| line.split(' ').nth(4).is_some_and(|m| Path::new(m).starts_with(&self.path)));
        assert_eq!(below, None, "something is mounted on {}", self.path.display());
    }
}

fn listing(path: &Path) -> Vec<String> {
    let metadata = fs::symlink_metadata(path).expect("look at a file");
    let (mode, owner, group) = (metadata.mode(), metadata.uid(), metadata.gid());
    let mut lines = vec![format!("{} {mode:o} {owner} {group} {}", path.display(), metadata.mtime_nsec())];
    lines.extend(fs::read_link(path).map(|target| target.display().to_string()));
    if metadata.is_dir() {
        let mut names: Vec<_> =
            fs::read_dir(path).expect("read a directory").map(|e| e.expect("read").path()).collect();
        names.sort();
        lines.extend(names.iter().flat_map(|name| listing(name)));
    } else if metadata.is_file() {
        lines.push(String::from_utf8_lossy(&fs::read(path).expect("read a file")).into_owned());
    }
    lines
}
