//! Build checks (reference "Build checks"): what is legal and yet likely a mistake.

use std::collections::{BTreeMap, BTreeSet};

use crate::check_stage::{self, Scope};
use crate::directive::split;
use crate::document::Document;
use crate::error::{Diagnostic, Error, hint, nearest};
use crate::expand::{Rules, expand};
use crate::ignore::Ignore;
use crate::instruction::{From, Kind};
use crate::source::{Place, Span};
use crate::statement::{Args, Statement};

/// The checks that run only where `experimental=` asks for them.
const EXPERIMENTAL: [&str; 1] = ["InvalidDefinitionDescription"];

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub place: Place,
}

/// What all checks found, and what the document wants of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// In the order of the document.
    pub found: Vec<Finding>,
    /// `# check=error=true`: a build does not go on when something is found.
    pub is_error: bool,
}

/// `# check=skip=…;experimental=…;error=…`. Names of checks that are none, or none yet, mean nothing.
#[derive(Clone, Default)]
struct Wish {
    skip: BTreeSet<String>,
    experimental: BTreeSet<String>,
    is_error: bool,
}

impl Wish {
    /// What stands behind white space is for people.
    fn read(text: &str) -> Option<Self> {
        let mut wish = Self::default();
        for field in text.split_whitespace().next()?.split(';') {
            let (key, value) = field.split_once('=')?;
            let names = || value.split(',').map(|name| name.trim().to_owned()).collect::<BTreeSet<_>>();
            match key.trim() {
                "skip" => wish.skip = names(),
                "experimental" => wish.experimental = names(),
                "error" => wish.is_error = value.trim().parse().ok()?,
                _ => return None,
            }
        }
        Some(wish)
    }

    /// What is wanted of the one instruction below these comments.
    fn below(&self, comments: &[String]) -> Self {
        let said = comments.iter().filter_map(|comment| split(comment)).find(|(name, _)| name == "check");
        let mut wish = self.clone();
        if let Some(own) = said.and_then(|(_, text)| Self::read(text)) {
            wish.skip.extend(own.skip);
            wish.experimental.extend(own.experimental);
        }
        wish
    }

    fn wants(&self, name: &str) -> bool {
        let has = |set: &BTreeSet<String>| set.contains("all") || set.contains(name);
        if EXPERIMENTAL.contains(&name) { has(&self.experimental) } else { !has(&self.skip) }
    }
}

/// Collects what is found and wanted, each with its place.
pub(crate) struct Collector {
    found: Vec<(&'static str, String, Span)>,
    wish: Wish,
}

impl Collector {
    pub(crate) fn add(&mut self, check: &'static str, span: Span, message: impl Into<String>) {
        if self.wish.wants(check) {
            self.found.push((check, message.into(), span));
        }
    }
}

impl Document {
    /// Runs the checks. `environment` says what the variables of an image are, `NAME=value` each, where it is known:
    /// `UndefinedVar` looks at no stage whose base is unknown. `asked` is what counts in place of the `check` directive.
    ///
    /// # Errors
    /// A `check` directive that is none.
    pub fn check(
        &self,
        ignore: Option<&Ignore>,
        environment: &dyn Fn(&str) -> Option<Vec<String>>,
        asked: Option<&str>,
    ) -> Result<Findings, Box<Diagnostic>> {
        let directive = self.directives.iter().find(|directive| directive.name == "check");
        let said = directive.map(|directive| (directive.value.text.as_str(), directive.value.span));
        let wish = match asked.map(|text| (text, Span::default())).or(said) {
            Some((text, span)) => {
                let wrong = || self.diagnose(Error::CheckOption(text.to_owned()), span, None);
                Wish::read(text).ok_or_else(wrong)?
            }
            None => Wish::default(),
        };
        let mut out = Collector { found: Vec::new(), wish: wish.clone() };
        casing(self, &mut out);
        self.check_stages(ignore, environment, &wish, &mut out);
        let mut found = out.found;
        found.sort_by_key(|(_, _, span)| span.start);
        let place = |span| Place::of(self.text(), span);
        let found = found.into_iter().map(|(check, message, span)| Finding { check, message, place: place(span) });
        Ok(Findings { found: found.collect(), is_error: wish.is_error })
    }

    fn check_stages(
        &self,
        ignore: Option<&Ignore>,
        environment: &dyn Fn(&str) -> Option<Vec<String>>,
        wish: &Wish,
        out: &mut Collector,
    ) {
        let platform = ["BUILD", "TARGET"].iter().flat_map(|side| {
            ["PLATFORM", "OS", "ARCH", "VARIANT"].iter().map(move |part| (format!("{side}{part}"), "x".to_owned()))
        });
        let mut globals: BTreeMap<String, String> = platform.collect();
        let mut stages: BTreeMap<String, Scope> = BTreeMap::new();
        let mut current: Option<(Option<String>, Scope)> = None;
        for instruction in &self.instructions {
            out.wish = wish.below(&instruction.statement.comments);
            written(&instruction.statement, out);
            described(&instruction.statement, &instruction.kind, out);
            match (&instruction.kind, &mut current) {
                (Kind::From(from), _) => {
                    if let Some((Some(name), scope)) = current.take() {
                        stages.insert(name, scope);
                    }
                    self.from(from, &instruction.statement, &globals, out);
                    let name = from.name.as_ref().map(|word| word.text.clone());
                    if let Some(name) = name.as_ref().filter(|name| stages.contains_key(*name)) {
                        let message = format!("Duplicate stage name {name:?}, stage names should be unique");
                        out.add("DuplicateStageName", instruction.statement.keyword.span, message);
                    }
                    let image = expand(&from.image.text, &globals, Rules::words(self.escape)).map(|image| image.text);
                    current = Some((name, Scope::on(&image.unwrap_or_default(), &stages, environment)));
                }
                (Kind::Arg(args), None) => {
                    check_stage::secrets("ARG", args.iter().map(|(name, _)| name), out);
                    for (name, default) in args {
                        let value = default.as_ref().and_then(|word| {
                            expand(&word.text, &globals, Rules::words(self.escape)).ok().map(|value| value.text)
                        });
                        globals.insert(name.text.clone(), value.unwrap_or_default());
                    }
                }
                (kind, Some((_, scope))) => {
                    check_stage::check(kind, &instruction.statement, (scope, &globals, self.escape), ignore, out);
                }
                _ => {}
            }
        }
    }

