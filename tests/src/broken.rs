//! Documents that are nearly right: a valid one with some of its values changed, lost, repeated or buried.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// How many cases a property is tried with: `default`, ten times as many in the long form, or `PROPTEST_CASES`.
#[must_use]
pub fn cases(default: u32) -> ProptestConfig {
    let given = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let long = std::env::var_os("HOY_LONG").map(|_| default * 10);
    ProptestConfig { cases: given.or(long).unwrap_or(default), failure_persistence: None, ..ProptestConfig::default() }
}

/// One change of a document.
#[derive(Debug, Clone)]
enum Change {
    Set(Value),
    Remove,
    Rename(String),
    Repeat(usize),
    Bury(usize),
}

/// Documents made from `document` by up to four changes of what is not below one of the pointers `kept`.
pub fn broken(document: &Value, kept: &[&str]) -> impl Strategy<Value = Value> + use<> {
    let mut pointers = Vec::new();
    collect(document, String::new(), &mut pointers);
    pointers.retain(|pointer| !kept.iter().any(|kept| pointer.starts_with(kept) || kept.starts_with(&**pointer)));
    let document = document.clone();
    prop::collection::vec((select(pointers), change()), 0..4).prop_map(move |changes| {
        let mut document = document.clone();
        changes.into_iter().for_each(|(pointer, change)| apply(&mut document, &pointer, change));
        document
    })
}

/// The bytes of [`broken`] documents, some of them cut short, overwritten in places, or made of anything.
pub fn damaged(document: &Value) -> impl Strategy<Value = Vec<u8>> + use<> {
    let whole = || broken(document, &[]).prop_map(|document| document.to_string().into_bytes());
    let cut = (whole(), any::<Index>()).prop_map(|(mut bytes, at)| {
        bytes.truncate(at.index(bytes.len()));
        bytes
    });
    let spots = prop::collection::vec((any::<Index>(), any::<u8>()), 1..5);
    let overwritten = (whole(), spots).prop_map(|(mut bytes, spots)| {
        spots.iter().for_each(|(at, byte)| *at.get_mut(&mut bytes) = *byte);
        bytes
    });
    prop_oneof![
        8 => whole(),
        1 => cut,
        2 => overwritten,
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

fn collect(value: &Value, pointer: String, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, below) in map {
                let name = name.replace('~', "~0").replace('/', "~1");
                collect(below, format!("{pointer}/{name}"), all);
            }
        }
        Value::Array(list) => {
            for (at, below) in list.iter().enumerate() {
                collect(below, format!("{pointer}/{at}"), all);
            }
        }
        _ => {}
    }
    if !pointer.is_empty() {
        all.push(pointer);
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        10 => value().prop_map(Change::Set),
        3 => Just(Change::Remove),
        1 => text().prop_map(Change::Rename),
        2 => select(vec![2_usize, 40, 3000]).prop_map(Change::Repeat),
        1 => select(vec![1_usize, 20, 126, 500]).prop_map(Change::Bury),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let whole = vec![0, 1, -1, 7, 65_536, 1 << 31, (1 << 31) - 1, 1 << 32, (1 << 32) - 1, i64::MAX, i64::MIN];
    prop_oneof![
        4 => text().prop_map(Value::from),
        4 => select(whole).prop_map(Value::from),
        1 => Just(json!(u64::MAX)),
        1 => select(vec![0.5, 1e308, -0.0]).prop_map(Value::from),
        2 => select(vec![json!(null), json!(true), json!(false), json!([]), json!({}), json!([null]), json!([[]])]),
        1 => text().prop_map(|text| json!([text])),
        1 => text().prop_map(|text| json!({text: 1})),
    ]
}

fn text() -> impl Strategy<Value = String> {
    const HOSTILE: &[&str] = &[
        "",
        " ",
        "/",
        "//",
        ".",
        "..",
        "../../../../etc",
        "/../..",
        "/proc/self/root",
        "/proc/self/fd/3",
        "/proc/self/exe",
        "/dev/stdin",
        "\0",
        "a\0b",
        "/a\0b",
        "a\nb",
        "-1",
        "0",
        "%s%n",
        "mount",
        "user",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_KILL",
        "CAP_SYS_ADMIN",
        "rshared",
        "ro",
        "idmap",
        "bind",
        "tmpcopyup",
        "mode=99999999999",
        "size=-1",
        "=",
        "a=",
        "ü\u{202e}",
    ];
    let long = (select(vec!["a", "/a", "../", "=", "é"]), select(vec![255_usize, 256, 4096, 70_000]));
    prop_oneof![
        8 => select(HOSTILE.to_vec()).prop_map(str::to_owned),
        1 => long.prop_map(|(text, times)| text.repeat(times)),
        1 => any::<String>(),
    ]
}

