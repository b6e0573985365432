//! The runtime beside Debian's crun and runc: each command of a container's life, in alternating batches.
//!
//! CPU time is that of all processes of a command (`RUSAGE_CHILDREN`), and for `create` and `start` also what the
//! container's first process used, which nobody waits for; peak memory is that of the largest process waited for.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hoy_tests::{Bundle, Run, User, has, program};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};

const ROUNDS: usize = 5;
const BATCH: usize = 20;
const OTHERS: usize = 100;

/// What a row times on each of its sides, once for each container of a batch; `%` stands for the container's id.
struct Row {
    work: &'static str,
    /// What is done for every container before the batch is timed.
    before: &'static [&'static str],
    command: &'static str,
    /// A third side, beside ours and crun: the runtime `runc`, or `nsenter` into a container of ours.
    third: &'static str,
}

const ROWS: &[Row] = &[
    Row { work: "run /bin/true", before: &[], command: "run -b true %", third: "runc" },
    Row { work: "exec /bin/true", before: &[CREATE, "start %"], command: "exec % /bin/true", third: "nsenter" },
    Row { work: "create", before: &[], command: CREATE, third: "" },
    Row { work: "start", before: &[CREATE], command: "start %", third: "" },
    Row { work: "delete, stopped", before: &["create -b true %", "start %"], command: "delete %", third: "" },
    Row { work: "state", before: &[CREATE, "start %"], command: "state %", third: "" },
    Row { work: "list", before: &[], command: "list", third: "" },
    Row { work: "--version", before: &[], command: "--version", third: "runc" },
];

/// What must not grow with the number of containers, and what may grow with it a little.
const CROWDED: &[Row] = &[
    Row { work: "state, 100 others", before: &[CREATE, "start %"], command: "state %", third: "" },
    Row { work: "list, 100 others", before: &[], command: "list", third: "" },
];

const CREATE: &str = "create -b sleep %";

/// A program to be timed, and the runtime that makes its containers.
struct Side<'a> {
    name: &'static str,
    runtime: PathBuf,
    bundle: &'a Bundle,
}

impl Side<'_> {
    fn id(&self, number: usize) -> String {
        format!("hoy-bench-{}-{number}", self.name)
    }

    /// The runtime's command on a container.
    fn command(&self, words: &str, number: usize) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.bundle.path(self.name)).current_dir(self.bundle.path(""));
        let id = self.id(number);
        command.args(words.split(' ').map(|word| if word == "%" { &id } else { word }));
        quiet(command)
    }

    fn timed(&self, row: &Row, number: usize) -> Command {
        if self.name != "nsenter" {
            return self.command(row.command, number);
        }
        let (mut command, pid) = (Command::new("nsenter"), self.state(number)["pid"].to_string());
        command.args(["-t", &pid, "-m", "-u", "-i", "-n", "-p", "-C", "/bin/true"]);
        quiet(command)
    }

    fn state(&self, number: usize) -> Value {
        let out = self.command("state %", number).stdout(Stdio::piped()).output().expect("start the runtime");
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    }

    fn prepare(&self, row: &Row, number: usize) {
        for words in row.before {
            succeed(&mut self.command(words, number));
        }
        // The program of the container is one that ends by itself.
        while row.command == "delete %" && self.state(number)["status"] != "stopped" {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Removes containers of these numbers, where there are any.
    fn remove(&self, numbers: std::ops::Range<usize>) {
        for number in numbers.filter(|&number| self.bundle.path(self.name).join(self.id(number)).exists()) {
            succeed(&mut self.command("delete --force %", number));
        }
    }

    /// CPU milliseconds of the containers' first processes.
    fn used_inside(&self) -> f64 {
        let pids = (0..BATCH).filter_map(|number| self.state(number)["pid"].as_u64());
        let spent = pids.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/schedstat")).ok());
        spent.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e6
    }

    /// One batch, and outside of it one more run for the peak of memory.
    fn measure(&self, row: &Row) -> Cost {
        (0..=BATCH).for_each(|number| self.prepare(row, number));
        let is_inside = [CREATE, "start %"].contains(&row.command);
        let inside = || if is_inside { self.used_inside() } else { 0.0 };
        let mut commands: Vec<Command> = (0..BATCH).map(|number| self.timed(row, number)).collect();
        let before = inside();
        let children = used_by_children();
        let walls = commands.iter_mut().map(succeed).collect();
        let children = used_by_children() - children;
        let cpu = (children + inside() - before) / BATCH as f64;
        let peak = peak_mib(&self.timed(row, BATCH), &self.bundle.path(""));
        self.remove(0..BATCH + 1);
        [cpu, median(walls), peak]
    }
}

impl Drop for Side<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (0..BATCH + 1 + OTHERS).for_each(|number| drop(self.command("delete --force %", number).status()));
        }
    }
}

/// CPU and wall milliseconds of one command, and MiB of its largest process.
type Cost = [f64; 3];

/// With streams that nobody reads: a container that goes on keeps them open.
fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs it: wall milliseconds.
fn succeed(command: &mut Command) -> f64 {
    let start = Instant::now();
    let status = command.status().expect("start a program");
    assert!(status.success(), "{command:?}: {status}");
    start.elapsed().as_secs_f64() * 1e3
}

fn used_by_children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("ask for the children's usage");
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e3
}

