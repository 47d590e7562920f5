//! `cargo xtask demo`: the walk-through, with real servers and the real psql.

mod detached;
mod play;
mod stage;
mod transcript;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use postern_tests::{needs, signals, wait, wait_until};

use crate::setup::{self, Need};
use crate::{EXIT_NOT_SET_UP, cargo, ebpf};
use stage::Stage;
use transcript::Transcript;

/// How long the first build may take on a small machine.
const BUILD_LIMIT: Duration = Duration::from_secs(3_600);

/// Options of `cargo xtask demo`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Arguments {
    /// Who knows the people and groups.
    #[arg(long, value_enum, default_value_t = Kind::Openldap)]
    directory: Kind,
    /// End after the walk-through with `N passed, N failed`.
    #[arg(long, conflicts_with_all = ["detach", "stop"])]
    check: bool,
    /// Start the servers without the walk-through, leave them running, and print
    /// `export NAME=value` lines for a shell: eval "$(cargo xtask demo --detach)".
    #[arg(long, conflicts_with = "stop")]
    detach: bool,
    /// End what --detach has left running.
    #[arg(long)]
    stop: bool,
    /// What --detach starts in the background.
    #[arg(long, hide = true)]
    supervise: bool,
}

/// The directory servers that the demonstration can play with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// OpenLDAP.
    Openldap,
    /// Samba as an Active Directory domain controller; needs root for its ports.
    Samba,
    /// No server: Postern's own file of accounts.
    Local,
}

impl Kind {
    /// The word on the command line.
    fn word(self) -> &'static str {
        match self {
            Self::Openldap => "openldap",
            Self::Samba => "samba",
            Self::Local => "local",
        }
    }

    fn needs(self) -> &'static [Need] {
        match self {
            Self::Openldap => &[Need::Compiler, Need::Postgres, Need::OpenLdap],
            Self::Samba => &[Need::Compiler, Need::Postgres, Need::Samba],
            Self::Local => &[Need::Compiler, Need::Postgres],
        }
    }
}

/// The command.
///
/// # Errors
/// If a server does not start or a step cannot be played; everything is ended and removed then.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    if arguments.supervise {
        return detached::supervise(arguments.directory);
    }
    signals::catch()?;
    let outcome = if arguments.stop {
        detached::stop()
    } else {
        start(arguments)
    };
    match outcome {
        Err(_) if wait::is_interrupted() => {
            eprintln!("\nInterrupted; all servers are ended and their folder is removed.");
            Ok(ExitCode::from(signals::EXIT_INTERRUPTED))
        }
        outcome => outcome,
    }
}

fn start(arguments: Arguments) -> Result<ExitCode> {
    if arguments.directory == Kind::Samba && !needs::is_root() {
        bail!("Samba's ports are below 1024: run this as root, or with --directory openldap");
    }
    if setup::ensure(arguments.directory.needs())? == setup::Outcome::CommandPrinted {
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    }
    if ebpf::build()? == setup::Outcome::CommandPrinted {
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    }
    build()?;
    if arguments.detach {
        return detached::start(arguments.directory);
    }
    let stage = Stage::start(arguments.directory)?;
    let mut transcript = Transcript::default();
    let played = play::play(&stage, &mut transcript);
    if let Err(error) = &played {
        transcript.check(false, &format!("{error:#}"));
    }
    if wait::is_interrupted() {
        bail!("interrupted");
    }
    if transcript.failed() > 0 {
        stage.show_logs();
    }
    let code = if transcript.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    if !arguments.check && played.is_ok() {
        stay_up(&stage)?;
    }
    drop(stage);
    println!(
        "\n{} passed, {} failed",
        transcript.passed(),
        transcript.failed()
    );
    Ok(code)
}

/// Builds the program that the demonstration is of.
fn build() -> Result<()> {
    let mut child = cargo::command(&["build", "--package", "postern"])
        // Standard output is for what the demonstration has to say for itself.
        .stdout(std::io::stderr())
        .spawn()?;
    let mut status = None;
    let built = wait_until("postern is built", BUILD_LIMIT, || {
        status = child.try_wait()?;
        Ok(status.is_some())
    });
    if built.is_err() {
        child.kill()?;
        child.wait()?;
    }
    built?;
    match status {
        Some(status) if status.success() => Ok(()),
        _ => bail!("postern does not build"),
    }
}

fn stay_up(stage: &Stage) -> Result<()> {
    println!("\nEverything stays up. To try it yourself:\n");
    println!("  {}\n", stage.line_to_paste());
    println!("Log:   {}", stage.postern.log_file().display());
    println!("Audit: {}", stage.postern.audit_file().display());
    println!("\nCtrl-C ends it and removes everything.");
    let waited = wait_until("Ctrl-C", Duration::MAX, || stage.all_run().map(|it| !it));
    if waited.is_ok() {
        bail!("a server has ended; see its log");
    }
    if !wait::is_interrupted() {
        return waited;
    }
    println!("\nEnding all servers.");
    Ok(())
}
