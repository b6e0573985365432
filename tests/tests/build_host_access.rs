//! What of the host the commands of builds and of working containers have: devices, and ids.

use std::fs;

use hoy_tests::{Out, Sandbox, User, busybox_store};

fn build(sandbox: &Sandbox, text: &str, args: &[&str]) -> Out {
    fs::write(sandbox.path("work/Containerfile"), text).unwrap();
    sandbox.run("hoy-build").arg("build").args(args).arg(".").output()
}

#[track_caller]
fn builds(sandbox: &Sandbox, text: &str, args: &[&str]) -> String {
    let out = build(sandbox, text, args);
    assert_eq!(out.status, 0, "{:?}: {}", sandbox.user(), out.stderr);
    out.stderr
}

fn with<'a>(cdi: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&[cdi], args].concat()
}

/// The reference's example of RUN --device, and a node, a mount and a hook.
const DESCRIBED: &str = "cdiVersion: 0.6.0
kind: hoy.test/device
devices:
  - name: foo
    annotations: {org.mobyproject.buildkit.device.autoallow: 'true'}
    containerEdits: {env: [FOO=injected]}
  - name: bar
    annotations: {org.mobyproject.buildkit.device.class: class1}
    containerEdits:
      env: [BAR=injected]
      deviceNodes: [{path: /dev/hoy-bar, hostPath: /dev/zero, permissions: r}]
      mounts: [{hostPath: /etc/hostname, containerPath: /etc/hoy-bar, options: [ro, nosuid, nodev, bind]}]
containerEdits: {env: [ALL=injected]}
";

#[test]
fn devices_of_a_command() {
    for user in [User::Root, User::Sub, User::One] {
        let Some(sandbox) = busybox_store(user) else { return };
        let described = sandbox.path("work/cdi");
        fs::create_dir(&described).unwrap();
        fs::write(described.join("test.yaml"), DESCRIBED).unwrap();
        let cdi = format!("--cdi-config-dir={}", described.display());

        let text = "FROM busybox\nRUN --device=hoy.test/device=foo echo \"$FOO $ALL <$BAR>\"\n";
        assert!(builds(&sandbox, text, &with(&cdi, &[])).contains("injected injected <>"), "open to everybody");

        let bar = "head -c 2 /dev/hoy-bar | od -An -tx1; test -s /etc/hoy-bar; echo $BAR. $ALL. $FOO.";
        for name in ["hoy.test/device=bar", "hoy.test/device", "class1"] {
            let text = format!("FROM busybox\nRUN --device={name} {bar}; echo made > /x\n");
            let out = build(&sandbox, &text, &with(&cdi, &[]));
            assert!(out.status == 125 && out.stderr.contains(&format!("--allow device={name}")), "{}", out.stderr);
            let allows: &[&str] = match name {
                "class1" => &["device", "device=hoy.test/device", "device=hoy.test/device=bar"],
                _ => &["device"],
            };
            for allow in allows {
                let told = builds(&sandbox, &text, &with(&cdi, &["--no-cache", "--allow", allow, "-t", "made"]));
                assert!(
                    told.contains(" 00 00\n") && told.contains("injected. injected. .\n"),
                    "{user:?} {name}: {told}"
                );
            }
            assert_eq!(build(&sandbox, &text, &with(&cdi, &["--allow", "device=hoy.test/other"])).status, 125);
        }
        sandbox.ok("hoy-storage", &["create", "--name", "c", "made"]);
        assert!(!sandbox.ok("hoy-storage", &["diff", "c"]).contains("hoy-bar"), "nothing of it is in the layer");
        let all = "FROM busybox\nRUN --device=hoy.test/device=* echo $FOO. $BAR.\n";
        assert!(builds(&sandbox, all, &with(&cdi, &["--allow=device"])).contains("injected. injected.\n"));

        // What is not there.
        let told = builds(&sandbox, "FROM busybox\nRUN --device=hoy.test/device=no echo went on\n", &with(&cdi, &[]));
        assert!(told.contains("without the device \"hoy.test/device=no\"") && told.contains("went on"), "{told}");
        let text = "FROM busybox\nRUN --device=hoy.test/device=no,required true\n";
        let out = build(&sandbox, text, &with(&cdi, &["--allow=device"]));
        assert!(out.status == 125 && out.stderr.contains("is required"), "{}", out.stderr);

        // A path; and what a description becomes is another step.
        let text = "FROM busybox\nRUN --device=/dev/zero:/dev/hoy-path head -c 1 /dev/hoy-path | od -An -tx1\n";
        assert!(build(&sandbox, text, &[]).stderr.contains("--allow device=/dev/zero:/dev/hoy-path"));
        assert!(builds(&sandbox, text, &["--allow=device"]).contains(" 00\n"));
        let text = "FROM busybox\nRUN --device=hoy.test/device=foo echo \"$FOO $ALL <$BAR>\"\n";
        assert!(builds(&sandbox, text, &with(&cdi, &[])).contains("--> Using cache"));
        fs::write(described.join("test.yaml"), DESCRIBED.replace("FOO=injected", "FOO=changed")).unwrap();
        assert!(builds(&sandbox, text, &with(&cdi, &["--explain"])).contains("not cached: other devices"));

        // Of the build as a whole, and of a working container.
        let told =
            builds(&sandbox, "FROM busybox\nRUN echo $BAR.\n", &with(&cdi, &["--device", "hoy.test/device=bar"]));
        assert!(told.contains("injected."), "{told}");
        let name = sandbox.ok("hoy-build", &["from", "busybox"]);
        let run =
            with(&cdi, &["--device=hoy.test/device=bar", name.trim(), "--", "sh", "-c", "echo $BAR; ls /dev/hoy-bar"]);
        assert_eq!(sandbox.ok("hoy-build", &[&["run"], run.as_slice()].concat()), "injected\n/dev/hoy-bar");
        for (device, want) in [("hoy.test/device=no", "no description"), ("/dev/hoy-none", "no such file")] {
            let out = build(&sandbox, "FROM busybox\nRUN true # once\n", &with(&cdi, &["--device", device]));
            assert!(out.status == 125 && out.stderr.contains(want), "{device}: {}", out.stderr);
        }
    }
}

