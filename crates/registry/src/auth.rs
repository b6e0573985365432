//! Answering a registry's challenges (distribution: token authentication, RFC 7617).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::Uri;

use crate::challenge::Challenge;
use crate::url::{Origin, Purpose, check_place, escape, with_query};
use crate::{Error, Result};

/// How long a token is used that does not say how long it lasts (distribution: "expires_in").
const DEFAULT_LIFE_SECONDS: u64 = 60;
/// The longest answer of a token server that is read, in bytes.
pub(crate) const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// Who somebody is at a registry. Its debug form shows no secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// A user and a password.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: String,
    },
    /// What a token server gave at a login; it exchanges it for tokens.
    IdentityToken(String),
    /// A bearer token, sent as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user})"),
            Self::IdentityToken(_) => f.write_str("IdentityToken"),
            Self::RegistryToken(_) => f.write_str("RegistryToken"),
        }
    }
}

/// What a request to a token server needs.
pub(crate) struct TokenRequest {
    pub(crate) uri: Uri,
    pub(crate) origin: Origin,
    /// The `Authorization` header's value.
    pub(crate) authorization: Option<String>,
    /// A form to post; without one the request is a GET.
    pub(crate) form: Option<String>,
}

/// The credentials for one registry and the tokens they brought.
pub(crate) struct Auth {
    credentials: Option<Credentials>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    use_basic: bool,
    tokens: HashMap<String, (String, Instant)>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

impl Auth {
    pub(crate) fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one assignment: a thread that died left it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `Authorization` value for a request with these scopes, as far as it is known.
    pub(crate) fn header(&self, scopes: &[String]) -> Option<String> {
        if let Some(Credentials::RegistryToken(token)) = &self.credentials {
            return Some(format!("Bearer {token}"));
        }
        let state = self.state();
        if state.use_basic {
            return self.basic();
        }
        let (token, until) = state.tokens.get(&scopes.join(" "))?;
        (Instant::now() < *until).then(|| format!("Bearer {token}"))
    }