fn apply(document: &mut Value, pointer: &str, change: Change) {
    if let Some(target) = document.pointer_mut(pointer) {
        match change {
            Change::Set(value) => return *target = value,
            Change::Repeat(times) => return *target = Value::Array(vec![target.clone(); times]),
            Change::Bury(depth) => {
                return *target = (0..depth).fold(target.take(), |value, _| Value::Array(vec![value]));
            }
            Change::Remove | Change::Rename(_) => {}
        }
    }
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    match (document.pointer_mut(parent), change) {
        (Some(Value::Object(map)), change) => {
            let removed = map.remove(&name.replace("~1", "/").replace("~0", "~"));
            if let (Some(value), Change::Rename(name)) = (removed, change) {
                map.insert(name, value);
            }
        }
        (Some(Value::Array(list)), Change::Remove) => {
            // The list may have been shortened by an earlier change.
            if let Some(at) = name.parse::<usize>().ok().filter(|at| *at < list.len()) {
                list.remove(at);
            }
        }
        _ => {}
    }
}

/// A configuration with every field of runtime-spec 1.3 for Linux.
#[must_use]
pub fn full_config() -> Value {
    json!({
        "ociVersion": "1.3.0", "hostname": "h", "domainname": "d", "annotations": {"a": "b"},
        "root": {"path": "rootfs", "readonly": true},
        "process": process(),
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "rnosuid"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "relatime"]},
            {"destination": "/data", "source": "/tmp", "options": ["rbind", "ro", "rslave", "ridmap"],
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
                "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}]},
        ],
        "hooks": {
            "prestart": [{"path": "/bin/true"}], "createRuntime": [{"path": "/bin/true", "timeout": 5}],
            "createContainer": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"]}],
            "startContainer": [{"path": "/bin/true"}], "poststart": [{"path": "/bin/true"}],
            "poststop": [{"path": "/bin/true"}],
        },
        "linux": linux(),
    })
}

fn process() -> Value {
    let caps = json!(["CAP_CHOWN", "CAP_KILL"]);
    json!({
        "terminal": true, "consoleSize": {"height": 24, "width": 80}, "cwd": "/", "args": ["/bin/true", "a"],
        "env": ["PATH=/bin", "A=b"], "noNewPrivileges": true, "apparmorProfile": "p", "selinuxLabel": "l",
        "oomScoreAdj": 100, "user": {"uid": 1, "gid": 1, "umask": 18, "additionalGids": [5, 6]},
        "capabilities": {"bounding": caps, "effective": caps, "inheritable": caps, "permitted": caps, "ambient": caps},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "scheduler": {"policy": "SCHED_OTHER", "nice": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        "execCPUAffinity": {"initial": "0", "final": "0-1"},
    })
}

fn linux() -> Value {
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1000}]);
    json!({
        "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"},
            {"type": "uts"}, {"type": "user"}, {"type": "cgroup", "path": "/proc/self/ns/cgroup"}, {"type": "time"}],
        "uidMappings": map, "gidMappings": map,
        "timeOffsets": {"boottime": {"secs": 1, "nanosecs": 2}, "monotonic": {"secs": 3}},
        "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}],
        "netDevices": {"eth0": {"name": "eth1"}},
        "cgroupsPath": "/hoy/x", "sysctl": {"net.ipv4.ip_forward": "1", "kernel.shmmax": "100"},
        "seccomp": seccomp(), "rootfsPropagation": "private", "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"], "mountLabel": "", "personality": {"domain": "LINUX", "flags": []},
        "intelRdt": {"closID": "c", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=10", "schemata": ["MB:0=10"]},
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        "resources": resources(),
    })
}

/// A seccomp profile with every part.
fn seccomp() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/none", "listenerMetadata": "m",
        "syscalls": [
            {"names": ["read", "write", "execve", "exit_group", "no_such"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7,
                "args": [{"index": 0, "value": 8, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]},
        ],
    })
}

/// Every limit.
fn resources() -> Value {
    let throttle = json!([{"major": 8, "minor": 0, "rate": 1000}]);
    json!({
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}],
        "memory": {"limit": 10_000_000, "reservation": 5_000_000, "swap": 20_000_000, "kernel": -1, "kernelTCP": -1,
            "swappiness": 50, "disableOOMKiller": false, "useHierarchy": true, "checkBeforeUpdate": true},
        "cpu": {"shares": 512, "quota": 50_000, "burst": 0, "period": 100_000, "realtimeRuntime": 0, "realtimePeriod": 0,
            "cpus": "0", "mems": "0", "idle": 0},
        "pids": {"limit": 100},
        "blockIO": {"weight": 100, "leafWeight": 100, "weightDevice": [{"major": 8, "minor": 0, "weight": 100}],
            "throttleReadBpsDevice": throttle, "throttleWriteBpsDevice": throttle,
            "throttleReadIOPSDevice": throttle, "throttleWriteIOPSDevice": throttle},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
        "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
        "rdma": {"mlx5_0": {"hcaHandles": 1, "hcaObjects": 2}},
        "unified": {"memory.high": "1000000"},
    })
}
