//! What a build fetches: files of web servers and Git repositories, as sources of ADD and as contexts.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use hoy_tests::{Out, Repository, Run, Sandbox, User, Web, busybox_store};
use sha2::{Digest as _, Sha256};

/// A password that is nowhere but where it was written.
const SECRET: &str = "s3cr3t-of-the-url";

fn build(sandbox: &Sandbox, text: &str, args: &[&str]) -> Out {
    fs::create_dir_all(sandbox.path("work/c")).unwrap();
    fs::write(sandbox.path("work/c/Containerfile"), text).unwrap();
    sandbox.run("hoy-build").args(["build", "-t", "made"]).args(args).arg("c").output()
}

/// Each file of the image `made`: mode, size, time, name, as tar lists them.
fn listing(sandbox: &Sandbox) -> String {
    let out = sandbox.run("sh").args(["-c", "hoy-copy export store:made | tar --utc -tvf -"]).output();
    assert_eq!(out.status, 0, "{}", out.stderr);
    out.stdout
}

/// What is in a file of the image `made`.
fn content(sandbox: &Sandbox, name: &str) -> String {
    sandbox.run("sh").args(["-c", "hoy-copy export store:made | tar -xOf - \"$0\"", name]).ok()
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn tar(directory: &Path, file: &str) {
    Run::new("tar").args(["-czf", file, "--owner=7", "--group=8", "--mtime=@1", "-C", "tree", "."]).dir(directory).ok();
}

/// The files that the web server has.
fn site() -> tempfile::TempDir {
    let site = tempfile::tempdir().unwrap();
    fs::create_dir_all(site.path().join("tree/sub")).unwrap();
    fs::write(site.path().join("tree/sub/file"), "from the archive\n").unwrap();
    fs::write(site.path().join("tree/Containerfile"), "FROM scratch\nCOPY sub /\n").unwrap();
    tar(site.path(), "tree.tar.gz");
    fs::write(site.path().join("a b.txt"), "text\n").unwrap();
    fs::write(site.path().join("Containerfile"), "FROM scratch\nLABEL from=web\n").unwrap();
    site
}

fn files_are_added(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let site = site();
    let web = Web::start({
        let root = site.path().to_owned();
        move |asked| {
            let date = vec!["Last-Modified: Fri, 13 Feb 2009 23:31:30 GMT".to_owned()];
            match fs::read(root.join(asked.path().replace("%20", " "))) {
                Ok(body) => ("200 OK", if asked.path() == "Containerfile" { Vec::new() } else { date }, body),
                Err(_) => ("404 Not Found", Vec::new(), Vec::new()),
            }
        }
    });
    let at = &web.address;
    let text = format!(
        "FROM scratch\nADD {at}/a%20b.txt?v=1 /dir/\nADD {at}/a%20b.txt /name\nADD --chmod=755 --chown=3:4 {at}/Containerfile /mode\n\
         ADD {at}/tree.tar.gz /packed\nADD --unpack {at}/tree.tar.gz /unpacked\nADD Containerfile {at}/a%20b.txt /both/\n"
    );
    let out = build(&sandbox, &text, &["--timestamp", "2000000000"]);
    assert_eq!(out.status, 0, "{user:?}: {}", out.stderr);
    let listed = listing(&sandbox);
    let has = |parts: &[&str]| listed.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    for parts in [
        &["-rw------- 0/0", "5 2009-02-13 23:31", "dir/a b.txt"][..],
        &["-rw------- 0/0", "5 2009-02-13 23:31", " name"],
        &["-rwxr-xr-x 3/4", "1970-01-01 00:00", " mode"],
        &["-rw------- 0/0", "2009-02-13 23:31", " packed"],
        &["7/8", "17 1970-01-01 00:00", "unpacked/sub/file"],
        &["both/a b.txt"],
        &["both/Containerfile"],
    ] {
        assert!(has(parts), "{user:?}: {parts:?}\n{listed}");
    }
    // What the clamp says holds for these too.
    build(&sandbox, &text, &["--timestamp", "1000"]);
    assert!(!listing(&sandbox).contains("2009"), "{user:?}");
}

#[test]
fn files_are_added_by_root() {
    files_are_added(User::Root);
}

#[test]
fn files_are_added_by_ordinary_users() {
    files_are_added(User::Sub);
    files_are_added(User::One);
}

#[test]
fn the_content_decides_and_a_checksum_saves_the_way() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let site = site();
    let web = Web::files(site.path());
    let text = format!("FROM scratch\nADD {}/Containerfile /x\n", web.address);
    let cached = |out: &Out| {
        assert_eq!(out.status, 0, "{}", out.stderr);
        out.stderr.contains("--> Using cache")
    };
    assert!(!cached(&build(&sandbox, &text, &[])));
    assert!(cached(&build(&sandbox, &text, &[])), "the same bytes");
    fs::write(site.path().join("Containerfile"), "other\n").unwrap();
    assert!(!cached(&build(&sandbox, &text, &[])), "other bytes");
    assert_eq!(content(&sandbox, "x"), "other");
    // The digest says what it is: nobody is asked again.
    let text = format!("FROM scratch\nADD --checksum={} {}/Containerfile /y\n", sha256(b"other\n"), web.address);
    assert!(!cached(&build(&sandbox, &text, &[])));
    let before = web.seen().len();
    assert!(cached(&build(&sandbox, &text, &[])));
    assert_eq!(web.seen().len(), before);
    let wrong = text.replace(&sha256(b"other\n"), &sha256(b"else"));
    let out = build(&sandbox, &wrong, &[]);
    assert!(
        out.status == 125 && out.stderr.contains("its digest is") && out.stderr.contains("2 | ADD"),
        "{}",
        out.stderr
    );
}

