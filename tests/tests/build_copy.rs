//! `hoy-build copy` and `add`: what they keep, and that nothing in a container leads them out of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use hoy_tests::{Run, Sandbox, User, need};

/// A working container from nothing, and where it is mounted.
fn scratch(sandbox: &Sandbox) -> (String, PathBuf) {
    let container = sandbox.ok("hoy-build", &["from", "scratch"]);
    let root = PathBuf::from(sandbox.ok("hoy-build", &["mount", &container]));
    (container, root)
}

fn build(sandbox: &Sandbox, args: &[&str]) -> String {
    sandbox.ok("hoy-build", args)
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn files_arrive_as_they_are(user: User) {
    if !user.available() || !need(&["setfattr"]) {
        return;
    }
    let sandbox = Sandbox::for_user(user);
    let tree = sandbox.path("work/tree");
    let script = "mkdir -p tree/sub && cd tree && echo a > a && chmod 4751 a && ln a sub/hard && ln -s ../a sub/soft &&
        setfattr -n user.mark -v yes a && mkfifo fifo &&
        for c in x y; do setfattr -n user.$(printf \"$c%.0s\" $(seq 200)) -v $c a; done &&
        touch -d @1000000000.123456789 a fifo && chmod 750 sub";
    sandbox.run("sh").args(["-c", script]).ok();
    let (container, root) = scratch(&sandbox);
    let digest = build(&sandbox, &["copy", &container, "tree", "/t"]);
    assert_eq!(digest.len(), 64);
    assert_eq!(build(&sandbox, &["copy", &container, "tree", "/t"]), digest, "what is copied is what is named");
    let show = "cd \"$0\" && find . -printf '%P %y %m %n %T@ %l\n' | sort; getfattr -h -d a";
    let inside = |dir: &Path| sandbox.run("sh").args(["-c", show]).arg(dir).ok();
    let (want, got) = (inside(&tree), inside(&root.join("t")));
    let without_root = |text: &str| text.lines().filter(|line| !line.starts_with(" d")).collect::<Vec<_>>().join("\n");
    assert_eq!(without_root(&want), without_root(&got));
    let (a, hard) = (fs::metadata(root.join("t/a")).unwrap(), fs::metadata(root.join("t/sub/hard")).unwrap());
    assert_eq!(a.ino(), hard.ino(), "one file with two names");
    let owner = sandbox.run("hoy-build").args(["unshare", "stat", "-c", "%u:%g"]).arg(root.join("t/a")).ok();
    assert_eq!(owner, "0:0", "the caller's id stays outside");
}

#[test]
fn files_arrive_as_they_are_as_root() {
    files_arrive_as_they_are(User::Root);
}

#[test]
fn files_arrive_as_they_are_as_user() {
    files_arrive_as_they_are(User::Sub);
}

#[test]
fn destinations() {
    let sandbox = Sandbox::new();
    let (container, root) = scratch(&sandbox);
    write(&sandbox.path("work/one"), "1");
    write(&sandbox.path("work/two"), "2");
    write(&sandbox.path("work/dir/in"), "3");
    build(&sandbox, &["config", "--workingdir", "/w", &container]);
    for (args, path) in [
        (&["one"][..], "w/one"),
        (&["one", "x"], "w/x"),
        (&["one", "/new/"], "new/one"),
        (&["one", "two", "/several"], "several/two"),
        (&["*o*", "/pattern/"], "pattern/two"),
        (&["dir", "/d"], "d/in"),
        (&["dir/in", "one", "."], "w/in"),
        (&["one", "/new"], "new/one"),
        (&["one", "../../../up"], "up"),
    ] {
        sandbox.run("hoy-build").args(["copy", "-q", &container]).args(args).ok();
        assert!(root.join(path).is_file(), "{args:?}: {path}");
    }
    fs::create_dir(root.join("tmp")).unwrap();
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    symlink("usr/lib", root.join("lib")).unwrap();
    write(&sandbox.path("work/tree/tmp/f"), "4");
    write(&sandbox.path("work/tree/lib/so"), "5");
    fs::create_dir_all(root.join("usr/lib")).unwrap();
    build(&sandbox, &["copy", "-q", &container, "tree", "/"]);
    assert_eq!(fs::metadata(root.join("tmp")).unwrap().mode() & 0o7777, 0o1777, "it was there already");
    assert!(fs::symlink_metadata(root.join("lib")).unwrap().is_symlink(), "a merged /usr stays merged");
    assert!(root.join("usr/lib/so").is_file());
    let fails = |args: &[&str], words: &[&str]| {
        sandbox.run("hoy-build").args(["copy", &container]).args(args).fails(125, words);
    };
    fails(&["nope", "/"], &["nope"]);
    fails(&["no*such", "/"], &["no*such"]);
    fails(&["one", "two", "/up"], &["/up", "no directory"]);
    fails(&["tree", "/up"], &["/up", "no directory"]);
    fails(&["--chown", "nobody-here", "one", "/"], &["nobody-here"]);
    fails(&["--chmod", "999", "one", "/"], &["--chmod", "999"]);
    fails(&["http://127.0.0.1:1/x", "/", "--retry=0"], &["connect to"]);
    write(&sandbox.path("work/over/new"), "6");
    fails(&["over", "/"], &["/new", "is a directory"]);
    write(&sandbox.path("work/white/.wh.x"), "7");
    fails(&["white", "/"], &[".wh.x"]);
}

#[test]
fn links_in_a_container_do_not_lead_out() {
    let sandbox = Sandbox::new();
    let (container, root) = scratch(&sandbox);
    let host = sandbox.path("host");
    fs::create_dir(&host).unwrap();
    write(&host.join("precious"), "untouched");
    let up = "../".repeat(40);
    symlink(&host, root.join("absolute")).unwrap();
    symlink(format!("{up}{}", host.display()), root.join("relative")).unwrap();
    symlink(host.join("precious"), root.join("file")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    write(&sandbox.path("work/evil"), "evil");
    write(&sandbox.path("work/d/precious"), "evil");
    for args in [
        &["evil", "/absolute"][..],
        &["evil", "/absolute/"],
        &["evil", "/relative/precious"],
        &["evil", "/file"],
        &["d", "/absolute"],
        &["d", "/relative"],
        &["evil", "/magic/tmp/hoy-evil"],
    ] {
        // Some of these cannot be done inside the root and fail; none may be done outside.
        let run = sandbox.run("hoy-build").args(["copy", "-q", &container]).args(args).output();
        assert!(matches!(run.status, 0 | 125), "{args:?}: {}", run.stderr);
    }
    assert_eq!(fs::read_dir(&host).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(host.join("precious")).unwrap(), "untouched");
    assert!(!Path::new("/tmp/hoy-evil").exists());
    assert!(fs::symlink_metadata(root.join("file")).unwrap().is_file(), "the link was replaced, not followed");
}

#[test]
fn archives_are_unpacked_inside() {
    if !need(&["tar", "python3"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let (container, root) = scratch(&sandbox);
    write(&sandbox.path("work/tree/f"), "from an archive");
    sandbox.run("sh").args(["-c", "ln tree/f tree/g && tar -C tree -cf plain.tar . && gzip -k plain.tar"]).ok();
    for (archive, target) in [("plain.tar", "/plain"), ("plain.tar.gz", "/zipped")] {
        build(&sandbox, &["add", "-q", &container, archive, target]);
        let dir = root.join(&target[1..]);
        assert_eq!(fs::read_to_string(dir.join("g")).unwrap(), "from an archive");
        assert_eq!(fs::metadata(dir.join("g")).unwrap().nlink(), 2);
    }
    build(&sandbox, &["copy", "-q", &container, "plain.tar", "/kept.tar"]);
    assert!(root.join("kept.tar").is_file(), "copy does not unpack");
    build(&sandbox, &["add", "-q", &container, "tree/f", "/plain-file"]);
    assert!(root.join("plain-file").is_file(), "add copies what is no archive");

    let host = sandbox.path("host");
    fs::create_dir(&host).unwrap();
    let script = "import tarfile, io, sys\n\
        def add(t, name, link=None, kind=tarfile.REGTYPE):\n\
        \x20   i = tarfile.TarInfo(name); i.type = kind; i.linkname = link or ''; i.size = 0 if link else 4\n\
        \x20   t.addfile(i, None if link else io.BytesIO(b'evil'))\n\
        t = tarfile.open('up.tar', 'w'); add(t, '../../../../../../../../../../../../' + sys.argv[1] + '/x'); t.close()\n\
        t = tarfile.open('link.tar', 'w'); add(t, 'out', sys.argv[1], tarfile.SYMTYPE); add(t, 'out/x'); t.close()\n\
        t = tarfile.open('hard.tar', 'w'); add(t, 'shadow', '../../../../../../../../etc/passwd', tarfile.LNKTYPE); t.close()\n";
    sandbox.run("python3").args(["-c", script]).arg(&host).ok();
    for archive in ["up.tar", "link.tar", "hard.tar"] {
        let run = sandbox.run("hoy-build").args(["add", "-q", &container, archive, "/a/b/"]).output();
        assert!(matches!(run.status, 0 | 125), "{archive}: {}", run.stderr);
        assert_eq!(fs::read_dir(&host).unwrap().count(), 0, "{archive}");
    }
    assert!(!root.join("a/b/shadow").exists());
}

#[test]
fn sources_stay_in_their_context() {
    let sandbox = Sandbox::new();
    let (container, root) = scratch(&sandbox);
    let context = sandbox.path("work/context");
    write(&context.join("good"), "good");
    write(&context.join("left/out"), "no");
    write(&context.join("left/in"), "yes");
    write(&context.join(".dockerignore"), "left/*\n!left/in\n.dockerignore\n");
    write(&sandbox.path("work/secret"), "secret");
    symlink("../secret", context.join("relative")).unwrap();
    symlink(sandbox.path("work/secret"), context.join("absolute")).unwrap();
    let copy = |args: &[&str]| {
        sandbox.run("hoy-build").args(["copy", "-q", "--contextdir", "context", &container]).args(args).output()
    };
    for source in ["relative", "absolute", "../secret", "/../secret"] {
        let out = copy(&[source, "/stolen"]);
        assert_eq!(out.status, 125, "{source}");
        assert!(!out.stderr.contains("secret\n"), "{}", out.stderr);
        assert!(!root.join("stolen").exists(), "{source}");
    }
    assert_eq!(copy(&["/", "/all/"]).status, 0);
    let found = Run::new("sh").args(["-c", "find . ! -type d | sort | tr '\n' ' '"]).dir(root.join("all")).ok();
    assert_eq!(found, "./absolute ./good ./left/in ./relative", "links are kept as links, rules are kept");
    fs::remove_file(context.join(".dockerignore")).unwrap();
    symlink("/etc/shadow", context.join(".dockerignore")).unwrap();
    let out = copy(&["good", "/good"]);
    assert!(!out.stderr.contains("root:"), "{}", out.stderr);

    let (other, other_root) = scratch(&sandbox);
    symlink("/etc/passwd", other_root.join("passwd")).unwrap();
    write(&other_root.join("mine"), "mine");
    std::os::unix::fs::chown(other_root.join("mine"), Some(7), Some(8)).unwrap();
    let from = ["copy", "-q", "--from", &other, &container];
    sandbox.run("hoy-build").args(from).args(["/passwd", "/stolen"]).fails(125, &["passwd"]);
    sandbox.run("hoy-build").args(from).args(["/mine", "/mine"]).ok();
    let metadata = fs::metadata(root.join("mine")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (7, 8), "between containers owners are kept");
    assert!(!root.join("stolen").exists());
}

#[test]
fn an_ordinary_user_copies_too() {
    if !User::Sub.available() {
        return;
    }
    let sandbox = Sandbox::for_user(User::Sub);
    let (container, root) = scratch(&sandbox);
    sandbox.run("sh").args(["-c", "mkdir -p d && echo x > d/f"]).ok();
    build(&sandbox, &["copy", "-q", "--chown", "5:6", &container, "d", "/d"]);
    let owner = sandbox.run("hoy-build").args(["unshare", "stat", "-c", "%u:%g"]).arg(root.join("d/f")).ok();
    assert_eq!(owner, "5:6");
    build(&sandbox, &["copy", "-q", "--from", &container, &container, "/d", "/e"]);
    let owner = sandbox.run("hoy-build").args(["unshare", "stat", "-c", "%u:%g"]).arg(root.join("e/f")).ok();
    assert_eq!(owner, "5:6");
    build(&sandbox, &["rm", &container]);
}

/// What is named, what of it is left out, and what it becomes.
#[test]
fn ways_of_naming() {
    for user in [User::Root, User::Sub, User::One] {
        if !user.available() {
            continue;
        }
        let sandbox = Sandbox::for_user(user);
        for path in ["c/a/b/1.txt", "c/a/b/2.txt", "c/a/3.bin", "c/#4"] {
            write(&sandbox.path("work").join(path), path);
        }
        Run::new("chmod").args(["-R", "a+rX", "c"]).dir(sandbox.path("work")).ok();
        Run::new("chmod").args(["777", "c/a/b"]).dir(sandbox.path("work")).ok();
        symlink("nowhere", sandbox.path("work/c/dangling")).unwrap();
        symlink("/a/3.bin", sandbox.path("work/c/link")).unwrap();
        let (container, root) = scratch(&sandbox);
        let mut number = 0;
        let mut copied = |verb: &str, args: &[&str], show: &str| {
            number += 1;
            let to = format!("/{number}/");
            build(&sandbox, &[&[verb, "-q"], &args[..1], &[&container], &args[1..], &[&to]].concat());
            let all = format!("cd \"$0\" && find . ! -type d -printf '{show} ' | tr ' ' '\\n' | sort | xargs");
            sandbox.run("sh").args(["-c", &all]).arg(root.join(number.to_string())).ok()
        };
        let context = "--contextdir=c";
        assert_eq!(
            copied("copy", &["-q", context, "--exclude=a/b/2*", "--exclude", "#4", "."], "%P"),
            "a/3.bin a/b/1.txt dangling link"
        );
        assert_eq!(copied("add", &["-q", context, "--exclude=**/1.txt", "a/b/*"], "%P"), "2.txt");
        assert_eq!(
            copied("copy", &["--parents", context, "a/b/*.txt", "./a/./3.bin"], "%P"),
            "3.bin a/b/1.txt a/b/2.txt"
        );
        assert_eq!(fs::metadata(root.join("3/a/b")).unwrap().mode() & 0o777, 0o777, "as its origin is");
        assert_eq!(copied("copy", &["--parents", "c/a/./b"], "%P"), "b/1.txt b/2.txt");
        assert_eq!(
            copied("copy", &["--no-follow-symlinks", context, "dangling", "li*"], "%P=%l"),
            "dangling=nowhere link=/a/3.bin"
        );
        assert_eq!(copied("copy", &["-q", context, "li*"], "%P%l"), "link");
        assert_eq!(
            copied("add", &["--timestamp=1000000000", context, "a"], "%T@ "),
            "1000000000.0000000000 1000000000.0000000000 1000000000.0000000000"
        );
        assert_eq!(copied("copy", &["--allow-empty-wildcard", context, "*.none", "a/3.bin"], "%P"), "3.bin");
        build(&sandbox, &["copy", "--allow-empty-wildcard", context, &container, "*.none", "/none/"]);
        assert!(!root.join("none").exists(), "nothing was copied");
        for (args, says) in [
            (&["copy", "--allow-wildcard=false", context, &container, "a/*", "/x/"][..], "\"a/*\" is a pattern"),
            (&["copy", context, &container, "*.none", "/x/"], "*.none"),
            (&["copy", context, "--exclude=a/3*", &container, "a/3.bin", "/x/"], "left out by"),
            (&["copy", context, "--exclude=[", &container, "a/3.bin", "/x/"], "--exclude is no pattern"),
            (&["copy", "--timestamp=yesterday", &container, "c", "/x/"], "--timestamp"),
            (&["copy", "--link", &container, "c", "/x/"], "one layer"),
            (&["add", "--parents", &container, "c", "/x/"], "--parents"),
            (&["copy", "--parents", &container, "c/a/3.bin", "/1/a/3.bin"], "no directory"),
        ] {
            sandbox.run("hoy-build").args(args).fails(125, &[says]);
        }
        assert!(!root.join("x").exists());
    }
}
