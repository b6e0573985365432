//! What every Hoy program shares: its start and end, errors, output, tables, templates, progress, completion.
//!
//! Nothing here knows images, containers or registries, and only this crate decides how a person sees a failure.

mod cobra;
mod error;
pub mod human;
mod output;
mod progress;
mod start;
mod steps;
pub mod table;
mod template;

pub use cobra::{is_called, parse_as_cobra};
pub use error::{Context, Error, Result, warn_of_damage, warn_of_damage_once};
pub use output::{Stdout, print_line};
pub use progress::Progress;
pub use start::{main, name_and_words, parse, parse_args, parse_or_exit_with};
pub use steps::Steps;
pub use template::Template;
