//! What is hidden and what is read-only: runtime-spec config-linux.md "Masked Paths", "Readonly Paths".

use std::fs;
use std::os::unix::fs::symlink;

use hoy_tests::{Bundle, Run, User};
use serde_json::json;

const ALL: &[User] = &[User::Root, User::Sub, User::One];

#[test]
fn a_masked_file_is_empty_and_a_masked_directory_too() {
    for (user, mut bundle) in Bundle::each(ALL) {
        fs::create_dir_all(bundle.path("rootfs/secrets/deep")).unwrap();
        for name in ["secrets/one", "secrets/deep/two", "secret", "plain"] {
            fs::write(bundle.path("rootfs").join(name), "text").unwrap();
        }
        bundle.set("/linux/maskedPaths", json!(["/secrets", "/secret", "/proc/version", "/no/such/path", "/proc/fs"]));
        bundle.script(
            "ls -A /secrets /proc/fs | grep -v :; cat /secret /proc/version; stat -c %t:%T /secret; \
            touch /secrets/new 2>/dev/null && echo made; echo x > /secret; cat /secret; cat /plain",
        );
        let out = bundle.tested(&["run", "a"]).output();
        let lines: Vec<&str> = out.stdout.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, ["1:3", "text"], "{user:?} {}", out.stderr);
        // Outside all is as it was.
        assert_eq!(fs::read_to_string(bundle.path("rootfs/secret")).unwrap(), "text");
        assert!(bundle.path("rootfs/secrets/deep/two").exists());
    }
}

#[test]
fn readonly_paths_with_what_is_below() {
    for (user, mut bundle) in Bundle::each(ALL) {
        fs::create_dir_all(bundle.path("rootfs/kept/deep")).unwrap();
        for name in ["kept/one", "kept/deep/two", "file"] {
            fs::write(bundle.path("rootfs").join(name), "text").unwrap();
        }
        Run::new("chown").args(["-R", user.name()]).arg(bundle.path("rootfs")).ok();
        bundle.push("/mounts", json!({"destination": "/kept/mounted", "type": "tmpfs", "source": "tmpfs"}));
        bundle.set("/linux/readonlyPaths", json!(["/kept", "/file", "/no/such/path", "/proc/sys"]));
        bundle.script(
            "for f in /kept/one /kept/deep/two /kept/new /file /proc/sys/kernel/hostname; do \
            { echo x > $f; } 2>/dev/null && echo wrote $f; done; cat /kept/one /file; echo x > /other && echo other",
        );
        let out = bundle.tested(&["run", "a"]).output();
        assert_eq!(out.stdout, "texttextother\n", "{user:?} {}", out.stderr);
    }
}

#[test]
fn without_lists_nothing_is_hidden() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.set("/linux/maskedPaths", json!([]));
        bundle.set("/linux/readonlyPaths", json!([]));
        bundle
            .script("grep -c -e ' /proc/' /proc/self/mountinfo; [ -s /proc/timer_list ] || cat /proc/version | wc -l");
        let out = bundle.tested(&["run", "a"]).output();
        assert!(out.stdout.starts_with("0\n"), "{user:?} {} {}", out.stdout, out.stderr);
    }
}

#[test]
fn a_link_is_followed_inside() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        fs::create_dir_all(bundle.path("rootfs/real")).unwrap();
        fs::write(bundle.path("rootfs/real/secret"), "text").unwrap();
        symlink("/real", bundle.path("rootfs/link")).unwrap();
        bundle.set("/linux/maskedPaths", json!(["/link/secret"]));
        bundle.script("cat /real/secret /link/secret; echo .");
        assert_eq!(bundle.tested(&["run", "a"]).ok(), ".");
    }
}

#[test]
fn the_root_is_readonly_when_asked() {
    for (user, mut bundle) in Bundle::each(ALL) {
        bundle.push("/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
        bundle.script("touch /x 2>/dev/null && echo root; touch /tmp/x && echo tmp; touch /dev/x && echo dev");
        for (readonly, want) in [(true, "tmp\ndev"), (false, "root\ntmp\ndev")] {
            bundle.set("/root/readonly", json!(readonly));
            assert_eq!(bundle.tested(&["run", "a"]).ok(), want, "{user:?}");
        }
    }
}
