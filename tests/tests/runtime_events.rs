//! `events`: what a container uses, and a kill for want of memory, as they happen.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use hoy_tests::{Bundle, User, skip};
use serde_json::{Value, json};

fn sleeping(resources: Value) -> Option<Bundle> {
    let mut bundle = Bundle::new(User::Root)?;
    bundle.set("/linux/resources", resources);
    bundle.script("sleep 1000");
    bundle.leave(&["run", "--detach", "a"]);
    Some(bundle)
}

#[test]
fn what_it_uses() {
    let Some(bundle) = sleeping(json!({"pids": {"limit": 50}, "memory": {"limit": 64 << 20}})) else { return };
    let event: Value = serde_json::from_str(&bundle.hoy(&["events", "--stats", "a"]).ok()).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!("a")));
    let data = &event["data"];
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data}");
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{data}");
    assert_eq!(data["pids"]["limit"], 50);
    assert!(data["pids"]["current"].as_u64().unwrap() >= 1, "{data}");
    for part in ["cpuset", "blkio", "hugetlb", "intel_rdt"] {
        assert!(data[part].is_object(), "{part}: {data}");
    }
    assert!(data["network_interfaces"].is_array());
    bundle.hoy(&["delete", "--force", "a"]).ok();
    bundle.hoy(&["events", "--stats", "a"]).fails(1, &["container \"a\" does not exist"]);
}

#[test]
fn lines_until_it_ends() {
    let Some(bundle) = sleeping(json!({})) else { return };
    let mut watch = bundle.hoy(&["events", "--interval=100ms", "a"]);
    let mut watch = watch.command().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["type"], "stats");
    }
    bundle.hoy(&["kill", "a", "KILL"]).ok();
    assert!(watch.wait().unwrap().success());
    bundle.hoy(&["delete", "--force", "a"]).ok();
}

#[test]
fn a_kill_for_want_of_memory() {
    let Some(bundle) = sleeping(json!({"memory": {"limit": 8 << 20, "swap": 8 << 20}})) else { return };
    let mut watch = bundle.hoy(&["events", "--interval", "1h", "a"]);
    let mut watch = watch.command().stdout(Stdio::piped()).spawn().unwrap();
    // The watch has begun when it has told the kernel where to write.
    let fds = format!("/proc/{}/fd", watch.id());
    let is_watching = || {
        let fds = std::fs::read_dir(&fds).unwrap().flatten();
        fds.filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .any(|to| to.to_string_lossy().contains("eventfd") || to.to_string_lossy().contains("inotify"))
    };
    for _ in 0..500 {
        if is_watching() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    let out = bundle.hoy(&["exec", "a", "sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1"]).output();
    if out.status == 0 {
        skip("the kernel does not keep the limit of memory");
        watch.kill().unwrap();
    } else {
        let line = BufReader::new(watch.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), json!({"type": "oom", "id": "a"}));
    }
    bundle.hoy(&["delete", "--force", "a"]).ok();
    watch.wait().unwrap();
}