#[test]
fn what_cannot_be_fetched_is_told() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let web = Web::start(|asked| match asked.path() {
        "loop" => ("302 Found", vec!["Location: /loop".to_owned()], Vec::new()),
        "short" => ("200 OK", vec!["Content-Length: 100".to_owned()], b"less".to_vec()),
        "file" => ("302 Found", vec!["Location: file:///etc/passwd".to_owned()], Vec::new()),
        "late" => ("200 OK", Vec::new(), b"x".to_vec()),
        _ => ("404 Not Found", Vec::new(), Vec::new()),
    });
    for (what, said) in [
        ("/missing /", "invalid response status 404: there is no such file"),
        ("/loop /x", "redirects again and again"),
        ("/short /x", "fetch"),
        ("/file /x", "its Location is no address"),
        ("/ /dir/", "no name for a file"),
        ("/late Containerfile /x", "ends in /"),
    ] {
        let out = build(&sandbox, &format!("FROM scratch\nADD {}{what}\n", web.address), &["--retry=0"]);
        assert!(out.status == 125 && out.stderr.contains(said), "{what}: {}", out.stderr);
    }
    for (line, said) in [
        ("ADD ftp://127.0.0.1/x /x", "only http, https, git and ssh"),
        ("ADD file:///etc/passwd /x", "only http, https, git and ssh"),
        ("ADD http://127.0.0.1:1/x /x", "connect to"),
        ("ADD --checksum=sha256:00 Containerfile /x", "--checksum is for one source"),
        ("ADD --keep-git-dir=true Containerfile /x", "--keep-git-dir is for Git"),
        ("ADD --checksum=sha512:00 http://127.0.0.1:1/x /x", "sha512"),
    ] {
        let out = build(&sandbox, &format!("FROM scratch\n{line}\n"), &["--retry=0"]);
        assert!(out.status == 125 && out.stderr.contains(said), "{line}: {}", out.stderr);
    }
    let left = fs::read_dir(sandbox.path("root/build")).unwrap().flatten();
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".tmp-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// CVE-2023-26054: a password in an address is for that server, and for nothing that anybody reads.
#[test]
fn passwords_stay_in_their_address() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let elsewhere = Web::start(|_| ("200 OK", Vec::new(), b"elsewhere".to_vec()));
    let web = Web::start({
        let elsewhere = elsewhere.address.clone();
        move |asked| match (asked.path(), asked.header("Authorization")) {
            (_, None) => ("401 Unauthorized", vec!["WWW-Authenticate: Basic realm=\"x\"".to_owned()], Vec::new()),
            ("away", Some(_)) => ("302 Found", vec![format!("Location: {elsewhere}/x")], Vec::new()),
            _ => ("200 OK", Vec::new(), b"given".to_vec()),
        }
    });
    let with = web.address.replace("http://", &format!("http://user:{SECRET}@"));
    let text = format!("FROM scratch\nADD {with}/x /x\nADD {with}/away /y\n");
    let out = build(&sandbox, &text, &[]);
    assert_eq!(out.status, 0, "{}", out.stderr);
    assert!(!out.stderr.contains(SECRET), "{}", out.stderr);
    assert_eq!((content(&sandbox, "x").as_str(), content(&sandbox, "y").as_str()), ("given", "elsewhere"));
    assert!(elsewhere.seen().iter().all(|asked| asked.header("Authorization").is_none()));
    // In no file of the store: the image, its history, the cache.
    let found = Run::new("grep").args(["-rl", SECRET]).arg(sandbox.path("root")).output();
    assert_eq!(found.stdout, "");
    let refused =
        format!("FROM scratch\nADD http://user:{SECRET}@127.0.0.1:1/x https://user:{SECRET}@127.0.0.1:1/x.git /\n");
    let out = build(&sandbox, &refused, &["--retry=0"]);
    assert!(out.status == 125 && out.stderr.contains("2 | ADD") && !out.stderr.contains(SECRET), "{}", out.stderr);
    // A repository that cannot be had ends a build as it ends git.
    for (context, code) in [(format!("{with}/none"), 125), (format!("https://user:{SECRET}@127.0.0.1:1/x.git#a"), 128)]
    {
        let out = sandbox.run("hoy-build").args(["build", "--retry=0", &context]).output();
        assert!(out.status == code && !out.stderr.contains(SECRET), "{}", out.stderr);
    }
    let out = build(&sandbox, &text.replace(&with, &web.address), &[]);
    assert!(out.status == 125 && out.stderr.contains("401: it wants a user"), "{}", out.stderr);
}

