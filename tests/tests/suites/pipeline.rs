//! PostgreSQL's tests of pipelining, with the messages that they send and receive.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::Psql;
use postern_tests::process::{run, run_any};

use crate::regress::sources;
use crate::site::{ROUTES, Site, folder};

/// The longest that one test may take, in seconds.
const LIMIT_S: u32 = 60;
/// What PostgreSQL's own build gives the tests to do.
const ROWS: &str = "700";
/// The fewest tests, and the fewest traces to compare with, that there must be.
const TESTS_MIN: usize = 8;
const TRACES_MIN: usize = 7;

pub(crate) fn the_same_pipelines_and_their_traces_fail_on_both_routes(site: &Site) -> Result<()> {
    let Some(sources) = sources(site, "libpq_pipeline")? else {
        return Ok(());
    };
    let traces = sources.join("src/test/modules/libpq_pipeline/traces");
    let program = folder().context("nothing was made ready")?;
    let program = program.join("built/libpq_pipeline");
    let names = run(Command::new(&program).arg("tests"))?;
    let names: Vec<&str> = names.split_whitespace().collect();
    let known = |it: &&&str| traces.join(format!("{it}.trace")).is_file();
    let traced = names.iter().filter(known).count();
    ensure!(names.len() >= TESTS_MIN, "only {} tests", names.len());
    ensure!(traced >= TRACES_MIN, "only {traced} traces");
    // The tests set lc_messages, as superusers may.
    let person = site.superuser("pipeliner")?;
    let mut failed = Vec::new();
    for route in ROUTES {
        let psql = site.psql(route, &person);
        let scratch = site.world.scratch.subfolder("traces")?;
        let mut set = BTreeSet::new();
        for name in &names {
            let trace = scratch.join(name);
            if let Some(why) = play(&psql, &program, name, &trace)? {
                set.insert(format!("{name}: {why}"));
            }
            let expected = traces.join(format!("{name}.trace"));
            // A test that does not come to its start leaves no trace.
            let left = fs::read(&trace).unwrap_or_default();
            if expected.is_file() && fs::read(&expected)? != left {
                set.insert(format!("{name}: another trace"));
            }
        }
        eprintln!(
            "  libpq_pipeline {}: {} tests, {traced} traces, {} failed",
            route.name(),
            names.len(),
            set.len()
        );
        failed.push(set);
    }
    ensure!(failed.first() == failed.last(), "{failed:?}");
    let most = failed.iter().all(|it| it.len() < TESTS_MIN / 2);
    ensure!(most, "nearly everything fails: {failed:?}");
    Ok(())
}

/// Runs one test; why it failed, if it did.
fn play(psql: &Psql, program: &Path, name: &str, trace: &Path) -> Result<Option<String>> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after", "10", &LIMIT_S.to_string()]);
    command.arg(program).args(["-r", ROWS, "-t"]).arg(trace);
    command.args([name, ""]).envs(psql.environment());
    let output = run_any(&mut command)?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Some(said.lines().last().unwrap_or_default().to_owned()))
}
