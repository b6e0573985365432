//! Stages as a graph: what a target needs, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use crate::csv;
use crate::document::Document;
use crate::error::{Diagnostic, Error, Fault};
use crate::expand::{Rules, expand};
use crate::instruction::{From, Instruction, Kind};
use crate::mount;
use crate::source::{Span, Word};

/// What a build is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// A stage's name or index; the last stage where there is none.
    pub target: Option<String>,
    /// What the first FROM is to name instead.
    pub base: Option<String>,
    /// The target needs all stages before it.
    pub builds_all: bool,
    /// What every RUN mounts before its own: values of `--mount`.
    pub mounts: Vec<String>,
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
    /// `BUILDPLATFORM`, `TARGETARCH` and their like (reference "Automatic platform ARGs in the global scope").
    pub platform_args: BTreeMap<String, String>,
    /// Names of `--build-context`.
    pub contexts: BTreeSet<String>,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing.
    Scratch,
    /// A stage of this document, by index.
    Stage(usize),
    /// A named context.
    Context(String),
    /// An image.
    Image(String),
}

/// One stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The name behind AS.
    pub name: Option<String>,
    /// What FROM names.
    pub base: Origin,
    /// `--platform`, expanded.
    pub platform: Option<String>,
    /// What follows FROM, after the triggers that the base stage's ONBUILD left.
    pub instructions: Vec<Instruction>,
    /// Stages that must be built before, by index.
    pub needs: BTreeSet<usize>,
}

/// All stages of a document, and which of them a target needs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Stages by index.
    pub stages: Vec<Stage>,
    /// The stage asked for.
    pub target: usize,
    /// ARGs before the first FROM, and platform arguments: what a stage's ARG without a default takes.
    pub globals: BTreeMap<String, String>,
}

impl Document {
    /// Finds the stages and what they need.
    ///
    /// # Errors
    /// An unknown target or stage index, a stage that needs itself or a later one, a FROM that expands to nothing.
    pub fn resolve(&self, request: &Request) -> Result<Plan, Box<Diagnostic>> {
        self.plan(request).map_err(|fault| Box::new(fault.locate(self.text())))
    }

    fn plan(&self, request: &Request) -> Result<Plan, Fault> {
        let rules = Rules::words(self.escape);
        let globals = self.globals(request, rules)?;
        let mut stages: Vec<Stage> = Vec::new();
        for instruction in &self.instructions {
            match (&instruction.kind, stages.last_mut()) {
                (Kind::From(from), _) => {
                    let stage = open(from, &stages, request, &globals, rules)?;
                    stages.push(stage);
                }
                (_, Some(stage)) => stage.instructions.push(instruction.clone()),
                (_, None) => {}
            }
        }
        inherit_triggers(&mut stages);
        for text in &request.mounts {
            mount::check_from(&Word { text: text.clone(), span: Span::default() })?;
        }
        for instruction in stages.iter_mut().flat_map(|stage| &mut stage.instructions) {
            instruction.mount(&request.mounts);
        }
        stages.iter_mut().try_for_each(|stage| fill_in(stage, request, &globals, rules))?;
        for index in 0..stages.len() {
            let needs = needs(index, &stages, request)?;
            if let Some(stage) = stages.get_mut(index) {
                stage.needs.extend(needs);
            }
        }
        let target = target(&stages, request)?;
        if request.builds_all
            && let Some(stage) = stages.get_mut(target)
        {
            stage.needs.extend(0..target);
        }
        Ok(Plan { stages, target, globals })
    }

    /// ARGs before the first FROM, each with what was asked for or its default.
    fn globals(&self, request: &Request, rules: Rules) -> Result<BTreeMap<String, String>, Fault> {
        let mut globals = request.platform_args.clone();
        for (name, value) in &mut globals {
            if let Some(given) = request.args.get(name) {
                value.clone_from(given);
            }
        }
        let mut size_bytes = 0;
        for instruction in &self.instructions {
            let Kind::Arg(args) = &instruction.kind else { break };
            for (name, default) in args {
                let value = match (request.args.get(&name.text), default) {
                    (Some(given), _) => given.clone(),
                    (None, Some(default)) => expanded(default, &globals, rules)?,
                    (None, None) => continue,
                };
                set(&mut globals, &mut size_bytes, name, value)?;
            }
        }
        Ok(globals)
    }
}

