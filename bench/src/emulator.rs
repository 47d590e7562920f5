//! A machine that counts: QEMU executes every instruction of a guest itself and moves the guest's
//! clock on by one nanosecond for each, of all programs and of the kernel
//! (<https://www.qemu.org/docs/master/devel/tcg-icount.html>). A guest that is never idle so tells
//! by its clock what a transaction costs, whatever else this machine does meanwhile.
//!
//! The guest has one processor, and PostgreSQL, Postern, the peers and the clients in it. Its
//! counts are those of the same programs on a processor without string instructions: QEMU counts
//! one of those once for each word that it moves, a processor once in all, so the guest is told
//! that it has none.

mod guest;
mod image;
mod output;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use postern_tests::process::run;
use postern_tests::{needs, wait};

use crate::stage::Stage;

pub use output::{Count, Load};

/// How often a guest is started that does not come to its end. QEMU 7.2 was seen to return from an
/// interrupt with wrong flags, once in some 20 starts; in the next one, whose certificate is
/// another, everything happens at other times.
const STARTS_MAX: usize = 2;

/// What the guest counted.
#[derive(Debug)]
pub struct Counts {
    /// A figure for each load.
    pub counts: Vec<Count>,
    /// What could not be counted, and why.
    pub gaps: Vec<String>,
}

/// Which loads the guest runs.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The routes, by name.
    pub routes: &'a [&'a str],
    /// Those that end the clients' TLS.
    pub routes_tls: &'a [&'a str],
    /// How many clients run transactions at once, load by load.
    pub clients: &'a [u64],
    /// What pgbench's random numbers begin with.
    pub seed: usize,
}

/// Why nothing can be counted on this machine, if so.
#[must_use]
pub fn missing() -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some("the guest is made for x86-64 only".to_owned());
    }
    let programs = [guest::QEMU, image::MAKER];
    let absent = programs.iter().find(|it| needs::program(it).is_none())?;
    Some(format!("{absent} is not installed"))
}

/// Makes the guest's files if there are none yet, starts it and waits until it has run every load.
///
/// # Errors
/// If the guest cannot be made, does not start or does not end, or we are interrupted.
pub fn count(stage: &Stage, plan: &Plan<'_>) -> Result<Counts> {
    let image = image::get(&folder()?, stage.scratch())?;
    let mut starts = 1;
    let output = loop {
        match guest::run(&image, stage, plan) {
            Ok(output) => break output,
            Err(error) if wait::is_interrupted() || starts == STARTS_MAX => return Err(error),
            Err(error) => eprintln!("         the guest is started again: {error:#}"),
        }
        starts += 1;
    };
    Ok(output::read(&output))
}

/// What the emulator says of itself.
#[must_use]
pub fn version() -> Option<String> {
    let said = run(Command::new(guest::QEMU).arg("--version")).ok()?;
    said.lines().next().map(str::to_owned)
}

/// The packages in the guest and their versions, once there is one.
#[must_use]
pub fn packages() -> Option<String> {
    let versions = image::versions(&folder().ok()?)?;
    Some(versions.lines().collect::<Vec<_>>().join(", "))
}

/// The guest's files stay from run to run, in cargo's folder: we are in target/release.
fn folder() -> Result<PathBuf> {
    let ours = std::env::current_exe()?;
    let target = ours.ancestors().nth(2).context("no target folder")?;
    Ok(target.join("bench-guest"))
}
