//! Build checks of the instructions in a stage.

use std::collections::BTreeMap;

use crate::check::Collector;
use crate::error::{hint, nearest};
use crate::expand::{Rules, expand};
use crate::ignore::Ignore;
use crate::instruction::{Kind, Transfer};
use crate::source::{Span, Word};
use crate::statement::Statement;

/// Parts of a variable's name that say that its value is a secret.
const SECRETS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// What is known of a stage so far.
#[derive(Clone)]
pub(crate) struct Scope {
    variables: BTreeMap<String, String>,
    /// Whether all variables are known: not where the base is an image.
    is_whole: bool,
    has_workdir: bool,
    has_shell: bool,
    /// Where CMD, ENTRYPOINT and HEALTHCHECK stand.
    last: BTreeMap<&'static str, Span>,
}

impl Scope {
    /// The start of a stage on a base.
    pub(crate) fn on(
        image: &str,
        stages: &BTreeMap<String, Self>,
        environment: &dyn Fn(&str) -> Option<Vec<String>>,
    ) -> Self {
        if let Some(base) = stages.get(&image.to_lowercase()) {
            return Self { last: BTreeMap::new(), ..base.clone() };
        }
        let is_scratch = image.eq_ignore_ascii_case("scratch");
        let known = if is_scratch { Some(Vec::new()) } else { environment(image) };
        let is_whole = known.is_some();
        let pair = |entry: String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut variables: BTreeMap<String, String> = known.into_iter().flatten().filter_map(pair).collect();
        variables.entry("PATH".to_owned()).or_default();
        Self { variables, is_whole, has_workdir: false, has_shell: false, last: BTreeMap::new() }
    }
}

pub(crate) fn check(
    kind: &Kind,
    statement: &Statement,
    (scope, globals, escape): (&mut Scope, &BTreeMap<String, String>, char),
    ignore: Option<&Ignore>,
    out: &mut Collector,
) {
    let span = statement.keyword.span;
    if scope.is_whole {
        undefined(kind, scope, escape, out);
    }
    match kind {
        Kind::Arg(args) => {
            secrets("ARG", args.iter().map(|(name, _)| name), out);
            for (name, default) in args {
                let value = default.as_ref().map(|word| word.text.clone()).or_else(|| globals.get(&name.text).cloned());
                scope.variables.insert(name.text.clone(), value.unwrap_or_default());
            }
        }
        Kind::Env(pairs) => {
            secrets("ENV", pairs.iter().map(|(name, _)| name), out);
            scope.variables.extend(pairs.iter().map(|(name, value)| (name.text.clone(), value.text.clone())));
        }
        Kind::Maintainer(_) => {
            out.add("MaintainerDeprecated", span, "Maintainer instruction is deprecated in favor of using label");
        }
        Kind::Workdir(path) => {
            let is_absolute = path.text.trim_matches(['"', '\'']).starts_with(['/', '$']);
            if !is_absolute && !scope.has_workdir {
                let text =
                    format!("Relative workdir {:?} can have unexpected results if the base image changes", path.text);
                out.add("WorkdirRelativePath", path.span, text);
            }
            scope.has_workdir |= is_absolute;
        }
        Kind::Shell(_) => scope.has_shell = true,
        Kind::Cmd(command) => started("CMD", command.is_shell, span, scope, out),
        Kind::Entrypoint(command) => started("ENTRYPOINT", command.is_shell, span, scope, out),
        Kind::Healthcheck(_) => started("HEALTHCHECK", false, span, scope, out),
        Kind::Expose(ports) => ports.iter().for_each(|port| expose(port, out)),
        Kind::Copy(transfer) => ignored("Copy", transfer, ignore, out),
        Kind::Add(transfer) => ignored("Add", transfer, ignore, out),
        _ => {}
    }
}

/// Whether a variable is called as secrets are.
pub fn is_secret_name(name: &str) -> bool {
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRETS) && !has(&["public", "file", "version"])
}

pub(crate) fn secrets<'a>(instruction: &str, names: impl Iterator<Item = &'a Word>, out: &mut Collector) {
    for name in names {
        if is_secret_name(&name.text) {
            let text = format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {:?})", name.text);
            out.add("SecretsUsedInArgOrEnv", name.span, text);
        }
    }
}

/// Of instructions that say what is started, the last one counts.
fn started(name: &'static str, is_shell: bool, span: Span, scope: &mut Scope, out: &mut Collector) {
    if is_shell && !scope.has_shell {
        let text =
            format!("JSON arguments recommended for {name} to prevent unintended behavior related to OS signals");
        out.add("JSONArgsRecommended", span, text);
    }
    if let Some(before) = scope.last.insert(name, span) {
        let text = format!(
            "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
        );
        out.add("MultipleInstructionsDisallowed", before, text);
    }
}

fn expose(port: &Word, out: &mut Collector) {
    let (number, protocol) = port.text.split_once('/').unwrap_or((&port.text, ""));
    if number.contains(':') && !number.contains('$') {
        let text =
            format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{}'", port.text);
        out.add("ExposeInvalidFormat", port.span, text);
    }
    if !protocol.contains('$') && protocol.chars().any(char::is_uppercase) {
        let text = format!("Defined protocol '{}' in EXPOSE instruction should be lowercase", port.text);
        out.add("ExposeProtoCasing", port.span, text);
    }
}

fn ignored(name: &str, transfer: &Transfer, ignore: Option<&Ignore>, out: &mut Collector) {
    // What exceptions leave of a directory is not known before it is read.
    let Some(ignore) = ignore.filter(|ignore| transfer.from.is_none() && !ignore.has_exceptions()) else { return };
    for source in &transfer.sources {
        let path = source.text.trim_start_matches("./").trim_matches('/');
        let is_ignored = match path {
            "" | "." => ignore.excludes_everything(),
            path => !path.contains(['$', '*', '?', '[', ':']) && ignore.excludes(path),
        };
        if is_ignored {
            let text = format!("Attempting to {name} file {:?} that is excluded by .dockerignore", source.text);
            out.add("CopyIgnoredFile", source.span, text);
        }
    }
}

fn undefined(kind: &Kind, scope: &Scope, escape: char, out: &mut Collector) {
    let words: Vec<&Word> = match kind {
        Kind::Arg(args) => args.iter().filter_map(|(_, default)| default.as_ref()).collect(),
        Kind::Env(pairs) | Kind::Label(pairs) => pairs.iter().flat_map(|(name, value)| [name, value]).collect(),
        Kind::Add(transfer) | Kind::Copy(transfer) => transfer.sources.iter().chain([&transfer.destination]).collect(),
        Kind::Expose(words) | Kind::Volume(words) => words.iter().collect(),
        Kind::StopSignal(word) | Kind::User(word) | Kind::Workdir(word) => vec![word],
        _ => return,
    };
    for word in words {
        let found = expand(&word.text, &scope.variables, Rules::words(escape));
        for name in found.map(|found| found.undefined).unwrap_or_default() {
            let near = nearest(&name, scope.variables.keys().map(String::as_str)).map(|near| format!("${near}"));
            let message = format!("Usage of undefined variable '${name}'{}", hint(near.as_deref()));
            out.add("UndefinedVar", word.span, message);
        }
    }
}
