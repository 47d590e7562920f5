//! What a report says of the machine and of what was built.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use postern_tests::Postgres;
use postern_tests::process::run;

use crate::stage::Stage;

/// What stands for a fact that the system does not tell.
const NOT_KNOWN: &str = "not known";

/// The machine, by name, and what it can count.
///
/// # Errors
/// If the system does not say how many cores it has.
pub fn machine(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let mut facts = host(stage.postgres())?;
    let counters = match stage.meter().counts_instructions() {
        true => "yes",
        false => "no",
    };
    facts.insert("hardware counters".to_owned(), counters.to_owned());
    Ok(facts)
}

/// The machine and its database server, by name.
///
/// # Errors
/// If the system does not say how many cores it has.
pub fn host(postgres: &Postgres) -> Result<BTreeMap<String, String>> {
    let cores = std::thread::available_parallelism()?;
    let facts = [
        ("cores", cores.to_string()),
        ("processor", processor()),
        ("memory", memory()),
        ("kernel", said(Command::new("uname").arg("-sr"))),
        ("postgresql", postgresql(postgres)),
    ];
    Ok(facts.map(|(name, fact)| (name.to_owned(), fact)).into())
}

/// The commit that was built, with `+changes` when the tree was not clean.
#[must_use]
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        said(Command::new("git").arg("-C").arg(folder).args(arguments))
    };
    let commit = git(&["rev-parse", "HEAD"]);
    let changes = git(&["status", "--porcelain"]);
    if commit == NOT_KNOWN || changes.is_empty() || changes == NOT_KNOWN {
        return commit;
    }
    commit + "+changes"
}

/// The time, RFC 3339, UTC.
#[must_use]
pub fn now() -> String {
    said(Command::new("date").args(["-u", "+%FT%TZ"]))
}

fn postgresql(postgres: &Postgres) -> String {
    let version = postgres.sql("show server_version");
    version.unwrap_or_else(|_| NOT_KNOWN.to_owned())
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut names = text.lines().filter_map(|it| it.split_once(':'));
    let name = names.find(|(name, _)| name.trim() == "model name");
    name.map_or(NOT_KNOWN, |it| it.1.trim()).to_owned()
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|it| it.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.map_or(NOT_KNOWN.to_owned(), |it| format!("{} MiB", it / 1_024))
}

/// What a program prints; a program that is missing or fails is no reason to end a run.
fn said(command: &mut Command) -> String {
    run(command).map_or_else(|_| NOT_KNOWN.to_owned(), |it| it.trim().to_owned())
}
