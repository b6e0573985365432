//! From a command line to what does it.

use std::process::ExitCode;

use hoy_cli::Result;

use crate::args::{Args, Command};
use crate::open::Place;
use crate::{archives, containers, df, doctor, enter, history, image_list, images, import, maintenance};

/// Does what the command line says.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let place = Place::find(&args)?;
    if let Some(code) = enter::enter(&place, &args.command)? {
        return Ok(code);
    }
    place.warn();
    match args.command {
        Command::Create(command) => containers::create(&place, command),
        Command::Mount(command) => containers::mount(&place, command),
        Command::Umount(command) => containers::umount(&place, &command),
        Command::Rm(command) => containers::rm(&place, &command),
        Command::Rename(command) => containers::rename(&place, &command),
        Command::Diff(command) => containers::diff(&place, &command),
        Command::Export(command) => containers::export(&place, &command),
        Command::Containers(command) => containers::list(&place, &command),
        Command::Unpack(command) => images::unpack(&place, &command),
        Command::Images(command) => image_list::list(&place, &command),
        Command::Tag(command) => images::tag(&place, &command),
        Command::Untag(command) => images::untag(&place, &command),
        Command::Rmi(command) => images::rmi(&place, &command),
        Command::History(command) => history::history(&place, &command),
        Command::Import(command) => import::import(&place, &command),
        Command::Save(command) => archives::save(&place, &command),
        Command::Load(command) => archives::load(&place, &command),
        Command::Tree(command) => images::tree(&place, &command),
        Command::Prune(command) => maintenance::prune(&place, &command),
        Command::Check(command) => maintenance::check(&place, &command),
        Command::Df(command) => df::df(&place, &command),
        Command::Doctor(command) => doctor::doctor(&place, &command),
        Command::Reset(command) => maintenance::reset(&place, &command),
        Command::Unshare(command) => enter::unshare(&place, command),
        Command::Hold(command) => enter::hold(&place, &command),
        Command::MapIds(command) => enter::map_ids(&command),
    }
}
