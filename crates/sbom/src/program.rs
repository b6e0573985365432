//! What compiled programs say of themselves: modules of Go, and crates where cargo-auditable listed them.

use std::fs::File;
use std::io::Read;

use object::{Object as _, ObjectSection as _, ReadCache};
use serde::Deserialize;

use crate::{Kind, Package};

/// The longest list that is read, unpacked.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// Before Go's list of modules, and after it.
const MARK_BYTES: usize = 16;

/// How Go's section begins (debug/buildinfo).
const GO_MAGIC: &[u8] = b"\xff Go buildinf:";

/// The packages that were built into an ELF file; a file that is damaged has none.
pub(crate) fn packages(file: &File, path: &str) -> Result<Vec<Package>, String> {
    let cache = ReadCache::new(file);
    let Ok(elf) = object::File::parse(&cache) else { return Ok(Vec::new()) };
    let section = |name: &str| {
        let section = elf.section_by_name(name).filter(|section| section.size() <= MAX_LIST_BYTES)?;
        section.data().ok()
    };
    let go = section(".go.buildinfo").and_then(go_list).map(|list| go(&list, path)).unwrap_or_default();
    let cargo = section(".dep-v0").map(|list| cargo(list, path)).unwrap_or(Ok(Vec::new()))?;
    Ok([go, cargo].concat())
}

/// The list of modules in Go's section: since Go 1.18 it follows the header.
fn go_list(section: &[u8]) -> Option<String> {
    let (flags, mut rest) = (section.strip_prefix(GO_MAGIC)?.get(1)?, section.get(32..)?);
    if flags & 2 == 0 {
        return None;
    }
    let mut text = || {
        let mut length = 0usize;
        for shift in (0..28).step_by(7) {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let (text, after) = rest.split_at_checked(length)?;
                rest = after;
                return Some(text);
            }
        }
        None
    };
    let _version = text()?;
    let list = text()?;
    let list = list.get(MARK_BYTES..list.len().checked_sub(MARK_BYTES)?)?;
    Some(String::from_utf8_lossy(list).into_owned())
}

/// The lines of the list: the program's own module, and those that it depends on; a replacement follows what it replaces.
fn go(list: &str, path: &str) -> Vec<Package> {
    let mut found: Vec<Package> = Vec::new();
    for line in list.lines() {
        let mut fields = line.split('\t');
        let (word, name, version) = (fields.next(), fields.next(), fields.next());
        let (Some(word @ ("mod" | "dep" | "=>")), Some(name)) = (word, name) else { continue };
        if word == "=>" {
            found.pop();
        }
        // What was built in a directory, and not from a release, is "(devel)".
        let version = version.filter(|version| *version != "(devel)").unwrap_or_default();
        found.push(Package::new(Kind::Golang, name, version, path));
    }
    found
}

/// What cargo-auditable writes, as far as it is of use here.
#[derive(Deserialize)]
struct Auditable {
    packages: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    /// `build` for what ran while the program was built and is not in it.
    #[serde(default)]
    kind: String,
}

fn cargo(section: &[u8], path: &str) -> Result<Vec<Package>, String> {
    let mut list = Vec::new();
    let reader = flate2::read::ZlibDecoder::new(section);
    reader.take(MAX_LIST_BYTES).read_to_end(&mut list).map_err(|e| format!("its list of crates is damaged: {e}"))?;
    let list: Auditable = serde_json::from_slice(&list).map_err(|e| format!("its list of crates is damaged: {e}"))?;
    let built_in = list.packages.iter().filter(|package| package.kind != "build");
    Ok(built_in.map(|package| Package::new(Kind::Cargo, &package.name, &package.version, path)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn modules_of_go() {
        let list = "path\tx\nmod\texample.org/x\t(devel)\t\ndep\ta/b\tv1.0.0\th1:x=\ndep\tc/d\tv2\n=>\te/f\tv3\th1:y=\nbuild\t-o=x\n";
        let mark = "0123456789abcdef";
        let marked = format!("{mark}{list}{mark}");
        let mut section = [GO_MAGIC, &[8, 2], &[0; 16], &[6], b"go1.22"].concat();
        section.extend([u8::try_from(marked.len() & 0x7f).unwrap() | 0x80, u8::try_from(marked.len() >> 7).unwrap()]);
        section.extend(marked.bytes());
        let found = go(&go_list(&section).unwrap(), "bin/x");
        let brief: Vec<_> = found.iter().map(|p| (p.name.as_str(), p.version.as_str())).collect();
        assert_eq!(brief, [("example.org/x", ""), ("a/b", "v1.0.0"), ("e/f", "v3")]);
        for end in 0..section.len() {
            assert!(go_list(&section[..end]).is_none(), "{end}");
        }
    }

    #[test]
    fn crates_that_were_built_in() {
        let json = br#"{"packages":[{"name":"a","version":"1.0.0","source":"crates.io"},{"name":"b","version":"2","kind":"build"}]}"#;
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(json).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(cargo(&packed, "x").unwrap(), [Package::new(Kind::Cargo, "a", "1.0.0", "x")]);
        assert!(cargo(&packed[..9], "x").is_err());
    }
}
