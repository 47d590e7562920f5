//! One part of a test run: a program whose output is shown and counted.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Of how many failed tests of one program there is a second try; more are no accident.
const SECOND_TRIES_MAX: usize = 4;

/// How many tests did what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// The names of those that passed at the second try only.
    pub(crate) at_second_try: Vec<String>,
}

impl Counts {
    /// A part that is one test by itself.
    pub(crate) fn one(passed: bool) -> Self {
        Self {
            passed: passed.into(),
            failed: (!passed).into(),
            ..Self::default()
        }
    }

    /// A part that cannot run here.
    pub(crate) fn skip(part: &str, why: &str) -> Self {
        println!("SKIPPED {part}: {why}");
        Self {
            skipped: 1,
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.at_second_try.extend(other.at_second_try);
    }
}

/// Runs a program, shows what it prints, and returns every line and whether it succeeded.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn show(mut command: Command) -> Result<(Vec<String>, bool)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = std::io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    // The command holds the pipe's other end, without which the output would never end.
    drop(command);
    let mut lines = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(std::io::stdout(), "{line}")?;
        lines.push(line);
    }
    Ok((lines, child.wait()?.success()))
}

/// Runs tests of cargo's and counts them by the harness's closing lines. A test that wrote
/// `SKIPPED` counts as skipped and not as passed.
///
/// # Errors
/// If cargo cannot be started.
pub(crate) fn cargo_test(command: Command) -> Result<Counts> {
    let (lines, success) = show(command)?;
    Ok(judge(&lines, success))
}

/// As [`cargo_test`], where a few tests that failed are run once more, each alone and with servers
/// of its own: a machine that stalls for seconds makes time limits run out, and does not do so
/// twice. What is wrong fails again. `run` runs cargo with more words at the end, as [`show`] does.
///
/// # Errors
/// If cargo cannot be started.
pub(crate) fn cargo_test_twice(
    run: impl Fn(&[&str]) -> Result<(Vec<String>, bool)>,
) -> Result<Counts> {
    let (lines, success) = run(&[])?;
    let mut counts = judge(&lines, success);
    let failed = failures(&lines);
    if failed.len() > SECOND_TRIES_MAX {
        return Ok(counts);
    }
    for name in failed {
        println!("\n{name} has failed; a second try:");
        let (lines, success) = run(&["--", "--exact", name])?;
        if judge(&lines, success) == Counts::one(true) {
            println!("AT THE SECOND TRY {name}");
            counts.failed -= 1;
            counts.passed += 1;
            counts.at_second_try.push(name.to_owned());
        }
    }
    Ok(counts)
}

fn judge(lines: &[String], success: bool) -> Counts {
    let mut counts = count(lines.iter().map(String::as_str));
    if !success && counts.failed == 0 {
        // It did not compile, or a process was ended before its closing line.
        counts.failed = 1;
    }
    counts
}

/// The names that a harness lists at its end: `failures:`, and a line for each.
fn failures(lines: &[String]) -> Vec<&str> {
    let Some(start) = lines.iter().rposition(|it| it == "failures:") else {
        return Vec::new();
    };
    let names = lines.iter().skip(start + 1);
    names.map_while(|it| it.strip_prefix("    ")).collect()
}

/// Counts what test harnesses say: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn count<'a>(lines: impl Iterator<Item = &'a str>) -> Counts {
    let mut counts = Counts::default();
    let mut skips = 0;
    for line in lines {
        // A harness writes `test NAME ... ` before what the test says for itself.
        if line.starts_with("SKIPPED ") || line.contains(" ... SKIPPED ") {
            skips += 1;
        }
        let Some(result) = line.strip_prefix("test result: ") else {
            continue;
        };
        counts.passed += before(result, " passed");
        counts.failed += before(result, " failed");
        counts.skipped += before(result, " ignored");
    }
    let skips = counts.passed.min(skips);
    counts.passed -= skips;
    counts.skipped += skips;
    counts
}

/// The number before a word.
fn before(text: &str, word: &str) -> u64 {
    let number = text.split(word).next().and_then(|it| it.rsplit(' ').next());
    number.and_then(|it| it.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up_and_a_loud_skip_is_not_a_pass() {
        let output = "running 3 tests\n\
            test a ... ok\n\
            test b ... SKIPPED b: no root\n\
            ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
            SKIPPED samba: it is not installed\n\
            test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let expected = Counts {
            passed: 5,
            failed: 2,
            skipped: 3,
            at_second_try: Vec::new(),
        };
        assert_eq!(count(output.lines()), expected);
    }

    #[test]
    fn what_fails_twice_has_failed_and_what_fails_once_is_named_apart() -> Result<()> {
        let whole = "failures:\n\n---- b ----\nwhy\n\nfailures:\n    b\n\n\
            test result: FAILED. 2 passed; 1 failed; 0 ignored";
        let alone = "test result: ok. 1 passed; 0 failed; 0 ignored";
        let named = vec!["b".to_owned()];
        for (second, passed, failed, at_second_try) in
            [(alone, 3, 0, named), (whole, 2, 1, Vec::new())]
        {
            let run = |words: &[&str]| {
                let output = match words {
                    [] => whole,
                    _ => {
                        assert_eq!(words, ["--", "--exact", "b"]);
                        second
                    }
                };
                let lines = output.lines().map(str::to_owned).collect();
                Ok((lines, !output.contains("FAILED")))
            };
            let expected = Counts {
                passed,
                failed,
                skipped: 0,
                at_second_try,
            };
            assert_eq!(cargo_test_twice(run)?, expected);
        }
        Ok(())
    }
}
