//! `import`: an image from a tar of a root file system, with what instructions of a Containerfile say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::process::ExitCode;

use hoy_cli::{Context, Error, Result, print_line};
use hoy_containerfile::{CommandLine, Instruction, Kind, Rules, expand};
use hoy_oci::{ImageConfig, Platform, Timestamp};
use serde_json::{Value, json};

use crate::args;
use crate::open::{Place, explain};

pub(crate) fn import(place: &Place, args: &args::Import) -> Result<ExitCode> {
    let path = args.path.to_string_lossy();
    if path.starts_with("http://") || path.starts_with("https://") {
        let error = Error::msg(format!("\"{path}\" is a URL, and this program speaks to no server")).with_code(2);
        return Err(error.with_hint(format!("curl -fsSL {path} | hoy-storage import -")));
    }
    let host = Platform::host();
    let architecture = args.arch.as_deref().unwrap_or(&host.architecture);
    let mut config = ImageConfig::new(args.os.as_deref().unwrap_or(&host.os), architecture);
    config.variant.clone_from(&args.variant);
    config.created = Some(created()?);
    for change in &args.change {
        apply(&mut config, change)?;
    }
    let input: Box<dyn Read> = match path.as_ref() {
        "-" => Box::new(std::io::stdin()),
        _ => Box::new(File::open(&args.path).context(|| format!("open \"{path}\""))?),
    };
    let store = place.store()?;
    let name = args.reference.as_deref();
    let imported = hoy_storage::import(&store, input, config, args.message.clone(), name).map_err(explain);
    print_line(imported.context(|| format!("import \"{path}\""))?)?;
    Ok(ExitCode::SUCCESS)
}

/// The same archive makes the same image: its time is what SOURCE_DATE_EPOCH says, and 1970 otherwise.
fn created() -> Result<Timestamp> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(Timestamp::EPOCH) };
    let seconds = text.to_str().and_then(|text| text.parse().ok()).and_then(Timestamp::from_unix);
    seconds
        .ok_or_else(|| Error::msg(format!("SOURCE_DATE_EPOCH={} is no number of seconds", text.display())).with_code(2))
}

/// Applies one instruction.
fn apply(config: &mut ImageConfig, text: &str) -> Result<()> {
    let wrong = |why: String| Error::msg(format!("option --change: \"{text}\": {why}")).with_code(2);
    let instruction = Instruction::parse(text).map_err(|fault| wrong(fault.error.to_string()))?;
    let plain = |word: &hoy_containerfile::Word| {
        let expanded = expand(&word.text, &BTreeMap::new(), Rules::words('\\'));
        expanded.map(|expanded| expanded.text).map_err(|error| wrong(error.to_string()))
    };
    let all = |words: &[hoy_containerfile::Word]| words.iter().map(plain).collect::<Result<Vec<String>>>();
    let set = |words: &[hoy_containerfile::Word]| -> Result<BTreeMap<String, Value>> {
        Ok(all(words)?.into_iter().map(|word| (word, json!({}))).collect())
    };
    let target = &mut config.config;
    match &instruction.kind {
        Kind::Cmd(line) => target.cmd = Some(command(line)),
        Kind::Entrypoint(line) => target.entrypoint = Some(command(line)),
        Kind::Env(pairs) => {
            for (name, value) in pairs {
                let name = plain(name)?;
                target.env.retain(|entry| entry.split('=').next() != Some(name.as_str()));
                target.env.push(format!("{name}={}", plain(value)?));
            }
        }
        Kind::Label(pairs) => {
            for (name, value) in pairs {
                target.labels.insert(plain(name)?, plain(value)?);
            }
        }
        Kind::Expose(words) => target.exposed_ports.extend(set(words)?.into_iter().map(|(port, value)| {
            let has_protocol = port.contains('/');
            (if has_protocol { port } else { port + "/tcp" }, value)
        })),
        Kind::Volume(words) => target.volumes.extend(set(words)?),
        Kind::StopSignal(word) => target.stop_signal = Some(plain(word)?),
        Kind::User(word) => target.user = plain(word)?,
        Kind::Workdir(word) => target.working_dir = plain(word)?,
        Kind::Onbuild(_, text) => target.on_build.get_or_insert_default().push(text.clone()),
        _ => {
            let known =
                "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR can be given";
            return Err(wrong(known.to_owned()));
        }
    }
    Ok(())
}

/// The words that are executed: in the shell form a shell's.
fn command(line: &CommandLine) -> Vec<String> {
    let words = line.words.iter().map(|word| word.text.clone());
    match line.is_shell {
        true => ["/bin/sh".to_owned(), "-c".to_owned()].into_iter().chain(words).collect(),
        false => words.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions() {
        let mut config = ImageConfig::new("linux", "amd64");
        for change in [
            "CMD echo $x",
            "entrypoint [\"/bin/a\", \"b c\"]",
            "ENV A=1 B=\"two words\"",
            "ENV A=2",
            "LABEL k=v",
            "EXPOSE 80 53/udp",
            "VOLUME /data",
            "USER app",
            "WORKDIR /srv",
            "STOPSIGNAL INT",
            "ONBUILD RUN true",
        ] {
            apply(&mut config, change).unwrap();
        }
        let found = serde_json::to_value(&config.config).unwrap();
        let want = json!({
            "Cmd": ["/bin/sh", "-c", "echo $x"], "Entrypoint": ["/bin/a", "b c"], "Env": ["B=two words", "A=2"],
            "Labels": {"k": "v"}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}}, "User": "app",
            "WorkingDir": "/srv", "StopSignal": "INT", "OnBuild": ["RUN true"],
        });
        assert_eq!(found, want);
        for wrong in ["RUN true", "COPY a b", "NONSENSE", "", "ENV", "CMD a\nUSER b"] {
            assert_eq!(apply(&mut config, wrong).unwrap_err().code(), Some(2), "{wrong}");
        }
    }
}