    fn from(&self, from: &From, statement: &Statement, globals: &BTreeMap<String, String>, out: &mut Collector) {
        let span = statement.keyword.span;
        let rules = Rules::words(self.escape);
        if let Some(Args::Words(words)) = &statement.args
            && let [_, keyword, name] = words.as_slice()
        {
            let lower = |text: &str| text.chars().all(|c| !c.is_uppercase());
            let is_mixed = statement.keyword.text.to_uppercase() != statement.keyword.text;
            let is_mixed = is_mixed && !lower(&statement.keyword.text);
            if !is_mixed && lower(&keyword.text) != lower(&statement.keyword.text) {
                let (a, b) = (&keyword.text, &statement.keyword.text);
                out.add("FromAsCasing", keyword.span, format!("'{a}' and '{b}' keywords' casing do not match"));
            }
            if !lower(&name.text) {
                out.add("StageNameCasing", name.span, format!("Stage name '{}' should be lowercase", name.text));
            }
            let reserved = name.text.to_lowercase();
            if matches!(reserved.as_str(), "scratch" | "context") {
                let message = format!("Stage name should not use the same name as reserved stage {reserved:?}");
                out.add("ReservedStageName", name.span, message);
            }
        }
        let words = std::iter::once(&from.image).chain(&from.platform);
        let expanded = words.filter_map(|word| expand(&word.text, globals, rules).ok());
        for name in expanded.flat_map(|expanded| expanded.undefined) {
            let near = nearest(&name, globals.keys().map(String::as_str));
            let message = format!("FROM argument '{name}' is not declared{}", hint(near.as_deref()));
            out.add("UndefinedArgInFrom", span, message);
        }
        if let Some(platform) = &from.platform {
            let bare = platform.text.trim_matches(['"', '\'']);
            if matches!(bare, "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
                let message = format!(
                    "Setting platform to predefined {bare} in FROM is redundant as this is the default behavior"
                );
                out.add("RedundantTargetPlatform", platform.span, message);
            }
            // A stage that is named for its platform is one of several.
            let name = from.name.as_ref().map_or("", |word| &word.text);
            let is_named = bare.split('/').take(2).any(|part| !part.is_empty() && name.contains(part));
            if !bare.contains('$') && !is_named {
                let message = format!("FROM --platform flag should not use constant value {bare:?}");
                out.add("FromPlatformFlagConstDisallowed", platform.span, message);
            }
        }
        if let Ok(image) = expand(&from.image.text, globals, rules)
            && image.undefined.is_empty()
            && from.image.text.contains('$')
            && (image.text.is_empty() || image.text.starts_with(':') || image.text.ends_with([':', '@', '/']))
        {
            let text = &from.image.text;
            let message = format!("Default value for ARG {text} results in empty or invalid base image name");
            out.add("InvalidDefaultArgInFrom", from.image.span, message);
        }
    }
}

/// One case for all keywords: that of most of them.
fn casing(document: &Document, out: &mut Collector) {
    let keywords = || document.instructions.iter().map(|instruction| &instruction.statement.keyword);
    let count = |is: fn(&char) -> bool| keywords().filter(|word| word.text.chars().all(|c| is(&c))).count();
    let (lower, upper) = (count(char::is_ascii_lowercase), count(char::is_ascii_uppercase));
    let (is, name): (fn(&char) -> bool, _) =
        if lower > upper { (char::is_ascii_lowercase, "lowercase") } else { (char::is_ascii_uppercase, "uppercase") };
    for word in keywords().filter(|word| !word.text.chars().all(|c| is(&c))) {
        let message = format!("Command '{}' should match the case of the command majority ({name})", word.text);
        out.add("ConsistentInstructionCasing", word.span, message);
    }
}

/// What is seen before an instruction is understood.
fn written(statement: &Statement, out: &mut Collector) {
    if let Some(span) = statement.empty_continuation {
        out.add("NoEmptyContinuation", span, "Empty continuation line");
    }
    if let Some(Args::Pairs(pairs)) = &statement.args
        && !statement.keyword.text.eq_ignore_ascii_case("arg")
        && pairs.iter().any(|(_, _, has_equals)| !has_equals)
    {
        let name = statement.keyword.text.to_uppercase();
        let message = format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
        out.add("LegacyKeyValueFormat", statement.keyword.span, message);
    }
}

/// The comment above a stage or an argument tells about it.
fn described(statement: &Statement, kind: &Kind, out: &mut Collector) {
    let (instruction, names): (_, Vec<_>) = match kind {
        Kind::From(From { name: Some(name), .. }) => ("FROM", vec![name.text.as_str()]),
        Kind::Arg(args) => ("ARG", args.iter().map(|(name, _)| name.text.as_str()).collect()),
        _ => return,
    };
    let Some(comment) = statement.comments.last() else { return };
    if !names.contains(&comment.split(' ').next().unwrap_or_default()) {
        let name = if let [name] = names.as_slice() { name } else { "<arg_key>" };
        let message = format!("Comment for {instruction} should follow the format: `# {name} <description>`");
        out.add("InvalidDefinitionDescription", statement.keyword.span, message);
    }
}
