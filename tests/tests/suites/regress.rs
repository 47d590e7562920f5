//! PostgreSQL's own regression and isolation tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use postern_tests::account::Account;
use postern_tests::needs;
use postern_tests::process::{run, run_any};

use crate::site::{ROUTES, Route, Site, folder};

/// What pg_regress may take, in seconds.
const LIMIT_S: u32 = 540;

/// How often a test that failed otherwise on one route than on the other is played again.
const CHANCES_MAX: u32 = 2;

/// The most tests of a suite that may fail on each route, although in the same way.
///
/// One of each does with PostgreSQL 15: `sequence` expects whoever runs it to own `pg_class`, as
/// only the first superuser does, and `temp-schema-cleanup` what libpq says where there is no TLS.
const FAILED_MAX: usize = 5;

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
    /// What has to run before a test that is played again by itself.
    before: &'static [&'static str],
    /// The fewest tests that are to run.
    tests_min: usize,
}

/// What ran, and which of them failed: with the difference from what was expected.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    passed: BTreeSet<String>,
    failed: BTreeMap<String, String>,
}

impl Outcome {
    /// Those that failed, and not as they did in another one.
    fn failed_otherwise(&self, other: &Self) -> Vec<String> {
        let failed = self.failed.iter();
        let otherwise = failed.filter(|(name, how)| other.failed.get(*name) != Some(how));
        otherwise.map(|(name, _)| name.clone()).collect()
    }
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
            before: &["test_setup"],
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
            before: &[],
            tests_min: 100,
        },
    )
}

