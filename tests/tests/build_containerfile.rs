//! `hoy-build build`: one Containerfile gives one image, whoever builds it and however often; the cache is never wrong;
//! what is wrong is told with its line.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hoy_tests::{Out, Run, Sandbox, User, busybox_store};

/// A Containerfile in which most of the language is.
const MANY: &str = r#"# escape=\
ARG BASE=busybox
FROM ${BASE:-nothing} AS build
ARG WHO=world
ENV GREETING="hello $WHO" LONG=${WHO}/${UNSET:-default}
LABEL a=b "c d"='e f'
WORKDIR /src
WORKDIR deep
COPY --chmod=u=rw,go=r a.txt ./
COPY *.txt sub /src/all/
COPY --exclude=*.log --chown=app:staff sub /owned
ADD tree.tar /unpacked/
RUN echo "$GREETING" > out; cat a.txt >> out; mkdir -p /keep/empty; ln out /keep/linked
RUN ["/bin/sh", "-c", "rm /src/all/a.txt; echo exec > /exec"]
FROM scratch AS unused
COPY no-such-file /
FROM build AS files
RUN --mount=type=bind,source=sub,target=/mnt cp /mnt/b.txt /from-bind
RUN --mount=type=cache,target=/cache echo x >> /cache/log; wc -l < /cache/log | tr -d ' ' > /dev/null
RUN --mount=type=tmpfs,target=/memory,size=1m echo x > /memory/gone
FROM busybox
COPY --from=build --chown=1000:50 /src/deep/out /copied/
COPY --from=files --parents /keep/./linked /src/./all /tree/
COPY --link sub/b.txt /link/b
COPY <<"EOF" <<-other /etc/inline/
plain $HOME
EOF
	tabs are gone in ${TARGETOS}
	other
ARG TARGETOS
RUN <<EOF
set -e
echo "in one go" > /heredoc
test ! -e /no
EOF
RUN <<script
#!/bin/cat
own interpreter
script
RUN cat <<one > /two
text of one
one
VOLUME ["/data", "/more data"]
EXPOSE 80 53/udp 8000-8002
USER app:staff
WORKDIR /home/made
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --interval=5s --retries=3 CMD test -e /two
ONBUILD RUN echo triggered > /tmp/triggered
ENTRYPOINT ["/bin/cat"]
CMD /heredoc
"#;

/// Writes the files that [`MANY`] copies.
fn context(dir: &Path) {
    fs::create_dir_all(dir.join("sub/more")).unwrap();
    for (name, text) in
        [("a.txt", "a\n"), ("sub/b.txt", "b\n"), ("sub/more/c", "c"), ("sub/x.log", "log"), ("z.txt", "z")]
    {
        fs::write(dir.join(name), text).unwrap();
    }
    fs::write(dir.join(".dockerignore"), "z.*\n# comment\n").unwrap();
    Run::new("tar").args(["-cf", "tree.tar", "--owner=7", "--group=8", "sub"]).dir(dir).ok();
    fs::write(dir.join("Containerfile"), MANY).unwrap();
    Run::new("chmod").args(["-R", "a+rX"]).arg(dir).ok();
}

#[track_caller]
fn build(sandbox: &Sandbox, args: &[&str]) -> Out {
    let out = sandbox.run("hoy-build").arg("build").args(args).output();
    assert_eq!(out.status, 0, "{}", out.stderr);
    out
}

/// The digest of the image's manifest.
fn digest(sandbox: &Sandbox, image: &str) -> String {
    sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &format!("store:{image}")])
}