#[test]
fn ids_of_a_command() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        let text = "FROM busybox\nCOPY --chown=7:8 Containerfile /given\nRUN --mount=type=bind,target=/bound \
                    --mount=type=cache,target=/cache,uid=3 --mount=type=secret,id=s,uid=9 --mount=from=busybox,target=/other,rw \
                    cat /proc/self/uid_map; stat -c '%n %u:%g' /given /bound /cache /run/secrets/s /bin/busybox /other/bin; \
                    cat /run/secrets/s; echo x > /cache/x; echo x > /other/x; mkdir -p /made/deep; chown 5:6 /made; cat /bound/Containerfile > /made/deep/file\n";
        fs::write(sandbox.path("work/secret"), "told\n").unwrap();
        let args = ["--secret=id=s,src=secret", "--no-cache"];
        let digest =
            |image: &str| sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &format!("store:{image}")]);
        builds(&sandbox, text, &[&args[..], &["-t", "plain"]].concat());
        for (number, ids) in [
            ["--userns-uid-map=0:1000:2000", "--userns-gid-map=0:3000:2000"].as_slice(),
            &["--userns-uid-map=0:1000:1000,1000:5000:1000"],
            &["--userns=auto:size=4096"],
            &["--userns=private"],
            &["--userns=host"],
        ]
        .iter()
        .enumerate()
        {
            let told = builds(&sandbox, text, &[&args[..], ids, &["-t", "mapped"]].concat());
            for line in [
                "/given 7:8",
                "/bound 0:0",
                "/cache 3:0",
                "/run/secrets/s 9:0",
                "/bin/busybox 0:0",
                "/other/bin 0:0",
                "told",
            ] {
                assert!(told.lines().any(|one| one.ends_with(line)), "{user:?} {ids:?} {line}: {told}");
            }
            let map = ["1000 *2000", "1000 *1000", " 0 .* 4096", "", ""][number]
                .split('*')
                .map(str::trim)
                .next()
                .unwrap()
                .to_owned();
            assert!(told.contains(map.trim_matches([' ', '.'])), "{ids:?}: {told}");
            assert_eq!(digest("mapped"), digest("plain"), "{user:?} {ids:?}: an image has the ids of the container");
        }
        // A range that nobody has, contradictions, and another's namespace.
        for (ids, want) in [
            (["--userns=host", "--userns-uid-map=0:1:1"].as_slice(), "need a user namespace"),
            (&["--userns=/proc/1/ns/user"], "--userns-uid-map"),
            (&["--userns-uid-map=0:x:1"], "malformed"),
            (&["--userns-uid-map-user=nobody-of-that-name"], "no range"),
            (&["--userns=auto:what=1"], "auto:what"),
        ] {
            let out = build(&sandbox, text, &[&args[..], ids].concat());
            assert!(out.status == 125 && out.stderr.contains(want), "{user:?} {ids:?}: {}", out.stderr);
        }
    }
}

