//! Annotations: runtime-spec config.md "Annotations", runtime.md "State".

use hoy_tests::{Bundle, User, cannot};
use serde_json::{Value, json};

#[test]
fn the_state_has_them_as_they_are() {
    for (user, mut bundle) in Bundle::each(&[User::Root, User::One]) {
        let given =
            json!({"org.example.key": "value", "empty": "", "with space": "ä \"quoted\"\n", "unknown.by.anyone": "1"});
        bundle.set("/annotations", given.clone());
        bundle.script("sleep 1000");
        bundle.leave_tested(&["create", "a"]);
        let state: Value = serde_json::from_str(&bundle.tested(&["state", "a"]).ok()).unwrap();
        for (key, value) in given.as_object().unwrap() {
            assert_eq!(&state["annotations"][key], value, "{user:?} {key}");
        }
        bundle.tested(&["delete", "--force", "a"]).ok();
        bundle.set("/annotations", json!({}));
        bundle.script("true");
        bundle.tested(&["run", "a"]).ok();
    }
}

#[test]
fn they_are_texts() {
    if cannot(&[("crun", "1.8.1 passes over annotations of another shape")]) {
        return;
    }
    for (_, mut bundle) in Bundle::each(&[User::Root]) {
        bundle.script("true");
        for bad in [json!({"key": 1}), json!(["key"]), json!("key"), json!({"key": {"deep": "x"}})] {
            bundle.set("/annotations", bad.clone());
            assert_ne!(bundle.tested(&["run", "a"]).output().status, 0, "{bad}");
        }
    }
}
