//! Whole configurations, for a host that is always the same.

use std::collections::BTreeMap;

use hoy_oci::ContainerConfig;

use crate::{Config, Defaults, Error, Generated, Host, Options, Request, Rlimit, Users, generate};

/// A machine with all ids and capabilities.
pub(crate) fn host() -> Host {
    let limit = |kind: &str, soft, hard| Rlimit { kind: kind.to_owned(), soft, hard };
    Host {
        environment: BTreeMap::new(),
        uids: vec![(0, u32::MAX)],
        gids: vec![(0, u32::MAX)],
        is_initial: true,
        can_set_groups: true,
        has_cgroup: true,
        can_raise_limits: false,
        limits: vec![limit("RLIMIT_NOFILE", 1024, 20_000), limit("RLIMIT_NPROC", 96_365, 96_365)],
        last_capability: 40,
        bounding: (1 << 41) - 1,
        architecture: "x86_64",
        thermal: vec!["/sys/cpu0/thermal_throttle".to_owned()],
    }
}

fn make(image: &ContainerConfig, options: &Options, command: &[&str], host: &Host) -> Result<Generated, Error> {
    let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
    let users = Users::parse("root:x:0:0::/root:\nbob:x:7:8::/home/bob:\n", "tty:x:5:bob\n");
    generate(&Request {
        image,
        options,
        command: &command,
        users: &users,
        host,
        hostname: "box",
        mounts: &[],
        ids: None,
        user_namespace: None,
    })
}

pub(crate) fn default_config() -> Config {
    make(&ContainerConfig::default(), &Options::default(), &["sh"], &host()).unwrap().config
}

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn the_default_configuration() {
    let mut value = serde_json::to_value(default_config()).unwrap();
    let syscalls = value["linux"]["seccomp"]["syscalls"].take();
    assert_eq!(syscalls.as_array().map(Vec::len), Some(7 + 43 + 2));
    let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/default.json");
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
    assert_eq!(default_config(), default_config());
}

