//! What the caller says of an image as a whole, beside what made it.

use hoy_oci::ImageConfig;
use serde_json::Value;

use crate::Working;
use crate::settings::change_os_features;

/// Options that `build` and `commit` share.
#[derive(Debug, Clone)]
pub struct Said {
    /// Labels that the image gets, in the order of the command line.
    pub labels: Vec<(String, String)>,
    /// Annotations that it gets.
    pub annotations: Vec<(String, String)>,
    /// Variables that each stage begins with, and its commands have.
    pub env: Vec<(String, String)>,
    /// Labels that it does not have.
    pub unset_labels: Vec<String>,
    /// Annotations that it does not have.
    pub unset_annotations: Vec<String>,
    /// Variables that it does not have.
    pub unset_env: Vec<String>,
    /// The labels of its base image are its own.
    pub inherits_labels: bool,
    /// So are the annotations.
    pub inherits_annotations: bool,
    /// The time it was made is an annotation.
    pub has_created_annotation: bool,
    /// The version of the operating system that it needs.
    pub os_version: Option<String>,
    /// Features of the operating system that it needs.
    pub os_features: Vec<String>,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            labels: Vec::new(),
            annotations: Vec::new(),
            env: Vec::new(),
            unset_labels: Vec::new(),
            unset_annotations: Vec::new(),
            unset_env: Vec::new(),
            inherits_labels: true,
            inherits_annotations: true,
            has_created_annotation: false,
            os_version: None,
            os_features: Vec::new(),
        }
    }
}

/// Pre-defined annotation keys of image-spec annotations.md.
const CREATED: &str = "org.opencontainers.image.created";

impl Said {
    /// Leaves out what is not inherited of an image that is built on.
    pub fn apply_to_base(&self, working: &mut Working) {
        if !self.inherits_labels {
            working.config.config.labels.clear();
        }
        if !self.inherits_annotations {
            working.annotations.clear();
        }
    }

    /// Says the rest of what was built; `created` is the time it has. Returns what the history tells of it.
    pub fn apply(&self, working: &mut Working, created: Option<hoy_oci::Timestamp>) -> Vec<String> {
        let mut steps = Vec::new();
        for (name, value) in &self.labels {
            working.config.config.labels.insert(name.clone(), value.clone());
            steps.push(format!("LABEL {name}={value}"));
        }
        working.annotations.extend(self.annotations.iter().cloned());
        if let (true, Some(created)) = (self.has_created_annotation, created) {
            working.annotations.insert(CREATED.to_owned(), created.to_string());
        }
        self.unset_labels.iter().for_each(|name| drop(working.config.config.labels.remove(name)));
        self.unset_annotations.iter().for_each(|name| drop(working.annotations.remove(name)));
        self.unset_env.iter().for_each(|name| drop_variable(&mut working.config, name));
        let other = &mut working.config.other;
        other.extend(self.os_version.as_deref().map(|version| ("os.version".to_owned(), Value::from(version))));
        change_os_features(&mut working.config, &self.os_features);
        steps
    }
}

fn drop_variable(config: &mut ImageConfig, name: &str) {
    config.config.env.retain(|entry| entry.split('=').next() != Some(name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoy_oci::{Platform, Timestamp};

    fn pairs(texts: &[&str]) -> Vec<(String, String)> {
        texts.iter().filter_map(|text| text.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    }

    #[test]
    fn what_is_said_wins_and_what_is_unset_is_gone() {
        let mut working = Working::from_scratch(&Platform::new("linux", "amd64", None));
        working.config.config.labels = pairs(&["a=1", "b=2"]).into_iter().collect();
        working.config.config.env = vec!["X=1".to_owned(), "Y=2".to_owned()];
        let said = Said {
            labels: pairs(&["b=3", "c=4"]),
            annotations: pairs(&["n=v", "m=w"]),
            unset_labels: vec!["a".to_owned(), "none".to_owned()],
            unset_annotations: vec!["m".to_owned()],
            unset_env: vec!["X".to_owned()],
            has_created_annotation: true,
            os_version: Some("1".to_owned()),
            ..Said::default()
        };
        let steps = said.apply(&mut working, Some(Timestamp::EPOCH));
        assert_eq!(steps, ["LABEL b=3", "LABEL c=4"]);
        assert_eq!(working.config.config.labels, pairs(&["b=3", "c=4"]).into_iter().collect());
        assert_eq!(working.config.config.env, ["Y=2"]);
        let annotations = pairs(&["n=v", "org.opencontainers.image.created=1970-01-01T00:00:00Z"]);
        assert_eq!(working.annotations, annotations.into_iter().collect());
        assert_eq!(working.config.other.get("os.version"), Some(&Value::from("1")));
        Said { inherits_labels: false, inherits_annotations: false, ..Said::default() }.apply_to_base(&mut working);
        assert!(working.config.config.labels.is_empty() && working.annotations.is_empty());
    }
}