#[test]
fn a_proxy_is_asked() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let proxy = Web::start(|_| ("403 Forbidden", Vec::new(), Vec::new()));
    fs::create_dir_all(sandbox.path("work/c")).unwrap();
    fs::write(sandbox.path("work/c/Containerfile"), "FROM scratch\nADD http://no-host.invalid/x /x\n").unwrap();
    for (no_proxy, count) in [("no-host.invalid", 0), ("", 1)] {
        let run = sandbox.run("hoy-build").env("HTTP_PROXY", &proxy.address).env("NO_PROXY", no_proxy);
        run.args(["build", "--retry=0", "c"]).fails(125, &["no-host.invalid"]);
        let asked = proxy.seen().iter().filter(|asked| asked.line.starts_with("CONNECT no-host.invalid:80 ")).count();
        assert_eq!(asked, count, "{:?}", proxy.seen());
    }
}

#[test]
fn add_fetches_into_a_working_container() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        let site = site();
        let web = Web::files(site.path());
        let container = sandbox.ok("hoy-build", &["from", "scratch"]);
        let url = format!("{}/tree.tar.gz", web.address);
        sandbox.ok("hoy-build", &["add", &container, &url, "/in/"]);
        let digest = sha256(&fs::read(site.path().join("tree.tar.gz")).unwrap());
        sandbox.ok("hoy-build", &["add", "--checksum", &digest, &container, &url, "/name"]);
        sandbox.ok("hoy-build", &["copy", &container, &url, "/in/copied"]);
        let wrong = sha256(b"");
        let add = ["add", "--checksum", wrong.as_str(), container.as_str(), url.as_str(), "/bad"];
        sandbox.run("hoy-build").args(add).fails(125, &["its digest is"]);
        sandbox.ok("hoy-build", &["commit", "--timestamp", "2000000000", &container, "made"]);
        let listed = listing(&sandbox);
        assert_eq!(listed.matches("-rw------- 0/0").count(), 3, "{user:?}: {listed}");
        assert_eq!(listed.matches("228 2009-02-13 23:31").count(), 3, "{user:?}: {listed}");
        assert!(listed.contains(" in/tree.tar.gz") && listed.contains(" name"), "{user:?}: {listed}");
    }
}

