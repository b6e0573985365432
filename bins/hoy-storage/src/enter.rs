//! Getting to where the files of an ordinary user's ids can be written.

use std::process::ExitCode;

use hoy_cli::Result;

use crate::args::{Command, MapIds, Unshare};
use crate::open::Place;

pub(crate) fn enter(_place: &Place, _command: &Command) -> Result<Option<ExitCode>> {
    Ok(None)
}
pub(crate) fn unshare(_place: &Place, _command: Unshare) -> Result<ExitCode> {
    Ok(ExitCode::FAILURE)
}
pub(crate) fn hold(_place: &Place) -> Result<ExitCode> {
    Ok(ExitCode::FAILURE)
}
pub(crate) fn map_ids(_command: &MapIds) -> Result<ExitCode> {
    Ok(ExitCode::FAILURE)
}
