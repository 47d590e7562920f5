//! The newest libpq, by way of psycopg: Debian's psql may be older than what is to be tested.

use std::process::Command;

use anyhow::{Context, Result};
use postern_tests::{Someone, World, needs, process};

/// Runs a script with `connect(**parameters)`, which logs a person in, verified in full. What it
/// prints is the outcome; none where there is no libpq 18, which is said loudly.
///
/// # Errors
/// If the script fails.
pub(crate) fn run(
    world: &World,
    claim: &str,
    person: &Someone,
    script: &str,
) -> Result<Option<String>> {
    let Some(python) = needs::psycopg() else {
        needs::skip(claim, "psycopg with libpq 18 is not installed");
        return Ok(None);
    };
    let prelude = "import os, psycopg\n\
        def connect(**parameters):\n    \
            return psycopg.connect(os.environ['TARGET'], **parameters)\n";
    let target = format!(
        "host=localhost port={} dbname=hr user={} password={} sslmode=verify-full sslrootcert={}",
        world.postern.port(),
        person.login,
        person.password,
        world.postern.ca_file().display()
    );
    let mut command = Command::new("timeout");
    command.arg("60").arg(python).arg("-c");
    command.arg(format!("{prelude}{script}"));
    command.env("TARGET", target);
    process::run(&mut command).map(Some).context("the script")
}
