//! One digest for each of many Containerfiles, whoever builds it, whenever, with however many jobs, from a cache or anew, in
//! whatever locale, time zone and umask, and in whatever order the context's directories list their names.

use std::fs;
use std::path::Path;

use hoy_tests::{CASES, Case, Run, Sandbox, User, busybox_layout, need, program_dir, write_context};

/// Two contexts with the same files; the second's were made in the reverse order. Times are after the base image's, and
/// become its.
fn contexts(dir: &Path) {
    fs::create_dir_all(dir.join("one")).unwrap();
    write_context(&dir.join("one"));
    let script = "mkdir two; cd one; find . | sort -r | tar -cf - --no-recursion -T - | tar -xpf - -C ../two; \
        touch -d 2025-02-02 ../two/file; chmod 755 .. . ../two";
    Run::new("sh").args(["-ec", script]).dir(dir).ok();
    busybox_layout(&dir.join("layout"));
}

/// A build with everything about its surroundings turned around.
const OTHERWISE: &str = "umask 077; export TZ=Asia/Tokyo LC_ALL=C.UTF-8 HOME=/; exec hoy-build build \"$@\"";

struct Store(Sandbox);

impl Store {
    fn new(user: User, shared: &Path) -> Self {
        let sandbox = Sandbox::for_user(user);
        let image = format!("oci:{}:busybox:latest", shared.join("layout").display());
        sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:localhost/base"]);
        Self(sandbox)
    }

    fn build(&self, case: &Case, shared: &Path, context: &str, script: &str, args: &[&str]) -> (String, String) {
        let file = shared.join("Containerfile").display().to_string();
        let path = std::env::join_paths([program_dir(), "/bin".as_ref(), "/usr/bin".as_ref()]).unwrap();
        let run = self.0.run("sh").dir(shared.join(context)).env("PATH", path);
        let out =
            run.args(["-c", script, "sh", "-t", "x", "-f", &file]).args(args).args(case.options).arg(".").output();
        assert_eq!(out.status, 0, "{}: {}", case.name, out.stderr);
        (self.0.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", "store:x"]), out.stderr)
    }
}

#[test]
fn one_digest_under_all_circumstances() {
    if !need(&["umoci", "busybox", "tar"]) || ![User::Root, User::Sub, User::One].into_iter().all(User::available) {
        return;
    }
    let shared = tempfile::Builder::new().prefix("hoy-context-").tempdir_in("/tmp").unwrap();
    contexts(shared.path());
    let shared = shared.path();
    let stores = [User::Root, User::Sub, User::One].map(|user| Store::new(user, shared));
    let samples: Vec<&Case> = CASES.iter().filter(|case| case.is_sample).collect();
    assert!(samples.len() >= 20, "{}", samples.len());
    for case in samples {
        fs::write(shared.join("Containerfile"), case.text).unwrap();
        let plain = "exec hoy-build build \"$@\"";
        let [root, sub, one] = &stores;
        let (first, _) = root.build(case, shared, "one", plain, &["--jobs", "1"]);
        let (again, told) = root.build(case, shared, "two", OTHERWISE, &["--jobs", "4"]);
        assert!(hoy_tests::steps(&told).0 == 0, "{}: all is known: {told}", case.name);
        let (anew, _) = root.build(case, shared, "two", OTHERWISE, &["--no-cache", "--jobs", "4"]);
        let (rootless, _) = sub.build(case, shared, "two", OTHERWISE, &["--jobs", "4"]);
        let mut digests = vec![first, again, anew, rootless];
        // Somebody with a single id cannot give files to others; what COPY and ADD give is given in the archive.
        if !case.text.contains("RUN chown") && !case.text.contains("; chown") && !case.text.contains("USER") {
            digests.push(one.build(case, shared, "one", plain, &["--jobs", "1"]).0);
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{}: {digests:#?}", case.name);
    }
}
