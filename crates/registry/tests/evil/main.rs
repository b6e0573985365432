//! What a registry can try against this client (CVES.md, section E), and what it gets.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod elsewhere;
mod server;

use std::io::Read;
use std::sync::{Arc, Mutex};

use hoy_oci::{Descriptor, Digest, MediaType, VerifyingReader};
use hoy_registry::{Credentials, Error, Options, Registry, Retry, Tls};
use server::{Request, Server, answer};

const BASIC: &str = "WWW-Authenticate: Basic realm=\"x\"";

fn registry(server: &Server) -> Registry {
    let mut options = Options::default();
    options.credentials = Some(Credentials::Password { user: "ann".to_owned(), password: "s3cret".to_owned() });
    options.tls = Tls { verify: false, ..Tls::default() };
    options.retry = Retry { times: 2, delay: Some(std::time::Duration::from_millis(10)) };
    Registry::new(&server.address, options)
}

/// Answers the probe and asks for basic credentials; what is asked for with them is answered by `act`.
fn behind_basic(act: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Server {
    Server::start("127.0.0.1", move |request, _| match request.header("authorization") {
        None => answer("401 Unauthorized", &[BASIC], b""),
        Some(_) => act(request),
    })
}

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::from(MediaType::LAYER), bytes)
}

fn read(registry: &Registry, wanted: &Descriptor) -> Result<Vec<u8>, String> {
    let reader = registry.blob("a", wanted, 0).map_err(|e| format!("{e:?}"))?;
    let mut bytes = Vec::new();
    VerifyingReader::new(reader, wanted).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// GHSA-vh4v, CVE-2026-49349.
#[test]
fn credentials_do_not_follow_a_redirect() {
    let content = b"cargo";
    let other = Server::start("127.0.0.2", move |request, _| {
        // It even asks for them.
        if request.header("authorization").is_none() && request.line.contains("greedy") {
            return answer("401 Unauthorized", &[BASIC], b"");
        }
        answer("200 OK", &[], content)
    });
    let location = format!("Location: http://{}/cdn", other.address);
    let greedy = format!("Location: http://{}/greedy", other.address);
    let kind = blob(content);
    let digest = kind.digest.to_string();
    let home = behind_basic(move |request| {
        let target = if request.line.contains(&digest) { &location } else { &greedy };
        answer("307 Temporary Redirect", &[target], b"")
    });
    let registry = registry(&home);
    assert_eq!(read(&registry, &kind).unwrap(), content);
    assert!(read(&registry, &blob(b"else")).unwrap_err().contains("Unauthorized"));
    assert_eq!(other.requests().len(), 2);
    assert!(other.requests().iter().all(|request| request.header("authorization").is_none()));
    assert!(home.requests().iter().any(|request| request.header("authorization").is_some()));
}

/// CVE-2026-48978.
#[test]
fn a_realm_elsewhere_sees_no_credentials() {
    let thief = Server::start("127.0.0.2", |_, _| answer("200 OK", &[], b"{\"token\":\"t\"}"));
    let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"x\"", thief.address);
    let home = Server::start("127.0.0.1", move |_, _| answer("401 Unauthorized", &[&challenge], b""));
    let error = registry(&home).manifest("a", "1").unwrap_err();
    assert!(format!("{error:?}").contains("Place"), "{error:?}");
    assert_eq!(thief.requests().len(), 0);
}

#[test]
fn a_realm_at_the_same_host_gives_a_token() {
    let manifest = br#"{"schemaVersion":2,"manifests":[]}"#;
    let tokens = Server::start("127.0.0.1", |request, _| {
        assert!(request.line.contains("scope=repository:a:pull") || request.line.contains("/v2/"), "{}", request.line);
        let expected = request.header("authorization").is_some_and(|value| value.starts_with("Basic "));
        if expected { answer("200 OK", &[], b"{\"token\":\"t0ken\"}") } else { answer("401 No", &[], b"") }
    });
    let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"x\"", tokens.address);
    let home = Server::start("127.0.0.1", move |request, _| match request.header("authorization") {
        Some("Bearer t0ken") => answer("200 OK", &[], manifest),
        Some(_) => answer("500 Wrong", &[], b""),
        None if request.line.starts_with("GET /v2/ ") => answer("200 OK", &[], b""),
        None => answer("401 Unauthorized", &[&challenge], b""),
    });
    let fetched = registry(&home).manifest("a", "1").unwrap();
    assert_eq!((fetched.bytes.as_slice(), fetched.descriptor.digest), (&manifest[..], Digest::of(manifest)));
    assert_eq!(fetched.descriptor.media_type.as_str(), MediaType::INDEX);
    let secrets = home.requests();
    assert!(secrets.iter().all(|r| r.header("authorization").is_none_or(|value| !value.starts_with("Basic"))));
}