/// The ignore file of the Containerfile that is used comes before the directory's (reference ".dockerignore file").
#[test]
fn ignore_files_beside_containerfiles() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("work/context");
    fs::create_dir_all(dir.join("sub")).unwrap();
    for name in ["Dockerfile", "sub/Dockerfile", "Two"] {
        fs::write(dir.join(name), "FROM scratch\nCOPY * /\n").unwrap();
        fs::write(dir.join(format!("{name}.dockerignore")), format!("**\n!{}\n", name.replace('/', "-"))).unwrap();
    }
    fs::write(dir.join("sub-Dockerfile"), "").unwrap();
    fs::write(dir.join(".dockerignore"), "**\n!sub\n").unwrap();
    let packed = Run::new("tar").args(["-C", &dir.display().to_string(), "-c", "."]).output().bytes;
    for (args, want) in [
        (&[][..], "Dockerfile"),
        (&["-f", "context/Two"], "Two"),
        (&["-f", "Two"], "Two"),
        (&["-f", "sub/Dockerfile"], "sub-Dockerfile"),
    ] {
        for (context, input) in [("context", Vec::new()), ("-", packed.clone())] {
            if context == "-" && args.contains(&"context/Two") {
                continue;
            }
            fs::remove_dir_all(sandbox.path("work/out")).unwrap_or_default();
            let run =
                sandbox.run("hoy-build").args(["build", "-q", "-o", "type=local,dest=out"]).args(args).arg(context);
            run.stdin(input).ok();
            assert_eq!(Run::new("ls").arg(sandbox.path("work/out")).ok(), want, "{args:?} {context}");
        }
    }
}

#[test]
fn one_digest_for_everybody() {
    let shared = tempfile::Builder::new().prefix("hoy-context-").tempdir_in("/tmp").unwrap();
    Run::new("chmod").arg("755").arg(shared.path()).ok();
    context(shared.path());
    let dir = shared.path().to_str().unwrap();
    let layout = Sandbox::new();
    hoy_tests::need(&["umoci", "busybox"]).then(|| hoy_tests::busybox_layout(&layout.path("layout")));
    let mut digests = Vec::new();
    for user in [User::Root, User::Sub, User::One] {
        if !user.available() || !hoy_tests::need(&["umoci", "busybox"]) {
            return;
        }
        let sandbox = Sandbox::for_user(user);
        let image = format!("oci:{}:busybox:latest", layout.path("layout").display());
        sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:busybox"]);
        build(&sandbox, &["-t", "cold", dir]);
        let again = build(&sandbox, &["-t", "cached", dir]);
        assert!(again.steps().0 == 0, "everything is known: {}", again.stderr);
        let script = format!("umask 077; TZ=Asia/Tokyo hoy-build build --no-cache --jobs 4 -t anew {dir}");
        let path =
            std::env::join_paths([hoy_tests::program_dir().to_owned(), "/bin".into(), "/usr/bin".into()]).unwrap();
        sandbox.run("sh").args(["-c", &script]).env("PATH", path).ok();
        digests.extend(["cold", "cached", "anew"].map(|image| (user, image, digest(&sandbox, image))));
        let left = fs::read_dir(sandbox.path("root/containers")).unwrap().flatten();
        let left: Vec<_> = left.filter(|entry| entry.file_name().len() == 64).collect();
        assert!(left.is_empty(), "no container stays: {left:?}");
        if user == User::Root {
            looks_right(&sandbox);
        }
    }
    let first = digests[0].2.clone();
    assert!(digests.iter().all(|(.., digest)| *digest == first), "{digests:#?}");
}

fn looks_right(sandbox: &Sandbox) {
    let tree = sandbox.path("tree");
    sandbox.run("hoy-storage").arg("unpack").arg("cold").arg(&tree).ok();
    let read = |name: &str| fs::read_to_string(tree.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(read("copied/out"), "hello world\na\n");
    assert_eq!(read("tree/linked"), "hello world\na\n");
    assert_eq!(read("etc/inline/EOF"), "plain $HOME\n");
    assert_eq!(read("etc/inline/other"), "tabs are gone in \n", "no ARG stands before it");
    assert_eq!(read("heredoc"), "in one go\n");
    assert_eq!(read("two"), "text of one\n");
    for absent in ["cache", "memory", "mnt", "src", "dev/pipes", "tmp/triggered"] {
        assert!(!tree.join(absent).exists(), "{absent}");
    }
    let config: serde_json::Value =
        serde_json::from_str(&sandbox.ok("hoy-copy", &["inspect", "--config", "store:cold"])).unwrap();
    let config = &config["config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/cat"]));
    assert_eq!(config["Cmd"], serde_json::json!(["/bin/sh", "-ec", "/heredoc"]));
    assert_eq!(config["User"], "app:staff");
    assert_eq!(config["OnBuild"], serde_json::json!(["RUN echo triggered > /tmp/triggered"]));
    let ports: Vec<&String> = config["ExposedPorts"].as_object().unwrap().keys().collect();
    assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
    fs::write(sandbox.path("work/Containerfile"), "FROM cold\nUSER root\nRUN test -e /tmp/triggered\n").unwrap();
    build(sandbox, &["-t", "child", "."]);
    let inspected = sandbox.ok("hoy-copy", &["inspect", "--config", "store:child"]);
    assert!(!inspected.contains("OnBuild"), "a trigger is not passed on");
}

