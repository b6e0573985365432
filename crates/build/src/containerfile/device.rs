//! `RUN --device`: devices of this machine for one command.

use std::path::Path;

use hoy_containerfile::Run;
use hoy_spec::CdiDevices;

use crate::containerfile::builder::Builder;
use crate::run::Isolation;
use crate::{Error, Result};

/// What a command gets.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    /// As `--device` has them.
    pub(crate) names: Vec<String>,
    /// What the cache of steps has to know: names, and what their descriptions say.
    pub(crate) content: String,
}

impl Devices {
    /// Finds what `--device` asks for: names of CDI (reference "RUN --device"), and paths as buildah's `--device` has
    /// them. Without `required` one that is not there is passed over, and `step` tells of it.
    pub(crate) fn find(builder: &Builder<'_>, step: &str, run: &Run) -> Result<Self> {
        let mut devices = Self::default();
        if run.devices.is_empty() {
            return Ok(devices);
        }
        if builder.options.isolation == Isolation::Chroot {
            return Err(Error::Refused("RUN --device cannot be had with --isolation chroot".to_owned()));
        }
        let described = CdiDevices::read(&builder.options.create.cdi_directories);
        for asked in &run.devices {
            let name = asked.name.as_str();
            let is_path = name.starts_with('/');
            let found = described.matching(name);
            let is_there =
                if is_path { Path::new(name.split(':').next().unwrap_or(name)).exists() } else { !found.is_empty() };
            if !is_there {
                let why = if is_path { format!("there is no \"{name}\"") } else { described.missing(name) };
                if asked.is_required {
                    return Err(Error::Refused(format!("the device \"{name}\" is required: {why}")));
                }
                builder.report.line(step, &format!("without the device \"{name}\": {why}"));
                continue;
            }
            let is_allowed = |names: &[&str]| {
                let allowed = &builder.options.allowed_devices;
                allowed.iter().any(|one| one.is_empty() || names.contains(&one.as_str()))
            };
            let refused = || {
                let text = format!("RUN --device={name} is for who says so: build with --allow device={name}");
                Error::Refused(text)
            };
            if is_path {
                if !is_allowed(&[name]) {
                    return Err(refused());
                }
                devices.add(name, "");
            }
            for device in found {
                let kind = device.name.split('=').next().unwrap_or_default();
                if !device.is_open && !is_allowed(&[name, &device.name, kind]) {
                    return Err(refused());
                }
                devices.add(&device.name, &device.canonical());
            }
        }
        Ok(devices)
    }

    fn add(&mut self, name: &str, content: &str) {
        if !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
            self.content.extend([name, " ", content, "\n"]);
        }
    }
}
