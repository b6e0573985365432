//! Containerfiles in which each feature of the language is at least once, and the context that they copy from.

use std::fs;
use std::path::Path;

use crate::Run;

/// What another builder makes of a Containerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The same tree and configuration.
    Same,
    /// Something else; the sentence of the Dockerfile reference that decides against it.
    Different(&'static str),
    /// Debian's version does not know it.
    Unknown,
}

/// One Containerfile.
#[derive(Debug)]
pub struct Case {
    /// What it is about.
    pub name: &'static str,
    /// Its text; the base image is `localhost/base`.
    pub text: &'static str,
    /// Options of the build.
    pub options: &'static [&'static str],
    /// What Debian's buildah makes of it.
    pub peer: Peer,
    /// Files and their contents, or `config:` and a JSON pointer into the configuration's `config`, and its text.
    pub want: &'static [(&'static str, &'static str)],
    /// One of those that are built under every circumstance.
    pub is_sample: bool,
}

const fn same(name: &'static str, text: &'static str) -> Case {
    Case { name, text, options: &[], peer: Peer::Same, want: &[], is_sample: false }
}

const fn own(name: &'static str, text: &'static str, want: &'static [(&'static str, &'static str)]) -> Case {
    Case { name, text, options: &[], peer: Peer::Unknown, want, is_sample: false }
}

