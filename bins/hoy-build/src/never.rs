//! Options of buildah that are refused, each with the reason.

use clap::Args;

/// Refuses a value, and says why.
fn never(reason: &'static str) -> impl Fn(&str) -> Result<String, &'static str> + Clone + Send + Sync {
    move |_| Err(reason)
}

pub(crate) const CW: &str = "images of confidential workloads are disks that are encrypted for one machine and its attestation \
                  server, which no other tool here reads; use buildah mkcw";
const STEPS: &str = "steps make layers here, and no images that could have labels";
const STAGES: &str = "stages leave no images: build each that is wanted with --target";
const CNI: &str = "networks of containers are not made here: --network is host or none";
const NAMES: &str = "names that an image had before are not kept";
const FILES_OF_HOST: &str =
    "a RUN without a network has neither file of the host, and one with the host's network needs them";
const POLICY: &str = "which images may be used is said by containers-policy.json(5) and registries.conf(5)";
const VOLUMES: &str = "a RUN may change what is below a VOLUME, and the change stays";
const LATER: &str =
    "layers are compressed with gzip, so that all builders of one input make one image; push compresses otherwise";
pub(crate) const SERVER: &str = "no command is a server here: run hoy-build once for each thing that is to be done";
const SUBJECT: &str = "an index refers to nothing: hoy-copy attach makes what refers to an image";
const COMPRESSIONS: &str = "an image has one digest everywhere, and no copy of it with other layers: push the index twice, \
                            under two names, with --compression-format";
const CONTEXT: &str = "a command has no context: name the source of a --mount by its whole path";
const PIVOT: &str = "without pivot_root(2) the file system of the host stays within reach; where it cannot be had, there \
                     is --isolation chroot";
const LINK: &str = "a working container has one layer, in which what came last counts: copy after what is run, or use \
                    COPY --link in a Containerfile";
const SCANNER: &str = "no image of a scanner is run, and none is needed: --sbom reads the image itself, in the form of the scanner's preset";

/// Options that never work for whoever makes an image.
#[derive(Debug, Args)]
pub(crate) struct Never {
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "", value_parser = never(CW))]
    cw: Option<String>,
    #[arg(long, hide = true, value_parser = never(SCANNER))]
    sbom_scanner_image: Option<String>,
    #[arg(long, hide = true, value_parser = never(SCANNER))]
    sbom_scanner_command: Option<String>,
}

/// Options of a commit that never work.
#[derive(Debug, Args)]
pub(crate) struct NeverInCommit {
    #[arg(long, hide = true, value_parser = never(SCANNER), num_args = 0..=1, default_missing_value = "")]
    pull: Option<String>,
    #[command(flatten)]
    image: Never,
}

/// Options of `run` that never work.
#[derive(Debug, Args)]
pub(crate) struct NeverInRun {
    #[arg(long, hide = true, value_parser = never(CONTEXT))]
    contextdir: Option<String>,
    #[arg(long, hide = true, value_parser = never(FILES_OF_HOST), num_args = 0..=1, default_missing_value = "")]
    no_hosts: Option<String>,
    #[arg(long, hide = true, value_parser = never(FILES_OF_HOST), num_args = 0..=1, default_missing_value = "")]
    no_hostname: Option<String>,
    #[arg(long, hide = true, value_parser = never(PIVOT), num_args = 0..=1, default_missing_value = "")]
    no_pivot: Option<String>,
}

/// Options of `add` and `copy` that never work.
#[derive(Debug, Args)]
pub(crate) struct NeverInCopies {
    #[arg(long, hide = true, value_parser = never(LINK), num_args = 0..=1, default_missing_value = "")]
    link: Option<String>,
}

/// Options of a build that never work.
#[derive(Debug, Args)]
pub(crate) struct NeverInBuild {
    #[arg(long, hide = true, value_parser = never(STEPS))]
    layer_label: Option<String>,
    #[arg(long, hide = true, value_parser = never(STAGES), num_args = 0..=1, default_missing_value = "")]
    save_stages: Option<String>,
    #[arg(long, hide = true, value_parser = never(STAGES), num_args = 0..=1, default_missing_value = "")]
    stage_labels: Option<String>,
    #[arg(long, hide = true, value_parser = never(POLICY))]
    source_policy_file: Option<String>,
    #[arg(long, hide = true, value_parser = never(VOLUMES), num_args = 0..=1, default_missing_value = "")]
    compat_volumes: Option<String>,
    #[arg(long, hide = true, value_parser = never(LATER))]
    compression_format: Option<String>,
    #[arg(long, hide = true, value_parser = never(LATER))]
    compression_level: Option<String>,
    #[arg(long, hide = true, value_parser = never(LATER), num_args = 0..=1, default_missing_value = "")]
    force_compression: Option<String>,
    #[command(flatten)]
    networks: NeverNetworks,
}

/// Options for networks that never work.
#[derive(Debug, Args)]
pub(crate) struct NeverNetworks {
    #[arg(long, hide = true, value_parser = never(CNI))]
    cni_config_dir: Option<String>,
    #[arg(long, hide = true, value_parser = never(CNI))]
    cni_plugin_path: Option<String>,
}

/// Options of `images` that never work.
#[derive(Debug, Args)]
pub(crate) struct NeverInImages {
    #[arg(long, hide = true, value_parser = never(NAMES), num_args = 0..=1, default_missing_value = "")]
    history: Option<String>,
}

/// Options of `manifest annotate` that never work.
#[derive(Debug, Args)]
pub(crate) struct NeverInAnnotating {
    #[arg(long, hide = true, value_parser = never(SUBJECT))]
    subject: Option<String>,
}

/// Options of `manifest push` that never work.
#[derive(Debug, Args)]
pub(crate) struct NeverInPushing {
    #[arg(long, hide = true, value_parser = never(COMPRESSIONS))]
    add_compression: Option<String>,
}
