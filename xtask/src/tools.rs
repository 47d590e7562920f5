//! Programs of cargo's that come as source: `cargo xtask mutants`, `cargo xtask deny`.

mod packages;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use postern_tests::needs;

use crate::part::{Counts, show};
use crate::{cargo, root};

/// A program of cargo's, of the version that is known to work.
struct Tool {
    name: &'static str,
    version: &'static str,
}

const MUTANTS: Tool = Tool {
    name: "cargo-mutants",
    version: "27.1.0",
};
const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};

/// The files whose every decision a test has to notice when it is turned around. What a login is to
/// change in the database is decided by SQL, which has tests of its own.
const DECIDING: [&str; 11] = [
    "proxy/core/src/principal.rs",
    "proxy/core/src/directory/account.rs",
    "proxy/core/src/directory/entry.rs",
    "proxy/core/src/directory/identifier.rs",
    "proxy/core/src/login_name.rs",
    "proxy/core/src/mapping.rs",
    "proxy/core/src/mapping/*.rs",
    "proxy/core/src/cache.rs",
    "proxy/core/src/lockout.rs",
    "proxy/core/src/credential.rs",
    "proxy/core/src/scram/*.rs",
];

/// How many of the changes of each file the tests have to notice, of a hundred.
const CAUGHT_PER_CENT_MIN: usize = 90;

/// What `cargo deny` is asked to check without a network.
const DENIED: [&str; 3] = ["bans", "licenses", "sources"];

/// Options of `cargo xtask mutants`.
#[derive(Debug, clap::Args)]
pub(crate) struct MutantsArguments {
    /// Only files that match this, for example `proxy/core/src/scram/*.rs`; may be given again.
    #[arg(long, value_name = "GLOB")]
    file: Vec<String>,
}

/// Options of `cargo xtask deny`.
#[derive(Debug, clap::Args)]
pub(crate) struct DenyArguments {
    /// Also look for known weaknesses, for which a database is fetched.
    #[arg(long)]
    advisories: bool,
}

