//! Who the program is: runtime-spec config.md "User".

use hoy_tests::{Bundle, User, cannot};
use serde_json::json;

const WHO: &str = "echo $(grep -E '^(Uid|Gid|Groups):' /proc/self/status)";

#[test]
fn ids_are_all_the_same() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::Sub]) {
        if user == User::Sub {
            bundle.map_subordinate_ids(user);
            if cannot(&[("runc", "1.1.5 sets no supplementary groups for an ordinary user")]) {
                continue;
            }
        }
        bundle.script(WHO);
        for (uid, gid, groups) in [(0, 0, vec![]), (5, 6, vec![7, 8]), (1000, 1000, vec![1000]), (1, 0, vec![0, 9])] {
            bundle.set("/process/user", json!({"uid": uid, "gid": gid, "additionalGids": groups}));
            let listed: String = groups.iter().map(|group| format!(" {group}")).collect();
            let want = format!("Uid: {uid} {uid} {uid} {uid} Gid: {gid} {gid} {gid} {gid} Groups:{listed}");
            assert_eq!(bundle.tested(&["run", "a"]).ok(), want, "{user:?}");
        }
    }
}

#[test]
fn great_ids() {
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("echo $(id -u) $(id -g)");
        bundle.set("/process/user", json!({"uid": 2_147_483_647, "gid": 2_147_483_646}));
        assert_eq!(bundle.tested(&["run", "a"]).ok(), "2147483647 2147483646");
    }
}

#[test]
fn an_id_that_is_not_mapped_is_refused() {
    for (user, mut bundle) in Bundle::each(&[User::Sub, User::One]) {
        bundle.script("id");
        for who in [json!({"uid": 7, "gid": 0}), json!({"uid": 0, "gid": 7})] {
            bundle.set("/process/user", who.clone());
            let out = bundle.tested(&["run", "a"]).output();
            assert!(out.status != 0 && out.stdout.is_empty(), "{user:?} {who} {}", out.stdout);
        }
    }
}

#[test]
fn groups_that_cannot_be_are_refused() {
    if cannot(&[("crun", "1.8.1 leaves out, without a word, the groups that cannot be had")]) {
        return;
    }
    for (user, mut bundle) in Bundle::each(&[User::One]) {
        bundle.script("id");
        bundle.set("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": [5]}));
        let out = bundle.tested(&["run", "a"]).output();
        assert!(out.status != 0 && out.stdout.is_empty(), "{user:?} {}", out.stdout);
    }
}

#[test]
fn the_mask_of_file_modes() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::Sub, User::One]) {
        bundle.script("umask; cd /tmp 2>/dev/null || cd /; touch f; stat -c %a f; rm f");
        for (mask, want) in [(json!(0o077), "0077\n600"), (json!(0), "0000\n666"), (json!(0o027), "0027\n640")] {
            bundle.set("/process/user/umask", mask);
            assert_eq!(bundle.tested(&["run", "a"]).ok(), want, "{user:?}");
        }
        bundle.set("/process/user", json!({"uid": 0, "gid": 0}));
        assert_eq!(bundle.tested(&["run", "a"]).ok(), "0022\n644", "{user:?}");
    }
}

#[test]
fn files_belong_to_the_mapped_user() {
    for (user, mut bundle) in Bundle::each(&[User::Sub]) {
        bundle.map_subordinate_ids(user);
        bundle.script("cat /proc/self/uid_map /proc/self/gid_map | tr -s ' ' | wc -l; stat -c %u:%g /bin");
        assert_eq!(bundle.tested(&["run", "a"]).ok(), "4\n0:0");
    }
}
