//! Commands that only look.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use hoy_build::{Working, inspect_container, inspect_image, with_empty_fields};
use hoy_cli::{Context as _, Result, Stdout, Template, print_line, table};
use hoy_layout::Store;
use serde_json::{Value, json};

use crate::args::{ContainersArgs, FormatArgs, InfoArgs, InspectArgs, VersionArgs};
use crate::context::{Context, warn};
use crate::manifest;
use crate::working::mount_point;

/// Fields and headings, as buildah has them.
const COLUMNS: [(&str, &str); 5] = [
    ("ContainerID", "CONTAINER ID"),
    ("Builder", "BUILDER"),
    ("ImageID", "IMAGE ID"),
    ("ImageName", "IMAGE NAME"),
    ("ContainerName", "CONTAINER NAME"),
];

pub(crate) fn containers(context: &Context, args: &ContainersArgs) -> Result<ExitCode> {
    let mut rows = hoy_build::containers(&context.store()?, args.all, &args.filter, |error| {
        warn(&format!("warning: {error}; see \"hoy-storage check\""));
    })?;
    let mut out = Stdout::new();
    if args.json {
        let lower = |row: &Value| {
            let fields = row.as_object().into_iter().flatten();
            Value::Object(fields.map(|(key, value)| (key.to_lowercase(), value.clone())).collect())
        };
        writeln!(out, "{}", table::json(&rows.iter().map(lower).collect())?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        let mark = if row.get("Builder") == Some(&Value::Bool(true)) { "   *" } else { "" };
        row.insert("Builder".to_owned(), Value::from(mark));
        if !args.notruncate && !args.quiet {
            for key in ["ContainerID", "ImageID"] {
                let short = row.get(key).and_then(Value::as_str).map(|id| id.chars().take(12).collect::<String>());
                row.insert(key.to_owned(), Value::from(short));
            }
        }
    }
    let format = if args.quiet { Some("{{.ContainerID}}") } else { args.format.as_deref() };
    out.write_all(table::list(format, args.noheading, &COLUMNS, &rows)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn inspect(context: &Context, args: &InspectArgs) -> Result<ExitCode> {
    let store = context.store()?;
    let doing = || format!("inspect \"{}\"", args.object);
    if args.kind.as_deref() == Some("manifest") {
        return manifest::inspect_of(context, &store, &args.object);
    }
    let found = match args.kind.as_deref() {
        Some("container") => container(context, &store, &args.object),
        Some(_) => image(&store, &args.object),
        None => match container(context, &store, &args.object) {
            Err(error) if error.is(hoy_build::Error::is_not_found) => image(&store, &args.object),
            other => other,
        },
    };
    let found = found.context(doing)?;
    show(&if args.format.format.is_some() { with_empty_fields(found) } else { found }, &args.format)
}

fn container(context: &Context, store: &Store, text: &str) -> Result<Value> {
    let (dir, working) = Working::find(store, text)?;
    Ok(inspect_container(store.layout(), &dir, &working, &mount_point(context, &dir)?)?)
}

fn image(store: &Store, text: &str) -> Result<Value> {
    let (named, image) = store.image(text)?;
    Ok(inspect_image(store.layout(), named.name.as_deref().unwrap_or_default(), &image)?)
}

pub(crate) fn info(context: &Context, args: &InfoArgs) -> Result<ExitCode> {
    let store = context.store()?;
    let (containers, images) = (store.all_containers()?.len(), store.images()?.len());
    let is_root = hoy_sys::user::is_initial_root();
    let platform = hoy_oci::Platform::host();
    let mut value = json!({
        "host": {
            "arch": platform.architecture,
            "os": platform.os,
            "rootless": !is_root,
            "variant": platform.variant.unwrap_or_default(),
            "CgroupVersion": if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" },
            "Distribution": distribution(),
            "MemTotal": memory("MemTotal:"),
            "MemFree": memory("MemFree:"),
            "SwapTotal": memory("SwapTotal:"),
            "SwapFree": memory("SwapFree:"),
            "OCIRuntime": std::env::var("BUILDAH_RUNTIME").unwrap_or_else(|_| "hoy-runtime".to_owned()),
            "cpus": std::thread::available_parallelism().map_or(1, usize::from),
            "hostname": words("/proc/sys/kernel/hostname"),
            "kernel": words("/proc/sys/kernel/osrelease"),
            "uptime": uptime(),
        },
        "store": {
            "ContainerStore": {"number": containers},
            "GraphDriverName": "overlay",
            "GraphOptions": null,
            "GraphStatus": {},
            "GraphRoot": store.root(),
            "ImageStore": {"number": images},
            "RunRoot": store.runroot(),
        },
    });
    if let (true, Some(fields)) = (args.debug, value.as_object_mut()) {
        let program = std::env::current_exe().unwrap_or_default();
        let debug = json!({"buildah version": env!("CARGO_PKG_VERSION"), "compiler": "rustc", "program": program});
        fields.insert("debug".to_owned(), debug);
    }
    show(&value, &args.format)
}

/// The first line of a file of the kernel; empty where there is none.
fn words(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// A line of /proc/meminfo, in bytes.
fn memory(name: &str) -> u64 {
    let text = words("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default().saturating_mul(1024)
}

/// What os-release(5) calls this system.
fn distribution() -> Value {
    let text = words("/etc/os-release");
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
        line.trim_matches('"').to_owned()
    };
    json!({"distribution": value("ID"), "version": value("VERSION_ID")})
}

/// How long the machine has been up, as `1h 2m 3s`.
fn uptime() -> String {
    let text = words("/proc/uptime");
    let seconds: u64 = text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
    format!("{}h {}m {}s", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn show(value: &Value, args: &FormatArgs) -> Result<ExitCode> {
    match &args.format {
        Some(format) => print_line(Template::parse(format)?.render(value)?)?,
        None => print_line(table::json(value)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn version(args: &VersionArgs) -> Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    let platform = hoy_oci::Platform::host();
    let os_arch = format!("{}/{}", platform.os, platform.architecture);
    if args.json {
        let value = json!({
            "version": version, "imageSpec": "1.1.1", "runtimeSpec": hoy_spec::OCI_VERSION, "osArch": os_arch,
        });
        print_line(table::json(&value)?)?;
    } else {
        print_line(format!(
            "Version:         {version}\nImage Spec:      1.1.1\nRuntime Spec:    {}\nOS/Arch:         {os_arch}",
            hoy_spec::OCI_VERSION
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