fn peak_mib(command: &Command, dir: &Path) -> f64 {
    let file = dir.join("peak");
    let mut time = Command::new("/usr/bin/time");
    time.current_dir(dir).args(["-q", "-f", "%M", "-o"]).arg(&file).arg(command.get_program()).args(command.get_args());
    succeed(&mut quiet(time));
    let text = fs::read_to_string(file).expect("time writes its figure");
    text.trim().parse::<f64>().expect("the figure is a number") / 1024.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn bench(row: &Row, sides: &[Side]) {
    let takes_part = |side: &&Side| ["ours", "crun", row.third].contains(&side.name);
    let sides: Vec<&Side> = sides.iter().filter(takes_part).collect();
    // A first round warms the page cache for all.
    let mut costs: Vec<Vec<Cost>> = sides.iter().map(|side| vec![side.measure(row)]).collect();
    costs.iter_mut().for_each(Vec::clear);
    for _ in 0..ROUNDS {
        sides.iter().zip(&mut costs).for_each(|(side, costs)| costs.push(side.measure(row)));
    }
    let middle = |costs: &Vec<Cost>| [0, 1, 2].map(|figure| median(costs.iter().map(|cost| cost[figure]).collect()));
    let medians: Vec<Cost> = costs.iter().map(middle).collect();
    let mut cells = medians.iter().map(|[cpu, wall, peak]| format!("{cpu:.2} / {wall:.2} / {peak:.1}"));
    let mut cell = || cells.next().unwrap_or_default();
    let (ours, crun, other) = (cell(), cell(), format!("{} {}", row.third, cell()));
    let [cpu, wall, peak] = [0, 1, 2].map(|figure| medians[0][figure] / medians[1][figure]);
    let pairs = costs[0].iter().zip(&costs[1]).map(|(ours, theirs)| ours[0] / theirs[0]);
    let (low, high) = pairs.fold((f64::MAX, 0.0_f64), |(low, high), r| (low.min(r), high.max(r)));
    let ratios = format!("**{cpu:.2}** ({low:.2}–{high:.2}) | {wall:.2} | {peak:.2}");
    println!("| {} | {ours} | {crun} | {other} | {ratios} |", row.work);
}

/// Bundles `true` and `sleep` of one root, with the seccomp profile that `hoy-spec` gives every container.
fn bundle() -> Option<Bundle> {
    let mut bundle = Bundle::new(User::Root)?;
    bundle.set("/ociVersion", json!("1.0.2"));
    let image = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}"#;
    let rootfs = bundle.path("rootfs");
    let text = Run::new("hoy-spec").arg("--rootfs").arg(&rootfs).args(["-", "--", "true"]).stdin(image).ok();
    let full: Value = serde_json::from_str(&text).expect("hoy-spec writes JSON");
    assert!(full["linux"]["seccomp"].is_object(), "hoy-spec gives a seccomp profile");
    bundle.set("/linux/seccomp", full["linux"]["seccomp"].clone());
    let kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    bundle.set("/linux/namespaces", json!(kinds));
    bundle.set("/root/path", json!(rootfs));
    for (name, args) in [("true", json!(["/bin/true"])), ("sleep", json!(["/bin/sleep", "1000"]))] {
        bundle.set("/process/args", args);
        fs::create_dir(bundle.path(name)).expect("make a bundle");
        fs::write(bundle.path(name).join("config.json"), bundle.config.to_string()).expect("write config.json");
    }
    Some(bundle)
}

fn heading() {
    let first_line = |name: &str| Run::new(name).arg("--version").ok().lines().next().unwrap_or_default().to_owned();
    let versions = ["hoy-runtime", "crun", "runc", "nsenter"].map(first_line).join("; ");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let (kernel, load) = (Run::new("uname").arg("-r").ok(), load.split(' ').next().unwrap_or("?"));
    println!("\nLinux {kernel}, {cores} cores, load {load}; {versions}.");
    println!(
        "Medians of {ROUNDS} alternating rounds of {BATCH} after a warm-up, all in one mount namespace in which the unified"
    );
    println!("control groups are unmounted: Debian's crun refuses hybrid ones.\n");
    println!("Cells: CPU ms / wall ms / MiB of the largest process.\n");
    println!("| command | ours | crun | other | CPU, ours / crun | wall | memory |\n|---|---|---|---|---|---|---|");
}

fn main() {
    if let Some(missing) = ["crun", "runc", "nsenter", "unshare", "time"].iter().find(|peer| !has(peer)) {
        return println!("skipped: {missing} is not installed");
    }
    if std::env::var_os("HOY_BENCH_INSIDE").is_none() {
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\"";
        let own = std::env::current_exe().expect("the own path");
        let mut again = Command::new("unshare");
        again.args(["-m", "sh", "-c", script]).arg(own).env("HOY_BENCH_INSIDE", "1");
        panic!("start unshare: {}", again.exec());
    }
    let Some(bundle) = bundle() else { return };
    let ours = program("hoy-runtime");
    let runtimes = [("ours", ours.clone()), ("crun", "crun".into()), ("runc", "runc".into()), ("nsenter", ours)];
    let sides = runtimes.map(|(name, runtime)| Side { name, runtime, bundle: &bundle });
    heading();
    ROWS.iter().for_each(|row| bench(row, &sides));
    let others = BATCH + 1..BATCH + 1 + OTHERS;
    for (side, number) in sides[..2].iter().flat_map(|side| others.clone().map(move |number| (side, number))) {
        succeed(&mut side.command(CREATE, number));
    }
    CROWDED.iter().for_each(|row| bench(row, &sides));
    sides[..2].iter().for_each(|side| side.remove(others.clone()));
}
