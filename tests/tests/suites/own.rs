//! The tests that drivers bring along for themselves.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::process::run_any;
use postern_tests::{DirectoryServer, Member, Psql, Someone, needs};

use crate::site::{DATABASE, GROUP, ROUTES, Route, Site, folder};

/// The longest that the tests of one driver may take on one route, in seconds.
const LIMIT_S: u32 = 300;

/// The most tests of one driver that may fail, although the same on both routes.
const FAILED_MAX: usize = 5;

/// Whom the tests of tokio-postgres log in as beside their owner, all with the same password, and
/// how PostgreSQL asks for it.
pub(crate) const RUST_LOGINS: [(&str, &str); 3] = [
    ("pass_user", "password"),
    ("md5_user", "md5"),
    ("scram_user", "scram-sha-256"),
];

/// What ran, and which of them failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
}

pub(crate) fn the_same_tests_of_tokio_postgres_fail_on_both_routes(site: &Site) -> Result<()> {
    let program = folder().map(|it| it.join("built/tokio_postgres_tests"));
    let Some(program) = program.filter(|it| it.is_file()) else {
        needs::skip("tokio-postgres' tests", "they could not be made ready");
        return Ok(());
    };
    // They know no TLS.
    let person = site.person("rustacean")?;
    for (login, method) in RUST_LOGINS {
        site.world.directory.add_person(login, "password")?;
        site.world
            .directory
            .add_member(GROUP, Member::Person(login))?;
        let encryption = if method == "md5" {
            "md5"
        } else {
            "scram-sha-256"
        };
        site.postgres(Route::Direct).sql(&format!(
            "set password_encryption = '{encryption}'; \
             create role {login} login password 'password' in role \"{GROUP}\""
        ))?;
    }
    for route in ROUTES {
        // One test reads the databases in the order of the file, which Postern's schema changes.
        site.postgres(route)
            .sql("alter database postgres connection limit 300")?;
    }
    compare(site, "tokio-postgres", 60, |route| {
        let mut psql = site.psql(route, &person);
        psql.port = site.plain_port(route);
        let command = timed(&program, &psql);
        read(command, |line| {
            let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
            (verdict != "ignored").then(|| (name.to_owned(), verdict == "ok"))
        })
    })
}

pub(crate) fn the_same_tests_of_psycopg2_fail_on_both_routes(site: &Site) -> Result<()> {
    let place = folder().context("all suites need what is made ready")?;
    let python = place.join("python/bin/python");
    let sources = place.join("psycopg2");
    if !python.is_file() || !sources.join("tests").is_dir() {
        needs::skip("psycopg2's tests", "they could not be made ready");
        return Ok(());
    }
    let person = site.person("snake")?;
    for route in ROUTES {
        // Five of the tests make schemas. One fails on both routes: it hands a connection of the
        // libpq inside the package to the libpq of the system.
        let grant = format!("grant create on database {DATABASE} to \"{GROUP}\"");
        site.postgres(route).sql(&grant)?;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers/python/psycopg2_own.py");
    compare(site, "psycopg2", 500, |route| {
        let psql = owned_schema(site, route, &person)?;
        let mut command = timed(&python, &psql);
        command.arg(&script).current_dir(&sources);
        for (variable, value) in [
            ("PSYCOPG2_TESTDB", psql.database.clone()),
            ("PSYCOPG2_TESTDB_HOST", psql.host.clone()),
            ("PSYCOPG2_TESTDB_PORT", psql.port.to_string()),
            ("PSYCOPG2_TESTDB_USER", psql.user.clone()),
        ] {
            command.env(variable, value);
        }
        read(command, |line| {
            let (verdict, name) = line.split_once('\t')?;
            Some((name.to_owned(), verdict == "ok"))
        })
    })
}

/// Runs the tests on both routes and compares what fails; `play` says how on one.
fn compare(
    site: &Site,
    name: &str,
    tests_min: usize,
    play: impl Fn(Route) -> Result<Outcome>,
) -> Result<()> {
    let mut outcomes = Vec::new();
    for route in ROUTES {
        let extensions = "create extension if not exists hstore; \
                          create extension if not exists citext; \
                          create extension if not exists ltree";
        site.postgres(route).sql_in(DATABASE, extensions)?;
        let outcome = play(route).with_context(|| format!("{name} {}", route.name()))?;
        let (passed, failed) = (outcome.passed.len(), outcome.failed.len());
        eprintln!(
            "  {name} {}: {passed} passed, {failed} failed",
            route.name()
        );
        ensure!(
            passed >= tests_min,
            "only {passed} passed: {:?}",
            outcome.failed
        );
        ensure!(failed <= FAILED_MAX, "{:?} failed", outcome.failed);
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

/// psql of somebody whose role is there, as it is after the first login.
fn owned_schema(site: &Site, route: Route, person: &Someone) -> Result<Psql> {
    let psql = site.psql(route, person);
    psql.query("select 1")?;
    Ok(psql)
}

/// A program with a time limit and the connection in libpq's variables.
fn timed(program: &Path, psql: &Psql) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after", "10", &LIMIT_S.to_string()]);
    command.arg(program).envs(psql.environment());
    command
}

/// Runs tests and reads a line for each: its name, and whether it passed.
fn read(mut command: Command, verdict: impl Fn(&str) -> Option<(String, bool)>) -> Result<Outcome> {
    let output = run_any(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut outcome = Outcome::default();
    for (name, passed) in text.lines().filter_map(verdict) {
        if passed {
            outcome.passed.insert(name);
        } else {
            outcome.failed.insert(name);
        }
    }
    if outcome.passed.is_empty() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::bail!("nothing passed: {}: {text}\n{error}", output.status);
    }
    Ok(outcome)
}
