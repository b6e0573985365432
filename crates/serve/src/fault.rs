//! Answers that say no (distribution-spec, "Error Codes").

use serde_json::json;

use crate::message::{Response, Status};

/// Why a request is not fulfilled, as the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: Status,
    code: &'static str,
    message: String,
    headers: Vec<(&'static str, String)>,
}

impl Fault {
    pub(crate) fn new(status: Status, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(crate) fn name_invalid(name: &str) -> Self {
        let rule = "a repository has lower-case words joined by '/', '.', '_', '__' or '-'";
        Self::new(Status::BAD_REQUEST, "NAME_INVALID", format!("\"{name}\": {rule}"))
    }

    pub(crate) fn digest_invalid(text: &str) -> Self {
        let text = text.chars().take(200).collect::<String>();
        Self::new(Status::BAD_REQUEST, "DIGEST_INVALID", format!("\"{text}\" is no digest that is known here"))
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Status::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer.
    pub(crate) fn response(self) -> Response {
        let body = json!({"errors": [{"code": self.code, "message": self.message, "detail": null}]});
        let mut response = Response::json(self.status, "application/json", body.to_string().into_bytes());
        response.headers.extend(self.headers);
        response
    }
}

/// What this machine could not do. The client learns the operation and the reason, and no path.
impl From<hoy_layout::Error> for Fault {
    fn from(error: hoy_layout::Error) -> Self {
        if error.is_not_found() {
            return Self::new(Status::NOT_FOUND, "MANIFEST_UNKNOWN", "there is no such image here");
        }
        let mut cause: &dyn std::error::Error = &error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        Self::new(Status::INTERNAL, "UNKNOWN", format!("this registry cannot do it: {cause}"))
    }
}
