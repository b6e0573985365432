//! `hoy-copy list-tags`.

use hoy_cli::{Error, Result, print_line};
use hoy_transport::{ImageName, TRANSPORTS};
use serde::Serialize;

use crate::access::Access;
use crate::args::{Global, ListTagsArgs};
use crate::inspect::go_json;
use crate::{endpoint, names};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tags {
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    tags: Vec<String>,
}

/// Prints a repository's tags as JSON.
pub(crate) fn run(global: &Global, args: ListTagsArgs) -> Result<()> {
    let access = args.access.access(None);
    let has_transport = TRANSPORTS.iter().any(|transport| args.repository.starts_with(transport));
    if args.repository.starts_with("docker://") || !has_transport {
        let name = &args.repository;
        let reference = names::repository(global, name)?;
        if reference.tag().is_some() || reference.digest().is_some() {
            return Err(Error::msg(format!("\"{name}\" names an image: leave out the tag or digest")).with_code(2));
        }
        let registry = access.registry(global, &reference, args.retry.into())?;
        let tags = registry.tags(reference.repository())?;
        return print_line(go_json(&Tags { repository: Some(reference.name()), tags })?);
    }
    if args.repository.starts_with("ssh://")
        && let ImageName::Ssh { host, reference } = args.repository.parse()?
    {
        let tags = Access::behind_ssh(global, &host).tags(reference.repository())?;
        return print_line(go_json(&Tags { repository: Some(reference.repository().to_owned()), tags })?);
    }
    match args.repository.parse().map_err(|e| Error::from(e).with_code(2))? {
        ImageName::DockerArchive { file, .. } => {
            let tags = hoy_transport::docker_archive_names(&file, &endpoint::spool(global))?;
            print_line(go_json(&Tags { repository: None, tags })?)
        }
        ImageName::OciArchive { file, .. } => {
            let tags = hoy_transport::oci_archive_names(&file, &endpoint::spool(global))?;
            print_line(go_json(&Tags { repository: None, tags })?)
        }
        other => {
            let text = format!("{other} has no tags: only docker://, ssh://, docker-archive: and oci-archive: have");
            Err(Error::msg(text).with_code(2))
        }
    }
}
