//! What only the virtual machine of `tests/vm` has: cgroup v2 alone, a systemd, a manager for each user.

use std::path::Path;

use crate::{Run, User, skip};

/// Whether this is the virtual machine of `tests/vm`; where not, the test is recorded as skipped.
pub fn need_vm() -> bool {
    let is_vm = Path::new("/run/vm/command").exists();
    if !is_vm {
        skip("needs the virtual machine: \"make check-vm\"");
    }
    is_vm
}

/// `run` as a unit of its user's systemd, to which a subtree of control groups is delegated.
///
/// What the unit leaves running is killed at its end.
pub fn in_user_unit(user: User, mut run: Run) -> Run {
    let command = run.command();
    let directory = command.get_current_dir().unwrap_or(Path::new("/")).to_owned();
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned);
    let words: Vec<_> = words.collect();
    let machine = format!("{}@", user.name());
    let options = [
        "--user",
        "-M",
        &machine,
        "--pipe",
        "--wait",
        "--quiet",
        "--collect",
        "-p",
        "Delegate=yes",
        "-p",
        "KillSignal=KILL",
    ];
    Run::new("systemd-run").args(options).arg("--working-directory").arg(directory).arg("--").args(words)
}