fn compare(site: &Site, suite: &Suite) -> Result<()> {
    if sources(site, suite.name)?.is_none() {
        return Ok(());
    }
    site.superuser(&tester(suite))?;
    let mut outcomes = Vec::new();
    for route in ROUTES {
        let outcome = play(site, route, suite, &[])
            .with_context(|| format!("{} {}", suite.name, route.name()))?;
        let (passed, failed) = (outcome.passed.len(), outcome.failed.len());
        let names: Vec<&str> = outcome.failed.keys().map(String::as_str).collect();
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
    let [direct, through] = outcomes.as_mut_slice() else {
        bail!("there are two routes");
    };
    play_again(site, suite, (Route::Through, through), direct)?;
    play_again(site, suite, (Route::Direct, direct), through)?;
    let here = through.failed_otherwise(direct);
    let there = direct.failed_otherwise(through);
    ensure!(
        direct == through,
        "otherwise than on the other route fail {here:?} through Postern and {there:?} directly"
    );
    let failed = direct.failed.len();
    ensure!(failed <= FAILED_MAX, "{failed} tests fail on both routes");
    Ok(())
}

/// Plays the tests that failed on one route alone, or in another way than on the other, again by
/// themselves, until they do not or have had their chances.
///
/// Some of the isolation tests expect that what one connection is told is heard before what another
/// is told later. PostgreSQL does not promise that and a busy machine does not always do so, less
/// often still where the bytes of each connection go through one more program.
fn play_again(
    site: &Site,
    suite: &Suite,
    (route, outcome): (Route, &mut Outcome),
    other: &Outcome,
) -> Result<()> {
    for chance in 1..=CHANCES_MAX {
        let left = outcome.failed_otherwise(other);
        if left.is_empty() {
            break;
        }
        let again = play(site, route, suite, &left)?;
        for name in left {
            let (suite, route) = (suite.name, route.name());
            if let Some(how) = again.failed.get(&name) {
                outcome.failed.insert(name, how.clone());
            } else if again.passed.contains(&name) {
                eprintln!("  {suite} {route}: {name} passed at chance {chance}");
                outcome.failed.remove(&name);
                outcome.passed.insert(name);
            }
        }
    }
    Ok(())
}

/// The role that owns everything that a suite makes, as superusers do.
fn tester(suite: &Suite) -> String {
    format!("tester-{}", suite.name)
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

/// Runs a suite on one route, or some of its tests.
fn play(site: &Site, route: Route, suite: &Suite, only: &[String]) -> Result<Outcome> {
    let postgres = site.postgres(route);
    let place = prepare(site, route, suite)?;
    let runner = needs::pg_regress(&needs::postgres(None).context("PostgreSQL is gone")?);
    let runner = runner.context("pg_regress is gone")?.join(suite.runner);
    let mut command = Account::unprivileged()?.command(Path::new("timeout"), "KILL");
    command.args(["--kill-after", "10", &LIMIT_S.to_string()]);
    command.arg(runner);
    let psql = site.psql(route, &site.known(&tester(suite)));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("PG") {
            command.env_remove(variable);
        }
    }
    // The runner's account may not look into ours for certificates.
    command.envs(psql.environment()).env("HOME", &place);
    let (tests, output) = (place.join("tests"), place.join("output"));
    for (option, path) in [
        ("--bindir", postgres.bin()),
        ("--inputdir", &tests),
        ("--outputdir", &output),
        ("--dlpath", &place.join("modules")),
    ] {
        command.arg(option).arg(path);
    }
    command.args(["--host=localhost", &format!("--port={}", psql.port)]);
    command.args(["--user", &psql.user, "--max-connections=10"]);
    command.args(["--dbname", suite.database]);
    if only.is_empty() {
        command.arg("--schedule").arg(tests.join(suite.schedule));
    } else {
        command.args(suite.before).args(only);
    }
    let said = run_any(&mut command)?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    // Where all is well there is no such file.
    let diffs = fs::read_to_string(output.join("regression.diffs")).unwrap_or_default();
    let outcome = read(&text, &differences(&diffs));
    if outcome.passed.is_empty() && only.is_empty() {
        let error = String::from_utf8_lossy(&said.stderr).into_owned();
        bail!("{}: {text}\n{error}", said.status);
    }
    keep(&output, suite, route)?;
    Ok(outcome)
}

/// A copy of the tests that the server may read and write as the runner does.
fn prepare(site: &Site, route: Route, suite: &Suite) -> Result<PathBuf> {
    let sources = sources(site, suite.name)?.context("the sources are gone")?;
    let place = site.world.scratch.subfolder(suite.name)?;
    let mut copy = Command::new("cp");
    copy.arg("--recursive").arg(sources.join(suite.tests));
    run(copy.arg(place.join("tests")))?;
    let (modules, output) = (place.join("modules"), place.join("output"));
    fs::create_dir(&modules)?;
    fs::create_dir(output)?;
    let built = folder().context("nothing was made ready")?.join("built");
    fs::copy(built.join("regress.so"), modules.join("regress.so"))?;
    for module in ["autoinc.so", "refint.so"] {
        let installed = site.postgres(route).bin().join("../lib").join(module);
        fs::copy(installed, modules.join(module))?;
    }
    let owner = Account::unprivileged()?.name()?;
    run(Command::new("chown").arg("-R").arg(owner).arg(&place))?;
    Ok(place)
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

/// Reads the lines of pg_regress: `test NAME ... ok 12 ms`, or `     NAME ... FAILED 3 ms` in a
/// group; those of version 16 and later are TAP: `ok 1 - NAME 12 ms`, `not ok 2 + NAME 3 ms`.
fn read(text: &str, differences: &BTreeMap<String, String>) -> Outcome {
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
        if passed {
            outcome.passed.insert(name.to_owned());
        } else {
            // A test that ended without a result has none.
            let how = differences.get(name).cloned().unwrap_or_default();
            outcome.failed.insert(name.to_owned(), how);
        }
    }
    outcome
}

/// What was otherwise than expected in each test. A test's part begins with `diff`, its options
/// and the two files, the second of which is called after it, and goes on with both and their
/// times.
fn differences(diffs: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut how = None;
    for line in diffs.lines() {
        if let Some(files) = line.strip_prefix("diff ") {
            let result = Path::new(files.split_whitespace().last().unwrap_or_default());
            let name = result.file_stem().unwrap_or_default().to_string_lossy();
            how = Some(all.entry(name.into_owned()).or_insert_with(String::new));
        } else if let Some(how) = &mut how
            && !["--- /", "+++ /"].iter().any(|it| line.starts_with(it))
        {
            how.push_str(line);
            how.push('\n');
        }
    }
    all
}
