//! One part of a test run: a program whose output is shown and counted.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// How many tests did what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// A part that is one test by itself.
    pub(crate) fn one(passed: bool) -> Self {
        Self {
            passed: passed.into(),
            failed: (!passed).into(),
            skipped: 0,
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
    let mut counts = count(lines.iter().map(String::as_str));
    if !success && counts.failed == 0 {
        // It did not compile, or a process was ended before its closing line.
        counts.failed = 1;
    }
    Ok(counts)
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
        };
        assert_eq!(count(output.lines()), expected);
    }
}