/// CVE-2026-50151.
#[test]
fn an_upload_elsewhere_has_no_credentials() {
    let other = Server::start("127.0.0.2", |_, _| answer("201 Created", &[], b""));
    let location = format!("Location: http://{}/upload?state=1", other.address);
    let home = behind_basic(move |_| answer("202 Accepted", &[&location], b""));
    let content = b"cargo";
    registry(&home).put_blob("a", &blob(content), &mut |_| Ok(Box::new(&content[..]))).unwrap();
    let put = other.requests();
    assert_eq!(put.len(), 1);
    assert!(put[0].line.starts_with("PUT /upload?state=1&digest=sha256:"), "{}", put[0].line);
    assert_eq!((put[0].header("authorization"), put[0].header("content-length")), (None, Some("5")));
}

#[test]
fn a_401_loop_ends() {
    let home = Server::start("127.0.0.1", |_, _| answer("401 Unauthorized", &[BASIC], b""));
    let error = registry(&home).manifest("a", "1").unwrap_err();
    assert!(error.is_unauthorized(), "{error:?}");
    assert!(home.requests().len() <= 6, "{}", home.requests().len());
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[test]
fn redirects_end() {
    let home = Server::start("127.0.0.1", |_, count| answer("302 Found", &[&format!("Location: /v2/{count}")], b""));
    let error = registry(&home).manifest("a", "1").unwrap_err();
    assert!(format!("{error:?}").contains("again and again"), "{error:?}");
    let metadata = Server::start("127.0.0.1", |_, _| answer("302 Found", &["Location: http://169.254.169.254/"], b""));
    let error = registry(&metadata).manifest("a", "1").unwrap_err();
    assert!(format!("{error:?}").contains("Place"), "{error:?}");
}

#[test]
fn manifests_are_what_was_asked_for() {
    let body = br#"{"schemaVersion":2,"manifests":[]}"#;
    let home = Server::start("127.0.0.1", move |request, _| {
        let lie = format!("Docker-Content-Digest: {}", Digest::of(b"else"));
        let lies: &[&str] = if request.line.contains("/lie") { &[&lie] } else { &[] };
        answer("200 OK", lies, body)
    });
    let registry = registry(&home);
    assert!(registry.manifest("a", &Digest::of(body).to_string()).is_ok());
    for reference in [&Digest::of(b"other").to_string(), "lie"] {
        let error = registry.manifest("a", reference).unwrap_err();
        assert!(format!("{error:?}").contains("DigestMismatch"), "{error:?}");
    }
}

#[test]
fn a_manifest_has_a_limit() {
    let home = Server::start("127.0.0.1", |request, _| {
        if request.line.contains("/announced") {
            return b"HTTP/1.1 200 OK\r\nContent-Length: 5368709120\r\n\r\n{".to_vec();
        }
        let mut body = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
        body.resize(6 << 20, b' ');
        body
    });
    for reference in ["announced", "endless"] {
        let error = registry(&home).manifest("a", reference).unwrap_err();
        assert!(format!("{error:?}").contains("TooLarge"), "{error:?}");
    }
}

#[test]
fn old_and_unknown_images_are_refused() {
    let home = Server::start("127.0.0.1", |request, _| {
        let kind = if request.line.contains("/old") { "prettyjws" } else { "json" };
        let header = format!("Content-Type: application/vnd.docker.distribution.manifest.v1+{kind}");
        answer("200 OK", &[&header], b"{}")
    });
    for reference in ["old", "older"] {
        let error = registry(&home).manifest("a", reference).unwrap_err();
        assert!(format!("{error:?}").contains("Schema1"), "{error:?}");
    }
}

#[test]
fn wrong_and_short_blobs_fail() {
    let content: &[u8] = b"the cargo";
    let home = Server::start("127.0.0.1", move |request, _| {
        if request.line.contains(&Digest::of(content).to_string()) {
            let mut cut = answer("200 OK", &[], content);
            cut.truncate(cut.len() - 4);
            return cut;
        }
        answer("200 OK", &[], content)
    });
    let registry = registry(&home);
    let error = read(&registry, &blob(content)).unwrap_err();
    assert!(error.contains("has 5 bytes, wanted 9"), "{error}");
    let mut wanted = blob(b"something");
    assert!(read(&registry, &wanted).unwrap_err().contains("has digest"));
    wanted.size = 3;
    assert!(read(&registry, &wanted).unwrap_err().contains("bytes, wanted 3"));
}

#[test]
fn a_broken_download_is_taken_up_where_it_broke() {
    let content: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
    let whole = content.clone();
    let home = Server::start("127.0.0.1", move |request, _| match request.header("range") {
        None => {
            let mut cut = answer("200 OK", &[], &whole);
            cut.truncate(cut.len() / 2);
            cut
        }
        Some(range) => {
            let from: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
            answer("206 Partial Content", &[], &whole[from..])
        }
    });
    assert!(read(&registry(&home), &blob(&content)).unwrap() == content);
    assert_eq!(home.requests().iter().filter(|r| r.header("range").is_some()).count(), 1);
}

#[test]
fn a_broken_upload_goes_on_at_the_offset_that_the_registry_tells() {
    let content: Vec<u8> = (0..10_000_000u32).map(|i| (i / 3) as u8).collect();
    // What has arrived, and for which offset each part was meant.
    let arrived: Arc<Mutex<Vec<u8>>> = Arc::default();
    let log = arrived.clone();
    let seen: Arc<Mutex<usize>> = Arc::default();
    let home = Server::cutting("127.0.0.1", 4 << 20, move |request, _| {
        let mut arrived = log.lock().unwrap();
        let mut seen = seen.lock().unwrap();
        match request.line.split(' ').next().unwrap() {
            "POST" => answer("202 Accepted", &["Location: /v2/a/blobs/uploads/1"], b""),
            "GET" if request.line.contains("/uploads/1") => {
                // Each cut part has brought 4 MiB, of which this registry has lost the last one.
                *seen += (4 << 20) - 1;
                let range = format!("Range: 0-{}", *seen - 1);
                answer("204 No Content", &[&range, "Location: /v2/a/blobs/uploads/1"], b"")
            }
            "PATCH" => {
                arrived.extend_from_slice(&request.body);
                let first: usize = request.header("content-range").unwrap().split('-').next().unwrap().parse().unwrap();
                assert_eq!(first, *seen);
                answer("202 Accepted", &["Location: /v2/a/blobs/uploads/2"], b"")
            }
            "PUT" => {
                assert!(request.line.contains("/uploads/2?digest=sha256:"), "{}", request.line);
                answer("201 Created", &[], b"")
            }
            _ => answer("200 OK", &[], b""),
        }
    });
    let (bytes, mut opened) = (content.clone(), Vec::new());
    let mut open = |offset: u64| {
        opened.push(offset);
        Ok(Box::new(std::io::Cursor::new(bytes[offset as usize..].to_vec())) as Box<dyn Read>)
    };
    registry(&home).put_blob("a", &blob(&content), &mut open).unwrap();
    assert_eq!(opened, [0, (4 << 20) - 1, 2 * ((4 << 20) - 1)]);
    assert!(*arrived.lock().unwrap() == content[2 * ((4 << 20) - 1)..], "the last part came whole");
}

#[test]
fn an_upload_that_the_registry_says_is_longer_than_the_blob_is_begun_anew() {
    let content = vec![7; 5 << 20];
    let home = Server::cutting("127.0.0.1", 1 << 20, move |request, _| match request.line.split(' ').next().unwrap() {
        "POST" => answer("202 Accepted", &["Location: /v2/a/blobs/uploads/1"], b""),
        "GET" => answer("204 No Content", &["Range: 0-18446744073709551614", "Location: /x"], b""),
        _ => answer("200 OK", &[], b""),
    });
    let mut offsets = Vec::new();
    let sent = registry(&home).put_blob("a", &blob(&content), &mut |offset| {
        offsets.push(offset);
        Ok(Box::new(std::io::repeat(7).take(5 << 20)))
    });
    assert!(sent.is_err() && offsets.iter().all(|offset| *offset == 0), "{offsets:?}");
}

#[test]
fn a_download_goes_on_at_an_offset_and_lies_about_it_are_seen() {
    let home = Server::start("127.0.0.1", |request, _| match request.header("range") {
        Some("bytes=4-") if request.line.contains("/b/") => {
            answer("206 Partial Content", &["Content-Range: bytes 0-8/9"], b"the cargo")
        }
        Some("bytes=4-") if request.line.contains("/c/") => answer("200 OK", &[], b"the cargo"),
        Some("bytes=4-") => answer("206 Partial Content", &["Content-Range: bytes 4-8/9"], b"cargo"),
        _ => answer("404 Not Found", &[], b""),
    });
    let wanted = blob(b"the cargo");
    let registry = registry(&home);
    let read = |repository: &str| {
        let mut bytes = Vec::new();
        registry.blob(repository, &wanted, 4).map(|mut reader| reader.read_to_end(&mut bytes).unwrap()).map(|_| bytes)
    };
    assert_eq!(read("a").unwrap(), b"cargo");
    assert_eq!(read("c").unwrap(), b"cargo", "a server without ranges sends all");
    assert!(format!("{:?}", read("b").unwrap_err()).contains("another part"));
}

#[test]
fn a_cut_every_few_bytes_is_borne_and_no_progress_is_not() {
    let content: Vec<u8> = (0..9_000_000u32).map(|i| (i / 5) as u8).collect();
    let whole = content.clone();
    let home = Server::start("127.0.0.1", move |request, _| {
        let range = request.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = range.unwrap_or(0);
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let mut cut = answer(status, &[], &whole[from..]);
        // Headers and a little more than a MiB; nothing at all near the end of another repository's.
        let stuck = request.line.contains("/stuck/") && from > 4_000_000;
        cut.truncate(if stuck { 90 } else { 1_100_000 });
        cut
    });
    assert!(read(&registry(&home), &blob(&content)).unwrap() == content, "eight cuts with two tries each");
    let reader = registry(&home).blob("stuck", &blob(&content), 0).unwrap();
    let mut bytes = Vec::new();
    assert!(VerifyingReader::new(reader, &blob(&content)).read_to_end(&mut bytes).is_err());
    assert!(home.requests().iter().filter(|r| r.line.contains("/stuck/")).count() < 12);
}

#[test]
fn a_dripping_registry_is_left() {
    let home = Server::dripping("127.0.0.1", std::time::Duration::from_millis(20), |request, _| {
        if request.line.contains("/v2/ ") {
            return answer("200 OK", &[], b"");
        }
        let mut slow = answer("200 OK", &[], br#"{"schemaVersion":2,"manifests":[]}"#);
        slow.resize(slow.len() + 10_000, b' ');
        slow
    });
    let mut options = Options::default();
    options.tls = Tls { verify: false, ..Tls::default() };
    options.retry = Retry { times: 1, delay: Some(std::time::Duration::ZERO) };
    options.patience = std::time::Duration::from_millis(100);
    let registry = Registry::new(&home.address, options);
    let start = std::time::Instant::now();
    assert!(registry.manifest("a", "1").is_err());
    assert!(read(&registry, &blob(&[b' '; 10_000])).is_err());
    // All of it would take more than six minutes.
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn a_length_that_lies_is_seen() {
    let content: &[u8] = b"the cargo";
    let home = Server::start("127.0.0.1", move |request, _| {
        let length = if request.line.contains("/less/") { 5 } else { 50 };
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), content].concat()
    });
    let registry = registry(&home);
    for repository in ["less", "more"] {
        let reader = registry.blob(repository, &blob(content), 0).unwrap();
        let mut bytes = Vec::new();
        let read = VerifyingReader::new(reader, &blob(content)).read_to_end(&mut bytes);
        // Whoever announces more sends the blob all the same; then nothing is wrong with it.
        assert!(read.is_err() || bytes == content, "{repository}");
        assert!(repository == "more" || read.is_err());
        assert!(registry.manifest(repository, "1").is_err());
    }
}

#[test]
fn a_compressed_answer_is_not_unpacked() {
    // Were it, a small answer could become any number of bytes.
    let home = Server::start("127.0.0.1", |_, _| {
        let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0];
        answer("200 OK", &["Content-Encoding: gzip"], &gzip)
    });
    let error = registry(&home).manifest("a", "1").unwrap_err();
    assert!(format!("{error:?}").contains("Json"), "{error:?}");
    assert!(home.requests().iter().all(|r| r.header("accept-encoding").is_none_or(|v| v == "identity")));
}

