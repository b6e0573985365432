//! Which command is done by what.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use hoy_cli::{Error, Result, print_line};

use crate::FAILED;
use crate::args::{Action, Command};
use crate::context::Context;
use crate::{
    build, content, history, image, images, isolation, manifest, never, run, sbom, show, source, verify, working,
};

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    let context = Context::new(&command.global)?;
    match command.action {
        Action::From(args) => working::from(&context, args),
        Action::Mount(args) => working::mount(&context, &args),
        Action::Umount(args) => working::umount(&context, &args),
        Action::Rm(args) => working::rm(&context, &args),
        Action::Rename(args) => working::rename(&context, &args),
        Action::Config(args) => working::config(&context, &args),
        Action::Copy(args) => content::copy(&context, args.args, Some(args.parents)),
        Action::Add(args) => content::copy(&context, args, None),
        Action::Run(args) => run::run(&context, *args),
        Action::Commit(args) => image::commit(&context, args),
        Action::Pull(args) => image::pull(&context, args),
        Action::Prune(args) => images::prune(&context, &args),
        Action::Push(args) => image::push(&context, args),
        Action::Containers(args) => show::containers(&context, &args),
        Action::Inspect(args) => show::inspect(&context, &args),
        Action::Info(args) => show::info(&context, &args),
        Action::Version(args) => show::version(&args),
        Action::Images(args) => images::images(&context, &args),
        Action::Sbom(args) => sbom::sbom(&context, &args),
        Action::History(args) => history::history(&context, &args),
        Action::Verify(args) => verify::verify(&context, *args),
        Action::Tag(rest) => context.leave_to("hoy-storage", "tag", &rest.args),
        Action::Rmi(args) => images::rmi(&context, &args),
        Action::Unshare(args) => working::unshare(&context, args),
        Action::Login(rest) => relay(&context, "login", &rest.args),
        Action::Build(args) => build::build(&context, &args),
        Action::InRoot(args) => isolation::in_root(&args),
        Action::Keep(args) => images::keep(&context, &args),
        Action::Manifest(action) => manifest::run(&context, action),
        Action::Source(action) => source::run(&context, action),
        Action::Rpc(_) => Err(Error::msg(format!("rpc: {}", never::SERVER))),
        Action::Mkcw(_) => Err(Error::msg(format!("mkcw: {}", never::CW))),
        Action::Logout(rest) => relay(&context, "logout", &rest.args),
    }
}

/// Has `hoy-copy` do it, whose answer and failure are told as this program's own.
fn relay(context: &Context, action: &str, args: &[OsString]) -> Result<ExitCode> {
    match context.tools.copy([OsStr::new(action)].into_iter().chain(args.iter().map(OsString::as_os_str))) {
        // It has said itself what is wrong.
        Err(hoy_build::Error::Program { message, .. }) if message.is_empty() => Ok(ExitCode::from(FAILED)),
        answer => print_line(answer?).map(|()| ExitCode::SUCCESS),
    }
}
