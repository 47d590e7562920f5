//! The newest libpq, by way of psycopg: Debian's psql may be older than what is to be tested.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use postern_tests::{Someone, World, needs, process};

/// A Python with psycopg 3 on libpq 18, which `pip install 'psycopg[binary]'` brings.
const PYTHON_VARIABLE: &str = "POSTERN_PSYCOPG_PYTHON";
/// Where one is looked for otherwise, from the root of the tree.
const PYTHON_OF_THE_TREE: &str = "target/tools/psycopg/bin/python3";

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
    let Some(python) = python() else {
        let why = format!("no psycopg with libpq 18; {PYTHON_VARIABLE} may name a Python with it");
        needs::skip(claim, &why);
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

fn python() -> Option<PathBuf> {
    let named = std::env::var_os(PYTHON_VARIABLE).map(PathBuf::from);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = named.into_iter().chain([root.join(PYTHON_OF_THE_TREE)]);
    all.find(|python| {
        let mut command = Command::new(python);
        command.args([
            "-c",
            "import psycopg; assert psycopg.pq.version() >= 180000",
        ]);
        process::run(&mut command).is_ok()
    })
}
