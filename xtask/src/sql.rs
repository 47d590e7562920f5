//! The tests of the SQL, which print the Test Anything Protocol, run against a private PostgreSQL
//! with the schema installed by the program itself.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use postern_tests::{
    Certificates, DirectoryServer, Local, Postern, Postgres, Scratch, free_port, needs,
};

use crate::part::Counts;
use crate::root;

/// Runs every file of `sql/tests` against every PostgreSQL that is installed.
///
/// # Errors
/// If a server cannot be started or the schema cannot be installed.
pub(crate) fn check() -> Result<Counts> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root()?.join("sql/tests"))
        .context("sql/tests")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    // What all files begin with is no test by itself.
    files.retain(|it| it.extension().is_some_and(|it| it == "sql") && !it.ends_with("tap.sql"));
    files.sort();
    let versions = needs::postgres_versions();
    if versions.is_empty() {
        return Ok(Counts::skip("sql", "PostgreSQL is not installed"));
    }
    let mut counts = Counts::default();
    for version in versions {
        counts.add(check_version(version.major, &files)?);
    }
    Ok(counts)
}

fn check_version(major: u32, files: &[PathBuf]) -> Result<Counts> {
    let scratch = Scratch::new()?;
    let certificates = Certificates::new(&scratch)?;
    let postgres = Postgres::start_version(&scratch, &certificates, Some(major), "")?;
    let program = Postern::prepare(&scratch, &certificates, &postgres, free_port()?)?;
    // No login is made, but a configuration names a directory.
    let directory = Local::start(&scratch)?;
    program.configure(|config| directory.configure(config));
    program.install_schema(&postgres)?;
    let mut counts = Counts::default();
    for file in files {
        counts.add(check_file(&postgres, file)?);
    }
    Ok(counts)
}

fn check_file(postgres: &Postgres, file: &Path) -> Result<Counts> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut psql = postgres.superuser("postgres").command()?;
    psql.args(["--no-align", "--tuples-only", "--quiet"]);
    psql.args(["--set", "ON_ERROR_STOP=1"]);
    psql.arg("--file").arg(file);
    let output = postern_tests::process::run_any(&mut psql)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut counts = count_tap(&text);
    if !output.status.success() || is_incomplete(&text, &counts) {
        counts.failed = counts.failed.max(1);
    }
    let verdict = if counts.failed == 0 { "ok" } else { "FAILED" };
    println!(
        "{verdict:<7} PostgreSQL {} {name}: {} tests",
        postgres.major(),
        counts.passed
    );
    if counts.failed > 0 {
        print!("{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(counts)
}

/// Counts the lines of the Test Anything Protocol, <https://testanything.org/tap-specification.html>.
fn count_tap(text: &str) -> Counts {
    let mut counts = Counts::default();
    for line in text.lines() {
        if line.starts_with("not ok ") {
            counts.failed += 1;
        } else if line.starts_with("ok ") && line.to_uppercase().contains("# SKIP") {
            counts.skipped += 1;
        } else if line.starts_with("ok ") {
            counts.passed += 1;
        }
    }
    counts
}

/// Whether fewer tests ran than the plan (`1..7`) says, or there is no plan.
fn is_incomplete(text: &str, counts: &Counts) -> bool {
    let planned = text.lines().find_map(|it| it.strip_prefix("1.."));
    let planned = planned.and_then(|it| it.trim().parse::<u64>().ok());
    planned != Some(counts.passed + counts.failed + counts.skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_stops_in_the_middle_is_no_success() {
        let text = "1..3\nok 1 - a\nok 2 - b # SKIP no root\n";
        let counts = count_tap(text);
        let expected = Counts {
            passed: 1,
            skipped: 1,
            ..Counts::default()
        };
        assert_eq!(counts, expected);
        assert!(is_incomplete(text, &counts));
        assert!(is_incomplete("", &Counts::default()));
        let whole = format!("{text}not ok 3 - c\n");
        assert_eq!(count_tap(&whole).failed, 1);
        assert!(!is_incomplete(&whole, &count_tap(&whole)));
    }
}
