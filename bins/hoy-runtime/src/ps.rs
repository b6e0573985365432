//! `ps`: the processes in a container.

use std::collections::BTreeSet;
use std::process::Command;

use hoy_cli::{Context, Error, Result, Stdout, print_line};
use hoy_runtime::container::Container;
use hoy_runtime::processes;

use crate::args::Format;

/// Prints pids as JSON, or the lines of ps(1) that are about this container.
pub(crate) fn print(container: &Container, format: Format, options: &[String]) -> Result<()> {
    let pids = processes(container)?;
    if format == Format::Json {
        serde_json::to_writer(Stdout::new(), &pids)?;
        return print_line("");
    }
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default } else { options };
    let output = Command::new("ps").args(options).output().context(|| "run ps")?;
    if !output.status.success() {
        return Err(Error::msg(format!("run ps: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    let pids: BTreeSet<i32> = pids.into_iter().collect();
    for line in select(&String::from_utf8_lossy(&output.stdout), &pids)? {
        print_line(line)?;
    }
    Ok(())
}

/// The heading and the lines whose column `PID` is one of `pids`.
fn select<'a>(table: &'a str, pids: &BTreeSet<i32>) -> Result<Vec<&'a str>> {
    let mut lines = table.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::msg("the output of ps has no column \"PID\""))?;
    let is_in = |line: &&str| {
        let field = line.split_whitespace().nth(column).and_then(|field| field.parse().ok());
        field.is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok(std::iter::once(heading).chain(lines.filter(is_in)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_these_processes() {
        let table = "UID   PID CMD\n0 1 init\n0 7 sleep 1\n0 12 x\n";
        assert_eq!(select(table, &BTreeSet::from([7, 12])).unwrap(), ["UID   PID CMD", "0 7 sleep 1", "0 12 x"]);
        assert!(select("A B\n", &BTreeSet::new()).is_err());
    }
}