impl Plan {
    /// The stages that the target needs, itself the last; each after those it needs.
    #[must_use]
    pub fn needed(&self) -> Vec<usize> {
        let (mut found, mut open) = (BTreeSet::new(), vec![self.target]);
        while let Some(index) = open.pop() {
            if found.insert(index) {
                open.extend(self.stages.get(index).map(|stage| stage.needs.iter().copied()).into_iter().flatten());
            }
        }
        found.into_iter().collect()
    }

    /// The instructions of all stages that the target needs.
    pub fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        let stages = self.needed().into_iter().filter_map(|index| self.stages.get(index));
        stages.flat_map(|stage| &stage.instructions)
    }

    /// What `--from` of a COPY, or `from` of a mount, in the stage at `index` means.
    #[must_use]
    pub fn origin(&self, index: usize, name: &str, contexts: &BTreeSet<String>) -> Origin {
        named(name, self.stages.get(..index).unwrap_or_default(), contexts)
    }
}

fn expanded(word: &Word, globals: &BTreeMap<String, String>, rules: Rules) -> Result<String, Fault> {
    let expanded = expand(&word.text, globals, rules).map_err(|error| Fault::at(word.span, error))?;
    Ok(expanded.text)
}

/// The same of a word that has to yield something.
fn not_blank(word: &Word, variables: &BTreeMap<String, String>, rules: Rules) -> Result<String, Fault> {
    let expansion = expand(&word.text, variables, rules).map_err(|error| Fault::at(word.span, error))?;
    if expansion.text.is_empty() {
        let blank = Fault::at(word.span, Error::Blank(word.text.clone()));
        let unset = expansion.undefined.iter().next().map(String::as_str).unwrap_or_default();
        return Err(blank.near(unset, variables.keys().map(String::as_str)));
    }
    Ok(expansion.text)
}

/// Gives an ARG its value: all together are no longer than a document, for an ARG of ARGs grows fast.
fn set(args: &mut BTreeMap<String, String>, size_bytes: &mut usize, name: &Word, value: String) -> Result<(), Fault> {
    *size_bytes += value.len();
    if *size_bytes > crate::MAX_DOCUMENT {
        return Err(Fault::at(name.span, Error::ExpansionLimit));
    }
    args.insert(name.text.clone(), value);
    Ok(())
}

