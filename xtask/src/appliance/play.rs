//! `cargo xtask appliance run`: a machine to play with.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use postern_tests::{cast, signals, wait, wait_until};

use super::guest::Guest;
use super::stage::Stage;
use super::test;
use crate::EXIT_NOT_SET_UP;
use crate::dist::program;
use crate::setup::{self, Outcome};

/// Options of `cargo xtask appliance run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The disk to start, in place of the one that was built.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The program that was built for the image.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Print the console's page when somebody has logged in, and end.
    #[arg(long)]
    page: bool,
}

/// The command.
///
/// # Errors
/// If the servers or the machine cannot be started.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if setup::ensure(&test::NEEDED)? == Outcome::CommandPrinted {
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    }
    signals::catch()?;
    let image = test::image(arguments.image.as_deref())?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => program::place()?,
    };
    eprintln!("Starting PostgreSQL, OpenLDAP and the machine");
    let stage = Stage::start(&program)?;
    let guest = test::switch_on(&stage, "machine", &image, &stage.drive())?;
    let outcome = show(&stage, guest, arguments.page);
    match outcome {
        Err(_) if wait::is_interrupted() => {
            eprintln!("\nThe machine and the servers are ended, and their folder is removed.");
            Ok(ExitCode::from(signals::EXIT_INTERRUPTED))
        }
        Err(error) => Err(error),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

/// Shows the console's page, anew when it has changed.
fn show(stage: &Stage, mut guest: Guest, once: bool) -> Result<()> {
    test::wait_for_login(stage, &guest)?;
    if once {
        // A session that is there when the page is drawn is on it.
        let psql = stage.psql(guest.port, cast::TESTUSER);
        let mut command = psql.command()?;
        let mut session = command
            .args(["--command", "select pg_sleep(60)"])
            .stdout(std::process::Stdio::null())
            .spawn()?;
        let waited = guest.wait_for_page("sessions    1");
        session.kill()?;
        session.wait()?;
        waited?;
        println!("{}", guest.page()?.trim_end());
        return guest.switch_off();
    }
    println!(
        "{}\n\nCtrl-C ends it and removes everything.",
        line_to_paste(stage, &guest)
    );
    let mut shown = String::new();
    wait_until("Ctrl-C", Duration::MAX, || {
        let page = guest.page()?;
        if page != shown {
            println!("{page}");
            shown = page;
        }
        Ok(!guest.is_running()?)
    })?;
    bail!("the machine has ended");
}

/// A command line for a person.
fn line_to_paste(stage: &Stage, guest: &Guest) -> String {
    format!(
        "PGPASSWORD={} psql \"host=localhost port={} user={} dbname={} sslmode=verify-full \
         sslrootcert={}\"",
        cast::TESTUSER.password,
        guest.port,
        cast::TESTUSER.login,
        cast::HR_DATABASE,
        stage.certificates.ca_file().display()
    )
}
