//! containers-mounts.conf(5): files of the host that every command has a copy of, as the rights to a vendor's packages.

use std::fs;
use std::path::{Path, PathBuf};

use hoy_cli::{Context as _, Error, Result};

use crate::context::warn;

/// The file of the machine's administrator, and that of its packages, which counts where there is no other.
const FILES: [&str; 2] = ["/etc/containers/mounts.conf", "/usr/share/containers/mounts.conf"];
/// Links are followed, and might lead in a circle.
const MAX_DEPTH: usize = 32;

/// What the file names, `asked` for or the machine's own, and where it is in containers.
///
/// # Errors
/// A file that is asked for and cannot be read.
pub(crate) fn read(asked: Option<&Path>) -> Result<Vec<(PathBuf, String)>> {
    let own = || FILES.iter().map(Path::new).find(|path| path.exists());
    let Some(file) = asked.or_else(own) else { return Ok(Vec::new()) };
    let text = fs::read_to_string(file).context(|| format!("read \"{}\"", file.display()))?;
    let (there, missing): (Vec<_>, Vec<_>) = text.lines().filter_map(places).partition(|(source, _)| source.exists());
    for (source, _) in missing {
        warn(&format!("warning: \"{}\" names \"{}\", which is not there", file.display(), source.display()));
    }
    Ok(there)
}

/// Copies it below `directory`, and returns volumes of the copies.
///
/// # Errors
/// What cannot be copied.
pub(crate) fn volumes(places: &[(PathBuf, String)], directory: &Path) -> Result<Vec<String>> {
    let volume = |(number, (source, target)): (usize, &(PathBuf, String))| {
        let copy = directory.join(format!("default-{number}"));
        copied(source, &copy, 0).context(|| format!("copy \"{}\"", source.display()))?;
        Ok(format!("{}:{target}", copy.display()))
    };
    places.iter().enumerate().map(volume).collect()
}

/// `SOURCE:TARGET`, or one path for both.
fn places(line: &str) -> Option<(PathBuf, String)> {
    let line = line.trim();
    let (source, target) = line.split_once(':').unwrap_or((line, line));
    (source.starts_with('/') && target.starts_with('/')).then(|| (source.into(), target.to_owned()))
}

fn copied(source: &Path, copy: &Path, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::msg("directories are too deep, or a link leads in a circle"));
    }
    let metadata = fs::metadata(source)?;
    if metadata.is_dir() {
        fs::create_dir(copy)?;
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            copied(&entry.path(), &copy.join(entry.file_name()), depth + 1)?;
        }
        fs::set_permissions(copy, metadata.permissions())?;
    } else if metadata.is_file() {
        fs::copy(source, copy)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, want) in
            [("/a:/b", Some(("/a", "/b"))), (" /a ", Some(("/a", "/a"))), ("# /a", None), ("", None), ("/a:b", None)]
        {
            let want = want.map(|(source, target)| (PathBuf::from(source), target.to_owned()));
            assert_eq!(places(line), want, "{line}");
        }
    }

    #[test]
    fn copies_are_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("from/sub")).unwrap();
        fs::write(path("key"), "k").unwrap();
        std::os::unix::fs::symlink(path("key"), path("from/sub/link")).unwrap();
        fs::write(path("mounts.conf"), format!("{}:/run/secrets\n", path("from").display())).unwrap();
        fs::create_dir(path("to")).unwrap();
        let places = read(Some(&path("mounts.conf"))).unwrap();
        let made = volumes(&places, &path("to")).unwrap();
        assert_eq!(made, [format!("{}:/run/secrets", path("to/default-0").display())]);
        assert_eq!(fs::read_to_string(path("to/default-0/sub/link")).unwrap(), "k");
        std::os::unix::fs::symlink(path("from"), path("from/sub/circle")).unwrap();
        fs::create_dir(path("again")).unwrap();
        assert!(volumes(&places, &path("again")).unwrap_err().to_string().contains("circle"));
        assert!(read(Some(&path("none"))).is_err());
    }
}
