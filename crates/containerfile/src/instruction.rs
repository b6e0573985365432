//! Instructions as typed values; each word of them still knows its place.

use std::time::Duration;

use crate::heredoc::Heredoc;
use crate::source::Word;
use crate::statement::Statement;

/// One instruction, as written and as understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// As written.
    pub statement: Statement,
    /// As understood; nothing in it is expanded yet.
    pub kind: Kind,
}

/// What an instruction says (reference, a section for each).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// ADD: `--chown --chmod --link --exclude --checksum --keep-git-dir --unpack`.
    Add(Transfer),
    /// ARG: names, each with its default.
    Arg(Vec<(Word, Option<Word>)>),
    /// CMD.
    Cmd(CommandLine),
    /// COPY: `--from --chown --chmod --link --parents --exclude`.
    Copy(Transfer),
    /// ENTRYPOINT.
    Entrypoint(CommandLine),
    /// ENV: names and values.
    Env(Vec<(Word, Word)>),
    /// EXPOSE: ports before expansion.
    Expose(Vec<Word>),
    /// FROM.
    From(From),
    /// HEALTHCHECK.
    Healthcheck(Healthcheck),
    /// LABEL: names and values.
    Label(Vec<(Word, Word)>),
    /// MAINTAINER.
    Maintainer(Word),
    /// ONBUILD: the instruction, and its text as an image keeps it.
    Onbuild(Box<Instruction>, String),
    /// RUN.
    Run(Run),
    /// SHELL.
    Shell(Vec<Word>),
    /// STOPSIGNAL.
    StopSignal(Word),
    /// USER.
    User(Word),
    /// VOLUME.
    Volume(Vec<Word>),
    /// WORKDIR.
    Workdir(Word),
}

/// `FROM [--platform=…] [--after=STAGE]… IMAGE [AS NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// Image, earlier stage, or `scratch`.
    pub image: Word,
    /// The name, in lower case.
    pub name: Option<Word>,
    /// `--platform`.
    pub platform: Option<Word>,
    /// `--after`, as buildah has it: stages that come first, though nothing is taken from them.
    pub after: Vec<Word>,
}

/// The shell form or the exec form (reference "Shell and exec form").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandLine {
    /// One text in the shell form, the words in the exec form.
    pub words: Vec<Word>,
    /// Whether a shell runs it.
    pub is_shell: bool,
}

/// What COPY and ADD have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Paths, patterns, URLs.
    pub sources: Vec<Word>,
    /// Here-documents among the sources; the name is the file's.
    pub files: Vec<Heredoc>,
    /// Where they go.
    pub destination: Word,
    /// `--from`.
    pub from: Option<Word>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, each.
    pub excludes: Vec<Word>,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// `RUN [--mount=…] [--network=…] [--security=…] [--device=…] COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What is run; its here-documents are the statement's.
    pub command: CommandLine,
    /// `--mount`, each as written: [`crate::Mount::parse`] reads it once its variables are known.
    pub mounts: Vec<Word>,
    /// `--network`.
    pub network: Network,
    /// `--security=insecure`.
    pub is_insecure: bool,
    /// `--device`, each.
    pub devices: Vec<Device>,
}

/// `RUN --network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The build's.
    #[default]
    Default,
    /// None but loopback.
    None,
    /// The host's.
    Host,
}

/// `RUN --device=NAME[,required]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// A CDI name.
    pub name: String,
    /// Whether the build fails without it.
    pub is_required: bool,
}

/// HEALTHCHECK; a duration of zero is the engine's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Healthcheck {
    /// The command; `None` for `HEALTHCHECK NONE`.
    pub command: Option<CommandLine>,
    /// `--interval`.
    pub interval: Duration,
    /// `--timeout`.
    pub timeout: Duration,
    /// `--start-period`.
    pub start_period: Duration,
    /// `--start-interval`.
    pub start_interval: Duration,
    /// `--retries`.
    pub retries: u32,
}
