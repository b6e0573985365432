//! One commit of a Git repository as files, fetched by `git`.
//!
//! What the repository holds is not trusted: no hook runs, no filter of an attribute that the caller has not set up, no
//! transport that reads this machine's files or runs commands (CVE-2019-13139, CVE-2022-39253).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::remote::url::{GitSource, unescape};
use crate::tools::{answer, no_program};
use crate::{Error, Result};

/// What leads git elsewhere than where it is sent.
const MISLEADING: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_TEMPLATE_DIR",
    "GIT_CONFIG_PARAMETERS",
];

/// Settings above those of the user: nothing of what is fetched runs, and its bytes stay as they are.
const SETTINGS: [&str; 10] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.fileMode=true",
    "core.symlinks=true",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "fetch.recurseSubmodules=false",
];

/// The transports that repositories and their submodules come by.
const PROTOCOLS: &str = "git:http:https:ssh";

/// What git calls the one place it fetches from.
const ORIGIN: &str = "origin";

/// What is in a repository, without its history, its hooks and its stat cache.
const NOT_OURS: [&str; 8] =
    ["logs", "hooks", "info", "description", "branches", "FETCH_HEAD", "ORIG_HEAD", "COMMIT_EDITMSG"];

/// A commit that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkout {
    /// Its hash; of a short one, how it begins.
    pub(crate) commit: String,
    /// The name by which the server gives it away, where it has one.
    name: Option<String>,
}

impl Checkout {
    /// Asks the server what `source` means now. A commit in full is what it is: nobody is asked.
    ///
    /// # Errors
    /// Those of git; [`Error::Refused`] when there is no such name, or when it is another commit than it must be.
    pub(crate) fn find(source: &GitSource) -> Result<Self> {
        let wanted = source.reference.as_deref().or(source.checksum.as_deref());
        let found = match wanted {
            Some(text) if is_commit(text) => Self { commit: text.to_owned(), name: None },
            _ => Self::ask(source, wanted)?,
        };
        match &source.checksum {
            Some(checksum) if !found.commit.starts_with(checksum.as_str()) => {
                let reference = source.reference.as_deref().unwrap_or("HEAD");
                let text = format!("{reference} of \"{}\" is {}, and not {checksum}", source.remote, found.commit);
                Err(Error::Refused(text))
            }
            _ => Ok(found),
        }
    }

    fn ask(source: &GitSource, wanted: Option<&str>) -> Result<Self> {
        let names: Vec<String> = match wanted {
            None => vec!["HEAD".to_owned()],
            // gitrevisions(7): a tag goes before a branch.
            Some(name) if name.starts_with("refs/") => vec![name.to_owned()],
            Some(name) => ["refs/", "refs/tags/", "refs/heads/"].map(|start| format!("{start}{name}")).to_vec(),
        };
        let mut args: Vec<String> = ["ls-remote", "--", &source.remote].map(str::to_owned).to_vec();
        args.extend(names.iter().flat_map(|name| [name.clone(), format!("{name}^{{}}")]));
        let said = git(source, Path::new("/"), args)?;
        let listed: Vec<(&str, &str)> = said.lines().filter_map(|line| line.split_once('\t')).collect();
        let find = |name: &str| listed.iter().find(|(_, listed)| *listed == name).map(|(hash, _)| (*hash).to_owned());
        let found = names.iter().find_map(|name| {
            // A tag with a text of its own is shown together with the commit that it means.
            let commit = find(&format!("{name}^{{}}")).or_else(|| find(name))?;
            is_commit(&commit).then(|| Self { commit, name: Some(name.clone()) })
        });
        match (found, wanted) {
            (Some(found), _) => Ok(found),
            // How a commit begins can only be told once all are here.
            (None, Some(text)) if text.len() >= 7 && text.chars().all(|c| c.is_ascii_hexdigit()) => {
                Ok(Self { commit: text.to_owned(), name: None })
            }
            (None, wanted) => {
                let wanted = wanted.unwrap_or("HEAD");
                Err(Error::Refused(format!("\"{}\" has no branch, tag or commit \"{wanted}\"", source.remote)))
            }
        }
    }

