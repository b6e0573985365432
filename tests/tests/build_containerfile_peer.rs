//! The same Containerfiles through `hoy-build build` and Debian's buildah: equal trees, equal configurations.

use std::fs;
use std::path::{Path, PathBuf};

use hoy_tests::{Run, Sandbox, User, busybox_store, need};
use serde_json::Value;

/// Name, Containerfile, options.
const CASES: &[(&str, &str, &[&str])] = &[
    (
        "expansion",
        "ARG V=1.2.3\nFROM localhost/base\nARG V\nARG W=w\nENV A=$V B=${W:-x}${X:-y}${V:+set}${X:+no} C='$V' D=\\$V E=\"a  b\"\n\
         ENV F=$A$B A=new\nENV legacy one two\nLABEL v=$V \"two words\"=\"$W x\" multi=a\\\nb\nRUN echo \"$A $B $C $D $E $F $W\" > /out\n\
         WORKDIR /w/$W\nWORKDIR rel\nUSER $W\nSTOPSIGNAL SIG${Y:-TERM}\n",
        &[],
    ),
    (
        "build arguments",
        "ARG BASE=none\nFROM $BASE\nARG ONE=default\nARG TWO=default\nARG THREE\nRUN echo $ONE $TWO $THREE > /args\nENV KEPT=$ONE\n",
        &["--build-arg", "BASE=localhost/base", "--build-arg", "ONE=given", "--build-arg", "THREE=3"],
    ),
    (
        "copies",
        "FROM localhost/base\nCOPY file /plain\nCOPY file /dir/\nCOPY sub /tree\nCOPY sub /tree/\nCOPY *.txt /texts/\nCOPY sub/. /etc/\n\
         COPY [\"with space\", \"/other name\"]\nWORKDIR /here\nCOPY file .\nCOPY file relative/name\nCOPY f?le /tmp/\n\
         COPY --chown=app file /owned/by\nCOPY --chown=1:2 sub /owned/tree\nCOPY --chmod=600 file /modes/a\nCOPY li* /links/\n",
        &[],
    ),
    (
        "archives",
        "FROM localhost/base\nADD tree.tar /one\nADD tree.tar.gz /two/\nADD file /three/\nCOPY tree.tar /four/\nADD --chown=app file /five\n",
        &[],
    ),
    (
        "commands",
        "FROM localhost/base\nCMD echo shell form\nENTRYPOINT [\"/bin/echo\", \"exec\"]\nEXPOSE 80 443/tcp 53/udp\nVOLUME /a /b\n\
         VOLUME [\"/c d\"]\nUSER app\nRUN id -u > /tmp/id; pwd > /tmp/pwd; echo $HOME > /tmp/home\nRUN [\"/bin/touch\", \"/tmp/exec form\"]\n",
        &[],
    ),
    ("entry point resets the command", "FROM localhost/base\nENTRYPOINT /bin/echo shell $PATH\n", &[]),
    (
        "stages",
        "FROM localhost/base AS one\nRUN echo one > /one; mkdir -p /d/e; ln -s ../one /d/link; chown 5:6 /d/e\nFROM one AS two\nRUN echo two > /two\n\
         FROM scratch AS unused\nCOPY missing /\nFROM localhost/base\nCOPY --from=two /one /two /both/\nCOPY --from=0 /d /copied\n\
         COPY --from=one --chown=7:8 /d /given\n",
        &[],
    ),
    ("target", "FROM localhost/base AS a\nRUN echo a > /a\nFROM a AS b\nRUN false\n", &["--target", "a"]),
    ("from nothing", "FROM scratch\nCOPY sub /\nENV A=b\nCMD [\"/x\"]\n", &[]),
    (
        "changes",
        "FROM localhost/base\nRUN rm /etc/group; mkdir /new; chmod 700 /new; ln /etc/passwd /new/hard; mkfifo /new/fifo\n\
         RUN rm -r /home && mkdir /home && chmod 4755 /bin/busybox && mv /new/fifo /moved\n",
        &[],
    ),
    (
        "lines",
        "# a comment\nFROM localhost/base\nRUN echo one \\\n  # in between\n  two \\\n  \"three   four\" > /out\n   ENV   A   =   b\nENV B=c\nenv lower=case\n",
        &[],
    ),
    ("escape", "# escape=`\nFROM localhost/base\nENV A=a` b\nRUN echo one `\n two > /out\nCOPY fi`\nle /x\n", &[]),
    (
        "here-documents",
        "FROM localhost/base\nRUN cat > /quoted <<'E' && echo done > /after\n$HOME\nE\n",
        &["skip-peer"],
    ),
    ("ignored", "FROM localhost/base\nCOPY . /all/\n", &["--ignorefile", "rules"]),
    (
        "labels and times",
        "FROM localhost/base\nLABEL a=1 b=2\nMAINTAINER somebody\nRUN date > /dev/null\n",
        &["--label", "b=3", "--label", "c=4"],
    ),
    (
        "mounts",
        "FROM localhost/base AS s\nRUN echo s > /s\nFROM localhost/base\nRUN --mount=type=bind,from=s,source=/s,target=/m cat /m > /from-stage\n\
      RUN --mount=type=cache,target=/cache touch /cache/x\nRUN --mount=type=tmpfs,target=/t touch /t/x\n",
        &[],
    ),
];