/// Steps of a build that were done, by their instructions' first words.
fn done(out: &Out) -> usize {
    out.steps().0
}

#[test]
fn the_cache_knows_what_matters() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let dir = sandbox.path("work");
    fs::create_dir(dir.join("sub")).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("a", "one");
    write("sub/b", "b");
    write(
        "Containerfile",
        "FROM busybox AS one\nARG USED=1\nARG OTHER=1\nCOPY a /a\nRUN cat /a; echo $USED > /used\n\
         FROM busybox AS two\nARG USED\nRUN --mount=type=bind,from=one,source=/a,target=/x cat /x > /y\n\
         RUN --mount=type=bind,source=sub,target=/s ls /s > /names\nCOPY --from=one /used /\n",
    );
    let steps = |args: &[&str]| done(&build(&sandbox, &[args, &["."]].concat()));
    assert_eq!(steps(&[]), 5);
    assert_eq!(steps(&[]), 0);
    Run::new("touch").args(["-d", "2001-01-01", "a", "sub/b"]).dir(&dir).ok();
    assert_eq!(steps(&[]), 0, "times do not count");
    assert_eq!(steps(&["--build-arg", "UNDECLARED=1", "--label", "x=y"]), 0);
    let misspelt = build(&sandbox, &["--build-arg", "UESD=1", "."]);
    assert!(misspelt.stderr.contains("[UESD]: no ARG has the name"), "{}", misspelt.stderr);
    assert_eq!(steps(&["--build-arg", "OTHER=2"]), 1, "RUN sees every ARG that is declared before it");
    write("a", "two");
    let explained = build(&sandbox, &["--explain", "."]);
    assert_eq!(done(&explained), 5, "{}", explained.stderr);
    assert!(explained.stderr.contains("not cached: other files"), "{}", explained.stderr);
    assert!(explained.stderr.contains("not cached: other mounts"), "{}", explained.stderr);
    write("sub/new", "");
    assert_eq!(steps(&[]), 2, "the bind of the context, and what lies above it");
    Run::new("chmod").args(["600", "a"]).dir(&dir).ok();
    assert!(steps(&[]) >= 1, "permissions count");
    assert_eq!(steps(&["--no-cache"]), 5);
    assert_eq!(steps(&["--cache-ttl", "1ns"]), 5);
    assert_eq!(steps(&["--timestamp", "5"]), 5, "another time is another layer");
    sandbox.ok("hoy-storage", &["rmi", "--all", "--force"]);
    sandbox.ok("hoy-storage", &["prune", "--force"]);
    let layout = sandbox.path("layout");
    sandbox.ok("hoy-copy", &["copy", "-q", &format!("oci:{}:busybox:latest", layout.display()), "store:busybox"]);
    assert_eq!(steps(&[]), 4, "what is no longer there is made again; the last layer is the same as an earlier one");
    assert_eq!(steps(&[]), 0);
}

