//! What the program of a container is given: runtime-spec config.md "Process".

use hoy_tests::{Bundle, User};
use serde_json::json;

#[test]
fn arguments_environment_and_directory() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/ociVersion", json!("1.0.2"));
    bundle.script("echo \"$0 $1\"; echo $FOO; pwd");
    bundle.push("/process/args", json!("zero"));
    bundle.push("/process/args", json!("one word"));
    bundle.push("/process/env", json!("FOO=bar=baz"));
    bundle.set("/process/cwd", json!("/bin"));
    assert_eq!(bundle.tested(&["run", "a"]).ok(), "zero one word\nbar=baz\n/bin");
}
