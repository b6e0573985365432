//! CycloneDX 1.5 as JSON (cyclonedx.org/docs/1.5/json).

use serde_json::{Value, json};

use crate::subject::known;
use crate::{Inventory, Subject};

/// The list of what is in an image. The same inventory of the same image gives the same bytes.
pub fn cyclonedx(subject: &Subject, inventory: &Inventory) -> Value {
    let system = &inventory.distribution;
    let system_component = known(&system.id).map(|id| {
        json!({
            "type": "operating-system",
            "bom-ref": "system",
            "name": id,
            "version": known(&system.version_id),
            "description": known(&system.pretty_name),
        })
    });
    let packages = inventory.packages.iter().enumerate().map(|(number, package)| {
        json!({
            "type": "library",
            "bom-ref": format!("package-{}-{number}", package.kind.as_str()),
            "name": package.name,
            "version": known(&package.version),
            "purl": package.purl(system),
            "licenses": package.license.as_ref().map(|license| json!([{"license": {"name": license}}])),
            "evidence": {"occurrences": [{"location": format!("/{}", package.found_in)}]},
        })
    });
    let components: Vec<Value> = system_component.into_iter().chain(packages).collect();
    let unread = inventory.unread.iter();
    let unread = unread.map(|u| json!({"name": "hoy:unread", "value": format!("/{}: {}", u.path, u.reason)}));
    let (tool, version) = &subject.tool;
    subject.document(
        "serialNumber",
        json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {
                "timestamp": subject.moment(),
                "tools": {"components": [{"type": "application", "name": tool, "version": version}]},
                "component": {
                    "type": "container",
                    "bom-ref": "image",
                    "name": subject.title(),
                    "version": subject.manifest.to_string(),
                    "purl": subject.purl(),
                    "hashes": [{"alg": "SHA-256", "content": subject.manifest.hex()}],
                },
            },
            "components": components,
            "dependencies": [{
                "ref": "image",
                "dependsOn": components.iter().filter_map(|component| component.get("bom-ref")).collect::<Vec<_>>(),
            }],
            "properties": unread.collect::<Vec<_>>(),
        }),
    )
}