fn repositories_are_added(user: User) {
    let Some(sandbox) = busybox_store(user) else { return };
    let Some(repository) = Repository::start() else { return };
    let url = repository.url();
    let first = repository.git("git rev-parse v1");
    for (source, want) in [
        (url.clone(), "two"),
        (format!("{url}#v1"), "one"),
        (format!("{url}#v2"), "two"),
        (format!("{url}#other"), "two"),
        (format!("{url}#refs/heads/other"), "two"),
        (format!("{url}#{first}"), "one"),
        (format!("{url}?tag=v1"), "one"),
        (format!("{url}?branch=other&commit={}", repository.git("git rev-parse v2^{commit}")), "two"),
        (format!("{url}?checksum={}", &first[..12]), "one"),
    ] {
        let out = build(&sandbox, &format!("FROM scratch\nADD {source} /src\n"), &[]);
        assert_eq!(out.status, 0, "{user:?} {source}: {}", out.stderr);
        assert_eq!(content(&sandbox, "src/sub/file"), want, "{user:?} {source}");
        let listed = listing(&sandbox);
        assert!(!listed.contains(".git") && listed.contains("-rwxr-xr-x 0/0"), "{user:?} {source}: {listed}");
    }
    let out = build(&sandbox, &format!("FROM scratch\nADD {url}#v1:sub /only\nADD {url}?subdir=sub /other/\n"), &[]);
    assert_eq!(out.status, 0, "{user:?}: {}", out.stderr);
    assert_eq!((content(&sandbox, "only/file"), content(&sandbox, "other/file")), ("one".into(), "two".into()));
}

#[test]
fn repositories_are_added_by_root() {
    repositories_are_added(User::Root);
}

#[test]
fn repositories_are_added_by_ordinary_users() {
    repositories_are_added(User::Sub);
    repositories_are_added(User::One);
}

