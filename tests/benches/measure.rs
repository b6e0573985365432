//! Commands timed beside each other, and the table that comes of it.
//!
//! Peak memory is that of the largest single process of a command (`ru_maxrss`), CPU time that of all of them.

use std::fs;
use std::path::Path;

use hoy_tests::{Run, Sandbox};

/// What one run of a command took.
#[derive(Clone, Copy)]
struct Cost {
    wall_seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
}

/// Both sides of a row: each closure makes its state fresh, then returns the command to be timed.
pub struct Row<'a> {
    pub work: &'a str,
    pub peer: &'a str,
    pub ours: Box<dyn Fn() -> Run + 'a>,
    pub theirs: Box<dyn Fn() -> Run + 'a>,
}

/// Runs a shell command under GNU time; it must succeed.
fn measure(run: Run, place: &Path) -> Cost {
    let figures = place.join("figures");
    run.env("FIGURES", &figures).ok();
    let text = fs::read_to_string(&figures).expect("time writes its figures");
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    match numbers[..] {
        [wall_seconds, user, system, kib] => Cost { wall_seconds, cpu_seconds: user + system, peak_mib: kib / 1024.0 },
        _ => panic!("time wrote {text:?}"),
    }
}

/// `script` under GNU time, with nanosecond wall time from the shell's own clock.
pub fn timed(sandbox: &Sandbox, script: &str) -> Run {
    let outer = format!(
        "start=$(date +%s%N); /usr/bin/time -q -o \"$FIGURES.part\" -f '%U %S %M' sh -c '{script}' >/dev/null; code=$?; \
         end=$(date +%s%N); echo \"$(awk \"BEGIN {{print ($end - $start) / 1e9}}\") $(cat \"$FIGURES.part\")\" >\"$FIGURES\"; exit $code"
    );
    sandbox.run("sh").args(["-c", &outer])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn bench(row: &Row, rounds: usize, place: &Path) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let pair = (measure((row.ours)(), place), measure((row.theirs)(), place));
        // The first round warms the page cache for both.
        if round > 0 {
            ours.push(pair.0);
            theirs.push(pair.1);
        }
    }
    let of = |costs: &[Cost], figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
    let figures: [fn(&Cost) -> f64; 3] = [|c| c.wall_seconds, |c| c.cpu_seconds, |c| c.peak_mib];
    let [wall, cpu, peak] = figures.map(|figure| (of(&ours, figure), of(&theirs, figure)));
    let pairs = ours.iter().zip(&theirs).map(|(a, b)| a.wall_seconds / b.wall_seconds);
    let (low, high) = pairs.fold((f64::MAX, 0.0_f64), |(low, high), r| (low.min(r), high.max(r)));
    println!(
        "| {} | {} | {:.3} / {:.3} / {:.0} | {:.3} / {:.3} / {:.0} | **{:.2}** ({low:.2}–{high:.2}) | {:.2} | {:.2} |",
        row.work,
        row.peer,
        wall.0,
        cpu.0,
        peak.0,
        wall.1,
        cpu.1,
        peak.1,
        wall.0 / wall.1,
        cpu.0 / cpu.1,
        peak.0 / peak.1
    );
}

/// Takes every container and everything else out of the sandbox's store.
pub fn empty(sandbox: &Sandbox) {
    for id in sandbox.ok("hoy-storage", &["containers", "-q"]).lines() {
        sandbox.ok("hoy-storage", &["rm", "--force", id]);
    }
    let (root, run) = (sandbox.path("root"), sandbox.path("run"));
    drop((fs::remove_dir_all(&root), fs::create_dir(&root), fs::create_dir_all(&run)));
}

/// What runs here, and the head of the table.
pub fn heading(rounds: usize, programs: &[&str]) {
    let version = |name: &&str| Run::new(name).arg("--version").ok().lines().next().unwrap_or_default().to_owned();
    let kernel = Run::new("uname").arg("-r").ok();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "Linux {kernel}, {cores} cores, load {}, {rounds} rounds, alternating.",
        load.split(' ').next().unwrap_or("?")
    );
    println!("{}.\n", programs.iter().map(version).collect::<Vec<_>>().join("; "));
    println!("Cells: wall seconds / CPU seconds / MiB of the largest process.\n");
    println!("| work | peer | ours | theirs | wall, ratio | CPU | memory |\n|---|---|---|---|---|---|---|");
}