/// A COPY that was never done reads its files once, for the layer and for the cache; later ones look for it by the files alone.
/// Both ways come to the same, and a changed file is seen whatever its times are.
#[test]
fn what_is_read_once_is_found_again() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let dir = sandbox.path("work");
    let make = "mkdir -p dir/sub; echo one > dir/a; echo b > dir/b; echo c > dir/sub/c; ln dir/a dir/hard; ln -s a dir/soft; \
                mkfifo dir/fifo; chmod 4755 dir/b; touch -d 2001-01-01 dir/a";
    Run::new("sh").args(["-ec", make]).dir(&dir).ok();
    // Each alone on its base; those without a are the last.
    let with_a = [
        "COPY dir /new",
        "COPY dir /new/",
        "COPY dir/a /file",
        "COPY dir/a /etc",
        "COPY d?r/[a] /file",
        "COPY dir/a dir/sub /to/",
        "COPY --parents dir/./a dir/sub/c /p/",
        "COPY dir /etc",
        "COPY . /",
        "COPY --link --chown=7:8 --chmod=600 dir /linked",
        "ADD dir /added",
    ];
    let without = ["COPY --exclude=a --exclude=hard dir /x", "COPY dir/sub /y", "COPY --from=busybox /etc /etc2"];
    let stages = with_a.len() + without.len();
    let mut text = "FROM scratch AS base\nWORKDIR /etc\n".to_owned();
    for (number, line) in with_a.iter().chain(&without).enumerate() {
        text.push_str(&format!("FROM base AS s{number}\nWORKDIR /s{number}\n{line}\n"));
    }
    text.push_str("FROM scratch\n");
    (0..stages).for_each(|n| text.push_str(&format!("COPY --from=s{n} / /{n}\n")));
    fs::write(sandbox.path("home/Containerfile"), text).unwrap();
    let file = sandbox.path("home/Containerfile").display().to_string();
    let steps = |image: &str| done(&build(&sandbox, &["-t", image, "-f", &file, "."]));
    assert_eq!(steps("first"), 1 + 3 * stages);
    assert_eq!(steps("again"), 0, "found by the files alone");
    let change = |text: &str| {
        Run::new("sh").args(["-ec", &format!("echo {text} > dir/a; touch -d 2001-01-01 dir/a")]).dir(&dir).ok()
    };
    change("two");
    assert_eq!(steps("changed"), with_a.len() + stages, "the same size and time, and another content");
    change("one");
    assert_eq!(steps("back"), 0);
    let digests = ["first", "again", "changed", "back"].map(|image| digest(&sandbox, image));
    assert!(digests[0] == digests[1] && digests[0] == digests[3] && digests[0] != digests[2], "{digests:?}");
    build(&sandbox, &["--no-cache", "-t", "anew", "-f", &file, "."]);
    assert_eq!(digest(&sandbox, "anew"), digests[0]);
}

#[test]
fn layers_become_one() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let text = "FROM busybox\nRUN echo a > /a; mkdir /d; echo x > /d/x\nRUN rm -r /a /d /etc/group; mkdir /d; echo y > /d/y\n\
                RUN ln /d/y /hard; chown app /d/y\n";
    fs::write(sandbox.path("work/Containerfile"), text).unwrap();
    let mut trees = Vec::new();
    for (name, option, layers) in [("each", "--layers", 4), ("new", "--layers=false", 2), ("all", "--squash", 1)] {
        build(&sandbox, &[option, "-t", name, "."]);
        let manifest = sandbox.ok("hoy-copy", &["inspect", "--raw", &format!("store:{name}")]);
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest["layers"].as_array().unwrap().len(), layers, "{name}");
        let tree = sandbox.path(name);
        sandbox.run("hoy-storage").arg("unpack").arg(name).arg(&tree).ok();
        assert!(!tree.join("etc/group").exists() && !tree.join("d/x").exists(), "{name}");
        trees.push(hoy_tests::listing(&tree, Run::new));
    }
    assert_eq!(trees[0], trees[1]);
    assert_eq!(trees[0], trees[2]);
}

