//! `inspect`: everything known of a working container or an image, in buildah's form.

use hoy_layout::{ContainerDir, Image, ImageLayout};
use hoy_oci::ImageConfig;
use serde_json::{Map, Value, json};

use crate::working::image_by_manifest;
use crate::{Error, Result, Working};

/// The capabilities that `run` gives, as hoy-spec(1) has them.
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A working container; `mount_point` is empty where its root is not mounted.
///
/// # Errors
/// Those of reading the image it came from.
pub fn inspect_container(
    layout: &ImageLayout,
    dir: &ContainerDir,
    working: &Working,
    mount_point: &str,
) -> Result<Value> {
    let container = dir.container()?;
    // The image may have been removed from the store since.
    let base = working.from_manifest.and_then(|digest| image_by_manifest(layout, &digest).ok());
    let mut fields = described(layout, working, base.as_ref())?;
    fields.insert("Container".to_owned(), json!(container.name));
    fields.insert("ContainerID".to_owned(), json!(container.id));
    fields.insert("MountPoint".to_owned(), json!(mount_point));
    fields.insert("ImageCreatedBy".to_owned(), json!(working.created_by.as_deref().unwrap_or_default()));
    fields.insert("History".to_owned(), to_value(&working.history)?);
    Ok(Value::Object(fields))
}

/// An image known as `name`.
///
/// # Errors
/// Those of reading it.
pub fn inspect_image(layout: &ImageLayout, name: &str, image: &Image) -> Result<Value> {
    let working = Working::from_image(name, image);
    let mut fields = described(layout, &working, Some(image))?;
    for key in ["Container", "ContainerID", "MountPoint", "ImageCreatedBy"] {
        fields.insert(key.to_owned(), json!(""));
    }
    fields.insert("History".to_owned(), to_value(&image.config.history)?);
    Ok(Value::Object(fields))
}

fn described(layout: &ImageLayout, working: &Working, base: Option<&Image>) -> Result<Map<String, Value>> {
    let text = |descriptor| layout.read_document(descriptor).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let config = base.map(|image| text(&image.manifest.config)).transpose()?;
    let manifest = base.map(|image| text(&image.descriptor)).transpose()?;
    let value = json!({
        "Type": concat!("buildah ", env!("CARGO_PKG_VERSION")),
        "FromImage": working.from_image,
        "FromImageID": working.from_image_id.map(|id| id.hex()).unwrap_or_default(),
        "FromImageDigest": working.from_manifest.map(|digest| digest.to_string()).unwrap_or_default(),
        "Config": config.unwrap_or_default(),
        "Manifest": manifest.unwrap_or_default(),
        "ProcessLabel": "",
        "MountLabel": "",
        "ImageAnnotations": working.annotations,
        "OCIv1": to_value(&working.config)?,
        "Docker": docker(&working.config)?,
        "DefaultMountsFilePath": "",
        "Isolation": working.surroundings.get("isolation").and_then(Value::as_str).unwrap_or("oci"),
        "NamespaceOptions": namespaces(),
        "Capabilities": CAPABILITIES,
        "ConfigureNetwork": "NetworkDisabled",
        "CNIPluginPath": "",
        "CNIConfigDir": "",
        "Devices": [],
    });
    Ok(value.as_object().cloned().unwrap_or_default())
}

fn namespaces() -> Value {
    let option = |name: &str| json!({"Name": name, "Host": name == "user", "Path": ""});
    Value::from(["cgroup", "ipc", "mount", "network", "pid", "user", "uts"].map(option).to_vec())
}

/// The same configuration as Docker writes it: every field of a container is there.
fn docker(config: &ImageConfig) -> Result<Value> {
    let mut container = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null,
        "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": [], "Labels": null,
    });
    merge(&mut container, to_value(&config.config)?);
    let mut whole = json!({"created": null});
    merge(&mut whole, to_value(config)?);
    merge(&mut whole, json!({"config": container, "container_config": container}));
    Ok(whole)
}

/// What was described, with every field that a template may name: what is empty is not left out.
#[must_use]
pub fn with_empty_fields(mut described: Value) -> Value {
    let health = json!({"Test": [], "Interval": 0, "Timeout": 0, "StartPeriod": 0, "StartInterval": 0, "Retries": 0});
    let config = json!({
        "Hostname": "", "Domainname": "", "User": "", "ExposedPorts": {}, "Env": [], "Cmd": [], "Healthcheck": health,
        "Volumes": {}, "WorkingDir": "", "Entrypoint": [], "OnBuild": [], "Labels": {}, "StopSignal": "", "Shell": [],
    });
    let whole = json!({
        "created": "", "author": "", "comment": "", "architecture": "", "os": "", "variant": "", "os.version": "",
        "os.features": [], "history": [], "config": config, "rootfs": {"type": "", "diff_ids": []},
        "id": "", "parent": "", "container": "", "container_config": config, "docker_version": "",
    });
    for key in ["OCIv1", "Docker"] {
        if let Some(found) = described.get_mut(key) {
            fill(found, &whole);
            for config in ["config", "container_config"] {
                let mut health = found.get_mut(config).and_then(|config| config.get_mut("Healthcheck"));
                for field in ["Interval", "Timeout", "StartPeriod", "StartInterval"] {
                    let field = health.as_mut().and_then(|health| health.get_mut(field));
                    if let Some((field, nanoseconds)) = field.and_then(|field| field.as_u64().map(|n| (field, n))) {
                        *field = json!({"time.Duration": nanoseconds});
                    }
                }
            }
            let steps = found.get_mut("history").and_then(Value::as_array_mut).into_iter().flatten();
            steps.for_each(|step| {
                fill(step, &json!({"created_by": "", "comment": "", "author": "", "empty_layer": false}))
            });
        }
    }
    described
}

/// Adds what is missing, at every depth.
fn fill(value: &mut Value, empty: &Value) {
    match (value, empty) {
        (Value::Object(found), Value::Object(empty)) => {
            for (key, empty) in empty {
                fill(found.entry(key.clone()).or_insert(Value::Null), empty);
            }
        }
        (value @ Value::Null, empty) => *value = empty.clone(),
        _ => {}
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

fn to_value<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|source| Error::Json("description", source))
}
