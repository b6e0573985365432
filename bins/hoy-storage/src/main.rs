//! `hoy-storage`: the store of images and containers.

mod archives;
mod args;
mod commands;
mod containers;
mod df;
mod doctor;
mod enter;
mod filter;
mod history;
mod image_filter;
mod image_list;
mod images;
mod import;
mod maintenance;
mod open;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    hoy_cli::main("hoy-storage", || commands::run(hoy_cli::parse()))
}