/// Both ways to an image, where they say the same.
#[test]
fn shell_and_containerfile_are_equal() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let dir = sandbox.path("work");
    fs::create_dir_all(dir.join("app/bin")).unwrap();
    fs::write(dir.join("app/bin/run"), "#!/bin/sh\n").unwrap();
    let container = sandbox.ok("hoy-build", &["from", "scratch"]);
    sandbox.ok("hoy-build", &["copy", "-q", &container, "app", "/"]);
    sandbox.ok(
        "hoy-build",
        &[
            "config",
            "--entrypoint",
            r#"["/bin/run"]"#,
            "--env",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "--env",
            "A=b",
            "--label",
            "l=m",
            &container,
        ],
    );
    sandbox.ok("hoy-build", &["commit", "-q", "--omit-history", &container, "shell"]);
    fs::write(dir.join("Containerfile"), "FROM scratch\nCOPY app /\nENTRYPOINT [\"/bin/run\"]\nENV A=b\nLABEL l=m\n")
        .unwrap();
    build(&sandbox, &["--omit-history", "-t", "file", "."]);
    assert_eq!(digest(&sandbox, "shell"), digest(&sandbox, "file"));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    for (text, args, code, words) in [
        (
            "FORM busybox\n",
            &[][..],
            125,
            &["Containerfile:1:1: unknown instruction: FORM (did you mean FROM?)", "^^^^"][..],
        ),
        (
            "FROM busybox\nCOPY nothing /x\n",
            &[],
            125,
            &[
                "Containerfile:2:1: building at STEP \"COPY nothing /x\": no source matches \"nothing\": no such file",
                "2 | COPY",
            ],
        ),
        ("FROM busybox\nRUN exit 7\n", &[], 7, &["building at STEP \"RUN exit 7\": exit status 7", "2 | RUN exit 7"]),
        ("FROM busybox\nENV A=${B:?needed}\n", &[], 125, &["B: needed"]),
        ("FROM busybox\n", &["--target", "nope"], 125, &["stage \"nope\" could not be found"]),
        ("FROM no-such.invalid/image\n", &["--pull=never"], 125, &["Containerfile:1:6:", "no-such.invalid/image"]),
        (
            "FROM busybox\nCOPY Containerfile /etc\nCOPY Containerfile /etc/passwd/x\n",
            &[],
            125,
            &["/etc/passwd", "no directory"],
        ),
        ("FROM busybox\nCOPY Containerfile Containerfile /x\n", &[], 125, &["ends in /"]),
        ("FROM busybox\nCOPY --chown=nobody-here Containerfile /x\n", &[], 125, &["nobody-here"]),
        ("FROM busybox\nRUN --mount=type=cahce,target=/x true\n", &[], 125, &["invalid value for type: cahce"]),
        ("FROM busybox\nRUN true\n", &["--isolation", "none"], 125, &["--isolation none"]),
        ("FROM busybox\nEXPOSE 99999\n", &[], 125, &["EXPOSE", "99999"]),
        (
            "FROM busybox as b\n",
            &["--check"],
            1,
            &["WARNING: FromAsCasing", "1 | FROM busybox as b", "1 warning found"],
        ),
        ("# check=error=true\nFROM busybox as b\n", &[], 125, &["WARNING: FromAsCasing", "build checks"]),
        ("# check=skip\nFROM busybox\n", &["--check"], 125, &["invalid check option \"skip\""]),
        (
            "FROM busybox\nCOPY ../../etc/passwd /x\nCOPY /etc/hostname /y\n",
            &[],
            125,
            &["escaping context directory error"],
        ),
    ] {
        fs::write(sandbox.path("work/Containerfile"), text).unwrap();
        let told = sandbox.run("hoy-build").arg("build").args(args).arg(".").fails(code, words);
        assert!(!told.contains("panicked"), "{told}");
    }
    let left = fs::read_dir(sandbox.path("root/build")).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn variables_of_variables_are_bounded() {
    let sandbox = Sandbox::new();
    let doubled: String = (1..17).map(|n| format!("ENV a{n}=${{a{0}}}${{a{0}}}\n", n - 1)).collect();
    let many: String = (0..1000).map(|n| format!("ENV b{n}=$a15\n")).collect();
    let document = format!("FROM scratch\nENV a0=xxxxxxxxxxxxxxxx\n{doubled}{many}");
    std::fs::write(sandbox.path("work/Containerfile"), document).expect("write");
    sandbox.run("hoy-build").args(["build", "-t", "it", "."]).fails(125, &["4 MiB", "ENV b"]);
}

