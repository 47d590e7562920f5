//! `cargo xtask bench`: installs the peers, builds what is measured, and hands over to the bench.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::setup::{self, Need};
use crate::{EXIT_NOT_SET_UP, cargo, ebpf, root};

/// What the bench starts.
const NEEDS: [Need; 5] = [
    Need::Compiler,
    Need::Postgres,
    Need::PgBouncer,
    Need::HaProxy,
    Need::Nginx,
];

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Options of the bench itself: --quick, --only NAME, --json FILE, --page FILE,
    /// --peer NAME=HOST:PORT, --rounds N; all of them by --help.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

/// The command. It returns only if the bench cannot be started: Ctrl-C and the exit status are
/// then the bench's own.
///
/// # Errors
/// If the build fails or the bench cannot be started.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if setup::ensure(&NEEDS)? == setup::Outcome::CommandPrinted {
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    }
    if ebpf::build()? == setup::Outcome::CommandPrinted {
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    }
    setup::try_to_install(Need::Perf);
    // Scenarios with a directory are left out without these.
    setup::try_to_install(Need::OpenLdap);
    setup::try_to_install(Need::Samba);
    // A quick run has no time for it.
    if !arguments.options.iter().any(|it| it == "--quick") {
        setup::try_to_install(Need::Emulator);
    }
    let built = cargo::command(&["build", "--release", "-p", "postern", "-p", "postern-bench"])
        .current_dir(root()?)
        // Standard output is for the results.
        .stdout(std::io::stderr())
        .status()?;
    if !built.success() {
        bail!("the build failed");
    }
    // We are in target/debug, wherever that folder is.
    let ours = std::env::current_exe()?;
    let target = ours.ancestors().nth(2).context("no target folder")?;
    let bench = target.join("release/postern-bench");
    let error = Command::new(&bench).args(&arguments.options).exec();
    Err(error).with_context(|| format!("cannot start {}", bench.display()))
}
