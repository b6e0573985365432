//! `--sbom` and its outputs: what an image consists of, written while it is made.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use hoy_build::Addition;
use hoy_cli::{Context as _, Error, Result};
use hoy_oci::Digest;
use serde_json::json;

use super::{Format, document, look};
use crate::context::Context;

/// The options of `build` and `commit` for lists of what the image consists of.
#[derive(Debug, Args)]
pub(crate) struct SbomOutputs {
    /// List what the image consists of, in the form of this scanner: syft, syft-cyclonedx, trivy, trivy-cyclonedx
    /// (CycloneDX), syft-spdx, trivy-spdx (SPDX)
    #[arg(long, value_name = "PRESET", hide_possible_values = true, value_parser =
          ["syft", "syft-cyclonedx", "syft-spdx", "trivy", "trivy-cyclonedx", "trivy-spdx"])]
    sbom: Option<String>,
    /// Write the list into this file
    #[arg(long, value_name = "FILE", requires = "sbom")]
    sbom_output: Option<PathBuf>,
    /// Write the package URLs of the list into this file
    #[arg(long, value_name = "FILE", requires = "sbom")]
    sbom_purl_output: Option<PathBuf>,
    /// Put the list into the image, there
    #[arg(long, value_name = "PATH", requires = "sbom", conflicts_with = "squash")]
    sbom_image_output: Option<String>,
    /// Put the package URLs of the list into the image, there
    #[arg(long, value_name = "PATH", requires = "sbom", conflicts_with = "squash")]
    sbom_image_purl_output: Option<String>,
    /// How several lists become one: here is but one, which each way leaves as it is
    #[arg(long, value_name = "STRATEGY", requires = "sbom", hide_possible_values = true, value_parser =
          ["cat", "merge-cyclonedx-by-component-name-and-version", "merge-spdx-by-package-name-and-versioninfo"])]
    sbom_merge_strategy: Option<String>,
}

impl SbomOutputs {
    /// # Errors
    /// For a list that goes nowhere.
    pub(crate) fn check(&self) -> Result<()> {
        let on_disk = self.sbom_output.is_some() || self.sbom_purl_output.is_some();
        if self.sbom.is_none() || on_disk || self.is_in_image() {
            return Ok(());
        }
        let text = "option --sbom: the list goes nowhere";
        let hint = "say where with --sbom-output, --sbom-purl-output, --sbom-image-output or --sbom-image-purl-output";
        Err(Error::msg(text).with_hint(hint))
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.sbom.is_some()
    }

    /// Whether the image will be another for the lists in it.
    pub(crate) fn is_in_image(&self) -> bool {
        self.sbom_image_output.is_some() || self.sbom_image_purl_output.is_some()
    }

    /// Looks through an image of the store, writes what is for files, and gives what is for the image.
    pub(crate) fn files(&self, context: &Context, image: &Digest) -> Result<Vec<Addition>> {
        let Some(preset) = &self.sbom else { return Ok(Vec::new()) };
        let place = format!("store:{}", image.hex());
        let mut found = look(context, &place, &[]).context(|| "list what the image consists of")?;
        // It has no name yet.
        found.name = None;
        let format = if preset.ends_with("-spdx") { Format::SpdxJson } else { Format::CyclonedxJson };
        let packages = &found.inventory.packages;
        let mut purls: Vec<String> =
            packages.iter().map(|package| package.purl(&found.inventory.distribution)).collect();
        purls.sort();
        purls.dedup();
        let purls = format!("{}\n", serde_json::to_string(&json!({"image_contents": {"dependencies": purls}}))?);
        let list = document(found, format)?;
        for (file, text) in [(&self.sbom_output, &list), (&self.sbom_purl_output, &purls)] {
            write(file.as_deref(), text)?;
        }
        let inside = [(&self.sbom_image_output, &list), (&self.sbom_image_purl_output, &purls)];
        let inside = inside.into_iter().filter_map(|(path, text)| Some((path.clone()?, text)));
        inside.map(|(path, text)| Ok(Addition { path, file: holding(text)? })).collect()
    }
}

fn write(file: Option<&Path>, text: &str) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, text).context(|| format!("write \"{}\"", file.display()))
}

fn holding(text: &str) -> Result<File> {
    let mut file = tempfile::tempfile().context(|| "make a temporary file")?;
    file.write_all(text.as_bytes()).and_then(|()| file.rewind()).context(|| "write a temporary file")?;
    Ok(file)
}
