//! An image in the making: what a stage has come to after each of its instructions.

use std::collections::BTreeMap;

use hoy_containerfile::{Rules, Variables, Word, expand};
use hoy_layout::{Image, ImageLayout};
use hoy_oci::{Descriptor, Digest, Hasher, History, MAX_DOCUMENT_BYTES, Platform, Timestamp};

use crate::document::{self, Format, NewLayer};
use crate::{Clamp, Error, Result, Working};

/// What runs the shell form where no SHELL says (reference "SHELL").
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// What an image from nothing has, as other builders have it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage's image so far.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Its configuration, with the history of every step so far.
    pub(crate) working: Working,
    /// Its layers, those of its base first.
    pub(crate) layers: Vec<Descriptor>,
    /// How many of them, and of the history, are its base image's.
    pub(crate) base: (usize, usize),
    /// ARGs declared so far that have a value.
    args: BTreeMap<String, String>,
    /// Where each variable stands in the environment.
    places: BTreeMap<String, usize>,
    /// What [`State::check_size`] looks at, counted as it grows.
    size_bytes: usize,
    pub(crate) clamp: Clamp,
    pub(crate) platform: Platform,
    /// A CMD of this stage outlives its ENTRYPOINT.
    pub(crate) has_cmd: bool,
    /// The escape character of the document.
    pub(crate) escape: char,
}

impl State {
    pub(crate) fn scratch(platform: &Platform, clamp: Clamp) -> Self {
        let mut working = Working::from_scratch(platform);
        working.config.config.env = vec![PATH.to_owned()];
        let state = Self {
            working,
            layers: Vec::new(),
            base: (0, 0),
            args: BTreeMap::new(),
            places: BTreeMap::new(),
            size_bytes: 0,
            clamp,
            platform: platform.clone(),
            has_cmd: false,
            escape: '\\',
        };
        state.counted()
    }

    /// What is known of a working container.
    pub(crate) fn of(working: Working, platform: &Platform) -> Self {
        Self { working, ..Self::scratch(platform, Clamp::Now(Timestamp::EPOCH)) }.counted()
    }

    /// The same, its environment indexed and its size known.
    fn counted(mut self) -> Self {
        let config = &self.working.config.config;
        let names =
            config.env.iter().enumerate().filter_map(|(at, entry)| Some((entry.split_once('=')?.0.to_owned(), at)));
        self.places = names.collect();
        let labels = config.labels.iter().map(|(name, value)| name.len() + value.len());
        let history = self.working.config.history.iter().filter_map(|step| step.created_by.as_ref()).map(String::len);
        let args = self.args.iter().map(|(name, value)| name.len() + value.len());
        self.size_bytes = config.env.iter().map(String::len).chain(labels).chain(history).chain(args).sum();
        self
    }

    pub(crate) fn from_image(name: &str, image: &Image, clamp: Clamp) -> Self {
        let mut working = Working::from_image(name, image);
        document::pad_history(&mut working.config);
        let config = &working.config;
        let platform = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
        let base = (image.manifest.layers.len(), config.history.len());
        let layers = image.manifest.layers.clone();
        Self { layers, base, working, ..Self::scratch(&platform, clamp) }.counted()
    }

    /// The same as the start of another stage.
    pub(crate) fn inherited(&self) -> Self {
        Self { has_cmd: false, ..self.clone() }
    }

