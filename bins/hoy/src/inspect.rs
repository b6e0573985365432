//! `hoy inspect`: podman's JSON, its main fields.

use std::io::Write;
use std::process::ExitCode;

use hoy_cli::Template;
use hoy_cli::{Error, Result, Stdout, print_line, table};
use hoy_engine::{Engine, Entry, Status};
use hoy_oci::{IdMapping, Timestamp};
use hoy_spec::Config;
use serde_json::{Value, json};

use crate::args::{Global, InspectArgs, Kind};
use crate::ps::state;

pub(crate) fn inspect(global: &Global, args: &InspectArgs) -> Result<ExitCode> {
    let engine = global.engine()?;
    let found: Vec<Value> = args.names.iter().map(|name| one(&engine, name, args.kind)).collect::<Result<_>>()?;
    match args.format.as_deref() {
        None | Some("json") => {
            let text = table::json(&Value::from(found))?;
            print_line(text)?;
        }
        Some(format) => {
            let template = Template::parse(format)?;
            for value in &found {
                writeln!(Stdout::new(), "{}", template.render(value)?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn one(engine: &Engine, name: &str, kind: Kind) -> Result<Value> {
    if kind != Kind::Image {
        match engine.container(name) {
            Ok(entry) => return container(engine, &entry),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if kind != Kind::Container {
        match image(engine, name) {
            Err(error) if error.is(|e: &hoy_layout::Error| matches!(e, hoy_layout::Error::NoImage { .. })) => {}
            other => return other,
        }
    }
    let what = match kind {
        Kind::All => "container or image",
        Kind::Container => "container",
        Kind::Image => "image",
    };
    Err(Error::msg(format!("no {what} is named \"{name}\"")))
}

fn time(time: Option<Timestamp>) -> Value {
    Value::from(time.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string()))
}

fn container(engine: &Engine, entry: &Entry) -> Result<Value> {
    let Entry { dir, container, record, status } = entry;
    let config: Config = dir.read_json("config.json")?;
    let process = &config.process;
    let running = *status == Status::Running;
    let (path, args) = process.args.split_first().map_or(("", [].as_slice()), |(first, rest)| (first, rest));
    Ok(json!({
        "Id": entry.id().as_str(),
        "Created": time(Some(container.created)),
        "Path": path,
        "Args": args,
        "State": {
            "OciVersion": config.oci_version,
            "Status": state(*status),
            "Running": running,
            "Paused": false,
            "Pid": if running { engine.pid(entry).unwrap_or(0) } else { 0 },
            "ExitCode": if let Status::Exited(Some(code)) = status { *code } else { 0 },
            "StartedAt": time(record.started),
            "FinishedAt": time(record.finished),
        },
        "Image": record.image_id.hex(),
        "ImageDigest": container.manifest.map(|digest| digest.to_string()),
        "ImageName": record.image,
        "Name": container.name,
        "OCIRuntime": record.runtime,
        "OCIConfigPath": dir.path().join("config.json"),
        "HostnamePath": dir.path().join("hostname"),
        "HostsPath": dir.path().join("hosts"),
        "EffectiveCaps": process.capabilities.effective,
        "BoundingCaps": process.capabilities.bounding,
        "Mounts": mounts(&config),
        "Config": {
            "Hostname": config.hostname,
            "User": format!("{}:{}", process.user.uid, process.user.gid),
            "Tty": process.terminal,
            "Env": process.env,
            "Cmd": record.command,
            "Image": record.image,
            "WorkingDir": process.cwd,
            "Labels": record.labels,
            "Annotations": config.annotations,
        },
        "HostConfig": host_config(entry, &config),
    }))
}

fn mounts(config: &Config) -> Vec<Value> {
    let bind = |mount: &hoy_spec::Mount| {
        json!({
            "Type": "bind",
            "Source": mount.source,
            "Destination": mount.destination,
            "Options": mount.options,
            "RW": !mount.options.iter().any(|option| option == "ro"),
        })
    };
    config.mounts.iter().filter(|mount| mount.kind == "bind").map(bind).collect()
}

fn host_config(entry: &Entry, config: &Config) -> Value {
    let resources = config.linux.resources.as_ref();
    json!({
        "AutoRemove": entry.record.auto_remove,
        "UsernsMode": if entry.container.id_maps.is_some() { "private" } else { "" },
        "IDMappings": entry.container.id_maps.as_ref().map(|maps| {
            let text = |map: &IdMapping| format!("{}:{}:{}", map.container_id, map.host_id, map.size);
            let texts = |maps: &[IdMapping]| maps.iter().map(text).collect::<Vec<_>>();
            json!({ "UidMap": texts(&maps.uid_mappings), "GidMap": texts(&maps.gid_mappings) })
        }),
        "NetworkMode": entry.record.network,
        "ReadonlyRootfs": config.root.readonly,
        "Memory": resources.and_then(|r| r.memory.as_ref()?.limit).unwrap_or(0),
        "PidsLimit": resources.and_then(|r| Some(r.pids.as_ref()?.limit)).unwrap_or(0),
    })
}

fn image(engine: &Engine, name: &str) -> Result<Value> {
    let store = engine.store();
    let (named, image) = store.image(name)?;
    let same: Vec<String> = store
        .images()?
        .into_iter()
        .filter(|other| other.descriptor.digest == named.descriptor.digest)
        .filter_map(|other| other.name)
        .collect();
    let repository = |tag: &String| {
        let name = tag.rsplit_once(':').map_or(tag.as_str(), |(name, _)| name);
        format!("{name}@{}", named.descriptor.digest)
    };
    let size: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
    let config = &image.config;
    Ok(json!({
        "Id": image.manifest.config.digest.hex(),
        "Digest": named.descriptor.digest.to_string(),
        "RepoTags": same,
        "RepoDigests": same.iter().map(repository).collect::<Vec<_>>(),
        "Created": time(config.created),
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": size,
        "Config": config.config,
        "Labels": config.config.labels,
        "User": config.config.user,
        "ManifestType": image.descriptor.media_type,
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
        "History": config.history,
        "NamesHistory": [],
    }))
}
