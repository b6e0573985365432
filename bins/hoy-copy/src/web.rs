//! Services that help to sign: whom to trust as them, and what they say.

use hoy_cli::Result;
use hoy_registry::{Answer, Question};
use serde_json::Value;

use crate::access::Access;
use crate::args::Global;

/// Asks a service, which is trusted as a registry of its name would be.
pub(crate) fn ask(global: &Global, question: Question<'_>) -> Result<Answer> {
    let host = question.address.split("://").nth(1).unwrap_or_default().split(['/', '?']).next().unwrap_or_default();
    let mut options = Access::options(global);
    options.tls = Access::default().tls(host, false);
    Ok(question.ask(options)?)
}

/// What an answer that brings nothing says, fit for one line.
pub(crate) fn said(answer: &Answer) -> String {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let field = |name| document.get(name).and_then(Value::as_str);
    let words = [field("error"), field("error_description"), field("message")].into_iter().flatten();
    let words: String = words.collect::<Vec<_>>().join(": ").chars().filter(|c| !c.is_control()).take(300).collect();
    format!("the server answered {}{}{words}", answer.status, if words.is_empty() { "" } else { ": " })
}
