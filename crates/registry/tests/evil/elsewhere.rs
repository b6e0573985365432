//! What a registry names that is not itself, beyond one redirect: a second server tells whether a secret arrived.

use hoy_oci::{Digest, MediaType};

use crate::server::{Request, Server, answer};
use crate::{BASIC, behind_basic, blob, read, registry};

/// A server at another host that answers everything, which no secret may reach.
fn thief() -> Server {
    Server::start("127.0.0.2", |request, _| match request.line.split(' ').nth(1).unwrap() {
        path if path.contains("tags") => answer("200 OK", &[], br#"{"tags":["stolen"]}"#),
        path if path.contains("refuse") => answer("401 Unauthorized", &[BASIC], b""),
        _ => answer("200 OK", &[], b"cargo"),
    })
}

fn saw_secrets(server: &Server) -> bool {
    let is_secret = |request: &Request| {
        request.header("authorization").is_some()
            || request.line.contains("s3cret")
            || request.body.windows(6).any(|part| part == b"s3cret")
    };
    server.requests().iter().any(is_secret)
}

#[test]
fn pages_and_referrers_elsewhere_see_no_credentials() {
    let thief = thief();
    let next = format!("Link: <http://{}/v2/a/tags/list?last=b>; rel=\"next\"", thief.address);
    let home = behind_basic(move |request| match request.line.as_str() {
        line if line.contains("/tags/") => answer("200 OK", &[&next], br#"{"tags":["a","b"]}"#),
        _ => answer("404 Not Found", &[], b""),
    });
    // Whether the page is gone for or not: without a secret.
    let tags = registry(&home).tags("a");
    assert!(tags.is_err() || thief.requests().len() == 1, "{tags:?}");
    assert!(!saw_secrets(&thief) && home.requests().iter().any(|r| r.header("authorization").is_some()));
}

#[test]
fn a_redirect_through_home_and_back_shows_credentials_at_home_alone() {
    // home -> elsewhere -> home -> elsewhere, which then asks for credentials.
    let there = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let address = there.clone();
    let home = behind_basic(move |request| {
        let path = if request.line.contains("/back") { "refuse" } else { "first" };
        answer("307 Temporary Redirect", &[&format!("Location: http://{}/{path}", address.lock().unwrap())], b"")
    });
    let back = format!("Location: http://{}/back", home.address);
    let elsewhere = Server::start("127.0.0.2", move |request, _| {
        if request.line.contains("/refuse") {
            return answer("401 Unauthorized", &[BASIC, "WWW-Authenticate: Bearer realm=\"http://127.0.0.2/t\""], b"");
        }
        answer("307 Temporary Redirect", &[&back], b"")
    });
    there.lock().unwrap().clone_from(&elsewhere.address);
    assert!(read(&registry(&home), &blob(b"cargo")).unwrap_err().contains("Unauthorized"));
    assert_eq!(elsewhere.requests().len(), 2);
    assert!(!saw_secrets(&elsewhere));
    let asked = home.requests();
    let back: Vec<_> = asked.iter().filter(|r| r.line.contains("/back")).collect();
    assert!(back.len() == 1 && back[0].header("authorization").is_some(), "{asked:?}");
}

#[test]
fn content_that_is_sent_is_not_sent_on() {
    // A manifest or a blob that is being put goes where it was said to go, and to nobody that an answer names then.
    let thief = thief();
    let place = format!("Location: http://{}/take", thief.address);
    let home = behind_basic(move |request| match request.line.split(' ').next().unwrap() {
        "POST" => answer("202 Accepted", &["Location: /v2/a/blobs/uploads/1"], b""),
        "HEAD" => answer("404 Not Found", &[], b""),
        _ => answer("307 Temporary Redirect", &[&place], b""),
    });
    let registry = registry(&home);
    let content = b"cargo";
    assert!(registry.put_blob("a", &blob(content), &mut |_| Ok(Box::new(&content[..]))).is_err());
    let media_type = MediaType::from(MediaType::INDEX);
    assert!(registry.put_manifest("a", "1", &media_type, b"{}").is_err());
    assert!(!thief.requests().iter().any(|request| request.line.starts_with("PUT")), "{:?}", thief.requests());
    assert!(!saw_secrets(&thief));
}

#[test]
fn a_realm_that_only_looks_like_home_sees_no_credentials() {
    let thief = Server::start("127.0.0.2", |_, _| answer("200 OK", &[], b"{\"token\":\"t\"}"));
    let port = thief.address.rsplit_once(':').unwrap().1.to_owned();
    for realm in [
        format!("http://127.0.0.1:80@127.0.0.2:{port}/token"),
        format!("http://127.0.0.2.:{port}/token"),
        format!("http://127.0.0.2:{port}/127.0.0.1/token"),
        format!("HTTP://127.0.0.2:{port}#127.0.0.1"),
        format!("//127.0.0.2:{port}/token"),
        "/token".to_owned(),
        "file:///etc/passwd".to_owned(),
        format!("unix://127.0.0.2:{port}/"),
        String::new(),
    ] {
        let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"x\"");
        let home = Server::start("127.0.0.1", move |_, _| answer("401 Unauthorized", &[&challenge], b""));
        let home_registry = registry(&home);
        assert!(home_registry.manifest("a", "1").is_err(), "{realm}");
        assert!(home_registry.delete_manifest("a", &Digest::of(b"x")).is_err(), "{realm}");
        assert!(home.requests().iter().all(|r| r.header("authorization").is_none()), "{realm}");
    }
    assert_eq!(thief.requests().len(), 0);
}