#[test]
fn a_token_server_that_points_elsewhere_is_not_followed() {
    let thief = Server::start("127.0.0.2", |_, _| answer("200 OK", &[], b"{\"token\":\"t\"}"));
    let elsewhere = format!("Location: http://{}/token", thief.address);
    let tokens = Server::start("127.0.0.1", move |_, _| answer("302 Found", &[&elsewhere], b""));
    let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"", tokens.address);
    let home = Server::start("127.0.0.1", move |_, _| answer("401 Unauthorized", &[&challenge], b""));
    assert!(registry(&home).manifest("a", "1").is_err());
    assert_eq!(thief.requests().len(), 0);
}

#[test]
fn a_large_upload_elsewhere_has_no_credentials() {
    let content = vec![3; 5 << 20];
    let next = Arc::new(Mutex::new(String::new()));
    let place = next.clone();
    let other = Server::start("127.0.0.2", move |request, _| {
        let location = format!("Location: {}", place.lock().unwrap());
        if request.line.starts_with("PATCH") {
            answer("202 Accepted", &[&location], b"")
        } else {
            answer("201 Created", &[], b"")
        }
    });
    *next.lock().unwrap() = format!("http://{}/third", other.address);
    let first = format!("Location: http://{}/second", other.address);
    let home = behind_basic(move |_| answer("202 Accepted", &[&first], b""));
    let mut open = |_| Ok(Box::new(std::io::repeat(3).take(5 << 20)) as Box<dyn Read>);
    registry(&home).put_blob("a", &blob(&content), &mut open).unwrap();
    let requests = other.requests();
    assert_eq!(requests.iter().map(|r| r.line.split(' ').next().unwrap()).collect::<Vec<_>>(), ["PATCH", "PUT"]);
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn lists_are_what_they_say() {
    let home = Server::start("127.0.0.1", |request, _| match request.line.as_str() {
        line if line.contains("/loop/") => {
            answer("200 OK", &["Link: </v2/loop/tags/list>; rel=next"], b"{\"tags\":[]}")
        }
        line if line.contains("/referrers/") => {
            answer("200 OK", &["Content-Type: application/vnd.oci.image.index.v1+json"], b"{\"manifests\":[{}]}")
        }
        line if line.contains("_catalog") => answer("200 OK", &[], b"{"),
        _ => answer("200 OK", &[], b""),
    });
    let registry = registry(&home);
    assert_eq!(registry.tags("loop").unwrap(), [""; 0], "a page that is its own next one is the last");
    assert!(registry.referrers("a", &Digest::of(b"x")).is_err());
    assert!(registry.catalog().is_err());
}

#[test]
fn patience_has_a_limit() {
    let home = Server::start("127.0.0.1", |request, _| {
        if request.line.contains("/v2/ ") {
            return answer("200 OK", &[], b"");
        }
        answer("503 Down", &["Retry-After: 86400"], b"")
    });
    let start = std::time::Instant::now();
    assert!(registry(&home).manifest("a", "1").unwrap_err().is_temporary());
    assert_eq!(home.requests().iter().filter(|r| r.line.contains("manifests")).count(), 1, "asked again never");
    assert!(start.elapsed() < std::time::Duration::from_secs(3600));
}

#[test]
fn busy_registries_are_asked_again() {
    let body = br#"{"schemaVersion":2,"manifests":[]}"#;
    let home = Server::start("127.0.0.1", move |request, count| match count {
        _ if request.line.starts_with("GET /v2/ ") => answer("200 OK", &[], b""),
        0..=1 => answer("429 Too Many Requests", &["Retry-After: 0"], b""),
        _ => answer("200 OK", &[], body),
    });
    assert!(registry(&home).manifest("a", "1").is_ok());
    let down = Server::start("127.0.0.1", |_, _| answer("503 Down", &[], br#"{"errors":[{"message":"tired"}]}"#));
    let error = registry(&down).manifest("a", "1").unwrap_err();
    assert!(format!("{error:?}").contains("tired") && error.is_temporary(), "{error:?}");
}

#[test]
fn pages_of_tags_end() {
    let home = Server::start("127.0.0.1", |request, _| {
        if request.line.contains("last=b") {
            return answer("200 OK", &[], br#"{"tags":["c"]}"#);
        }
        let next = "Link: </v2/a/tags/list?last=b>; rel=\"next\"";
        answer("200 OK", &[next], br#"{"name":"a","tags":["a","b"]}"#)
    });
    assert_eq!(registry(&home).tags("a").unwrap(), ["a", "b", "c"]);
    let elsewhere = Server::start("127.0.0.1", |_, _| {
        answer("200 OK", &["Link: <http://169.254.169.254/x>; rel=next"], br#"{"tags":null}"#)
    });
    assert!(matches!(registry(&elsewhere).tags("a"), Err(Error::Doing { .. })));
}

/// CVE-2021-32690, CVE-2014-5277.
#[test]
fn plain_http_is_refused_unless_allowed() {
    let home = Server::start("127.0.0.1", |_, _| answer("200 OK", &[], b"{}"));
    let error = Registry::new(&home.address, Options::default()).manifest("a", "1").unwrap_err();
    assert!(format!("{error:?}").contains("PlainHttp"), "{error:?}");
    assert_eq!(home.requests().len(), 0, "nothing was said in the clear");
}
