//! The form of `--help`, which is runc's: "NAME: runc create - …", with the name that this program was called by.

use clap::Command;

const REST: &str = "\n\nUSAGE:\n   {usage}\n\n{all-args}{after-help}";

/// For the program itself.
pub(crate) fn of_program() -> String {
    format!("NAME:\n   {} - Open Container Initiative runtime\n\n{{about}}{REST}", name())
}

/// For one of its commands.
pub(crate) fn of_command(command: Command) -> Command {
    let template = format!("NAME:\n   {} {} - {{about}}{REST}", name(), command.get_name());
    command.help_template(template)
}

fn name() -> String {
    let path = std::env::args_os().next().map(std::path::PathBuf::from);
    let name = path.as_deref().and_then(|path| path.file_name()?.to_str());
    name.unwrap_or("hoy-runtime").to_owned()
}
