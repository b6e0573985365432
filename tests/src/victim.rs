//! A command on a store that is disturbed again and again, each time from the same state of the store.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::calls::Call;
use crate::traced::{Deed, Plan, Seen, traced_by};
use crate::{Out, Run, Sandbox, User, is_long, need};

/// A store with an image `kept`, a container `old` of it that something was written in, and beside it the layout
/// `layout`, whose image `new` shares a layer with `kept`.
#[derive(Debug)]
pub struct Victim {
    /// Where the store is.
    pub sandbox: Sandbox,
}

/// A command, and what it leaves when nobody disturbs it.
pub struct Trial<'a> {
    victim: &'a Victim,
    name: &'a str,
    command: &'a dyn Fn() -> Run,
    /// What the command fails with when an earlier one, though disturbed, did it all.
    repeated: Option<&'a str>,
    expected: BTreeSet<String>,
    containers: BTreeSet<String>,
}

/// One disturbed run.
pub struct Disturbed {
    /// What the tracer saw.
    pub seen: Seen,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Victim {
    /// None, and the test recorded as skipped, where the machine cannot make it.
    #[must_use]
    pub fn new(user: User) -> Option<Self> {
        if !user.available() || !need(&["umoci"]) {
            return None;
        }
        let sandbox = Sandbox::for_user(user);
        make_layout(&sandbox.path("layout"));
        let victim = Self { sandbox };
        victim.sandbox.ok("hoy-copy", &["copy", &victim.source("kept"), "store:kept"]);
        let old = victim.sandbox.ok("hoy-build", &["from", "--name", "old", "kept"]);
        let mounted = victim.sandbox.ok("hoy-build", &["mount", &old]);
        victim.sandbox.run("sh").args(["-c", "echo written >\"$0/written\" && mkdir \"$0/dir\"", &mounted]).ok();
        Some(victim)
    }

    /// An image of the layout as `hoy-copy` knows it.
    #[must_use]
    pub fn source(&self, image: &str) -> String {
        format!("oci:{}:{image}", self.sandbox.path("layout").display())
    }

    /// Keeps the store as it is now for [`Victim::reset`].
    pub fn keep(&self) {
        self.sandbox.quiet();
        let golden = self.sandbox.path("golden");
        Run::new("rm").arg("-rf").arg(&golden).ok();
        Run::new("cp").arg("-a").arg(self.sandbox.path("root")).arg(&golden).ok();
    }

    /// The store as it was kept, with nothing mounted: as after a reboot.
    pub fn reset(&self) {
        self.sandbox.quiet();
        let (root, work) = (self.sandbox.path("root"), self.sandbox.path("work"));
        let script = "rm -rf \"$0\" \"$2\"/* && cp -a \"$1\" \"$0\"";
        Run::new("sh").args(["-c", script]).arg(&root).arg(self.sandbox.path("golden")).arg(&work).ok();
    }

    fn prune(&self) {
        self.sandbox.ok("hoy-storage", &["prune", "--force"]);
    }

    fn containers(&self) -> BTreeSet<String> {
        let list = self.sandbox.ok("hoy-storage", &["containers", "--quiet", "--no-trunc"]);
        list.lines().map(str::to_owned).collect()
    }

    /// Every file of the store with its size, as far as that says something, and the names that the index gives.
    fn listing(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        list(&self.sandbox.path("root"), Path::new(""), &mut found);
        list(&self.sandbox.path("work"), Path::new("work"), &mut found);
        let index = fs::read(self.sandbox.path("root/index.json")).expect("read the index");
        let index: serde_json::Value = serde_json::from_slice(&index).expect("the index is JSON");
        for entry in index["manifests"].as_array().expect("a list") {
            let name = &entry["annotations"]["org.opencontainers.image.ref.name"];
            found.insert(format!("name {name} {}", entry["digest"]));
        }
        let temporary = fs::read_dir(self.sandbox.path("run")).expect("read RUNROOT").flatten();
        found.extend(temporary.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.starts_with(".tmp")));
        found
    }

    /// `command`, whose undisturbed run ends well, from the state that is kept.
    #[must_use]
    pub fn trial<'a>(&'a self, name: &'a str, command: &'a dyn Fn() -> Run, repeated: Option<&'a str>) -> Trial<'a> {
        self.reset();
        let containers = self.containers();
        command().ok();
        self.prune();
        Trial { victim: self, name, command, repeated, expected: self.listing(), containers }
    }
}

