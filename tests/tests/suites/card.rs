//! The card that every driver plays, on both routes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use postern_tests::process::run_any;
use postern_tests::{Psql, needs};

use crate::site::{ROUTES, Site, folder};

/// The longest that a card may take, in seconds: a hang is to fail the claim and not the run.
const LIMIT_S: u32 = 240;

/// How long the long row is, in bytes, where all suites run.
const LONG_ROW_BYTES: u32 = 100_000_000;
/// The same in the sample.
const SAMPLE_ROW_BYTES: u32 = 1_000_000;

/// Every item, and the outcomes that are well; `tests/drivers/README.md` says what each one does.
/// A driver need not tell the code of a refusal, so there are two for some.
const ITEMS: [(&str, &[&str]); 16] = [
    ("sslmode=disable", &["refused", "refused 28000"]),
    ("sslmode=allow", &["tls"]),
    ("sslmode=prefer", &["tls"]),
    ("sslmode=require", &["tls"]),
    ("sslmode=verify-ca", &["tls"]),
    ("sslmode=verify-full", &["tls"]),
    ("foreign-authority", &["refused"]),
    ("wrong-password", &["refused", "refused 28P01"]),
    ("cancel", &["57014 alive"]),
    ("copy-in", &["100000 5000050000"]),
    ("copy-out", &["100000 5000050000"]),
    ("prepared", &["42 43 44"]),
    ("notify", &["hello"]),
    ("long-row", &[]),
    ("error", &["22012 alive"]),
    ("reconnect", &["ended alive"]),
];

/// The fewest items that a driver must have a call for.
const ITEMS_MIN: usize = 10;

/// A driver: how its card is played.
pub(crate) struct Driver {
    /// Its name, which is also that of the person who plays.
    pub(crate) name: &'static str,
    /// The language that it is for.
    pub(crate) language: &'static str,
    /// What runs it: a program on the PATH or, if it begins so, one of what was made ready.
    pub(crate) program: &'static str,
    /// Its options.
    pub(crate) options: &'static [&'static str],
    /// What it runs, in `tests/drivers`.
    pub(crate) script: Option<&'static str>,
}

/// What begins a path in the folder of what was made ready.
const PREPARED: &str = "prepared:";

/// Plays the card on both routes, which must come to the same.
pub(crate) fn compare(site: &Site, driver: &Driver) -> Result<()> {
    let person = site.person(driver.name)?;
    let routes = ROUTES.map(|it| site.psql(it, &person));
    compare_at(site, driver, &routes)
}

/// The same where the caller says what the two routes are.
pub(crate) fn compare_at(site: &Site, driver: &Driver, routes: &[Psql; 2]) -> Result<()> {
    let mut outcomes = Vec::new();
    for psql in routes {
        let played = play(site, psql, driver);
        match played.with_context(|| format!("{} at port {}", driver.name, psql.port))? {
            Some(outcome) => outcomes.push(outcome),
            None => return Ok(()),
        }
    }
    match outcomes.as_slice() {
        [direct, through] => judge(driver, direct, through)?,
        _ => bail!("there are two routes"),
    }
    site.has_played(driver);
    Ok(())
}

fn judge(
    driver: &Driver,
    direct: &BTreeMap<String, String>,
    through: &BTreeMap<String, String>,
) -> Result<()> {
    let mut faults = Vec::new();
    let mut well = 0;
    for (item, expected) in ITEMS {
        let said = [direct, through].map(|it| it.get(item).map_or("nothing", String::as_str));
        let [there, here] = said;
        if there != here {
            faults.push(format!("{item}: {there} directly, {here} through Postern"));
        } else if here == "cannot" {
            eprintln!("  {}: it has no call for {item}", driver.name);
        } else if !expected.contains(&here) && here != long_row() {
            faults.push(format!("{item}: {here} on both routes"));
        } else {
            well += 1;
        }
    }
    let count = ITEMS.len();
    eprintln!(
        "  {}: {well} of {count} items well on both routes",
        driver.name
    );
    ensure!(faults.is_empty(), "{}", faults.join("\n  "));
    ensure!(well >= ITEMS_MIN, "only {well} items were played");
    Ok(())
}

/// One card: every item and what it came to.
fn play(site: &Site, psql: &Psql, driver: &Driver) -> Result<Option<BTreeMap<String, String>>> {
    let Some(mut command) = command(driver) else {
        return Ok(None);
    };
    command
        .envs(psql.environment())
        .env("CARD_FOREIGN_CA", &site.foreign_ca)
        .env("CARD_ROW_BYTES", row_bytes().to_string());
    let output = run_any(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|it| it.split_once('\t'));
    let outcomes: BTreeMap<String, String> = lines
        .map(|(item, outcome)| (item.to_owned(), outcome.trim().to_owned()))
        .collect();
    ensure!(
        output.status.success() && !outcomes.is_empty(),
        "{}: {text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Some(outcomes))
}

/// What is run; `None` is a loud skip.
fn command(driver: &Driver) -> Option<Command> {
    let program = match driver.program.strip_prefix(PREPARED) {
        Some(path) => folder().map(|it| it.join(path)),
        None => needs::program(driver.program),
    };
    let Some(program) = program.filter(|it| it.is_file()) else {
        needs::skip(driver.name, &format!("{} is missing", driver.program));
        return None;
    };
    // A hang is to fail the claim and not the whole run.
    let mut command = Command::new("timeout");
    command.args(["--kill-after", "10", &LIMIT_S.to_string()]);
    command.arg(program).args(driver.options);
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers");
    command.args(driver.script.map(|it| scripts.join(it)));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("PG") {
            command.env_remove(variable);
        }
    }
    if let Some(folder) = folder() {
        let classes = format!("{}:{}", folder.join("java").display(), needs::JDBC);
        command.env("NODE_PATH", folder.join("node/node_modules"));
        command.env("CLASSPATH", classes);
    }
    Some(command)
}

fn row_bytes() -> u32 {
    match folder() {
        Some(_) => LONG_ROW_BYTES,
        None => SAMPLE_ROW_BYTES,
    }
}

fn long_row() -> String {
    format!("{} same", row_bytes())
}
