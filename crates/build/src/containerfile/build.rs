//! `build`: the stages that a target needs, those that do not need one another at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, PoisonError};

use hoy_containerfile::{Document, Instruction, Kind, Origin, Plan, Request};
use hoy_layout::Store;
use hoy_oci::{ContainerConfig, Descriptor, Digest, Platform};

use crate::commit::enter;
use crate::containerfile::builder::{BuildOptions, Builder, Squash};
use crate::containerfile::merge::merge;
use crate::containerfile::report::Report;
use crate::containerfile::run::{PREDEFINED, leak};
use crate::containerfile::state::State;
use crate::containerfile::step::stage;
use crate::document::{Format, config_type};
use crate::working::image_by_manifest;
use crate::{Error, Result, Tools};

/// An image that was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The digest of its configuration: its id.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Descriptor,
}

/// The stages of a Containerfile and what the target needs of them.
///
/// # Errors
/// [`Error::Located`] for what is wrong with it.
pub fn plan(document: &Document, options: &BuildOptions) -> Result<Plan> {
    let request = Request {
        target: options.target.clone(),
        base: options.base.clone(),
        builds_all: options.builds_all,
        mounts: options.mounts.clone(),
        args: options.args.clone(),
        platform_args: platform_args(&options.platform, options.target.as_deref()),
        contexts: options.contexts.keys().cloned().collect(),
    };
    let wrong =
        |error: Box<hoy_containerfile::Diagnostic>| Error::Located { text: error.render(&options.file), code: None };
    document.resolve(&request).map_err(wrong)
}

/// The variables of an image, where it is in the store.
pub fn environment_of(store: &Store, image: &str, platform: &Platform) -> Option<Vec<String>> {
    Some(known(store, image, platform)?.env)
}

fn known(store: &Store, image: &str, platform: &Platform) -> Option<ContainerConfig> {
    let found = store.find_image(image).ok()?;
    Some(store.layout().image(&found.descriptor, platform).ok()?.config.config)
}

/// Whether a build has to mount anything: one without RUN and `--from` needs no privilege at all. `None`: an image that is
/// still to be fetched may have such triggers.
pub fn needs_mounts(store: &Store, plan: &Plan, platform: &Platform) -> Option<bool> {
    let mounts = |instruction: &Instruction| match &instruction.kind {
        Kind::Run(_) => true,
        Kind::Copy(copy) => copy.from.is_some(),
        _ => false,
    };
    let mut needs = Some(plan.instructions().any(mounts));
    for stage in plan.needed().into_iter().filter_map(|index| plan.stages.get(index)) {
        let Origin::Image(image) = &stage.base else { continue };
        let triggers = known(store, image, platform).map(|config| config.on_build.unwrap_or_default());
        let found =
            triggers.map(|all| all.iter().filter_map(|text| Instruction::trigger(text).ok()).any(|one| mounts(&one)));
        needs = if needs == Some(true) || found == Some(true) { Some(true) } else { needs.and(found) };
    }
    needs
}

/// Reference "Automatic platform ARGs in the global scope".
fn platform_args(target: &Platform, stage: Option<&str>) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (prefix, platform) in [("BUILD", &Platform::host()), ("TARGET", target)] {
        let variant = platform.variant.clone().unwrap_or_default();
        for (name, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", variant),
        ] {
            args.insert(format!("{prefix}{name}"), value);
        }
    }
    args.insert("TARGETSTAGE".to_owned(), stage.unwrap_or("default").to_owned());
    args
}

/// Builds an image.
///
/// # Errors
/// [`Error::Located`] with the line at fault; [`Error::Interrupted`].
pub fn build(
    store: &Store,
    tools: &Tools,
    document: &Document,
    plan: &Plan,
    options: &BuildOptions,
    report: &Report,
) -> Result<Built> {
    let lease = store.lease()?;
    loop {
        let built = attempt(store, tools, document, plan, options, report);
        // On what a cache claimed and did not give, further steps were built.
        if built.is_ok() || !options.caches.has_failed() {
            drop(lease);
            return built;
        }
    }
}

fn attempt(
    store: &Store,
    tools: &Tools,
    document: &Document,
    plan: &Plan,
    options: &BuildOptions,
    report: &Report,
) -> Result<Built> {
    let builder = Builder::new(store, tools, options, report, document, plan)?;
    warn_of_unused(&builder);
    warn_of_missing(&builder);
    let mut state = stages(&builder)?;
    builder.have(&state.layers)?;
    finish(&builder, &mut state)?;
    let layout = store.layout();
    let (manifest, id) = match unchanged(&builder, &state)? {
        Some(base) => base,
        None => state.put(layout, options.format)?,
    };
    for name in &options.names {
        enter(layout, Some(name), &manifest)?;
    }
    if options.names.is_empty() && !options.is_member {
        enter(layout, None, &manifest)?;
    }
    builder.containers.clear()?;
    report.committed(&id, &options.names);
    Ok(Built { id, manifest })
}

/// An argument that no ARG takes was probably misspelt.
fn warn_of_unused(builder: &Builder<'_>) {
    let declared: BTreeSet<&str> = builder
        .document
        .instructions
        .iter()
        .flat_map(|instruction| {
            let args = match &instruction.kind {
                Kind::Arg(args) => args.as_slice(),
                _ => &[],
            };
            args.iter().map(|(name, _)| name.text.as_str())
        })
        .collect();
    let known = |name: &str| declared.contains(name) || PREDEFINED.contains(&name) || name == "SOURCE_DATE_EPOCH";
    let unused: Vec<&str> = builder.options.args.keys().map(String::as_str).filter(|name| !known(name)).collect();
    if !unused.is_empty() {
        let names = unused.join(" ");
        builder
            .report
            .warn(&format!("warning: one or more build args were not consumed: [{names}]: no ARG has the name"));
    }
}

