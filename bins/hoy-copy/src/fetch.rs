//! `hoy-copy fetch`: a file of a web server, with its digest.

use std::fs::Permissions;
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use hoy_cli::{Context, Error, Result, Stdout, print_line};
use hoy_oci::{Digest, Hasher};
use hoy_registry::RemoteFile;
use serde_json::json;

use crate::access::Access;
use crate::args::Global;
use crate::side::Retry;
use crate::words::parse_bool;

/// The longest address that is read from standard input, in bytes.
const MAX_ADDRESS_BYTES: u64 = 64 << 10;

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// The file's address, http:// or https://; - reads it from standard input, where nobody else sees it
    pub(crate) url: String,
    /// The file to write; - is standard output
    pub(crate) file: PathBuf,
    /// Fail if the file has another digest
    #[arg(long, value_name = "DIGEST")]
    pub(crate) checksum: Option<Digest>,
    /// Fail if the file is longer, as 500K, 10M or 16G (default: 16G)
    #[arg(long, value_name = "BYTES", default_value = "16G", hide_default_value = true)]
    pub(crate) max_size: Size,
    /// Directory of certificates: *.crt, *.cert, *.key
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Require a trusted certificate (default true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = parse_bool)]
    pub(crate) tls_verify: Option<bool>,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

/// A number of bytes, with K, M or G for powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let wrong = "want bytes, as 500K, 10M or 1G";
        let digits = text.trim_end_matches(['K', 'k', 'M', 'm', 'G', 'g']);
        let shift = match text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().as_str() {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            _ => return Err(wrong),
        };
        let number: u64 = digits.parse().map_err(|_| wrong)?;
        number.checked_mul(1 << shift).filter(|size| *size > 0).map(Self).ok_or(wrong)
    }
}

pub(crate) fn run(global: &Global, args: FetchArgs) -> Result<()> {
    let address = match args.url.as_str() {
        "-" => {
            let mut line = String::new();
            std::io::stdin().lock().take(MAX_ADDRESS_BYTES).read_line(&mut line).context(|| "read the address")?;
            line.trim_end().to_owned()
        }
        address => address.to_owned(),
    };
    let access = Access { cert_dir: args.cert_dir.clone(), tls_verify: args.tls_verify, ..Access::default() };
    let mut options = Access::options(global);
    options.tls = access.tls(host(&address), false);
    options.retry = args.retry.into();
    let mut attempt = 0;
    loop {
        let mut remote = RemoteFile::open(&address, options.clone())?;
        let doing = format!("fetch \"{}\"", remote.shown);
        let fetched = match args.file.as_path() {
            path if path == Path::new("-") => pass(&mut remote, &mut Stdout::new(), &args).map(drop),
            path => keep(&mut remote, path, &args),
        };
        let can_repeat = args.file != Path::new("-") && attempt < options.retry.times;
        match fetched {
            // A connection that broke on the way.
            Err(error) if can_repeat && error.is(is_broken) => {
                attempt += 1;
                std::thread::sleep(options.retry.wait(attempt));
            }
            other => return other.context(|| doing),
        }
    }
}

fn is_broken(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | TimedOut | UnexpectedEof)
}

/// The host in an address, with its port: certificates for it may lie in a directory of that name.
fn host(address: &str) -> &str {
    let place =
        address.split_once("://").map_or("", |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
    place.rsplit('@').next().unwrap_or_default()
}

/// Writes the file in one piece: under a name of its own first, so that no link at its place is followed.
fn keep(remote: &mut RemoteFile, path: &Path, args: &FetchArgs) -> Result<()> {
    let doing = || format!("write \"{}\"", path.display());
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new();
    // The umask has the last word.
    temporary.prefix(".tmp-").permissions(Permissions::from_mode(0o666));
    let mut temporary = temporary.tempfile_in(directory).context(doing)?;
    let modified = remote.modified;
    let (digest, size) = pass(remote, &mut temporary, args)?;
    temporary.persist(path).map_err(|error| error.error).context(doing)?;
    print_line(json!({"digest": digest.to_string(), "size": size, "modified": modified}))
}

/// Passes the bytes on; returns their digest and how many they are.
fn pass(remote: &mut RemoteFile, output: &mut dyn Write, args: &FetchArgs) -> Result<(Digest, u64)> {
    let Size(limit) = args.max_size;
    let too_long = || Error::msg(format!("it is longer than {limit} bytes")).with_hint("allow more with --max-size");
    if remote.size_bytes.is_some_and(|size| size > limit) {
        return Err(too_long());
    }
    let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0_u64, vec![0; 128 << 10]);
    loop {
        let count = remote.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        let part = buffer.get(..count).unwrap_or_default();
        size += count as u64;
        if size > limit {
            return Err(too_long());
        }
        hasher.update(part);
        output.write_all(part)?;
    }
    output.flush()?;
    let digest = hasher.finish();
    match args.checksum {
        Some(wanted) if wanted != digest => Err(Error::msg(format!("its digest is {digest}, and not {wanted}"))),
        _ => Ok((digest, size)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (address, want) in
            [("https://a:1/b@c", "a:1"), ("http://u:p@h?x", "h"), ("https://h#u@x", "h"), ("nothing", "")]
        {
            assert_eq!(host(address), want, "{address}");
        }
    }
}