impl Case {
    const fn with(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    const fn sample(self) -> Self {
        Self { is_sample: true, ..self }
    }

    const fn but(self, reason: &'static str) -> Self {
        Self { peer: Peer::Different(reason), ..self }
    }
}

/// All of them.
pub const CASES: &[Case] = &[
    same(
        "expansion",
        "ARG V=1.2.3\nFROM localhost/base\nARG V\nARG W=w\nENV A=$V B=${W:-x}${X:-y}${V:+set}${X:+no} C='$V' D=\\$V E=\"a  b\"\n\
         ENV F=$A$B A=new\nENV legacy one two\nLABEL v=$V \"two words\"=\"$W x\" multi=a\\\nb\nRUN echo \"$A $B $C $D $E $F $W\" > /out\n\
         WORKDIR /w/$W\nWORKDIR rel\nUSER $W\nSTOPSIGNAL SIG${Y:-TERM}\n",
    )
    .sample(),
    same(
        "build arguments",
        "ARG BASE=none\nFROM $BASE\nARG ONE=default\nARG TWO=default\nARG THREE\nRUN echo $ONE $TWO $THREE > /args\nENV KEPT=$ONE\n",
    )
    .with(&["--build-arg", "BASE=localhost/base", "--build-arg", "ONE=given", "--build-arg", "THREE=3"])
    .sample(),
    same(
        "copies",
        "FROM localhost/base\nCOPY file /plain\nCOPY file /dir/\nCOPY sub /tree\nCOPY sub /tree/\nCOPY *.txt /texts/\nCOPY sub/. /etc/\n\
         COPY [\"with space\", \"/other name\"]\nWORKDIR /here\nCOPY file .\nCOPY file relative/name\nCOPY f?le /tmp/\n\
         COPY --chown=app file /owned/by\nCOPY --chown=1:2 sub /owned/tree\nCOPY --chmod=600 file /modes/a\nCOPY li* /links/\n",
    )
    .sample(),
    same(
        "archives",
        "FROM localhost/base\nADD tree.tar /one\nADD tree.tar.gz /two/\nADD file /three/\nCOPY tree.tar /four/\nADD --chown=app file /five\n",
    )
    .sample(),
    same(
        "commands",
        "FROM localhost/base\nCMD echo shell form\nENTRYPOINT [\"/bin/echo\", \"exec\"]\nEXPOSE 80 443/tcp 53/udp\nVOLUME /a /b\n\
         VOLUME [\"/c d\"]\nUSER app\nRUN id -u > /tmp/id; pwd > /tmp/pwd; echo $HOME > /tmp/home\nRUN [\"/bin/touch\", \"/tmp/exec form\"]\n",
    )
    .but("VOLUME \"creates a mount point with the specified name\", of which buildah's RUN makes directories")
    .sample(),
    same("entry point resets the command", "FROM localhost/base\nENTRYPOINT /bin/echo shell $PATH\n"),
    same(
        "stages",
        "FROM localhost/base AS one\nRUN echo one > /one; mkdir -p /d/e; ln -s ../one /d/link; chown 5:6 /d/e\nFROM one AS two\nRUN echo two > /two\n\
         FROM scratch AS unused\nCOPY missing /\nFROM localhost/base\nCOPY --from=two /one /two /both/\nCOPY --from=0 /d /copied\n\
         COPY --from=one --chown=7:8 /d /given\n",
    ),
    same("target", "FROM localhost/base AS a\nRUN echo a > /a\nFROM a AS b\nRUN false\n").with(&["--target", "a"]).sample(),
    same("from nothing", "FROM scratch\nCOPY sub /\nENV A=b\nCMD [\"/x\"]\n").sample(),
    same(
        "changes",
        "FROM localhost/base\nRUN rm /etc/group; mkdir /new; chmod 700 /new; ln /etc/passwd /new/hard; mkfifo /new/fifo\n\
         RUN rm -r /home && mkdir /home && chmod 4755 /bin/busybox && mv /new/fifo /moved\n",
    )
    .sample(),
    same(
        "lines",
        "# a comment\nFROM localhost/base\nRUN echo one \\\n  # in between\n  two \\\n  \"three   four\" > /out\n   ENV   A   =   b\nENV B=c\nenv lower=case\n",
    ),
    same("escape", "# escape=`\nFROM localhost/base\nENV A=a` b\nRUN echo one `\n two > /out\nCOPY fi`\nle /x\n")
        .but("\"The escape directive sets the character used to escape characters\": buildah keeps it in ENV")
        .sample(),
    own(
        "here-document of a command",
        "FROM localhost/base\nRUN cat > /quoted <<'E' && echo done > /after\n$HOME\nE\n",
        &[("/quoted", "$HOME\n"), ("/after", "done\n")],
    ),
    same("ignored", "FROM localhost/base\nCOPY . /all/\n").with(&["--ignorefile", "rules"]).sample(),
    same("labels and times", "FROM localhost/base\nLABEL a=1 b=2\nMAINTAINER somebody\nRUN date > /dev/null\n")
        .with(&["--label", "b=3", "--label", "c=4"]),
    same(
        "mounts",
        "FROM localhost/base AS s\nRUN echo s > /s\nFROM localhost/base\nRUN --mount=type=bind,from=s,source=/s,target=/m cat /m > /from-stage\n\
         RUN --mount=type=cache,target=/cache touch /cache/x\nRUN --mount=type=tmpfs,target=/t touch /t/x\n",
    ),
    own(
        "prefixes and suffixes",
        "FROM scratch\nARG V=a/b/c.tar.gz\nLABEL a=${V#*/} b=${V##*/} c=${V%.*} d=${V%%.*} e=${V#x}\n",
        &[
            ("config:/Labels/a", "b/c.tar.gz"),
            ("config:/Labels/b", "c.tar.gz"),
            ("config:/Labels/c", "a/b/c.tar"),
            ("config:/Labels/d", "a/b/c"),
            ("config:/Labels/e", "a/b/c.tar.gz"),
        ],
    ),
    own(
        "replacements",
        "FROM scratch\nARG V=banana\nLABEL a=${V/a/b} b=${V//a/b} c=${V/n?n/-} d=${V//x/y}\n",
        &[
            ("config:/Labels/a", "bbnana"),
            ("config:/Labels/b", "bbnbnb"),
            ("config:/Labels/c", "ba-a"),
            ("config:/Labels/d", "banana"),
        ],
    ),
    own(
        "empty and unset",
        "FROM scratch\nENV E=\nLABEL a=${E-x} b=${E:-x} c=${E+x} d=${E:+x} e=${U-x} f=${U+x} g=${U:-${V:-deep}}\n",
        &[
            ("config:/Labels/a", ""),
            ("config:/Labels/b", "x"),
            ("config:/Labels/c", "x"),
            ("config:/Labels/d", ""),
            ("config:/Labels/e", "x"),
            ("config:/Labels/f", ""),
            ("config:/Labels/g", "deep"),
        ],
    ),
    own(
        "inline files",
        "FROM scratch\nARG W=who\nCOPY <<A <<\"B\" <<-C /d/\n$W\nA\n$W\nB\n\ttab\n\tC\nCOPY <<X /one\nsingle\nX\nADD <<Y /two\nadded\nY\n",
        &[("/d/A", "who\n"), ("/d/B", "$W\n"), ("/d/C", "tab\n"), ("/one", "single\n"), ("/two", "added\n")],
    )
    .sample(),
    own(
        "here-documents as scripts",
        "FROM localhost/base\nRUN <<E\necho a > /a\nfalse\necho b > /b\nE\nRUN <<E\n#!/bin/sh -e\necho c > /c\nE\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN <<-E\n\techo d > /d\n\tE\n",
        &[("/a", "a\n"), ("/b", "b\n"), ("/c", "c\n"), ("/d", "d\n")],
    )
    .sample(),
    own(
        "two here-documents of one command",
        "FROM localhost/base\nRUN cat <<A - <<B > /out; cat <<C >> /out\none\nA\ntwo\nB\nthree\nC\n",
        &[("/out", "two\nthree\n")],
    ),
    own(
        "parents",
        "FROM scratch\nCOPY --parents sub/deep/y.log sub/x /a/\nCOPY --parents ./sub/./deep /b/\nCOPY --parents sub/*/*.log /c/\n",
        &[("/a/sub/deep/y.log", "y"), ("/a/sub/x", "x"), ("/b/deep/y.log", "y"), ("/c/sub/deep/y.log", "y")],
    )
    .sample(),
    own(
        "excluded",
        "FROM scratch\nCOPY --exclude=*.log --exclude=x sub /a/\nCOPY --exclude=**/*.log --exclude=deep sub /b\n",
        &[("/a/same", "x"), ("/b/x", "x")],
    ),
    own(
        "linked",
        "FROM localhost/base AS a\nRUN ln -s /tmp /d\nFROM a\nCOPY --link file /new/file\nCOPY --link --chown=3:4 sub /new/sub\n",
        &[("/new/file", "f"), ("/new/sub/x", "x")],
    ),
    own(
        "symbolic modes",
        "FROM localhost/base\nCOPY --chmod=u=rwx,go=rx file /a\nCOPY --chmod=go-rwx,u+s file /b\nCOPY --chmod=a+X sub /c\nRUN stat -c %a /a /b /c /c/x > /modes\n",
        &[],
    )
    .sample(),
    own("unpacked or not", "FROM scratch\nADD --unpack=false tree.tar /a/\nADD --unpack tree.tar.gz /b\nCOPY tree.tar /c\n", &[("/b/sub/x", "x")]),
    own(
        "arguments of the platform",
        "ARG TARGETOS\nFROM --platform=$BUILDPLATFORM localhost/base\nARG TARGETOS TARGETPLATFORM BUILDOS TARGETSTAGE\nRUN echo $TARGETOS $TARGETPLATFORM $BUILDOS $TARGETSTAGE > /p\n",
        &[],
    ),
    own(
        "a check of health",
        "FROM scratch\nHEALTHCHECK --interval=1m30s --timeout=2s --start-period=3s --start-interval=4s --retries=5 CMD [\"/x\", \"y\"]\n",
        &[("config:/Healthcheck/Test/1", "/x")],
    ),
    own("no check of health", "FROM scratch\nHEALTHCHECK CMD x\nHEALTHCHECK NONE\n", &[("config:/Healthcheck/Test/0", "NONE")]),
    same("stop signal by number", "FROM scratch\nSTOPSIGNAL 9\n"),
    same("exposed ports", "FROM scratch\nARG P=81\nEXPOSE 80 $P/udp\nEXPOSE 80/tcp\n"),
    own("ranges of ports", "FROM scratch\nEXPOSE 90-92/tcp 5-6/udp\n", &[("config:/ExposedPorts/91~1tcp", "{}"), ("config:/ExposedPorts/6~1udp", "{}")]),
    same("shell", "FROM localhost/base\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $0 > /out\nCMD echo hello\n").but("SHELL \"allows the default shell used for the shell form of commands to be overridden\": buildah has none in an OCI image"),
    same("relative directories", "FROM scratch\nWORKDIR a\nWORKDIR b/../c\nWORKDIR /d/e\nCOPY file .\n").sample(),
    same("owner of a directory", "FROM localhost/base\nUSER app\nWORKDIR /home/app/new\nRUN stat -c %U . > /tmp/owner\n"),
    same("user by number", "FROM localhost/base\nUSER 1000:50\nRUN id -u > /tmp/a; id -g >> /tmp/a\n"),
    own("names in upper case", "from localhost/base as One\nrun echo a > /a\nfrom one\ncopy --from=ONE /a /b\n", &[("/b", "a\n")]),
    same("environment of a command", "FROM localhost/base\nENV A=1\nRUN A=2 sh -c 'echo $A' > /a; echo $A >> /a\nENV A=$A$A B=${A}x\n").sample(),
    same("quotes", "FROM scratch\nENV A=\"x y\" B='x y' C=x\\ y D=\"a'b\" E='a\"b' F=\"a\\\"b\" G=a\\\\b\nLABEL \"k\"=\"v\" 'q'='w'\n"),
    same("later arguments win", "FROM localhost/base\nARG A=1\nENV A=2\nARG A=3\nRUN echo $A > /a\n"),
    same("an argument in between", "FROM localhost/base\nRUN echo \"$LATER\" > /before\nARG LATER=x\nRUN echo \"$LATER\" > /after\n"),
    same("arguments of a stage are its own", "FROM localhost/base AS a\nARG X=1\nRUN echo $X > /a\nFROM localhost/base\nRUN echo \"[$X]\" > /b\nCOPY --from=a /a /\n"),
    same("annotations", "FROM scratch\nLABEL a=b\n").with(&["--annotation", "x=y"]),
    same("squashed", "FROM localhost/base\nRUN rm /etc/passwd; echo a > /a\nRUN rm /a; echo b > /b\n").with(&["--squash"]).sample(),
    same("one new layer", "FROM localhost/base\nRUN rm /etc/passwd; echo a > /a\nRUN rm /a; echo b > /b\n").with(&["--layers=false"]),
    own("arguments from a file", "FROM scratch\nARG A\nARG B=none\nLABEL a=$A b=$B\n", &[("config:/Labels/a", "1"), ("config:/Labels/b", "two words")])
        .with(&["--build-arg-file", "arguments"]),
    own(
        "another context",
        "FROM scratch\nCOPY --from=other x /y\nCOPY --from=other deep /deep/\n",
        &[("/y", "x"), ("/deep/y.log", "y")],
    )
    .with(&["--build-context", "other=sub"])
    .sample(),
    same("files of an image", "FROM scratch\nCOPY --from=localhost/base /etc/passwd /etc/group /etc/\n").sample(),
    own(
        "triggers",
        "FROM localhost/base AS a\nONBUILD RUN echo built > /built\nONBUILD ENV T=1\nFROM a\nRUN cat /built > /copy\n",
        &[("/copy", "built\n")],
    ),
    own("triggers are kept", "FROM localhost/base\nONBUILD COPY file /x\nONBUILD RUN true\n", &[("config:/OnBuild/1", "RUN true")]),
    own(
        "options of a cache",
        "FROM localhost/base\nRUN --mount=type=cache,id=c,target=/c,uid=1000,gid=50,mode=0750,sharing=locked stat -c '%u %g %a' /c > /out\n\
         RUN --mount=type=cache,id=c,target=/c,ro,sharing=shared ! touch /c/x 2>/dev/null\nRUN --mount=type=cache,target=/p,sharing=private touch /p/x\n",
        &[("/out", "1000 50 750\n")],
    ),
    own(
        "options of a bind",
        "FROM localhost/base\nRUN --mount=type=bind,source=sub,target=/s,rw echo lost > /s/new && cat /s/x > /out\n\
         RUN --mount=target=/whole ls /whole/sub > /names; ! touch /whole/x 2>/dev/null\n",
        &[("/out", "x"), ("/names", "deep\nlink\nsame\nx\n")],
    )
    .sample(),
    own(
        "options of memory",
        "FROM localhost/base\nRUN --mount=type=tmpfs,target=/t,size=2m df -k /t | tail -n 1 | awk '{print $2}' > /size\n",
        &[("/size", "2048\n")],
    ),
    own(
        "secrets",
        "FROM localhost/base\nRUN --mount=type=secret,id=s,target=/s,mode=0440,uid=1000 stat -c '%u %a' /s > /out\n\
         RUN --mount=type=secret,id=s,env=S test \"$S\" = told && echo yes > /env\nRUN --mount=type=secret,id=none true\n",
        &[("/out", "1000 440\n"), ("/env", "yes\n")],
    )
    .with(&["--secret", "id=s,src=secret"]),
    own("networks", "FROM localhost/base\nRUN --network=none ls /sys/class/net > /none\nRUN --network=default true\n", &[("/none", "lo\n")]),
    own("directives", "# syntax=docker/dockerfile:1\n# check=skip=all\n# escape=\\\nFROM scratch as x\nLABEL a=b\n", &[("config:/Labels/a", "b")]),
    own("a mark of byte order", "\u{feff}FROM scratch\r\nLABEL a=b\r\nCOPY file \\\r\n /x\r\n", &[("/x", "f"), ("config:/Labels/a", "b")]),
    same("a hash that is none", "FROM localhost/base\nRUN echo a # b > /a\nENV A=#b\nLABEL c=d#e\n"),
    same("hard links and times", "FROM localhost/base\nRUN echo a > /a; ln /a /b; touch -d '2001-01-01 00:00:00' /a; ln -s nowhere /c; mkdir /d; chmod 1777 /d\n")
        .sample(),
    same("special permissions", "FROM localhost/base\nRUN cp /bin/busybox /s; chmod 6755 /s; chown 1000:50 /tmp; chmod 3770 /tmp\n"),
    same("a directory instead of a file", "FROM localhost/base\nRUN rm /etc/os-release && mkdir /etc/os-release && echo x > /etc/os-release/x\nRUN rm -r /etc/os-release; echo y > /etc/os-release\n"),
    same("many sources", "FROM scratch\nCOPY a.txt b.txt file sub /all/\nCOPY sub/* /flat/\n").sample(),
    same("nothing but settings", "FROM localhost/base\nENV A=1\nLABEL b=2\nUSER app\nWORKDIR /\nCMD [\"x\"]\nENTRYPOINT [\"y\"]\nSTOPSIGNAL SIGINT\nVOLUME /v\nEXPOSE 1\n").sample(),
];

/// Writes what the Containerfiles copy.
pub fn write_context(dir: &Path) {
    fs::create_dir_all(dir.join("sub/deep")).expect("make a directory");
    for (name, text) in [
        ("file", "f"),
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("with space", "s"),
        ("sub/x", "x"),
        ("sub/deep/y.log", "y"),
        ("secret", "told"),
        ("arguments", "# comment\nA=1\n\nB=two words\n"),
    ] {
        fs::write(dir.join(name), text).expect("write a file");
    }
    fs::write(dir.join("rules"), "# rules\n**/*.log\n!sub/deep/y.log\n*.txt\n!b.txt\nwith*\nContainerfile\n")
        .expect("write a file");
    std::os::unix::fs::symlink("file", dir.join("link")).expect("link");
    std::os::unix::fs::symlink("x", dir.join("sub/link")).expect("link");
    fs::hard_link(dir.join("sub/x"), dir.join("sub/same")).expect("link");
    for (name, compress) in [("tree.tar", "-cf"), ("tree.tar.gz", "-czf")] {
        let times = ["--owner=9", "--group=10", "--mtime=@5", "--sort=name"];
        Run::new("tar").args([compress, name]).args(times).arg("sub").dir(dir).ok();
    }
    Run::new("chmod").args(["-R", "a+rX,u+w"]).arg(dir).ok();
    Run::new("chmod").args(["644", "file"]).dir(dir).ok();
    Run::new("chmod").args(["755", "sub/deep"]).dir(dir).ok();
}
