//! Simple signatures: OpenPGP messages, checked by gpgv(1) and made by gpg(1).
//!
//! The keys that sign are in the user's keyring, behind gpg-agent, where only gpg gets at them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoy_sys::command::with_limits;

use crate::payload::MAX_PAYLOAD_BYTES;
use crate::{Error, Result};

/// The longest signature that is looked at, in bytes.
const MAX_SIGNATURE_BYTES: usize = 1 << 20;
/// How long gpgv may work on one, in seconds of processor time: it may be compressed, over and over.
const MAX_SECONDS: u64 = 10;

/// What a signature signs, and the fingerprint of the key that did; `keys` are exported keyrings, armoured or not.
///
/// # Errors
/// When it is not exactly one good signature by one of the keys, which has neither expired nor been revoked.
pub fn check(signature: &[u8], keys: &[Vec<u8>]) -> Result<(Vec<u8>, String)> {
    if signature.len() > MAX_SIGNATURE_BYTES {
        return Err(Error::refused("the signature is too long"));
    }
    let dir = directory()?;
    let at = |name: &str| dir.path().join(name);
    let mut ring = Vec::new();
    for key in keys {
        ring.extend(binary(key)?);
    }
    write(&at("ring"), &ring)?;
    write(&at("signature"), signature)?;
    let mut command = Command::new("gpgv");
    command.arg("--homedir").arg(dir.path()).arg("--keyring").arg(at("ring")).args(["--status-fd", "1"]);
    with_limits(&mut command, 2 * MAX_PAYLOAD_BYTES as u64, MAX_SECONDS);
    let output = run("gpgv", command.arg("--output").arg(at("text")).arg(at("signature")), &[])?;
    let fingerprint = good_signature(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.status.success());
    let fingerprint =
        fingerprint.ok_or_else(|| Error::refused("Invalid GPG signature: it is not a good one by a trusted key"))?;
    let size = std::fs::metadata(at("text")).map_err(Error::file("read", &at("text")))?.len();
    if size > MAX_PAYLOAD_BYTES as u64 {
        return Err(Error::refused("the signed text is too long"));
    }
    Ok((std::fs::read(at("text")).map_err(Error::file("read", &at("text")))?, fingerprint))
}

/// The fingerprint of the key, if gpgv's status tells of one signature and all that it says of it is good.
fn good_signature(status: &str) -> Option<String> {
    let (mut new, mut good, mut valid) = (0, 0, None);
    for line in status.lines() {
        let mut words = line.strip_prefix("[GNUPG:] ")?.split(' ');
        match words.next()? {
            "NEWSIG" => new += 1,
            "GOODSIG" => good += 1,
            "VALIDSIG" => {
                // The last word is the primary key's fingerprint.
                let fingerprint = words.next_back()?.to_owned();
                if valid.replace(fingerprint).is_some() {
                    return None;
                }
            }
            "BADSIG" | "ERRSIG" | "EXPSIG" | "EXPKEYSIG" | "REVKEYSIG" | "KEYEXPIRED" | "KEYREVOKED" | "NODATA"
            | "NO_PUBKEY" | "UNEXPECTED" | "FAILURE" | "ERROR" => return None,
            _ => {}
        }
    }
    valid.filter(|_| new == 1 && good == 1)
}

/// Signs `text` with the key of this fingerprint or address from the user's keyring, unlocked by the passphrase or by whatever
/// gpg-agent has.
///
/// # Errors
/// When gpg cannot.
pub fn sign(text: &[u8], key: &str, passphrase: Option<&str>) -> Result<Vec<u8>> {
    is_key(key)?;
    sign_at(None, text, key, passphrase)
}

/// Signs `text` with this exported private key, which gets into nobody's keyring.
///
/// # Errors
/// When gpg cannot.
pub fn sign_with(text: &[u8], key: &[u8], passphrase: Option<&str>) -> Result<Vec<u8>> {
    let home = directory()?;
    let gpg = || {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--no-tty", "--homedir"]).arg(home.path());
        command
    };
    let signature = run("gpg", gpg().arg("--import"), key).and_then(|imported| {
        let listed = run("gpg", gpg().args(["--list-secret-keys", "--with-colons"]), &[])?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:")?.split(':').find(|f| !f.is_empty()));
        let none = || Error::refused(format!("gpg cannot take the key: {}", last_line(&imported.stderr)));
        sign_at(Some(home.path()), text, fingerprint.ok_or_else(none)?, passphrase)
    });
    // gpg has started an agent for the directory, which goes.
    let stopped =
        run("gpgconf", Command::new("gpgconf").arg("--homedir").arg(home.path()).args(["--kill", "all"]), &[]);
    signature.and_then(|signature| stopped.map(|_| signature))
}

