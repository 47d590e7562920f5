//! PostgreSQL's own regression and isolation tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::account::Account;
use postern_tests::needs;
use postern_tests::process::{run, run_any};

use crate::site::{ROUTES, Route, Site, folder};

/// The role that owns everything that these tests make, as superusers do.
const TESTER: &str = "tester";

/// What pg_regress may take, in seconds.
const LIMIT_S: u32 = 540;

/// A suite of PostgreSQL's, run by pg_regress or its like.
struct Suite {
    name: &'static str,
    /// The runner, in Debian's folder.
    runner: &'static str,
    /// The tests, in the sources.
    tests: &'static str,
    schedule: &'static str,
    /// What some of the tests expect to be in.
    database: &'static str,
    /// The fewest tests that are to run.
    tests_min: usize,
}

/// What ran, and which of them failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
}

pub(crate) fn the_same_regression_tests_fail_on_both_routes(site: &Site) -> Result<()> {
    compare(
        site,
        &Suite {
            name: "regress",
            runner: "regress/pg_regress",
            tests: "src/test/regress",
            schedule: "parallel_schedule",
            database: "regression",
            tests_min: 200,
        },
    )
}

pub(crate) fn the_same_isolation_tests_fail_on_both_routes(site: &Site) -> Result<()> {
    compare(
        site,
        &Suite {
            name: "isolation",
            runner: "isolation/pg_isolation_regress",
            tests: "src/test/isolation",
            schedule: "isolation_schedule",
            database: "isolation_regression",
            tests_min: 100,
        },
    )
}

fn compare(site: &Site, suite: &Suite) -> Result<()> {
    let Some(sources) = sources(site, suite.name)? else {
        return Ok(());
    };
    let mut outcomes = Vec::new();
    for route in ROUTES {
        let outcome = play(site, route, suite, &sources)
            .with_context(|| format!("{} {}", suite.name, route.name()))?;
        let (passed, failed) = (outcome.passed.len(), outcome.failed.len());
        let names: Vec<&str> = outcome.failed.iter().map(String::as_str).collect();
        eprintln!(
            "  {} {}: {passed} passed, {failed} failed {}",
            suite.name,
            route.name(),
            names.join(" ")
        );
        ensure!(
            passed + failed >= suite.tests_min,
            "only {passed} and {failed} tests ran"
        );
        outcomes.push(outcome);
    }
    let [direct, through] = outcomes.as_slice() else {
        anyhow::bail!("there are two routes");
    };
    let only_here: Vec<&String> = through.failed.difference(&direct.failed).collect();
    let only_there: Vec<&String> = direct.failed.difference(&through.failed).collect();
    ensure!(
        direct == through,
        "only through Postern fail {only_here:?}, only directly fail {only_there:?}"
    );
    Ok(())
}

/// The sources that fit the server; `None` is a loud skip.
pub(crate) fn sources(site: &Site, suite: &str) -> Result<Option<PathBuf>> {
    let folder = folder().context("all suites need what is made ready")?;
    let major = site.postgres(Route::Direct).major();
    let sources = folder.join(format!("postgresql-{major}"));
    if sources.join("src/test/regress").is_dir() && folder.join("built/regress.so").is_file() {
        return Ok(Some(sources));
    }
    let why = format!("the tests of PostgreSQL {major} could not be made ready");
    needs::skip(suite, &why);
    Ok(None)
}

/// Runs a suite on one route, in a copy that the server may read and write as the runner does.
fn play(site: &Site, route: Route, suite: &Suite, sources: &Path) -> Result<Outcome> {
    let person = match route {
        Route::Direct => site.superuser(&format!("{TESTER}-{}", suite.name))?,
        Route::Through => site.known(&format!("{TESTER}-{}", suite.name)),
    };
    let place = site.world.scratch.subfolder(suite.name)?;
    copy(&sources.join(suite.tests), &place.join("tests"))?;
    let modules = place.join("modules");
    fs::create_dir(&modules)?;
    let built = folder().context("nothing was made ready")?.join("built");
    fs::copy(built.join("regress.so"), modules.join("regress.so"))?;
    let postgres = site.postgres(route);
    for module in ["autoinc.so", "refint.so"] {
        let installed = postgres.bin().join("../lib").join(module);
        fs::copy(installed, modules.join(module))?;
    }
    let account = Account::unprivileged()?;
    let owner = account.name()?;
    run(Command::new("chown").arg("-R").arg(owner).arg(&place))?;
    let runner = needs::pg_regress(&needs::postgres(None).context("PostgreSQL is gone")?);
    let runner = runner.context("pg_regress is gone")?.join(suite.runner);
    let mut command = account.command(Path::new("timeout"), "KILL");
    command.args(["--kill-after", "10", &LIMIT_S.to_string()]);
    command.arg(runner);
    let psql = site.psql(route, &person);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("PG") {
            command.env_remove(variable);
        }
    }
    // The runner's account may not look into ours for certificates.
    command.envs(psql.environment()).env("HOME", &place);
    let tests = place.join("tests");
    let output = place.join("output");
    command
        .arg(format!("--bindir={}", postgres.bin().display()))
        .arg(format!("--inputdir={}", tests.display()))
        .arg(format!("--outputdir={}", output.display()))
        .arg(format!("--dlpath={}", modules.display()))
        .arg(format!(
            "--schedule={}",
            tests.join(suite.schedule).display()
        ))
        .args(["--host=localhost", &format!("--port={}", psql.port)])
        .arg(format!("--user={}", person.login))
        .args(["--dbname", suite.database, "--max-connections=10"]);
    fs::create_dir(&output)?;
    run(Command::new("chown").arg(account.name()?).arg(&output))?;
    let said = run_any(&mut command)?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let outcome = read(&text);
    if outcome.passed.is_empty() {
        let error = String::from_utf8_lossy(&said.stderr).into_owned();
        anyhow::bail!("{}: {text}\n{error}", said.status);
    }
    keep(&output, suite, route)?;
    Ok(outcome)
}

/// Keeps the differences where a person finds them after the servers and their folder are gone.
fn keep(output: &Path, suite: &Suite, route: Route) -> Result<()> {
    let diffs = output.join("regression.diffs");
    let kept = folder().context("nothing was made ready")?;
    let kept = kept.join(format!("{}-{}.diffs", suite.name, route.name()));
    if diffs.is_file() {
        fs::copy(diffs, kept)?;
    } else if kept.is_file() {
        fs::remove_file(kept)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("--recursive").arg(from).arg(to))?;
    Ok(())
}

/// Reads the lines of pg_regress: `test NAME ... ok 12 ms`, or `     NAME ... FAILED 3 ms` in a
/// group; those of version 16 and later are TAP: `ok 1 - NAME 12 ms`, `not ok 2 + NAME 3 ms`.
fn read(text: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, passed) = match words.as_slice() {
            ["test", name, "...", verdict, ..] | [name, "...", verdict, ..] => {
                (*name, *verdict == "ok")
            }
            ["not", "ok", _, "-" | "+", name, ..] => (*name, false),
            ["ok", _, "-" | "+", name, ..] => (*name, true),
            _ => continue,
        };
        let set = if passed {
            &mut outcome.passed
        } else {
            &mut outcome.failed
        };
        set.insert(name.to_owned());
    }
    outcome
}
