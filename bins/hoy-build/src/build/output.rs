//! `build --output` and `--metadata-file`: what else becomes of an image.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;

use hoy_build::{Tools, split_transport};
use hoy_cli::{Context as _, Error, Result, print_line};
use hoy_layout::{NamedImage, Store};
use hoy_oci::Digest;
use serde_json::{Value, json};

use crate::build::{Made, attest, forget};
use crate::build_args::BuildArgs;
use crate::context::Context;

/// `type=TYPE,dest=PATH,…`, or a path alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    kind: Kind,
    /// A path, `-`, or of an image its name; for [`Kind::Image`] it may be left out.
    place: Option<String>,
    /// The image's name in an archive.
    name: Option<String>,
    push: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Tar,
    Oci,
    Docker,
    Image,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        if !text.contains('=') {
            let kind = if text == "-" { Kind::Tar } else { Kind::Local };
            return Ok(Self { kind, place: Some(text.to_owned()), name: None, push: false });
        }
        let (mut kind, mut place, mut name, mut push) = (None, None, None, false);
        for pair in text.split(',') {
            match pair.split_once('=') {
                Some(("type", "local")) => kind = Some(Kind::Local),
                Some(("type", "tar")) => kind = Some(Kind::Tar),
                Some(("type", "oci")) => kind = Some(Kind::Oci),
                Some(("type", "docker")) => kind = Some(Kind::Docker),
                Some(("type", "image")) => kind = Some(Kind::Image),
                Some(("type", "registry")) => (kind, push) = (Some(Kind::Image), true),
                Some(("type", other)) => return Err(format!("there is no type {other}")),
                Some(("dest", path)) => place = Some(path.to_owned()),
                Some(("name", text)) => name = Some(text.to_owned()),
                Some(("push", value @ ("true" | "false"))) => push = value == "true",
                _ => return Err(format!("\"{pair}\" is not understood: want type, dest, name or push")),
            }
        }
        let kind = kind.ok_or("it has no type: local, tar, oci, docker or image")?;
        match (kind, &place, &name) {
            (Kind::Image, None, _) => {}
            (Kind::Image, Some(_), _) => return Err("an image has a name, and no dest".to_owned()),
            (Kind::Local, Some(path), _) if path == "-" => return Err("a directory cannot go to -".to_owned()),
            (_, None, _) => return Err("missing required key \"dest\"".to_owned()),
            (Kind::Local | Kind::Tar, _, Some(_)) => return Err("files have no name".to_owned()),
            _ if push => return Err("only an image is pushed".to_owned()),
            _ => {}
        }
        Ok(Self { kind, place, name, push })
    }
}

impl Output {
    /// Whether it takes standard output, so that nothing else is printed there.
    pub(crate) fn is_stdout(&self) -> bool {
        self.place.as_deref() == Some("-")
    }

    /// The name that an image gets in the store beside those of `--tag`.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.kind == Kind::Image)
    }

    /// Writes the image `manifest`, which has these names.
    pub(crate) fn write(
        &self,
        tools: &Tools,
        manifest: &Digest,
        names: &[String],
        access: &[String],
        referrers: Option<String>,
    ) -> Result<()> {
        let image = format!("store:{}", manifest.hex());
        let place = self.place.clone().unwrap_or_default();
        let name = self.name.as_ref().or(names.first()).map(|name| format!(":{name}")).unwrap_or_default();
        let copy = |options: &[String], destination: String| {
            let mut args = vec!["copy".to_owned(), "--quiet".to_owned(), "--all".to_owned()];
            args.extend(referrers.iter().chain(options).cloned());
            args.extend([image.clone(), destination]);
            args
        };
        match self.kind {
            Kind::Local => unpack(tools, &image, &PathBuf::from(&place)),
            Kind::Tar => run(tools, vec!["export".to_owned(), image, place]),
            Kind::Oci if Path::new(&place).is_dir() => run(tools, copy(&[], format!("oci:{place}{name}"))),
            Kind::Oci => run(tools, copy(&[], format!("oci-archive:{place}{name}"))),
            Kind::Docker => {
                let args = copy(&[], format!("docker-archive:{place}{name}"));
                // Such an archive has one image of a list, and nothing that refers to it.
                let fits = |arg: &String| !matches!(arg.as_str(), "--all" | "--with-referrers");
                run(tools, args.into_iter().filter(fits).collect())
            }
            Kind::Image if self.push => match self.name.as_ref().or(names.first()) {
                Some(name) => run(tools, copy(access, format!("docker://{name}"))),
                None => Err(Error::msg("an image that is pushed needs a name")),
            },
            Kind::Image => Ok(()),
        }
        .context(|| {
            format!("write the output \"{}\"", self.place.as_deref().or(self.name.as_deref()).unwrap_or("image"))
        })
    }
}

/// Runs `hoy-copy`, whose standard output is this program's.
fn run(tools: &Tools, args: Vec<String>) -> Result<()> {
    let is_stdout = args.last().is_some_and(|last| last == "-" || last.contains("-archive:-"));
    if !is_stdout {
        return Ok(tools.copy(args).map(drop)?);
    }
    let status = tools.command("hoy-copy").args(args).stdin(Stdio::null()).status().context(|| "run \"hoy-copy\"")?;
    if status.success() { Ok(()) } else { Err(Error::msg(format!("hoy-copy failed: {status}"))) }
}

