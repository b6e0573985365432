//! Documents of every kind meet everything that is decided before a container is begun: an error or a plan, no panic.

use hoy_tests::{broken, cases, damaged, full_config};
use proptest::prelude::*;
use serde_json::Value;

use crate::config::Config;
use crate::config::validate::check_process;
use crate::exec::parse_process;
use crate::mount::plan;
use crate::process::capability::Sets;
use crate::resources::resctrl;
use crate::{Error, Result, device, namespace, network, notify};

/// Decides all that a container of this configuration would be.
fn decide(bytes: Vec<u8>) -> Result<()> {
    let config = Config::parse(bytes)?;
    let linux = config.linux();
    let process = config.process()?;
    notify::plan("/c".as_ref(), Some("/s".as_ref()), process.env().as_deref().unwrap_or_default());
    process.capabilities().as_ref().map(Sets::new);
    plan::plan_all(&config)?;
    linux.intel_rdt().as_ref().map(|rdt| resctrl::plan(rdt, "id")).transpose()?;
    device::plan(linux.devices().as_deref().unwrap_or_default())?;
    linux.seccomp().as_ref().map(|profile| hoy_seccomp::compile(profile, std::env::consts::ARCH)).transpose()?;
    namespace::Namespaces::plan(&config)?;
    network::plan(&config)?;
    // Neither version of control groups has everything.
    let plan = |v2| linux.resources().as_ref().map_or(Ok(Vec::new()), |resources| hoy_cgroup::plan(resources, v2));
    plan(false).or(plan(true))?;
    Ok(())
}

/// A configuration with all that this runtime has, on control groups of version 1.
fn base() -> Value {
    let mut config = full_config();
    config.pointer_mut("/linux/resources").and_then(Value::as_object_mut).map(|object| object.remove("unified"));
    config
}

fn check(result: Result<()>) -> std::result::Result<(), TestCaseError> {
    let Err(error) = result else { return Ok(()) };
    let text = error.chain();
    prop_assert!(!text.is_empty() && !matches!(error, Error::NotFound(_)), "{text}");
    Ok(())
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn a_broken_configuration_is_an_error_or_a_plan(bytes in damaged(&base())) {
        check(decide(bytes))?;
    }
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn a_broken_process_is_an_error_or_a_plan(process in broken(&full_config()["process"], &[])) {
        let parsed = parse_process(process.to_string().as_bytes(), "process.json".as_ref());
        check(parsed.and_then(|(process, _)| check_process(&process)))?;
    }
}

#[test]
fn the_whole_configuration_is_understood() {
    decide(base().to_string().into_bytes()).unwrap();
}
