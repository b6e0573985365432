//! `build --provenance` and `--attest`: what is said of an image, kept beside it as an artifact that refers to it.

use std::path::Path;
use std::str::FromStr;

use hoy_build::{BuildOptions, Detail, PREDICATE, Request, Tools};
use hoy_cli::{Context as _, Result};
use hoy_oci::Platform;

use crate::build::Made;
use crate::build_args::BuildArgs;
use crate::context::Context;
use crate::sbom;

/// The media type of statements.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// One statement that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attest {
    Provenance(Detail),
    Sbom,
    /// What is not wanted.
    Nothing,
}

impl FromStr for Attest {
    type Err = String;

    /// `type=provenance[,mode=min|max]`, `type=sbom`, as BuildKit writes them.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (mut kind, mut detail, mut is_disabled) = (None, Detail::Min, false);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("type", "provenance")) => kind = Some(true),
                Some(("type", "sbom")) => kind = Some(false),
                Some(("mode", mode)) if kind == Some(true) => detail = mode_of(mode)?,
                Some(("version", "v1")) if kind == Some(true) => {}
                Some(("disabled", value @ ("true" | "false"))) => is_disabled = value == "true",
                _ => {
                    return Err(format!(
                        "\"{part}\" is not understood: want type=provenance[,mode=min|max] or type=sbom"
                    ));
                }
            }
        }
        match kind {
            _ if is_disabled => Ok(Self::Nothing),
            Some(true) => Ok(Self::Provenance(detail)),
            Some(false) => Ok(Self::Sbom),
            None => Err("it has no type: provenance or sbom".to_owned()),
        }
    }
}

fn mode_of(text: &str) -> std::result::Result<Detail, String> {
    match text {
        "min" => Ok(Detail::Min),
        "max" => Ok(Detail::Max),
        _ => Err(format!("\"{text}\" is no mode: min or max")),
    }
}

/// The value of `--provenance`.
pub(crate) fn provenance(text: &str) -> std::result::Result<Attest, String> {
    match text {
        "true" => Ok(Attest::Provenance(Detail::Min)),
        "false" => Ok(Attest::Nothing),
        text => mode_of(text.strip_prefix("mode=").unwrap_or(text)).map(Attest::Provenance),
    }
}

/// Whether anything will refer to the image.
pub(crate) fn is_asked(args: &BuildArgs) -> bool {
    all(args).any(|one| one != Attest::Nothing)
}

fn all(args: &BuildArgs) -> impl Iterator<Item = Attest> {
    args.provenance.iter().chain(&args.attest).copied()
}

/// What the statements say of the request: known before the build.
pub(crate) fn requests(args: &BuildArgs, options: &BuildOptions, containerfile: &[u8]) -> Result<Vec<Request>> {
    // The address of one that is fetched, which is no directory here.
    let context = Some(args.context.as_str()).filter(|text| text.contains("://") || text.starts_with("git@"));
    let details = all(args).filter_map(|one| match one {
        Attest::Provenance(detail) => Some(detail),
        Attest::Sbom | Attest::Nothing => None,
    });
    Ok(details
        .map(|detail| Request::new(options, containerfile, context, detail))
        .collect::<std::result::Result<_, _>>()?)
}

/// Attaches all that was asked for to what was made.
pub(crate) fn attach(
    context: &Context,
    args: &BuildArgs,
    requests: &[Request],
    made: &Made,
    materials: &hoy_build::Materials,
) -> Result<()> {
    let place = format!("store:{}", made.manifest.digest.hex());
    let members = || made.images.iter().filter(|(_, image)| image.digest != made.manifest.digest);
    let digests: Vec<_> =
        std::iter::once(&made.manifest).chain(members().map(|(_, image)| image)).map(|d| d.digest).collect();
    let platforms: Vec<Platform> = made.images.iter().map(|(platform, _)| platform.clone()).collect();
    for request in requests {
        let version = env!("CARGO_PKG_VERSION");
        let statement = request.statement(&made.names, &digests, &platforms, &materials.used(), version);
        let text = format!("{}\n", serde_json::to_string(&statement)?);
        let annotation = format!("--annotation=in-toto.io/predicate-type={PREDICATE}");
        artifact(&context.tools, &place, &[annotation], ("provenance.json", STATEMENT), &text)
            .context(|| "attach the provenance")?;
    }
    if all(args).any(|one| one == Attest::Sbom) {
        // An index has no files itself.
        let each: Vec<Vec<String>> = members().map(|(platform, _)| vec![format!("--platform={platform}")]).collect();
        for options in if each.is_empty() { vec![Vec::new()] } else { each } {
            sbom::attach_to(context, &place, &options).context(|| "attach the list of software")?;
        }
    }
    Ok(())
}

/// Makes an artifact of a text that refers to the image at `place`, and says its digest.
pub(crate) fn artifact(
    tools: &Tools,
    place: &str,
    options: &[String],
    (name, media_type): (&str, &str),
    text: &str,
) -> Result<String> {
    let directory = tempfile::tempdir().context(|| "make a temporary directory")?;
    let file = directory.path().join(name);
    std::fs::write(&file, text).context(|| format!("write \"{}\"", file.display()))?;
    let action = ["attach".to_owned(), format!("--artifact-type={media_type}")];
    let what = [place.to_owned(), format!("{}:{media_type}", Path::new(&file).display())];
    Ok(tools.copy(action.iter().chain(options).chain(&what))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let (min, max) = (Attest::Provenance(Detail::Min), Attest::Provenance(Detail::Max));
        for (text, want) in [
            ("type=provenance", Some(min)),
            ("type=provenance,mode=max", Some(max)),
            ("type=provenance,mode=max,version=v1", Some(max)),
            ("type=provenance,disabled=true", Some(Attest::Nothing)),
            ("type=sbom", Some(Attest::Sbom)),
            ("type=sbom,mode=max", None),
            ("type=provenance,version=v0.2", None),
            ("type=x", None),
            ("mode=max", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Attest>().ok(), want, "{text}");
        }
        for (text, want) in [
            ("true", Some(min)),
            ("false", Some(Attest::Nothing)),
            ("mode=max", Some(max)),
            ("min", Some(min)),
            ("x", None),
        ] {
            assert_eq!(provenance(text).ok(), want, "{text}");
        }
    }
}