impl Trial<'_> {
    /// Runs the command from the kept state, with `deed` done at one of the calls that count.
    pub fn disturb(&self, counts: &dyn Fn(&Call) -> bool, nth: Option<u32>, deed: Deed) -> Disturbed {
        self.victim.reset();
        let (stdout, stderr) = (self.victim.sandbox.path("stdout"), self.victim.sandbox.path("stderr"));
        let create = |path: &PathBuf| fs::File::create(path).expect("make a file");
        let plan = Plan { counts, nth, deed };
        let seen = traced_by((self.command)(), &plan, create(&stdout), create(&stderr));
        let read = |path: &PathBuf| String::from_utf8_lossy(&fs::read(path).expect("read a file")).into_owned();
        Disturbed { seen, stdout: read(&stdout), stderr: read(&stderr) }
    }

    /// Does `deed` at each of the calls that count, or at some of them in the short form, and judges each run with
    /// `look` and by what becomes of the store; returns how often it was done, and how many calls there are.
    ///
    /// # Panics
    /// With all that was wrong, when something was.
    pub fn everywhere(
        &self,
        counts: &dyn Fn(&Call) -> bool,
        deed: Deed,
        look: &mut dyn FnMut(&Disturbed) -> Result<(), String>,
    ) -> (u32, u32) {
        let all = self.disturb(counts, None, deed).seen.counted;
        let step = std::env::var("HOY_KILL_STEP").ok().and_then(|step| step.parse().ok());
        let step = step.unwrap_or(if is_long() { 1 } else { all.div_ceil(6).max(1) });
        let mut done = 0;
        let mut faults = Vec::new();
        for nth in (1..=all).rev().step_by(step as usize) {
            let disturbed = self.disturb(counts, Some(nth), deed);
            // The order of threads may leave fewer calls than there were.
            let Some(at) = &disturbed.seen.done_at else { continue };
            done += 1;
            if let Err(fault) = look(&disturbed).and_then(|()| self.recovers(&disturbed)) {
                let Disturbed { stdout, stderr, .. } = &disturbed;
                faults.push(format!("{deed:?} at {nth} of {all}, {at}: {fault}; said {stdout:?} {stderr:?}"));
            }
        }
        assert!(faults.is_empty(), "{}: {} faults: {faults:#?}", self.name, faults.len());
        (done, all)
    }

    /// The store is whole or is repaired, the command succeeds when it is run again, and prune leaves what it should.
    fn recovers(&self, disturbed: &Disturbed) -> Result<(), String> {
        let storage = |args: &[&str]| self.victim.sandbox.run("hoy-storage").args(args).output();
        let succeeds = |args: &[&str]| match storage(args) {
            out if out.status == 0 && out.stderr.is_empty() => Ok(()),
            out => Err(format!("{args:?} afterwards: {out:?}")),
        };
        if storage(&["check"]).status != 0 && storage(&["check", "--repair"]).status != 0 {
            return Err(format!("cannot be repaired: {}", storage(&["check"]).stderr));
        }
        let is_done = disturbed.seen.status == 0 || !disturbed.stdout.trim().is_empty();
        if !is_done {
            for id in self.victim.containers().difference(&self.containers) {
                succeeds(&["rm", "--force", id])?;
            }
            let again = (self.command)().output();
            if !self.is_right(&again) {
                return Err(format!("fails again: {again:?}"));
            }
        }
        succeeds(&["prune", "--force"])?;
        succeeds(&["check"])?;
        let now = self.victim.listing();
        let more: Vec<_> = now.difference(&self.expected).collect();
        let less: Vec<_> = self.expected.difference(&now).collect();
        match more.is_empty() && less.is_empty() {
            true => Ok(()),
            false => Err(format!("left {more:?}, lost {less:?}")),
        }
    }

    fn is_right(&self, again: &Out) -> bool {
        again.status == 0 || self.repeated.is_some_and(|words| again.stderr.contains(words))
    }
}

/// Files whose length depends on when they were written, or on who was there first.
fn has_a_size_of_its_own(path: &Path) -> bool {
    let is_record = path.starts_with("layers") || path.starts_with("containers");
    let ending = path.extension().unwrap_or_default();
    ending == "old" || ending == "json" && is_record
}

fn list(directory: &Path, shown: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let metadata = entry.metadata().expect("look at a file");
        let name = entry.file_name();
        // One container's id is as good as another's.
        let is_id = shown == Path::new("containers") && name.len() == 64;
        let path = shown.join(if is_id { "ID".into() } else { name });
        let size = if metadata.is_dir() || has_a_size_of_its_own(&path) { 0 } else { metadata.size() };
        found.insert(format!("{} {size}", path.display()));
        // What is mounted has its files elsewhere.
        if metadata.is_dir() && path.file_name().is_none_or(|name| name != "rootfs") {
            list(&entry.path(), &path, found);
        }
    }
}

/// The layout with the images `kept` and `new`.
fn make_layout(layout: &Path) {
    let temporary = tempfile::tempdir().expect("make a directory");
    let script = "cd \"$0\" && mkdir -p a/b c && echo one >a/one && ln a/one a/b/link && ln -s one a/soft && mkfifo a/fifo && \
        chmod 4755 a/one && head -c 70000 /dev/urandom >a/b/big && echo two >c/two && chown 12:34 c/two && \
        setfattr -n user.note -v x c/two && truncate -s 1M c/sparse";
    Run::new("sh").args(["-c", script]).arg(temporary.path()).ok();
    let image = |name: &str| format!("{}:{name}", layout.display());
    Run::new("umoci").args(["init", "--layout"]).arg(layout).ok();
    Run::new("umoci").args(["new", "--image", &image("kept")]).ok();
    let insert = |image: &str, from: &str, to: &str| {
        Run::new("umoci").args(["insert", "--image", image]).arg(temporary.path().join(from)).arg(to).ok();
    };
    insert(&image("kept"), "a", "/a");
    Run::new("umoci").args(["tag", "--image", &image("kept"), "new"]).ok();
    insert(&image("kept"), "c", "/kept");
    insert(&image("new"), "c", "/new");
    Run::new("umoci").args(["gc", "--layout"]).arg(layout).ok();
    Run::new("chmod").args(["-R", "a+rX"]).arg(layout).ok();
}
