//! Ansible configures a working container through its connection for buildah, and finds nothing left to do the second time.

use std::fs;
use std::os::unix::fs::symlink;

use hoy_tests::{Run, Sandbox, User, busybox_layout, has, need, program, skip};

const PLAYBOOK: &str = r#"
- hosts: all
  gather_facts: true
  tasks:
    - ansible.builtin.file: {path: /srv/app, state: directory, mode: "0750", owner: "7", group: "8"}
    - ansible.builtin.copy: {content: "colour = red\n", dest: /srv/app/app.conf, mode: "0640"}
    - ansible.builtin.template: {src: greeting.j2, dest: /srv/app/greeting}
    - ansible.builtin.lineinfile: {path: /etc/profile, line: "export COLOUR=red", create: true}
    - ansible.builtin.command: {cmd: "sh -c 'cat /srv/app/app.conf >/srv/made'", creates: /srv/made}
    - ansible.builtin.slurp: {src: /srv/made}
      register: made
    - ansible.builtin.assert: {that: "made.content | b64decode == 'colour = red\n'"}
"#;

/// What Python needs to run, of this machine's own, below a directory.
const PYTHON: &str = r#"
    mkdir -p usr/bin usr/lib
    cp -L /usr/bin/python3 usr/bin
    cp -a /usr/lib/python3.* usr/lib
    rm -rf usr/lib/python3.*/test usr/lib/python3.*/config-*
    find . -name __pycache__ -exec rm -rf {} +
    for file in usr/bin/python3 usr/lib/python3.*/lib-dynload/*.so; do ldd $file; done |
        sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[ \t]*\(\/lib64[^ ]*\).*/\1/p' | sort -u |
        while read -r library; do mkdir -p .$(dirname $library); cp -L $library .$library; done
"#;

fn configured(user: User) {
    if !user.available() {
        return;
    }
    let sandbox = Sandbox::for_user(user);
    let work = |name: &str| sandbox.path("work").join(name);
    fs::create_dir_all(work("tree")).unwrap();
    if Run::new("sh").args(["-ec", PYTHON]).dir(work("tree")).output().status != 0 {
        return skip("there is no Python to be put into an image");
    }
    busybox_layout(&sandbox.path("layout"));
    fs::write(work("Containerfile"), "FROM localhost/base\nCOPY tree /\n").unwrap();
    fs::write(work("playbook.yml"), PLAYBOOK).unwrap();
    fs::write(work("greeting.j2"), "hello from {{ ansible_facts['python']['version']['major'] }}\n").unwrap();
    fs::create_dir(work("bin")).unwrap();
    symlink(program("hoy-build"), work("bin/buildah")).unwrap();
    Run::new("chmod").args(["-R", "a+rX"]).arg(sandbox.path("")).ok();
    let image = format!("oci:{}:busybox:latest", sandbox.path("layout").display());
    sandbox.ok("hoy-copy", &["copy", "-q", &image, "store:localhost/base"]);
    sandbox.ok("hoy-build", &["build", "-q", "-t", "python", "."]);
    let container = sandbox.ok("hoy-build", &["from", "python"]);
    let path = format!("{}:{}", work("bin").display(), std::env::var("PATH").unwrap());
    let play = || {
        let run = sandbox.run("ansible-playbook").env("PATH", &path).env("ANSIBLE_LOCALHOST_WARNING", "false");
        let run = run.args(["-i", &format!("{container},"), "-c", "containers.podman.buildah"]);
        run.args(["-e", "ansible_python_interpreter=/usr/bin/python3", "playbook.yml"]).ok()
    };
    let first = play();
    assert!(first.contains("changed=5 ") && first.contains("failed=0 "), "{user:?}: {first}");
    let second = play();
    assert!(second.contains("changed=0 ") && second.contains("failed=0 "), "{user:?}: {second}");
    sandbox.ok("hoy-build", &["commit", "-q", "--rm", &container, "configured"]);
    let script = "cat /srv/app/greeting /srv/made /etc/profile; stat -c '%a %u:%g' /srv/app /srv/app/app.conf";
    let said = sandbox.ok("hoy", &["run", "--rm", "configured", "sh", "-c", script]);
    assert_eq!(said, "hello from 3\ncolour = red\nexport COLOUR=red\n750 7:8\n640 0:0", "{user:?}");
}

#[test]
fn by_a_playbook() {
    if !need(&["umoci", "busybox", "ansible-playbook"]) {
        return;
    }
    let plugin = Run::new("ansible-doc").args(["-t", "connection", "-l", "containers.podman"]).output();
    if !plugin.stdout.contains("containers.podman.buildah") || !has("ldd") {
        return skip("this Ansible has no connection for buildah");
    }
    configured(User::Root);
    configured(User::Sub);
}
