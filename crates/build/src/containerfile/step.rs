//! One instruction after another: from a stage's base to its image.

use std::sync::PoisonError;
use std::time::Instant;

use hoy_containerfile::{Instruction, Kind, Origin, Place, Statement, Word};
use hoy_oci::Platform;

use crate::containerfile::builder::{Builder, NamedContext};
use crate::containerfile::layer::LayerWriter;
use crate::containerfile::run::{PREDEFINED, run};
use crate::containerfile::state::State;
use crate::containerfile::transfer::{Outcome, transfer};
use crate::containerfile::{settings, standing};
use crate::copy::user_and_group;
use crate::destination::{Owner, clean};
use crate::from::own_name;
use crate::{Error, Result};

/// Builds the stage at `index`; those it needs are done.
pub(crate) fn stage(builder: &Builder<'_>, index: usize) -> Result<State> {
    let Some(stage) = builder.plan.stages.get(index) else {
        return Err(Error::Refused(format!("there is no stage {index}")));
    };
    let label = stage.name.clone().unwrap_or_else(|| index.to_string());
    let text = builder.document.text();
    let file = builder.options.file.as_str();
    let (from, line) = builder.base_line(index);
    let count = stage.instructions.len() + 1;
    builder.report.begin(&format!("[{label} 1/{count}]"), &line, number_of(builder, index));
    let mut state = base(builder, index).map_err(|error| located((text, file), &from, None, error))?;
    state.escape = builder.document.escape;
    for (name, value) in &builder.options.said.env {
        state.set_env(name, value);
    }
    let mut number = 1;
    for trigger in triggers(&mut state) {
        let shown = format!("ONBUILD trigger of {}", state.working.from_image);
        let mut instruction = Instruction::trigger(&trigger)
            .map_err(|error| Error::Located { text: error.render(&shown), code: None })?;
        instruction.mount(&builder.options.mounts);
        let step = format!("[{label} ONBUILD]");
        let statement = &instruction.statement;
        one(builder, index, &step, &mut state, &instruction)
            .and_then(|()| state.check_size())
            .inspect_err(|_| builder.stopped(&step, &state))
            .map_err(|error| located((&trigger, &shown), &statement.keyword, Some(statement), error))?;
    }
    for instruction in &stage.instructions {
        number += 1;
        let step = format!("[{label} {number}/{count}]");
        let statement = &instruction.statement;
        let span = hoy_containerfile::Span { start: statement.keyword.span.start, end: statement.span.end };
        let whole = Word { text: statement.text.clone(), span };
        one(builder, index, &step, &mut state, instruction)
            .and_then(|()| state.check_size())
            .inspect_err(|_| builder.stopped(&step, &state))
            .map_err(|error| located((text, file), &whole, Some(statement), error))?;
    }
    Ok(state)
}

/// An error with the line it belongs to, and in buildah's words the step; none for a FROM.
fn located((text, file): (&str, &str), word: &Word, step: Option<&Statement>, error: Error) -> Error {
    if matches!(error, Error::Located { .. } | Error::Interrupted) {
        return error;
    }
    let span = match &error {
        Error::Language { span, .. } if span.end > span.start => *span,
        _ => word.span,
    };
    let code = error.program_code().filter(|_| !matches!(error, Error::Program { .. }));
    let doing = step.map_or_else(String::new, |Statement { keyword, text, .. }| {
        let rest = text.strip_prefix(keyword.text.as_str()).unwrap_or_default();
        format!("building at STEP \"{}{rest}\": ", keyword.text.to_uppercase())
    });
    let message = format!("{doing}{}", crate::error::chain(&error));
    // The line may have an address with a password in it.
    let text = crate::without_credentials(&Place::of(text, span).render(file, &message));
    Error::Located { code, text }
}

/// Which of how many stages this is, as people count: none behind the target.
fn number_of(builder: &Builder<'_>, index: usize) -> (usize, usize) {
    (index + 1, builder.plan.target + 1)
}

/// ONBUILD of a base image is done once, and is not passed on.
fn triggers(state: &mut State) -> Vec<String> {
    let is_image = state.base.0 == state.layers.len() && !state.working.from_image.is_empty();
    let known = &mut state.working.config.config.on_build;
    if is_image || known.is_some() { known.take().unwrap_or_default() } else { Vec::new() }
}

