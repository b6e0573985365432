//! RPM's database, and the headers in it (rpm.org, "RPM V4 Package format").

use std::fs::File;

use crate::sqlite::{Column, Database};
use crate::{Kind, Package};

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const LICENSE: u32 = 1014;
const ARCHITECTURE: u32 = 1022;
const SOURCE: u32 = 1044;

/// The packages that are installed.
pub(crate) fn packages(file: &File, path: &str) -> Result<Vec<Package>, String> {
    let (mut found, mut damaged) = (Vec::new(), 0);
    Database::open(file)?.rows("Packages", |row| {
        if let [_, Column::Bytes(header)] = row {
            match package(header, path) {
                Some(package) => found.push(package),
                None => damaged += 1,
            }
        }
    })?;
    // A key that signs packages is kept as a package that has no files.
    found.retain(|package| package.name != "gpg-pubkey");
    if damaged == 0 { Ok(found) } else { Err(format!("headers of {damaged} packages are damaged")) }
}

fn package(header: &[u8], path: &str) -> Option<Package> {
    let text = |tag| match value(header, tag)? {
        Value::Text(text) => Some(text),
        Value::Number(_) => None,
    };
    let mut version = format!("{}-{}", text(VERSION)?, text(RELEASE)?);
    if let Some(Value::Number(epoch)) = value(header, EPOCH) {
        version = format!("{epoch}:{version}");
    }
    let mut package = Package::new(Kind::Rpm, &text(NAME)?, &version, path);
    package.architecture = text(ARCHITECTURE);
    package.license = text(LICENSE);
    package.source = text(SOURCE);
    Some(package)
}

enum Value {
    Text(String),
    Number(u32),
}

/// What a header says under a tag: the first value, if it is text or a number of 32 bits.
fn value(header: &[u8], tag: u32) -> Option<Value> {
    let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let count = usize::try_from(number(0)?).ok()?;
    let entries = header.get(8..)?.chunks_exact(16).take(count);
    let at = 8 + 16 * entries.clone().position(|entry| entry.starts_with(&tag.to_be_bytes()))?;
    let start = (8 + count.checked_mul(16)?).checked_add(usize::try_from(number(at + 8)?).ok()?)?;
    match number(at + 4)? {
        4 => number(start).map(Value::Number),
        // A string, or the first of several in several languages.
        6 | 8 | 9 => {
            let text = header.get(start..)?.split(|byte| *byte == 0).next()?;
            Some(Value::Text(String::from_utf8_lossy(text).into_owned()))
        }
        _ => None,
    }
}