fn context(dir: &Path) {
    fs::create_dir_all(dir.join("sub/deep")).unwrap();
    for (name, text) in
        [("file", "f"), ("a.txt", "a"), ("b.txt", "b"), ("with space", "s"), ("sub/x", "x"), ("sub/deep/y.log", "y")]
    {
        fs::write(dir.join(name), text).unwrap();
    }
    fs::write(dir.join("rules"), "# rules\n**/*.log\n!sub/deep/y.log\n*.txt\n!b.txt\nwith*\nContainerfile\n").unwrap();
    std::os::unix::fs::symlink("file", dir.join("link")).unwrap();
    std::os::unix::fs::symlink("x", dir.join("sub/link")).unwrap();
    fs::hard_link(dir.join("sub/x"), dir.join("sub/same")).unwrap();
    for (name, compress) in [("tree.tar", "-cf"), ("tree.tar.gz", "-czf")] {
        Run::new("tar").args([compress, name, "--owner=9", "--group=10", "sub"]).dir(dir).ok();
    }
    Run::new("chmod").args(["640", "file"]).dir(dir).ok();
    Run::new("chmod").args(["750", "sub/deep"]).dir(dir).ok();
}

/// What buildah leaves in an image because a RUN needed something to mount on; no sentence of the reference asks for it.
const STUBS: &[&str] = &[
    "dev d ",
    "proc d ",
    "run d ",
    "sys d ",
    "etc/hostname ",
    "etc/hosts ",
    "etc/resolv.conf ",
    "m f ",
    "m d ",
    "t d ",
    "cache d ",
];

/// Cases in which the peer does something else, and what decides against it.
const DIFFERENT: &[(&str, &str)] = &[
    ("escape", "\"The escape directive sets the character used to escape characters\": buildah keeps it in ENV"),
    ("commands", "VOLUME \"creates a mount point with the specified name\", of which buildah's RUN makes directories"),
];

/// What is there: kind, permissions, owner, links' targets, contents; and which names are one file.
fn tree(dir: &Path) -> Vec<String> {
    let script = "find . -mindepth 1 -printf '%P %y %m %U:%G %n %l\\n'; find . -type f -exec sha256sum {} +";
    let mut lines: Vec<String> = Run::new("sh").args(["-c", script]).dir(dir).ok().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Tree and configuration of an image.
fn seen(sandbox: &Sandbox, image: &str) -> (Vec<String>, Value) {
    let path: PathBuf = sandbox.path(&format!("tree-{image}"));
    sandbox.run("hoy-storage").arg("unpack").arg(image).arg(&path).ok();
    let config: Value =
        serde_json::from_str(&sandbox.ok("hoy-copy", &["inspect", "--config", &format!("store:{image}")])).unwrap();
    let mut inner = config["config"].clone();
    if let Some(labels) = inner["Labels"].as_object_mut() {
        labels.remove("io.buildah.version");
        if labels.is_empty() {
            inner["Labels"] = Value::Null;
        }
    }
    let mut list = tree(&path);
    list.retain(|line| !STUBS.iter().any(|stub| line.starts_with(stub) || line.ends_with(stub.trim_end())));
    Run::new("rm").args(["-rf"]).arg(&path).ok();
    (list, inner)
}

#[test]
fn buildah_makes_the_same() {
    if !need(&["buildah", "skopeo"]) {
        return;
    }
    let Some(sandbox) = busybox_store(User::Root) else { return };
    let work = sandbox.path("work");
    context(&work);
    sandbox.ok("hoy-storage", &["tag", "busybox", "localhost/base"]);
    let peer = |args: &[&str]| {
        let (root, run) = (sandbox.path("peer"), sandbox.path("peer-run"));
        let store =
            ["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap(), "--storage-driver", "overlay"];
        Run::new("buildah").args(store).args(args).dir(&work).output()
    };
    let base = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    let (root, run) = (sandbox.path("peer"), sandbox.path("peer-run"));
    let store = format!("containers-storage:[overlay@{}+{}]localhost/base:latest", root.display(), run.display());
    Run::new("skopeo").args(["copy", "-q", &base, &store]).ok();
    let mut differ = Vec::new();
    for (name, text, options) in CASES {
        fs::write(work.join("Containerfile"), text).unwrap();
        let own: Vec<&str> = options.iter().copied().filter(|option| *option != "skip-peer").collect();
        sandbox.run("hoy-build").args(["build", "-q", "-t", "ours"]).args(&own).arg(".").ok();
        let ours = seen(&sandbox, "ours");
        if options.contains(&"skip-peer") {
            continue;
        }
        let out = peer(
            &[&["bud", "-q", "--isolation", "chroot", "-t", "theirs", "-f", "Containerfile"], own.as_slice(), &["."]]
                .concat(),
        );
        assert_eq!(out.status, 0, "{name}: {}", out.stderr);
        let sent = sandbox.path("sent");
        let sent = format!("oci:{}:theirs", sent.display());
        assert_eq!(peer(&["push", "-q", "-D", "theirs", &sent]).status, 0);
        sandbox.ok("hoy-copy", &["copy", "-q", &sent, "store:theirs"]);
        let theirs = seen(&sandbox, "theirs");
        let only = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
        if let Some((_, reason)) = DIFFERENT.iter().find(|(case, _)| case == name) {
            assert!(ours != theirs, "{name}: the peer agrees now, although: {reason}");
            continue;
        }
        if ours.0 != theirs.0 {
            differ.push(format!(
                "{name}: ours {:#?}, theirs {:#?}",
                only(&ours.0, &theirs.0),
                only(&theirs.0, &ours.0)
            ));
        }
        if ours.1 != theirs.1 {
            differ.push(format!("{name}: ours {}, theirs {}", ours.1, theirs.1));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