/// What the stage starts from.
fn base(builder: &Builder<'_>, index: usize) -> Result<State> {
    let Some(stage) = builder.plan.stages.get(index) else {
        return Err(Error::Refused(format!("there is no stage {index}")));
    };
    let platform = match &stage.platform {
        None => builder.options.platform.clone(),
        Some(text) => text.parse::<Platform>()?,
    };
    let image = |name: &str| {
        let image = builder.image(name, &platform)?;
        let clamp = builder.clamp(image.config.created)?;
        let name = own_name(builder.store, builder.tools, name)?;
        let name = name.unwrap_or_else(|| image.descriptor.digest.to_string());
        let mut state = State::from_image(&name, &image, clamp);
        builder.options.said.apply_to_base(&mut state.working);
        Ok(state)
    };
    match &stage.base {
        Origin::Scratch => Ok(State::scratch(&platform, builder.clamp(None)?)),
        Origin::Stage(index) => {
            let done = builder.done.lock().unwrap_or_else(PoisonError::into_inner);
            let state = done.get(index).ok_or_else(|| Error::Refused(format!("stage {index} is not built")))?;
            let mut state = state.inherited();
            // Its triggers stand among this stage's own instructions already.
            state.working.config.config.on_build = None;
            Ok(state)
        }
        Origin::Context(name) => match builder.options.contexts.get(name) {
            Some(NamedContext::Image(name)) => image(name),
            _ => Err(Error::Refused(format!("the context \"{name}\" is a directory: FROM needs an image"))),
        },
        Origin::Image(name) => image(name),
    }
}

/// Carries out one instruction.
fn one(builder: &Builder<'_>, index: usize, step: &str, state: &mut State, instruction: &Instruction) -> Result<()> {
    builder.interrupt.check()?;
    let begun = Instant::now();
    builder.report.begin(step, &instruction.statement.text, number_of(builder, index));
    let outcome = match &instruction.kind {
        Kind::Arg(args) => return declare(builder, state, args),
        Kind::Workdir(word) => workdir(builder, state, word)?,
        Kind::Copy(copy) => Some(transfer(builder, index, state, copy, false)?),
        Kind::Add(add) => Some(transfer(builder, index, state, add, true)?),
        Kind::Run(command) => Some(run(builder, index, step, state, command, instruction)?),
        _ => {
            settings::apply(state, instruction)?;
            return Ok(());
        }
    };
    let Some(outcome) = outcome else {
        state.remember(&instruction.statement.text);
        return Ok(());
    };
    if let Some(why) = &outcome.why {
        builder.report.line(step, why);
    }
    let layer = outcome.layer.as_ref().map(|layer| &layer.descriptor);
    builder.report.done(step, outcome.found, begun.elapsed(), layer);
    state.push(outcome.layer, &outcome.created_by);
    Ok(())
}

/// ARG: what was asked for, else the default written here, else what stands before the first FROM.
fn declare(builder: &Builder<'_>, state: &mut State, args: &[(Word, Option<Word>)]) -> Result<()> {
    for (name, default) in args {
        let name = state.text(name)?;
        let value = match (builder.options.args.get(&name), default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(state.text(default)?),
            (None, None) => builder.plan.globals.get(&name).cloned(),
        };
        match value {
            Some(value) => state.set_arg(name, value),
            None if PREDEFINED.contains(&name.as_str()) => {
                if let Some(value) = builder.options.proxies.get(&name) {
                    state.set_arg(name, value.clone());
                }
            }
            None => {}
        }
    }
    // Only that there is such an ARG is remembered, never its value.
    let names: Vec<&str> = args.iter().map(|(name, _)| name.text.as_str()).collect();
    state.remember(&format!("ARG {}", names.join(" ")));
    Ok(())
}

/// WORKDIR: the directory is made where it is missing.
fn workdir(builder: &Builder<'_>, state: &mut State, word: &Word) -> Result<Option<Outcome>> {
    let typed = state.text(word)?;
    let path = clean(state.workdir(), &typed);
    state.working.config.config.working_dir = format!("/{}", String::from_utf8_lossy(&path));
    if path.is_empty() {
        return Ok(None);
    }
    let user = state.working.config.config.user.clone();
    let shown = state.working.config.config.working_dir.clone();
    let inputs = builder.inputs(state, format!("WORKDIR {shown} {user}"));
    let outcome = builder.cached(&inputs, format!("/bin/sh -c #(nop) WORKDIR {shown}"), || {
        let standing = builder.standing(state)?;
        let real = standing.resolve(&path, true)?;
        if standing.at(&real) == Some(&standing::Node::Directory) {
            return Ok(None);
        }
        let ids = if user.is_empty() { (0, 0) } else { user_and_group(&standing.users(), &user)? };
        let owner = Owner { ids: Some(ids), ..Owner::default() };
        let made_at = state.clamp.created().unix_seconds();
        let mut to = LayerWriter::new(builder.sink()?, &standing, owner, state.clamp.seconds(), made_at);
        to.directories(&real)?;
        to.finish()
    })?;
    Ok(Some(outcome))
}
