//! `cargo xtask appliance test`: the image in a machine, seen from outside of it.

mod checks;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postern_tests::{cast, signals, wait, wait_until};

use super::guest::{Guest, START_LIMIT, Settings};
use super::stage::Stage;
use super::{build, figures};
use crate::EXIT_NOT_SET_UP;
use crate::dist::program;
use crate::setup::{self, Need, Outcome};

/// Options of `cargo xtask appliance test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The disk to test, in place of the one that was built.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Only the checks whose claim has this text.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The program that was built for the image.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// What a machine with servers outside of it needs.
pub(super) const NEEDED: [Need; 4] = [
    Need::Compiler,
    Need::Appliance,
    Need::Postgres,
    Need::OpenLdap,
];

/// What all checks share.
pub(super) struct World {
    pub(super) stage: Stage,
    /// The machine with the settings of the stage.
    pub(super) guest: Guest,
    pub(super) image: PathBuf,
    /// The program that an update is made with.
    pub(super) program: PathBuf,
    /// From switching on to the first login.
    pub(super) first_login: Duration,
    /// From the death of the proxy to the next one's first answer, in seconds, if it was killed.
    pub(super) restart_s: Option<f64>,
}

/// The command.
///
/// # Errors
/// If the servers or the machine cannot be started.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if setup::ensure(&NEEDED)? == Outcome::CommandPrinted {
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    }
    signals::catch()?;
    let only = arguments.only.as_deref().unwrap_or("");
    let wanted = || checks::ALL.iter().filter(|it| it.0.contains(only));
    if wanted().next().is_none() {
        bail!("no claim has {only:?} in it");
    }
    let image = image(arguments.image.as_deref())?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => program::place()?,
    };
    let mut world = start(image, program)?;
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for (claim, check) in wanted() {
        let start = Instant::now();
        let outcome = check(&mut world);
        if wait::is_interrupted() {
            bail!("interrupted");
        }
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("ok      {claim} ({seconds:.1} s)");
            }
            Err(error) => {
                failed += 1;
                println!("FAILED  {claim} ({seconds:.1} s): {error:#}");
            }
        }
    }
    failed += figures::print(&mut world)?;
    println!("\n{passed} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The disk to start from.
///
/// # Errors
/// If it is not there.
pub(super) fn image(given: Option<&std::path::Path>) -> Result<PathBuf> {
    let image = match given {
        Some(image) => image.to_owned(),
        None => build::folder()?.join(build::DISK),
    };
    if !image.is_file() {
        bail!(
            "{} is not there: cargo xtask appliance build makes it",
            image.display()
        );
    }
    Ok(image)
}

/// Starts everything and waits until somebody has logged in.
fn start(image: PathBuf, program: PathBuf) -> Result<World> {
    println!("the servers outside");
    let stage = Stage::start(&program)?;
    println!("the machine");
    let mut guest = switch_on(&stage, "machine", &image, &stage.drive())?;
    let waited = wait_for_login(&stage, &guest);
    let first_login = guest.started.elapsed();
    if let Err(error) = waited {
        let journal = guest.run("journalctl -b --no-pager | tail -n 60");
        let page = guest.page().unwrap_or_default();
        return Err(error.context(format!("{page}\n{}", journal.unwrap_or_default())));
    }
    println!("the first login after {:.1} s", first_login.as_secs_f64());
    Ok(World {
        stage,
        guest,
        image,
        program,
        first_login,
        restart_s: None,
    })
}

/// Another machine with a disk of its own.
///
/// # Errors
/// If it cannot be started.
pub(super) fn switch_on(
    stage: &Stage,
    name: &str,
    image: &std::path::Path,
    settings: &Settings,
) -> Result<Guest> {
    let folder = stage.scratch.subfolder(name)?;
    Guest::start(&folder, image, settings)
}

/// Waits until somebody gets in, and reads.
///
/// # Errors
/// If nobody does; the message has what psql said last.
pub(super) fn wait_for_login(stage: &Stage, guest: &Guest) -> Result<()> {
    let psql = stage.psql(guest.port, cast::TESTUSER);
    let mut said = String::new();
    let waited = wait_until("a person logs in", START_LIMIT, || {
        // A psql each time would take from the machine's processors what it starts with.
        if !guest.answers() {
            "nothing yet: no proxy answers".clone_into(&mut said);
            return Ok(false);
        }
        let answer = psql.run("select count(*) > 0 from employees")?;
        said = answer.stderr;
        Ok(answer.ok && answer.stdout == "t")
    });
    waited.with_context(|| format!("psql says {said}"))
}
