//! Prints the tags of a repository and what each points to: `tags HOST REPOSITORY`.
//!
//! The library reads neither environment nor home: whoever calls it says which credentials and certificates there are.

use std::error::Error;

use hoy_registry::{Options, Registry, Tls};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, repository] = arguments.as_slice() else { return Err("usage: tags HOST REPOSITORY".into()) };
    let mut options = Options::default();
    // On this machine a registry may do without certificates.
    options.tls = Tls { verify: !host.starts_with("127.0.0.1:"), ..Tls::default() };
    options.user_agent = "tags-example".to_owned();
    let registry = Registry::new(host, options);
    for tag in registry.tags(repository)? {
        let manifest = registry.manifest(repository, &tag)?;
        println!("{tag} {} {}", manifest.descriptor.digest, manifest.descriptor.media_type);
    }
    Ok(())
}