/// As buildah, and unlike BuildKit: `--from` of a COPY takes the values of its stage's ARGs, which are known beforehand.
fn fill_in(
    stage: &mut Stage,
    request: &Request,
    globals: &BTreeMap<String, String>,
    rules: Rules,
) -> Result<(), Fault> {
    let (mut args, mut size_bytes) = (BTreeMap::new(), 0);
    for instruction in &mut stage.instructions {
        match &mut instruction.kind {
            Kind::Arg(pairs) => {
                for (name, default) in pairs {
                    // What is wrong with a default is told where the ARG is carried out, with the image's variables.
                    let default = || default.as_ref().map(|word| expanded(word, &args, rules).unwrap_or_default());
                    let value = request.args.get(&name.text).cloned().or_else(default);
                    if let Some(value) = value.or_else(|| globals.get(&name.text).cloned()) {
                        set(&mut args, &mut size_bytes, name, value)?;
                    }
                }
            }
            Kind::Copy(copy) => {
                if let Some(from) = &mut copy.from {
                    from.text = not_blank(from, &args, rules)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a name means among the stages before.
fn named(name: &str, before: &[Stage], contexts: &BTreeSet<String>) -> Origin {
    let lower = name.to_lowercase();
    if lower == "scratch" {
        return Origin::Scratch;
    }
    if contexts.contains(name) {
        return Origin::Context(name.to_owned());
    }
    let stage = before.iter().rposition(|stage| stage.name.as_deref() == Some(lower.as_str()));
    stage.map_or_else(|| Origin::Image(name.to_owned()), Origin::Stage)
}

fn open(
    from: &From,
    before: &[Stage],
    request: &Request,
    globals: &BTreeMap<String, String>,
    rules: Rules,
) -> Result<Stage, Fault> {
    let value = |word: &Word| not_blank(word, globals, rules);
    let name = from.name.as_ref().map(|word| word.text.clone());
    let context = name.as_ref().filter(|name| request.contexts.contains(*name));
    let base = match (&request.base, context) {
        (Some(image), _) if before.is_empty() => named(image, before, &request.contexts),
        (_, Some(name)) => Origin::Context(name.clone()),
        (_, None) => named(&value(&from.image)?, before, &request.contexts),
    };
    let platform = from.platform.as_ref().map(value).transpose()?;
    let mut needs = BTreeSet::new();
    for word in &from.after {
        let text = value(word)?;
        let index = match named(&text, before, &BTreeSet::new()) {
            Origin::Stage(index) => Some(index),
            _ => text.parse().ok().filter(|index| *index < before.len()),
        };
        needs.insert(index.ok_or_else(|| Fault::at(word.span, Error::UnknownStage(text.clone())))?);
    }
    Ok(Stage { name, base, platform, instructions: Vec::new(), needs })
}

/// ONBUILD of a stage is done at the start of each stage that is built from it.
fn inherit_triggers(stages: &mut [Stage]) {
    let triggers: Vec<Vec<Instruction>> = stages
        .iter()
        .map(|stage| {
            let onbuild = stage.instructions.iter().filter_map(|instruction| match &instruction.kind {
                Kind::Onbuild(inner, _) => Some((**inner).clone()),
                _ => None,
            });
            onbuild.collect()
        })
        .collect();
    for stage in stages {
        let Origin::Stage(base) = stage.base else { continue };
        let inherited = triggers.get(base).cloned().unwrap_or_default();
        stage.instructions.splice(0..0, inherited);
    }
}

/// The stages that the one at `index` takes files from.
fn needs(index: usize, stages: &[Stage], request: &Request) -> Result<BTreeSet<usize>, Fault> {
    let mut needs = BTreeSet::new();
    let Some(stage) = stages.get(index) else { return Ok(needs) };
    if let Origin::Stage(base) = stage.base {
        needs.insert(base);
    }
    for instruction in &stage.instructions {
        match &instruction.kind {
            Kind::Copy(copy) => {
                if let Some(from) = &copy.from {
                    needs.extend(reference((&from.text, "COPY --from="), from, index, stages, request)?);
                }
            }
            Kind::Run(run) => {
                for mount in &run.mounts {
                    for field in csv::fields(&mount.text).unwrap_or_default() {
                        let from = field.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case("from"));
                        if let Some((_, name)) = from.filter(|(_, name)| name.parse::<usize>().is_err()) {
                            needs.extend(reference((name, "RUN --mount=from="), mount, index, stages, request)?);
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(needs)
}

/// The stage that a name or an index in the stage at `index` means; `None` for an image or a context.
fn reference(
    (name, typed): (&str, &'static str),
    word: &Word,
    index: usize,
    stages: &[Stage],
    request: &Request,
) -> Result<Option<usize>, Fault> {
    let fail = |error| Err(Fault::at(word.span, error));
    let lower = name.to_lowercase();
    let found = match name.parse::<usize>() {
        Ok(number) if number >= stages.len() => return fail(Error::UnknownStage(name.to_owned())),
        Ok(number) => {
            let name = stages.get(number).and_then(|stage| stage.name.as_ref());
            if name.is_some_and(|name| request.contexts.contains(name)) {
                return Ok(None);
            }
            number
        }
        Err(_) => match named(name, stages.get(..index).unwrap_or_default(), &request.contexts) {
            Origin::Stage(found) => found,
            Origin::Image(_) => {
                let later = stages.iter().position(|stage| stage.name.as_deref() == Some(lower.as_str()));
                let Some(later) = later else { return Ok(None) };
                later
            }
            _ => return Ok(None),
        },
    };
    match found.cmp(&index) {
        std::cmp::Ordering::Less => Ok(Some(found)),
        std::cmp::Ordering::Equal => fail(Error::Circular(name.to_owned(), typed)),
        std::cmp::Ordering::Greater => fail(Error::LaterStage(name.to_owned())),
    }
}

fn target(stages: &[Stage], request: &Request) -> Result<usize, Fault> {
    let Some(name) = &request.target else {
        let last = stages.len().checked_sub(1);
        return last.ok_or_else(|| Fault::at(Span::default(), Error::NoStage));
    };
    let lower = name.to_lowercase();
    let named = stages.iter().rposition(|stage| stage.name.as_deref() == Some(lower.as_str()));
    let numbered = || name.parse::<usize>().ok().filter(|number| *number < stages.len());
    named.or_else(numbered).ok_or_else(|| {
        let unknown = Fault::at(Span::default(), Error::UnknownStage(name.clone()));
        unknown.near(name, stages.iter().filter_map(|stage| stage.name.as_deref()))
    })
}
