//! `cargo xtask test`: everything, with one closing line that counts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use postern_tests::needs;

use crate::part::{Counts, cargo_test, cargo_test_twice, show};
use crate::setup::Need;
use crate::{
    EXIT_NOT_SET_UP, cargo, dist, ebpf, fuzz, readme, root, sanitizer, setup, sql, suites, tidy,
    tools,
};

/// Options of `cargo xtask test`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Run only the parts whose name contains this: tidy, fmt, ebpf, build, clippy, unit, deny,
    /// asan, fuzz, sql, dist, or the name of an end-to-end test. `suites`, `hostile`, `upkeep`,
    /// `deny` and `dist` by their whole names run in full, and install what they need; otherwise
    /// there is a sample of them.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Install nothing; what cannot run is skipped and counted.
    #[arg(long)]
    no_setup: bool,
}

/// The parts of which there is a sample.
const DENY: &str = "deny";
const DIST: &str = "dist";
/// The end-to-end test of which there is a sample.
const SUITES: &str = "suites";

/// What some claims ask others with, which are skipped without it.
const USEFUL: [Need; 2] = [Need::Prometheus, Need::Java];

/// A part of the run: its name, and what it does.
type Part = (String, Box<dyn Fn() -> Result<Counts>>);

/// The command.
///
/// # Errors
/// If a program cannot be started at all.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !arguments.no_setup && setup::ensure(&setup::ALL)? == setup::Outcome::CommandPrinted {
        println!("Or skip what cannot run: cargo xtask test --no-setup");
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    }
    if !arguments.no_setup {
        suites::libpq()?;
        for need in USEFUL {
            setup::try_to_install(need);
        }
    }
    let root = root()?;
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|it| name.contains(it));
    let mut total = Counts::default();
    let mut report = Vec::new();
    for (name, run) in parts(&root, arguments)?
        .into_iter()
        .filter(|(name, _)| wanted(name))
    {
        println!("\n── {name}");
        let start = Instant::now();
        let counts = match run() {
            Ok(counts) => counts,
            Err(error) => {
                println!("error: {error:#}");
                Counts::one(false)
            }
        };
        let line = format!(
            "{:<7} {name:<24} {:>5} passed {:>3} failed {:>3} skipped {:>7.1} s",
            if counts.failed == 0 { "ok" } else { "FAILED" },
            counts.passed,
            counts.failed,
            counts.skipped,
            start.elapsed().as_secs_f64(),
        );
        println!("{line}");
        report.push(line);
        total.add(counts);
    }
    if report.is_empty() {
        bail!(
            "no part is called {}",
            arguments.only.as_deref().unwrap_or_default()
        );
    }
    println!("\n── all parts\n{}\n", report.join("\n"));
    let Counts {
        passed,
        failed,
        skipped,
        at_second_try,
    } = total;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if !at_second_try.is_empty() {
        println!("passed at the second try only, which may be a fault that comes and goes:");
        println!("    {}", at_second_try.join("\n    "));
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Every part, from cheap to dear. What the tests run is built first.
fn parts(root: &Path, arguments: &Arguments) -> Result<Vec<Part>> {
    let all_of_deny = arguments.only.as_deref() == Some(DENY) && !arguments.no_setup;
    let mut parts: Vec<Part> = vec![
        ("tidy".to_owned(), Box::new(tidy::check)),
        ("fmt".to_owned(), Box::new(fmt)),
        ("ebpf".to_owned(), Box::new(programs)),
        (
            "build".to_owned(),
            Box::new(|| succeeds(&["build", "--package", "postern"])),
        ),
        ("clippy".to_owned(), Box::new(clippy)),
        ("unit".to_owned(), Box::new(unit)),
        (
            DENY.to_owned(),
            Box::new(move || tools::check_deny(all_of_deny)),
        ),
        ("fuzz".to_owned(), Box::new(fuzz::check)),
        ("asan".to_owned(), Box::new(sanitizer::check)),
        ("sql".to_owned(), Box::new(sql::check)),
    ];
    let all_of_dist = arguments.only.as_deref() == Some(DIST);
    parts.push((DIST.to_owned(), Box::new(move || dist::check(all_of_dist))));
    for directory in ["openldap", "samba", "local"] {
        parts.push((
            format!("demo {directory}"),
            Box::new(move || readme::demo(directory)),
        ));
    }
    let all_suites = arguments.only.as_deref() == Some(SUITES);
    let named = arguments.only.clone();
    let may_install = !arguments.no_setup;
    for name in end_to_end(root)? {
        let test = name.clone();
        if name == SUITES && all_suites {
            let run = move || {
                let folder = suites::prepare(may_install)?;
                run_end_to_end(SUITES, &[(suites::FOLDER_VARIABLE, folder)])
            };
            parts.push((format!("end-to-end {name}"), Box::new(run)));
            continue;
        }
        let full = named.as_ref().filter(|it| **it == name);
        let full = full.map(|it| (needs::FULL_VARIABLE, PathBuf::from(it)));
        parts.push((
            format!("end-to-end {name}"),
            Box::new(move || run_end_to_end(&test, full.as_slice())),
        ));
    }
    Ok(parts)
}

/// One end-to-end test in an environment, with what it runs: the part that builds may have been
/// left out.
fn run_end_to_end(test: &str, variables: &[(&str, PathBuf)]) -> Result<Counts> {
    if ebpf::build()? == setup::Outcome::CommandPrinted {
        return Ok(Counts::one(false));
    }
    let built = succeeds(&["build", "--quiet", "--package", "postern"])?;
    if built.failed > 0 {
        return Ok(built);
    }
    let mut counts = cargo_test_twice(|words| {
        let package = ["test", "--package", "postern-tests", "--test", test];
        let mut command = cargo::command(&[package.as_slice(), words].concat());
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        show(command)
    })?;
    for name in &mut counts.at_second_try {
        *name = format!("{test}: {name}");
    }
    Ok(counts)
}

/// The end-to-end tests: one program each, a file or a folder with a `main.rs`.
fn end_to_end(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root.join("tests/tests"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "rs") || path.join("main.rs").is_file() {
            names.extend(path.file_stem().map(|it| it.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// The programs are built, and say in the kernel what the library says on the host.
fn programs() -> Result<Counts> {
    if ebpf::build()? == setup::Outcome::CommandPrinted {
        return Ok(Counts::one(false));
    }
    if !needs::is_root() {
        return Ok(Counts::skip(
            "ebpf",
            "only root may run programs in the kernel",
        ));
    }
    let package = ["test", "--package", "postern-ebpf", "--features", "user"];
    cargo_test(cargo::command(&package))
}

fn unit() -> Result<Counts> {
    // Every failure at once: a package that fails does not hide the next.
    let all = ["test", "--workspace", "--no-fail-fast"];
    let workspace = [all.as_slice(), &["--exclude", "postern-tests"]].concat();
    let fixtures = ["test", "--package", "postern-tests", "--lib"];
    let mut counts = cargo_test(cargo::command(&workspace))?;
    counts.add(cargo_test(cargo::command(&fixtures))?);
    Ok(counts)
}

fn fmt() -> Result<Counts> {
    if needs::program("rustfmt").is_none() {
        return Ok(Counts::skip(
            "fmt",
            "rustfmt is not installed (rustup component add rustfmt)",
        ));
    }
    succeeds(&["fmt", "--all", "--check"])
}

fn clippy() -> Result<Counts> {
    if needs::program("cargo-clippy").is_none() {
        return Ok(Counts::skip(
            "clippy",
            "it is not installed (rustup component add clippy)",
        ));
    }
    succeeds(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

fn succeeds(arguments: &[&str]) -> Result<Counts> {
    let (_, success) = show(cargo::command(arguments))?;
    Ok(Counts::one(success))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_to_end_test_may_be_a_file_or_a_folder() -> Result<()> {
        let scratch = postern_tests::Scratch::new()?;
        let tests = scratch.path().join("tests/tests");
        for part in ["with_parts", "whole"] {
            std::fs::create_dir_all(tests.join(part))?;
        }
        for file in [
            "alone.rs",
            "with_parts.rs",
            "with_parts/one.rs",
            "whole/main.rs",
        ] {
            std::fs::write(tests.join(file), "")?;
        }
        assert_eq!(
            end_to_end(scratch.path())?,
            ["alone", "whole", "with_parts"]
        );
        Ok(())
    }
}