#[test]
fn a_commit_decides_and_git_is_kept_the_same_for_everybody() {
    let Some(repository) = Repository::start() else { return };
    let url = repository.url();
    let mut digests = Vec::new();
    for (user, umask) in [(User::Root, "022"), (User::Root, "077"), (User::Sub, "002")] {
        let Some(sandbox) = busybox_store(user) else { return };
        fs::write(sandbox.path("work/Containerfile"), format!("FROM scratch\nADD --keep-git-dir=true {url} /src\n"))
            .unwrap();
        let script = format!("umask {umask}; exec hoy-build build -t made .");
        let out = sandbox.run("sh").args(["-c", &script]).output();
        assert_eq!(out.status, 0, "{}", out.stderr);
        digests.push(sandbox.ok("hoy-copy", &["digest", "store:made"]));
        if digests.len() > 1 {
            continue;
        }
        sandbox.run("sh").args(["-c", "mkdir x; hoy-copy export store:made | tar -xf - -C x"]).ok();
        let git = |args: &[&str]| Run::new("git").arg("-C").arg(sandbox.path("work/x/src")).args(args).ok();
        assert_eq!(git(&["status", "--porcelain"]), "");
        assert_eq!(git(&["rev-parse", "HEAD"]), repository.git("git rev-parse HEAD"));
        assert_eq!(git(&["config", "remote.origin.url"]), url);
        // A full commit needs no server.
        let text = format!("FROM scratch\nADD {url}#{} /src\n", repository.git("git rev-parse HEAD"));
        assert_eq!(build(&sandbox, &text, &[]).status, 0);
        let no_git = "exec env PATH=/nowhere \"$0\" build c";
        let own = hoy_tests::program("hoy-build");
        let out = sandbox.run("/bin/sh").args(["-c", no_git]).arg(own).output();
        assert!(out.status == 0 && out.stderr.contains("--> Using cache"), "{}", out.stderr);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

/// CVE-2019-13139, CVE-2022-39253, GHSA-vp35-85q5-9f25, CVE-2026-33748, CVE-2026-44517, CVE-2017-1000117.
#[test]
fn nothing_of_a_repository_runs_or_leads_out() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let Some(repository) = Repository::start() else { return };
    let url = repository.url();
    let wire = sandbox.path("ran");
    let touch = format!("touch {}", wire.display());
    for (source, said) in [
        (format!("{url}#--upload-pack={}", touch.replace(' ', "%20")), "no branch, tag or commit"),
        (format!("{url}#main:../../../etc"), "leads out"),
        (format!("{url}#main:up/.."), "leads out"),
        (format!("{url}#main:up"), "leads out"),
        (format!("{url}#main:etc"), "leads out"),
        (format!("{url}#main:sub/file"), "no directory"),
        (format!("{url}#nothing"), "no branch, tag or commit"),
        (format!("{url}?checksum=0123456789abcdef0123456789abcdef01234567"), "not"),
        (format!("{url}?tag=v1&checksum=0123456"), "and not 0123456"),
        (format!("ext::sh -c {touch}"), "no source matches"),
        (format!("ssh://-oProxyCommand={}/x", touch.replace(' ', "%20")), "no host"),
        ("file:///tmp/x.git".to_owned(), "only http"),
        (format!("git@-oProxyCommand={}:x", touch.replace(' ', "%20")), "no source matches"),
    ] {
        let out = build(&sandbox, &format!("FROM scratch\nADD [\"{source}\", \"/x\"]\n"), &[]);
        assert!(out.status == 125 && out.stderr.contains(said), "{source}: {}", out.stderr);
        assert!(!wire.exists(), "{source}");
        if source.starts_with(&url) {
            let out = sandbox.run("hoy-build").args(["build", &source]).output();
            // It cannot be had, or what is in it cannot be used.
            assert!(matches!(out.status, 125 | 128), "{source}: {}", out.stderr);
            assert!(!wire.exists(), "{source}");
        }
    }
    // A submodule that is a directory of this machine, one that is a command, and one that is served.
    let own = Repository::start().unwrap();
    for (place, said) in [
        (own.path().display().to_string(), Some("transport 'file' not allowed")),
        (format!("ext::sh -c {}", touch.replace(' ', "% ")), Some("not")),
        (own.url(), None),
    ] {
        let add = format!(
            "rm -rf .git/modules mod .gitmodules; git reset -q --hard main; \
             git update-index --add --cacheinfo 160000,{},mod; git config -f .gitmodules submodule.mod.path mod; \
             git config -f .gitmodules submodule.mod.url '{place}'; git add .gitmodules; git commit -qm sub; git branch -f sub; \
             git reset -q --hard HEAD~1",
            own.git("git rev-parse HEAD")
        );
        repository.git(&add);
        let out = build(&sandbox, &format!("FROM scratch\nADD {url}#sub /src\n"), &["--no-cache"]);
        assert!(!wire.exists(), "{place}");
        match said {
            Some(said) => assert!(out.status == 125 && out.stderr.contains(said), "{place}: {}", out.stderr),
            None => {
                assert_eq!(out.status, 0, "{}", out.stderr);
                assert_eq!(content(&sandbox, "src/mod/sub/file"), "two");
                assert!(!listing(&sandbox).contains("mod/.git"), "{}", listing(&sandbox));
            }
        }
        let without = format!("FROM scratch\nADD {url}?branch=sub&submodules=false /src\n");
        let out = build(&sandbox, &without, &["--no-cache"]);
        assert_eq!(out.status, 0, "{place}: {}", out.stderr);
    }
    // Filters that the user has are the user's; hooks and templates of anybody are not run.
    let hooks = sandbox.path("home/hooks");
    fs::create_dir_all(&hooks).unwrap();
    fs::write(hooks.join("post-checkout"), format!("#!/bin/sh\n{touch}\n")).unwrap();
    Run::new("chmod").arg("755").arg(hooks.join("post-checkout")).ok();
    fs::write(sandbox.path("home/.gitconfig"), format!("[core]\n\thooksPath = {}\n", hooks.display())).unwrap();
    let out = build(&sandbox, &format!("FROM scratch\nADD {url} /src\n"), &["--no-cache"]);
    assert!(out.status == 0 && !wire.exists(), "{}", out.stderr);
}

#[test]
fn contexts_come_from_elsewhere() {
    for user in [User::Root, User::Sub, User::One] {
        let Some(sandbox) = busybox_store(user) else { return };
        let site = site();
        let web = Web::files(site.path());
        let Some(repository) = Repository::start() else { return };
        let url = repository.url();
        for (context, file, text) in [
            (format!("{}/tree.tar.gz", web.address), "file", "from the archive"),
            (url.clone(), "sub/file", "two"),
            (format!("{url}#v1:sub"), "from-sub", "one"),
        ] {
            let out = sandbox.run("hoy-build").args(["build", "-t", "made", &context]).output();
            assert_eq!(out.status, 0, "{user:?} {context}: {}", out.stderr);
            assert_eq!(content(&sandbox, file), text, "{user:?} {context}");
        }
        // A text is a Containerfile without a context.
        let text = format!("{}/Containerfile", web.address);
        sandbox.ok("hoy-build", &["build", "-t", "made", &text]);
        assert!(sandbox.ok("hoy-copy", &["config", "store:made"]).contains("\"from\":\"web\""), "{user:?}");
        let named = [
            format!("web={}/tree.tar.gz", web.address),
            format!("text={}/a b.txt", web.address).replace(' ', "%20"),
            format!("git={url}#v1:sub"),
        ];
        let mut args: Vec<&str> = named.iter().flat_map(|text| ["--build-context", text]).collect();
        args.push("--file=c/Containerfile");
        fs::create_dir_all(site.path().join("x")).unwrap();
        fs::copy(site.path().join("a b.txt"), site.path().join("a%20b.txt")).unwrap();
        let text = "FROM scratch\nCOPY --from=web sub/file /w\nCOPY --from=git file /g\nCOPY --from=text * /t/\n";
        let out = build(&sandbox, text, &args);
        assert_eq!(out.status, 0, "{user:?}: {}", out.stderr);
        assert_eq!((content(&sandbox, "w"), content(&sandbox, "g")), ("from the archive".into(), "one".into()));
        assert_eq!(content(&sandbox, "t/a b.txt"), "text");
        let left = fs::read_dir(sandbox.path("root/build")).unwrap().flatten();
        let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".tmp-")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_layout_is_a_context() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let made = build(&sandbox, "FROM scratch\nCOPY Containerfile /x\n", &[]);
    assert_eq!(made.status, 0, "{}", made.stderr);
    sandbox.ok("hoy-copy", &["copy", "-q", "store:busybox", "oci:lay:other"]);
    sandbox.ok("hoy-copy", &["copy", "-q", "store:made", "oci:lay:v1"]);
    let digest = sandbox.ok("hoy-copy", &["digest", "oci:lay:v1"]);
    for place in ["lay:v1".to_owned(), format!("lay@{digest}")] {
        let context = format!("there=oci-layout://{}/{place}", sandbox.path("work").display());
        let out = build(&sandbox, "FROM there\nCOPY --from=there x /y\n", &["--build-context", &context]);
        assert_eq!(out.status, 0, "{place}: {}", out.stderr);
        assert!(listing(&sandbox).contains(" y"), "{place}");
    }
    let none = format!("there=oci-layout://lay@{}", sha256(b""));
    let out = build(&sandbox, "FROM there\n", &["--build-context", &none]);
    assert!(out.status == 125 && out.stderr.contains("has no image"), "{}", out.stderr);
}
