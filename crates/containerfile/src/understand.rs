//! From statements to instructions: arguments counted, flags known, values valid.

use std::time::Duration;

use crate::csv;
use crate::error::{Error, Fault};
use crate::flags::{Flags, Takes};
use crate::heredoc::Heredoc;
use crate::instruction::{CommandLine, Device, From, Healthcheck, Instruction, Kind, Network, Run, Transfer};
use crate::mount;
use crate::source::Word;
use crate::statement::{Args, Statement};

/// What is said of the flags of COPY and ADD to whoever has one wrong, in buildah's words as far as these go.
const COPY_USAGE: &str = "; COPY only supports the --chmod=<permissions> --chown=<uid:gid> and the --from=<image|stage> \
                          flags, besides --exclude=<pattern>, --link and --parents";
const ADD_USAGE: &str = "; ADD only supports the --chmod=<permissions> and the --chown=<uid:gid> flags, besides \
                         --checksum=<digest>, --exclude=<pattern>, --keep-git-dir, --link and --unpack";

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Makes an instruction of a statement.
pub(crate) fn instruction(statement: Statement) -> Result<Instruction, Fault> {
    let kind = kind(&statement)?;
    Ok(Instruction { statement, kind })
}

/// The same of one that an image keeps for those that are built on it.
pub(crate) fn trigger(statement: Statement) -> Result<Instruction, Fault> {
    may_be_trigger(&statement)?;
    instruction(statement)
}

fn may_be_trigger(statement: &Statement) -> Result<(), Fault> {
    let keyword = statement.keyword.text.to_uppercase();
    match keyword.as_str() {
        "FROM" | "MAINTAINER" | "ONBUILD" => Err(Fault::at(statement.keyword.span, Error::OnbuildTrigger(keyword))),
        _ => Ok(()),
    }
}

fn kind(statement: &Statement) -> Result<Kind, Fault> {
    let none: &[(&str, Takes)] = &[];
    let no_flags = || Flags::read(statement, none, "").map(drop);
    match statement.keyword.text.to_ascii_uppercase().as_str() {
        "ADD" => transfer(statement, "ADD").map(Kind::Add),
        "ARG" => arg(statement),
        "CMD" => no_flags().map(|()| Kind::Cmd(command_line(&statement.args))),
        "COPY" => transfer(statement, "COPY").map(Kind::Copy),
        "ENTRYPOINT" => no_flags().map(|()| Kind::Entrypoint(command_line(&statement.args))),
        "ENV" => no_flags().and_then(|()| pairs(statement, "ENV")).map(Kind::Env),
        "EXPOSE" => no_flags().and_then(|()| words(statement, "EXPOSE")).map(Kind::Expose),
        "FROM" => from(statement).map(Kind::From),
        "HEALTHCHECK" => healthcheck(statement).map(Kind::Healthcheck),
        "LABEL" => no_flags().and_then(|()| pairs(statement, "LABEL")).map(Kind::Label),
        "MAINTAINER" => no_flags().and_then(|()| one(statement, "MAINTAINER")).map(Kind::Maintainer),
        "ONBUILD" => onbuild(statement),
        "RUN" => run(statement).map(Kind::Run),
        "SHELL" => no_flags().and_then(|()| shell(statement)).map(Kind::Shell),
        "STOPSIGNAL" => one(statement, "STOPSIGNAL").map(Kind::StopSignal),
        "USER" => no_flags().and_then(|()| one(statement, "USER")).map(Kind::User),
        "VOLUME" => no_flags().and_then(|()| volume(statement)).map(Kind::Volume),
        "WORKDIR" => no_flags().and_then(|()| one(statement, "WORKDIR")).map(Kind::Workdir),
        other => {
            let unknown = Error::UnknownInstruction(statement.keyword.text.clone());
            Err(Fault::at(statement.keyword.span, unknown).near(other, KEYWORDS))
        }
    }
}

fn one(statement: &Statement, name: &'static str) -> Result<Word, Fault> {
    match &statement.args {
        Some(Args::Text(word)) => Ok(word.clone()),
        _ => Err(Fault::at(statement.keyword.span, Error::ExactlyOne(name))),
    }
}

fn words(statement: &Statement, name: &'static str) -> Result<Vec<Word>, Fault> {
    match &statement.args {
        Some(Args::Words(words) | Args::Json(words)) if !words.is_empty() => Ok(words.clone()),
        _ => Err(Fault::at(statement.keyword.span, Error::AtLeastOne(name))),
    }
}

fn pairs(statement: &Statement, name: &'static str) -> Result<Vec<(Word, Word)>, Fault> {
    let Some(Args::Pairs(pairs)) = &statement.args else {
        return Err(Fault::at(statement.keyword.span, Error::AtLeastOne(name)));
    };
    let checked = pairs.iter().map(|(key, value, _)| match key.text.is_empty() {
        true => Err(Fault::at(key.span, Error::BlankName(name))),
        false => Ok((key.clone(), value.clone())),
    });
    checked.collect()
}

