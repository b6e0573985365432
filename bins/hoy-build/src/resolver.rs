//! Where commands ask for addresses.

use clap::Args;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Resolver {
    /// Address of a name server for commands, or none
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Domain that they look for names in
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Option of resolv.conf(5) for them
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
}

impl Resolver {
    /// The option that was given, if one was.
    pub(crate) fn asked(&self) -> Option<&'static str> {
        let own = [("--dns", &self.dns), ("--dns-option", &self.dns_option), ("--dns-search", &self.dns_search)];
        own.iter().find(|(_, values)| !values.is_empty()).map(|(name, _)| *name)
    }

    /// What the options say in the words of resolv.conf(5); nothing where they say nothing.
    pub(crate) fn text(&self) -> String {
        let servers = self.dns.iter().filter(|server| *server != "none").map(|server| format!("nameserver {server}\n"));
        let words = |word: &str, values: &[String]| match values {
            [] => String::new(),
            values => format!("{word} {}\n", values.join(" ")),
        };
        [words("search", &self.dns_search), servers.collect(), words("options", &self.dns_option)].concat()
    }
}
