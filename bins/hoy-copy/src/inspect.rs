//! `hoy-copy inspect`.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use hoy_cli::{Error, Result, Stdout, Template, print_line};
use hoy_oci::{Descriptor, Digest, Document, ImageConfig, MAX_DOCUMENT_BYTES, Manifest, VerifyingReader};
use hoy_transport::{DockerSource, ImageName, Source, select_from};
use serde::Serialize;

use crate::args::{DigestAlgorithm, Global, InspectArgs};
use crate::{endpoint, names};

/// What skopeo prints of an image, in its order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspection {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    digest: String,
    repo_tags: Vec<String>,
    created: Option<String>,
    docker_version: String,
    labels: Option<BTreeMap<String, String>>,
    architecture: String,
    os: String,
    layers: Vec<String>,
    layers_data: Vec<LayerData>,
    env: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LayerData {
    #[serde(rename = "MIMEType")]
    mime_type: String,
    digest: String,
    size: u64,
    annotations: Option<BTreeMap<String, String>>,
}

/// Prints what an image is.
pub(crate) fn run(global: &Global, args: InspectArgs) -> Result<()> {
    let (access, retry) = (args.place.add_to(args.access.access(None)), args.retry.into());
    let name = names::to_read(global, &args.image, &access, retry)?;
    let (at_registry, elsewhere);
    let (source, home): (&dyn Source, _) = match &name {
        ImageName::Docker(reference) => {
            at_registry = DockerSource::at(reference.clone(), access.to_read(global, reference, retry)?);
            (&at_registry, at_registry.home())
        }
        _ => {
            elsewhere = endpoint::source(global, &name, &access, retry)?;
            (&*elsewhere, None)
        }
    };
    if args.raw && !args.config {
        return write_bytes(&source.root()?.bytes);
    }
    let platform = endpoint::platform(global);
    // The digest shown is that of what the name points to, an index included, as skopeo has it.
    let root = source.root()?;
    let digest = match args.manifest_digest {
        Some(DigestAlgorithm::Sha256) => Digest::of(&root.bytes),
        Some(DigestAlgorithm::Sha512) => Digest::sha512_of(&root.bytes),
        None => root.descriptor.digest,
    };
    let document = select_from(source, root, &platform)?;
    let manifest = match Document::parse(&document.descriptor.media_type, &document.bytes)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => return Err(Error::msg(format!("{} is an index of indexes", source.name()))),
    };
    let config = read_config(source, &manifest.config)?;
    if args.config && args.raw {
        return write_bytes(&config);
    }
    if args.config {
        let value: serde_json::Value = serde_json::from_slice(&config)?;
        return match &args.format {
            Some(format) => print_line(Template::parse(format)?.render(&value)?),
            None => print_line(escaped(indented(&String::from_utf8(config)?))),
        };
    }
    let mut shown = inspection(&manifest, &config)?;
    shown.digest = digest.to_string();
    if let ImageName::Docker(reference) = &name {
        shown.name = reference.name();
        if !args.no_tags {
            // The one that gave the image is known already: no greeting, and often no new connection.
            let other = home.is_none().then(|| access.registry(global, reference, retry)).transpose()?;
            // Some registries let nobody list tags; the image is there all the same.
            let tags = home.or(other.as_ref()).map(|registry| registry.tags(reference.repository()));
            shown.repo_tags = match tags.transpose() {
                Err(e) if e.is_unauthorized() || e.is_not_found() => Vec::new(),
                other => other?.unwrap_or_default(),
            };
        }
    }
    match &args.format {
        Some(format) => {
            let mut value = serde_json::to_value(&shown)?;
            // Left out of the JSON where there is none, but a template may ask for it.
            if let Some(fields) = value.as_object_mut() {
                fields.insert("Name".to_owned(), shown.name.clone().into());
            }
            if let Some(created) = value.get_mut("Created") {
                *created = shown.created.as_deref().map_or("<nil>".into(), |time| go_time(time).into());
            }
            print_line(Template::parse(format)?.render(&value)?)
        }
        None => print_line(go_json(&shown)?),
    }
}

fn inspection(manifest: &Manifest, config: &[u8]) -> Result<Inspection> {
    let config = ImageConfig::parse(config)?;
    let layer = |layer: &Descriptor| LayerData {
        mime_type: layer.media_type.to_string(),
        digest: layer.digest.to_string(),
        size: layer.size,
        annotations: Some(layer.annotations.clone()).filter(|a| !a.is_empty()),
    };
    Ok(Inspection {
        name: String::new(),
        digest: String::new(),
        repo_tags: Vec::new(),
        created: config.created.map(|time| time.to_string()),
        docker_version: config.other.get("docker_version").and_then(|v| v.as_str()).unwrap_or_default().to_owned(),
        labels: Some(config.config.labels).filter(|labels| !labels.is_empty()),
        architecture: config.architecture,
        os: config.os,
        layers: manifest.layers.iter().map(|layer| layer.digest.to_string()).collect(),
        layers_data: manifest.layers.iter().map(layer).collect(),
        env: Some(config.config.env).filter(|env| !env.is_empty()),
    })
}

pub(crate) fn read_config(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    if descriptor.size > MAX_DOCUMENT_BYTES {
        let (size, limit) = (descriptor.size, MAX_DOCUMENT_BYTES);
        return Err(hoy_oci::Error::TooLarge { kind: "image configuration", size, limit }.into());
    }
    let mut bytes = Vec::new();
    VerifyingReader::new(source.blob(descriptor, 0)?, descriptor).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn write_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = Stdout::new();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// JSON as Go indents and escapes it.
pub(crate) fn go_json(value: &impl Serialize) -> Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(escaped(String::from_utf8(bytes)?))
}

/// JSON without the characters that Go escapes; outside strings it has none of them.
fn escaped(text: String) -> String {
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Valid JSON indented by four spaces, its fields in the order they have.
fn indented(text: &str) -> String {
    let (mut out, mut depth, mut in_string, mut is_escaped) = (String::new(), 0usize, false, false);
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"    ".repeat(depth));
    };
    let mut chars = text.chars().filter(|c| !c.is_ascii_control()).peekable();
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            ' ' => {}
            '{' | '[' => {
                out.push(c);
                while chars.peek() == Some(&' ') {
                    chars.next();
                }
                if matches!(chars.peek(), Some('}' | ']')) {
                    out.extend(chars.next());
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}

/// A time as Go prints it in a template.
fn go_time(rfc3339: &str) -> String {
    format!("{} +0000 UTC", rfc3339.trim_end_matches('Z').replacen('T', " ", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped_as_go_does() {
        assert_eq!(go_json(&["a<b>&"]).unwrap(), "[\n    \"a\\u003cb\\u003e\\u0026\"\n]");
    }
    #[test]
    fn indentation_keeps_the_order() {
        let text = r#"{"b":{"x":[1,2],"e":[ ],"s":"a\"{,"},"a":{}}"#;
        let pretty = indented(text);
        let want = "{\n    \"b\": {\n        \"x\": [\n            1,\n            2\n        ],\n        \"e\": [],\n        \"s\": \"a\\\"{,\"\n    },\n    \"a\": {}\n}";
        assert_eq!(pretty, want);
        assert_eq!(go_time("2026-11-23T21:51:54.16Z"), "2026-11-23 21:51:54.16 +0000 UTC");
    }
}
