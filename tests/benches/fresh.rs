//! File systems that nothing has been deleted from.

use hoy_tests::{Run, Sandbox};

/// Has `directory` of the sandbox be an empty file system that nothing was ever deleted from: for seconds after that, ext4
/// does not give such inodes to new files, and looks long for others.
pub fn renew(sandbox: &Sandbox, directory: &str) {
    sandbox.quiet();
    let disk = sandbox.path(&format!("{directory}.img"));
    let script = "rm -f \"$0\" && truncate -s 16G \"$0\" && mkfs.ext4 -q -F -m 0 \"$0\" && mount -o loop \"$0\" \"$1\" && rmdir \"$1/lost+found\"";
    Run::new("sh").args(["-c", script]).arg(&disk).arg(sandbox.path(directory)).ok();
}
