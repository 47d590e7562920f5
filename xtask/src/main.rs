//! Developer commands: `cargo xtask setup`, `demo`, `test`, `bench`, `appliance`, `dist`, `ebpf`,
//! `fuzz`, `mutants`, `deny`, `tidy`, `ci`.

mod appliance;
mod bench;
mod cargo;
mod demo;
mod dist;
mod ebpf;
mod fuzz;
mod part;
mod readme;
mod sanitizer;
mod setup;
mod sql;
mod suites;
mod test;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// What a command that could not set the machine up ends with.
const EXIT_NOT_SET_UP: u8 = 2;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of Postern", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the other commands need (by apt, as root or by sudo).
    Setup,
    /// Play the walk-through with real servers, then stay up until Ctrl-C.
    Demo(demo::Arguments),
    /// Run everything: unit tests, tidy, formatting, clippy, SQL and end-to-end tests.
    Test(test::Arguments),
    /// Measure what Postern costs, beside its peers on the same machine in the same run.
    Bench(bench::Arguments),
    /// The bootable image: make it, test it, start it.
    Appliance(appliance::Arguments),
    /// Make a Debian package and a static tarball, in target/dist.
    Dist(dist::Arguments),
    /// Build the policy programs for the kernel, which the program carries.
    Ebpf,
    /// Look for bytes that break a property of what reads them.
    Fuzz(fuzz::Arguments),
    /// Change the deciding code in one place at a time, and say what no test notices.
    Mutants(tools::MutantsArguments),
    /// Check licences, bans and sources of what is built in.
    Deny(tools::DenyArguments),
    /// Check the house rules.
    Tidy(tidy::Arguments),
    /// What continuous integration runs: the same as `test`.
    Ci,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Setup => setup::run(),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Appliance(arguments) => appliance::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments),
        Command::Ebpf => ebpf::run(),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Mutants(arguments) => tools::mutants(&arguments),
        Command::Deny(arguments) => tools::deny(&arguments),
        Command::Tidy(arguments) => tidy::run(&arguments),
        Command::Ci => test::run(&test::Arguments::default()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("xtask is in no workspace")?;
    Ok(root.to_owned())
}