fn command_line(args: &Option<Args>) -> CommandLine {
    match args {
        Some(Args::Json(words)) => CommandLine { words: words.clone(), is_shell: false },
        Some(Args::Text(word)) => CommandLine { words: vec![word.clone()], is_shell: true },
        _ => CommandLine { words: Vec::new(), is_shell: true },
    }
}

fn arg(statement: &Statement) -> Result<Kind, Fault> {
    let split = words(statement, "ARG")?.into_iter().map(|word| match word.text.split_once('=') {
        Some(("", _)) => Err(Fault::at(word.span, Error::BlankName("ARG"))),
        Some((name, value)) => {
            let name = Word { text: name.to_owned(), span: word.span };
            Ok((name, Some(Word { text: value.to_owned(), span: word.span })))
        }
        None => Ok((word, None)),
    });
    split.collect::<Result<_, _>>().map(Kind::Arg)
}

fn shell(statement: &Statement) -> Result<Vec<Word>, Fault> {
    match &statement.args {
        Some(Args::Json(words)) if !words.is_empty() => Ok(words.clone()),
        Some(Args::Text(word)) => Err(Fault::at(word.span, Error::ShellForm)),
        _ => Err(Fault::at(statement.keyword.span, Error::AtLeastOne("SHELL"))),
    }
}

fn volume(statement: &Statement) -> Result<Vec<Word>, Fault> {
    let trimmed = words(statement, "VOLUME")?.into_iter().map(|word| match word.text.trim() {
        "" => Err(Fault::at(word.span, Error::EmptyVolume)),
        text => Ok(Word { text: text.to_owned(), span: word.span }),
    });
    trimmed.collect()
}

fn from(statement: &Statement) -> Result<From, Fault> {
    let words = match &statement.args {
        Some(Args::Words(words)) => words.as_slice(),
        _ => &[],
    };
    let (image, name) = match words {
        [image] => (image, None),
        [image, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => (image, Some(name)),
        _ => return Err(Fault::at(statement.keyword.span, Error::FromArguments)),
    };
    let named = name.map(|word| {
        let text = word.text.to_lowercase();
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        let rest = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
        match starts && rest {
            true => Ok(Word { text, span: word.span }),
            false => Err(Fault::at(word.span, Error::StageName(word.text.clone()))),
        }
    });
    let name = named.transpose()?;
    let flags = Flags::read(statement, &[("platform", Takes::One), ("after", Takes::Many)], "")?;
    Ok(From { image: image.clone(), name, platform: flags.word("platform").cloned(), after: flags.words("after") })
}

fn transfer(statement: &Statement, name: &'static str) -> Result<Transfer, Fault> {
    let words = match &statement.args {
        Some(Args::Words(words) | Args::Json(words)) => words.as_slice(),
        _ => &[],
    };
    let [sources @ .., destination] = words else {
        return Err(Fault::at(statement.keyword.span, Error::NoDestination(name)));
    };
    if sources.is_empty() {
        return Err(Fault::at(statement.keyword.span, Error::NoDestination(name)));
    }
    let (own, usage): (&[_], _) = match name {
        "ADD" => (&[("checksum", Takes::One), ("keep-git-dir", Takes::Bool), ("unpack", Takes::Bool)], ADD_USAGE),
        _ => (&[("from", Takes::One), ("parents", Takes::Bool)], COPY_USAGE),
    };
    let both = [("chown", Takes::One), ("chmod", Takes::One), ("link", Takes::Bool), ("exclude", Takes::Many)];
    let flags = Flags::read(statement, &[&both, own].concat(), usage)?;
    if matches!(Heredoc::opened_by(&destination.text), Ok(Some(_))) {
        return Err(Fault::at(destination.span, Error::HeredocDestination(name)));
    }
    let mut out = Transfer {
        destination: destination.clone(),
        from: flags.word("from").cloned(),
        chown: flags.word("chown").cloned(),
        chmod: flags.word("chmod").cloned(),
        link: flags.boolean("link").unwrap_or_default(),
        parents: flags.boolean("parents").unwrap_or_default(),
        excludes: flags.words("exclude"),
        checksum: flags.word("checksum").cloned(),
        keep_git_dir: flags.boolean("keep-git-dir"),
        unpack: flags.boolean("unpack"),
        ..Transfer::default()
    };
    for source in sources {
        let opened = Heredoc::opened_by(&source.text).ok().flatten();
        let file = opened.and_then(|opened| statement.heredocs.iter().find(|h| h.name == opened.name));
        match file {
            Some(file) => out.files.push(file.clone()),
            None => out.sources.push(source.clone()),
        }
    }
    Ok(out)
}

fn run(statement: &Statement) -> Result<Run, Fault> {
    let table = [("mount", Takes::Many), ("network", Takes::One), ("security", Takes::One), ("device", Takes::Many)];
    let flags = Flags::read(statement, &table, "")?;
    let network = match flags.word("network").map(|word| (word, word.text.as_str())) {
        None | Some((_, "default")) => Network::Default,
        Some((_, "none")) => Network::None,
        Some((_, "host")) => Network::Host,
        Some((word, text)) => {
            let unknown = Error::Value("network".to_owned(), text.to_owned());
            return Err(Fault::at(word.span, unknown).near(text, ["default", "none", "host"]));
        }
    };
    let is_insecure = match flags.word("security").map(|word| (word, word.text.as_str())) {
        None | Some((_, "sandbox")) => false,
        Some((_, "insecure")) => true,
        Some((word, text)) => {
            let unknown = Error::Value("security".to_owned(), text.to_owned());
            return Err(Fault::at(word.span, unknown).near(text, ["sandbox", "insecure"]));
        }
    };
    let mounts = flags.words("mount");
    mounts.iter().try_for_each(mount::check_from)?;
    let devices = flags.words("device").iter().map(device).collect::<Result<_, _>>()?;
    Ok(Run { command: command_line(&statement.args), mounts, network, is_insecure, devices })
}

fn device(word: &Word) -> Result<Device, Fault> {
    let wrong = |what: &str| Fault::at(word.span, Error::Value("device".to_owned(), what.to_owned()));
    let (mut name, mut is_required) = (None, false);
    for field in csv::fields(&word.text).ok_or_else(|| wrong(&word.text))? {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(k, v)| (k, Some(v)));
        match (key.to_lowercase().as_str(), value) {
            ("required", value) => {
                is_required = mount::boolean(value.unwrap_or("true")).ok_or_else(|| wrong(&field))?;
            }
            ("name", Some(value)) if name.is_none() => name = Some(value.to_owned()),
            (_, _) if name.is_none() => name = Some(field),
            _ => return Err(wrong(&field)),
        }
    }
    Ok(Device { name: name.unwrap_or_default(), is_required })
}

