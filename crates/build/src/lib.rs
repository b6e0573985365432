//! Working containers: a root file system being changed, the configuration it will have, and the image made of both.
//!
//! It decides what an image will be and writes its documents; mounting, running and moving images are asked of
//! `hoy-storage`, `hoy-runtime` and `hoy-copy` as child processes. It never reads a clock or the environment: programs
//! hand in what counts.

mod artifact;
mod behind;
mod blob_cache;
mod change;
mod chmod;
mod clamp;
mod commit;
mod compare;
mod containerfile;
mod contents;
mod copy;
mod destination;
mod document;
mod error;
mod from;
mod history;
mod in_root;
mod inspect;
mod list;
mod materials;
mod parents;
mod placed;
mod provenance;
mod remote;
mod run;
mod said;
mod settings;
mod sink;
mod source;
mod source_image;
mod supervise;
mod tools;
mod tree;
mod volumes;
mod words;
mod working;

pub use artifact::Artifact;
pub use blob_cache::keep_blobs;
pub use change::duration;
pub use clamp::Clamp;
pub use commit::{CommitOptions, Committed, commit};
pub use compare::{Difference, compare};
pub use containerfile::{
    Addition, Agent, BuildOptions, Built, CacheMount, Caches, Context, Event, NamedContext, PREDEFINED, Report, Secret,
    Squash, add_files, build, environment_of, index, inside, instruct, is_socket, keep, needs_mounts, plan, platforms,
    prune_builds, temporary_directory,
};
pub use contents::{Contents, contents};
pub use copy::{CopyOptions, copy};
pub use document::Format;
pub use error::{Error, Result};
pub use from::{FromOptions, Pull, from, in_store, pull, split_transport, store_name};
pub use history::{Asked, PastBuild, PastStep, Recorder, past_builds, resume};
pub use in_root::{become_command, kill_command};
pub use inspect::{inspect_container, inspect_image, with_empty_fields};
pub use list::{Filter, containers};
pub use materials::{Lock, Materials};
pub use provenance::{Detail, PREDICATE, Request};
pub use remote::{Fetched, Fetcher, Remote, without_credentials};
pub use run::{CgroupParent, Isolation, RunOptions, run};
pub use said::Said;
pub use settings::{Settings, apply};
pub use source_image::{add_source, create_source};
pub use tools::Tools;
pub use volumes::Volumes;
pub use working::Working;
