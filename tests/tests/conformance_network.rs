//! The container's network: runtime-spec config-linux.md "Network Devices".

use hoy_tests::{Bundle, Run, User, cannot, need, runtime_under_test};
use serde_json::json;

const OLD: &[(&str, &str)] = &[("crun", "1.8.1 is older than the field"), ("runc", "1.1 is older than the field")];

/// A network namespace of its own for the caller, with one end of a pair of interfaces set up.
const PAIR: &str = "ip link add outside type veth peer name inside && ip link set inside mtu 1400 && \
    ip addr add 10.9.8.7/24 broadcast 10.9.8.255 dev inside && ip -6 addr add fd00:9::7/64 dev inside nodad && \
    ip link set inside up && exec \"$@\"";

fn bundle() -> Option<Bundle> {
    if cannot(OLD) || !need(&["ip"]) {
        return None;
    }
    let can =
        Run::new("unshare").args(["-n", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"]).output();
    if can.status != 0 {
        hoy_tests::skip("this kernel has no veth interfaces");
        return None;
    }
    let mut bundle = Bundle::new(User::Root)?;
    bundle.set("/ociVersion", json!("1.3.0"));
    Some(bundle)
}

#[test]
fn an_interface_moves_with_its_addresses() {
    let Some(mut bundle) = bundle() else { return };
    let wrapper = ["unshare", "-n", "sh", "-c", PAIR, "sh"];
    for (given, want) in [(json!({}), "inside"), (json!({"name": "eth7"}), "eth7"), (json!({"name": "eth%d"}), "eth0")]
    {
        bundle.set("/linux/netDevices", json!({"inside": given}));
        bundle.script(&format!("ip addr show dev {want}; cat /sys/class/net/{want}/mtu; ls /sys/class/net"));
        let out = bundle.tested_within(&wrapper, &["run", "a"]).ok();
        for word in ["inet 10.9.8.7/24 brd 10.9.8.255 scope global", "inet6 fd00:9::7/64", "UP", "\n1400\n"] {
            assert!(out.contains(word), "{want}: {word} is not in {out}");
        }
        assert!(out.ends_with(&format!("{want}\nlo")), "{out}");
    }
}

#[test]
fn an_interface_moves_to_a_namespace_that_is_joined() {
    let Some(mut bundle) = bundle() else { return };
    bundle.set("/linux/netDevices", json!({"inside": {"name": "eth7"}}));
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "network" {
            *namespace = json!({"type": "network", "path": "/run/hoy-joined"});
        }
    }
    // The namespace is bound where nobody but this shell and its children can see it.
    let setup = format!(
        "mount -t tmpfs t /run && touch /run/hoy-joined && unshare -n mount --bind /proc/self/ns/net /run/hoy-joined && {PAIR}"
    );
    bundle.script("ip addr show dev eth7");
    let out = bundle.tested_within(&["unshare", "-m", "-n", "sh", "-c", &setup, "sh"], &["run", "a"]).output();
    assert!(out.status == 0 && out.stdout.contains("10.9.8.7/24"), "{} {}", out.stdout, out.stderr);
}

#[test]
fn what_cannot_be_moved_is_named() {
    let Some(mut bundle) = bundle() else { return };
    let wrapper = ["unshare", "-n", "sh", "-c", PAIR, "sh"];
    let cases = [
        (json!({"none0": {}}), "none0"),
        (json!({"inside": {"name": "lo"}}), "\"lo\""),
        (json!({"inside": {"name": "a/b"}}), "a/b"),
        (json!({"lo": {"name": "x"}}), "\"lo\""),
    ];
    for (devices, word) in cases {
        bundle.set("/linux/netDevices", devices.clone());
        let out = bundle.tested_within(&wrapper, &["run", "a"]).output();
        assert!(out.status != 0 && out.stderr.contains(word), "{devices}: {} {}", out.stdout, out.stderr);
    }
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network");
    bundle.set("/linux/netDevices", json!({"inside": {}}));
    let out = bundle.tested_within(&wrapper, &["run", "a"]).output();
    assert!(out.status != 0 && out.stderr.contains("network"), "{}: {}", runtime_under_test(), out.stderr);
}

#[test]
fn a_new_network_has_the_loopback_interface_up() {
    let Some(mut bundle) = Bundle::new(User::Root) else { return };
    bundle.set("/ociVersion", json!("1.0.2"));
    bundle.script("ls /sys/class/net; ip addr show dev lo");
    let out = bundle.tested(&["run", "a"]).ok();
    assert!(out.starts_with("lo\n") && out.contains("UP") && out.contains("127.0.0.1/8"), "{out}");
}
