//! Who somebody is, by the word of an OpenID Connect provider: an ID token.

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hoy_cli::{Context, Error, Result};
use hoy_registry::{Answer, Question};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::Global;
use crate::signing_params::Fulcio;
use crate::web::{ask, said};

const FORM: &str = "application/x-www-form-urlencoded";
/// RFC 8628, 3.4.
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// How often a provider is asked that does not say how often it likes to be (RFC 8628, 3.2).
const USUAL_INTERVAL: u64 = 5;
/// The longest that somebody is waited for, whatever the provider says.
const MAX_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// A token, and whom it is about. Fulcio is who checks it; here it is read alone.
pub(crate) struct IdToken {
    pub(crate) text: String,
    /// The address, or what the provider knows somebody by.
    pub(crate) subject: String,
}

impl IdToken {
    /// Takes a token (RFC 7519).
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: &str| Error::msg(format!("read the ID token: {reason}"));
        let text = text.trim();
        let claims = text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims: Option<Value> = claims.and_then(|json| serde_json::from_slice(&json).ok());
        let claims = claims.ok_or_else(|| wrong("it is no JSON Web Token"))?;
        let claim = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let is_verified = || match claims.get("email_verified") {
            Some(Value::String(text)) => text == "true",
            other => other == Some(&Value::Bool(true)),
        };
        let subject = match claim("email") {
            Some(_) if !is_verified() => return Err(wrong("its provider has not verified the address in it")),
            Some(email) => email,
            None => claim("sub").ok_or_else(|| wrong("it says of nobody who they are"))?,
        };
        Ok(Self { text: text.to_owned(), subject: subject.to_owned() })
    }

    /// Has somebody say in a browser, anywhere, who they are (RFC 8628).
    pub(crate) fn by_device_grant(global: &Global, fulcio: &Fulcio) -> Result<Self> {
        let issuer = fulcio.issuer.as_deref().unwrap_or_default().trim_end_matches('/');
        let address = format!("{issuer}/.well-known/openid-configuration");
        let question = Question { address: &address, named_by: None, token: None, sends: None };
        let provider: Provider = content(&address, ask(global, question)?)?;
        if provider.issuer.trim_end_matches('/') != issuer {
            return Err(Error::msg(format!("ask \"{address}\": it answers for \"{}\"", provider.issuer)));
        }
        let post = |to: &str, fields: &[(&str, &str)]| {
            let client = fulcio.client.iter().map(|client| ("client_id", client.as_str()));
            let secret = fulcio.secret.iter().map(|secret| ("client_secret", secret.as_str()));
            let fields: Vec<_> = client.chain(secret).chain(fields.iter().copied()).collect();
            let form = Question::form(&fields);
            let sends = Some((FORM, form.as_bytes()));
            ask(global, Question { address: to, named_by: Some(&address), token: None, sends })
        };
        let at = &provider.device_authorization_endpoint;
        let grant: Grant = content(at, post(at, &[("scope", "openid email")])?)?;
        show(&grant)?;
        let end = Instant::now() + Duration::from_secs(grant.expires_in).min(MAX_PATIENCE);
        let mut interval = Duration::from_secs(grant.interval.unwrap_or(USUAL_INTERVAL).clamp(1, 60));
        let at = &provider.token_endpoint;
        while Instant::now() + interval < end {
            sleep(interval);
            let answer = post(at, &[("grant_type", DEVICE_CODE), ("device_code", &grant.device_code)])?;
            let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            match document.get("error").and_then(Value::as_str) {
                Some("authorization_pending") => {}
                Some("slow_down") => interval += Duration::from_secs(5),
                _ => return Self::parse(&content::<Tokens>(at, answer)?.id_token),
            }
        }
        Err(Error::msg(format!("log in at \"{}\": nobody did in time", grant.verification_uri)))
    }
}

/// OpenID Connect Discovery 1.0, what is needed of it.
#[derive(Deserialize)]
struct Provider {
    issuer: String,
    device_authorization_endpoint: String,
    token_endpoint: String,
}

/// RFC 8628, 3.2.
#[derive(Deserialize)]
struct Grant {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

/// Tells where to log in; the text is somebody else's, who shall not write to the terminal what they like.
fn show(grant: &Grant) -> Result<()> {
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(500).collect::<String>();
    let address = grant.verification_uri_complete.as_ref().unwrap_or(&grant.verification_uri);
    let text = format!("To sign, log in at {} with the code {}", clean(address), clean(&grant.user_code));
    writeln!(std::io::stderr(), "{text}").context(|| "tell where to log in")
}

/// The content of a good answer.
fn content<T: DeserializeOwned>(address: &str, answer: Answer) -> Result<T> {
    match answer.status {
        200..=299 => serde_json::from_slice(&answer.body).context(|| format!("read the answer of \"{address}\"")),
        _ => Err(Error::msg(format!("log in at \"{address}\": {}", said(&answer)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_who_somebody_is() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        for (claims, want) in [
            (r#"{"sub":"7","email":"a@b.c","email_verified":true}"#, "a@b.c"),
            (r#"{"sub":"7","email":"a@b.c","email_verified":"true"}"#, "a@b.c"),
            (r#"{"sub":"repo:a/b"}"#, "repo:a/b"),
        ] {
            assert_eq!(IdToken::parse(&token(claims)).unwrap().subject, want);
        }
        for claims in [r#"{"email":"a@b.c"}"#, r#"{"email":"a@b.c","email_verified":false}"#, "{}", "7", ""] {
            assert!(IdToken::parse(&token(claims)).is_err(), "{claims}");
        }
        assert!(IdToken::parse("").is_err() && IdToken::parse("a.%.b").is_err());
    }
}