    fn basic(&self) -> Option<String> {
        let Some(Credentials::Password { user, password }) = &self.credentials else { return None };
        Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    /// What to do about the challenges in an answer 401: nothing more (the next [`Auth::header`] has it), or ask for a
    /// token.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when there is nothing to show, [`Error::Place`] for a realm that is not gone to.
    pub(crate) fn answer(
        &self,
        host: &str,
        registry: &Origin,
        challenges: &[Challenge],
        scopes: &[String],
    ) -> Result<Option<TokenRequest>> {
        let unauthorized = || Error::Unauthorized(host.to_owned());
        let find = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        if matches!(self.credentials, Some(Credentials::RegistryToken(_))) {
            return Err(unauthorized());
        }
        if let Some(bearer) = find("bearer") {
            return self.token_request(registry, bearer, scopes).map(Some);
        }
        if find("basic").is_some() && self.basic().is_some() {
            self.state().use_basic = true;
            return Ok(None);
        }
        Err(unauthorized())
    }

    fn token_request(&self, registry: &Origin, bearer: &Challenge, scopes: &[String]) -> Result<TokenRequest> {
        let realm = bearer.get("realm").ok_or(Error::Protocol("its bearer challenge has no realm"))?;
        let mut uri: Uri = realm.parse().map_err(|_| Error::Protocol("its realm is no address"))?;
        let origin = check_place(&uri, registry, Purpose::Token)?;
        let wanted: Vec<&str> = match (scopes, bearer.get("scope")) {
            ([], Some(scope)) => vec![scope],
            (scopes, _) => scopes.iter().map(String::as_str).collect(),
        };
        let mut parameters: Vec<String> = Vec::new();
        parameters.extend(bearer.get("service").map(|service| format!("service={}", escape(service))));
        if let Some(Credentials::IdentityToken(token)) = &self.credentials {
            parameters.extend((!wanted.is_empty()).then(|| format!("scope={}", escape(&wanted.join(" ")))));
            parameters.extend(["grant_type=refresh_token".to_owned(), "client_id=hoy".to_owned()]);
            parameters.push(format!("refresh_token={}", escape(token)));
            return Ok(TokenRequest { uri, origin, authorization: None, form: Some(parameters.join("&")) });
        }
        parameters.extend(wanted.iter().map(|scope| format!("scope={}", escape(scope))));
        if let Some(Credentials::Password { user, .. }) = &self.credentials {
            parameters.push(format!("account={}", escape(user)));
        }
        for parameter in &parameters {
            uri = with_query(&uri, parameter)?;
        }
        Ok(TokenRequest { uri, origin, authorization: self.basic(), form: None })
    }

    /// Keeps the token of a token server's answer.
    pub(crate) fn accept(&self, scopes: &[String], answer: &[u8]) -> Result<()> {
        let answer: TokenAnswer =
            serde_json::from_slice(answer).map_err(|_| Error::Protocol("the token server's answer is no token"))?;
        let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
        if token.is_empty() || !token.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(Error::Protocol("the token server's answer is no token"));
        }
        // A little less than it lasts, for the clocks and the way; a day is longer than any command.
        let life = answer.expires_in.unwrap_or(DEFAULT_LIFE_SECONDS).clamp(DEFAULT_LIFE_SECONDS, 86_400) * 9 / 10;
        let until = Instant::now() + Duration::from_secs(life);
        self.state().tokens.insert(scopes.join(" "), (token, until));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(credentials: Option<Credentials>) -> Auth {
        Auth::new(credentials)
    }

    fn password() -> Option<Credentials> {
        Some(Credentials::Password { user: "ann".to_owned(), password: "s3cret".to_owned() })
    }

    fn ask(auth: &Auth, header: &str, scopes: &[&str]) -> Result<Option<TokenRequest>> {
        let registry = Origin::of(&"https://r.x".parse().unwrap()).unwrap();
        let scopes: Vec<String> = scopes.iter().map(|s| (*s).to_owned()).collect();
        auth.answer("r.x", &registry, &Challenge::parse_all(header), &scopes)
    }

    #[test]
    fn basic_is_sent_only_when_asked_for() {
        let auth = auth(password());
        assert_eq!(auth.header(&[]), None);
        assert!(ask(&auth, "Basic realm=x", &[]).unwrap().is_none());
        assert_eq!(auth.header(&[]).unwrap(), "Basic YW5uOnMzY3JldA==");
        assert!(matches!(ask(&super::Auth::new(None), "Basic realm=x", &[]), Err(Error::Unauthorized(_))));
        assert!(!format!("{:?}", password()).contains("s3cret"));
    }

    #[test]
    fn a_token_is_asked_for_with_what_is_wanted() {
        let auth = auth(password());
        let header = "Bearer realm=\"https://auth.x/token?a=b\",service=\"r.x\",scope=\"theirs\"";
        let request = ask(&auth, header, &["repository:a:pull"]).unwrap().unwrap();
        let want = "https://auth.x/token?a=b&service=r.x&scope=repository:a:pull&account=ann";
        assert_eq!(request.uri.to_string(), want);
        assert!(request.authorization.is_some());
        let scopes = ["repository:a:pull".to_owned()];
        auth.accept(&scopes, br#"{"token":"t","expires_in":300}"#).unwrap();
        assert_eq!(auth.header(&scopes).unwrap(), "Bearer t");
        assert_eq!(auth.header(&["repository:b:pull".to_owned()]), None);
        for wrong in [&b"{}"[..], b"x", br#"{"token":"a\r\nb"}"#] {
            assert!(auth.accept(&scopes, wrong).is_err());
        }
    }

    #[test]
    fn a_realm_elsewhere_gets_nothing_in_the_clear() {
        for realm in ["http://evil.x/token", "http://r.x/token", "https://169.254.169.254/", "https://127.0.0.1/"] {
            let header = format!("Bearer realm=\"{realm}\"");
            assert!(matches!(ask(&auth(password()), &header, &[]), Err(Error::Place { .. })), "{realm}");
        }
    }
}
