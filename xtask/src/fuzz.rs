//! `cargo xtask fuzz`: libFuzzer looks for bytes for which a property of `proxy/fuzz` does not
//! hold.
//!
//! Beside the stable compiler it takes a C++ compiler, for libFuzzer itself. Coverage is counted by
//! a pass of LLVM that every compiler of Rust has, and what is tried has no `unsafe`, so that no
//! sanitizer is needed.

mod one;
mod record;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postern_tests::needs;

use self::one::{Found, Target};
use crate::part::{Counts, show};
use crate::setup::{self, Need, Outcome};
use crate::{EXIT_NOT_SET_UP, cargo, root};

/// What counts coverage, as libFuzzer reads it
/// (<https://clang.llvm.org/docs/SanitizerCoverage.html>).
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];
/// What runs have come to, from the folder of the workspace.
const RECORD: &str = "proxy/fuzz/RECORD.md";
/// How long each target runs as a part of the tests.
const TEST_TIME: Duration = Duration::from_secs(3);

/// Options of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long each target runs, in minutes; a part of one is allowed.
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    minutes: f64,
    /// Run only the target of this name.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Add to the committed corpus what reaches code that nothing in it reaches.
    #[arg(long)]
    keep: bool,
    /// Add the runs to proxy/fuzz/RECORD.md.
    #[arg(long)]
    record: bool,
}

/// The command.
///
/// # Errors
/// If the targets do not compile, or cannot be started.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if setup::ensure(&[Need::Compiler, Need::CppCompiler])? == Outcome::CommandPrinted {
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    }
    let time = Duration::try_from_secs_f64(arguments.minutes * 60.0);
    let time = time.context("--minutes must be a number above zero")?;
    let Some(targets) = build(arguments.only.as_deref())? else {
        bail!("the targets do not compile");
    };
    let mut all = Found::default();
    for target in &targets {
        let before = record::cpu_time_of_children()?;
        let found = target.run(time)?;
        all.add(found);
        if arguments.record {
            let cpu = record::cpu_time_of_children()? - before;
            record::add(&root()?.join(RECORD), &target.name, cpu, found)?;
        }
        if arguments.keep {
            target.keep()?;
        }
    }
    println!("\ntargets: {}, {all}", targets.len());
    Ok(match all.crashes {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Each target for seconds, over the committed corpus first.
///
/// # Errors
/// If a target cannot be started.
pub(crate) fn check() -> Result<Counts> {
    if needs::program("c++").is_none() {
        return Ok(Counts::skip("fuzz", "libFuzzer needs a C++ compiler (g++)"));
    }
    let Some(targets) = build(None)? else {
        return Ok(Counts::one(false));
    };
    let mut counts = Counts::default();
    for target in &targets {
        let found = target.run(TEST_TIME)?;
        counts.add(Counts::one(found.crashes == 0));
    }
    Ok(counts)
}

/// Builds the targets with libFuzzer and its counters; none if they do not compile.
fn build(only: Option<&str>) -> Result<Option<Vec<Target>>> {
    let root = root()?;
    let host = cargo::host()?;
    let folder = root.join("target/fuzz");
    let targets: Vec<String> = names(&root.join("proxy/fuzz/corpus"))?
        .into_iter()
        .filter(|name| only.is_none_or(|it| it == name))
        .collect();
    if targets.is_empty() {
        bail!("no target is called {}", only.unwrap_or_default());
    }
    // With a target named, build scripts and macros are spared the counters, which they could not
    // be linked with.
    let mut command = cargo::command(&["build", "--quiet", "--package", "postern-fuzz"]);
    command.args(["--features", "libfuzzer", "--profile", "fuzz"]);
    command
        .args(["--target", &host, "--target-dir"])
        .arg(&folder);
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    if !show(command)?.1 {
        return Ok(None);
    }
    let programs = folder.join(&host).join("fuzz");
    let make = |name: String| Target {
        program: programs.join(&name),
        corpus: root.join("proxy/fuzz/corpus").join(&name),
        folder: folder.clone(),
        name,
    };
    Ok(Some(targets.into_iter().map(make).collect()))
}

/// The targets, by the names of their corpora.
fn names(corpora: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(corpora)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
