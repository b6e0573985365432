//! A store whose machine loses its power while it changes: nothing that was said to be done is lost, nothing half-written is
//! used. The machine is the one of `tests/vm`; what its disk was not told to keep is lost with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use hoy_tests::{Run, Sandbox, User, busybox_store, is_long, need, need_root, program_dir, skip, workspace};
use rustix::process::{Pid, Signal, kill_process};

const CUTS: u32 = 20;

/// A disk with the layout `images`, and the checksums of each image's files in `sums`.
fn make_disk(sandbox: &Sandbox, disk: &Path) {
    let content = sandbox.path("disk");
    fs::create_dir_all(content.join("sums")).unwrap();
    for number in [9, 0, 1, 2, 3, 4, 5] {
        let data = sandbox.path("data");
        fs::create_dir_all(&data).unwrap();
        if number != 9 {
            for file in 0..50 {
                let text = format!("{number} {file}\n").repeat(if file == 0 { 100_000 } else { 300 });
                fs::write(data.join(format!("file{file}")), text).unwrap();
            }
        }
        sandbox.ok("hoy-build", &["from", "--name", "work", "busybox"]);
        sandbox.ok("hoy-build", &["copy", "work", &data.display().to_string(), "/data"]);
        let mounted = sandbox.ok("hoy-build", &["mount", "work"]);
        let sums = sandbox.run("sh").args(["-c", "find . -type f -exec sha256sum {} +"]).dir(&mounted).ok();
        fs::write(content.join(format!("sums/{number}")), sums + "\n").unwrap();
        sandbox.ok("hoy-build", &["umount", "work"]);
        sandbox.ok("hoy-build", &["commit", "--rm", "work", &format!("image{number}")]);
        let target = format!("oci:{}:{number}", content.join("images").display());
        sandbox.ok("hoy-copy", &["copy", &format!("store:image{number}"), &target]);
        fs::remove_dir_all(&data).unwrap();
    }
    Run::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&content).arg(disk).arg("512M").ok();
}

/// Starts the machine, which changes the store on `disk` when what is `known` of it was found to be true.
fn start(disk: &Path, seed: u32, known: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut machine = Command::new("sh")
        .arg(workspace().join("tests/vm/run"))
        .args(["-t", "400", "-d"])
        .arg(disk)
        .args(["--", "sh", "tests/vm/guest/power-cut", &seed.to_string()])
        .arg(known)
        .env("HOY_BIN_DIR", program_dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(machine.stdout.take().unwrap());
    (machine, said)
}

#[test]
fn twenty_power_cuts() {
    if !is_long() {
        return skip("takes half an hour: \"make check-long\"");
    }
    if !need_root() || !need(&["mke2fs"]) {
        return;
    }
    if !Run::new("sh").arg(workspace().join("tests/vm/set-up")).command().status().unwrap().success() {
        return skip("no virtual machine can be made here");
    }
    let Some(sandbox) = busybox_store(User::Root) else { return };
    // Where the machine sees it, too.
    let shared = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (disk, known) = (sandbox.path("disk.img"), shared.path().join("known"));
    make_disk(&sandbox, &disk);

    let mut states: BTreeMap<String, String> = BTreeMap::new();
    let (mut changes, mut cut, mut broken) = (0, 0, 0);
    while cut <= CUTS {
        let lines: Vec<String> = states.iter().map(|(name, state)| format!("{state} {name}\n")).collect();
        fs::write(&known, lines.concat()).unwrap();
        let (mut machine, mut said) = start(&disk, cut, &known);
        let pid = Pid::from_child(&machine);
        let mut line = String::new();
        let mut is_ready = false;
        while said.read_line(&mut line).unwrap() > 0 {
            let text = std::mem::take(&mut line);
            if let Some((state, name)) = text.strip_suffix('\n').and_then(|text| text.split_once(' ')) {
                changes += usize::from(state != "changing");
                states.insert(name.to_owned(), state.to_owned());
            } else if text == "ready\n" {
                is_ready = true;
                // A different moment each time, of the first ten seconds.
                let moment = Duration::from_millis(u64::from(cut * 7919 % 10_000) + 300);
                std::thread::spawn(move || {
                    std::thread::sleep(moment);
                    kill_process(pid, Signal::TERM).unwrap();
                });
            }
        }
        let status = machine.wait().unwrap();
        if is_ready {
            eprintln!("{cut} power cuts survived, {changes} changes acknowledged");
            cut += 1;
        } else {
            // The emulator itself breaks now and then.
            broken += 1;
            assert!(status.code() == Some(125) && broken < 5, "after {cut} power cuts: {status}");
        }
    }
}