#[test]
fn standard_input_is_a_containerfile_or_a_context() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        let text = "FROM busybox\nRUN echo in > /in\n";
        let run =
            |args: &[&str], input: Vec<u8>| sandbox.run("hoy-build").arg("build").args(args).stdin(input).output();
        assert_eq!(run(&["-t", "a", "-f", "-", "."], text.into()).status, 0);
        assert_eq!(run(&["-t", "b", "-"], text.into()).status, 0);
        assert_eq!(digest(&sandbox, "a"), digest(&sandbox, "b"));
        let packed = tempfile::tempdir().unwrap();
        fs::write(packed.path().join("Dockerfile"), "FROM scratch\nCOPY file /\n").unwrap();
        fs::write(packed.path().join("file"), "x").unwrap();
        for compression in ["-cf", "-czf", "-cjf", "-cJf"] {
            let tar = packed.path().with_extension("tar");
            Run::new("tar").args([compression]).arg(&tar).args(["-C"]).arg(packed.path()).arg(".").ok();
            let out = run(&["-t", "c", "-"], fs::read(&tar).unwrap());
            assert_eq!(out.status, 0, "{}", out.stderr);
            fs::remove_file(tar).unwrap();
        }
    }
}

#[test]
fn a_build_that_is_ended_leaves_nothing() {
    let Some(sandbox) = busybox_store(User::Root) else { return };
    fs::write(sandbox.path("work/Containerfile"), "FROM busybox\nRUN touch /begun; sleep 100\n").unwrap();
    let mut child = sandbox.run("hoy-build").args(["build", "."]).spawn();
    let start = Instant::now();
    let sleeps = || {
        let found = Command::new("pgrep").args(["-f", "^sleep 100$"]).output().unwrap();
        !found.stdout.is_empty()
    };
    while !sleeps() {
        assert!(start.elapsed() < Duration::from_secs(60), "the command does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(125));
    let left = fs::read_dir(sandbox.path("root/containers")).unwrap().flatten();
    assert_eq!(left.filter(|entry| entry.file_name().len() == 64).count(), 0);
}

#[test]
fn a_killed_build_runs_nothing_and_leaves_nothing() {
    for user in [User::Root, User::Sub, User::One] {
        let Some(sandbox) = busybox_store(user) else { return };
        let text = "FROM busybox\nRUN echo x > /x\nRUN touch /begun; exec sleep 101\n";
        fs::write(sandbox.path("work/Containerfile"), text).unwrap();
        let mut child = sandbox.run("hoy-build").args(["build", "."]).spawn();
        let start = Instant::now();
        let sleeper = || Command::new("pgrep").args(["-f", "^sleep 101$"]).output().unwrap().stdout;
        while sleeper().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60), "the command does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let start = Instant::now();
        loop {
            let mut left: Vec<_> = fs::read_dir(sandbox.path("root/containers")).unwrap().flatten().collect();
            left.retain(|entry| entry.file_name().len() == 64);
            let build = fs::read_dir(sandbox.path("root/build")).unwrap().flatten();
            left.extend(build.filter(|entry| entry.file_name().to_string_lossy().starts_with(".tmp")));
            if left.is_empty() && sleeper().is_empty() {
                break;
            }
            // Nobody prunes: what the build left beside itself does.
            assert!(start.elapsed() < Duration::from_secs(20), "{user:?}: {left:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        fs::write(sandbox.path("work/Containerfile"), "FROM busybox\nRUN echo x > /x\n").unwrap();
        build(&sandbox, &["-t", "a", "."]);
        sandbox.ok("hoy-build", &["prune", "--all"]);
        assert_eq!(fs::read_dir(sandbox.path("root/build/cache")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(sandbox.path("root/blobs/sha256")).unwrap().count(), 0, "{user:?}");
    }
}