#[test]
fn ids_of_a_working_container() {
    for user in [User::Root, User::Sub] {
        let Some(sandbox) = busybox_store(user) else { return };
        let ids = ["--userns-uid-map=0:1000:2000", "--userns-gid-map=0:1000:2000"];
        fs::write(sandbox.path("work/file"), "text").unwrap();
        let make = |image: &str, ids: &[&str]| {
            let name = sandbox.ok("hoy-build", &[&["from"], ids, &["busybox"]].concat());
            let name = name.trim();
            sandbox.ok("hoy-build", &["copy", "--chown=7:8", name, "file", "/in/a/directory/"]);
            let seen = sandbox
                .ok("hoy-build", &["run", name, "--", "stat", "-c", "%u:%g", "/in/a/directory/file", "/in", "/bin"]);
            assert_eq!(seen, "7:8\n7:8\n0:0", "{user:?} {ids:?}");
            sandbox.ok("hoy-build", &["run", name, "--", "sh", "-c", "echo made > /made; chown 5:6 /made"]);
            // From there into another.
            let other = sandbox.ok("hoy-build", &["from", "busybox"]);
            sandbox.ok("hoy-build", &["copy", "--from", name, other.trim(), "/in", "/out"]);
            let seen =
                sandbox.ok("hoy-build", &["run", other.trim(), "--", "stat", "-c", "%u:%g", "/out/a/directory/file"]);
            assert_eq!(seen, "7:8", "{user:?} {ids:?}");
            sandbox.ok("hoy-build", &["commit", "--timestamp=0", name, image]);
            sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Digest}}", &format!("store:{image}")])
        };
        let (plain, mapped) = (make("plain", &[]), make("mapped", &ids));
        let files = |image: &str| {
            let tree = sandbox.path(&format!("work/{image}"));
            sandbox.run("hoy-storage").arg("unpack").arg(image).arg(&tree).ok();
            sandbox.ok("hoy-copy", &["inspect", "--format", "{{.Layers}}", &format!("store:{image}")])
        };
        assert_eq!(plain.len(), mapped.len());
        assert_eq!(files("plain"), files("mapped"), "{user:?}: the ids of the image are those of the container");
    }
}

/// A user with one id has itself to give, and nothing more.
#[test]
fn one_id() {
    let Some(sandbox) = busybox_store(User::One) else { return };
    let text = "FROM busybox\nRUN cat /proc/self/uid_map\n";
    builds(&sandbox, text, &["--userns=private"]);
    let out = build(&sandbox, text, &["--userns=auto", "--no-cache"]);
    assert!(out.status == 125 && out.stderr.contains("one id only"), "{}", out.stderr);
}