#[test]
fn commands() {
    let image = |entry: &[&str], cmd: &[&str]| ContainerConfig {
        entrypoint: Some(words(entry)),
        cmd: Some(words(cmd)),
        ..ContainerConfig::default()
    };
    let full = image(&["/e", "a"], &["b"]);
    let run = |image: &ContainerConfig, entrypoint: Option<&str>, command: &[&str]| {
        let options = Options { entrypoint: entrypoint.map(str::to_owned), ..Options::default() };
        make(image, &options, command, &host())
            .map(|made| made.config.process.args.join(" "))
            .map_err(|e| e.to_string())
    };
    assert_eq!(run(&full, None, &[]).unwrap(), "/e a b");
    assert_eq!(run(&full, None, &["c", "d"]).unwrap(), "/e a c d");
    assert_eq!(run(&full, Some("x"), &[]).unwrap(), "x");
    assert_eq!(run(&full, Some("x"), &["c"]).unwrap(), "x c");
    assert_eq!(run(&full, Some(r#"["x","y"]"#), &["c"]).unwrap(), "x y c");
    assert_eq!(run(&full, Some(""), &["c"]).unwrap(), "c");
    assert!(run(&full, Some(""), &[]).unwrap_err().starts_with("no command"));
    assert!(run(&ContainerConfig::default(), None, &[]).unwrap_err().starts_with("no command"));
    assert!(run(&full, Some("[x"), &[]).is_err());
}

#[test]
fn working_directories() {
    let run = |dir: &str| {
        let image = ContainerConfig { working_dir: dir.to_owned(), ..ContainerConfig::default() };
        make(&image, &Options::default(), &["sh"], &host())
            .map(|made| made.config.process.cwd)
            .map_err(|e| e.to_string())
    };
    assert_eq!(run("").unwrap(), "/");
    assert_eq!(run("/a//b/./../c/").unwrap(), "/a/c");
    for wrong in ["rel", "/proc/self/fd/7", "/proc/./self/fd/7", "/a/../proc/1/cwd", "/a\nb", "/a\0"] {
        assert!(run(wrong).unwrap_err().starts_with("the image's WorkingDir"), "{wrong}");
    }
}

#[test]
fn users_and_ids() {
    let run = |user: &str, host: &Host| {
        let image = ContainerConfig { user: user.to_owned(), ..ContainerConfig::default() };
        make(&image, &Options::default(), &["sh"], host).map(|made| made.config.process.user)
    };
    let bob = run("bob", &host()).unwrap();
    assert_eq!((bob.uid, bob.gid, bob.additional_gids), (7, 8, vec![5, 8]));
    assert_eq!(run("", &host()).unwrap().additional_gids, Vec::<u32>::new());
    let single = Host { is_initial: false, uids: vec![(0, 1)], gids: vec![(0, 1)], can_set_groups: false, ..host() };
    assert!(run("bob", &single).unwrap_err().to_string().contains("/etc/subuid"));
    assert!(run("nobody", &host()).unwrap_err().to_string().contains("\"nobody\""));
}

#[test]
fn one_id_alone() {
    let single = Host { is_initial: false, has_cgroup: false, uids: vec![(0, 1)], gids: vec![(0, 1)], ..host() };
    let image = ContainerConfig::default();
    let last = |options: &Options| {
        let linux = make(&image, options, &["sh"], &single).unwrap().config.linux;
        assert_eq!(linux.resources, None);
        linux.seccomp.unwrap().syscalls.pop().unwrap()
    };
    let rule = last(&Options::default());
    assert!(rule.names.contains(&"fchownat".to_owned()) && rule.errno_ret == Some(0));
    assert_eq!(last(&Options { privileged: true, ..Options::default() }), rule);
}

#[test]
fn options_that_are_refused() {
    let mut cases: Vec<(&str, Options)> = Vec::new();
    let one = |text: &str| vec![text.to_owned()];
    cases.push(("--network", Options { network: Some("bridge".to_owned()), ..Options::default() }));
    cases.push(("--pid", Options { pid: Some("container:x".to_owned()), ..Options::default() }));
    cases.push(("--hostname", Options { hostname: Some("a b".to_owned()), ..Options::default() }));
    cases.push((
        "--hostname",
        Options { hostname: Some("a".to_owned()), uts: Some("host".to_owned()), ..Options::default() },
    ));
    cases.push(("--umask", Options { umask: Some("9".to_owned()), ..Options::default() }));
    cases.push(("--oom-score-adj", Options { oom_score_adj: Some(1001), ..Options::default() }));
    cases.push(("--sysctl", Options { sysctl: one("kernel.core_pattern=x"), ..Options::default() }));
    cases
        .push(("--sysctl", Options { sysctl: one("net.x=1"), network: Some("host".to_owned()), ..Options::default() }));
    cases.push(("--security-opt", Options { security_opt: one("label=type:x"), ..Options::default() }));
    cases.push(("--security-opt", Options { security_opt: one("what"), ..Options::default() }));
    cases.push(("--annotation", Options { annotation: one("x"), ..Options::default() }));
    for (option, options) in cases {
        let error = make(&ContainerConfig::default(), &options, &["sh"], &host()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("option {option}: ")), "{error}");
    }
}

#[test]
fn what_options_change() {
    let options = Options {
        sysctl: vec!["net/ipv4/ip_forward=1".to_owned(), "kernel.shmmax=5".to_owned()],
        security_opt: words(&["no-new-privileges", "seccomp=unconfined"]),
        network: Some("host".to_owned()),
        stop_signal: Some("SIGINT".to_owned()),
        read_only: true,
        ..Options::default()
    };
    assert!(make(&ContainerConfig::default(), &options, &["sh"], &host()).is_err());
    let options = Options { network: None, ..options };
    let config = make(&ContainerConfig::default(), &options, &["sh"], &host()).unwrap().config;
    assert_eq!(config.linux.sysctl.len(), 3);
    assert!(config.process.no_new_privileges && config.linux.seccomp.is_none() && config.root.readonly);
    assert_eq!(config.annotations["org.opencontainers.image.stopSignal"], "SIGINT");
}

#[test]
fn defaults_give_way() {
    let words = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let defaults = Defaults {
        devices: words(&["/dev/null:/dev/x:r"]),
        env: words(&["A=conf", "B=conf", "C=conf"]),
        sysctls: words(&["net.ipv4.ip_forward=1", "kernel.shmmax=5"]),
        volumes: words(&["/tmp:/x", "/tmp:/y"]),
        shm_size: Some("200k".to_owned()),
        ..Defaults::default()
    };
    let image = ContainerConfig { env: words(&["A=image", "B=image"]), ..ContainerConfig::default() };
    let network = Some("host".to_owned());
    let (env, volume) = (words(&["A=asked"]), words(&["/usr:/x"]));
    let options = Options { defaults, env, volume, network, ..Options::default() };
    let config = make(&image, &options, &["true"], &host()).unwrap().config;
    assert!(["A=asked", "B=image", "C=conf"].iter().all(|one| config.process.env.contains(&(*one).to_owned())));
    assert_eq!(config.linux.sysctl.into_iter().collect::<Vec<_>>(), [("kernel.shmmax".to_owned(), "5".to_owned())]);
    let sources = |place: &str| {
        let there = config.mounts.iter().filter(|mount| mount.destination == place);
        there.map(|mount| mount.source.clone()).collect::<Vec<_>>()
    };
    assert_eq!((sources("/x"), sources("/y")), (words(&["/usr"]), words(&["/tmp"])));
    let shm = config.mounts.iter().find(|m| m.destination == "/dev/shm").unwrap();
    assert!(shm.options.contains(&"size=204800".to_owned()));
    assert_eq!(config.linux.devices[0].path, "/dev/x");
}
