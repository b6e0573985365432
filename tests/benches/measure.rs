//! Commands timed beside each other, and the table that comes of it.
//!
//! Peak memory is that of the largest single process of a command (`ru_maxrss`), CPU time that of all of them.

use std::fs;
use std::path::Path;

use hoy_tests::{Run, Sandbox};

/// What one run of a command took.
#[derive(Clone, Copy)]
pub struct Cost {
    /// From start to end.
    pub wall_seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
}

/// Makes its state fresh, then returns the command to be timed.
pub type Command<'a> = Box<dyn Fn() -> Run + 'a>;

/// Runs a shell command under GNU time; it must succeed.
pub fn measure(run: Run, place: &Path) -> Cost {
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

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints a row for each of several others, all of whom take their turn after ours in every round; the rounds that warm
/// the page cache come first, and do not count.
pub fn beside(work: &str, ours: &Command, peers: &[(&str, &Command)], (warming, rounds): (usize, usize), place: &Path) {
    let mut costs = vec![Vec::new(); peers.len() + 1];
    for _ in 0..warming + rounds {
        let sides = std::iter::once(ours).chain(peers.iter().map(|(_, peer)| *peer));
        costs.iter_mut().zip(sides).for_each(|(costs, side)| costs.push(measure(side(), place)));
    }
    costs.iter_mut().for_each(|costs| drop(costs.drain(..warming)));
    let (ours, theirs) = costs.split_first().expect("ours at least");
    peers.iter().zip(theirs).for_each(|((peer, _), theirs)| print(work, peer, ours, theirs));
}

fn print(work: &str, peer: &str, ours: &[Cost], theirs: &[Cost]) {
    let of = |costs: &[Cost], figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
    let figures: [fn(&Cost) -> f64; 3] = [|c| c.wall_seconds, |c| c.cpu_seconds, |c| c.peak_mib];
    let [wall, cpu, peak] = figures.map(|figure| (of(ours, figure), of(theirs, figure)));
    let pairs = ours.iter().zip(theirs).map(|(a, b)| a.wall_seconds / b.wall_seconds);
    let (low, high) = pairs.fold((f64::MAX, 0.0_f64), |(low, high), r| (low.min(r), high.max(r)));
    println!(
        "| {work} | {peer} | {:.3} / {:.3} / {:.0} | {:.3} / {:.3} / {:.0} | **{:.2}** ({low:.2}–{high:.2}) | {:.2} | {:.2} |",
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

/// What runs here, and the head of the table.
pub fn heading(rounds: usize, programs: &[&str]) {
    let version = |name: &&str| Run::new(name).arg("--version").ok().lines().next().unwrap_or_default().to_owned();
    let kernel = Run::new("uname").arg("-r").ok();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "Linux {kernel}, {cores} cores, load {}, rounds: {rounds}, alternating.",
        load.split(' ').next().unwrap_or("?")
    );
    println!("{}.\n", programs.iter().map(version).collect::<Vec<_>>().join("; "));
    println!("Cells: wall seconds / CPU seconds / MiB of the largest process.\n");
    println!("| work | peer | ours | theirs | wall, ratio | CPU | memory |\n|---|---|---|---|---|---|---|");
}