fn onbuild(statement: &Statement) -> Result<Kind, Fault> {
    let Some(Args::Trigger(inner)) = &statement.args else {
        return Err(Fault::at(statement.keyword.span, Error::AtLeastOne("ONBUILD")));
    };
    Flags::read(statement, &[], "")?;
    may_be_trigger(inner)?;
    let mut inner = (**inner).clone();
    inner.heredocs.clone_from(&statement.heredocs);
    let mut text = inner.text.clone();
    for heredoc in &inner.heredocs {
        text.extend(["\n", heredoc.content.as_str(), heredoc.name.as_str()]);
    }
    Ok(Kind::Onbuild(Box::new(instruction(inner)?), text))
}

fn healthcheck(statement: &Statement) -> Result<Healthcheck, Fault> {
    let Some(Args::Health(kind, rest)) = &statement.args else {
        return Err(Fault::at(statement.keyword.span, Error::AtLeastOne("HEALTHCHECK")));
    };
    if kind.text.eq_ignore_ascii_case("none") {
        return match rest {
            None => Ok(Healthcheck::default()),
            Some(_) => Err(Fault::at(kind.span, Error::HealthNone)),
        };
    }
    let table = ["interval", "timeout", "start-period", "start-interval", "retries"].map(|name| (name, Takes::One));
    let flags = Flags::read(statement, &table, "")?;
    if !kind.text.eq_ignore_ascii_case("cmd") {
        let unknown = Fault::at(kind.span, Error::HealthType(kind.text.clone()));
        return Err(unknown.near(&kind.text, ["CMD", "NONE"]));
    }
    let command = command_line(&rest.as_deref().cloned());
    if command.words.is_empty() {
        return Err(Fault::at(kind.span, Error::HealthCommand));
    }
    let interval = |name: &str| {
        let Some(word) = flags.word(name).filter(|word| !word.text.is_empty()) else { return Ok(Duration::ZERO) };
        let wrong = || Fault::at(word.span, Error::Value(name.to_owned(), word.text.clone()));
        let duration = duration(&word.text).ok_or_else(wrong)?;
        if duration > Duration::ZERO && duration < Duration::from_millis(1) { Err(wrong()) } else { Ok(duration) }
    };
    let retries = flags.word("retries").filter(|word| !word.text.is_empty()).map(|word| {
        let retries = word.text.parse::<i32>().ok().and_then(|n| u32::try_from(n).ok());
        retries.ok_or_else(|| Fault::at(word.span, Error::Value("retries".to_owned(), word.text.clone())))
    });
    Ok(Healthcheck {
        command: Some(command),
        interval: interval("interval")?,
        timeout: interval("timeout")?,
        start_period: interval("start-period")?,
        start_interval: interval("start-interval")?,
        retries: retries.transpose()?.unwrap_or_default(),
    })
}

/// A duration as Go writes it: `1h2m3.5s`, `100ms`, `0`; none that is negative.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let units = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(units);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()?)?;
        rest = after;
    }
    (!text.is_empty() && total <= Duration::from_nanos(i64::MAX.unsigned_abs())).then_some(total)
}