/// `cargo xtask mutants`: changes the deciding code in one place at a time, and says which changes
/// no test notices.
///
/// # Errors
/// If the program cannot be installed or started.
pub(crate) fn mutants(arguments: &MutantsArguments) -> Result<ExitCode> {
    let root = root()?;
    let mut command = Command::new(MUTANTS.install(&root)?);
    command.args(["mutants", "--package", "postern-core", "--jobs", "1"]);
    command.arg("--output").arg(root.join("target"));
    command.current_dir(&root);
    let files: Vec<&str> = match arguments.file.as_slice() {
        [] => DECIDING.to_vec(),
        chosen => chosen.iter().map(String::as_str).collect(),
    };
    command.args(files.into_iter().flat_map(|it| ["--file", it]));
    // Time is for an endless loop; the tests themselves take seconds. Those of the audit file take
    // longest, and decide nothing here.
    command.args(["--minimum-test-timeout", "60"]);
    command.args(["--", "--lib", "--", "--skip", "audit::"]);
    // It also fails where a single change is missed; how many are is looked at below.
    let (_, _has_caught_all) = show(command)?;
    let mut noticed = BTreeMap::new();
    for (name, is_noticed) in [
        ("caught.txt", true),
        ("timeout.txt", true),
        ("missed.txt", false),
    ] {
        let path = root.join("target/mutants.out").join(name);
        let changes = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        count(&mut noticed, &changes, is_noticed);
    }
    println!();
    for (file, Noticed { yes, no }) in &noticed {
        let share = yes * 100 / (yes + no);
        println!("{file}: {yes} changes were noticed and {no} were not: {share} %");
    }
    println!("proxy/core/README.md says what was found when it was run before.");
    let is_well = !noticed.is_empty() && noticed.values().all(Noticed::is_enough);
    Ok(match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// How many changes of a file the tests noticed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Noticed {
    yes: usize,
    no: usize,
}

impl Noticed {
    fn is_enough(&self) -> bool {
        self.yes * 100 >= (self.yes + self.no) * CAUGHT_PER_CENT_MIN
    }
}

/// Adds a list of changes to those of their files: `proxy/core/src/cache.rs:12:5: replace ...`.
fn count(noticed: &mut BTreeMap<String, Noticed>, changes: &str, is_noticed: bool) {
    for line in changes.lines() {
        let file = line.split(':').next().unwrap_or_default();
        let of_file = noticed.entry(file.to_owned()).or_default();
        match is_noticed {
            true => of_file.yes += 1,
            false => of_file.no += 1,
        }
    }
}

/// `cargo xtask deny`: licences, bans and sources of everything that is built in.
///
/// # Errors
/// If the program cannot be installed or started.
pub(crate) fn deny(arguments: &DenyArguments) -> Result<ExitCode> {
    let mut counts = check_deny(true)?;
    if arguments.advisories {
        let program = DENY.install(&root()?)?;
        counts.add(run_deny(&program, &["advisories"])?);
    } else {
        println!("Known weaknesses were not looked for: that takes --advisories and a network.");
    }
    Ok(match counts.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// The same as a part of the tests: what we see ourselves, and what cargo-deny says where it is
/// there, or `may_build` it, which takes minutes.
///
/// # Errors
/// If a file cannot be read, or a program cannot be installed or started.
pub(crate) fn check_deny(may_build: bool) -> Result<Counts> {
    let root = root()?;
    let (packages, findings) = packages::findings(&root)?;
    for finding in &findings {
        println!("deny.toml: error: {finding}");
    }
    println!("deny: {packages} packages, {} errors", findings.len());
    let mut counts = Counts::one(findings.is_empty());
    let program = match may_build {
        true => Some(DENY.install(&root)?),
        false => DENY.find(&root),
    };
    match program {
        Some(program) => counts.add(run_deny(&program, &DENIED)?),
        None => println!("cargo-deny was not asked too: `cargo xtask deny` builds it."),
    }
    Ok(counts)
}

fn run_deny(program: &Path, checks: &[&str]) -> Result<Counts> {
    let mut command = Command::new(program);
    command.arg("check").args(checks);
    command.current_dir(root()?);
    Ok(Counts::one(show(command)?.1))
}

impl Tool {
    /// Where the program is, if it is.
    fn find(&self, root: &Path) -> Option<PathBuf> {
        let own = self.folder(root).join("bin").join(self.name);
        if own.is_file() {
            return Some(own);
        }
        needs::program(self.name)
    }

    /// The program; it is built where it is not there yet.
    fn install(&self, root: &Path) -> Result<PathBuf> {
        if let Some(found) = self.find(root) {
            return Ok(found);
        }
        let Self { name, version } = self;
        eprintln!("Building {name} {version}, once; some minutes.");
        let mut command = cargo::command(&["install", name, "--locked", "--version", version]);
        command.arg("--root").arg(self.folder(root));
        command
            .arg("--target-dir")
            .arg(root.join("target/tools/build"));
        command.stdout(std::io::stderr());
        let status = command.status().context("cannot start cargo")?;
        match self.find(root) {
            Some(found) if status.success() => Ok(found),
            _ => bail!("{name} could not be built; its output is above"),
        }
    }

    fn folder(&self, root: &Path) -> PathBuf {
        root.join(format!("target/tools/{}-{}", self.name, self.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_by_their_files_and_one_weak_file_is_not_hidden() {
        let mut noticed = BTreeMap::new();
        count(&mut noticed, &"src/a.rs:1:2: replace x\n".repeat(99), true);
        count(&mut noticed, &"src/b.rs:1:2: replace y\n".repeat(8), true);
        count(&mut noticed, "src/b.rs:3:4: delete !\n", false);
        let expected = [("src/a.rs", 99, 0, true), ("src/b.rs", 8, 1, false)];
        let found = noticed.iter();
        let found: Vec<_> = found
            .map(|(file, it)| (file.as_str(), it.yes, it.no, it.is_enough()))
            .collect();
        assert_eq!(found, expected);
    }
}