    /// Writes the commit's files into the empty directory `directory`.
    ///
    /// # Errors
    /// Those of git; [`Error::Refused`] when the server sends another commit than it named.
    pub(crate) fn write(&self, source: &GitSource, keeps_git: bool, directory: &Path) -> Result<()> {
        let git = |args: &[&str]| git(source, directory, args.iter().copied());
        git(&["init", "--quiet", "--template=", "--initial-branch=main"])?;
        git(&["config", "remote.origin.url", &source.remote])?;
        let names = self.name.iter().chain(is_commit(&self.commit).then_some(&self.commit));
        let mut attempts: Vec<Vec<String>> = names
            .map(|name| {
                vec!["--depth=1".to_owned(), "--".to_owned(), ORIGIN.to_owned(), format!("+{name}:refs/fetched")]
            })
            .collect();
        // A server of plain files gives no single commit away.
        attempts.push(
            ["--", ORIGIN, "+refs/heads/*:refs/fetched/heads/*", "+refs/tags/*:refs/tags/*"]
                .map(str::to_owned)
                .to_vec(),
        );
        let mut commit = Err(Error::Refused(format!("\"{}\": no attempt was made", source.remote)));
        for attempt in attempts {
            let mut fetch = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"];
            fetch.extend(attempt.iter().map(String::as_str));
            let found = format!("{}^{{commit}}", self.commit);
            commit = git(&fetch).and_then(|_| {
                git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &found]).map_err(|_| {
                    Error::Refused(format!("\"{}\" does not give the commit {} away", source.remote, self.commit))
                })
            });
            if commit.is_ok() {
                break;
            }
        }
        let commit = commit?;
        git(&["checkout", "--quiet", "--force", "--detach", &commit])?;
        if source.submodules != Some(false)
            && directory.join(".gitmodules").symlink_metadata().is_ok_and(|m| m.is_file())
        {
            let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
            if git(&[&update[..], &["--depth=1"]].concat()).is_err() {
                git(&update)?;
            }
        }
        if !keeps_git {
            return remove_git(directory);
        }
        // What stays is the same whoever fetched it and when: the index has no times of files in it.
        remove(&directory.join(".git/refs/fetched"))?;
        std::fs::remove_file(directory.join(".git/index")).map_err(Error::io("remove", ".git/index"))?;
        git(&["read-tree", "HEAD"])?;
        for name in NOT_OURS {
            remove(&directory.join(".git").join(name))?;
        }
        Ok(())
    }
}

/// Whether it is a commit in full, of SHA-1 or SHA-256.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

/// Removes `.git`, and what submodules have in its place.
fn remove_git(directory: &Path) -> Result<()> {
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        remove(&directory.join(".git"))?;
        let entries = std::fs::read_dir(&directory).map_err(Error::io("read", &directory))?;
        for entry in entries {
            let entry = entry.map_err(Error::io("read", &directory))?;
            if entry.file_type().map_err(Error::io("look at", entry.path()))?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}

fn remove(path: &PathBuf) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.map_err(Error::io("remove", path))
}

/// Runs git in `directory`; returns what it says.
fn git<S: AsRef<OsStr>>(source: &GitSource, directory: &Path, args: impl IntoIterator<Item = S>) -> Result<String> {
    // Files are as everybody's umask would have them; the shell is given everything as arguments.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "umask 022; exec git \"$@\"", "git"]);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command.args(args).current_dir(directory).stdin(Stdio::null());
    for name in MISLEADING {
        command.env_remove(name);
    }
    let protection = [
        ("GIT_ALLOW_PROTOCOL", PROTOCOLS),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_CONFIG_COUNT", "0"),
        ("LC_ALL", "C"),
    ];
    command.envs(protection);
    if let Some(login) = &source.login {
        // In the environment, which nobody else can read, and for this server alone.
        let end = source.remote.find("://").map_or(0, |at| at + 3);
        let host = source.remote.get(end..).and_then(|rest| rest.find('/')).map_or(source.remote.len(), |at| end + at);
        let key = format!("http.{}/.extraHeader", source.remote.get(..host).unwrap_or_default());
        let login = unescape(login).unwrap_or_default();
        let login = if login.contains(':') { login } else { format!("{login}:") };
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", key);
        command.env("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {}", STANDARD.encode(login)));
    }
    let output = command.output().map_err(no_program("git"))?;
    if output.status.code() == Some(127) {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(Error::NoProgram { program: "git".to_owned(), source });
    }
    answer("git", output).map_err(|error| match error {
        Error::Program { message, .. } => {
            let message = message.lines().map(|line| line.trim_start_matches("fatal: ")).collect::<Vec<_>>().join("; ");
            let message: String = message.chars().filter(|c| !c.is_control()).take(400).collect();
            Error::Refused(format!("git: \"{}\": {message}", source.remote))
        }
        other => other,
    })
}
