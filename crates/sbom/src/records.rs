//! Records that are paragraphs of text: dpkg's status, apk's database, os-release(5).

use crate::{Distribution, Kind, Package};

/// The packages that are installed (deb-control(5), dpkg-query(1) "Status").
pub(crate) fn dpkg(text: &str, path: &str) -> Vec<Package> {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let field = |name: &str| {
            let mut values = paragraph.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            values.next().map(str::trim).filter(|value| !value.is_empty())
        };
        // Images without dpkg have a file for each package, which says nothing of its state.
        let is_installed = field("Status").is_none_or(|status| status.ends_with(" installed"));
        let mut package = Package::new(Kind::Deb, field("Package")?, field("Version")?, path);
        package.architecture = field("Architecture").map(str::to_owned);
        // As in "glibc (2.36-9)".
        let source = field("Source").and_then(|source| source.split_whitespace().next());
        package.source = source.filter(|source| *source != package.name).map(str::to_owned);
        is_installed.then_some(package)
    });
    paragraphs.flatten().collect()
}

/// The packages that are installed (apk-tools, "Installed database").
pub(crate) fn apk(text: &str, path: &str) -> Vec<Package> {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let mut package = Package::new(Kind::Apk, &field("P:")?, &field("V:")?, path);
        package.architecture = field("A:");
        package.license = field("L:").filter(|license| !license.is_empty());
        package.source = field("o:").filter(|origin| *origin != package.name);
        Some(package)
    });
    paragraphs.flatten().collect()
}

/// Which system it is (os-release(5)).
pub(crate) fn os_release(text: &str) -> Distribution {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    Distribution { id: field("ID"), version_id: field("VERSION_ID"), pretty_name: field("PRETTY_NAME") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed() {
        let text = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\nSource: b (1)\n\
                    Description: x\n Package: no\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: plain\nVersion: 4\n\nVersion: 5\n";
        let found = dpkg(text, "p");
        let brief: Vec<_> = found.iter().map(|p| (p.name.as_str(), p.version.as_str(), p.source.as_deref())).collect();
        assert_eq!(brief, [("a", "1:2-3", Some("b")), ("plain", "4", None)]);
        let found = apk("C:x\nP:musl\nV:1.2-r0\nA:x86_64\nL:MIT\no:musl\n\nP:zlib-dev\nV:1\no:zlib\n", "p");
        let brief: Vec<_> =
            found.iter().map(|p| (p.name.as_str(), p.license.as_deref(), p.source.as_deref())).collect();
        assert_eq!(brief, [("musl", Some("MIT"), None), ("zlib-dev", None, Some("zlib"))]);
        let debian = os_release("PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID='12'\nID=debian\nID_LIKE=x\n");
        assert_eq!((debian.name().as_str(), debian.pretty_name.as_str()), ("debian-12", "Debian GNU/Linux 12"));
    }
}
