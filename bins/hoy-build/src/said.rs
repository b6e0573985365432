//! The options with which `build` and `commit` say something of the whole image.

use clap::{ArgAction, Args};
use hoy_build::Said;

#[derive(Debug, Args)]
pub(crate) struct SaidArgs {
    /// Annotation of the manifest
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// Leave this variable out of the image
    #[arg(long, value_name = "NAME")]
    unsetenv: Vec<String>,
    /// Leave out this label
    #[arg(long, value_name = "NAME")]
    unsetlabel: Vec<String>,
    /// Leave out this annotation
    #[arg(long, value_name = "NAME")]
    unsetannotation: Vec<String>,
    /// The time the image has is an annotation too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true, action = ArgAction::Set)]
    created_annotation: bool,
    /// Label the image with the builder's version; only false, for such a label would differ between builders
    #[arg(long, value_name = "BOOL", value_parser = ["false"], require_equals = true, hide_possible_values = true)]
    identity_label: Option<String>,
}

impl SaidArgs {
    /// What they say.
    pub(crate) fn said(&self) -> Said {
        Said {
            annotations: self.annotation.iter().map(|text| pair(text)).collect(),
            unset_env: self.unsetenv.clone(),
            unset_labels: self.unsetlabel.clone(),
            unset_annotations: self.unsetannotation.clone(),
            has_created_annotation: self.created_annotation,
            ..Said::default()
        }
    }
}

/// `NAME=VALUE`, or a name without one.
pub(crate) fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}
