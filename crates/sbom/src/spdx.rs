//! SPDX 2.3 as JSON (spdx.github.io/spdx-spec/v2.3).

use serde_json::{Value, json};

use crate::subject::known;
use crate::{Inventory, Subject};

/// The list of what is in an image. The same inventory of the same image gives the same bytes.
pub fn spdx(subject: &Subject, inventory: &Inventory) -> Value {
    let purl = |purl: String| json!([{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}]);
    let relation = |from: &str, how: &str, to: &str| json!({"spdxElementId": from, "relationshipType": how, "relatedSpdxElement": to});
    let mut packages = vec![json!({
        "SPDXID": "SPDXRef-Image",
        "name": subject.title(),
        "versionInfo": subject.manifest.to_string(),
        "primaryPackagePurpose": "CONTAINER",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "checksums": [{"algorithm": "SHA256", "checksumValue": subject.manifest.hex()}],
        "externalRefs": purl(subject.purl()),
    })];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")];
    for (number, package) in inventory.packages.iter().enumerate() {
        let id = format!("SPDXRef-Package-{}-{number}", package.kind.as_str());
        relations.push(relation("SPDXRef-Image", "CONTAINS", &id));
        packages.push(json!({
            "SPDXID": id,
            "name": package.name,
            "versionInfo": known(&package.version),
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "sourceInfo": format!("named by /{}", package.found_in),
            // A maker's words are seldom an expression of SPDX, and no other is allowed where one belongs.
            "licenseComments": package.license.as_ref().map(|license| format!("declared: {license}")),
            "externalRefs": purl(package.purl(&inventory.distribution)),
        }));
    }
    let unread: Vec<_> = inventory.unread.iter().map(|u| format!("/{}: {}", u.path, u.reason)).collect();
    let (tool, version) = &subject.tool;
    subject.document(
        "documentNamespace",
        json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": subject.title(),
            "comment": known(&unread.join("; ")).map(|unread| format!("not read: {unread}")),
            "creationInfo": {"created": subject.moment(), "creators": [format!("Tool: {tool}-{version}")]},
            "packages": packages,
            "relationships": relations,
        }),
    )
}