/// An ARG that has no value at all was probably meant to be given one. As buildah, of every stage.
fn warn_of_missing(builder: &Builder<'_>) {
    let (options, globals) = (builder.options, &builder.plan.globals);
    let is_given =
        |name: &str| options.args.contains_key(name) || globals.contains_key(name) || PREDEFINED.contains(&name);
    let mut missing = BTreeSet::new();
    for instruction in &builder.document.instructions {
        let Kind::Arg(args) = &instruction.kind else { continue };
        let without = args.iter().filter(|(name, default)| default.is_none() && !is_given(&name.text));
        missing.extend(without.map(|(name, _)| name.text.as_str()));
    }
    for name in missing {
        let text =
            format!("missing \"{name}\" build argument. Try adding \"--build-arg {name}=<VALUE>\" to the command line");
        builder.report.warn(&text);
    }
}

/// The base image, where nothing was done to it and nothing else was asked for: manifest and id.
fn unchanged(builder: &Builder<'_>, state: &State) -> Result<Option<(Descriptor, Digest)>> {
    let options = builder.options;
    let Some(manifest) = state.working.from_manifest.filter(|_| options.timestamp.is_none()) else { return Ok(None) };
    let image = image_by_manifest(builder.store.layout(), &manifest)?;
    let base = State::from_image(&state.working.from_image, &image, state.clamp);
    let is_same = base.working == state.working && base.layers == state.layers;
    let is_in_format =
        options.format_is_free || config_type(options.format) == image.manifest.config.media_type.as_str();
    Ok((is_same && is_in_format).then_some((image.descriptor, image.manifest.config.digest)))
}

/// What is said of the image as a whole.
fn finish(builder: &Builder<'_>, state: &mut State) -> Result<()> {
    let options = builder.options;
    let created = Some(state.clamp.created());
    options.said.apply(&mut state.working, created).iter().for_each(|step| state.remember(step));
    let config = &mut state.working.config;
    if options.platform_is_asked
        && (config.os != options.platform.os || config.architecture != options.platform.architecture)
    {
        // As in BuildKit: what is built on a base of another platform is for the one asked for.
        let Platform { os, architecture, variant, .. } = options.platform.clone();
        (config.os, config.architecture, config.variant) = (os, architecture, variant);
    }
    merge(builder, state)?;
    if options.omit_history {
        state.working.config.history.clear();
    }
    if options.squash == Squash::All {
        (state.working.from_manifest, state.working.from_image) = (None, String::new());
    }
    if options.format == Format::Docker && !state.working.annotations.is_empty() {
        builder.report.warn("the format docker has no annotations: they are left out");
    }
    let config = serde_json::to_vec(&state.working).map_err(|source| Error::Json("configuration", source))?;
    match builder.watch.as_ref().and_then(|watch| watch.find(&config)) {
        Some(secret) => Err(leak(secret, "the image's configuration or history")),
        None => Ok(()),
    }
}

/// What the workers know of one another.
struct Work {
    waiting: BTreeSet<usize>,
    failed: Option<Error>,
}

/// Builds all stages that the target needs, and gives back the target.
fn stages(builder: &Builder<'_>) -> Result<State> {
    let needed = builder.plan.needed();
    let work = Mutex::new(Work { waiting: needed.iter().copied().collect(), failed: None });
    let changed = Condvar::new();
    let jobs = builder.options.jobs.clamp(1, needed.len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(|| worker(builder, &work, &changed));
        }
        worker(builder, &work, &changed);
    });
    if let Some(error) = work.into_inner().unwrap_or_else(PoisonError::into_inner).failed {
        return Err(error);
    }
    let mut done = builder.done.lock().unwrap_or_else(PoisonError::into_inner);
    done.remove(&builder.plan.target).ok_or_else(|| Error::Refused("the target was not built".to_owned()))
}

fn worker(builder: &Builder<'_>, work: &Mutex<Work>, changed: &Condvar) {
    loop {
        let mut now = work.lock().unwrap_or_else(PoisonError::into_inner);
        let index = loop {
            if now.failed.is_some() || now.waiting.is_empty() {
                return;
            }
            match now.waiting.iter().copied().find(|index| is_ready(builder, *index)) {
                Some(index) => break index,
                None => now = changed.wait(now).unwrap_or_else(PoisonError::into_inner),
            }
        };
        now.waiting.remove(&index);
        drop(now);
        let built = stage(builder, index);
        let mut now = work.lock().unwrap_or_else(PoisonError::into_inner);
        match built {
            Ok(state) => {
                builder.done.lock().unwrap_or_else(PoisonError::into_inner).insert(index, state);
            }
            Err(error) => drop(now.failed.get_or_insert(error)),
        }
        drop(now);
        changed.notify_all();
    }
}

fn is_ready(builder: &Builder<'_>, index: usize) -> bool {
    let done = builder.done.lock().unwrap_or_else(PoisonError::into_inner);
    builder.plan.stages.get(index).is_some_and(|stage| stage.needs.iter().all(|need| done.contains_key(need)))
}
