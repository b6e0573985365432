//! `hoy-copy serve`.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hoy_cli::{Context, Error, Result};
use hoy_layout::ImageLayout;
use hoy_serve::{Service, Shelf};
use hoy_transport::{ImageName, Pick};

use crate::args::Global;
use crate::endpoint;
use crate::words::parse_duration;

/// More sockets than these nobody passes.
const MAX_SOCKETS: i32 = 256;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// What to serve: oci:DIRECTORY, or store: (the default)
    pub(crate) what: Option<String>,
    /// Let clients change nothing
    #[arg(long)]
    pub(crate) read_only: bool,
    /// How long a client may be silent, and passed sockets without any client
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "60s")]
    pub(crate) timeout: Duration,
}

/// Serves sockets that were passed, or else one connection on standard input and output.
pub(crate) fn run(global: &Global, args: ServeArgs) -> Result<()> {
    let shelf = shelf(global, args.what.as_deref(), args.read_only)?;
    let trace = global.debug.then(|| -> hoy_serve::Trace {
        Arc::new(|text| {
            // Standard error may be closed, and then there is nobody to tell.
            writeln!(std::io::stderr(), "debug: {text}").unwrap_or_default();
        })
    });
    let service = Arc::new(Service::new(shelf, args.read_only, trace));
    let sockets = passed_sockets()?;
    let mut listening = Vec::new();
    for socket in sockets {
        match hoy_serve::is_listening(&socket).context(|| "look at a passed descriptor, which must be a socket")? {
            true => listening.push(socket),
            // systemd.socket(5), Accept=yes: the connection itself.
            false => {
                let output = socket.try_clone()?;
                hoy_serve::converse(&service, socket, output, args.timeout);
                return Ok(());
            }
        }
    }
    if !listening.is_empty() {
        return hoy_serve::serve(&service, &listening, args.timeout).context(|| "serve the passed sockets");
    }
    let (input, output) = (duplicate(&std::io::stdin())?, duplicate(&std::io::stdout())?);
    hoy_serve::converse(&service, input, output, args.timeout);
    Ok(())
}

fn duplicate(stream: &impl AsFd) -> Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned().context(|| "use standard input and output as a connection")
}

fn shelf(global: &Global, what: Option<&str>, is_read_only: bool) -> Result<Shelf> {
    let usage = |text: String| Error::msg(text).with_code(2);
    let what = match what {
        None | Some("store:" | "containers-storage:") => return Ok(Shelf::store(endpoint::store(global, None, None)?)),
        Some(what) => what,
    };
    match what.parse().map_err(|e| Error::from(e).with_code(2))? {
        ImageName::Oci { directory, pick: Pick::Only } if is_read_only => {
            Ok(Shelf::layout(ImageLayout::open(directory)?))
        }
        ImageName::Oci { directory, pick: Pick::Only } => Ok(Shelf::layout(ImageLayout::open_or_create(directory)?)),
        ImageName::Oci { .. } => Err(usage(format!("{what}: a layout is served whole: leave the image's name out"))),
        _ => Err(usage(format!("{what}: what can be served is oci:DIRECTORY, or store:"))),
    }
}

/// The sockets of systemd or inetd's kind, sd_listen_fds(3).
fn passed_sockets() -> Result<Vec<OwnedFd>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let is_ours = number("LISTEN_PID").is_some_and(|pid| i64::from(pid) == i64::from(std::process::id()));
    let count = number("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0);
    if count > MAX_SOCKETS {
        return Err(Error::msg(format!("LISTEN_FDS says {count}: that is no number of sockets")));
    }
    let take = |fd| hoy_sys::process::inherited_fd(fd).context(|| format!("take the passed descriptor {fd}"));
    (3..3 + count).map(take).collect()
}
