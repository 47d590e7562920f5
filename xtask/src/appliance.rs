//! `cargo xtask appliance`: the bootable image, its test and a machine to play with.

mod accelerator;
mod build;
mod disk;
mod figures;
mod guest;
mod play;
mod stage;
mod test;
mod tool;
mod tree;
mod uki;
#[cfg(test)]
mod units;
#[cfg(test)]
mod user_data;

use std::process::ExitCode;

use anyhow::Result;

/// Options of `cargo xtask appliance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make the image: target/appliance/postern.raw and .qcow2.
    Build(build::Arguments),
    /// Start the image in QEMU, with PostgreSQL and OpenLDAP outside, and check it from there.
    Test(test::Arguments),
    /// Start the image in QEMU, with PostgreSQL and OpenLDAP outside, and stay up until Ctrl-C.
    Run(play::Arguments),
}

/// The command.
///
/// # Errors
/// If the image cannot be made or started.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        Command::Build(arguments) => build::run(arguments),
        Command::Test(arguments) => test::run(arguments),
        Command::Run(arguments) => play::run(arguments),
    }
}