/// Writes the image's files into a directory, over what is there.
fn unpack(tools: &Tools, image: &str, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).context(|| format!("create \"{}\"", directory.display()))?;
    let mut command = tools.command("hoy-copy");
    command.args(["export", image, "-"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context(|| "run \"hoy-copy\"")?;
    let tar = child.stdout.take().ok_or_else(|| Error::msg("hoy-copy has no output"))?;
    let unpacked = hoy_build::Context::unpack(tar, directory);
    let status = child.wait().context(|| "wait for \"hoy-copy\"")?;
    unpacked?;
    if status.success() { Ok(()) } else { Err(Error::msg(format!("hoy-copy failed: {status}"))) }
}

/// Places that `--tag` names in the words of `push`: what is built goes there, and not into the store.
pub(crate) fn destinations(args: &BuildArgs) -> impl Iterator<Item = &String> {
    args.tag.iter().filter(|tag| split_transport(tag).is_some())
}

/// Sends what was built to these places. It stays in the store under a name, or where it was before.
pub(crate) fn send(
    context: &Context,
    store: &Store,
    args: &BuildArgs,
    made: Made,
    known: &[NamedImage],
) -> Result<Made> {
    let send = |destination: &String| {
        let mut command = vec!["copy".to_owned(), "--all".to_owned(), "--insecure-policy".to_owned()];
        command.extend(args.access.options("dest"));
        command.extend(args.quiet.then(|| "--quiet".to_owned()));
        command.extend(args.sign_by.as_ref().map(|key| format!("--sign-by={key}")));
        command.extend([format!("store:{}", made.manifest.digest.hex()), destination.clone()]);
        context.tools.copy(command).map(drop).context(|| format!("send the image to \"{destination}\""))
    };
    let sent = destinations(args).try_for_each(send);
    if made.names.is_empty() && destinations(args).next().is_some() {
        forget(store, &made, known)?;
    }
    sent.map(|()| made)
}

/// Everything that becomes of what was built.
pub(crate) fn results(context: &Context, args: &BuildArgs, made: &Made) -> Result<()> {
    for output in &args.output {
        let referrers = attest::is_asked(args).then(|| "--with-referrers".to_owned());
        let access = args.access.options("dest");
        output.write(&context.tools, &made.manifest.digest, &made.names, &access, referrers)?;
    }
    if let Some(file) = &args.iidfile {
        std::fs::write(file, made.id.to_string()).context(|| format!("write \"{}\"", file.display()))?;
    }
    if let Some(file) = &args.iidfile_raw {
        std::fs::write(file, made.id.hex()).context(|| format!("write \"{}\"", file.display()))?;
    }
    if let Some(file) = &args.metadata_file {
        write_metadata(file, made)?;
    }
    if !args.output.iter().any(Output::is_stdout) {
        print_line(made.id.hex())?;
    }
    Ok(())
}

/// Writes what docker and buildah tell of an image in a file.
pub(crate) fn write_metadata(file: &Path, made: &Made) -> Result<()> {
    let text = format!("{}\n", serde_json::to_string_pretty(&metadata(made))?);
    std::fs::write(file, text).context(|| format!("write \"{}\"", file.display()))
}

fn metadata(made: &Made) -> Value {
    let manifest = &made.manifest;
    let mut described = json!({
        "containerimage.config.digest": made.id.to_string(),
        "containerimage.digest": manifest.digest.to_string(),
        "containerimage.descriptor": {
            "mediaType": manifest.media_type.as_str(), "digest": manifest.digest.to_string(), "size": manifest.size,
        },
    });
    if let Some(fields) = described.as_object_mut() {
        if !made.names.is_empty() {
            fields.insert("image.name".to_owned(), made.names.join(",").into());
        }
        // An index has no configuration.
        if made.id == manifest.digest {
            fields.remove("containerimage.config.digest");
        }
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs() {
        let read = |text: &str| text.parse::<Output>();
        let of = |kind, place: &str| Output { kind, place: Some(place.to_owned()), name: None, push: false };
        for (text, want) in [
            ("out", of(Kind::Local, "out")),
            ("-", of(Kind::Tar, "-")),
            ("type=tar,dest=-", of(Kind::Tar, "-")),
            ("type=local,dest=d", of(Kind::Local, "d")),
            ("type=oci,dest=a.tar,name=x", Output { name: Some("x".to_owned()), ..of(Kind::Oci, "a.tar") }),
            (
                "type=registry,name=r/x",
                Output { kind: Kind::Image, place: None, name: Some("r/x".to_owned()), push: true },
            ),
        ] {
            assert_eq!(read(text), Ok(want), "{text}");
        }
        for (text, word) in [
            ("type=cacheonly", "no type cacheonly"),
            ("dest=x", "no type:"),
            ("type=tar", "missing required key \"dest\""),
            ("type=local,dest=-", "cannot go"),
            ("type=tar,dest=x,push=true", "only an image"),
            ("type=oci,dest=x,tar=false", "not understood"),
            ("type=local,dest=d,name=x", "no name"),
        ] {
            assert!(read(text).is_err_and(|error| error.contains(word)), "{text}: {:?}", read(text));
        }
    }
}