    /// Sets a variable of the environment, at its place where it has one.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let env = &mut self.working.config.config.env;
        let old = self.places.get(name).and_then(|at| env.get_mut(*at));
        self.size_bytes += entry.len();
        match old {
            Some(old) => self.size_bytes -= std::mem::replace(old, entry).len(),
            None => {
                self.places.insert(name.to_owned(), env.len());
                env.push(entry);
            }
        }
    }

    /// Sets a label.
    pub(crate) fn set_label(&mut self, name: String, value: String) {
        let name_bytes = name.len();
        self.size_bytes += name_bytes + value.len();
        let old = self.working.config.config.labels.insert(name, value);
        self.size_bytes -= old.map_or(0, |old| name_bytes + old.len());
    }

    /// Gives an ARG its value.
    pub(crate) fn set_arg(&mut self, name: String, value: String) {
        let name_bytes = name.len();
        self.size_bytes += name_bytes + value.len();
        let old = self.args.insert(name, value);
        self.size_bytes -= old.map_or(0, |old| name_bytes + old.len());
    }

    /// ARGs declared so far that have a value.
    pub(crate) fn args(&self) -> &BTreeMap<String, String> {
        &self.args
    }

    /// The text of a word with its variables filled in.
    pub(crate) fn text(&self, word: &Word) -> Result<String> {
        self.expanded(word, Rules::words(self.escape)).map(|expanded| expanded.text)
    }

    /// The words that a word becomes.
    pub(crate) fn words(&self, word: &Word) -> Result<Vec<String>> {
        self.expanded(word, Rules::words(self.escape)).map(|expanded| expanded.words)
    }

    pub(crate) fn expanded(&self, word: &Word, rules: Rules) -> Result<hoy_containerfile::Expanded> {
        expand(&word.text, self, rules).map_err(|error| Error::Language { error, span: word.span })
    }

    /// The digest of all layers, in their order.
    pub(crate) fn chain(&self) -> Digest {
        self.chain_up_to(self.layers.len())
    }

    /// The digest of the first `count` layers.
    pub(crate) fn chain_up_to(&self, count: usize) -> Digest {
        let mut hasher = Hasher::new();
        for diff_id in self.working.config.rootfs.diff_ids.iter().take(count) {
            hasher.update(diff_id.to_string().as_bytes());
        }
        hasher.finish()
    }

    pub(crate) fn workdir(&self) -> &str {
        match self.working.config.config.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }

    /// A command line as the words that are run.
    pub(crate) fn command(&self, words: Vec<String>, is_shell: bool) -> Vec<String> {
        if !is_shell {
            return words;
        }
        let shell = self.working.config.config.shell.clone();
        let mut command = shell.unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
        command.push(words.join(" "));
        command
    }

    /// Takes up what a step made, and remembers the step.
    pub(crate) fn push(&mut self, layer: Option<NewLayer>, created_by: &str) {
        let empty_layer = layer.is_none();
        self.size_bytes += created_by.len();
        if let Some(layer) = layer {
            self.layers.push(layer.descriptor);
            self.working.config.rootfs.diff_ids.push(layer.diff_id);
        }
        self.working.config.history.push(History {
            created: Some(self.clamp.created()),
            created_by: Some(created_by.to_owned()),
            empty_layer,
            ..History::default()
        });
    }

    /// Remembers a step that has no layer, in the words that builders have for it.
    pub(crate) fn remember(&mut self, instruction: &str) {
        self.push(None, &format!("/bin/sh -c #(nop) {instruction}"));
    }

    /// Whether the configuration is still one that can be read again: a variable of variables grows fast.
    pub(crate) fn check_size(&self) -> Result<()> {
        if self.size_bytes as u64 > MAX_DOCUMENT_BYTES {
            let what = "variables, labels and history of an image are together longer than 4 MiB, which nobody reads";
            return Err(Error::Refused(what.to_owned()));
        }
        Ok(())
    }

    /// Puts the image into the store; nothing leads to it yet.
    pub(crate) fn put(&self, layout: &ImageLayout, format: Format) -> Result<(Descriptor, Digest)> {
        let mut working = self.working.clone();
        working.config.created = Some(self.clamp.created());
        "layers".clone_into(&mut working.config.rootfs.kind);
        let config = serde_json::to_vec(&working.config).map_err(|source| Error::Json("configuration", source))?;
        let config = layout.put(document::config_type(format), &config)?;
        let id = config.digest;
        let manifest = document::manifest(&working, format, config, &self.layers, None)?;
        let bytes = serde_json::to_vec(&manifest).map_err(|source| Error::Json("manifest", source))?;
        let media_type = manifest.media_type.as_ref().map(|t| t.as_str()).unwrap_or_default();
        Ok((layout.put(media_type, &bytes)?, id))
    }
}

/// ARGs, and above them the environment.
impl Variables for State {
    fn value(&self, name: &str) -> Option<&str> {
        let entry = self.places.get(name).and_then(|at| self.working.config.config.env.get(*at));
        match entry {
            Some(entry) => entry.split_once('=').map(|(_, value)| value),
            None => self.args.value(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerfile::settings;

    /// What is counted and indexed as it grows is what is there.
    #[test]
    fn variables_are_where_they_are_said_to_be() {
        let lines = (1..=500).map(|n| format!("ENV v{n}=${{v{}:-x}} last={n}\nLABEL l=${{last}} l{n}=y\n", n - 1));
        let text = format!("FROM scratch\n{}", lines.collect::<String>());
        let document = hoy_containerfile::Document::parse(text.as_bytes()).unwrap();
        let clamp = Clamp::choose(Some("0"), None, None, || unreachable!()).unwrap();
        let mut state = State::scratch(&Platform::host(), clamp);
        state.set_arg("a".to_owned(), "long".to_owned());
        state.set_arg("a".to_owned(), "b".to_owned());
        for instruction in document.instructions.iter().skip(1) {
            settings::apply(&mut state, instruction).unwrap();
        }
        let value = |name: &str| state.value(name);
        assert_eq!(
            [value("v500"), value("last"), value("a"), value("none")],
            [Some("x"), Some("500"), Some("b"), None]
        );
        // PATH is there from the first.
        assert_eq!(state.working.config.config.env.len(), 502);
        let counted = state.clone().counted();
        assert_eq!((counted.size_bytes, &counted.places), (state.size_bytes, &state.places));
        state.check_size().unwrap();
    }
}
