//! One Containerfile, full of what a package manager does to files, gives one digest: for root, for ordinary users, and in
//! containers that were given no privilege, by podman and by `hoy run`.

use std::fs;
use std::path::Path;

use hoy_tests::{Run, Sandbox, User, busybox_store, need, program_dir};

/// dpkg installs, upgrades, and removes packages; another stage takes files from what came of it.
const PACKAGES: &str = "FROM busybox AS base\nCOPY tools /\n\
    FROM base AS installed\nCOPY *.deb /debs/\n\
    RUN dpkg -i /debs/one_1.deb /debs/two_1.deb && ls /usr/share/one | wc -l\n\
    RUN dpkg -i /debs/one_2.deb && dpkg --purge two && rm -r /debs\n\
    FROM installed\n\
    RUN --mount=type=bind,from=installed,target=/other dpkg-query -W > /packages && cmp /other/usr/bin/one /usr/bin/one\n\
    COPY --from=installed /usr/share/one /copied/\n\
    RUN rm -r /usr/share/one && mkdir /usr/share/one && echo new > /usr/share/one/new && mv /var/lib/dpkg /var/lib/kept\n\
    RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/memory touch /cache/x /memory/x && dmesg 2>/dev/null; :\n";

/// The image's own programs, taken from this machine, and three packages.
const MAKE: &str = r#"
set -e
mkdir -p tools/bin tools/usr/bin tools/sbin tools/var/lib/dpkg/info tools/var/lib/dpkg/updates tools/etc/dpkg
for program in dpkg dpkg-deb dpkg-query dpkg-split; do cp "$(command -v $program)" tools/usr/bin/; done
cp "$(command -v tar)" tools/bin/gtar
ldd tools/usr/bin/* tools/bin/gtar | grep -o '/[^ ]*' | grep -v : | sort -u | while read -r file; do
    mkdir -p "tools$(dirname "$file")"; cp -L "$file" "tools$file"; done
printf '#!/bin/sh\nexec /bin/gtar "$@"\n' > tools/usr/bin/tar
printf '#!/bin/sh\n' > tools/sbin/ldconfig
printf 'force-unsafe-io\nforce-bad-path\nlog /dev/null\n' > tools/etc/dpkg/dpkg.cfg
touch tools/var/lib/dpkg/status
chmod 755 tools/usr/bin/tar tools/sbin/ldconfig
package() {
    name=$1 version=$2 dir=$1_$2
    mkdir -p $dir/DEBIAN $dir/usr/bin $dir/usr/share/$name $dir/etc/$name
    for number in $(seq 40); do echo "$name $version $number" > $dir/usr/share/$name/file$((number * version)); done
    echo "echo $version" > $dir/usr/bin/$name
    ln $dir/usr/bin/$name $dir/usr/share/$name/linked
    ln -s ../bin/$name $dir/usr/share/$name/symbolic
    echo "$version" > $dir/etc/$name/conf
    chmod 4755 $dir/usr/bin/$name
    echo "/etc/$name/conf" > $dir/DEBIAN/conffiles
    printf "Package: $name\nVersion: $version\nArchitecture: all\nMaintainer: nobody <n@localhost>\nDescription: $name\n" > $dir/DEBIAN/control
    if test $version = 1; then mkdir -p $dir/usr/share/$name/changing; touch $dir/usr/share/$name/changing/was
    else echo file > $dir/usr/share/$name/changing; fi
    printf '#!/bin/sh\nset -e\necho configured >> /etc/%s/state\nmkdir -p /var/lib/%s; chmod 2750 /var/lib/%s\n' $name $name $name > $dir/DEBIAN/postinst
    chmod 755 $dir/DEBIAN/postinst
    dpkg-deb --root-owner-group -Zgzip -b $dir $dir.deb > /dev/null
    rm -r $dir
}
package one 1; package one 2; package two 1
chmod -R a+rX .
"#;

/// A context directory and the layout of its base image, which everybody may read.
fn shared() -> Option<(tempfile::TempDir, Sandbox)> {
    let shared = tempfile::Builder::new().prefix("hoy-context-").tempdir_in("/tmp").unwrap();
    if !need(&["dpkg-deb", "tar", "ldd"]) {
        return None;
    }
    Run::new("sh").args(["-c", MAKE]).env("LC_ALL", "C").dir(shared.path()).ok();
    fs::write(shared.path().join("Containerfile"), PACKAGES).unwrap();
    Run::new("chmod").arg("755").arg(shared.path()).ok();
    let base = busybox_store(User::Root)?;
    Some((shared, base))
}

/// Owners of every kind of file, given, taken, moved, and given again in a layer above.
const OWNERS: &str = "FROM busybox\n\
    RUN mkdir -p /srv/own/dir && cd /srv/own && echo x > file && echo y > root && ln -s file link && mkfifo pipe && \\\n\
        chmod 2755 dir && chown -R 33:34 . && chmod 4755 file && chown -h 7:8 link && mv link moved && chown 0:0 root && \\\n\
        ln file linked && echo z > lost && chmod 6755 lost && chown 0:9 lost && chown 3:3 moved && chown 3:3 no/thing; \\\n\
        echo $? > code\n\
    RUN cd /srv/own && chown -h 0:0 moved && chown 12:34 pipe && chmod 700 file && chown 0:34 dir && chown 5:5 /etc /bin/busybox\n\
    RUN ! chown 1:1 /proc/self/fd/99 && ! chown 1:1 '' && touch /last\n";

/// Devices that are made, given away, moved, made unreadable, and copied from one stage to another.
const DEVICES: &str = "FROM busybox\n\
    RUN mkdir -p /srv/dev && cd /srv/dev && mknod -m 640 disk b 8 1 && mknod tty c 5 1 && chown 0:5 tty && \\\n\
        (umask 077; mknod null c 1 3) && mknod pipe p && mv disk moved && ! mknod tty c 5 1 && ! mknod no/thing c 5 1\n\
    RUN chmod 600 /srv/dev/tty\n\
    FROM busybox\n\
    COPY --from=0 /srv /copied\n\
    RUN mknod /far b 259 70000\n";

#[test]
fn devices_are_alike_for_root_and_ordinary_users() {
    let Some(base) = busybox_store(User::Root) else { return };
    let image = format!("oci:{}:busybox:latest", base.path("layout").display());
    let made = |user: User| {
        let sandbox = Sandbox::for_user(user);
        sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:busybox"]);
        fs::write(sandbox.path("work/Containerfile"), DEVICES).unwrap();
        sandbox.ok("hoy-build", &["build", "-q", "--cap-add", "MKNOD", "-t", "built", "."]);
        let container = sandbox.ok("hoy-build", &["from", "-q", "busybox"]);
        let mknod = |name| ["--", "mknod", name, "c", "1", "5"];
        sandbox.ok("hoy-build", &[&["run", "--cap-add", "MKNOD", &container][..], &mknod("/by-hand")].concat());
        // Whoever may make none is told so.
        let options = [&["run", "--cap-drop", "MKNOD", &container][..], &mknod("/none")].concat();
        assert_ne!(sandbox.run("hoy-build").args(options).output().status, 0, "{user:?}");
        sandbox.ok("hoy-build", &["commit", "-q", "--timestamp", "0", &container, "by-hand"]);
        ["built", "by-hand"]
            .map(|name| sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &format!("store:{name}")]))
    };
    let of_root = made(User::Root);
    for user in [User::Sub, User::One].into_iter().filter(|user| user.available()) {
        assert_eq!(made(user), of_root, "{user:?}");
    }
}

/// On paper a device is whose it would be, and nobody makes one where the kernel would not let it.
#[test]
fn devices_are_where_their_makers_may_write() {
    let Some(base) = busybox_store(User::Root) else { return };
    let image = format!("oci:{}:busybox:latest", base.path("layout").display());
    let made = |user: User| {
        let sandbox = Sandbox::for_user(user);
        sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:busybox"]);
        let text = "FROM busybox\nRUN mkdir -m 777 /open && mkdir -m 700 /closed && chown app /closed\n\
            RUN ! mknod /closed/a c 1 5 && mknod /open/p p && test -p /open/p\n";
        fs::write(sandbox.path("work/Containerfile"), text).unwrap();
        sandbox
            .ok("hoy-build", &["build", "-q", "--cap-add", "MKNOD", "--cap-drop", "DAC_OVERRIDE", "-t", "built", "."]);
        sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", "store:built"])
    };
    if User::Sub.available() {
        assert_eq!(made(User::Sub), made(User::Root));
    }
}

#[test]
fn owners_are_alike_for_root_and_ordinary_users() {
    let Some(base) = busybox_store(User::Root) else { return };
    let image = format!("oci:{}:busybox:latest", base.path("layout").display());
    let digest = |user: User| {
        let sandbox = Sandbox::for_user(user);
        sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:busybox"]);
        fs::write(sandbox.path("work/Containerfile"), OWNERS).unwrap();
        sandbox.ok("hoy-build", &["build", "-q", "-t", "built", "."]);
        // The same by hand, in a working container and in two goes.
        let container = sandbox.ok("hoy-build", &["from", "-q", "busybox"]);
        for script in
            ["ln -s /bin /link; mkfifo /pipe; chown -h 1:2 /link /pipe; chown 3:4 /etc/passwd", "chown 5:6 /pipe"]
        {
            sandbox.ok("hoy-build", &["run", &container, "--", "sh", "-c", script]);
        }
        sandbox.ok("hoy-build", &["commit", "-q", "--timestamp", "0", &container, "by-hand"]);
        ["built", "by-hand"]
            .map(|name| sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &format!("store:{name}")]))
    };
    let of_root = digest(User::Root);
    for user in [User::Sub, User::One] {
        if !user.available() {
            return;
        }
        assert_eq!(digest(user), of_root, "{user:?}");
    }
}

/// A directory of the person who builds is not written on: what a command says of owners there is in no layer.
#[test]
fn owners_of_mounted_files_are_not_written_down() {
    if !User::One.available() || !need(&["getfattr"]) {
        return;
    }
    let Some(sandbox) = busybox_store(User::One) else { return };
    let mine = sandbox.path("work/mine");
    sandbox.run("sh").args(["-c", "mkdir mine && touch mine/file"]).ok();
    let container = sandbox.ok("hoy-build", &["from", "-q", "busybox"]);
    let volume = format!("{}:/mine", mine.display());
    let script = "touch /own && chown 1:2 /mine /mine/file /own";
    sandbox.ok("hoy-build", &["run", "-v", &volume, &container, "--", "sh", "-ec", script]);
    let marks = |path: &Path| Run::new("getfattr").args(["-d", "-m", "-"]).arg(path).ok();
    assert_eq!(marks(&mine) + &marks(&mine.join("file")), "");
    // As far as it is the container's own, it is written down.
    let listed =
        sandbox.run("sh").args(["-c", &format!("hoy-storage diff --tar {container} | tar -tvf - --numeric-owner")]);
    let path = std::env::join_paths([program_dir(), "/bin".as_ref(), "/usr/bin".as_ref()]).unwrap();
    let listed = listed.env("PATH", path).ok();
    assert!(listed.lines().any(|line| line.contains(" 1/2 ") && line.ends_with(" own")), "{listed}");
}

/// What is typed in a container: the image's digest is the last line.
const INSIDE: &str = "export PATH=/hoy:/bin HOME=/tmp; hoy-copy copy -q oci:/layout:busybox:latest store:busybox && \
    hoy-build build -q -t built /context >/dev/null && hoy-copy inspect --format '{{.Digest}}' store:built";

/// What is mounted into a container, for `-v`.
fn volumes(context: &Path, base: &Sandbox) -> [String; 3] {
    let layout = base.path("layout");
    [(program_dir(), "/hoy"), (context, "/context"), (&layout, "/layout")]
        .map(|(from, to)| format!("{}:{to}:ro", from.display()))
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn packages_are_installed_alike_everywhere() {
    let Some((context, base)) = shared() else { return };
    let mut digests = Vec::new();
    for user in [User::Root, User::Sub, User::One] {
        if !user.available() {
            return;
        }
        let sandbox = Sandbox::for_user(user);
        let image = format!("oci:{}:busybox:latest", base.path("layout").display());
        sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:busybox"]);
        let built = sandbox.run("hoy-build").args(["build", "-t", "built"]).arg(context.path()).output();
        assert_eq!(built.status, 0, "{user:?}: {}", built.stderr);
        digests.push((
            format!("{user:?}"),
            sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", "store:built"]),
        ));
    }
    let sandbox = Sandbox::new();
    let image = format!("oci:{}:busybox:latest", base.path("layout").display());
    sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:busybox"]);
    let built =
        sandbox.run("hoy-build").args(["build", "--isolation", "chroot", "-t", "built"]).arg(context.path()).output();
    assert_eq!(built.status, 0, "chroot: {}", built.stderr);
    digests.push(("chroot".to_owned(), sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", "store:built"])));
    let volumes = volumes(context.path(), &base);
    let mounts: Vec<&str> = volumes.iter().flat_map(|volume| ["-v", volume.as_str()]).collect();
    let arguments = [&["run", "--rm"], &mounts[..], &["busybox", "sh", "-c", INSIDE]].concat();
    for user in [User::Root, User::One] {
        let sandbox = Sandbox::for_user(user);
        let image = format!("oci:{}:busybox:latest", base.path("layout").display());
        sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:busybox"]);
        let out = sandbox.run("hoy").args(&arguments).output();
        assert_eq!(out.status, 0, "hoy run as {user:?}: {}", out.stderr);
        digests.push((format!("hoy run as {user:?}"), last_line(&out.stdout)));
    }
    let in_podman = in_podman(&base, &mounts).into_iter().flatten();
    digests.extend(
        in_podman.zip(["podman run", "chroot in podman run"]).map(|(digest, where_)| (where_.to_owned(), digest)),
    );
    let first = digests[0].1.clone();
    assert!(first.starts_with("sha256:") && digests.iter().all(|(_, digest)| *digest == first), "{digests:#?}");
}

/// A listener hears of what is built in a container whose calls it is told of, for there can be no second one.
#[test]
fn owners_of_what_is_built_in_a_container() {
    let Some(base) = busybox_store(User::Root) else { return };
    let Some(sandbox) = busybox_store(User::One) else { return };
    let context = sandbox.path("work/context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Containerfile"), "FROM busybox\nRUN mkdir /d && touch /d/f && chown -R 5:6 /d\n").unwrap();
    let volumes = volumes(&context, &base);
    let mounts: Vec<&str> = volumes.iter().flat_map(|volume| ["-v", volume.as_str()]).collect();
    let script = format!("{INSIDE} && hoy-build build -q -o - /context | tar -tv");
    let listed = sandbox.run("hoy").args(["run", "--rm"]).args(mounts).args(["busybox", "sh", "-c", &script]).ok();
    let of_them = listed.lines().filter(|line| line.contains(" 5/6 ")).count();
    assert_eq!(of_them, 2, "{listed}");
}

/// The digests of what is built in `podman run`, in a user namespace and in a changed root directory; none where podman
/// is not there.
fn in_podman(base: &Sandbox, mounts: &[&str]) -> Option<[String; 2]> {
    if !need(&["podman", "skopeo"]) {
        return None;
    }
    let sandbox = Sandbox::new();
    let config = sandbox.path("containers.conf");
    let runtime = program_dir().join("hoy-runtime");
    // Debian's crun and this machine's control groups do not always go together.
    let text = format!(
        "[engine]\nruntime_supports_json = [\"hoy-runtime\"]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
         [engine.runtimes]\nhoy-runtime = [\"{}\"]\n",
        runtime.display()
    );
    fs::write(&config, text).unwrap();
    let podman = |args: &[&str]| {
        let run = sandbox.run("podman").env("CONTAINERS_CONF", &config).args(["--runtime", "hoy-runtime"]);
        let run = run.arg("--root").arg(sandbox.path("root")).arg("--runroot").arg(sandbox.path("run"));
        run.args(["--storage-driver", "vfs"]).args(args)
    };
    let archive = sandbox.path("base.tar").display().to_string();
    let from = format!("oci:{}:busybox:latest", base.path("layout").display());
    Run::new("skopeo").args(["copy", "-q", &from, &format!("oci-archive:{archive}:localhost/b:latest")]).ok();
    podman(&["load", "-q", "-i", &archive]).ok();
    // No flags but for what this machine may not: its limits cannot be raised, and it has no network helpers.
    let limits = ["--network", "none", "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"];
    // A host name that is asked for is given or refused.
    let named = "c=$(hoy-build from busybox); hoy-build run --hostname mine $c hostname 2>&1 | head -n 1";
    let chroot = "hoy-build build -q --isolation chroot --no-cache -t rooted /context >/dev/null && \
        hoy-copy inspect --format '{{.Digest}}' store:rooted && \
        hoy-build run --isolation chroot $(hoy-build from busybox) sh -c 'echo $0 >/dev/stdout; exit 7' in; echo $?";
    let script = format!("{INSIDE} && {{ {chroot}; }} && {{ {named}; }}");
    let out = podman(&[&["run", "--rm"], &limits[..], mounts, &["b", "sh", "-c", &script]].concat()).output();
    podman(&["rm", "-a", "-f", "-t", "0"]).output();
    assert_eq!(out.status, 0, "podman run: {}", out.stderr);
    let (digest, name) = out.stdout.trim_end().rsplit_once('\n').expect("a digest and a host name");
    assert!(name == "mine" || name.contains("--hostname") && name.contains("filter"), "{name}");
    let mut lines = digest.lines().rev();
    assert_eq!((lines.next(), lines.next()), (Some("7"), Some("in")), "{}", out.stderr);
    let [rooted, usual] = [lines.next(), lines.next()].map(|line| line.unwrap_or_default().to_owned());
    Some([usual, rooted])
}
