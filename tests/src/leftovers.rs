//! What a container may leave behind on a machine: processes, namespaces, mounts, control groups, files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What belongs to the containers of one test, found by the path of its directory and the ids of its containers.
///
/// Other tests run beside it: what they have is not looked at.
#[derive(Debug, Clone)]
pub struct Machine {
    directory: PathBuf,
    ignored: Option<PathBuf>,
    id: String,
}

impl Machine {
    /// For containers whose bundle and state are below `directory`, with ids that begin with `id`.
    #[must_use]
    pub fn new(directory: &Path, id: &str) -> Self {
        let directory = fs::canonicalize(directory).expect("the directory is there");
        Self { directory, ignored: None, id: id.to_owned() }
    }

    /// Does not look at the files below `name` of the directory: mount points that stay in a root file system.
    #[must_use]
    pub fn without(self, name: &str) -> Self {
        Self { ignored: Some(self.directory.join(name)), ..self }
    }

    /// Everything there is now, one line each, sorted.
    #[must_use]
    pub fn look(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.processes(&mut found);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
        let is_ours = |line: &&str| line.contains(&*self.directory.to_string_lossy());
        found.extend(mounts.lines().filter(is_ours).map(|line| format!("mount {line}")));
        self.groups(Path::new("/sys/fs/cgroup"), &mut found);
        self.files(&self.directory, &mut found);
        for place in ["/tmp", "/run", "/dev/shm"] {
            let names = fs::read_dir(place).into_iter().flatten().flatten().map(|e| e.path());
            let is_ours = |path: &PathBuf| path.to_string_lossy().contains(&self.id);
            found.extend(names.filter(is_ours).map(|path| format!("file {}", path.display())));
        }
        found
    }

    /// Waits until nothing is there that was not in `before`; fails the test when it stays.
    #[track_caller]
    pub fn is_as(&self, before: &BTreeSet<String>, after_what: &str) {
        let start = Instant::now();
        loop {
            let now = self.look();
            let more: Vec<&String> = now.difference(before).collect();
            if more.is_empty() {
                return;
            }
            // A process that has been killed is there a moment longer.
            assert!(start.elapsed() < Duration::from_secs(3), "left behind after {after_what}: {more:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn processes(&self, found: &mut BTreeSet<String>) {
        let directory = self.directory.to_string_lossy();
        for entry in fs::read_dir("/proc").expect("read /proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if pid == std::process::id() {
                continue;
            }
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let cmdline = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let mounts = String::from_utf8_lossy(&read("mountinfo")).into_owned();
            let is_root = |line: &str| line.split(' ').nth(4) == Some("/") && line.contains(&*directory);
            if cmdline.contains(&*directory) || mounts.lines().any(is_root) {
                let namespaces = ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"];
                let inodes = namespaces.map(|n| fs::metadata(entry.path().join("ns").join(n)).map_or(0, |m| m.ino()));
                found.insert(format!("process {pid} {cmdline} in namespaces {inodes:?}"));
            }
        }
    }

    fn groups(&self, directory: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(&self.id) {
                    found.insert(format!("group {}", entry.path().display()));
                }
                self.groups(&entry.path(), found);
            }
        }
    }

    fn files(&self, directory: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            found.insert(format!("file {}", entry.path().display()));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && self.ignored.as_ref() != Some(&entry.path()) {
                self.files(&entry.path(), found);
            }
        }
    }
}