fn sign_at(home: Option<&Path>, text: &[u8], key: &str, passphrase: Option<&str>) -> Result<Vec<u8>> {
    let dir = directory()?;
    let path = dir.path().join("text");
    write(&path, text)?;
    let mut command = Command::new("gpg");
    if let Some(home) = home {
        command.arg("--homedir").arg(home);
    }
    command.args(["--batch", "--no-tty", "--local-user", key]);
    if passphrase.is_some() {
        command.args(["--pinentry-mode", "loopback", "--passphrase-fd", "0"]);
    }
    let command = command.args(["--output", "-", "--sign"]).arg(&path);
    let output = run("gpg", command, passphrase.unwrap_or_default().as_bytes())?;
    if output.status.success() && !output.stdout.is_empty() {
        return Ok(output.stdout);
    }
    Err(Error::refused(format!("gpg does not sign with key {key}: {}", last_line(&output.stderr))))
}

/// The last of what a program said.
fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    said.lines().last().unwrap_or_default().chars().filter(|c| !c.is_control()).collect()
}

/// The public key of this fingerprint or address from the user's keyring.
///
/// # Errors
/// When gpg has none.
pub fn export(key: &str) -> Result<Vec<u8>> {
    is_key(key)?;
    let output = run("gpg", Command::new("gpg").args(["--batch", "--no-tty", "--export", key]), &[])?;
    if output.status.success() && !output.stdout.is_empty() {
        return Ok(output.stdout);
    }
    Err(Error::refused(format!("gpg has no key {key}")))
}

fn is_key(text: &str) -> Result<()> {
    // gpg would take it for an option, or for no key in particular.
    if text.is_empty() || text.starts_with('-') {
        return Err(Error::refused(format!("\"{text}\" is neither a fingerprint nor an address of a key")));
    }
    Ok(())
}

/// A keyring as gpgv reads it: without armour.
fn binary(key: &[u8]) -> Result<Vec<u8>> {
    let wrong = || Error::form("read a keyring", "its armour is damaged");
    let Some(text) = std::str::from_utf8(key).ok().filter(|text| text.contains("-----BEGIN PGP")) else {
        return Ok(key.to_vec());
    };
    let mut all = Vec::new();
    for block in text.split("-----BEGIN PGP PUBLIC KEY BLOCK-----").skip(1) {
        let (body, _) = block.split_once("-----END PGP PUBLIC KEY BLOCK-----").ok_or_else(wrong)?;
        let body = body.replace("\r\n", "\n");
        // Fields end with an empty line; the checksum begins with '='.
        let (_, body) = body.split_once("\n\n").ok_or_else(wrong)?;
        let data: String = body.lines().map(str::trim).filter(|line| !line.starts_with('=')).collect();
        all.extend(STANDARD.decode(data).map_err(|_| wrong())?);
    }
    if all.is_empty() { Err(Error::form("read a keyring", "it holds no public key")) } else { Ok(all) }
}

fn directory() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(Error::file("make a directory in", &std::env::temp_dir()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(Error::file("write", path))
}

fn run(program: &'static str, command: &mut Command, input: &[u8]) -> Result<Output> {
    let wrong = |source| Error::Program { program, source };
    let command = command.env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(wrong)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read its input says so by how it ends.
        pipe.write_all(input).unwrap_or_default();
    }
    child.wait_with_output().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_signature_and_nothing_else() {
        let good = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 1 x\n[GNUPG:] VALIDSIG A 2 3 4 0 1 8 00 B\n";
        assert_eq!(good_signature(good).as_deref(), Some("B"));
        for bad in [
            String::new(),
            good.repeat(2),
            good.replace("GOODSIG", "EXPKEYSIG"),
            format!("{good}[GNUPG:] NEWSIG\n"),
            format!("{good}[GNUPG:] REVKEYSIG 1 x\n"),
            format!("{good}something\n"),
            good.replace("[GNUPG:] VALIDSIG A 2 3 4 0 1 8 00 B\n", ""),
        ] {
            assert_eq!(good_signature(&bad), None, "{bad}");
        }
    }
}
